//! `proxy`, of an upstream and of a token: the HTTP proxy on the way out.

use url::Url;

use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::net::outbound_proxy::OutboundProxy;

/// What is written at `path`. The user and the password may be in it, so no problem shows it. `None`: something was reported.
pub(super) fn resolve(path: &KeyPath, text: Option<&str>, review: &mut Review<'_>) -> Option<OutboundProxy> {
    let Some(text) = text else { return Some(OutboundProxy::Environment) };
    if text == NO_PROXY {
        return Some(OutboundProxy::Direct);
    }
    let url = Url::parse(text).ok().filter(Url::has_host);
    let (what, help) = match &url {
        _ if is_cut(text) => ("has `#`, `/`, `?` or `\\` in its user or password", ENCODE),
        Some(url) if url.scheme() == "https" => (
            "must begin with http://: the proxy is spoken to in the clear",
            "use the port that it has for http",
        ),
        Some(url) if url.scheme() == "http" => {
            if url.path() == "/" && url.query().is_none() && url.fragment().is_none() {
                return url.port_or_known_default().map(|_| OutboundProxy::Through(url.clone()));
            }
            ("must be the address of a proxy alone", "take out what follows the port")
        }
        Some(_) => ("must begin with http://", EXAMPLE),
        None if text.starts_with("http://") && text.contains('@') => ("is not the URL of a proxy", ENCODE),
        None => ("is not the URL of a proxy", EXAMPLE),
    };
    review.error(path, what, help);
    None
}

/// Whether a character within the user or the password ends the host, as a URL is read.
fn is_cut(text: &str) -> bool {
    let (_, rest) = text.split_once("://").unwrap_or_default();
    rest.split_once(['/', '\\', '?', '#']).is_some_and(|(_, rest)| rest.contains('@'))
}

/// The word for "straight, whatever the environment says".
const NO_PROXY: &str = "none";
const ENCODE: &str =
    "percent-encode the user and the password: `#` is %23, `/` is %2F, `?` is %3F, `@` is %40, `%` is %25";
const EXAMPLE: &str = "write it as in \"http://proxy.example.com:3128\", or \"none\" for no proxy";
