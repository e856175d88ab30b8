//! The server of the control surface: HTTP/1.1 on a loopback listener or a Unix socket.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use url::form_urlencoded;

use super::access::{self, Access, ControlSettings};
use super::dashboard::{self, PageToken};
use super::events::{self, Seats};
use super::guard::{self, CONTROL, CONTROL_VALUE, Refused};
use super::history::{History, MOST_TOKENS};
use super::logins::{self, Outcome};
use super::metrics::{Rejections, Totals};
use super::problem::Problem;
use super::reload::{self, ReloadRequest};
use super::routes::{self, Asked, Segment};
use super::status::{LastReload, Listener, LoggedOut, Route, Status};
use super::view;
use crate::clock::BootInstant;
use crate::login::LoginSessions;
use crate::metrics::{Metrics, Server};
use crate::net::descriptors::SURFACE_CONNECTIONS;
use crate::net::eviction::Evictions;
use crate::net::local_listener::LocalListener;
use crate::net::serve::{self, Limits};
use crate::net::unix_peer::Peer;
use crate::oauth::Class;
use crate::token::{Failure, ForgetError, RENEW_WAIT, RenewError, StoreAlarm, TokenHandle, TokenRegistry};

/// What the control surface speaks of.
#[derive(Clone, Debug)]
pub(crate) struct ControlState {
    /// The tokens in force.
    pub(super) registry: TokenRegistry,
    /// Where it listens.
    settings: ControlSettings,
    /// The rest, which a reload may change: `app` sends the new facts.
    facts: watch::Receiver<Arc<Facts>>,
    /// `app` reads the configuration again.
    reloads: mpsc::Sender<ReloadRequest>,
    pub(super) metrics: Metrics,
    rejections: Rejections,
    /// What the token store does not hold.
    alarm: StoreAlarm,
    started: BootInstant,
    /// Where people log in.
    login_sessions: LoginSessions,
    pub(super) history: History,
    seats: Seats,
    /// `None`: there is no randomness to make one of, and no page can change anything.
    page: Option<PageToken>,
}

impl ControlState {
    /// The control surface of a program that starts now and serves `registry`.
    #[must_use]
    pub(crate) fn new(
        settings: ControlSettings,
        registry: TokenRegistry,
        facts: watch::Receiver<Arc<Facts>>,
        reloads: mpsc::Sender<ReloadRequest>,
        alarm: StoreAlarm,
        metrics: Metrics,
    ) -> Self {
        Self {
            registry,
            settings,
            facts,
            reloads,
            alarm,
            rejections: Rejections::of(&metrics),
            metrics,
            started: BootInstant::now(),
            login_sessions: LoginSessions::default(),
            history: History::default(),
            seats: Seats::default(),
            page: PageToken::generate(),
        }
    }

    /// Why it is for reading alone, where it is.
    fn read_only(&self) -> Option<String> {
        self.settings.read_only(&self.facts.borrow().access)
    }

    fn judge_peer(&self, peer: Option<&Peer>) -> Result<(), Problem> {
        self.settings.judge(&self.facts.borrow().access, peer)
    }
}

/// What `app` knows of the program and the status shows as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The configuration's file; `None`: flags alone.
    pub config_file: Option<PathBuf>,
    /// Where tokens outlive a restart.
    pub store: String,
    /// Where the program listens.
    pub listeners: Vec<Listener>,
    /// The routes, in the order in which they are tried.
    pub routes: Vec<Route>,
    /// Who may use the proxy.
    pub access: Access,
    /// Whether the program is on its way out.
    pub draining: bool,
    /// How the last reload of the configuration went.
    pub last_reload: Option<LastReload>,
}

/// Serves the control surface on `listener`, which is where the settings of `state` say, until it is dropped.
pub(crate) async fn serve(listener: LocalListener, state: ControlState) {
    let (history, registry) = (state.history.clone(), state.registry.clone());
    tokio::join!(respond_on(listener, state), history.observe(&registry));
}

/// The same on another listener, beside the first.
pub(crate) async fn serve_too(listener: LocalListener, state: ControlState) {
    respond_on(listener, state).await;
}

async fn respond_on(listener: LocalListener, state: ControlState) {
    let evictions = Evictions::counted(Server::Control, &state.metrics);
    let respond = move |request| answer(state.clone(), request);
    match listener {
        LocalListener::Tcp(listener) => {
            serve::short_requests(listener, LIMITS, evictions, respond).await;
        }
        LocalListener::Unix { listener, file } => {
            // Removed after the listener is closed.
            let _file = file;
            serve::short_requests(listener, LIMITS, evictions, respond).await;
        }
    }
}

async fn answer(state: ControlState, request: Request<Incoming>) -> Response<Body> {
    let outcome = match admit(&state, &request) {
        Ok(Asked::Events) => events(&state, request.uri().query().unwrap_or_default()),
        Ok(_) => act(&state, request).await.map(|response| response.map(BodyExt::boxed_unsync)),
        Err(refused) => {
            state.rejections.count(refused.reason);
            Err(refused.problem)
        }
    };
    let mut response = outcome.unwrap_or_else(|problem| problem.response().map(BodyExt::boxed_unsync));
    for (name, value) in FIELDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The request's meaning, where its process, or its page, may make it.
fn admit<'r>(state: &ControlState, request: &'r Request<Incoming>) -> Result<Asked<'r>, Refused> {
    let peer = request.extensions().get();
    state.judge_peer(peer).map_err(|problem| Refused { reason: "uid", problem })?;
    guard::judge(request.method(), request.uri(), request.headers(), state.page.as_ref())?;
    let asked = routes::read(request.method(), request.uri().path());
    match state.read_only() {
        Some(why) if !access::is_reading(&asked) => {
            Err(Refused { reason: "read_only", problem: access::refusal(&why) })
        }
        _ => Ok(asked),
    }
}

/// A body that may go on for as long as its connection.
type Body = UnsyncBoxBody<Bytes, Infallible>;

fn events(state: &ControlState, query: &str) -> Result<Response<Body>, Problem> {
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "browser");
    let browser = named
        .map(|(_, browser)| browser.into_owned())
        .filter(|name| logins::is_name(name))
        .unwrap_or_default();
    let Some(seat) = state.seats.take(&browser) else {
        let detail = "Too many pages listen already; close some of them.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Too many pages", detail));
    };
    ask_browser(state, &browser);
    let mut response = Response::new(events::body(state.clone(), seat).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

/// A token that no other browser could renew is tried with this one, which was not asked yet.
fn ask_browser(state: &ControlState, browser: &str) {
    if browser.is_empty() || state.read_only().is_some() {
        return;
    }
    let open = state.seats.browsers();
    for handle in state.registry.load().values().take(MOST_TOKENS) {
        let renewal_request = handle.account().and_then(|account| account.renewal_request());
        let refused =
            |failure: &Failure| failure.error.class() == Class::Refused && !failure.error.is_logged_out();
        if renewal_request.is_some_and(|renewal_request| renewal_request.is_unasked(browser, &open))
            && handle.load().last_error.as_ref().is_some_and(refused)
        {
            handle.wake();
        }
    }
}

/// The dashboard. Its frames may turn to the authorization servers of the tokens that it renews.
async fn page(state: &ControlState) -> Outcome {
    let Some(token) = &state.page else {
        let detail = "The system gave no randomness when the program started; use the command line.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "No dashboard", detail));
    };
    let handles: Vec<_> = state.registry.load().values().take(MOST_TOKENS).cloned().collect();
    let accounts = handles.iter().filter_map(TokenHandle::account);
    let in_browser: Vec<_> = accounts.filter(|account| account.renewal_request().is_some()).collect();
    if in_browser.is_empty() || state.read_only().is_some() {
        return Ok(dashboard::page(token, None));
    }
    let origins = join_all(in_browser.iter().map(|account| async {
        // Without metadata there is nothing to turn to yet: the page is loaded again by then.
        timeout(METADATA_WAIT, account.authorization_origin()).await.ok()?.ok()
    }));
    let mut frames: Vec<String> = origins.await.into_iter().flatten().collect();
    frames.sort();
    frames.dedup();
    Ok(dashboard::page(token, Some(&frames)))
}

async fn act(state: &ControlState, request: Request<Incoming>) -> Outcome {
    let (parts, body) = request.into_parts();
    let ControlState { registry, login_sessions, .. } = state;
    let find = |name| named(registry, name);
    Ok(match routes::read(&parts.method, parts.uri.path()) {
        Asked::Page => page(state).await?,
        Asked::Events | Asked::Unknown => {
            return Err(Problem::new(StatusCode::NOT_FOUND, "Nothing here", PATHS));
        }
        Asked::Status => {
            let latency = Totals::read(&state.metrics).latency();
            json(&Status { latency, ..status(state, usize::MAX) })
        }
        Asked::Reload => reload::reload(&state.reloads).await?,
        Asked::Renew(name) => renew(&find(name)?, login_sessions).await,
        Asked::Logout(name) => logout(&find(name)?, login_sessions).await,
        Asked::AccessToken(name) => access_token(&find(name)?),
        Asked::Login(name) => {
            logins::begin(login_sessions, registry, &find(name)?, logins::body(body).await?).await?
        }
        Asked::LoginProgress(name) => logins::progress(login_sessions, &find(name)?)?,
        Asked::LoginCancel(name) => logins::cancel(login_sessions, &find(name)?)?,
        Asked::LoginCallback(name) => {
            logins::paste(login_sessions, &find(name)?, &logins::body(body).await?).await?
        }
        Asked::Silent(name) => {
            let asked = logins::body(body).await?;
            logins::begin_silent(login_sessions, &find(name)?, &parts.headers, asked, &state.seats.browsers())
                .await?
        }
        Asked::SilentMessage => {
            logins::finish_silent(login_sessions, logins::body(body).await?, state.seats.browsers()).await?
        }
        Asked::SilentFrame => {
            logins::frame(login_sessions, parts.uri.query().unwrap_or_default(), state.seats.browsers()).await
        }
        Asked::OtherMethod(methods) => {
            let detail = format!("This path takes {methods}.");
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Other method", detail).allowing(methods)
        }
    })
}

/// The program at a glance, with its first `most` tokens.
pub(super) fn status(state: &ControlState, most: usize) -> Status {
    let now = BootInstant::now();
    let facts = Arc::clone(&state.facts.borrow());
    let read_only = state.read_only();
    let shown = |handle| {
        let token = view::token(handle, &state.login_sessions, now);
        if read_only.is_some() { token.impersonal() } else { token }
    };
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: now.saturating_duration_since(state.started).as_secs(),
        config_file: facts.config_file.as_ref().map(|path| path.display().to_string()),
        store: facts.store.clone(),
        store_degraded: state.alarm.faults().iter().take(most).map(view::store_fault).collect(),
        listeners: facts.listeners.clone(),
        tokens: state.registry.load().values().take(most).map(shown).collect(),
        routes: facts.routes.clone(),
        latency: None,
        read_only,
        last_reload: facts.last_reload.clone(),
        draining: facts.draining,
    }
}

fn named(registry: &TokenRegistry, name: Segment<'_>) -> Result<TokenHandle, Problem> {
    let tokens = registry.load();
    if let Some(handle) = tokens.values().find(|handle| name.is(handle.name())) {
        return Ok(handle.clone());
    }
    let known: Vec<_> = tokens.keys().map(String::as_str).take(MAX_NAMES).collect();
    let detail = match known.as_slice() {
        [] => "No token is configured.".to_owned(),
        known => format!("No token has this name. Configured: {}.", known.join(", ")),
    };
    Err(Problem::new(StatusCode::NOT_FOUND, "Unknown token", detail))
}

async fn renew(token: &TokenHandle, login_sessions: &LoginSessions) -> Response<Full<Bytes>> {
    let Err(error) = token.renew().await else {
        return json(&view::token(token, login_sessions, BootInstant::now()));
    };
    let detail = error.to_string();
    match &error {
        RenewError::Held { left } => {
            let seconds = left.as_secs_f64().ceil() as u64;
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Renewal held back", detail)
                .retry_after(seconds.max(1))
        }
        RenewError::Failed(cause) if cause.class() != Class::Transient => {
            Problem::new(StatusCode::CONFLICT, "Renewal refused", detail).response()
        }
        RenewError::Retired => Problem::new(StatusCode::CONFLICT, "Not renewed", detail).response(),
        RenewError::Failed(_) | RenewError::TimedOut => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Renewal failed", detail).response()
        }
    }
}

async fn logout(token: &TokenHandle, login_sessions: &LoginSessions) -> Response<Full<Bytes>> {
    login_sessions.cancel(token.name());
    let id_token = match token.account() {
        Some(account) => account.id_token().await,
        None => None,
    };
    let Err(error) = token.forget().await else {
        let end_session = match token.account() {
            // What is forgotten is forgotten, whether or not the server tells where a browser forgets it.
            Some(account) => account.end_session(id_token.as_ref()).await.ok().flatten(),
            None => None,
        };
        return json(&LoggedOut {
            token: view::token(token, login_sessions, BootInstant::now()),
            end_session_url: end_session.map(String::from),
        });
    };
    let title = match &error {
        ForgetError::NotTold(_) => "Not revoked",
        ForgetError::StillStored(_) => "Not deleted",
        ForgetError::TimedOut => "Not answered",
        ForgetError::Retired => {
            return Problem::new(StatusCode::CONFLICT, "Not held", error.to_string()).response();
        }
    };
    Problem::new(StatusCode::BAD_GATEWAY, title, error.to_string()).response()
}

fn access_token(token: &TokenHandle) -> Response<Full<Bytes>> {
    let now = BootInstant::now();
    if let Some(token) = view::access_token(token, now) {
        return json(&token);
    }
    if token.is_per_caller() {
        let detail = "This token is traded for the one that a caller brings; without a caller there is none.";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "No token", detail).response();
    }
    let state = token.load();
    let status = state.status(now).as_str();
    let why = state.last_error.as_ref().map_or_else(String::new, |failure| format!(": {failure}"));
    let detail = format!("No token is held that counts now; its state is {status}{why}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "No token", detail).response()
}

pub(super) fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    // Plain structs of text and numbers: they always serialise.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What the control surface may cost.
const LIMITS: Limits = Limits {
    connections: SURFACE_CONNECTIONS,
    requests: 32,
    header_timeout: Duration::from_secs(10),
    // A renewal has its own, shorter bound, and an answer of its own then.
    request_timeout: RENEW_WAIT.saturating_add(Duration::from_secs(5)),
};
/// On every response: it is the program's own, is not stored, and no web page can read it.
const FIELDS: [(HeaderName, &str); 4] = [
    (HeaderName::from_static(CONTROL), CONTROL_VALUE),
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
/// How long the page waits for what a frame may turn to.
const METADATA_WAIT: Duration = Duration::from_secs(2);
/// Of a pool only so many names are told.
const MAX_NAMES: usize = 20;
const PATHS: &str = "There are GET /status and /tokens/{name}/login, and POST /reload, /tokens/{name}/renew, \
    /tokens/{name}/login, /tokens/{name}/logout and /tokens/{name}/access_token.";

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use futures_util::FutureExt as _;
    use futures_util::future::{BoxFuture, pending, ready};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::super::client::{Client, ClientError};
    use super::*;
    use crate::lifecycle::DrainTrigger;
    use crate::net::local_address::LocalAddress;
    use crate::net::local_client::send;
    use crate::oauth::{Lifetime, TokenResponse, TransportFault};
    use crate::secret::{Secret, SecretError, SecretSource};
    use crate::token::Error;
    use crate::token::{
        Attachment, Fetched, Origin, Policy, Renewer, RenewerHandle, Source, StoreError, TokenSettings,
    };

    const SOON: Duration = Duration::from_secs(5);

    /// Gives these outcomes, one a call, and then never answers.
    struct Scripted(Mutex<VecDeque<Result<TokenResponse, Error>>>);

    impl Source for Scripted {
        fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
            let next = self.0.lock().unwrap().pop_front();
            next.map_or_else(|| pending().boxed(), |outcome| ready(outcome.map(Fetched::from)).boxed())
        }
    }

    fn token(value: &str) -> TokenResponse {
        TokenResponse {
            scope: Some(vec!["read".to_owned(), "write".to_owned()]),
            ..TokenResponse::bearer(
                Secret::new(value.to_owned()),
                Lifetime::ExpiresIn(Duration::from_hours(1)),
            )
        }
    }

    fn token_settings(scheme: &str) -> TokenSettings {
        TokenSettings {
            origin: Origin::Static(SecretSource::Env("NOT_READ".into())),
            attachment: Attachment { header: http::header::AUTHORIZATION, scheme: scheme.to_owned() },
            policy: Policy::default(),
            required: true,
            revoke_on_exit: false,
        }
    }

    struct Program {
        address: SocketAddr,
        client: Client,
        registry: TokenRegistry,
        facts: watch::Sender<Arc<Facts>>,
        alarm: StoreAlarm,
        _renewer: RenewerHandle,
        _drain: DrainTrigger,
        _task: JoinSet<()>,
    }

    /// A program with one token `api`, whose first outcomes are these.
    async fn program(
        scheme: &str,
        outcomes: impl IntoIterator<Item = Result<TokenResponse, Error>>,
    ) -> Program {
        let (trigger, drain) = DrainTrigger::new();
        let renewer = Renewer::spawn(crate::token::Limits::default(), drain, &Metrics::new());
        let source = Scripted(Mutex::new(outcomes.into_iter().collect()));
        let handle = renewer.add("api", token_settings(scheme), source);
        let registry = TokenRegistry::default();
        registry.replace(BTreeMap::from([("api".to_owned(), handle)]));
        let route = Route {
            path: "/".into(),
            host: None,
            methods: Vec::new(),
            upstream: "api".into(),
            token: Some("api".into()),
        };
        let listen = LocalAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let (listener, bound) = LocalListener::bind(&listen, 0o600).await.unwrap();
        let LocalAddress::Tcp(address) = bound else { panic!("{bound}") };
        let settings =
            ControlSettings { listen: Some(bound.clone()), both_loopbacks: false, unix_mode: 0o600 };
        let (facts, watched) = watch::channel(Arc::new(Facts {
            store: "memory".to_owned(),
            config_file: Some("config.toml".into()),
            listeners: vec![Listener { name: "control".into(), address: address.to_string() }],
            routes: vec![route],
            access: Access::default(),
            draining: false,
            last_reload: None,
        }));
        let alarm = StoreAlarm::new(&Metrics::new());
        let (reloads, _) = reload::reload_requests();
        let state =
            ControlState::new(settings, registry.clone(), watched, reloads, alarm.clone(), Metrics::new());
        let mut task = JoinSet::new();
        task.spawn(serve(listener, state));
        let client = Client::new(Some(bound));
        Program { address, client, registry, facts, alarm, _renewer: renewer, _drain: trigger, _task: task }
    }

    /// A program whose token `api` has had its first outcome.
    async fn settled(outcomes: impl IntoIterator<Item = Result<TokenResponse, Error>>) -> Program {
        let program = program("Bearer", outcomes).await;
        let handle = Arc::clone(&program.registry.load())["api"].clone();
        while handle.load().attempts() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        program
    }

    fn refusal(error: ClientError) -> (u16, String, Option<Duration>) {
        match error {
            ClientError::Refused { status, detail, retry_after, .. } => {
                (status.as_u16(), detail, retry_after)
            }
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn the_status_says_how_each_token_stands_and_what_the_program_is() {
        let program = settled([Ok(token("sentinel-token"))]).await;
        let status = program.client.status().await.unwrap();
        assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
        assert_eq!((status.config_file.as_deref(), status.routes.len()), (Some("config.toml"), 1));
        let [api] = status.tokens.as_slice() else { panic!("{status:?}") };
        assert_eq!(
            (api.status.as_str(), api.generation, api.renewals, api.failures),
            ("valid", Some(1), 1, 0)
        );
        assert_eq!(api.scope.as_deref(), Some("read write"));
        let left = api.expires_in_seconds.unwrap();
        assert!((3590..=3600).contains(&left), "{left}");
        assert!(api.expires_at.unwrap().abs_diff(crate::clock::unix_seconds() + 3600) <= 10);
        assert!(api.next_attempt_in_seconds.unwrap() < left);
        program.facts.send_replace(Arc::default());
        assert!(program.client.status().await.unwrap().routes.is_empty(), "a reload shows at once");
    }

    #[tokio::test]
    async fn a_store_that_fails_is_in_the_status_with_its_cause_until_it_works_again() {
        let program = settled([Ok(token("one"))]).await;
        assert_eq!(program.client.status().await.unwrap().store_degraded, []);
        program.alarm.raise("api", &StoreError::Slow("/store".into()));
        let status = program.client.status().await.unwrap();
        let [fault] = status.store_degraded.as_slice() else { panic!("{status:?}") };
        assert_eq!(fault.token, "api");
        assert!(fault.message.contains("/store did not answer"), "{}", fault.message);
        assert!(fault.since.abs_diff(crate::clock::unix_seconds()) <= 10, "{}", fault.since);
        program.alarm.clear("api");
        assert_eq!(program.client.status().await.unwrap().store_degraded, []);
    }

    #[tokio::test]
    async fn a_renewal_answers_with_the_new_state() {
        let program = settled([Ok(token("one")), Ok(token("two"))]).await;
        let renewed = program.client.renew("api").await.unwrap();
        assert_eq!((renewed.generation, renewed.renewals), (Some(2), 2));
        assert_eq!(program.client.access_token("api").await.unwrap().expose(), "two");
    }

    #[tokio::test]
    async fn a_renewal_that_fails_says_why_and_keeps_the_token() {
        let missing = Error::from(SecretError::Missing("/gone".into()));
        let held = Error::from(TransportFault::Reset).after(Some(Duration::from_secs(30)));
        let program = settled([Ok(token("one")), Err(missing), Err(held)]).await;
        let (status, detail, _) = refusal(program.client.renew("api").await.unwrap_err());
        assert!(status == 409 && detail.contains("/gone"), "{status} {detail}");
        let (status, _, _) = refusal(program.client.renew("api").await.unwrap_err());
        assert_eq!(status, 503);
        let (status, _, retry_after) = refusal(program.client.renew("api").await.unwrap_err());
        let retry_after = retry_after.expect("the server's wish is passed on").as_secs();
        assert!(status == 503 && (25..=30).contains(&retry_after), "{status} {retry_after}");
        let api = program.client.status().await.unwrap().tokens.remove(0);
        let failure = api.last_error.unwrap();
        assert_eq!(
            (api.status.as_str(), failure.cause.as_str(), failure.consecutive_failures),
            ("degraded", "reset", 1),
            "a secret that cannot be read is no failed request"
        );
        assert_eq!(program.client.access_token("api").await.unwrap().expose(), "one");
    }

    #[tokio::test]
    async fn a_token_leaves_by_one_path_alone_and_is_shown_nowhere_else() {
        let program = settled([Ok(token("sentinel-token")), Err(Error::from(TransportFault::Reset))]).await;
        program.client.renew("api").await.unwrap_err();
        let request = Request::get("/status").body(Full::default()).unwrap();
        let status = send(program.address, request, SOON).await.unwrap();
        assert_eq!(status.headers()[CACHE_CONTROL], "no-store");
        let status = String::from_utf8(status.body().to_vec()).unwrap();
        assert!(!status.contains("sentinel"), "{status}");
        let request = Request::post("/tokens/api/access_token").header(CONTROL, CONTROL_VALUE);
        let token = send(program.address, request.body(Full::default()).unwrap(), SOON).await.unwrap();
        assert_eq!(token.headers()[CACHE_CONTROL], "no-store");
        let token: serde_json::Value = serde_json::from_slice(token.body()).unwrap();
        assert_eq!(
            (token["access_token"].as_str(), token["token_type"].as_str()),
            (Some("sentinel-token"), Some("Bearer"))
        );
    }

    #[tokio::test]
    async fn a_bare_token_is_handed_out_whole_and_a_missing_one_is_not() {
        let bare = program("", [Ok(token("bare"))]).await;
        while bare.registry.load()["api"].load().attempts() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(bare.client.access_token("api").await.unwrap().expose(), "bare");
        let none = settled([Err(Error::from(TransportFault::Dns))]).await;
        let (status, detail, _) = refusal(none.client.access_token("api").await.unwrap_err());
        assert!(status == 503 && detail.contains("pending"), "{detail}");
    }

    #[tokio::test]
    async fn an_unknown_token_is_answered_with_the_known_ones() {
        let program = settled([Ok(token("one"))]).await;
        for error in [
            program.client.renew("other").await.unwrap_err(),
            program.client.access_token("a/b").await.unwrap_err(),
        ] {
            let (status, detail, _) = refusal(error);
            assert!(status == 404 && detail.ends_with("Configured: api."), "{detail}");
        }
    }

    /// Method, path, Host, more fields, and the status to come.
    type Attempt<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], u16);

    #[tokio::test]
    async fn a_web_page_gets_nothing_whatever_it_tries() {
        let program = settled([Ok(token("sentinel-token"))]).await;
        let local = program.address.to_string();
        let path = "/tokens/api/access_token";
        let upgrade: &[(&str, &str)] =
            &[("connection", "close, upgrade"), ("upgrade", "websocket"), ("origin", "http://localhost")];
        let attempts: [Attempt<'_>; 8] = [
            ("POST", path, "evil.example:9902", &[(CONTROL, "1")], 421),
            ("POST", path, &local, &[(CONTROL, "1"), ("origin", "http://localhost.attacker.com")], 403),
            ("POST", path, "evil.example", &[(CONTROL, "1"), ("origin", "http://evil.example")], 421),
            ("POST", path, &local, &[(CONTROL, "1"), ("sec-fetch-site", "cross-site")], 403),
            ("POST", path, &local, &[("content-type", "text/plain")], 403),
            (
                "OPTIONS",
                path,
                &local,
                &[("origin", "http://a"), ("access-control-request-method", "POST")],
                403,
            ),
            ("GET", path, &local, upgrade, 403),
            ("GET", "/status", "evil.example:9902", &[], 421),
        ];
        for (method, path, host, fields, expected) in attempts {
            let answer = raw(program.address, method, path, host, fields).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{method} {fields:?}: {answer}");
            assert!(!answer.contains("access-control-") && !answer.contains("sentinel"), "{answer}");
        }
        let served = raw(program.address, "POST", path, "localhost:1", &[(CONTROL, "1")]).await;
        assert!(served.contains("sentinel-token"), "the same without the page's traces is served");
    }

    #[tokio::test]
    async fn a_restriction_of_the_proxy_counts_here_from_the_next_request_on() {
        let program = settled([Ok(token("sentinel-token"))]).await;
        program.client.access_token("api").await.unwrap();
        let restricted = Access { restricted_by: vec!["guard.shared_secret"], ..Access::default() };
        program.facts.send_replace(Arc::new(Facts { access: restricted, ..Facts::default() }));
        for path in [
            "reload",
            "tokens/api/access_token",
            "tokens/api/renew",
            "tokens/api/logout",
            "tokens/api/login",
            "tokens/api/login/cancel",
            "tokens/api/login/callback",
            "tokens/api/silent",
            "silent",
        ] {
            let request = Request::post(format!("/{path}")).header(CONTROL, CONTROL_VALUE);
            let answer = send(program.address, request.body(Full::default()).unwrap(), SOON).await.unwrap();
            let problem: Problem = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!((problem.status, problem.title.as_str()), (403, "Read-only"), "{path}");
            assert!(problem.detail.contains("guard.shared_secret") && problem.detail.contains("unix:"));
        }
        for path in ["/silent?state=x&code=y", "/tokens/api/login"] {
            let request = Request::get(path).body(Full::default()).unwrap();
            assert_eq!(send(program.address, request, SOON).await.unwrap().status(), 403, "{path}");
        }
        let status = program.client.status().await.unwrap();
        assert_eq!((status.tokens[0].status.as_str(), status.tokens[0].renewals), ("valid", 1));
        assert!(status.read_only.is_some_and(|why| why.contains("guard.shared_secret")));
        program.facts.send_replace(Arc::default());
        assert_eq!(program.client.status().await.unwrap().read_only, None);
        program.client.access_token("api").await.unwrap();
    }

    async fn raw(
        address: SocketAddr,
        method: &str,
        path: &str,
        host: &str,
        fields: &[(&str, &str)],
    ) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let upgrades = fields.iter().any(|(name, _)| *name == "connection");
        let close = if upgrades { None } else { Some(("connection", "close")) };
        let fields: Vec<_> =
            fields.iter().copied().chain(close).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n{}\r\n",
            fields.concat()
        );
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_problems_in_json() {
        let program = settled([Ok(token("one"))]).await;
        let get = Request::get("/tokens/api/renew").body(Full::default()).unwrap();
        let other = send(program.address, get, SOON).await.unwrap();
        assert_eq!((other.status().as_u16(), other.headers()["allow"].as_bytes()), (405, &b"POST"[..]));
        let unknown = Request::get("/nothing").body(Full::default()).unwrap();
        let unknown = send(program.address, unknown, SOON).await.unwrap();
        assert_eq!(unknown.headers()[CONTENT_TYPE], "application/problem+json");
        let problem: Problem = serde_json::from_slice(unknown.body()).unwrap();
        assert_eq!((problem.status, problem.detail.as_str()), (404, PATHS));
    }

    #[tokio::test]
    async fn the_client_tells_nobody_a_stranger_and_a_refusal_apart() {
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        assert!(matches!(Client::new(Some(gone.into())).status().await, Err(ClientError::NotRunning { .. })));
        let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(Some(stranger.local_addr().unwrap().into()));
        let mut task = JoinSet::new();
        let hello = |_| async { Response::new(Full::from("hello")) };
        task.spawn(serve::short_requests(stranger, LIMITS, Evictions::logged("test"), hello));
        assert!(matches!(client.status().await, Err(ClientError::NotCupbearer { .. })));
    }
}
