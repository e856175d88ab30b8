//! The token endpoint (RFC 6749 section 3.2): one request, one answer.
//!
//! `write` writes the request; it is sent and read here. The crate `oauth2`'s own reading of answers is not used: it
//! refuses what real servers send, and its errors hold bodies. `token` calls this, and says when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use http::{Request, StatusCode};
use tracing::{info, warn};
use url::Url;

use crate::clock;
use crate::secret::Secret;

use super::client::Client;
use super::dpop::{DPOP, Dpop, Nonce, Target};
use super::error::Error;
use super::grant::{Grant, TokenRequest};
use crate::oauth::client::authentication::{Audience, Keys};
use crate::oauth::discovery::directory::Directory;
use crate::oauth::discovery::role::Role;
use crate::oauth::discovery::server::ServerError;
use crate::oauth::discovery::server::{Issuer, ServerSettings};
use crate::oauth::endpoint::dialect::Dialect;
use crate::oauth::endpoint::failure::{Issued, TokenFailure};
use crate::oauth::endpoint::introspection::Introspection;
use crate::oauth::endpoint::members::Reading;
use crate::oauth::endpoint::response::{Lifetime, TokenResponse, Wanted, parse_as};
use crate::oauth::endpoint::revocation::TokenHint;
use crate::oauth::endpoint::salvage::Extent;
use crate::oauth::endpoint::server_clock::{Distance, ServerClock};
use crate::oauth::endpoint::transport::{Answer, Cut, Http};
use crate::oauth::endpoint::write::write;
use crate::oauth::error::details::Details;
use crate::oauth::error::kind::{Code, ErrorKind, RequestFault, ResponseFault, TransportFault};
use crate::oauth::error::mention::Mention;
use crate::oauth::error::place::Place;
use crate::oauth::error::refused_refresh;
use crate::oauth::error::situation::{Key, Situation};
use crate::oauth::grant::device_code;
use crate::oauth::jose::jwt_facts::jwt_issued;

pub(in crate::oauth) mod body;
pub(in crate::oauth) mod connections;
pub(in crate::oauth) mod dialect;
pub(in crate::oauth) mod encoding;
pub(in crate::oauth) mod failure;
pub(in crate::oauth) mod introspection;
pub(in crate::oauth) mod json_body;
pub(in crate::oauth) mod members;
pub(in crate::oauth) mod number;
pub(in crate::oauth) mod remark;
pub(in crate::oauth) mod report;
pub(in crate::oauth) mod response;
pub(in crate::oauth) mod revocation;
pub(in crate::oauth) mod salvage;
pub(in crate::oauth) mod server_clock;
pub(in crate::oauth) mod timestamp;
pub(in crate::oauth) mod token_type;
pub(in crate::oauth) mod transport;
pub(in crate::oauth) mod write;

/// An authorization server that can be asked for tokens. Tokens of several clients may share one.
#[derive(Debug)]
pub(crate) struct AuthorizationServer {
    pub(super) directory: Directory,
    pub(super) http: Http,
    clock: ServerClock,
    introspection: Introspection,
    /// What else this server calls a Bearer token.
    token_type: Option<String>,
    pub(super) dialect: Dialect,
    /// That an answer to a token exchange lacked its type was said already.
    untyped: AtomicBool,
}

/// One token request: who asks whom for what.
#[derive(Clone, Copy)]
struct Ask<'a> {
    url: &'a Url,
    client: &'a Client,
    keys: &'a Keys,
    grant: &'a Grant,
    request: &'a TokenRequest,
    dpop: Option<&'a Dpop>,
    /// What else the server calls a Bearer token.
    token_type: Option<&'a str>,
    dialect: &'a Dialect,
}

/// What came of one request.
struct Answered {
    outcome: Result<TokenResponse, TokenFailure>,
    /// What the server's clock showed.
    date: Option<SystemTime>,
    /// Whether it gave a nonce for the proofs to come.
    nonce: Nonce,
}

impl AuthorizationServer {
    /// Sets up the way to a server; no connection is made yet. Blocks while it reads the certificate authorities.
    ///
    /// # Errors
    /// [`ServerError`] where the authorities or the proxy are not usable.
    pub(crate) fn new(settings: &ServerSettings) -> Result<Self, ServerError> {
        let http = Http::new(&settings.transport)?;
        let location = &settings.location;
        for url in location.token_endpoint.iter().chain(location.issuer.as_ref().map(Issuer::url)) {
            http.judge(url)?;
        }
        Ok(Self {
            directory: Directory::new(settings)?,
            http,
            clock: ServerClock::default(),
            introspection: Introspection::default(),
            token_type: settings.token_type.clone(),
            dialect: settings.dialect.clone(),
            untyped: AtomicBool::new(false),
        })
    }

    /// Now, on the server's clock, as far as it is known: what an assertion is dated by.
    #[must_use]
    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Asks for a token. Takes at most one `timeout` of the transport, and two more where discovery is due, one more
    /// where a nonce is demanded, where the clocks are apart and where the token is looked at.
    ///
    /// `dpop` is the key that the token is to be bound to (RFC 9449 section 5); `None`: to none. A token of the other
    /// kind is refused.
    ///
    /// # Errors
    /// [`TokenFailure`], which says whose fault it is, and holds what came in the response to a grant that counts once.
    /// Where the client's secret cannot be read, nothing is sent.
    pub(crate) async fn token(
        &self,
        client: &Client,
        grant: &Grant,
        request: &TokenRequest,
        dpop: Option<&Dpop>,
    ) -> Result<TokenResponse, TokenFailure> {
        let keys = &client.auth.read().await?;
        let url = &match grant {
            Grant::RefreshToken(_) => self.directory.refresh_endpoint(&self.http).await?,
            _ => self.directory.token_endpoint(&self.http).await?,
        };
        let (token_type, dialect) = (self.token_type.as_deref(), &self.dialect);
        let ask = Ask { url, client, keys, grant, request, dpop, token_type, dialect };
        let outcome = self.ask_by_its_clock(ask).await;
        if outcome.as_ref().is_err_and(|error| error.kind().may_have_moved()) {
            self.directory.doubt(Role::Token);
        }
        let mut response = outcome?;
        if matches!(grant, Grant::TokenExchange(_))
            && response.issued_token_type.is_none()
            && !self.untyped.swap(true, Ordering::Relaxed)
        {
            warn!(place = %Place::of(url), "the answer to a token exchange has no issued_token_type; the token is taken as an access token");
        }
        if let (Grant::Password { .. }, Lifetime::NoTime(said)) = (grant, response.lifetime) {
            // No usable token: it counts as a refusal, and is not kept.
            let details = Details::bare(StatusCode::OK, ask.situation());
            let error = Error::at(Place::of(url), ResponseFault::NoTime(said)).with(details);
            return Err(TokenFailure::from(error).with(Issued::of(response)));
        }
        if response.lifetime == Lifetime::Unknown {
            match self.introspect(url, client, keys, &response.access_token).await {
                Ok(lifetime) => response.lifetime = lifetime,
                Err(error) => return Err(TokenFailure::from(error).with(Issued::of(response))),
            }
        }
        Ok(response)
    }

    /// Gives a token back (RFC 7009). One that the server does not know counts as given back. Takes at most one
    /// `timeout` of the transport, and two more where discovery is due.
    ///
    /// # Errors
    /// [`Error`] where the server was not told: it offers no such endpoint, could not be reached, or refused.
    pub(crate) async fn revoke(
        &self,
        client: &Client,
        token: &Secret<String>,
        hint: TokenHint,
    ) -> Result<(), Error> {
        let keys = client.auth.read().await?;
        let url = self.directory.revocation_endpoint(&self.http).await?;
        // An assertion is for the server, which its token endpoint may stand for, wherever it is sent.
        let token_endpoint = self.directory.token_endpoint(&self.http).await?;
        let proof =
            keys.prove(client, self.audience(&token_endpoint), self.clock.now()).map_err(Error::here)?;
        let outcome = revocation::revoke(&self.http, &url, client, &proof, token, hint).await;
        if outcome.as_ref().is_err_and(|error| error.kind().may_have_moved()) {
            self.directory.doubt(Role::Revocation);
        }
        outcome
    }

    /// Asks; once more where the client's assertion or the proof was refused and the server's clock is not where we took
    /// it to be. A server that refuses either has not spent the grant.
    async fn ask_by_its_clock(&self, ask: Ask<'_>) -> Result<TokenResponse, TokenFailure> {
        let Answered { outcome, date, .. } = self.ask_with_its_nonce(ask, self.clock.now()).await;
        let refused = match outcome.as_ref().map_err(|failure| failure.kind()) {
            Err(ErrorKind::Denied(_, Code::InvalidClient)) => ask.keys.are_dated(),
            Err(ErrorKind::Denied(_, Code::InvalidDpopProof)) => ask.dpop.is_some(),
            _ => false,
        };
        if let Ok(response) = &outcome {
            self.note_time(response);
        }
        // Some servers date no response (Keycloak).
        let found = match date {
            Some(date) => self.clock.apart(date),
            None if refused => self.clock.apart_by_tokens(),
            None => None,
        };
        let Some(distance) = found.filter(|_| refused) else {
            return outcome.map_err(|failure| failure.apart(found));
        };
        let second = self.ask_with_its_nonce(ask, distance.now()).await.outcome;
        if second.is_ok() {
            self.assume(distance, Some(&Place::of(ask.url)));
        }
        second
    }

    /// What a response's own tokens say of the server's clock.
    fn note_time(&self, response: &TokenResponse) {
        let tokens = [response.id_token.as_ref(), Some(&response.access_token)];
        if let Some(at) = tokens.into_iter().flatten().find_map(|token| jwt_issued(token.expose())) {
            self.clock.issued(at);
        }
    }

    /// Dates assertions from now on by a clock so far from ours: one that was has been accepted.
    pub(super) fn assume(&self, distance: Distance, place: Option<&Place>) {
        let place = place.map(tracing::field::display);
        info!(
            place,
            seconds_ahead = distance.seconds(),
            "the authorization server's clock is apart from this machine's; assertions are dated by the server's"
        );
        self.clock.assume(distance);
    }

    /// Asks; once more where the proof was refused and a nonce for another given (RFC 9449 section 8). A server that
    /// refuses the proof has not spent the grant.
    async fn ask_with_its_nonce(&self, ask: Ask<'_>, now: SystemTime) -> Answered {
        let first = self.ask(ask, now).await;
        let refused = matches!(
            first.outcome.as_ref().map_err(|failure| failure.kind()),
            Err(ErrorKind::Denied(_, Code::UseDpopNonce | Code::InvalidDpopProof))
        );
        if refused && first.nonce == Nonce::Given { self.ask(ask, now).await } else { first }
    }

    /// One request, one answer. Assertion and proof are made for this one.
    async fn ask(&self, ask: Ask<'_>, now: SystemTime) -> Answered {
        let place = Place::of(ask.url);
        let origin = ask.url.origin().ascii_serialization();
        let answer = match self.write(ask, &origin, now) {
            Ok(request) => self.http.receive(request, &place).await,
            Err(kind) => Err(Cut { error: Error::here(kind), status: None, part: None }),
        };
        match answer {
            Ok(answer) => Answered {
                nonce: ask.dpop.map_or(Nonce::None, |dpop| dpop.take_note(&origin, &answer.headers)),
                date: answer.date,
                outcome: judge(&answer, ask).map_err(|kind| {
                    let issued = answer
                        .status
                        .is_success()
                        .then(|| Issued::find(&answer.body, Extent::Whole, ask.reading()))
                        .flatten();
                    TokenFailure::from(answer.failure(place, kind, ask.situation())).with(issued)
                }),
            },
            Err(Cut { error, status, part }) => {
                // That the endpoint itself responded counts where the grant is a person's password.
                let error = match status {
                    Some(status) => error.with(Details::bare(status, ask.situation())),
                    None => error,
                };
                let issued = part.and_then(|part| Issued::find(&part, Extent::Cut, ask.reading()));
                let outcome = Err(TokenFailure::from(error).with(issued));
                Answered { outcome, date: None, nonce: Nonce::None }
            }
        }
    }

    fn write(
        &self,
        Ask { url, client, keys, grant, request, dpop, dialect, .. }: Ask<'_>,
        origin: &str,
        now: SystemTime,
    ) -> Result<Request<Vec<u8>>, ErrorKind> {
        let shown = keys.prove(client, self.audience(url), now)?;
        let mut request = write(url, client, &shown, grant, request, dialect)
            .ok_or(ErrorKind::Request(RequestFault::Panicked))?;
        if let Some(dpop) = dpop {
            let target = Target { method: request.method(), origin, path: url.path() };
            let proof =
                dpop.proof(target, None, now).map_err(|_| ErrorKind::Request(RequestFault::Panicked))?;
            request.headers_mut().insert(DPOP, proof);
        }
        Ok(request)
    }

    /// Asks how long a token lives that does not say so, where the server can be asked.
    async fn introspect(
        &self,
        token_endpoint: &Url,
        client: &Client,
        keys: &Keys,
        token: &Secret<String>,
    ) -> Result<Lifetime, Error> {
        if !self.introspection.is_worth_asking() {
            return Ok(Lifetime::Unknown);
        }
        let url = match self.directory.introspection_endpoint(&self.http).await {
            Ok(Some(url)) => url,
            Ok(None) => return Ok(Lifetime::Unknown),
            Err(error) => {
                self.introspection.failed(&error);
                return Ok(Lifetime::Unknown);
            }
        };
        let proof =
            keys.prove(client, self.audience(token_endpoint), self.clock.now()).map_err(Error::here)?;
        match self.introspection.lifetime(&self.http, &url, client, &proof, token).await {
            // The look was not requested, and a server that lets this client look at nothing says the same
            // (RFC 7662 section 2.2).
            Err(error) if !self.directory.is_configured(Role::Introspection) => {
                self.introspection.failed(&error);
                Ok(Lifetime::Unknown)
            }
            outcome => outcome,
        }
    }

    pub(super) fn audience<'a>(&'a self, token_endpoint: &'a Url) -> Audience<'a> {
        let Dialect { client_assertion, client_assertion_type, .. } = &self.dialect;
        let kind = client_assertion_type.as_deref();
        Audience { issuer: self.directory.issuer(), token_endpoint, terms: client_assertion, kind }
    }
}

impl<'a> Ask<'a> {
    /// How the response is read.
    const fn reading(&self) -> Reading<'a> {
        Reading { paths: &self.dialect.response, is_refresh: matches!(self.grant, Grant::RefreshToken(_)) }
    }

    fn situation(&self) -> Situation {
        Situation::token(self.client, self.grant, self.request).with(Key::Dpop, self.dpop.is_some())
    }
}

/// What an answer means to this request.
fn judge(answer: &Answer, ask: Ask<'_>) -> Result<TokenResponse, ErrorKind> {
    let Ask { grant, dpop, token_type, .. } = ask;
    let wanted = if dpop.is_some() { Wanted::Bound } else { Wanted::Bearer(token_type) };
    match parse_as(answer.status, &answer.body, wanted, ask.reading()) {
        Ok(mut response) => {
            if matches!(grant, Grant::AuthorizationCode { .. } | Grant::DeviceCode(_)) {
                response.without_an_end();
            }
            response.count_from(answer.date.unwrap_or_else(clock::wall));
            Ok(response)
        }
        // Some servers refuse a proof so: the same is done about it.
        Err(ErrorKind::Denied(status, Code::InvalidRequest))
            if dpop.is_some() && answer.report().mentions().has(Mention::Dpop) =>
        {
            Err(ErrorKind::Denied(status, Code::InvalidDpopProof))
        }
        Err(kind) => Err(match grant {
            // Load passes by itself, whatever the body says.
            _ if answer.exhausted
                && matches!(
                    kind,
                    ErrorKind::Status(_)
                        | ErrorKind::Denied(_, Code::Other | Code::InvalidRequest | Code::AccessDenied)
                ) =>
            {
                kind
            }
            // What may be a proxy's ends no login.
            _ if answer.unattributed && matches!(kind, ErrorKind::Status(_)) => kind,
            Grant::RefreshToken(_) => refused_refresh::judge(answer.status, &answer.body, kind),
            Grant::DeviceCode(_) => device_code::judge(&answer.report(), kind),
            _ => kind,
        }),
    }
}

impl ErrorKind {
    /// Whether a second request to the same host would fare no better.
    pub(super) const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Transport(fault) if !matches!(fault, TransportFault::Lacking(_)))
    }

    /// Whether it is likely that the token endpoint is somewhere else by now.
    fn may_have_moved(&self) -> bool {
        self.is_unreachable()
            || matches!(self, Self::Response(ResponseFault::Redirect(_) | ResponseFault::RedirectTo(..)))
            || matches!(self, Self::Status(status) if matches!(status.as_u16(), 404 | 405 | 410))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::super::client::{AssertionAudience, ClientAuth, KeySettings};
    use super::super::grant::{Exchange, TypedToken};
    use super::super::peer::{Authority, Peer, Reply, Seen, client, inline, plain, settings};
    use super::*;
    use crate::net::outbound_proxy::OutboundProxy;
    use crate::oauth::discovery::server::Location;
    use crate::oauth::error::class::Class;
    use crate::oauth::jose::jws::HmacAlgorithm;
    use crate::oauth::jose::key::vectors;
    use crate::secret::SecretSource;

    async fn ask(peer: &Peer, client: &Client, request: &TokenRequest) -> Result<TokenResponse, Error> {
        ask_at(peer.url("/token"), client, request).await
    }

    async fn ask_at(url: Url, client: &Client, request: &TokenRequest) -> Result<TokenResponse, Error> {
        let server = AuthorizationServer::new(&settings(Location::endpoint(url))).unwrap();
        Ok(server.token(client, &Grant::ClientCredentials, request, None).await?)
    }

    /// What this thread logs.
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Log {
        fn listen(&self, level: tracing::Level) -> tracing::subscriber::DefaultGuard {
            let writer = self.clone();
            let lines = tracing_subscriber::fmt().with_max_level(level);
            tracing::subscriber::set_default(lines.with_writer(move || writer.clone()).finish())
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What one peer's behaviour leads to.
    async fn failure(reply: Reply) -> Error {
        let peer = Peer::start(move |_| reply.clone()).await;
        ask(&peer, &client(), &plain()).await.unwrap_err()
    }

    /// What a server makes of Basic credentials (RFC 6749 section 2.3.1).
    fn basic(seen: &Seen) -> (String, String) {
        let encoded = seen.header("authorization").unwrap().strip_prefix("Basic ").unwrap();
        let text = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
        let (id, secret) = text.split_once(':').unwrap();
        let decode = |half: &str| {
            let pair = format!("x={half}");
            url::form_urlencoded::parse(pair.as_bytes()).next().unwrap().1.into_owned()
        };
        (decode(id), decode(secret))
    }

    #[tokio::test]
    async fn the_server_decodes_exactly_the_secret_in_basic_and_in_the_body() {
        let peer = Peer::start(|_| Reply::token()).await;
        for secret in ["a+b/c=d%e&f:g", "two words", "pässwörd-秘密", "%2B+%20", r#"q"u'o\te"#, "plain"] {
            for id in ["orders", "cc:odd id+/%"] {
                let auth = ClientAuth::SecretBasic(inline(secret));
                ask(&peer, &Client { id: id.into(), auth }, &plain()).await.unwrap();
                let seen = peer.last();
                assert_eq!(basic(&seen), (id.to_owned(), secret.to_owned()));
                assert_eq!(
                    seen.form(),
                    [("grant_type".into(), "client_credentials".into())],
                    "one method only"
                );

                let auth = ClientAuth::SecretPost(inline(secret));
                ask(&peer, &Client { id: id.into(), auth }, &plain()).await.unwrap();
                let seen = peer.last();
                assert_eq!(seen.header("authorization"), None, "one method only");
                assert!(seen.form().contains(&("client_id".into(), id.into())));
                assert!(seen.form().contains(&("client_secret".into(), secret.into())));
            }
        }
    }

    #[tokio::test]
    async fn the_parameters_are_sent_once_each_and_empty_ones_not_at_all() {
        let peer = Peer::start(|_| Reply::token()).await;
        let request = TokenRequest {
            scope: vec!["orders:read".into(), "orders:write".into()],
            audience: Some("https://api.example.com".into()),
            resource: vec!["https://a.example".to_owned(), "https://b.example/y".to_owned()],
            params: vec![("tenant".into(), "t & u".into())],
        };
        ask(&peer, &client(), &request).await.unwrap();
        let want = [
            ("grant_type", "client_credentials"),
            ("scope", "orders:read orders:write"),
            ("audience", "https://api.example.com"),
            ("resource", "https://a.example"),
            ("resource", "https://b.example/y"),
            ("tenant", "t & u"),
        ];
        assert_eq!(peer.last().form(), want.map(|(name, value)| (name.to_owned(), value.to_owned())));

        let empty = TokenRequest { scope: vec![String::new()], audience: Some(String::new()), ..plain() };
        ask(&peer, &client(), &empty).await.unwrap();
        assert_eq!(peer.last().body, "grant_type=client_credentials");
    }

    #[tokio::test]
    async fn the_endpoints_query_is_kept_and_no_secret_is_added_to_it() {
        let peer = Peer::start(|_| Reply::token()).await;
        ask_at(peer.url("/token?tenant=a%26b&v=2"), &client(), &plain()).await.unwrap();
        assert_eq!(peer.lines(), ["POST /token?tenant=a%26b&v=2"]);
    }

    #[tokio::test]
    async fn no_secret_means_no_request_and_its_arrival_counts_at_the_next_attempt() {
        let peer = Peer::start(|_| Reply::token()).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let client = Client { auth: ClientAuth::SecretBasic(SecretSource::File(path.clone())), ..client() };
        for content in [None, Some(""), Some("\n")] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = ask(&peer, &client, &plain()).await.unwrap_err();
            assert_eq!((error.class(), error.cause()), (Class::Misconfigured, "secret"));
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        assert!(peer.lines().is_empty());
        for secret in ["first", "second"] {
            std::fs::write(&path, format!("{secret}\n")).unwrap();
            ask(&peer, &client, &plain()).await.unwrap();
            assert_eq!(basic(&peer.last()).1, secret);
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_no_secret_goes_to_the_new_place() {
        for status in [301, 302, 303, 307, 308] {
            let other = Peer::start(|_| Reply::token()).await;
            let header: &'static str = format!("Location: {}/steal\r\n", other.origin).leak();
            let error = failure(Reply::Http(status, header, String::new())).await;
            assert_eq!((error.class(), error.cause()), (Class::Misconfigured, "redirect"));
            assert!(other.lines().is_empty());
        }
    }

    #[tokio::test]
    async fn what_goes_wrong_is_named_and_classed() {
        let denied = |status, code: &str| {
            Reply::Http(status, "", format!(r#"{{"error":"{code}","error_description":"sentinel"}}"#))
        };
        for (reply, class, cause) in [
            (denied(401, "invalid_client"), Class::Misconfigured, "invalid_client"),
            (denied(400, "invalid_scope"), Class::Misconfigured, "invalid_scope"),
            (denied(400, "a sentinel"), Class::Misconfigured, "other"),
            (denied(503, "temporarily_unavailable"), Class::Transient, "temporarily_unavailable"),
            (Reply::Http(400, "", String::new()), Class::Misconfigured, "status"),
            (Reply::Http(404, "", "<html>sentinel</html>".into()), Class::Misconfigured, "status"),
            (Reply::Http(500, "", "sentinel".into()), Class::Transient, "status"),
            (
                Reply::Http(502, "Content-Type: text/html\r\n", "<html>sentinel".into()),
                Class::Transient,
                "status",
            ),
            (Reply::ok(""), Class::Transient, "malformed"),
            (Reply::ok(r#"{"access_token":"sentinel"#), Class::Transient, "malformed"),
            (Reply::ok(r#"{"access_token":["sentinel"]}"#), Class::Transient, "malformed"),
            (Reply::ok(r#"{"error":"invalid_client"}"#), Class::Misconfigured, "invalid_client"),
            (
                Reply::ok(r#"{"access_token":"sentinel","token_type":"mac"}"#),
                Class::Misconfigured,
                "token_type",
            ),
            (Reply::Close, Class::Transient, "reset"),
            (Reply::Raw("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), Class::Transient, "reset"),
            (Reply::Raw("SSH-2.0-sentinel\r\n\r\n"), Class::Transient, "malformed"),
            (
                Reply::Raw("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n{"),
                Class::Transient,
                "too_large",
            ),
            (Reply::Flood, Class::Transient, "too_large"),
            (Reply::HeadThenSilence, Class::Transient, "timeout"),
            (Reply::Drip, Class::Transient, "timeout"),
        ] {
            let shown = format!("{reply:?}");
            let start = clock::now();
            let error = failure(reply).await;
            assert_eq!((error.class(), error.cause()), (class, cause), "{shown}");
            assert!(start.elapsed() < Duration::from_secs(5), "{shown}");
            let said = format!("{error} {error:?}");
            assert!(!said.contains("sentinel"), "{said}");
            assert!(error.to_string().starts_with("http://127.0.0.1:"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_refused_refresh_needs_a_login_and_any_other_grant_a_mended_configuration() {
        let secret = || Secret::new("sentinel".to_owned());
        let typed = || TypedToken { token: secret(), token_type: "urn:x".to_owned() };
        let others = || {
            [
                Grant::ClientCredentials,
                Grant::Password { username: "alice".into(), password: secret(), key: "password_file" },
                Grant::JwtBearer(secret()),
                Grant::TokenExchange(Exchange { subject: typed(), actor: None, requested_token_type: None }),
            ]
        };
        let body = |code: &str| format!(r#"{{"error":"{code}","error_description":"sentinel"}}"#);
        let login = (Class::Refused, "login_required");
        let wrong = |cause| (Class::Misconfigured, cause);
        let wait = |cause| (Class::Transient, cause);
        let doubt = (Class::Doubtful, "login_doubtful");
        for (status, body, refresh, other) in [
            (400, body("invalid_grant"), login, wrong("invalid_grant")),
            (401, body("invalid_grant"), login, wrong("invalid_grant")),
            (200, body("invalid_grant"), login, wrong("invalid_grant")),
            (400, String::new(), doubt, wrong("status")),
            (400, "\r\n".into(), doubt, wrong("status")),
            (400, "{}".into(), doubt, wrong("status")),
            (400, body("invalid_request"), doubt, wrong("invalid_request")),
            // A firewall's or a portal's.
            (400, "<html>".into(), wait("status"), wait("status")),
            (401, String::new(), wrong("status"), wrong("status")),
            (400, body("invalid_client"), wrong("invalid_client"), wrong("invalid_client")),
            (400, body("invalid_target"), wrong("invalid_target"), wrong("invalid_target")),
            (429, body("invalid_grant"), wait("invalid_grant"), wait("invalid_grant")),
            (503, body("invalid_grant"), wait("invalid_grant"), wait("invalid_grant")),
            (503, String::new(), wait("status"), wait("status")),
        ] {
            let shown = format!("{status} {body}");
            let reply = Reply::Http(status, "", body);
            let peer = Peer::start(move |_| reply.clone()).await;
            let server = AuthorizationServer::new(&settings(Location::endpoint(peer.url("/token")))).unwrap();
            let grants = others().map(|grant| (grant, other));
            for (grant, want) in grants.into_iter().chain([(Grant::RefreshToken(secret()), refresh)]) {
                let error = server.token(&client(), &grant, &plain(), None).await.unwrap_err();
                assert_eq!((error.class(), error.cause()), want, "{grant:?}: {shown}");
                assert!(!format!("{error} {error:?}").contains("sentinel"), "{error:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_jwts_end_is_counted_by_the_clock_that_the_server_shows() {
        // {"exp":2000000600}, and the date is that of 2000000000.
        let body = r#"{"access_token":"e30.eyJleHAiOjIwMDAwMDA2MDB9.x","token_type":"Bearer"}"#;
        let date = "Date: Wed, 18 May 2033 03:33:20 GMT\r\n";
        let peer = Peer::start(move |_| Reply::Http(200, date, body.into())).await;
        let got = ask(&peer, &client(), &plain()).await.unwrap();
        assert_eq!(got.lifetime, Lifetime::ExpiresIn(Duration::from_mins(10)));

        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}}}"#, clock::unix_seconds() + 600));
        let body = format!(r#"{{"access_token":"e30.{claims}.x"}}"#);
        let peer = Peer::start(move |_| Reply::ok(body.clone())).await;
        let got = ask(&peer, &client(), &plain()).await.unwrap();
        let Lifetime::ExpiresIn(left) = got.lifetime else { panic!("it has an exp") };
        let (least, most) = (Duration::from_secs(580), Duration::from_mins(10));
        assert!(least < left && left <= most, "without a date our clock counts: {left:?}");
    }

    #[tokio::test]
    async fn an_exchanged_token_of_no_kind_is_not_attached_and_one_without_a_kind_is() {
        let subject = TypedToken { token: Secret::new("s".to_owned()), token_type: "urn:x".to_owned() };
        let grant = Grant::TokenExchange(Exchange { subject, actor: None, requested_token_type: None });
        for (members, want) in [
            (r#""token_type":"N_A","issued_token_type":"urn:ietf:params:oauth:token-type:jwt""#, None),
            (r#""token_type":"Bearer""#, Some(None)),
            (r#""token_type":"Bearer","issued_token_type":"urn:y""#, Some(Some("urn:y"))),
        ] {
            let peer = Peer::start(move |_| {
                Reply::ok(format!(r#"{{"access_token":"t","expires_in":60,{members}}}"#))
            })
            .await;
            let server = AuthorizationServer::new(&settings(Location::endpoint(peer.url("/token")))).unwrap();
            let got = server.token(&client(), &grant, &plain(), None).await;
            match want {
                Some(kind) => assert_eq!(got.unwrap().issued_token_type.as_deref(), kind),
                None => assert_eq!(got.unwrap_err().cause(), "token_type"),
            }
        }
    }

    #[tokio::test]
    async fn a_kind_that_is_missing_is_said_once() {
        let log = Log::default();
        let guard = log.listen(tracing::Level::WARN);
        let peer = Peer::start(|_| Reply::token()).await;
        let server = AuthorizationServer::new(&settings(Location::endpoint(peer.url("/token")))).unwrap();
        let subject = TypedToken { token: Secret::new("s".to_owned()), token_type: "urn:x".to_owned() };
        let grant = Grant::TokenExchange(Exchange { subject, actor: None, requested_token_type: None });
        for _ in 0..3 {
            server.token(&client(), &grant, &plain(), None).await.unwrap();
        }
        server.token(&client(), &Grant::ClientCredentials, &plain(), None).await.unwrap();
        drop(guard);
        assert_eq!(log.text().matches("issued_token_type").count(), 1, "{}", log.text());
    }

    #[tokio::test]
    async fn retry_after_is_kept_from_any_answer_that_is_no_token() {
        let hold = |error: Error| error.retry_after();
        let busy = |status, headers| Reply::Http(status, headers, String::new());
        let minute = Some(Duration::from_mins(1));
        assert_eq!(hold(failure(busy(429, "Retry-After: 60\r\n")).await), minute);
        assert_eq!(hold(failure(busy(503, "Retry-After: 60\r\n")).await), minute);
        assert_eq!(hold(failure(busy(503, "Retry-After: 999999\r\n")).await), Some(Duration::from_hours(1)));
        assert_eq!(hold(failure(busy(503, "Retry-After: soon\r\n")).await), None);
        let date = httpdate::fmt_http_date(clock::wall() + Duration::from_secs(100));
        let header: &'static str = format!("Retry-After: {date}\r\n").leak();
        assert!(hold(failure(busy(429, header)).await).is_some_and(|hold| hold > Duration::from_secs(90)));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_by_what_is_wrong() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for (url, cause) in [
            (format!("http://127.0.0.1:{port}/token?key=sentinel"), "connect"),
            // A label too long for any resolver: the answer is the same without a network.
            (format!("http://{}.invalid/token?key=sentinel", "a".repeat(64)), "dns"),
        ] {
            let error = ask_at(url.parse().unwrap(), &client(), &plain()).await.unwrap_err();
            assert_eq!((error.class(), error.cause()), (Class::Transient, cause), "{error}");
            assert!(!format!("{error} {error:?}").contains("sentinel"));
        }
    }

    #[tokio::test]
    async fn a_certificate_that_does_not_hold_is_refused_by_its_reason_before_anything_is_sent() {
        let authority = Authority::new("one");
        let stranger = Authority::new("two");
        let namesake = Authority::new("one");
        for (identity, ca, want) in [
            (authority.identity("localhost", 2999), authority.file(), None),
            (authority.identity("localhost", 2999), stranger.file(), Some("unknown issuer")),
            (authority.identity("localhost", 2999), namesake.file(), Some("unknown issuer")),
            (authority.identity("other.example", 2999), authority.file(), Some("another name")),
            (authority.identity("localhost", 2002), authority.file(), Some("expired")),
        ] {
            let peer = Peer::start_tls(&identity, |_| Reply::token()).await;
            let mut settings = settings(Location::endpoint(peer.url("/token")));
            settings.transport.ca_file = Some(ca);
            let got = AuthorizationServer::new(&settings)
                .unwrap()
                .token(&client(), &Grant::ClientCredentials, &plain(), None)
                .await;
            match want {
                None => drop(got.unwrap()),
                Some(reason) => {
                    let error = got.unwrap_err();
                    assert_eq!((error.class(), error.cause()), (Class::Transient, "tls"));
                    assert!(error.to_string().contains(reason), "{error}");
                    assert!(peer.lines().is_empty());
                }
            }
        }
    }

    #[tokio::test]
    async fn https_at_a_plain_port_and_http_at_a_tls_port_say_so() {
        let plain_peer = Peer::start(|_| Reply::Raw("HTTP/1.1 400 Bad Request\r\n\r\n")).await;
        let url = plain_peer.origin.replace("http://127.0.0.1", "https://localhost") + "/token";
        let error = ask_at(url.parse().unwrap(), &client(), &plain()).await.unwrap_err();
        assert!(matches!(error.cause(), "tls" | "timeout"), "{error}");

        let identity = Authority::new("one").identity("localhost", 2999);
        let tls_peer = Peer::start_tls(&identity, |_| Reply::token()).await;
        let url = tls_peer.origin.replace("https:", "http:") + "/token";
        let error = ask_at(url.parse().unwrap(), &client(), &plain()).await.unwrap_err();
        assert!(matches!(error.cause(), "malformed" | "reset"), "{error}");
    }

    #[tokio::test]
    async fn a_proxy_that_opens_no_tunnel_is_named_with_its_reason() {
        for (status, what, tunnels) in [
            (407, "demands other credentials (status 407); set the user and the password", 1),
            // The second one finds out the status.
            (403, "does not allow this destination (status 403); allow the host", 2),
            (502, "has no connection to the destination (status 502); check host and port", 2),
        ] {
            let refusing = Peer::start(move |_| Reply::Http(status, "", String::new())).await;
            let mut settings = settings(Location::endpoint("https://as.invalid/token".parse().unwrap()));
            settings.transport.proxy = OutboundProxy::Through(refusing.url("/"));
            let server = AuthorizationServer::new(&settings).unwrap();
            let error = server.token(&client(), &Grant::ClientCredentials, &plain(), None).await.unwrap_err();
            assert_eq!((error.class(), error.cause()), (Class::Transient, "proxy"), "{error}");
            assert!(error.to_string().contains(what), "{error}");
            assert_eq!(refusing.lines(), vec!["CONNECT as.invalid:443"; tunnels]);
        }
    }

    #[tokio::test]
    async fn neither_secret_nor_token_is_logged_even_at_trace() {
        let log = Log::default();
        let guard = log.listen(tracing::Level::TRACE);
        tracing::info!("the log works");
        let peer = Peer::start(|_| Reply::token()).await;
        let with = |auth| Client { auth, ..client() };
        let audience = AssertionAudience::Endpoint;
        let post = with(ClientAuth::SecretPost(inline("sentinel-secret")));
        let secret = inline("sentinel-secret-of-32-bytes-or-more");
        let algorithm = HmacAlgorithm::Hs256;
        let mac = with(ClientAuth::SecretJwt { secret, algorithm, audience });
        let key = inline(&vectors::P256.replacen('{', r#"{"x-note":"sentinel","#, 1));
        let key = KeySettings { key, key_id: None, algorithm: None, certificate: None };
        let signed = with(ClientAuth::PrivateKeyJwt { key, audience });
        let file = with(ClientAuth::AssertionFile(inline("sentinel-assertion")));
        for client in [client(), post, mac, signed, file] {
            let response = ask_at(peer.url("/token?key=sentinel"), &client, &plain()).await.unwrap();
            assert_eq!(response.access_token.expose(), "sentinel-token");
            tracing::info!(?response, ?client, "what a careless line would print");
        }
        failure(Reply::ok(r#"{"access_token":"sentinel"#)).await;
        drop(guard);
        let text = log.text();
        assert!(text.contains("the log works"));
        assert!(!text.contains("sentinel"), "{text}");
    }

    fn metadata(origin: &str, endpoint: &str) -> String {
        format!(r#"{{"issuer":"{origin}","token_endpoint":"{endpoint}"}}"#)
    }

    fn discovered(peer: &Peer, path: &str) -> AuthorizationServer {
        let issuer: Issuer = format!("{}{path}", peer.origin).parse().unwrap();
        AuthorizationServer::new(&settings(Location::issuer(issuer))).unwrap()
    }

    /// The peer's own origin, as its requests say it.
    fn origin(seen: &Seen) -> String {
        format!("http://{}", seen.header("host").unwrap())
    }

    #[tokio::test]
    async fn discovery_asks_rfc_8414s_place_then_openids_and_then_remembers() {
        let peer = Peer::start(|seen| match seen.line() {
            "GET /realms/r/.well-known/openid-configuration" => {
                let issuer = origin(seen) + "/realms/r";
                Reply::ok(metadata(&issuer, &format!("{issuer}/token")))
            }
            line if line.starts_with("GET") => Reply::Http(404, "", "<html>".into()),
            _ => Reply::token(),
        })
        .await;
        let server = discovered(&peer, "/realms/r");
        for _ in 0..3 {
            server.token(&client(), &Grant::ClientCredentials, &plain(), None).await.unwrap();
        }
        assert_eq!(
            peer.lines(),
            [
                "GET /.well-known/oauth-authorization-server/realms/r",
                "GET /realms/r/.well-known/openid-configuration",
                "POST /realms/r/token",
                "POST /realms/r/token",
                "POST /realms/r/token",
            ]
        );
    }

    #[tokio::test]
    async fn an_endpoint_that_moved_is_found() {
        let at = std::sync::Arc::new(std::sync::Mutex::new("/one"));
        let place = std::sync::Arc::clone(&at);
        let peer = Peer::start(move |seen| {
            let place = *place.lock().unwrap();
            match seen.line() {
                line if line.starts_with("GET") => {
                    Reply::ok(metadata(&origin(seen), &(origin(seen) + place)))
                }
                line if line.ends_with(place) => Reply::token(),
                _ => Reply::Http(404, "", String::new()),
            }
        })
        .await;
        let server = discovered(&peer, "");
        server.token(&client(), &Grant::ClientCredentials, &plain(), None).await.unwrap();
        *at.lock().unwrap() = "/two";
        let error = server.token(&client(), &Grant::ClientCredentials, &plain(), None).await.unwrap_err();
        assert_eq!(error.cause(), "status");
        server.token(&client(), &Grant::ClientCredentials, &plain(), None).await.unwrap();
        assert_eq!(peer.lines().last().unwrap(), "POST /two");
    }

    #[tokio::test]
    async fn metadata_that_do_not_hold_are_an_error_that_says_why() {
        let page = |body: &str| Reply::ok(body.to_owned());
        for (reply, class, cause) in [
            (Reply::Http(404, "", String::new()), Class::Misconfigured, "status"),
            (Reply::Http(503, "Retry-After: 7\r\n", String::new()), Class::Transient, "status"),
            (
                Reply::Http(302, "Location: http://127.0.0.1:9/\r\n", String::new()),
                Class::Misconfigured,
                "redirect",
            ),
            (page("<html>sentinel"), Class::Transient, "malformed"),
            (page(r#"{"issuer":"https://other.example"}"#), Class::Misconfigured, "issuer_mismatch"),
            (Reply::Flood, Class::Transient, "too_large"),
            (Reply::Drip, Class::Transient, "timeout"),
        ] {
            let shown = format!("{reply:?}");
            let peer = Peer::start(move |_| reply.clone()).await;
            let error = discovered(&peer, "")
                .token(&client(), &Grant::ClientCredentials, &plain(), None)
                .await
                .unwrap_err();
            assert_eq!((error.class(), error.cause()), (class, cause), "{shown}");
            assert!(!format!("{error} {error:?}").contains("sentinel"));
            assert!(peer.lines().iter().all(|line| line.starts_with("GET")), "no secret was sent");
            if error.retry_after().is_some() {
                assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
            }
        }
    }
}
