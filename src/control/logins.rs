//! What the control surface does for people who log in: begin, look, call off, take the last address by hand; and the
//! renewals that the dashboard makes in a hidden frame.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use super::login::{Login, LoginCallback, LoginRequest};
use super::problem::Problem;
use super::server::json;
use crate::clock::BootInstant;
use crate::login::{BeginError, LoginSessions, PasteError, Refusal, SilentError};
use crate::oauth::{Callback, Class};
use crate::token::{Flow, TokenHandle, TokenRegistry};

/// `POST /tokens/{name}/login`.
pub(super) async fn begin(
    login_sessions: &LoginSessions,
    registry: &TokenRegistry,
    token: &TokenHandle,
    asked: LoginRequest,
) -> Outcome {
    let account = token.account().ok_or_else(|| nobody_logs_in(token))?;
    let flow = match asked.flow.as_deref() {
        None => account.settings().flow,
        Some("authorization_code") => Flow::AuthorizationCode,
        Some("device_code") => Flow::DeviceCode,
        Some(_) => {
            let detail = "`flow` is \"authorization_code\" or \"device_code\".";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "Unknown flow", detail));
        }
    };
    match login_sessions
        .begin(account, Some(registry.clone()), flow, asked.browser.filter(|name| is_name(name)))
        .await
    {
        Ok(progress) => Ok(json(&Login::of(&progress.borrow(), BootInstant::now()))),
        Err(error) => {
            let status = match &error {
                BeginError::Server(error) if error.class() == Class::Transient => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                _ => StatusCode::CONFLICT,
            };
            Err(Problem::new(status, "No login begun", error.to_string()))
        }
    }
}

/// `GET /tokens/{name}/login`.
pub(super) fn progress(login_sessions: &LoginSessions, token: &TokenHandle) -> Outcome {
    let progress = login_sessions.progress(token.name()).ok_or_else(|| no_login(token))?;
    Ok(json(&Login::of(&progress, BootInstant::now())))
}

/// `POST /tokens/{name}/login/cancel`.
pub(super) fn cancel(login_sessions: &LoginSessions, token: &TokenHandle) -> Outcome {
    if !login_sessions.cancel(token.name()) {
        return Err(no_login(token));
    }
    progress(login_sessions, token)
}

/// `POST /tokens/{name}/login/callback`: the address that a browser on another machine ended at.
pub(super) async fn paste(
    login_sessions: &LoginSessions,
    token: &TokenHandle,
    pasted: &LoginCallback,
) -> Outcome {
    match login_sessions.paste(token.name(), &pasted.url).await {
        Ok(()) => progress(login_sessions, token),
        Err(PasteError::NoLogin) => Err(no_login(token)),
        Err(error @ PasteError::StateMismatch) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "Not this login", error.to_string()))
        }
        Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, "Not the last address", error.to_string())),
    }
}

/// Where the page's frame is to go for a renewal.
#[derive(Serialize)]
struct Frame {
    authorization_url: String,
    response_mode: &'static str,
    /// Whose message the answer is, where it comes as one.
    origin: String,
}

/// The body of `POST /tokens/{name}/silent`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SilentRequest {
    /// What the page calls the browser that it is open in.
    #[serde(default)]
    browser: String,
}

/// `POST /tokens/{name}/silent`. `headers` say under which address the page was loaded, which is where its frame comes
/// back to; `open`: the browsers in which a page is open.
pub(super) async fn begin_silent(
    login_sessions: &LoginSessions,
    token: &TokenHandle,
    headers: &HeaderMap,
    asked: SilentRequest,
    open: &BTreeSet<String>,
) -> Outcome {
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let Ok(redirect_uri) = Url::parse(&format!("http://{host}{}", super::routes::SILENT)) else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "Not renewed", "The Host is no address."));
    };
    let browser = Some(asked.browser).filter(|name| is_name(name)).unwrap_or_default();
    match login_sessions.begin_silent(token, &redirect_uri, &browser, open).await {
        Ok(start) => Ok(json(&Frame {
            origin: start.url.origin().ascii_serialization(),
            authorization_url: start.url.to_string(),
            response_mode: if start.web_message { "web_message" } else { "query" },
        })),
        Err(error) => Err(silent_problem(&error)),
    }
}

/// `POST /silent`: the answer came to the page, as a message.
pub(super) async fn finish_silent(
    login_sessions: &LoginSessions,
    members: serde_json::Map<String, serde_json::Value>,
    open: BTreeSet<String>,
) -> Outcome {
    let text = members.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
    login_sessions
        .finish_silent(Callback::of(text), open)
        .await
        .map(|refusal| json(&FrameOutcome::of(refusal)))
        .map_err(|error| silent_problem(&error))
}

/// `GET /silent`: the answer came to the frame itself, and the page that holds it reads what came of it.
pub(super) async fn frame(
    login_sessions: &LoginSessions,
    query: &str,
    open: BTreeSet<String>,
) -> Response<Full<Bytes>> {
    let mut response = match login_sessions.finish_silent(Callback::parse(query), open).await {
        Ok(refusal) => json(&FrameOutcome::of(refusal)),
        Err(error) => silent_problem(&error).response(),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'self'"),
    );
    response
}

/// How a renewal in a frame ended. That the server wants a person is a response, too.
#[derive(Serialize)]
struct FrameOutcome {
    renewed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Whether other browsers are still called for.
    page_only: bool,
}

impl FrameOutcome {
    fn of(refusal: Option<Refusal>) -> Self {
        let page_only = refusal.as_ref().is_some_and(|refusal| refusal.page_only);
        Self { renewed: refusal.is_none(), message: refusal.map(|refusal| refusal.message), page_only }
    }
}

/// Whether a page could have made this name of its browser.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Reads a small JSON body; an empty one is `T`'s default.
pub(super) async fn body<T: DeserializeOwned + Default, B: Body>(body: B) -> Result<T, Problem>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let malformed = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "Malformed body", detail);
    let bytes = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let bytes = bytes.map_err(|_| malformed("The body did not come, or is larger than 64 KiB."))?.to_bytes();
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes)
        .map_err(|_| malformed("The body is not the JSON object that belongs here."))
}

/// An answer, or a problem in its place.
pub(super) type Outcome = Result<Response<Full<Bytes>>, Problem>;

fn nobody_logs_in(token: &TokenHandle) -> Problem {
    let detail = format!(
        "This token needs no login: its grant is {}. A login needs grant = \"authorization_code\" or \"device_code\".",
        token.settings().grant()
    );
    Problem::new(StatusCode::CONFLICT, "No login", detail)
}

fn no_login(token: &TokenHandle) -> Problem {
    let detail = format!("No login of {} is under way; begin one: cupbearer login {0}", token.name());
    Problem::new(StatusCode::NOT_FOUND, "No login", detail)
}

fn silent_problem(error: &SilentError) -> Problem {
    let status = match error {
        SilentError::StateMismatch => StatusCode::BAD_REQUEST,
        SilentError::NotInBrowser | SilentError::OtherBrowser => StatusCode::CONFLICT,
        SilentError::Login(_) => StatusCode::BAD_GATEWAY,
    };
    Problem::new(status, "Not renewed", error.to_string())
}

const MAX_BODY_BYTES: usize = 64 * 1024;
