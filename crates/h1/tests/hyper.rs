//! The bytes of hyper's server that the judge of requests and the proxy rely on.
//!
//! A new version of hyper that fails here changed what this crate, or the proxy above it, takes for granted. Each test
//! names the code that relies on it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use cupbearer_h1::framing::{Protocol, RequestFraming};
use http::header::{CONTENT_LENGTH, ETAG};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

type Body = BoxBody<Bytes, Infallible>;

/// What a connection came to.
struct Served {
    /// Each request that the service was called with, and its body as text; `Err`: the body failed.
    requests: Vec<(String, Result<String, ()>)>,
    /// What hyper wrote, without `Date`.
    written: String,
}

/// Serves a connection as the proxy does, on which a client sends `input` and then ends its side.
async fn serve(input: &[u8], respond: fn() -> Response<Body>) -> Served {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let target = request.uri().to_string();
            let body = request.into_body().collect().await;
            let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).map_err(drop);
            seen.lock().unwrap().push((target, body));
            Ok::<_, Infallible>(respond())
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .max_headers(100)
        .max_buf_size(MAX_HEAD)
        .half_close(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(server), service);
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    let _ = serving.await;
    let mut written = Vec::new();
    client.read_to_end(&mut written).await.unwrap();
    let requests = std::mem::take(&mut *requests.lock().unwrap());
    Served { requests, written: String::from_utf8(written).unwrap() }
}

/// A body of unknown length.
struct Parts(VecDeque<&'static str>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
    }
}

fn plain() -> Response<Body> {
    Response::new(Full::from("ok").boxed())
}

/// What the judge lets through of `input`, with the poison behind it.
fn judged(input: &[u8]) -> Vec<u8> {
    let mut framing = RequestFraming::new(MAX_HEAD, Protocol::Either);
    let mut out = Vec::new();
    let same = framing.admit(input, &mut out);
    let mut admitted = [&input[..same], &out].concat();
    assert!(framing.is_refused(), "{:?} is refused", String::from_utf8_lossy(input));
    admitted.extend_from_slice(framing.poison());
    admitted
}

const MAX_HEAD: usize = 64 * 1024;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The reason for the judge (`framing`): if hyper refuses one of these, the judge may leave it to hyper.
#[tokio::test]
async fn hyper_takes_what_two_servers_read_in_two_ways() {
    for input in [
        "GET /a HTTP/1.1\nHost: x\n\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nhi\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ] {
        let served = serve(input.as_bytes(), plain).await;
        assert_eq!(served.requests.len(), 1, "{input:?}: {}", served.written);
        judged(input.as_bytes());
    }
}

/// `RequestFraming::poison`, and `refusal::reason` of the proxy, which reads the status of these bytes.
#[tokio::test]
async fn hyper_refuses_the_poison_in_a_head_with_these_bytes_and_reads_no_further() {
    for input in [
        "GET /a HTTP/1.1\nHost: x\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "GET /a#b HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\r\nX: 1\r\n 2\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02",
        "PRI * HTTP/1.1\n",
    ] {
        let served = serve(&judged(input.as_bytes()), plain).await;
        assert_eq!(served.requests, [], "{input:?}");
        assert_eq!(served.written, BAD_REQUEST, "{input:?}");
    }
}

/// `watch` of the proxy: hyper refuses a head only where nothing of a response is left to write.
#[tokio::test]
async fn hyper_refuses_behind_the_responses_to_what_came_before() {
    let input = b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\n\r\nGET /smuggled HTTP/1.1\r\n\r\n";
    let served = serve(&judged(input), plain).await;
    assert_eq!(served.requests, [("/a".to_owned(), Ok(String::new()))]);
    assert_eq!(served.written, [OK, BAD_REQUEST].concat());
}

/// The poison of a chunk's size line, and of all else behind a head.
#[tokio::test]
async fn a_body_fails_in_hyper_where_the_judge_cut_it_off_and_the_connection_ends() {
    for chunks in [
        "5 \r\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "0\r\n folded\r\n\r\n",
        "0\r\nX : 1\r\n\r\n",
        "0\r\nX: 1\n\r\n",
    ] {
        let input = format!(
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\n\r\n"
        );
        let served = serve(&judged(input.as_bytes()), plain).await;
        assert_eq!(served.requests, [("/a".to_owned(), Err(()))], "{chunks:?}");
        assert!(served.written.matches("HTTP/1.1 ").count() <= 1, "{chunks:?}: {}", served.written);
    }
}

/// `refusal::reason` of the proxy.
#[tokio::test]
async fn hyper_refuses_a_head_that_is_too_large_with_431_and_a_long_target_with_414() {
    let large = format!("GET /a HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(MAX_HEAD * 2));
    let many = format!("GET /a HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(101));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 16));
    for (input, status) in [
        (large, "431 Request Header Fields Too Large"),
        (many, "431 Request Header Fields Too Large"),
        (long, "414 URI Too Long"),
    ] {
        let served = serve(input.as_bytes(), plain).await;
        assert_eq!(served.requests, []);
        assert!(served.written.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{}", served.written);
    }
}

/// `head_fault`: hyper refuses each of these with a bare 400, which the proxy explains.
#[tokio::test]
async fn hyper_gives_no_reason_for_a_head_that_it_refuses() {
    for input in [
        "GET  /a HTTP/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "G@T /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/3.7\r\n\r\n",
        "GET /a HTTP/1.1\r\nnonsense\r\n\r\n",
        "GET /a HTTP/1.1\r\nX : 1\r\n\r\n",
        "GET /a HTTP/1.1\r\nX: \x01\r\n\r\n",
    ] {
        let served = serve(input.as_bytes(), plain).await;
        assert_eq!((served.requests, served.written.as_str()), (vec![], BAD_REQUEST), "{input:?}");
        let mut framing = RequestFraming::new(MAX_HEAD, Protocol::Either);
        framing.admit(input.as_bytes(), &mut Vec::new());
        assert!(framing.fault().is_some(), "{input:?}");
    }
}

/// `expect` of the proxy: the 100 is written once the body is polled, as these bytes.
#[tokio::test]
async fn hyper_asks_for_a_body_with_100_when_it_is_polled() {
    let input = b"POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let served = serve(input, plain).await;
    assert!(served.written.starts_with("HTTP/1.1 100 Continue\r\n\r\n"), "{}", served.written);
    let (mut client, io) = tokio::io::duplex(1 << 10);
    let service = service_fn(|_unpolled: Request<Incoming>| async { Ok::<_, Infallible>(plain()) });
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    let _ = serving.await;
    let mut written = String::new();
    client.read_to_string(&mut written).await.unwrap();
    assert!(written.starts_with("HTTP/1.1 200 OK\r\n"), "{written}");
}

/// `reason` of the proxy, and [`cupbearer_h1::Response::reason`].
#[tokio::test]
async fn hyper_writes_the_reason_phrase_that_it_is_given_and_none_in_words_for_an_unknown_status() {
    let status_line = async |respond: fn() -> Response<Body>| {
        let served = serve(b"GET / HTTP/1.1\r\n\r\n", respond).await;
        served.written.lines().next().unwrap_or_default().to_owned()
    };
    let unknown = || {
        let mut response = plain();
        *response.status_mut() = StatusCode::from_u16(299).unwrap();
        response
    };
    assert_eq!(status_line(unknown).await, "HTTP/1.1 299 <none>");
    assert_eq!(status_line(|| with_phrase(b"Quite Fine")).await, "HTTP/1.1 299 Quite Fine");
    assert_eq!(status_line(|| with_phrase(b"")).await, "HTTP/1.1 299 ");
}

fn with_phrase(phrase: &'static [u8]) -> Response<Body> {
    let mut response = plain();
    *response.status_mut() = StatusCode::from_u16(299).unwrap();
    response.extensions_mut().insert(ReasonPhrase::try_from(phrase).unwrap());
    response
}

/// `ResponseBody::omit` of the proxy.
#[tokio::test]
async fn hyper_removes_the_length_of_a_304_whose_body_has_ended() {
    let served = serve(b"GET / HTTP/1.1\r\n\r\n", || {
        let mut response = Response::new(Empty::new().boxed());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
        response.headers_mut().insert(ETAG, HeaderValue::from_static("\"a\""));
        response
    })
    .await;
    assert_eq!(served.written, "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n");
}

/// What an HTTP/1.1 client of the proxy reads: names in lower case, a length that is known, else chunks.
#[tokio::test]
async fn hyper_frames_a_response_by_its_length_or_in_chunks() {
    assert_eq!(serve(b"GET / HTTP/1.1\r\n\r\n", plain).await.written, OK);
    let streamed = || Response::new(Parts(VecDeque::from(["one", "two"])).boxed());
    let served = serve(b"GET / HTTP/1.1\r\n\r\n", streamed).await;
    assert_eq!(
        served.written,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    );
}
