//! What the protected API answers to a request whose token counts.
//!
//! `/echo`, `/headers`, `/slow?ms=`, `/status/{code}`, `/bytes/{n}` and `/trailers` are for tests of what
//! stands in between; every other path says who called.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE, TRAILER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::json;

use super::answer::{self, Body};
use super::tokens::TokenFacts;
use crate::clock;

pub(super) async fn answer(request: Request<Incoming>, token: &TokenFacts, served: u64) -> Response<Body> {
    let path = request.uri().path();
    if let Some(code) = path.strip_prefix("/status/") {
        return status(code);
    }
    if let Some(bytes) = path.strip_prefix("/bytes/") {
        return bytes.parse().map_or_else(|_| wrong("/bytes/ takes a number of bytes"), answer::filler);
    }
    match path {
        "/echo" => echo(request),
        "/headers" => answer::json(StatusCode::OK, &headers(request.headers(), token)),
        "/slow" => {
            let Some(delay) = delay(request.uri().query().unwrap_or_default()) else {
                return wrong("/slow takes ms=, up to 600000");
            };
            tokio::time::sleep(delay).await;
            caller(&request, token, served)
        }
        "/trailers" => trailers(),
        _ => caller(&request, token, served),
    }
}

/// Who called, and with which token's expiry.
fn caller(request: &Request<Incoming>, token: &TokenFacts, served: u64) -> Response<Body> {
    let left = token.expires_at.saturating_duration_since(clock::now());
    let mut body = json!({
        "caller": token.client,
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "token": {
            "id": token.id,
            "expires_at": token.expires_at_unix,
            "expires_in": (left.as_secs_f64() * 10.0).round() / 10.0,
            "scope": token.scope,
            "audience": token.audience,
        },
        "served": served,
    });
    if let Some(token) = body["token"].as_object_mut() {
        token.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    }
    answer::response(StatusCode::OK, "application/json", format!("{body}\n"))
}

/// Sends the body back as it comes, its trailers included, with its type.
fn echo(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body.boxed_unsync());
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    if let Some(trailer) = head.headers.get(TRAILER) {
        response.headers_mut().insert(TRAILER, trailer.clone());
    }
    response
}

/// The fields in their order, as pairs; of Authorization the scheme and the token's id alone.
fn headers(headers: &HeaderMap, token: &TokenFacts) -> serde_json::Value {
    let fields: Vec<_> = headers
        .iter()
        .map(|(name, value)| {
            if name == AUTHORIZATION {
                [name.to_string(), format!("Bearer (token {})", token.id)]
            } else {
                [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()]
            }
        })
        .collect();
    json!({ "headers": fields })
}

fn status(code: &str) -> Response<Body> {
    let code = code.parse::<u16>().ok().filter(|code| (200..=599).contains(code));
    let Some(status) = code.and_then(|code| StatusCode::from_u16(code).ok()) else {
        return wrong("/status/ takes a code from 200 to 599");
    };
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let mut response = Response::new(answer::full(Bytes::new()));
        *response.status_mut() = status;
        return response;
    }
    answer::text(status, format!("{status}\n"))
}

fn delay(query: &str) -> Option<Duration> {
    let (name, value) = url::form_urlencoded::parse(query.as_bytes()).next()?;
    let delay = Duration::from_millis(value.parse().ok()?);
    (name == "ms" && delay <= MAX_DELAY).then_some(delay)
}

/// A body in two pieces, and a trailer after it.
fn trailers() -> Response<Body> {
    let mut fields = HeaderMap::new();
    fields.insert(DEMO_TRAILER, HeaderValue::from_static("after the body"));
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"two "))),
        Ok(Frame::data(Bytes::from_static(b"pieces\n"))),
        Ok(Frame::trailers(fields)),
    ];
    let mut response = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
    response.headers_mut().insert(TRAILER, HeaderValue::from_static(DEMO_TRAILER));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn wrong(sentence: &str) -> Response<Body> {
    answer::text(StatusCode::BAD_REQUEST, format!("{sentence}\n"))
}

/// The longest that `/slow` waits.
const MAX_DELAY: Duration = Duration::from_mins(10);
/// The field that comes after the body of `/trailers`.
const DEMO_TRAILER: &str = "x-demo-trailer";
