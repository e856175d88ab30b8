//! Who may use the proxy: what a connection, and then each request on it, must show before a token is near.
//!
//! Localhost is no boundary. Any page in a browser on this machine can send requests here, by name (DNS rebinding) or
//! by address, and have the browser send some ahead of time. It cannot choose their `Host`, their `Origin` or what the
//! browser says of them (Fetch standard), so those are judged always. Any program on this machine can connect, of any user: a shared secret, the user at the other end
//! of a Unix socket and the name in a client certificate are judged where the configuration asks for them.
//!
//! Each kind of listener has its own way to know who connects: uids are for Unix sockets, certificates for TCP. Neither
//! list has a say on the other kind.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, Method};
use tokio::time::Instant;

use super::cors;
use crate::clock;
use crate::net::browser::{Initiator, is_browser, is_navigation, is_of_extension, is_speculative};
use crate::net::host_policy::is_loopback_host;
use crate::net::names::Subject;
use crate::net::single_field::{Several, at_most_one, only};
use crate::proxy::error::{GuardRejection, RejectedRequest};
use crate::proxy::message::forwarded::{is_origin_of, scheme};
use crate::proxy::message::peer::Peer;
use crate::secret::Secret;
use crate::telemetry::burst::LogGap;

/// The check that comes before everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guard {
    /// Host names beyond the loopback's own, lower case, without a port.
    pub allowed_hosts: Vec<String>,
    /// Web origins (RFC 6454), serialised: `https://app.example.com`, without a path.
    pub allowed_origins: Vec<String>,
    /// Whether pages of those origins may send cookies and read the response nevertheless (Fetch standard,
    /// `Access-Control-Allow-Credentials`).
    pub allow_credentials: bool,
    /// Each request must bring one of these in `X-Cupbearer-Secret`; empty: none is asked for. Several during a rotation.
    pub shared_secrets: Vec<Secret<String>>,
    /// Users that may connect to the Unix sockets; empty: all that the socket's mode lets in.
    pub allowed_uids: Vec<u32>,
    /// Names in client certificates that may use the proxy by TCP; empty: every certificate that is trusted. Not empty: a
    /// connection without a certificate is refused, too.
    pub allowed_subjects: Vec<Subject>,
}

/// A guard at work: with all that can be worked out of it once.
#[derive(Debug)]
pub(super) struct Sentry {
    guard: Guard,
    /// Of the shared secrets: digests are of one length, so that a comparison does not tell a secret's.
    secrets: Vec<Digest>,
    since: Instant,
    /// For each of [`GuardRejection::ALL`].
    log: [LogGap; GuardRejection::ALL.len()],
    /// Tells it from every other one of this process: what a connection that it let in remembers.
    number: u64,
}

/// A request that the guard let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// No browser, or a page of the proxy's own origin.
    Local,
    /// A page of this origin in [`Guard::allowed_origins`]: it is answered with CORS headers.
    AllowedOrigin,
    /// A browser, on behalf of such a page, that asks what the page may send. It cannot bring a secret yet.
    Preflight,
}

impl Sentry {
    pub(crate) fn new(guard: Guard) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Self {
            secrets: guard.shared_secrets.iter().map(|s| digest(&SHA256, s.expose().as_bytes())).collect(),
            since: clock::now(),
            log: Default::default(),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            guard,
        }
    }

    /// Judges a request that names `authority` (host and port, from `Host` or the target) and came from `peer`. `says_page`
    /// tells whether a browser may have said what caused it ([`is_of_browser`](crate::net::browser::is_of_browser)). What it
    /// said counts where the request is to `use_credentials` of ours: any page may send what is worth no more than that.
    pub(crate) fn judge(
        &self,
        authority: &str,
        peer: &Peer,
        method: &Method,
        headers: &HeaderMap,
        says_page: bool,
        use_credentials: bool,
    ) -> Result<Caller, GuardRejection> {
        self.judge_peer(peer)?;
        let host = host_of(authority);
        let is_loopback = is_loopback_host(host);
        if !is_loopback && !self.owns(host, peer) {
            return Err(GuardRejection::Host);
        }
        let is_blind = !is_loopback && self.is_blind(host, peer);
        if !says_page {
            let hidden = use_credentials && is_blind && is_browser(headers);
            return if hidden {
                Err(GuardRejection::InsecureHost)
            } else {
                self.judge_secret(Caller::Local, headers)
            };
        }
        let caller = match self.judge_page(authority, peer, headers, is_blind) {
            Err(_) if !use_credentials => Caller::Local,
            judged => judged?,
        };
        if caller == Caller::AllowedOrigin && cors::is_preflight(method, headers) {
            return Ok(Caller::Preflight);
        }
        self.judge_secret(caller, headers)
    }

    /// Lets `caller` pass with a shared secret, where there is one.
    fn judge_secret(&self, caller: Caller, headers: &HeaderMap) -> Result<Caller, GuardRejection> {
        if !self.secrets.is_empty() && !self.knows_secret(headers) {
            return Err(GuardRejection::Secret);
        }
        Ok(caller)
    }

    /// Whether a page of `origin` may read answers.
    pub(super) fn allows_origin(&self, origin: &str) -> bool {
        self.guard.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }

    /// Whether pages of allowed origins may bring cookies.
    pub(super) const fn allows_credentials(&self) -> bool {
        self.guard.allow_credentials
    }

    fn knows_extensions(&self) -> bool {
        let is_extension = |origin: &String| {
            origin.split_once("://").is_some_and(|(scheme, _)| scheme.ends_with("-extension"))
        };
        self.guard.allowed_origins.iter().any(is_extension)
    }

    /// Reports a refusal in the log: the first for each reason, and at most one a minute.
    pub(crate) fn report(&self, rejected: &RejectedRequest) {
        let passed = clock::now().saturating_duration_since(self.since);
        let gap = GuardRejection::ALL.iter().zip(&self.log).find(|(reason, _)| **reason == rejected.reason);
        if gap.is_some_and(|(_, gap)| gap.is_over(passed)) {
            let (reason, origin) = (rejected.reason.as_str(), rejected.origin.as_deref());
            tracing::warn!(reason, origin, help = %rejected, "the guard refused a request");
        }
    }

    /// Whether an answer may depend on the Origin of its request.
    pub(super) const fn knows_origins(&self) -> bool {
        !self.guard.allowed_origins.is_empty()
    }

    /// Judges who connected: once per connection, for that does not change. Who is refused is judged again.
    fn judge_peer(&self, peer: &Peer) -> Result<(), GuardRejection> {
        let Guard { allowed_uids, allowed_subjects, .. } = &self.guard;
        if (allowed_uids.is_empty() && allowed_subjects.is_empty()) || peer.passed.get() == self.number {
            return Ok(());
        }
        let is_unix = peer.local.is_none();
        if is_unix && !allowed_uids.is_empty() && !peer.uid.is_some_and(|uid| allowed_uids.contains(&uid)) {
            return Err(GuardRejection::Uid);
        }
        let by_certificate = (!is_unix || peer.tls) && !allowed_subjects.is_empty();
        if by_certificate && !peer.names.iter().any(|name| allowed_subjects.contains(name)) {
            return Err(GuardRejection::Subject);
        }
        peer.passed.set(self.number);
        Ok(())
    }

    /// Judges what a browser says of the page that sent a request.
    fn judge_page(
        &self,
        authority: &str,
        peer: &Peer,
        headers: &HeaderMap,
        is_blind: bool,
    ) -> Result<Caller, GuardRejection> {
        let initiator = Initiator::of(headers);
        if initiator != Initiator::SameOrigin && is_speculative(headers) {
            return Err(GuardRejection::Speculative);
        }
        let origin = at_most_one(headers, &ORIGIN).map_err(|Several| GuardRejection::Origin)?;
        if let Some(origin) = origin {
            let origin = origin.to_str().map_err(|_| GuardRejection::Origin)?;
            // The page that this proxy itself serves; its Host was found to be ours just now.
            if !is_origin_of(origin, scheme(peer), authority) {
                let allowed = self.allows_origin(origin);
                return if allowed { Ok(Caller::AllowedOrigin) } else { Err(GuardRejection::Origin) };
            }
        }
        match initiator {
            Initiator::OtherPage if is_navigation(headers) => Err(GuardRejection::Navigation),
            Initiator::OtherPage => Err(GuardRejection::FetchSite),
            // Its GET names no origin: one extension on the list stands for all that the browser lets in here.
            Initiator::Browser if self.knows_extensions() && is_of_extension(headers) => Ok(Caller::Local),
            Initiator::Browser => Err(GuardRejection::Unattended),
            Initiator::Unknown if origin.is_none() && is_blind && is_browser(headers) => {
                Err(GuardRejection::InsecureHost)
            }
            Initiator::SameOrigin | Initiator::Person | Initiator::Unknown => Ok(Caller::Local),
        }
    }

    /// Whether a browser that names `host`, which is not the loopback as it stands, says nothing of the page that caused a request, but its `Origin` where it
    /// sends one: to it only TLS and the loopback are trustworthy (Secure Contexts section 3.1). A page cannot send a
    /// secret unasked.
    fn is_blind(&self, host: &str, peer: &Peer) -> bool {
        let is_loopback = host.strip_suffix('.').is_some_and(is_loopback_host);
        !is_loopback && !peer.tls && self.secrets.is_empty()
    }

    /// Whether a request brings one of the shared secrets. All are compared whichever it is, each in the same time.
    fn knows_secret(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = only(headers, &SECRET) else { return false };
        let shown = digest(&SHA256, shown.as_bytes());
        self.secrets.iter().fold(false, |known, secret| {
            known | verify_slices_are_equal(shown.as_ref(), secret.as_ref()).is_ok()
        })
    }

    /// Whether `host` is a name for this proxy, besides the loopback's.
    fn owns(&self, host: &str, peer: &Peer) -> bool {
        self.is_allowed(host)
            || peer.local.is_some_and(|local| is_address(host, local.ip()))
            || host.strip_suffix('.').is_some_and(|name| self.owns_name(name))
    }

    /// Whether `name` is ours where it was said in full, with the root's dot behind it (RFC 1034 section 3.1). An address
    /// has no such form: what looks like one is a name that another party may resolve.
    fn owns_name(&self, name: &str) -> bool {
        let is_address = name.parse::<IpAddr>().is_ok() || name.starts_with('[');
        !is_address && (is_loopback_host(name) || self.is_allowed(name))
    }

    fn is_allowed(&self, host: &str) -> bool {
        self.guard.allowed_hosts.iter().any(|h| h.eq_ignore_ascii_case(host))
    }
}

/// The host of `host[:port]`; IPv6 keeps its brackets.
pub(super) fn host_of(authority: &str) -> &str {
    match memchr::memrchr(b':', authority.as_bytes()) {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// A literal address cannot be rebound: where it is the one that the connection came in by, it is ours.
fn is_address(host: &str, local: IpAddr) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|ip| ip == local)
}

/// Where an application shows the shared secret; it never goes upstream.
const SECRET: HeaderName = HeaderName::from_static("x-cupbearer-secret");

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::net::browser::is_of_browser;

    fn sentry() -> Sentry {
        Sentry::new(Guard {
            allowed_hosts: vec!["orders.local".into()],
            allowed_origins: vec!["http://localhost:3000".into()],
            ..Guard::default()
        })
    }

    fn tcp() -> Peer {
        Peer { local: "127.0.0.1:8080".parse().ok(), ..Peer::default() }
    }

    fn judge_at(
        sentry: &Sentry,
        peer: &Peer,
        host: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Caller, GuardRejection> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let preflight = headers.contains_key("access-control-request-method");
        let method = if preflight { Method::OPTIONS } else { Method::GET };
        let says_page = headers.keys().any(|name| is_of_browser(name.as_str()));
        sentry.judge(host, peer, &method, &headers, says_page, true)
    }

    fn judge(host: &str, fields: &[(&'static str, &str)]) -> Result<Caller, GuardRejection> {
        judge_at(&sentry(), &tcp(), host, fields)
    }

    #[test]
    fn the_loopback_and_configured_names_pass_with_any_port() {
        for host in ["localhost:8080", "LocalHost", "127.0.0.1:8080", "[::1]:9", "[::1]", "orders.local:80"] {
            assert_eq!(judge(host, &[]), Ok(Caller::Local), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_refused_whatever_else_it_says() {
        for host in ["evil.example:8080", "localhost.attacker.com", "127.0.0.1.evil.example", "10.0.0.1", ""]
        {
            assert_eq!(judge(host, &[]), Err(GuardRejection::Host), "{host}");
        }
        let rebound = judge("evil.example:8080", &[("origin", "http://evil.example:8080")]);
        assert_eq!(rebound, Err(GuardRejection::Host));
    }

    #[test]
    fn a_name_that_is_said_in_full_is_the_same_name() {
        for host in ["localhost.", "LocalHost.:8080", "orders.local.", "Orders.Local.:80"] {
            assert_eq!(judge(host, &[]), Ok(Caller::Local), "{host}");
        }
        for host in [
            "localhost..",
            ".",
            "..",
            "localhost.evil.example.",
            "evil.localhost.",
            "127.0.0.1.",
            "[::1].",
            "::1.",
            "orders.local..",
            "x.orders.local.",
        ] {
            assert_eq!(judge(host, &[]), Err(GuardRejection::Host), "{host}");
        }
        let page = |origin| judge("localhost.:8080", &[("origin", origin)]);
        assert_eq!(page("http://localhost.:8080"), Ok(Caller::Local));
        assert_eq!(
            page("http://localhost:8080"),
            Err(GuardRejection::Origin),
            "another origin, to a browser"
        );
    }

    #[test]
    fn only_its_own_and_the_allowed_origins_pass() {
        let origin = |o: &str| judge("localhost:8080", &[("origin", o)]);
        assert_eq!(origin("http://localhost:8080"), Ok(Caller::Local));
        assert_eq!(origin("http://localhost:3000"), Ok(Caller::AllowedOrigin));
        for other in
            ["http://localhost.attacker.com", "https://localhost:8080", "null", "http://localhost", ""]
        {
            assert_eq!(origin(other), Err(GuardRejection::Origin), "{other}");
        }
    }

    #[test]
    fn a_request_that_another_site_began_is_refused() {
        let site = |s: &str| judge("localhost:8080", &[("sec-fetch-site", s)]);
        assert_eq!(site("none"), Err(GuardRejection::Unattended), "no navigation of a person's");
        assert_eq!(site("same-origin"), Ok(Caller::Local));
        assert_eq!(site("cross-site"), Err(GuardRejection::FetchSite));
        assert_eq!(
            site("same-site"),
            Err(GuardRejection::FetchSite),
            "other ports of localhost are the same site"
        );
        let led = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(judge("localhost:8080", &led), Err(GuardRejection::Navigation));
    }

    #[test]
    fn what_uses_no_credentials_of_ours_is_for_every_page_and_the_secret_is_asked_for_all_the_same() {
        let judge = |sentry: &Sentry, host: &str, fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            sentry.judge(host, &tcp(), &Method::GET, &headers, true, false)
        };
        let led = ("sec-fetch-site", "cross-site");
        assert_eq!(judge(&sentry(), "localhost", &[led]), Ok(Caller::Local));
        assert_eq!(judge(&sentry(), "localhost", &[("origin", "https://evil.example")]), Ok(Caller::Local));
        let allowed = ("origin", "http://localhost:3000");
        assert_eq!(judge(&sentry(), "localhost", &[allowed]), Ok(Caller::AllowedOrigin));
        assert_eq!(judge(&sentry(), "evil.example", &[led]), Err(GuardRejection::Host));
        let shared_secrets = vec![Secret::new("the-secret-of-all".to_owned())];
        let secret = Sentry::new(Guard { shared_secrets, ..Guard::default() });
        assert_eq!(judge(&secret, "localhost", &[led]), Err(GuardRejection::Secret));
        let shown = ("x-cupbearer-secret", "the-secret-of-all");
        assert_eq!(judge(&secret, "localhost", &[led, shown]), Ok(Caller::Local));
    }

    #[test]
    fn a_person_who_opens_the_address_gets_through() {
        let typed = [
            ("sec-fetch-site", "none"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-user", "?1"),
            ("user-agent", "Mozilla/5.0"),
        ];
        assert_eq!(judge("localhost:8080", &typed), Ok(Caller::Local));
        assert_eq!(judge("localhost:8080", &typed[..2]), Err(GuardRejection::Unattended));
    }

    #[test]
    fn what_is_sent_ahead_of_time_is_for_pages_of_our_own_origin() {
        let site = |site| ("sec-fetch-site", site);
        for speculation in [
            ("sec-purpose", "prefetch;prerender"),
            ("purpose", "prefetch"),
            ("x-purpose", "preview"),
            ("x-moz", "prefetch"),
        ] {
            let typed = [site("none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-user", "?1"), speculation];
            for fields in [
                &typed[..],
                &[speculation],
                &[site("cross-site"), speculation],
                &[("origin", "http://localhost:3000"), site("same-site"), speculation],
            ] {
                assert_eq!(judge("localhost:8080", fields), Err(GuardRejection::Speculative), "{fields:?}");
            }
            assert_eq!(judge("localhost:8080", &[site("same-origin"), speculation]), Ok(Caller::Local));
        }
    }

    #[test]
    fn a_browser_that_cannot_say_which_page_caused_a_request_is_refused() {
        let browser = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)");
        let here = "127.0.0.1:80";
        for host in ["orders.local", "Orders.Local.:8080"] {
            assert_eq!(judge(host, &[browser]), Err(GuardRejection::InsecureHost), "{host}");
            assert_eq!(judge(host, &[("user-agent", "curl/8.5.0")]), Ok(Caller::Local), "{host}");
        }
        let at = Peer { local: "10.0.0.1:8080".parse().ok(), ..Peer::default() };
        assert_eq!(judge_at(&sentry(), &at, "10.0.0.1:8080", &[browser]), Err(GuardRejection::InsecureHost));
        assert_eq!(
            judge_at(&sentry(), &Peer::default(), "orders.local", &[browser]),
            Err(GuardRejection::InsecureHost)
        );
        for host in ["localhost", "localhost.:1", here, "[::1]:9"] {
            assert_eq!(judge(host, &[browser]), Ok(Caller::Local), "{host}");
        }
        let own = [browser, ("origin", "http://orders.local")];
        assert_eq!(judge("orders.local", &own), Ok(Caller::Local), "a page of our own says so");
        let allowed = [browser, ("origin", "http://localhost:3000")];
        assert_eq!(judge("orders.local", &allowed), Ok(Caller::AllowedOrigin));
        let tls = Peer { tls: true, ..tcp() };
        assert_eq!(
            judge_at(&sentry(), &tls, "orders.local", &[browser]),
            Ok(Caller::Local),
            "it would say so"
        );
        let secret = Sentry::new(Guard {
            allowed_hosts: vec!["orders.local".into()],
            shared_secrets: vec![Secret::new("the-secret".into())],
            ..Guard::default()
        });
        assert_eq!(judge_at(&secret, &tcp(), "orders.local", &[browser]), Err(GuardRejection::Secret));
        assert_eq!(
            judge_at(&secret, &tcp(), "orders.local", &[browser, (NAME, "the-secret")]),
            Ok(Caller::Local)
        );
    }

    #[test]
    fn a_page_of_our_own_over_tls_is_known_by_https_alone() {
        let judge = |tls, origin| {
            judge_at(&sentry(), &Peer { tls, ..tcp() }, "localhost:8443", &[("origin", origin)])
        };
        assert_eq!(judge(true, "https://localhost:8443"), Ok(Caller::Local));
        assert_eq!(judge(true, "http://localhost:8443"), Err(GuardRejection::Origin));
        assert_eq!(judge(false, "https://localhost:8443"), Err(GuardRejection::Origin));
    }

    #[test]
    fn our_own_origin_does_not_help_what_another_site_began() {
        let fields = [("origin", "http://localhost:8080"), ("sec-fetch-site", "cross-site")];
        assert_eq!(judge("localhost:8080", &fields), Err(GuardRejection::FetchSite));
    }

    #[test]
    fn fields_that_come_twice_are_refused() {
        let origin = ("origin", "http://localhost:8080");
        assert_eq!(judge("localhost:8080", &[origin, origin]), Err(GuardRejection::Origin));
        let site = ("sec-fetch-site", "same-origin");
        assert_eq!(judge("localhost:8080", &[site, site]), Err(GuardRejection::FetchSite));
    }

    #[test]
    fn a_unix_socket_is_localhost_and_nothing_more() {
        let unix = Peer::default();
        for host in ["localhost", "127.0.0.1", "orders.local"] {
            assert_eq!(judge_at(&sentry(), &unix, host, &[]), Ok(Caller::Local), "{host}");
        }
        assert_eq!(judge_at(&sentry(), &unix, "evil.example", &[]), Err(GuardRejection::Host));
        let page = [("origin", "https://evil.example")];
        assert_eq!(judge_at(&sentry(), &unix, "localhost", &page), Err(GuardRejection::Origin));
    }

    #[test]
    fn where_a_secret_is_configured_each_request_brings_it_once() {
        let sentry = Sentry::new(Guard {
            allowed_origins: vec!["http://localhost:3000".into()],
            shared_secrets: vec![Secret::new("new-one".into()), Secret::new("old-one".into())],
            ..Guard::default()
        });
        let judge = |fields: &[(&'static str, &str)]| judge_at(&sentry, &tcp(), "localhost", fields);
        assert_eq!(judge(&[(NAME, "new-one")]), Ok(Caller::Local));
        assert_eq!(judge(&[(NAME, "old-one")]), Ok(Caller::Local), "during a rotation");
        for wrong in ["", "new-on", "new-one2", "NEW-ONE", "new-one, old-one"] {
            assert_eq!(judge(&[(NAME, wrong)]), Err(GuardRejection::Secret), "{wrong}");
        }
        assert_eq!(judge(&[]), Err(GuardRejection::Secret));
        assert_eq!(judge(&[(NAME, "new-one"), (NAME, "new-one")]), Err(GuardRejection::Secret));
        let page = ("origin", "http://localhost:3000");
        assert_eq!(judge(&[page]), Err(GuardRejection::Secret), "a page needs it as well");
        assert_eq!(judge(&[page, (NAME, "new-one")]), Ok(Caller::AllowedOrigin));
        assert_eq!(judge(&[page, ("access-control-request-method", "PUT")]), Ok(Caller::Preflight));
        let stranger = [("origin", "https://evil.example"), ("access-control-request-method", "PUT")];
        assert_eq!(judge(&stranger), Err(GuardRejection::Origin));
    }

    #[test]
    fn a_unix_socket_is_for_the_users_on_the_list() {
        let sentry = Sentry::new(Guard { allowed_uids: vec![1000, 0], ..Guard::default() });
        let judge = |peer: Peer| judge_at(&sentry, &peer, "localhost", &[]);
        assert_eq!(judge(Peer { uid: Some(1000), ..Peer::default() }), Ok(Caller::Local));
        assert_eq!(judge(Peer { uid: Some(1001), ..Peer::default() }), Err(GuardRejection::Uid));
        assert_eq!(judge(Peer::default()), Err(GuardRejection::Uid), "an unknown user");
        assert_eq!(judge(tcp()), Ok(Caller::Local), "TCP knows no users");
    }

    #[test]
    fn a_certificate_needs_a_name_on_the_list() {
        let sentry = Sentry::new(Guard {
            allowed_subjects: ["orders.example.com", "spiffe://example.com/orders"]
                .map(|name| Subject::parse(name).unwrap())
                .into(),
            ..Guard::default()
        });
        let judge = |names: &[&str]| {
            let names = names.iter().map(|name| Subject::parse(name).unwrap()).collect();
            judge_at(&sentry, &Peer { tls: true, names, ..tcp() }, "localhost", &[])
        };
        assert_eq!(judge(&["Orders.Example.com"]), Ok(Caller::Local));
        assert_eq!(judge(&["other", "spiffe://example.com/orders"]), Ok(Caller::Local));
        for refused in
            [&["spiffe://example.com/Orders"][..], &["x.orders.example.com"], &["cn:orders.example.com"], &[]]
        {
            assert_eq!(judge(refused), Err(GuardRejection::Subject), "{refused:?}");
        }
        assert_eq!(
            judge_at(&sentry, &tcp(), "localhost", &[]),
            Err(GuardRejection::Subject),
            "no TLS at all"
        );
        assert_eq!(judge_at(&sentry, &Peer::default(), "localhost", &[]), Ok(Caller::Local), "a Unix socket");
    }

    #[test]
    fn a_connection_is_judged_anew_by_a_new_guard() {
        let peer = Peer { uid: Some(1000), ..Peer::default() };
        let of = |uid| Sentry::new(Guard { allowed_uids: vec![uid], ..Guard::default() });
        let (old, new) = (of(1000), of(1001));
        assert_eq!(judge_at(&old, &peer, "localhost", &[]), Ok(Caller::Local));
        assert_eq!(judge_at(&old, &peer, "localhost", &[]), Ok(Caller::Local));
        assert_eq!(judge_at(&new, &peer, "localhost", &[]), Err(GuardRejection::Uid));
    }

    const NAME: &str = "x-cupbearer-secret";
}
