//! The command line's side of the control surface: a question per connection to a running proxy.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::guard::{CONTROL, CONTROL_VALUE};
use super::login::{Login, LoginCallback, LoginRequest};
use super::problem::Problem;
use super::routes;
use super::status::{AccessToken, LoggedOut, Reloaded, Status, Token};
use crate::net::local_address::LocalAddress;
use crate::net::local_client::{LocalClientError, send};
use crate::secret::Secret;
use crate::token::RENEW_WAIT;

/// Talks to the proxy whose control listener has this address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// `None`: it has no control listener.
    address: Option<LocalAddress>,
}

/// Why the running proxy did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nothing listens there: no proxy runs, or it has another control address.
    #[error("no cupbearer runs with its control listener on {address}")]
    NotRunning {
        /// Whom we asked.
        address: LocalAddress,
    },
    /// The mode of its Unix socket, or of a folder above it, keeps this user out.
    #[error(
        "this user may not connect to {address}: see `unix_mode` in [control], and the mode of its folder"
    )]
    NotAllowed {
        /// Whom we asked.
        address: LocalAddress,
    },
    /// The configuration has no control listener: a proxy that runs by it cannot be reached.
    #[error("the configuration has no control surface: `listen` in [control] is \"none\"")]
    NoSurface,
    /// What listens under that name is not this user's.
    #[error(transparent)]
    Foreign(LocalClientError),
    /// Something answers there, and it is not a cupbearer of this kind.
    #[error("what answers on {address} is not cupbearer's control listener")]
    NotCupbearer {
        /// Whom we asked.
        address: LocalAddress,
    },
    /// It took the question and gave no answer in time.
    #[error("cupbearer on {address} did not answer within {} s", .within.as_secs())]
    TimedOut {
        /// Whom we asked.
        address: LocalAddress,
        /// The bound.
        within: Duration,
    },
    /// It said no, and why.
    #[error("{title}: {detail}")]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// What kind of thing went wrong.
        title: String,
        /// What went wrong, and how to fix it.
        detail: String,
        /// When to ask again, where it said so.
        retry_after: Option<Duration>,
    },
}

impl ClientError {
    /// Whether there is no control surface to talk to: no proxy runs, or its configuration has none.
    #[must_use]
    pub(crate) const fn is_absent(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::NoSurface)
    }
}

impl Client {
    /// A client of the proxy on `address`, `None` of one without a control listener; nothing is sent yet.
    #[must_use]
    pub(crate) const fn new(address: Option<LocalAddress>) -> Self {
        Self { address }
    }

    /// The whole program at a glance.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(crate) async fn status(&self) -> Result<Status, ClientError> {
        self.question(Request::get(routes::STATUS), ANSWER_TIMEOUT).await
    }

    /// Has the configuration read again, and waits for the verdict.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` where the configuration was.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.question(Request::post(routes::RELOAD), RELOAD_WAIT).await
    }

    /// Renews `token` now and says how it stands then.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` where the renewal failed, or is held back.
    pub(crate) async fn renew(&self, token: &str) -> Result<Token, ClientError> {
        self.question(Request::post(routes::renew(token)), RENEW_WAIT + 2 * ANSWER_TIMEOUT).await
    }

    /// Gives `token` back and forgets it; says how it stands then.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` where the authorization server was not told, and then it is forgotten all the same.
    pub(crate) async fn logout(&self, token: &str) -> Result<LoggedOut, ClientError> {
        self.question(Request::post(routes::logout(token)), RENEW_WAIT + 2 * ANSWER_TIMEOUT).await
    }

    /// Begins a login of `token` and says what the person is to do.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` where there is no such way to log in.
    pub(crate) async fn login(&self, token: &str, flow: Option<&str>) -> Result<Login, ClientError> {
        let body = LoginRequest { flow: flow.map(str::to_owned), browser: None };
        self.question_with(Request::post(routes::login(token)), &body, RENEW_WAIT + 2 * ANSWER_TIMEOUT).await
    }

    /// How the last login of `token` stands.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(crate) async fn login_progress(&self, token: &str) -> Result<Login, ClientError> {
        self.question(Request::get(routes::login(token)), ANSWER_TIMEOUT).await
    }

    /// Calls the login of `token` off.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` where none is under way.
    pub(crate) async fn cancel_login(&self, token: &str) -> Result<Login, ClientError> {
        self.question(Request::post(routes::login_cancel(token)), ANSWER_TIMEOUT).await
    }

    /// Brings the address that a browser on another machine ended at.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` where no login waits for one.
    pub(crate) async fn finish_login(&self, token: &str, url: &str) -> Result<Login, ClientError> {
        let body = LoginCallback { url: url.to_owned() };
        self.question_with(Request::post(routes::login_callback(token)), &body, ANSWER_TIMEOUT).await
    }

    /// The access token itself, without its scheme.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` where none is held that counts.
    pub(crate) async fn access_token(&self, token: &str) -> Result<Secret<String>, ClientError> {
        let answer: AccessToken =
            self.question(Request::post(routes::access_token(token)), ANSWER_TIMEOUT).await?;
        Ok(Secret::new(answer.access_token))
    }

    async fn question<T: DeserializeOwned>(
        &self,
        request: http::request::Builder,
        within: Duration,
    ) -> Result<T, ClientError> {
        self.send(request, Bytes::new(), within).await
    }

    async fn question_with<T: DeserializeOwned>(
        &self,
        request: http::request::Builder,
        body: &impl Serialize,
        within: Duration,
    ) -> Result<T, ClientError> {
        let request = request.header(CONTENT_TYPE, "application/json");
        // Plain structs of text: they always serialise.
        self.send(request, serde_json::to_vec(body).unwrap_or_default().into(), within).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: http::request::Builder,
        body: Bytes,
        within: Duration,
    ) -> Result<T, ClientError> {
        let Some(address) = &self.address else { return Err(ClientError::NoSurface) };
        let not_cupbearer = || ClientError::NotCupbearer { address: address.clone() };
        let request =
            request.header(CONTROL, CONTROL_VALUE).body(Full::new(body)).map_err(|_| not_cupbearer())?;
        let response = send(address, request, within).await.map_err(|error| match error {
            LocalClientError::Unreachable { address, kind: ErrorKind::PermissionDenied } => {
                ClientError::NotAllowed { address }
            }
            LocalClientError::Unreachable { address, .. } => ClientError::NotRunning { address },
            LocalClientError::TimedOut { address, within } => ClientError::TimedOut { address, within },
            LocalClientError::NotHttp { .. } | LocalClientError::TooLarge { .. } => not_cupbearer(),
            error @ LocalClientError::Foreign { .. } => ClientError::Foreign(error),
        })?;
        if response.headers().get(CONTROL).is_none_or(|value| value != CONTROL_VALUE) {
            return Err(not_cupbearer());
        }
        if response.status() != StatusCode::OK {
            return Err(refused(&response));
        }
        serde_json::from_slice(response.body()).map_err(|_| not_cupbearer())
    }
}

fn refused(response: &Response<Bytes>) -> ClientError {
    let problem = serde_json::from_slice(response.body()).unwrap_or_else(|_| {
        Problem::new(response.status(), "Refused", "Cupbearer refused and did not say why.")
    });
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    ClientError::Refused {
        status: response.status(),
        title: problem.title,
        detail: problem.detail,
        retry_after: retry_after.map(Duration::from_secs),
    }
}

/// For a reload: it reads files, and a file system may be slow.
const RELOAD_WAIT: Duration = RENEW_WAIT.saturating_add(ANSWER_TIMEOUT);
/// For an answer that needs no token request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
