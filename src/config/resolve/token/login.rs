//! `authorization_code` and `device_code`: how a person logs in.

use url::{Host, Url};

use super::request::{PROTOCOL_NAMES, key_instead};
use crate::config::file::{ClientAuth, Grant, Token};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::oauth::{Pkce, RedirectUri};
use crate::token::{Flow, LoginSettings, RenewVia};

/// The settings of a token that a person logs in for.
pub(super) fn resolve(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<LoginSettings> {
    let redirect_uri = redirect_uri(&path.key("redirect_uri"), &token.redirect_uri, review);
    let params_path = path.key("authorization_params");
    let mut sound = true;
    for name in token.authorization_params.keys() {
        let own = PROTOCOL_NAMES.contains(&name.to_ascii_lowercase().as_str());
        if own || name == "nonce" || name == "response_mode" || name.is_empty() {
            let help = format!("take it out; {}", key_instead(name));
            review.error(&params_path.key(name), "is a name of the protocol's own", help);
            sound = false;
        }
    }
    let renew_via = token.renew_via;
    let pkce = pkce(path, token, review);
    if token.renew_via == RenewVia::Browser && redirect_uri.as_ref().is_some_and(|uri| !uri.is_here()) {
        let what = "comes back to the dashboard, an http address on this machine, and `redirect_uri` leads elsewhere: a \
                    server that takes no such address refuses it";
        let help = "register the dashboard's address there, too, or take it out and let a refresh token renew the login";
        review.warning(&path.key("renew_via"), what, help);
    }
    let flow = if token.grant == Grant::DeviceCode { Flow::DeviceCode } else { Flow::AuthorizationCode };
    let back = token.post_logout_redirect_uri.as_deref();
    let back_path = path.key("post_logout_redirect_uri");
    if back.is_some_and(|uri| RedirectUri::parse(uri).is_none()) {
        let help = "write it as it is registered, such as \"http://127.0.0.1:9902/\" for the dashboard";
        review.error(&back_path, "must be an absolute URI", help);
        sound = false;
    }
    Some(LoginSettings {
        flow,
        redirect_uri: redirect_uri.filter(|_| sound)?,
        authorization_params: token.authorization_params.clone().into_iter().collect(),
        pushed_authorization: token.pushed_authorization,
        pkce: pkce?,
        renew_via,
        post_logout_redirect_uri: back.map(str::to_owned),
    })
}

/// Without PKCE only the client's secret keeps a code that was found from being redeemed (RFC 9700 section 2.1.1).
fn pkce(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<Pkce> {
    if token.pkce == Pkce::S256 {
        return Some(Pkce::S256);
    }
    let key = path.key("pkce");
    if token.client_auth == ClientAuth::None && !review.is_spoken_for(&path.key("client_auth")) {
        let what = "must be \"S256\" for a public client: any program that finds a code could redeem it";
        review.error(
            &key,
            what,
            "take it out, or set `client_auth` to how the client proves that it is the one",
        );
        return None;
    }
    let what = "lets a program that has the client's secret redeem a code that it finds on this machine";
    review.warning(&key, what, "use it for servers alone that refuse a request with `code_challenge`");
    Some(Pkce::None)
}

/// A loopback address (RFC 8252 section 7.3), or one that is encrypted and leads elsewhere, or that no browser opens: a
/// person brings the code from there by hand. In the clear, each hop on the way would read it.
fn redirect_uri(path: &KeyPath, text: &str, review: &mut Review<'_>) -> Option<RedirectUri> {
    let help = "write it as in \"http://127.0.0.1/callback\", or with the port that is registered";
    let Some(uri) = RedirectUri::parse(text).filter(is_whole).or_else(|| RedirectUri::name(text)) else {
        let what = "must be an http URL on this machine, an https URL, a URI of another scheme, or the name of an address";
        review.error(path, what, help);
        return None;
    };
    let Some(url) = uri.url().filter(|_| uri.is_web()) else { return Some(uri) };
    if !uri.is_here() {
        if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            review.error(path, "has more than host, port, path and query", "write it as it is registered");
            return None;
        }
        return Some(uri);
    }
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if !here {
        let what = "must lead to 127.0.0.1, [::1] or localhost, where the login ends, or be https";
        review.error(path, what, help);
        return None;
    }
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        review.error(path, "has more than host, port and path", help);
        return None;
    }
    Some(uri)
}

/// Whether it is more than a host and a port, which look like a scheme and a path.
fn is_whole(uri: &RedirectUri) -> bool {
    let scheme = uri.url().map_or("", Url::scheme);
    uri.is_web() || uri.as_str().contains("://") || scheme.contains('.') || scheme == "urn"
}
