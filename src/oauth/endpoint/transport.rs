//! The way to an authorization server: one exchange at a time, bounded in time and size, that follows no redirect.
//!
//! It sends what it is given and hands back status, `Retry-After` and body. What they mean is for `response` and
//! `metadata`.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, DATE, HeaderMap, LOCATION};
use http::response::Parts;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use crate::clock;
use crate::net::http_client::{ConnectStage, HttpFault};
use crate::net::own_response::Unattributed;
use crate::net::rate_limit::RateLimit;
use crate::net::resolver::LookupError;
use crate::net::retry_after::RetryAfter;
use crate::net::tls::{NoRoots, client_config};
use crate::net::tls_fault::TlsFault;
use crate::oauth::discovery::server::ServerError;
use crate::oauth::endpoint::body::MAX_BODY_BYTES;

use crate::oauth::discovery::server::Transport;
use crate::oauth::endpoint::connections::Connections;
use crate::oauth::endpoint::encoding::{decoded, plain};
use crate::oauth::endpoint::remark::Carried;
use crate::oauth::error::Error;
use crate::oauth::error::kind::{ErrorKind, ResponseFault, ResponseFlaw, TransportFault, TransportPhase};
use crate::oauth::error::place::Place;

/// The connections, set up for secrets.
#[derive(Clone, Debug)]
pub(in crate::oauth) struct Http(Connections);

/// An exchange that failed.
pub(in crate::oauth) struct Cut {
    pub(in crate::oauth) error: Error,
    /// The status of the response, where one began to arrive that is the server's own.
    pub(in crate::oauth) status: Option<StatusCode>,
    /// What had arrived by then of the body of a success, decoded.
    pub(in crate::oauth) part: Option<Zeroizing<Vec<u8>>>,
}

/// What has arrived of a response.
struct Received {
    head: Parts,
    retry_after: Option<RetryAfter>,
    exhausted: bool,
    /// As it was sent, and at most [`MAX_BODY_BYTES`] of it.
    body: Zeroizing<Vec<u8>>,
}

/// An answer, whatever its status.
pub(in crate::oauth) struct Answer {
    pub(in crate::oauth) status: StatusCode,
    /// Capped at [`MAX_RETRY_AFTER`].
    pub(in crate::oauth) retry_after: Option<RetryAfter>,
    /// It is refused, and says that no request is left of those that are allowed in a while.
    pub(in crate::oauth) exhausted: bool,
    /// It is refused, and the HTTP proxy on the way may have done that in the server's place.
    pub(in crate::oauth) unattributed: bool,
    /// What `Cache-Control` says (RFC 9111 section 5.2.2.1).
    pub(in crate::oauth) max_age: Option<Duration>,
    /// What the server's clock showed (RFC 9110 section 6.6.1).
    pub(in crate::oauth) date: Option<SystemTime>,
    pub(in crate::oauth) headers: HeaderMap,
    /// At most [`MAX_BODY_BYTES`], decoded.
    pub(in crate::oauth) body: Zeroizing<Vec<u8>>,
    /// What the request carried, which no error may repeat.
    pub(in crate::oauth) carried: Carried,
}

impl Http {
    /// Blocks while it reads the certificate authorities. The client's certificate is shown to every server that asks for one on
    /// any of its connections (RFC 8705 section 2).
    pub(in crate::oauth) fn new(transport: &Transport) -> Result<Self, ServerError> {
        // No authorities at all are no error here: a server on loopback needs none, and one that does fails by its name.
        let tls =
            client_config(transport.ca_file.as_deref(), NoRoots::Allowed, transport.certificate.as_ref())?;
        Ok(Self(Connections::new(transport, tls)))
    }

    /// Whether the configured proxy, where one is on the way to `url`, can be used.
    pub(in crate::oauth) fn judge(&self, url: &Url) -> Result<(), ServerError> {
        self.0.judge(url)
    }

    /// One exchange. The answer is read whole, within the transport's `timeout`.
    pub(in crate::oauth) async fn send(
        &self,
        request: Request<Vec<u8>>,
        place: &Place,
    ) -> Result<Answer, Error> {
        self.receive(request, place).await.map_err(|cut| cut.error)
    }

    /// The same, for what counts once: of a response that does not arrive whole, its part comes with the error.
    pub(in crate::oauth) async fn receive(
        &self,
        request: Request<Vec<u8>>,
        place: &Place,
    ) -> Result<Answer, Cut> {
        let carried = Carried::by(&request);
        let mut received = None;
        let exchange = self.exchange(request, place, &mut received);
        let late = |_elapsed| Error::at(place.clone(), TransportFault::Timeout(TransportPhase::Answer));
        let outcome = timeout(self.0.timeout(), exchange).await.map_err(late).flatten();
        let Some(Received { head, retry_after, exhausted, body }) = received else {
            let error = outcome.err().unwrap_or(Error::at(place.clone(), TransportFault::Reset));
            return Err(Cut { error, status: None, part: None });
        };
        let (body, flaw) = match decoded(&head.headers, body) {
            Ok(body) => (body, None),
            Err((kind, part)) => (part, Some(Error::at(place.clone(), kind).after(retry_after))),
        };
        if let Some(error) = outcome.err().or(flaw) {
            let part = Some(body).filter(|_| head.status.is_success());
            let is_own = head.status.is_success() || head.extensions.get::<Unattributed>().is_none();
            return Err(Cut { error, status: Some(head.status).filter(|_| is_own), part });
        }
        Ok(Answer {
            status: head.status,
            retry_after,
            exhausted,
            unattributed: head.extensions.get::<Unattributed>().is_some(),
            max_age: max_age(&head.headers),
            date: date(&head.headers),
            headers: head.headers,
            body,
            carried,
        })
    }

    /// Puts into `received` what arrives, as it arrives.
    async fn exchange(
        &self,
        request: Request<Vec<u8>>,
        place: &Place,
        received: &mut Option<Received>,
    ) -> Result<(), Error> {
        let failed = |fault: HttpFault| Error::at(place.clone(), kind_of(self.explained(fault)));
        let request = plain(request);
        let client = self.0.client(request.uri());
        let target = request.uri().to_string();
        let response = client.send(request.map(Bytes::from)).await.map_err(failed)?;
        let (head, mut incoming) = response.into_parts();
        let leads = redirect(head.status, &head.headers, &target)
            .map(|to| ErrorKind::Response(ResponseFault::RedirectTo(head.status, to)));
        let now = date(&head.headers).unwrap_or_else(clock::wall);
        let RateLimit { retry_after, exhausted } = RateLimit::read(head.status, &head.headers, now);
        let too_large = || Error::at(place.clone(), ResponseFault::TooLarge).after(retry_after);
        let will_be_too_large = incoming.size_hint().lower() > MAX_BODY_BYTES as u64;
        let body = Zeroizing::new(Vec::new());
        let Received { body, .. } = received.insert(Received { head, retry_after, exhausted, body });
        if let Some(redirect) = leads {
            return Err(Error::at(place.clone(), redirect));
        }
        while let Some(frame) = incoming.frame().await {
            let frame = match frame {
                Err(_) if will_be_too_large => return Err(too_large()),
                frame => frame.map_err(|error| failed(HttpFault::of(&error)))?,
            };
            let Some(chunk) = frame.data_ref() else { continue };
            let fits = chunk.len().min(MAX_BODY_BYTES - body.len());
            body.extend_from_slice(&chunk[..fits]);
            if fits < chunk.len() {
                return Err(too_large());
            }
        }
        Ok(())
    }
}

impl Http {
    /// A server that refuses a certificate seldom says why; what the certificate says of itself may.
    fn explained(&self, fault: HttpFault) -> HttpFault {
        match fault {
            HttpFault::Tls(TlsFault::CertificateRefused | TlsFault::Alert | TlsFault::Closed)
            | HttpFault::Broken
                if self.0.certificate_has_expired() =>
            {
                HttpFault::Tls(TlsFault::OwnExpired)
            }
            fault => fault,
        }
    }
}

/// What went wrong on the way, of all that an error of the network says.
fn kind_of(fault: HttpFault) -> ErrorKind {
    let fault = match fault {
        HttpFault::Lookup(LookupError::NoSuchName) => TransportFault::Dns,
        HttpFault::Lookup(error) => TransportFault::Lookup(error),
        HttpFault::Lacking(lack) => TransportFault::Lacking(lack),
        HttpFault::Connect(kind) => TransportFault::Connect(kind),
        HttpFault::Proxy(fault) => TransportFault::Proxy(fault),
        HttpFault::Tls(fault) => TransportFault::Tls(fault),
        HttpFault::Timeout(ConnectStage::Lookup) => TransportFault::Timeout(TransportPhase::Lookup),
        HttpFault::Timeout(ConnectStage::Tcp) => TransportFault::Timeout(TransportPhase::Connect),
        HttpFault::Timeout(ConnectStage::Proxy(stage)) => {
            TransportFault::Timeout(TransportPhase::Proxy(stage))
        }
        HttpFault::Timeout(ConnectStage::Tls) => TransportFault::Timeout(TransportPhase::Tls),
        HttpFault::NotHttp => return ResponseFault::Malformed(ResponseFlaw::NotHttp).into(),
        HttpFault::Broken => TransportFault::Reset,
    };
    fault.into()
}

/// Where a redirect leads, relative to what was requested; `None`: it is none, or does not say.
fn redirect(status: StatusCode, headers: &HeaderMap, target: &str) -> Option<Place> {
    if !status.is_redirection() {
        return None;
    }
    let to = headers.get(LOCATION)?.to_str().ok()?;
    Url::parse(target).ok()?.join(to).ok().as_ref().map(Place::of)
}

/// `max-age` out of `Cache-Control`, whatever stands around it.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = fields.flat_map(|field| field.split(',')).filter_map(|one| one.split_once('='));
    let (_, seconds) = directives.find(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"))?;
    Some(Duration::from_secs(seconds.trim().trim_matches('"').parse().ok()?))
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::TlsError;
    use crate::oauth::client::{Client, ClientAuth};
    use crate::oauth::discovery::server::{Location, ServerSettings};
    use crate::oauth::endpoint::AuthorizationServer;
    use crate::oauth::endpoint::response::TokenResponse;
    use crate::oauth::endpoint::revocation::TokenHint;
    use crate::oauth::grant::Grant;
    use crate::oauth::peer::{Authority, Peer, Reply, plain, settings};
    use crate::secret::Secret;

    #[test]
    fn max_age_is_found_among_other_directives() {
        for (value, want) in [
            ("max-age=600", Some(600)),
            ("public, Max-Age=\"7\", must-revalidate", Some(7)),
            ("s-maxage=9", None),
            ("no-store", None),
            ("max-age=-1", None),
            ("max-age", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, value.parse().unwrap());
            assert_eq!(max_age(&headers), want.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_redirect_says_where_it_leads_without_its_query() {
        let leads = |status, to: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, http::HeaderValue::from_static(to));
            let place =
                redirect(StatusCode::from_u16(status).unwrap(), &headers, "https://as.test/oauth2/par?a");
            place.map(|place| place.to_string())
        };
        assert_eq!(leads(302, "/login?state=sentinel").as_deref(), Some("https://as.test/login"));
        assert_eq!(leads(307, "http://u:sentinel@other.test/x#y").as_deref(), Some("http://other.test/x"));
        assert_eq!(leads(200, "/login"), None);
    }

    #[test]
    fn a_file_of_authorities_without_one_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let mut settings = settings(Location::default());
        settings.transport.ca_file = Some(path.clone());
        let error = || Http::new(&settings.transport).unwrap_err();
        assert!(matches!(error(), ServerError::Tls(TlsError::Unreadable { .. })));
        std::fs::write(&path, "not a certificate").unwrap();
        assert_eq!(error(), ServerError::Tls(TlsError::CertificateMissing(path)));
    }

    fn by_certificate() -> Client {
        Client { id: "orders".to_owned(), auth: ClientAuth::Tls }
    }

    async fn ask(settings: &ServerSettings) -> Result<TokenResponse, Error> {
        let server = AuthorizationServer::new(settings).unwrap();
        Ok(server.token(&by_certificate(), &Grant::ClientCredentials, &plain(), None).await?)
    }

    #[tokio::test]
    async fn the_certificate_is_all_that_such_a_client_shows() {
        let authority = Authority::new("one");
        let peer =
            Peer::start_mutual_tls(&authority.identity("localhost", 2999), &authority, |_| Reply::token())
                .await;
        let certificate = authority.client("orders");
        let mut settings = settings(Location::endpoint(peer.url("/token")));
        settings.transport.ca_file = Some(authority.file());
        settings.transport.certificate = Some(certificate.clone());
        ask(&settings).await.unwrap();
        let seen = peer.last();
        let shown = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &seen.certificate.clone().unwrap());
        assert_eq!(shown.as_ref(), certificate.thumbprint);
        assert!(seen.form().contains(&("client_id".into(), "orders".into())));
        assert!(seen.header("authorization").is_none());
        assert!(!seen.form().iter().any(|(name, _)| name.contains("secret") || name.contains("assertion")));
    }

    #[tokio::test]
    async fn no_certificate_and_a_strangers_are_told_apart() {
        let (authority, stranger) = (Authority::new("one"), Authority::new("two"));
        let peer =
            Peer::start_mutual_tls(&authority.identity("localhost", 2999), &authority, |_| Reply::token())
                .await;
        for (certificate, says) in [
            (None, "wants a client certificate; name one in `client_cert_file`"),
            (Some(stranger.client("orders")), "refused this client's certificate"),
        ] {
            let mut settings = settings(Location::endpoint(peer.url("/token")));
            settings.transport.ca_file = Some(authority.file());
            settings.transport.certificate = certificate;
            let error = ask(&settings).await.unwrap_err();
            assert_eq!(error.cause(), "tls", "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        assert!(peer.lines().is_empty());
    }

    #[tokio::test]
    async fn with_a_certificate_the_aliases_of_the_metadata_are_called() {
        let authority = Authority::new("one");
        let mutual =
            Peer::start_mutual_tls(&authority.identity("localhost", 2999), &authority, |_| Reply::token())
                .await;
        let alias = mutual.origin.clone();
        let ordinary = Peer::start(move |seen| {
            let origin = format!("http://{}", seen.header("host").unwrap());
            Reply::ok(format!(
                r#"{{"issuer":"{origin}","token_endpoint":"{origin}/token","revocation_endpoint":"{origin}/revoke",
                "mtls_endpoint_aliases":{{"token_endpoint":"{alias}/token","revocation_endpoint":"{alias}/revoke"}}}}"#
            ))
        })
        .await;
        let mut settings = settings(Location::issuer(ordinary.origin.parse().unwrap()));
        settings.transport.ca_file = Some(authority.file());
        settings.transport.certificate = Some(authority.client("orders"));
        let server = AuthorizationServer::new(&settings).unwrap();
        server.token(&by_certificate(), &Grant::ClientCredentials, &plain(), None).await.unwrap();
        let token = Secret::new("spent".to_owned());
        server.revoke(&by_certificate(), &token, TokenHint::AccessToken).await.unwrap();
        assert_eq!(mutual.lines(), ["POST /token", "POST /revoke"]);
        assert_eq!(ordinary.lines(), ["GET /.well-known/oauth-authorization-server"]);
    }
}
