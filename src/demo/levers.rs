//! The levers over HTTP: `POST /demo/...` tells the authorization server to fail, `GET /demo/` lists them.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::answer::{self, Body};
use super::behaviour::Behaviour;
use super::state::State;
use crate::clock;

/// Why a lever could not be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Mistake {
    #[error("{0} is no number that fits here")]
    Number(&'static str),
    #[error("{0} is not known to this lever")]
    Parameter(Parameter),
    #[error("retry_after holds what no header field can")]
    RetryAfter,
}

/// A parameter that the lever does not know: named by its place, as its text is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parameter(usize);

impl std::fmt::Display for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "parameter {}", self.0 + 1)
    }
}

pub(super) fn answer(state: &State, request: &Request<Incoming>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/demo" | "/demo/") => answer::text(StatusCode::OK, list(state)),
        (&Method::POST, path) => match pull(state, path, query) {
            Some(Ok(done)) => answer::text(StatusCode::OK, done + "\n"),
            Some(Err(mistake)) => answer::text(StatusCode::BAD_REQUEST, format!("{mistake}\n")),
            None => unknown(),
        },
        _ => unknown(),
    }
}

/// `None` where there is no such lever.
fn pull(state: &State, path: &str, query: &str) -> Option<Result<String, Mistake>> {
    match path {
        "/demo/fail" => Some(fail(state, query)),
        "/demo/stall" => Some(seconds(query).map(|time| {
            state.token_script.behave_until(Behaviour::Stall, clock::now() + time);
            format!("token requests get no answer for {} s", time.as_secs_f32())
        })),
        "/demo/delay" => Some(seconds(query).map(|time| {
            state.token_script.behave(Behaviour::Delay(time));
            format!("token requests are answered {} s later", time.as_secs_f32())
        })),
        "/demo/revoke" => Some(Ok(format!("{} tokens revoked", state.tokens().revoke_all()))),
        "/demo/heal" => {
            state.heal();
            Some(Ok("back to normal".to_owned()))
        }
        _ => None,
    }
}

fn fail(state: &State, query: &str) -> Result<String, Mistake> {
    let (mut status, mut times, mut error, mut retry_after) =
        (StatusCode::SERVICE_UNAVAILABLE, 1, None, None);
    for (place, (name, value)) in url::form_urlencoded::parse(query.as_bytes()).enumerate() {
        match name.as_ref() {
            "status" => {
                status = value
                    .parse()
                    .ok()
                    .filter(|status: &StatusCode| status.is_client_error() || status.is_server_error())
                    .ok_or(Mistake::Number("status"))?;
            }
            "times" => {
                times = value
                    .parse()
                    .ok()
                    .filter(|times| (1..=MAX_TIMES).contains(times))
                    .ok_or(Mistake::Number("times"))?;
            }
            "error" => error = Some(value.into_owned()),
            "retry_after" => {
                http::HeaderValue::from_str(&value).map_err(|_| Mistake::RetryAfter)?;
                retry_after = Some(value.into_owned());
            }
            _ => return Err(Mistake::Parameter(Parameter(place))),
        }
    }
    let mut behaviour = match error {
        Some(error) => Behaviour::oauth_error(status, &error),
        None => Behaviour::status(status),
    };
    if let (Some(retry_after), Behaviour::Answer(answer)) = (retry_after, &mut behaviour) {
        *answer = answer.clone().with("retry-after", &retry_after);
    }
    state.token_script.push(std::iter::repeat_n(behaviour, times));
    Ok(format!("the next {times} token requests fail with {status}"))
}

fn seconds(query: &str) -> Result<Duration, Mistake> {
    let mut time = DEFAULT_SECONDS;
    for (place, (name, value)) in url::form_urlencoded::parse(query.as_bytes()).enumerate() {
        if name != "seconds" {
            return Err(Mistake::Parameter(Parameter(place)));
        }
        time = value
            .parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|time| *time <= MAX_SECONDS)
            .ok_or(Mistake::Number("seconds"))?;
    }
    Ok(time)
}

fn list(state: &State) -> String {
    let url = state.token_endpoint();
    let root = url.strip_suffix("/token").and_then(|url| url.strip_suffix(state.options.path.as_str()));
    let root = root.unwrap_or_default();
    format!(
        "The demo's authorization server. It can be told to fail:

  curl -X POST '{root}/demo/fail?status=503&times=3'           the next 3 token requests fail
  curl -X POST '{root}/demo/fail?status=429&retry_after=10'    with Retry-After
  curl -X POST '{root}/demo/fail?status=401&error=invalid_client'
  curl -X POST '{root}/demo/stall?seconds=30'                  for 30 s token requests get no answer
  curl -X POST '{root}/demo/delay?seconds=3'                   each answer comes 3 s later
  curl -X POST '{root}/demo/revoke'                            every token that is out is revoked
  curl -X POST '{root}/demo/heal'                              back to normal

Token endpoint: {url}
Metadata:       {root}/.well-known/oauth-authorization-server{path}
",
        path = state.options.path,
    )
}

fn unknown() -> Response<Body> {
    answer::text(StatusCode::NOT_FOUND, "nothing here; GET /demo/ lists what there is\n")
}

/// Where `seconds` is not given.
const DEFAULT_SECONDS: Duration = Duration::from_secs(30);
/// The longest stall or delay.
const MAX_SECONDS: Duration = Duration::from_hours(1);
/// The most failures that one call orders.
const MAX_TIMES: usize = 10_000;
