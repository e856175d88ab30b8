//! One connection of the authorization server: it can end in ways that HTTP has no words for.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::answer::{self, Body};
use super::behaviour::Behaviour;
use super::state::State;
use super::{levers, token_endpoint};
use crate::clock;

/// What ends a connection instead of an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Abrupt {
    #[error("bytes that are no answer")]
    Raw(Bytes),
    #[error("reset")]
    Reset,
    #[error("closed")]
    Close,
}

/// Makes of a normal answer what `behaviour` says.
pub(super) async fn misbehave(
    behaviour: Behaviour,
    normal: impl FnOnce() -> Response<Body>,
) -> Result<Response<Body>, Abrupt> {
    match behaviour {
        Behaviour::Normal => Ok(normal()),
        Behaviour::Delay(delay) => {
            tokio::time::sleep(delay).await;
            Ok(normal())
        }
        Behaviour::Stall => {
            tokio::time::sleep(MAX_STALL).await;
            Err(Abrupt::Close)
        }
        Behaviour::Answer(scripted) => {
            let mut response = Response::new(answer::full(scripted.body));
            *response.status_mut() = scripted.status;
            *response.headers_mut() = scripted.headers;
            Ok(response)
        }
        Behaviour::Raw(bytes) => Err(Abrupt::Raw(bytes)),
        Behaviour::Huge(bytes) => Ok(answer::filler(bytes)),
        Behaviour::Drip(every) => Ok(answer::drip(every)),
        Behaviour::Reset => Err(Abrupt::Reset),
        Behaviour::Close => Err(Abrupt::Close),
        Behaviour::Redirect(place) => {
            let mut response = answer::text(StatusCode::FOUND, "elsewhere\n");
            if let Ok(place) = HeaderValue::from_str(&place) {
                response.headers_mut().insert(LOCATION, place);
            }
            Ok(response)
        }
    }
}

async fn route(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Abrupt> {
    let path = request.uri().path();
    if path.strip_prefix(state.options.path.as_str()) == Some("/token") {
        return token_endpoint::answer(&state, request).await;
    }
    if state.publishes(path) {
        state.metadata_asked();
        if request.method() != Method::GET {
            return Ok(answer::text(StatusCode::METHOD_NOT_ALLOWED, "metadata are read with GET\n"));
        }
        let behaviour = state.metadata_script.take(clock::now());
        return misbehave(behaviour, || state.metadata()).await;
    }
    Ok(levers::answer(&state, &request))
}

/// One connection. It ends with its peer, or when the server is dropped.
pub(super) async fn serve(state: Arc<State>, stream: TcpStream) {
    let service = service_fn(move |request| Box::pin(route(Arc::clone(&state), request)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let ended = future::poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let Err(error) = ended else { return };
    let abrupt = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Abrupt>());
    let mut stream = connection.into_parts().io.into_inner();
    match abrupt {
        Some(Abrupt::Raw(bytes)) => {
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
        }
        // Dropping the stream then sends RST.
        Some(Abrupt::Reset) => drop(stream.set_zero_linger()),
        Some(Abrupt::Close) | None => {}
    }
}

/// From a connection's start, or the end of the last request, to the end of the next head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// No client waits longer; the connection then ends without a response.
const MAX_STALL: Duration = Duration::from_mins(10);
