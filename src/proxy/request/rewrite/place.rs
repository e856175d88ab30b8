//! Where a request went, seen from both sides: the application's address for it, and the upstream's.

use http::{Method, Uri};
use url::{Host, Position, Url};

use super::Rewriter;
use crate::proxy::message::forwarded::is_origin_of;
use crate::proxy::settings::{Forwarded, Route, SentHost};
use crate::proxy::upstream::api::Upstream;
use crate::proxy::upstream::forwarded_target;

/// One request's place at the proxy and at the upstream.
pub(crate) struct RewritePlace<'p> {
    rewriter: &'p Rewriter<'p>,
    /// The request's address as the application wrote it.
    pub(super) client: Url,
    client_origin: PlaceOrigin<'p>,
    upstream: &'p Upstream,
    /// The request's address as the upstream has it, by the upstream's own.
    sent: Url,
}

#[derive(Clone, Copy)]
struct PlaceOrigin<'p> {
    scheme: &'static str,
    authority: &'p str,
}

impl<'p> RewritePlace<'p> {
    /// `None`: the request is for no path, such as `OPTIONS *`.
    pub(super) fn new(
        rewriter: &'p Rewriter<'p>,
        upstream: &'p Upstream,
        authority: &'p str,
        uri: &Uri,
    ) -> Option<Self> {
        let scheme = rewriter.scheme;
        let rest = rewriter.entry.route.forwarded_part(uri.path());
        let sent = forwarded_target::forwarded(uri, upstream, rest).ok()?;
        let own = uri.path_and_query().map_or("/", |own| own.as_str());
        Some(Self {
            rewriter,
            client: Url::parse(&format!("{scheme}://{authority}{own}")).ok()?,
            client_origin: PlaceOrigin { scheme, authority },
            upstream,
            sent: Url::parse(&format!("{}{sent}", upstream.origin)).ok()?,
        })
    }

    /// The application's address for what the upstream refers to by `text`. `None`: it leads elsewhere, this route does not
    /// lead there, or it leads there as it stands.
    pub(super) fn to_client(&self, text: &str) -> Option<String> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let meant = self.sent.join(text).ok()?;
        // A user in it means another one than the token's.
        if !self.is_upstream(&meant) || !meant.username().is_empty() || meant.password().is_some() {
            return None;
        }
        if self.is_another_name_of_the_proxy(&meant) {
            return None;
        }
        let path = self.client_path(meant.path())?;
        let rest = &meant[Position::AfterPath..];
        let PlaceOrigin { scheme, authority } = self.client_origin;
        // What follows is mostly a GET, or another request like this one.
        if !self.leads_here(authority, &path, &self.rewriter.method)
            && !self.leads_here(authority, &path, &Method::GET)
        {
            return None;
        }
        let address = format!("{scheme}://{authority}{path}{rest}");
        let parsed = Url::parse(&address).ok()?;
        if self.client.join(text).is_ok_and(|stays| stays == parsed) {
            return None;
        }
        // `//name` would be another host.
        let is_by_path = !is_absolute(text) && !path.starts_with("//");
        Some(if is_by_path { format!("{path}{rest}") } else { address })
    }

    /// As [`RewritePlace::to_client`], for the address of a redirect; `None` also where the redirect would come again for ever.
    pub(super) fn redirect(&self, text: &str) -> Option<String> {
        self.to_client(text).filter(|new| !self.comes_again(text.trim(), new))
    }

    /// Whether `new` is the request's own address while `text` is another one to the API: the host or the scheme that it
    /// wants, or `/base` in place of `/base/`, is none that requests by this proxy have.
    fn comes_again(&self, text: &str, new: &str) -> bool {
        let own = &self.client[..Position::AfterQuery];
        if self.client.join(new).is_ok_and(|new| &new[..Position::AfterQuery] != own) {
            return false;
        }
        let is_own_path = |url: &Url| {
            url[Position::BeforePath..Position::AfterQuery]
                == self.sent[Position::BeforePath..Position::AfterQuery]
        };
        let is_to_itself = self
            .sent
            .join(text)
            .is_ok_and(|meant| is_own_path(&meant) && (!is_absolute(text) || self.is_as_it_was_sent(&meant)));
        !is_to_itself
    }

    /// Whether the API takes the origin of `url` for the one that it got the request by. One that does not know of the TLS
    /// before it writes http.
    fn is_as_it_was_sent(&self, url: &Url) -> bool {
        let is_told =
            matches!(self.upstream.settings.forwarded, Forwarded::XForwarded | Forwarded::Forwarded);
        let scheme = if is_told { self.client_origin.scheme } else { self.upstream.settings.url.scheme() };
        let is_to_tls = url.scheme() == "https" && scheme == "http";
        let host = self.host().unwrap_or(self.upstream.authority.as_str());
        let sent = Url::parse(&format!("{}://{host}/", url.scheme()));
        !is_to_tls && sent.is_ok_and(|sent| sent.origin() == url.origin())
    }

    /// Whether `url` has the origin that the application uses, by another name of the loopback: it leads here as it stands.
    fn is_another_name_of_the_proxy(&self, url: &Url) -> bool {
        url.scheme() == self.client.scheme()
            && url.port_or_known_default() == self.client.port_or_known_default()
            && url.host() != self.client.host()
            && same_host(url.host(), self.client.host())
            && url.origin() != self.sent.origin()
    }

    /// Whether a request for `path` at this proxy would reach what this route leads to.
    fn leads_here(&self, host: &str, path: &str, method: &Method) -> bool {
        let Rewriter { routes, entry, .. } = self.rewriter;
        routes.leads_as(entry, host, path, method)
    }

    /// The upstream's address for what the application refers to by `text`; `None` as in [`RewritePlace::to_client`].
    pub(super) fn to_upstream(&self, text: &str) -> Option<String> {
        let meant = self.client.join(text.trim()).ok()?;
        let is_own = same_host(meant.host(), self.client.host())
            && meant.port_or_known_default() == self.client.port_or_known_default();
        if !is_own || !meant.username().is_empty() || meant.password().is_some() {
            return None;
        }
        let path = meant.path();
        let rest = self.route().rest_of(path)?;
        // What leads to another route, or is another route's path to some server, stays as it is.
        if !self.leads_here(meant.host_str()?, path, &self.rewriter.method) {
            return None;
        }
        let path = if self.route().strip_prefix { rest } else { path };
        let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
        let target = format!("{}{slash}{path}{}", self.base(), &meant[Position::AfterPath..]);
        let target = if target.starts_with('/') { target } else { format!("/{target}") };
        let new = if !is_absolute(text) {
            target
        } else if self.sends_clients_host() {
            format!("{}{target}", &meant[..Position::BeforePath])
        } else {
            format!("{}{target}", self.upstream_origin())
        };
        (new != text).then_some(new)
    }

    /// The upstream's own origin in place of the proxy's, for a page that the proxy serves: a server that compares Origin with
    /// Host finds them equal, as the browser did.
    pub(super) fn origin(&self, text: &str) -> Option<String> {
        let PlaceOrigin { scheme, authority } = self.client_origin;
        let is_own = is_origin_of(text, scheme, authority);
        (is_own && !self.sends_clients_host()).then(|| self.upstream_origin())
    }

    /// The path here of a path of the upstream; `None`: this route does not lead there.
    pub(super) fn client_path(&self, path: &str) -> Option<String> {
        let rest = path.strip_prefix(self.base()).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        let prefix = self.prefix();
        let path = format!("{prefix}{rest}");
        Some(if path.is_empty() { "/".to_owned() } else { path })
    }

    /// What the route takes off each path, without a slash at its end.
    pub(super) fn prefix(&self) -> &str {
        if self.route().strip_prefix { self.route().path.trim_end_matches('/') } else { "" }
    }

    /// The path before every forwarded path, without a slash at its end.
    pub(super) fn base(&self) -> &str {
        &self.upstream.base_path
    }

    pub(super) fn has_tls(&self) -> bool {
        self.client_origin.scheme == "https"
    }

    fn route(&self) -> &Route {
        &self.rewriter.entry.route
    }

    fn sends_clients_host(&self) -> bool {
        self.upstream.settings.host == SentHost::Client
    }

    /// The Host that the upstream is sent, where it is another than that of its address.
    fn host(&self) -> Option<&str> {
        match &self.upstream.settings.host {
            SentHost::Upstream => None,
            SentHost::Client => Some(self.client_origin.authority),
            SentHost::Name(name) => Some(name),
        }
    }

    fn upstream_origin(&self) -> String {
        match self.host() {
            Some(host) => format!("{}://{host}", self.upstream.scheme),
            None => self.upstream.origin.clone(),
        }
    }

    /// Whether `url` is of the upstream, as its address or the Host that it is sent names it.
    fn is_upstream(&self, url: &Url) -> bool {
        if !matches!(url.scheme(), "http" | "https") {
            return false;
        }
        let (own, port) = (&self.upstream.settings.url, url.port_or_known_default());
        if same_host(url.host(), own.host()) {
            // What does not know of the TLS before it writes http. The other way round it is a redirect to TLS.
            let is_downgraded = own.scheme() == "https" && own.port().is_none() && port == Some(80);
            if port == own.port_or_known_default() || is_downgraded {
                return true;
            }
        }
        // By the Host alone a server does not know which scheme it is reached by. With no TLS on either side https is a redirect
        // to it, and leads elsewhere.
        if url.scheme() == "https" && own.scheme() == "http" && !self.has_tls() && url.port().is_none() {
            return false;
        }
        let named = self.host().and_then(|host| Url::parse(&format!("{}://{host}/", url.scheme())).ok());
        named
            .is_some_and(|named| same_host(url.host(), named.host()) && port == named.port_or_known_default())
    }
}

/// Whether `text` names its host: with a scheme, or with two slashes.
fn is_absolute(text: &str) -> bool {
    let is_network_path = text.starts_with("//") || text.starts_with("/\\") || text.starts_with('\\');
    is_network_path || Url::parse(text.trim()).is_ok()
}

/// Whether both are one host. This machine has three names, and each other address of 127.0.0.0/8 is a host of its own.
fn same_host<S: AsRef<str>>(one: Option<Host<S>>, other: Option<Host<S>>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    let (one, other) = (one.to_string(), other.to_string());
    one == other || (is_this_machine(&one) && is_this_machine(&other))
}

fn is_this_machine(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}
