//! A protected API: it demands a token that counts, and says who called and when their token expires.
//!
//! HTTP/1.1 and HTTP/2 in the clear (prior knowledge). It ends when its handle is dropped.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{convert::Infallible, io};

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::answer::{self, Body};
use super::event::Event;
use super::pages;
use super::tokens::{TokenFacts, TokenRefusal, Tokens};
use crate::net::eviction::Evictions;
use crate::net::serve;

/// What the API is like.
#[derive(Clone, Debug)]
pub(crate) struct ApiOptions {
    /// Where it listens; port 0 takes a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
    }
}

/// A running API; dropping it ends it and its connections.
#[derive(Debug)]
pub(crate) struct Api {
    #[cfg(test)]
    state: Arc<State>,
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Api {
    /// Listens where `options` say, and serves requests that have one of `tokens`.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub(crate) async fn start(options: ApiOptions, tokens: Tokens) -> io::Result<Self> {
        Self::serve(TcpListener::bind(options.listen).await?, tokens)
    }

    /// Serves on a listener that is there already.
    ///
    /// # Errors
    /// Where the listener has no address.
    pub(crate) fn serve(listener: TcpListener, tokens: Tokens) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let state = Arc::new(State { tokens, served: AtomicU64::new(0) });
        let mut task = JoinSet::new();
        let shared = Arc::clone(&state);
        task.spawn(serve::connections(
            listener,
            MAX_CONNECTIONS,
            Evictions::logged("demo"),
            std::future::pending(),
            move |stream, place| {
                let served = connection(Arc::clone(&shared), stream);
                async move {
                    // Tests hold connections open on purpose: none gives way.
                    let _at_work = place.work();
                    served.await;
                }
            },
        ));
        Ok(Self {
            #[cfg(test)]
            state,
            address,
            _task: task,
        })
    }

    /// Where it listens.
    #[cfg(test)]
    const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its root, without a slash at the end.
    #[must_use]
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests it has answered, the unauthorized ones left out.
    #[cfg(test)]
    fn served(&self) -> u64 {
        self.state.served.load(Ordering::Relaxed)
    }
}

/// All that its requests share.
#[derive(Debug)]
struct State {
    tokens: Tokens,
    served: AtomicU64,
}

/// What is wrong with a request's credentials (RFC 6750 section 3.1).
enum Unauthorized {
    /// None: the challenge then says no error.
    Absent,
    /// More than one field, or another scheme.
    Malformed,
    /// A token that does not count.
    Refused(TokenRefusal),
}

async fn route(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let authorized = authorize(&state.tokens, request.headers());
    Ok(match authorized {
        Ok(facts) => {
            let served = state.served.fetch_add(1, Ordering::Relaxed) + 1;
            pages::answer(request, &facts, served).await
        }
        Err(unauthorized) => challenge(&state.tokens, &unauthorized),
    })
}

fn authorize(tokens: &Tokens, headers: &HeaderMap) -> Result<Arc<TokenFacts>, Unauthorized> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (field, more) = (fields.next(), fields.next());
    if more.is_some() {
        return Err(Unauthorized::Malformed);
    }
    let field = field.ok_or(Unauthorized::Absent)?.to_str().map_err(|_| Unauthorized::Malformed)?;
    let (scheme, token) = field.split_once(' ').ok_or(Unauthorized::Malformed)?;
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(Unauthorized::Malformed);
    }
    tokens.check(token).map_err(Unauthorized::Refused)
}

fn challenge(tokens: &Tokens, unauthorized: &Unauthorized) -> Response<Body> {
    let (status, error, description, refusal) = match unauthorized {
        Unauthorized::Absent => (StatusCode::UNAUTHORIZED, None, "a token is needed".to_owned(), None),
        Unauthorized::Malformed => {
            let sentence = "exactly one Authorization field of the scheme Bearer is needed";
            (StatusCode::BAD_REQUEST, Some("invalid_request"), sentence.to_owned(), None)
        }
        Unauthorized::Refused(refusal) => {
            (StatusCode::UNAUTHORIZED, Some("invalid_token"), refusal.to_string(), Some(*refusal))
        }
    };
    tokens.tell(Event::Unauthorized { refusal });
    let field = error.map_or_else(
        || "Bearer realm=\"cupbearer demo\"".to_owned(),
        |error| {
            format!("Bearer realm=\"cupbearer demo\", error=\"{error}\", error_description=\"{description}\"")
        },
    );
    let body = json!({ "error": error.unwrap_or("no_token"), "error_description": description });
    let mut response = answer::response(status, "application/json", format!("{body}\n"));
    if let Ok(field) = HeaderValue::from_str(&field) {
        response.headers_mut().insert(WWW_AUTHENTICATE, field);
    }
    response
}

/// One connection. It ends with its peer, or when the API is dropped.
async fn connection(state: Arc<State>, stream: TcpStream) {
    // hyper-util waits for the first bytes without a bound of its own.
    if !matches!(tokio::time::timeout(HEADER_TIMEOUT, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let service = service_fn(move |request| route(Arc::clone(&state), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// Connections at a time; more than any test or demo opens.
const MAX_CONNECTIONS: usize = 4096;
/// HTTP/2 streams at a time on one connection.
const MAX_STREAMS: u32 = 256;
/// From a connection's start, or the end of the last request, to the end of the next head.
const HEADER_TIMEOUT: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::TokioExecutor;
    use serde_json::Value;

    use super::super::tokens::{Format, Issued, Order};
    use super::*;
    use crate::clock;
    use crate::net::local_client::send;
    use http::{Method, Version};

    const SOON: Duration = Duration::from_secs(5);

    async fn start() -> (Api, Issued) {
        let tokens = Tokens::new();
        let order = Order { client: "orders".into(), lifetime: Duration::from_secs(20), ..Order::default() };
        let issued = tokens.issue(order);
        (Api::start(ApiOptions::default(), tokens).await.unwrap(), issued)
    }

    fn request(path: &str, token: &Issued) -> Request<Full<Bytes>> {
        Request::get(path)
            .header(AUTHORIZATION, format!("Bearer {}", token.token.expose()))
            .body(Full::default())
            .unwrap()
    }

    #[tokio::test]
    async fn it_says_who_called_and_when_the_token_expires_but_not_the_token() {
        let (api, token) = start().await;
        let answer = send(api.address(), request("/orders/7?page=2", &token), SOON).await.unwrap();
        let text = String::from_utf8(answer.body().to_vec()).unwrap();
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&body["caller"], &body["path"]), (&json!("orders"), &json!("/orders/7")));
        assert_eq!((&body["token"]["id"], &body["served"]), (&json!(token.facts.id), &json!(1)));
        let left = body["token"]["expires_in"].as_f64().unwrap();
        assert!((15.0..=20.0).contains(&left), "{left}");
        let fields = send(api.address(), request("/headers", &token), SOON).await.unwrap();
        let fields = String::from_utf8(fields.body().to_vec()).unwrap();
        assert!(fields.contains(&format!("Bearer (token {})", token.facts.id)));
        let debug = format!("{api:?}");
        for shown in [text, fields, debug] {
            assert!(!shown.contains(token.token.expose()));
        }
    }

    #[tokio::test]
    async fn without_a_token_that_counts_it_answers_401() {
        let (api, token) = start().await;
        let tokens = api.state.tokens.clone();
        let mut events = tokens.events();
        let bare = Request::get("/").body(Full::default()).unwrap();
        let bare = send(api.address(), bare, SOON).await.unwrap();
        assert_eq!(bare.status().as_u16(), 401);
        assert_eq!(bare.headers()[WWW_AUTHENTICATE], "Bearer realm=\"cupbearer demo\"");
        tokens.revoke_all();
        let short = Order { lifetime: Duration::ZERO, format: Format::Opaque, ..Order::default() };
        for (token, why) in [(token, "revoked"), (tokens.issue(short), "expired")] {
            let answer = send(api.address(), request("/", &token), SOON).await.unwrap();
            let challenge = answer.headers()[WWW_AUTHENTICATE].to_str().unwrap();
            assert_eq!(answer.status().as_u16(), 401);
            assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains(why), "{challenge}");
        }
        assert_eq!(events.recv().await.unwrap(), Event::Unauthorized { refusal: None });
        assert_eq!(api.served(), 0);
    }

    #[tokio::test]
    async fn two_authorization_fields_are_a_bad_request() {
        let (api, token) = start().await;
        let mut twice = request("/", &token);
        twice.headers_mut().append(AUTHORIZATION, HeaderValue::from_static("Bearer other"));
        assert_eq!(send(api.address(), twice, SOON).await.unwrap().status().as_u16(), 400);
    }

    #[tokio::test]
    async fn its_pages_answer_over_http1_and_http2() {
        let (api, token) = start().await;
        let bytes = send(api.address(), request("/bytes/100000", &token), SOON).await.unwrap();
        assert_eq!(bytes.body().len(), 100_000);
        assert_eq!(bytes.headers()["content-length"], "100000");
        let teapot = send(api.address(), request("/status/418", &token), SOON).await.unwrap();
        assert_eq!(teapot.status().as_u16(), 418);
        let none = send(api.address(), request("/status/204", &token), SOON).await.unwrap();
        assert_eq!((none.status().as_u16(), none.body().len()), (204, 0));
        for wrong in ["/status/99", "/status/x", "/bytes/-1", "/slow?ms=x", "/slow"] {
            let answer = send(api.address(), request(wrong, &token), SOON).await.unwrap();
            assert_eq!(answer.status().as_u16(), 400, "{wrong}");
        }
        let slow_from = clock::now();
        send(api.address(), request("/slow?ms=50", &token), SOON).await.unwrap();
        assert!(slow_from.elapsed() >= Duration::from_millis(50));

        let stream = TcpStream::connect(api.address()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let _connection = tokio::spawn(connection);
        let mut echo = request("/echo", &token);
        *echo.uri_mut() = "http://api/echo".parse().unwrap();
        *echo.method_mut() = Method::POST;
        *echo.body_mut() = Full::from("there and back");
        let back = sender.send_request(echo).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(back.to_bytes(), "there and back");
        let mut trailers = request("/trailers", &token);
        *trailers.uri_mut() = "http://api/trailers".parse().unwrap();
        let answer = sender.send_request(trailers).await.unwrap();
        assert_eq!(answer.version(), Version::HTTP_2);
        let answer = answer.into_body().collect().await.unwrap();
        assert_eq!(answer.trailers().unwrap()["x-demo-trailer"], "after the body");
    }
}
