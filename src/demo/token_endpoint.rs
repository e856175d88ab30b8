//! The token endpoint: client credentials (RFC 6749 section 4.4), with scope, audience and resource (RFC 8707)
//! taken into the token.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio::time::Instant;

use super::answer::{self, Body};
use super::behaviour::Behaviour;
use super::client_auth::{self, AuthMethod, Presented, Unreadable};
use super::connection::{Abrupt, misbehave};
use super::event::Event;
use super::state::State;
use super::tokens::Order;
use crate::clock;
use crate::secret::Secret;

/// A request as the token endpoint saw it.
#[derive(Clone, Debug)]
pub(crate) struct SeenRequest {
    /// When its body had been read.
    pub at: Instant,
    /// The query component of the endpoint's URL.
    pub query: Option<String>,
    /// The form, decoded, in its order, without `client_secret`.
    pub form: Vec<(String, String)>,
    /// Who asked; `None` where that could not be read.
    pub client: Option<String>,
    /// The secret as it was understood; `None` where there was none.
    pub secret: Option<Secret<String>>,
    /// How the client authenticated; `None` where it did not.
    pub method: Option<AuthMethod>,
    /// The fields, the credentials left out.
    pub headers: HeaderMap,
}

impl SeenRequest {
    /// The first value of a form parameter.
    #[must_use]
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why a token is refused: an `error` of RFC 6749 section 5.2 and what to tell the person who reads it.
struct Refusal {
    error: &'static str,
    description: &'static str,
}

pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Result<Response<Body>, Abrupt> {
    if request.method() != Method::POST {
        let mut response = answer::text(StatusCode::METHOD_NOT_ALLOWED, "tokens are asked for with POST\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Ok(response);
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_FORM_BYTES).collect().await else {
        return Ok(answer::text(StatusCode::PAYLOAD_TOO_LARGE, "the form is too large, or broke off\n"));
    };
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&body.to_bytes())
        .map(|(k, v)| (k.into_owned(), v.into_owned()))
        .collect();
    let presented = client_auth::presented(&head.headers, &form);
    state.record(recorded(&head, &form, presented.as_ref().ok()));

    let behaviour = state.token_script.take(clock::now());
    if behaviour != Behaviour::Normal {
        state.tokens().tell(Event::Misbehaved { how: behaviour.name(), status: behaviour.answers_with() });
    }
    misbehave(behaviour, || match judge(state, &head.headers, &form, presented.as_ref()) {
        Ok(order) => granted(state, order),
        Err(refusal) => refused(state, &refusal, presented.as_ref().ok()),
    })
    .await
}

fn recorded(
    head: &http::request::Parts,
    form: &[(String, String)],
    presented: Option<&Presented>,
) -> SeenRequest {
    let mut headers = head.headers.clone();
    headers.remove(http::header::AUTHORIZATION);
    SeenRequest {
        at: clock::now(),
        query: head.uri.query().map(str::to_owned),
        form: form.iter().filter(|(key, _)| key != "client_secret").cloned().collect(),
        client: presented.map(|presented| presented.id.clone()),
        secret: presented.map(|presented| presented.secret.clone()),
        method: presented.map(|presented| presented.method),
        headers,
    }
}

/// Whether there is a token in it, and which.
fn judge(
    state: &State,
    headers: &HeaderMap,
    form: &[(String, String)],
    presented: Result<&Presented, &Unreadable>,
) -> Result<Order, Refusal> {
    let refuse = |error, description| Err(Refusal { error, description });
    let is_form = headers.get(CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded")
    });
    if !is_form {
        return refuse("invalid_request", "the body must be application/x-www-form-urlencoded");
    }
    let all = |name: &'static str| {
        form.iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    };
    let presented = match presented {
        Ok(presented) => presented,
        Err(Unreadable::Absent) => return refuse("invalid_client", "no client authentication"),
        Err(Unreadable::Twice) => {
            return refuse("invalid_request", "two ways of client authentication at once");
        }
        Err(Unreadable::Malformed) => {
            return refuse("invalid_request", "the Basic credentials are not two form-encoded halves");
        }
    };
    // RFC 6749 section 3.2: no parameter twice; RFC 8707 and RFC 8693 except these two.
    let repeated = |key: &str| form.iter().filter(|(other, _)| other == key).count() > 1;
    if form.iter().any(|(key, _)| !matches!(key.as_str(), "resource" | "audience") && repeated(key)) {
        return refuse("invalid_request", "a parameter is there twice");
    }
    if all("client_id").any(|id| id != presented.id) {
        return refuse("invalid_request", "client_id is another than the authenticated one");
    }
    if !state.options.clients.know(presented) {
        return refuse("invalid_client", "unknown client, or a wrong secret");
    }
    match all("grant_type").next() {
        Some("client_credentials") => {}
        Some(_) => return refuse("unsupported_grant_type", "only client_credentials is known here"),
        None => return refuse("invalid_request", "grant_type is missing"),
    }
    Ok(Order {
        issuer: state.issuer.clone(),
        client: presented.id.clone(),
        scope: all("scope").next().map(str::to_owned),
        audience: all("audience").chain(all("resource")).map(str::to_owned).collect(),
        lifetime: state.options.lifetime,
        format: state.options.format,
    })
}

fn granted(state: &State, order: Order) -> Response<Body> {
    let issued = state.tokens().issue(order);
    let mut body = json!({
        "access_token": issued.token.expose(),
        "token_type": "Bearer",
        "expires_in": state.options.lifetime.as_secs(),
    });
    if let Some(scope) = &issued.facts.scope {
        body["scope"] = json!(scope);
    }
    unstored(answer::json(StatusCode::OK, &body))
}

fn refused(state: &State, refusal: &Refusal, presented: Option<&Presented>) -> Response<Body> {
    let status = match refusal.error {
        "invalid_client" => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_REQUEST,
    };
    state.tokens().tell(Event::Refused {
        client: presented.map(|presented| presented.id.clone()),
        error: refusal.error,
        status,
    });
    let body = json!({ "error": refusal.error, "error_description": refusal.description });
    let mut response = unstored(answer::json(status, &body));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"cupbearer demo\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// RFC 6749 section 5.1 asks for both.
fn unstored(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// More than any token request of these grants.
const MAX_FORM_BYTES: usize = 64 * 1024;
