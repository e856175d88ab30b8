//! What a metadata document says (RFC 8414 section 2, OpenID Connect Discovery 1.0 section 3), judged.
//!
//! Only the endpoints are read. Which grants and methods a document lists is no veto: servers leave out what works.
//! `metadata` fetches documents and keeps them.

use serde_json::{Map, Value};
use tracing::warn;
use url::Url;

use crate::oauth::discovery::role::{ROLES, Role};
use crate::oauth::discovery::server::{Issuer, is_loopback};
use crate::oauth::endpoint::json_body::members;
use crate::oauth::error::kind::{ErrorKind, FoundIssuer, RequestFault, ResponseFault};
use crate::oauth::error::place::Place;

/// Whether a client certificate is on every connection: then the endpoints' aliases for it count (RFC 8705 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oauth) enum Handshake {
    Plain,
    MutualTls,
}

/// The endpoints of one document, each one that a secret may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::oauth) struct Endpoints {
    urls: [Option<Url>; ROLES.len()],
    offer: Offer,
}

/// What a document says of the authorization endpoint. Where it says nothing, nothing is promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::oauth) struct Offer {
    /// Each answer names its issuer (RFC 9207 section 3).
    pub(in crate::oauth) says_issuer: bool,
    /// Requests must be pushed ahead (RFC 9126 section 5).
    pub(in crate::oauth) requires_pushed: bool,
    /// An answer may come as a message to another window.
    pub(in crate::oauth) web_message: bool,
    /// There is a list of methods for PKCE, and S256 is not in it (RFC 8414 section 2).
    pub(in crate::oauth) lacks_s256: bool,
}

impl Endpoints {
    /// Reads a document of `issuer`, which must have a token endpoint. Any other endpoint that is not to be used is left
    /// out.
    pub(in crate::oauth) fn parse(
        body: &[u8],
        issuer: &Issuer,
        handshake: Handshake,
    ) -> Result<Self, ErrorKind> {
        let document: Map<String, Value> = members(body)?;
        // RFC 8414 section 3.3: identical, or a server could speak for another.
        let found = document.get("issuer").and_then(Value::as_str);
        if found != Some(issuer.as_str()) {
            return Err(ResponseFault::OtherIssuer(FoundIssuer::of(found)).into());
        }
        let aliases = match handshake {
            Handshake::MutualTls => document.get("mtls_endpoint_aliases").and_then(Value::as_object),
            Handshake::Plain => None,
        };
        let stated = |role: Role| {
            let alias = aliases.filter(|_| role.is_called_by_the_client());
            alias.and_then(|aliases| url(aliases, role)).or_else(|| url(&document, role))
        };
        let token = stated(Role::Token).ok_or(RequestFault::NoEndpoint(Role::Token))?;
        if !issuer.vouches_for(&token) {
            return Err(RequestFault::InsecureEndpoint.into());
        }
        let urls = ROLES.map(|role| {
            let url = stated(role)?;
            if !issuer.vouches_for(&url) {
                warn!(%issuer, endpoint = %role, at = %Place::of(&url),
                    "the metadata name an endpoint that is plain http on another machine; it is not used");
                return None;
            }
            Some(url)
        });
        Ok(Self { urls, offer: Offer::of(&document) })
    }

    pub(in crate::oauth) const fn offer(&self) -> Offer {
        self.offer
    }

    pub(in crate::oauth) fn get(&self, role: Role) -> Option<&Url> {
        self.urls[role as usize].as_ref()
    }

    /// The endpoints that are elsewhere in `newer`, or gone.
    pub(in crate::oauth) fn moved<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = Role> + 'a {
        ROLES.into_iter().filter(|role| self.get(*role) != newer.get(*role))
    }
}

impl Offer {
    fn of(document: &Map<String, Value>) -> Self {
        let says = |member: &str| document.get(member).and_then(Value::as_bool) == Some(true);
        let modes = document.get("response_modes_supported").and_then(Value::as_array);
        Self {
            says_issuer: says("authorization_response_iss_parameter_supported"),
            requires_pushed: says("require_pushed_authorization_requests"),
            lacks_s256: document
                .get("code_challenge_methods_supported")
                .and_then(Value::as_array)
                .is_some_and(|methods| methods.iter().all(|method| method != "S256")),
            web_message: modes.is_some_and(|modes| modes.iter().any(|mode| mode == "web_message")),
        }
    }
}

impl Issuer {
    /// Whether a secret may go to `url`, which a document of this issuer names. Plain http to another machine is only for
    /// an issuer that is so itself: that is configured on purpose.
    fn vouches_for(&self, url: &Url) -> bool {
        let clear_by_choice = self.url().scheme() == "http" && !is_loopback(self.url());
        url.scheme() == "https" || is_loopback(url) || clear_by_choice
    }
}

fn url(members: &Map<String, Value>, role: Role) -> Option<Url> {
    let url = Url::parse(members.get(role.member())?.as_str()?).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::error::kind::ResponseFlaw;

    fn parse(configured: &str, document: &str, handshake: Handshake) -> Result<Endpoints, ErrorKind> {
        Endpoints::parse(document.as_bytes(), &configured.parse().unwrap(), handshake)
    }

    fn judge(configured: &str, stated: &str, endpoint: &str) -> Result<Endpoints, ErrorKind> {
        let document =
            format!(r#"{{"issuer":"{stated}","token_endpoint":"{endpoint}","grant_types_supported":[]}}"#);
        parse(configured, &document, Handshake::Plain)
    }

    fn at(endpoints: &Endpoints, role: Role) -> Option<&str> {
        endpoints.get(role).map(Url::as_str)
    }

    #[test]
    fn each_role_is_found_by_its_own_index() {
        for (index, role) in ROLES.into_iter().enumerate() {
            assert_eq!(role as usize, index, "{role}");
        }
    }

    #[test]
    fn a_document_for_an_issuer_that_differs_by_one_character_is_refused() {
        let endpoint = "https://a.example/token";
        assert!(judge("https://a.example", "https://a.example", endpoint).is_ok());
        assert!(judge("https://a.example/", "https://a.example/", endpoint).is_ok());
        for other in
            ["https://a.example/", "https://A.example", "https://a.example:443", "http://a.example", ""]
        {
            let error = judge("https://a.example", other, endpoint).unwrap_err();
            assert!(error.to_string().contains(&FoundIssuer::of(Some(other)).to_string()), "{error}");
        }
        for no_issuer in
            [r#"{"token_endpoint":"https://a.example/t"}"#, r#"{"issuer":["https://a.example"]}"#]
        {
            let error = parse("https://a.example", no_issuer, Handshake::Plain);
            assert_eq!(error, Err(ErrorKind::Response(ResponseFault::OtherIssuer(FoundIssuer::of(None)))));
        }
        assert_eq!(
            parse("https://a.example", "[]", Handshake::Plain),
            Err(ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NotJson)))
        );
    }

    #[test]
    fn a_token_endpoint_in_the_clear_is_refused_unless_it_is_loopback_or_the_issuer_is_as_bare() {
        let secure = "https://a.example";
        assert_eq!(
            judge(secure, secure, "http://a.example/token"),
            Err(ErrorKind::Request(RequestFault::InsecureEndpoint))
        );
        assert!(judge(secure, secure, "http://127.0.0.1:9400/token").is_ok());
        let local = "http://127.0.0.1:9400";
        assert_eq!(
            judge(local, local, "http://a.example/token"),
            Err(ErrorKind::Request(RequestFault::InsecureEndpoint))
        );
        let bare = "http://a.example";
        assert!(judge(bare, bare, "http://a.example/token").is_ok());
        for odd in ["ftp://a.example/token", "token", ""] {
            assert_eq!(
                judge(secure, secure, odd),
                Err(ErrorKind::Request(RequestFault::NoEndpoint(Role::Token))),
                "{odd}"
            );
        }
    }

    #[test]
    fn any_other_endpoint_in_the_clear_is_left_out() {
        let document = r#"{"issuer":"https://a.example","token_endpoint":"https://a.example/token",
            "revocation_endpoint":"http://a.example/revoke","introspection_endpoint":"https://a.example/look",
            "userinfo_endpoint":7}"#;
        let endpoints = parse("https://a.example", document, Handshake::Plain).unwrap();
        assert_eq!(at(&endpoints, Role::Token), Some("https://a.example/token"));
        assert_eq!(at(&endpoints, Role::Introspection), Some("https://a.example/look"));
        for left_out in [Role::Revocation, Role::Userinfo, Role::DeviceAuthorization] {
            assert_eq!(at(&endpoints, left_out), None, "{left_out}");
        }
    }

    #[test]
    fn the_aliases_for_mutual_tls_count_where_there_is_a_certificate_and_never_for_a_browser() {
        let document = r#"{"issuer":"https://a.example","token_endpoint":"https://a.example/token",
            "authorization_endpoint":"https://a.example/auth","revocation_endpoint":"https://a.example/revoke",
            "mtls_endpoint_aliases":{"token_endpoint":"https://mtls.a.example/token",
            "introspection_endpoint":"https://mtls.a.example/look",
            "authorization_endpoint":"https://mtls.a.example/auth"}}"#;
        let plain = parse("https://a.example", document, Handshake::Plain).unwrap();
        assert_eq!(at(&plain, Role::Token), Some("https://a.example/token"));
        assert_eq!(at(&plain, Role::Introspection), None);
        let mutual = parse("https://a.example", document, Handshake::MutualTls).unwrap();
        assert_eq!(at(&mutual, Role::Token), Some("https://mtls.a.example/token"));
        assert_eq!(at(&mutual, Role::Introspection), Some("https://mtls.a.example/look"));
        assert_eq!(at(&mutual, Role::Revocation), Some("https://a.example/revoke"), "it has no alias");
        assert_eq!(at(&mutual, Role::Authorization), Some("https://a.example/auth"));
        let moved: Vec<_> = plain.moved(&mutual).collect();
        assert_eq!(moved, [Role::Token, Role::Introspection]);
    }

    #[test]
    fn an_alias_in_the_clear_is_refused_like_any_token_endpoint() {
        let document = r#"{"issuer":"https://a.example","token_endpoint":"https://a.example/token",
            "mtls_endpoint_aliases":{"token_endpoint":"http://mtls.a.example/token"}}"#;
        assert_eq!(
            parse("https://a.example", document, Handshake::MutualTls),
            Err(ErrorKind::Request(RequestFault::InsecureEndpoint))
        );
    }
}
