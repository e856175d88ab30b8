//! Discovery: from an issuer to its token endpoint (RFC 8414, OpenID Connect Discovery 1.0).
//!
//! Only the token endpoint is read. Which grants and methods a document lists is no veto: servers leave out what
//! works. `endpoint` calls this before each token request; a document is kept for an hour, and for as long as no newer
//! one can be had.

use std::sync::Mutex;
use std::time::Duration;

use http::Request;
use http::header::ACCEPT;
use serde::Deserialize;
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use crate::clock;

use super::error::Error;
use super::kind::{Flaw, Kind, Place};
use super::server::{Issuer, is_loopback};
use super::transport::Http;

/// An issuer and what it last said of itself.
#[derive(Debug)]
pub(super) struct Metadata {
    issuer: Issuer,
    // Held for an assignment, never across an await.
    known: Mutex<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    token_endpoint: Url,
    refresh_at: Instant,
    /// When a refresh last failed; it is not tried again before [`REFRESH_PAUSE`] later.
    failed_at: Option<Instant>,
}

impl Metadata {
    pub(super) const fn new(issuer: Issuer) -> Self {
        Self { issuer, known: Mutex::new(None) }
    }

    /// The token endpoint: the one known, or the one in a fresh document where that is due. A refresh that fails
    /// leaves the one known in use.
    pub(super) async fn token_endpoint(&self, http: &Http) -> Result<Url, Error> {
        let known = self.known();
        if let Some(known) = &known
            && !known.is_due(clock::now())
        {
            return Ok(known.token_endpoint.clone());
        }
        match (self.discover(http).await, known) {
            (Ok(found), known) => {
                if let Some(old) = known.filter(|old| old.token_endpoint != found) {
                    warn!(issuer = %self.issuer, from = %Place::of(&old.token_endpoint), to = %Place::of(&found),
                        "the metadata name another token endpoint, which is used from now on");
                }
                self.keep(Known {
                    token_endpoint: found.clone(),
                    refresh_at: clock::now() + LIFETIME,
                    failed_at: None,
                });
                Ok(found)
            }
            (Err(error), Some(known)) => {
                warn!(issuer = %self.issuer, cause = error.cause(), %error,
                    "the metadata could not be refreshed; the last good copy stays in use");
                self.keep(Known { failed_at: Some(clock::now()), ..known.clone() });
                Ok(known.token_endpoint)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Says that the endpoint did not work: the next request looks whether it has moved.
    pub(super) fn doubt(&self) {
        if let Some(known) = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_mut() {
            known.refresh_at = clock::now();
        }
    }

    fn known(&self) -> Option<Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn keep(&self, known: Known) {
        *self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(known);
    }

    /// RFC 8414's place first, then OpenID Connect's. A server that cannot be reached is not asked twice.
    async fn discover(&self, http: &Http) -> Result<Url, Error> {
        let first = match self.fetch(http, &self.issuer.oauth_metadata()).await {
            Ok(found) => return Ok(found),
            Err(error) if error.kind().is_unreachable() => return Err(error),
            Err(error) => error,
        };
        match self.fetch(http, &self.issuer.openid_metadata()).await {
            Ok(found) => Ok(found),
            // Most servers have one of the two: a document that is there says more than one that is not.
            Err(second) if matches!(second.kind(), Kind::Status(status) if status.as_u16() == 404) => {
                Err(first)
            }
            Err(second) => Err(second),
        }
    }

    async fn fetch(&self, http: &Http, url: &Url) -> Result<Url, Error> {
        let place = Place::of(url);
        let request = Request::get(url.as_str())
            .header(ACCEPT, "application/json")
            .body(Vec::new())
            .map_err(|_| Error::at(place.clone(), Kind::NoTokenEndpoint))?;
        let answer = http.send(request, &place).await?;
        let wrong = match answer.status {
            status if status.is_redirection() => Kind::Redirect(status),
            status if !status.is_success() => Kind::Status(status),
            _ => match self.judge(&answer.body) {
                Ok(found) => return Ok(found),
                Err(kind) => kind,
            },
        };
        Err(Error::at(place, wrong).after(answer.retry_after))
    }

    pub(super) fn judge(&self, body: &[u8]) -> Result<Url, Kind> {
        let document: Document = serde_json::from_slice(body).map_err(|_| Kind::Malformed(Flaw::NotJson))?;
        // RFC 8414 section 3.3: identical, or a server could speak for another.
        if document.issuer.as_deref() != Some(self.issuer.as_str()) {
            return Err(Kind::OtherIssuer);
        }
        let endpoint = document.token_endpoint.and_then(|text| Url::parse(&text).ok());
        let endpoint = endpoint.filter(|url| matches!(url.scheme(), "http" | "https"));
        let endpoint = endpoint.ok_or(Kind::NoTokenEndpoint)?;
        if endpoint.scheme() == "https" || is_loopback(&endpoint) || self.issuer.is_clear_by_choice() {
            Ok(endpoint)
        } else {
            Err(Kind::InsecureEndpoint)
        }
    }
}

impl Known {
    fn is_due(&self, now: Instant) -> bool {
        now >= self.refresh_at && self.failed_at.is_none_or(|failed| now >= failed + REFRESH_PAUSE)
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: Option<String>,
    token_endpoint: Option<String>,
}

impl Issuer {
    /// RFC 8414 section 3: the well-known part goes between host and path, less the path's final slash.
    fn oauth_metadata(&self) -> Url {
        let path = self.url().path().trim_end_matches('/');
        self.at_path(&format!("/.well-known/oauth-authorization-server{path}"))
    }

    /// OpenID Connect Discovery 1.0 section 4: after the path.
    fn openid_metadata(&self) -> Url {
        let path = self.url().path().trim_end_matches('/');
        self.at_path(&format!("{path}/.well-known/openid-configuration"))
    }

    fn at_path(&self, path: &str) -> Url {
        let mut url = self.url().clone();
        url.set_path(path);
        url.set_query(None);
        url.set_fragment(None);
        url
    }

    /// Plain http to another machine: whoever configured that has said so on purpose.
    fn is_clear_by_choice(&self) -> bool {
        self.url().scheme() == "http" && !is_loopback(self.url())
    }
}

/// How long a document counts as fresh.
const LIFETIME: Duration = Duration::from_hours(1);

/// How long a failed refresh is left alone, while the last good copy is in use.
const REFRESH_PAUSE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(text: &str) -> Issuer {
        text.parse().unwrap()
    }

    fn judge(configured: &str, stated: &str, endpoint: &str) -> Result<Url, Kind> {
        let body =
            format!(r#"{{"issuer":"{stated}","token_endpoint":"{endpoint}","grant_types_supported":[]}}"#);
        Metadata::new(issuer(configured)).judge(body.as_bytes())
    }

    #[test]
    fn the_well_known_part_goes_between_host_and_path_and_openids_after_it() {
        for (given, oauth, openid) in [
            (
                "https://a.example",
                "https://a.example/.well-known/oauth-authorization-server",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/oauth-authorization-server",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example:8443/realms/r/",
                "https://a.example:8443/.well-known/oauth-authorization-server/realms/r",
                "https://a.example:8443/realms/r/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(issuer(given).oauth_metadata().as_str(), oauth);
            assert_eq!(issuer(given).openid_metadata().as_str(), openid);
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
            assert_eq!(judge("https://a.example", other, endpoint), Err(Kind::OtherIssuer), "{other}");
        }
        let nobody =
            Metadata::new(issuer("https://a.example")).judge(br#"{"token_endpoint":"https://a.example/t"}"#);
        assert_eq!(nobody, Err(Kind::OtherIssuer));
    }

    #[test]
    fn an_endpoint_in_the_clear_is_refused_unless_it_is_loopback_or_the_issuer_is_as_bare() {
        let secure = "https://a.example";
        assert_eq!(judge(secure, secure, "http://a.example/token"), Err(Kind::InsecureEndpoint));
        assert!(judge(secure, secure, "http://127.0.0.1:9400/token").is_ok());
        let local = "http://127.0.0.1:9400";
        assert_eq!(judge(local, local, "http://a.example/token"), Err(Kind::InsecureEndpoint));
        let bare = "http://a.example";
        assert!(judge(bare, bare, "http://a.example/token").is_ok());
        for odd in ["ftp://a.example/token", "token", ""] {
            assert_eq!(judge(secure, secure, odd), Err(Kind::NoTokenEndpoint), "{odd}");
        }
    }
}
