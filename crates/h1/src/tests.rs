//! A request and its answer over a real socket, against an upstream that a test plays byte by byte.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{TE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::super::body::RequestBody;
use super::super::connection_info::ConnectionInfo;
use super::super::malformed::Malformed;
use super::super::metrics::ProxyMetrics;
use super::super::received::ReceivedBody;
use super::super::replay::RecordLimit;
use super::super::sending::{Asks, Failure, Head};
use super::super::watch::Watch;
use super::{Answer, AnswerError, Keeper, Manner, Stream, Wire};
use crate::clock;
use crate::metrics::Metrics;

/// Keeps what is given back where a test can see it.
#[derive(Default)]
struct Kept(RefCell<Vec<Wire>>);

impl Keeper for Kept {
    fn keep(&self, wire: Wire) {
        self.0.borrow_mut().push(wire);
    }

    fn was_malformed(&self, _: Malformed) {}
}

impl Kept {
    fn count(&self) -> usize {
        self.0.borrow().len()
    }
}

/// Of a connection that nothing ends.
fn watch() -> Rc<Watch> {
    Watch::new(Rc::new(Cell::new(clock::now())), usize::MAX)
}

/// A connection, and the upstream's end of it.
fn pair() -> (Wire, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let open = ProxyMetrics::new(&Metrics::new()).upstream("api").opened_http1();
    (Wire::new(Stream::Unix(ours), ConnectionInfo::new(None, Duration::from_hours(1)), open), theirs)
}

fn head(method: Method) -> Head {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("api.example"));
    Head { method, uri: Uri::from_static("/a?b"), headers, asks: Asks::default() }
}

async fn send(
    wire: Wire,
    kept: &Rc<Kept>,
    head: &Head,
    body: RequestBody,
) -> Result<Response<Answer>, Failure> {
    send_with(wire, kept, head, body, &|_, _| {}).await
}

async fn send_with(
    wire: Wire,
    kept: &Rc<Kept>,
    head: &Head,
    body: RequestBody,
    on_interim: &dyn Fn(StatusCode, HeaderMap),
) -> Result<Response<Answer>, Failure> {
    let keeper = Rc::clone(kept) as Rc<dyn Keeper>;
    let manner = Manner {
        patience: Duration::from_secs(10),
        max_head: 64 * 1024,
        on_interim,
        waits: &Cell::new(false),
    };
    timeout(LIMIT, wire.send(keeper, head, body, manner)).await.unwrap()
}

/// A GET that is answered with `answer`, after which the upstream closes.
async fn get(answer: &'static [u8]) -> (Result<Response<Answer>, Failure>, Rc<Kept>, UnixStream) {
    let (wire, mut upstream) = pair();
    let kept = Rc::new(Kept::default());
    upstream.write_all(answer).await.unwrap();
    upstream.shutdown().await.unwrap();
    let response = send(wire, &kept, &head(Method::GET), RequestBody::Empty).await;
    (response, kept, upstream)
}

/// The data, and the trailers.
async fn collect(answer: &mut Answer) -> Result<(Vec<u8>, Option<HeaderMap>), AnswerError> {
    let (mut data, mut trailers) = (Vec::new(), None);
    while let Some(frame) = timeout(LIMIT, poll_fn(|cx| answer.poll_frame(cx))).await.unwrap() {
        match frame?.into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    assert!(answer.is_end_stream());
    Ok((data, trailers))
}

/// What an application sends of a request, as a server of hyper's hands it to us. The head is `fields`.
async fn application(fields: &str) -> (UnixStream, RequestBody) {
    let (mut app, server) = UnixStream::pair().unwrap();
    let (tell, told) = oneshot::channel();
    let tell = RefCell::new(Some(tell));
    let service = service_fn(move |request: Request<Incoming>| {
        let _ = tell.borrow_mut().take().unwrap().send(request.into_body());
        pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    });
    tokio::task::spawn_local(async move {
        let _ = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service)
            .await;
    });
    app.write_all(format!("POST / HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n").as_bytes()).await.unwrap();
    let incoming = timeout(LIMIT, told).await.unwrap().unwrap();
    (
        app,
        RequestBody::new(
            ReceivedBody::request(incoming, Version::HTTP_11),
            &watch(),
            LIMIT,
            None,
            RecordLimit::default(),
        )
        .0,
    )
}

/// Reads until `end` has come.
async fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let read = timeout(LIMIT, stream.read_buf(&mut text)).await.unwrap().unwrap();
        assert_ne!(read, 0, "ended after {:?}", String::from_utf8_lossy(&text));
    }
    String::from_utf8(text).unwrap()
}

/// Waits for the other side to close; whatever comes before is read over.
async fn closed(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap();
}

/// Lets tasks of this thread run until `done`.
async fn until(mut done: impl FnMut() -> bool) {
    timeout(LIMIT, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn an_answer_that_comes_whole_frees_its_connection_before_it_is_read() {
    let (wire, mut upstream) = pair();
    let kept = Rc::new(Kept::default());
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
    let response = send(wire, &kept, &head(Method::GET), RequestBody::Empty).await.unwrap();
    assert_eq!(kept.count(), 1);
    let mut answer = response.into_body();
    assert_eq!(answer.size_hint().exact(), Some(5));
    assert!(!answer.is_end_stream());
    assert_eq!(collect(&mut answer).await.unwrap().0, b"hello");
    assert_eq!(read_until(&mut upstream, "\r\n\r\n").await, "GET /a?b HTTP/1.1\r\nhost: api.example\r\n\r\n");

    // The same connection carries the next request.
    let wire = kept.0.borrow_mut().pop().unwrap();
    assert!(wire.is_free());
    upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let response = send(wire, &kept, &head(Method::DELETE), RequestBody::Empty).await.unwrap();
    assert!(response.body().is_end_stream());
    assert_eq!(kept.count(), 1);
}

#[tokio::test]
async fn an_answer_is_the_same_however_it_comes_in() {
    for (wire_form, reused, trailers) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nhello, world", 1, false),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\nhello, \r\n5\r\nworld\r\n0\r\n\r\n",
            1,
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nc\r\nhello, world\r\n0\r\na: b\r\n\r\n",
            1,
            true,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nhello, world",
            1,
            false,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\nhello, world", 0, false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 12\r\n\r\nhello, world", 0, false),
    ] {
        for cut in 1..wire_form.len() {
            let (wire, mut upstream) = pair();
            let kept = Rc::new(Kept::default());
            let pieces = async {
                for piece in wire_form.as_bytes().chunks(cut) {
                    upstream.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let answer = async {
                let response = send(wire, &kept, &head(Method::GET), RequestBody::Empty).await.unwrap();
                assert_eq!(response.status(), 200);
                collect(&mut response.into_body()).await.unwrap()
            };
            let ((), (data, with)) = tokio::join!(pieces, answer);
            assert_eq!(data, b"hello, world");
            assert_eq!(with.is_some(), trailers);
            assert_eq!(kept.count(), reused, "{wire_form}");
        }
    }
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_its_connection() {
    let (response, kept, _upstream) = get(b"HTTP/1.1 200 OK\r\n\r\nhello").await;
    let mut answer = response.unwrap().into_body();
    assert_eq!(answer.size_hint().exact(), None);
    assert_eq!(collect(&mut answer).await.unwrap().0, b"hello");
    assert_eq!(kept.count(), 0);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_never_ends_cleanly() {
    for whole in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\n\r\n",
    ] {
        let body = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        for end in 0..whole.len() {
            let (response, kept, _upstream) = get(&whole[..end]).await;
            match response {
                Err(Failure::Died) => assert_eq!(end, 0),
                Err(Failure::Broken) => assert!((1..body).contains(&end)),
                Err(other) => panic!("{other:?} at {end}"),
                Ok(response) => {
                    assert!(end >= body);
                    assert!(
                        matches!(collect(&mut response.into_body()).await, Err(AnswerError::Cut)),
                        "{end}"
                    );
                }
            }
            assert_eq!(kept.count(), 0);
        }
    }
}

#[tokio::test]
async fn what_nobody_asked_for_costs_the_connection() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n"[..],
        b"HTTP/1.1 204 No Content\r\n\r\nhello",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\r\n",
    ] {
        let (response, kept, _upstream) = get(answer).await;
        assert!(collect(&mut response.unwrap().into_body()).await.is_ok());
        assert_eq!(kept.count(), 0);
    }
    let (wire, mut upstream) = pair();
    let kept = Rc::new(Kept::default());
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    let response = send(wire, &kept, &head(Method::HEAD), RequestBody::Empty).await.unwrap();
    assert_eq!((response.body().is_end_stream(), kept.count()), (true, 1));
    upstream.write_all(b"hello").await.unwrap();
    until(|| !kept.0.borrow()[0].is_free()).await;
}

#[tokio::test]
async fn a_connection_that_ends_while_idle_is_not_free() {
    let (wire, upstream) = pair();
    assert!(wire.is_free());
    drop(upstream);
    until(|| !wire.is_free()).await;
}

#[tokio::test]
async fn a_failure_says_exactly_what_can_have_been_seen() {
    // Nothing could be written.
    let (wire, upstream) = pair();
    let kept = Rc::new(Kept::default());
    drop(upstream);
    let failed = send(wire, &kept, &head(Method::GET), RequestBody::Empty).await.unwrap_err();
    assert!(matches!(failed, Failure::Unsent(RequestBody::Empty)));

    // It was read, and not answered.
    let (wire, mut upstream) = pair();
    let request = head(Method::GET);
    let (failed, ()) = tokio::join!(send(wire, &kept, &request, RequestBody::Empty), async {
        read_until(&mut upstream, "\r\n\r\n").await;
        drop(upstream);
    });
    assert!(matches!(failed, Err(Failure::Died)));

    for (answer, malformed) in [
        (&b"HTTP/1.1 100 Continue\r\n\r\n"[..], false),
        (b"HTTP/1.1 2", false),
        (b"HTTP/1.1 x\r\n\r\n", true),
    ] {
        match get(answer).await.0 {
            Err(Failure::Broken) => assert!(!malformed),
            Err(Failure::Malformed(_)) => assert!(malformed),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_body_that_was_not_sent_comes_back_whole() {
    local(async {
        let (mut app, body) = application("content-length: 5").await;
        let (wire, upstream) = pair();
        drop(upstream);
        app.write_all(b"hello").await.unwrap();
        let kept = Rc::new(Kept::default());
        let failed = send(wire, &kept, &head(Method::POST), body).await.unwrap_err();
        let Failure::Unsent(body) = failed else { panic!("{failed:?}") };

        let (wire, mut upstream) = pair();
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        send(wire, &kept, &head(Method::POST), body).await.unwrap();
        let sent = read_until(&mut upstream, "hello").await;
        assert!(sent.contains("content-length: 5\r\n"), "{sent}");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_at_hand_goes_with_its_head_in_one_write() {
    local(async {
        let (mut app, server) = UnixStream::pair().unwrap();
        let (wire, mut upstream) = pair();
        let wire = RefCell::new(Some(wire));
        // As the proxy does it: the request goes out from the connection's own task.
        let service = service_fn(move |request: Request<Incoming>| {
            let wire = wire.borrow_mut().take().unwrap();
            async move {
                let (body, _progress) = RequestBody::new(
                    ReceivedBody::request(request.into_body(), Version::HTTP_11),
                    &watch(),
                    LIMIT,
                    None,
                    RecordLimit::default(),
                );
                let kept = Rc::new(Kept::default());
                let _ = send(wire, &kept, &head(Method::POST), body).await;
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let serving =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
        tokio::task::spawn_local(async move { serving.await.is_ok() });
        app.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await
            .unwrap();
        let mut first = vec![0; 4096];
        let read = timeout(LIMIT, upstream.read(&mut first)).await.unwrap().unwrap();
        let first = String::from_utf8_lossy(&first[..read]);
        assert!(first.ends_with("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"), "{first}");
        app.write_all(b"2\r\n, \r\n").await.unwrap();
        assert_eq!(read_until(&mut upstream, "\r\n, \r\n").await, "2\r\n, \r\n");
        app.write_all(b"0\r\nx-sum: 1\r\n\r\n").await.unwrap();
        assert_eq!(read_until(&mut upstream, "\r\n\r\n").await, "0\r\nx-sum: 1\r\n\r\n");
    })
    .await;
}

#[tokio::test]
async fn a_head_does_not_wait_for_a_body_that_is_late() {
    local(async {
        let (_app, body) = application("content-length: 5").await;
        let (wire, mut upstream) = pair();
        let kept = Rc::new(Kept::default());
        tokio::task::spawn_local(async move {
            let _ = send(wire, &kept, &head(Method::POST), body).await;
        });
        read_until(&mut upstream, "content-length: 5\r\n\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_before_the_bodys_end_is_read_while_the_body_goes_on() {
    local(async {
        let (mut app, body) = application("transfer-encoding: chunked").await;
        let (wire, mut upstream) = pair();
        let kept = Rc::new(Kept::default());
        upstream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let response = send(wire, &kept, &head(Method::POST), body).await.unwrap();
        let mut answer = response.into_body();
        // Both ways at once, a word at a time.
        read_until(&mut upstream, "\r\n\r\n").await;
        for word in ["one", "two"] {
            app.write_all(format!("3\r\n{word}\r\n").as_bytes()).await.unwrap();
            assert_eq!(read_until(&mut upstream, &format!("{word}\r\n")).await, format!("3\r\n{word}\r\n"));
            upstream.write_all(format!("3\r\n{word}\r\n").as_bytes()).await.unwrap();
            let frame = timeout(LIMIT, poll_fn(|cx| answer.poll_frame(cx))).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        // The answer ends first; the upstream still gets the rest of the body, and the connection lives on.
        upstream.write_all(b"0\r\n\r\n").await.unwrap();
        assert!(collect(&mut answer).await.unwrap().0.is_empty());
        drop(answer);
        assert_eq!(kept.count(), 0);
        app.write_all(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
        assert_eq!(read_until(&mut upstream, "0\r\n\r\n").await, "4\r\nlast\r\n0\r\n\r\n");
        until(|| kept.count() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_body_ends_with_an_answer_that_closes_or_is_not_wanted() {
    for answer in [
        "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
    ] {
        local(async {
            let (mut app, body) = application("transfer-encoding: chunked").await;
            app.write_all(b"5\r\nhello\r\n").await.unwrap();
            let (wire, mut upstream) = pair();
            let kept = Rc::new(Kept::default());
            upstream.write_all(answer.as_bytes()).await.unwrap();
            drop(send(wire, &kept, &head(Method::POST), body).await.unwrap());
            closed(&mut upstream).await;
            assert_eq!(kept.count(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn an_upload_does_not_wait_for_a_slow_reader_of_its_answer() {
    local(async {
        let (mut app, body) = application("transfer-encoding: chunked").await;
        let (wire, mut upstream) = pair();
        let kept = Rc::new(Kept::default());
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        let _unread = send(wire, &kept, &head(Method::POST), body).await.unwrap();
        let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024));
        tokio::task::spawn_local(async move {
            for _ in 0..64 {
                app.write_all(chunk.as_bytes()).await.unwrap();
            }
            app.write_all(b"0\r\n\r\n").await.unwrap();
            pending::<()>().await;
        });
        assert!(read_until(&mut upstream, "\r\n0\r\n\r\n").await.len() > 64 * 64 * 1024);
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_closes_the_connection() {
    local(async {
        let (mut app, body) = application("content-length: 50").await;
        let (wire, mut upstream) = pair();
        let kept = Rc::new(Kept::default());
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        let response = send(wire, &kept, &head(Method::POST), body).await.unwrap();
        app.write_all(b"hello").await.unwrap();
        drop(app);
        assert!(matches!(collect(&mut response.into_body()).await, Err(AnswerError::Upload)));
        closed(&mut upstream).await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_counts_although_the_upstream_reads_no_further() {
    local(async {
        let (mut app, body) = application("transfer-encoding: chunked").await;
        app.write_all(b"5\r\nhello\r\n").await.unwrap();
        let (wire, mut upstream) = pair();
        let kept = Rc::new(Kept::default());
        let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024));
        tokio::task::spawn_local(async move { while app.write_all(chunk.as_bytes()).await.is_ok() {} });
        let request = head(Method::POST);
        let (response, ()) = tokio::join!(send(wire, &kept, &request, body), async {
            read_until_any(&mut upstream).await;
            upstream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge").await.unwrap();
            drop(upstream);
        });
        let response = response.unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(collect(&mut response.into_body()).await.unwrap().0, b"large");
        assert_eq!(kept.count(), 0);
    })
    .await;
}

async fn read_until_any(stream: &mut UnixStream) {
    assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
}

#[tokio::test]
async fn interim_answers_are_told_in_order_and_may_be_many() {
    let (wire, mut upstream) = pair();
    let kept = Rc::new(Kept::default());
    let told = RefCell::new(Vec::new());
    let on_interim = |status: StatusCode, headers: HeaderMap| told.borrow_mut().push((status, headers.len()));
    let request = head(Method::GET);
    let (response, ()) =
        tokio::join!(send_with(wire, &kept, &request, RequestBody::Empty, &on_interim), async {
            upstream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            for _ in 0..10_000 {
                upstream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await.unwrap();
            }
            upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        });
    assert_eq!(response.unwrap().status(), 200);
    let told = told.into_inner();
    assert_eq!(told.len(), 10_001);
    assert_eq!((told[0], told[1]), ((StatusCode::CONTINUE, 0), (StatusCode::EARLY_HINTS, 1)));
}

#[tokio::test]
async fn an_upgrade_hands_the_connection_over_with_what_was_read() {
    let (wire, mut upstream) = pair();
    let kept = Rc::new(Kept::default());
    let mut request = head(Method::GET);
    request.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    upstream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\nglued").await.unwrap();
    let response = send(wire, &kept, &request, RequestBody::Empty).await.unwrap();
    assert!(read_until(&mut upstream, "\r\n\r\n").await.contains("connection: upgrade\r\n"));
    assert_eq!(response.headers()["upgrade"], "websocket");
    let (mut stream, read, _counted) = response.into_body().into_tunnel().unwrap();
    assert_eq!(read, "glued");
    stream.write_all(b"more").await.unwrap();
    assert_eq!(read_until(&mut upstream, "more").await, "more");

    let (response, ..) = get(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n").await;
    assert!(matches!(response, Err(Failure::Malformed(_))));
    let (response, ..) = get(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(response.unwrap().into_body().into_tunnel().is_none());
}

#[tokio::test]
async fn a_large_body_comes_in_pieces_of_bounded_size() {
    const LENGTH: usize = 10 * 1024 * 1024;
    for chunked in [false, true] {
        let (wire, mut upstream) = pair();
        let kept = Rc::new(Kept::default());
        let mut request = head(Method::GET);
        request.headers.insert(TE, HeaderValue::from_static("trailers"));
        let sender = tokio::spawn(async move {
            let fields = if chunked {
                "transfer-encoding: chunked".into()
            } else {
                format!("content-length: {LENGTH}")
            };
            upstream.write_all(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes()).await.unwrap();
            let part = vec![b'x'; LENGTH / 10];
            for _ in 0..10 {
                if chunked {
                    upstream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await.unwrap();
                }
                upstream.write_all(&part).await.unwrap();
                if chunked {
                    upstream.write_all(b"\r\n").await.unwrap();
                }
            }
            if chunked {
                upstream.write_all(b"0\r\n\r\n").await.unwrap();
            }
            upstream
        });
        let mut answer = send(wire, &kept, &request, RequestBody::Empty).await.unwrap().into_body();
        let mut total = 0;
        while let Some(frame) = timeout(LIMIT, poll_fn(|cx| answer.poll_frame(cx))).await.unwrap() {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= 2 * super::answer::MAX_ROOM, "{}", data.len());
            total += data.len();
        }
        assert_eq!(total, LENGTH);
        assert_eq!(kept.count(), 1);
        assert!(kept.0.borrow()[0].input.capacity() <= super::connection::HEAD_ROOM);
        sender.await.unwrap();
    }
}

/// Longer than anything here takes, however slow the machine.
const LIMIT: Duration = Duration::from_mins(1);
