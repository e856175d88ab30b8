//! A small OAuth 2.0 authorization server: metadata (RFC 8414), a token endpoint (RFC 6749 section 3.2), and levers
//! that make it fail.
//!
//! Used by `cupbearer demo`, by tests and by benches. It ends when its handle is dropped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::behaviour::Behaviour;
use super::client_auth::Clients;
use super::connection;
use super::event::Event;
use super::state::State;
use super::token_endpoint::SeenRequest;
use super::tokens::{self, Format, Tokens};
use crate::clock;
use crate::net::eviction::Evictions;
use crate::net::serve;

/// What an authorization server is like while it is well.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where it listens; port 0 takes a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// A path that belongs to the issuer: `/tenant`, say. Default empty.
    pub path: String,
    /// What metadata and tokens call it; `None`: [`AuthorizationServer::issuer`].
    pub issuer: Option<String>,
    /// Which metadata it publishes. Default both.
    pub metadata: Metadata,
    /// How long a token lives. Default 20 s.
    pub lifetime: Duration,
    /// What a token looks like. Default a JWT.
    pub format: Format,
    /// Whom it knows. Default anybody with a secret.
    pub clients: Clients,
    /// The set that its tokens go to; give one in to share it. Default a new one.
    pub tokens: Tokens,
}

/// Which metadata is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Metadata {
    /// RFC 8414's and OpenID Connect Discovery's.
    #[default]
    Both,
    /// RFC 8414's alone.
    OAuth,
    /// OpenID Connect Discovery's alone.
    OpenId,
    /// None: 404.
    Absent,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            path: String::new(),
            issuer: None,
            metadata: Metadata::Both,
            lifetime: tokens::DEFAULT_LIFETIME,
            format: Format::Jwt,
            clients: Clients::Any,
            tokens: Tokens::new(),
        }
    }
}

/// A running authorization server; dropping it ends it and its connections.
#[derive(Debug)]
pub(crate) struct AuthorizationServer {
    state: Arc<State>,
    _task: JoinSet<()>,
}

impl AuthorizationServer {
    /// Listens where `options` say, and serves.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub(crate) async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        Self::serve(listener, options)
    }

    /// Serves on a listener that is there already; `options.listen` says nothing then.
    ///
    /// # Errors
    /// Where the listener has no address.
    pub(crate) fn serve(listener: TcpListener, options: Options) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(address, options));
        let mut task = JoinSet::new();
        let shared = Arc::clone(&state);
        task.spawn(serve::connections(
            listener,
            MAX_CONNECTIONS,
            Evictions::logged("demo"),
            std::future::pending(),
            move |stream, place| {
                let served = connection::serve(Arc::clone(&shared), stream);
                async move {
                    // Tests hold connections open on purpose: none gives way.
                    let _at_work = place.work();
                    served.await;
                }
            },
        ));
        Ok(Self { state, _task: task })
    }

    /// Where it listens.
    #[must_use]
    pub(crate) fn address(&self) -> SocketAddr {
        self.state.address()
    }

    /// Its root, without a slash at the end: `http://127.0.0.1:9400`.
    #[must_use]
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.state.address())
    }

    /// What it calls itself: [`url`](Self::url) and its path, where `options` say nothing else.
    #[must_use]
    pub(crate) fn issuer(&self) -> &str {
        &self.state.issuer
    }

    /// Where tokens are asked for.
    #[must_use]
    pub(crate) fn token_endpoint(&self) -> String {
        self.state.token_endpoint()
    }

    /// The tokens that are out; what an [`Api`](super::Api) asks.
    #[must_use]
    pub(crate) fn tokens(&self) -> Tokens {
        self.state.tokens().clone()
    }

    /// What happens from now on, here and in the APIs that share its tokens.
    #[must_use]
    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.state.tokens().events()
    }

    /// How many requests the token endpoint has taken, those that it then failed included.
    #[must_use]
    pub(crate) fn request_count(&self) -> u64 {
        self.state.request_count()
    }

    /// The newest 10,000 of them, oldest first.
    #[must_use]
    pub(crate) fn requests(&self) -> Vec<SeenRequest> {
        self.state.requests()
    }

    /// How many times metadata were asked for.
    #[must_use]
    pub(crate) fn metadata_requests(&self) -> u64 {
        self.state.metadata_requests()
    }

    /// How the token endpoint answers until further notice.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.state.token_script.behave(behaviour);
    }

    /// The same for `how_long` from now; then back to normal.
    pub(crate) fn behave_for(&self, behaviour: Behaviour, how_long: Duration) {
        self.state.token_script.behave_until(behaviour, clock::now() + how_long);
    }

    /// How the token endpoint answers its next requests, one each, before what [`behave`](Self::behave) says.
    pub(crate) fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state.token_script.push(behaviours);
    }

    /// The next `times` token requests fail with `status`.
    pub(crate) fn fail(&self, status: StatusCode, times: usize) {
        self.script(std::iter::repeat_n(Behaviour::status(status), times));
    }

    /// No token request that comes within `how_long` is ever answered.
    pub(crate) fn stall(&self, how_long: Duration) {
        self.behave_for(Behaviour::Stall, how_long);
    }

    /// Token requests are answered so much later, until further notice.
    pub(crate) fn delay(&self, delay: Duration) {
        self.behave(Behaviour::Delay(delay));
    }

    /// Back to normal, tokens and metadata alike. What was revoked stays so.
    pub(crate) fn heal(&self) {
        self.state.heal();
    }
}

/// Connections at a time; more than any test or demo opens.
const MAX_CONNECTIONS: usize = 4096;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
    use http::{Request, Response};
    use http_body_util::Full;
    use serde_json::{Value, json};

    use super::super::client_auth::AuthMethod;
    use super::super::tokens::TokenRefusal;
    use super::super::{Behaviour, Metadata};
    use super::*;
    use crate::net::local_client::{self, LocalClientError};

    const SOON: Duration = Duration::from_secs(5);
    const FORM: &str = "grant_type=client_credentials&client_id=orders&client_secret=s";

    async fn send(
        server: &AuthorizationServer,
        request: http::request::Builder,
        body: &str,
    ) -> Result<Response<Bytes>, LocalClientError> {
        local_client::send(server.address(), request.body(Full::from(body.to_owned())).unwrap(), SOON).await
    }

    async fn token(server: &AuthorizationServer, form: &str) -> Result<Response<Bytes>, LocalClientError> {
        let request = Request::post("/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        send(server, request, form).await
    }

    fn value(response: &Response<Bytes>) -> Value {
        serde_json::from_slice(response.body()).unwrap()
    }

    async fn start() -> AuthorizationServer {
        AuthorizationServer::start(Options::default()).await.unwrap()
    }

    #[tokio::test]
    async fn a_client_gets_a_token_by_basic_and_by_post() {
        let server = start().await;
        let mut events = server.events();
        let by_post =
            token(&server, &format!("{FORM}&scope=read+write&audience=api&resource=http%3A%2F%2Fr")).await;
        let by_post = value(&by_post.unwrap());
        assert_eq!((&by_post["expires_in"], &by_post["scope"]), (&json!(20), &json!("read write")));
        let facts = server.tokens().check(by_post["access_token"].as_str().unwrap()).unwrap();
        assert_eq!(facts.audience, ["api", "http://r"]);
        assert!(
            matches!(events.recv().await.unwrap(), Event::TokenIssued { client, .. } if client == "orders")
        );

        let request = Request::post("/token?kept=1")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
            .header(AUTHORIZATION, "Basic Y2MlM0FvZGQraWQ6cyUyQmMlM0Q=");
        let by_basic = send(&server, request, "grant_type=client_credentials").await.unwrap();
        assert_eq!(by_basic.status(), StatusCode::OK);
        assert_eq!(by_basic.headers()["cache-control"], "no-store");

        let seen = server.requests();
        assert_eq!((server.request_count(), seen.len()), (2, 2));
        assert_eq!((seen[0].method, seen[1].method), (Some(AuthMethod::Post), Some(AuthMethod::Basic)));
        assert_eq!(seen[1].client.as_deref(), Some("cc:odd id"));
        assert_eq!(seen[1].secret.as_ref().unwrap().expose(), "s+c=");
        assert_eq!(seen[1].query.as_deref(), Some("kept=1"));
        assert_eq!((seen[0].parameter("audience"), seen[0].parameter("client_secret")), (Some("api"), None));
    }

    #[tokio::test]
    async fn what_is_no_token_request_is_refused_in_the_words_of_rfc_6749() {
        let clients = Clients::listed([("orders", "right")]);
        let server = AuthorizationServer::start(Options { clients, ..Options::default() }).await.unwrap();
        for (form, status, error) in [
            (FORM, 401, "invalid_client"),
            ("grant_type=client_credentials", 401, "invalid_client"),
            ("grant_type=password&client_id=orders&client_secret=right", 400, "unsupported_grant_type"),
            ("client_id=orders&client_secret=right", 400, "invalid_request"),
            (&format!("{FORM}&grant_type=client_credentials"), 400, "invalid_request"),
        ] {
            let answer = token(&server, form).await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), &value(&answer)["error"]),
                (status, &json!(error)),
                "{form}"
            );
        }
        let right =
            token(&server, "grant_type=client_credentials&client_id=orders&client_secret=right").await;
        assert_eq!(right.unwrap().status(), StatusCode::OK);
        assert_eq!(send(&server, Request::get("/token"), "").await.unwrap().status().as_u16(), 405);
    }

    #[tokio::test]
    async fn metadata_stand_where_both_standards_put_them() {
        let options = Options { path: "/tenant".into(), ..Options::default() };
        let server = AuthorizationServer::start(options).await.unwrap();
        for path in
            ["/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration"]
        {
            let answer = value(&send(&server, Request::get(path), "").await.unwrap());
            assert_eq!(answer["issuer"], json!(server.issuer()));
            assert_eq!(answer["token_endpoint"], json!(server.token_endpoint()));
        }
        let other = send(&server, Request::get("/.well-known/oauth-authorization-server"), "").await;
        assert_eq!(other.unwrap().status(), StatusCode::NOT_FOUND);
        assert_eq!(server.metadata_requests(), 2);
        let options = Options { metadata: Metadata::OpenId, ..Options::default() };
        let server = AuthorizationServer::start(options).await.unwrap();
        let path = "/.well-known/oauth-authorization-server";
        assert_eq!(send(&server, Request::get(path), "").await.unwrap().status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn it_fails_as_often_as_it_is_told_and_is_then_well() {
        let server = start().await;
        server.fail(StatusCode::SERVICE_UNAVAILABLE, 2);
        server.script([Behaviour::retry_after(StatusCode::TOO_MANY_REQUESTS, "7")]);
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(token(&server, FORM).await.unwrap());
        }
        let codes: Vec<_> = statuses.iter().map(|answer| answer.status().as_u16()).collect();
        assert_eq!(codes, [503, 503, 429, 200]);
        assert_eq!(statuses[2].headers()[RETRY_AFTER], "7");
        assert_eq!(server.request_count(), 4, "failed requests are counted too");
    }

    #[tokio::test]
    async fn a_stall_answers_nobody_until_it_is_healed() {
        let server = start().await;
        server.stall(SOON);
        let request = Request::post("/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.body(Full::from(FORM)).unwrap();
        let stalled = local_client::send(server.address(), request, Duration::from_millis(100)).await;
        assert!(matches!(stalled, Err(LocalClientError::TimedOut { .. })));
        server.heal();
        assert_eq!(token(&server, FORM).await.unwrap().status(), StatusCode::OK);
        server.delay(Duration::from_millis(50));
        let start = clock::now();
        assert_eq!(token(&server, FORM).await.unwrap().status(), StatusCode::OK);
        assert!(start.elapsed() >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn connections_break_as_told() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let server = start().await;
        server.script([Behaviour::Reset, Behaviour::Close, Behaviour::Raw(Bytes::from_static(b"nonsense"))]);
        let mut ends = Vec::new();
        for _ in 0..3 {
            let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
            let request = b"POST /token HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            ends.push(match stream.read_to_string(&mut answer).await {
                Ok(_) => answer,
                Err(error) => format!("{:?}", error.kind()),
            });
        }
        assert_eq!(ends, ["ConnectionReset", "", "nonsense"]);
    }

    #[tokio::test]
    async fn bodies_and_places_lie_as_told() {
        let server = start().await;
        server.script([
            Behaviour::Huge(64 * 1024 * 1024),
            Behaviour::Drip(Duration::from_millis(1)),
            Behaviour::Redirect("http://elsewhere/token".into()),
            Behaviour::json(StatusCode::OK, &json!({"error": "strange"})),
        ]);
        assert!(matches!(token(&server, FORM).await, Err(LocalClientError::TooLarge { .. })));
        let request = Request::post("/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let dripping = request.body(Full::from(FORM)).unwrap();
        let dripping = local_client::send(server.address(), dripping, Duration::from_millis(100)).await;
        assert!(matches!(dripping, Err(LocalClientError::TimedOut { .. })));
        let elsewhere = token(&server, FORM).await.unwrap();
        assert_eq!(elsewhere.status().as_u16(), 302);
        assert_eq!(elsewhere.headers()[LOCATION], "http://elsewhere/token");
        assert_eq!(value(&token(&server, FORM).await.unwrap()), json!({"error": "strange"}));
    }

    #[tokio::test]
    async fn the_levers_can_be_pulled_over_http() {
        let server = start().await;
        let post = async |path: &str| {
            let answer = send(&server, Request::post(path), "").await.unwrap();
            (answer.status().as_u16(), String::from_utf8(answer.body().to_vec()).unwrap())
        };
        assert_eq!(post("/demo/fail?status=500&times=2").await.0, 200);
        assert_eq!(post("/demo/fail?status=400&error=invalid_scope&retry_after=3").await.0, 200);
        assert_eq!(token(&server, FORM).await.unwrap().status().as_u16(), 500);
        assert_eq!(token(&server, FORM).await.unwrap().status().as_u16(), 500);
        let scripted = token(&server, FORM).await.unwrap();
        assert_eq!(value(&scripted)["error"], json!("invalid_scope"));
        assert_eq!(scripted.headers()[RETRY_AFTER], "3");
        let good = value(&token(&server, FORM).await.unwrap());
        assert_eq!(post("/demo/revoke").await, (200, "1 tokens revoked\n".to_owned()));
        let good = good["access_token"].as_str().unwrap();
        assert_eq!(server.tokens().check(good).unwrap_err(), TokenRefusal::Revoked);
        for wrong in
            ["/demo/fail?status=200", "/demo/fail?times=-1", "/demo/stall?seconds=x", "/demo/fail?x=1"]
        {
            assert_eq!(post(wrong).await.0, 400, "{wrong}");
        }
        assert_eq!(post("/demo/nothing").await.0, 404);
        let list = send(&server, Request::get("/demo/"), "").await.unwrap();
        let list = String::from_utf8(list.body().to_vec()).unwrap();
        assert!(list.contains(&format!("{}/demo/fail?status=503&times=3", server.url())), "{list}");
    }

    #[tokio::test]
    async fn it_ends_when_its_handle_is_dropped() {
        let server = start().await;
        let address = server.address();
        drop(server);
        tokio::task::yield_now().await;
        let request = Request::get("/").body(Full::default()).unwrap();
        assert!(matches!(
            local_client::send(address, request, SOON).await,
            Err(LocalClientError::Unreachable { .. })
        ));
    }
}
