//! A request and its response over a real socket, against a server that a test plays byte by byte.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{TE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

use crate::{
    BodyError, Connection, ConnectionPool, HeadMemory, Link, Malformed, RequestBody, RequestHead, Response,
    ResponseBody, SendError, SendOptions, TrailerMemory, Transport,
};

/// The owner of a connection in these tests: it counts, and limits nothing.
#[derive(Debug, Default)]
struct Owner {
    read: Cell<usize>,
}

impl Link for Owner {
    type Transport = UnixStream;
    type Body = TestBody;
    type TrailerMemory = Unlimited;

    #[expect(clippy::disallowed_methods, reason = "the crate has no clock of its own")]
    fn now() -> Instant {
        Instant::now()
    }

    fn read(&self, bytes: usize) {
        self.read.set(self.read.get() + bytes);
    }

    fn read_size(&self, wanted: usize) -> usize {
        wanted
    }

    fn ended_by_peer(&self) {}
}

#[derive(Debug, Default)]
struct Unlimited;

impl HeadMemory for Unlimited {
    fn poll(&mut self, _: &mut Context<'_>, _: usize) -> Poll<()> {
        Poll::Ready(())
    }

    async fn whole(&mut self, _: usize) {}
}

impl TrailerMemory for Unlimited {
    fn poll(&mut self, _: &mut Context<'_>, _: usize) -> Poll<()> {
        Poll::Ready(())
    }

    fn read(&mut self, _: usize) {}
}

impl Transport for UnixStream {
    fn is_quiet(&mut self) -> bool {
        self.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn is_all_or_nothing(&self, _: usize) -> bool {
        true
    }
}

/// No body, or one that a client sends through hyper.
#[derive(Debug)]
enum TestBody {
    Empty,
    Incoming { unread: Option<Bytes>, rest: Incoming },
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Incoming { unread, rest } => match unread.take() {
                Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                None => Pin::new(rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Incoming { unread, rest } => unread.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Incoming { unread, rest } => match rest.size_hint().exact() {
                Some(size) => SizeHint::with_exact(size + unread.as_ref().map_or(0, Bytes::len) as u64),
                None => SizeHint::default(),
            },
        }
    }
}

impl RequestBody for TestBody {
    fn unread(&mut self, data: Bytes) {
        if let Self::Incoming { unread, .. } = self
            && !data.is_empty()
        {
            *unread = Some(data);
        }
    }

    fn is_held_back(&self) -> bool {
        false
    }
}

/// Keeps the connections that it is given where a test can see them.
#[derive(Default)]
struct Kept(RefCell<Vec<Connection<Owner>>>);

impl ConnectionPool<Owner> for Kept {
    fn put(&self, connection: Connection<Owner>) {
        self.0.borrow_mut().push(connection);
    }

    fn malformed_body(&self, _: Malformed) {}
}

impl Kept {
    fn count(&self) -> usize {
        self.0.borrow().len()
    }
}

/// A connection, and the server's end of it.
fn pair() -> (Connection<Owner>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::new(ours, Owner::default()), theirs)
}

/// A request's head.
struct Head {
    method: Method,
    headers: HeaderMap,
}

fn head(method: Method) -> Head {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("api.example"));
    Head { method, headers }
}

async fn send(
    connection: Connection<Owner>,
    kept: &Rc<Kept>,
    head: &Head,
    body: TestBody,
) -> Result<Response<Owner>, SendError<TestBody>> {
    send_with(connection, kept, head, body, &|_, _| {}).await
}

async fn send_with(
    connection: Connection<Owner>,
    kept: &Rc<Kept>,
    head: &Head,
    body: TestBody,
    on_interim: &dyn Fn(StatusCode, HeaderMap),
) -> Result<Response<Owner>, SendError<TestBody>> {
    let pool = Rc::clone(kept) as Rc<dyn ConnectionPool<Owner>>;
    let head = RequestHead { method: &head.method, target: "/a?b", headers: &head.headers };
    let options = SendOptions {
        write_timeout: Duration::from_secs(10),
        max_head: 64 * 1024,
        on_interim,
        memory: Unlimited,
    };
    timeout(LIMIT, connection.send(pool, head, body, options)).await.unwrap()
}

/// A GET that gets `response`, after which the server closes.
async fn get(
    response: &'static [u8],
) -> (Result<Response<Owner>, SendError<TestBody>>, Rc<Kept>, UnixStream) {
    let (connection, mut server) = pair();
    let kept = Rc::new(Kept::default());
    server.write_all(response).await.unwrap();
    server.shutdown().await.unwrap();
    let response = send(connection, &kept, &head(Method::GET), TestBody::Empty).await;
    (response, kept, server)
}

/// The data, and the trailers.
async fn collect(body: &mut ResponseBody<Owner>) -> Result<(Vec<u8>, Option<HeaderMap>), BodyError> {
    let (mut data, mut trailers) = (Vec::new(), None);
    while let Some(frame) = timeout(LIMIT, poll_fn(|cx| body.poll_frame(cx))).await.unwrap() {
        match frame?.into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    assert!(body.is_end_stream());
    Ok((data, trailers))
}

/// What a client sends of a request with `fields`, as a server of hyper's receives it.
async fn client(fields: &str) -> (UnixStream, TestBody) {
    let (mut client, server) = UnixStream::pair().unwrap();
    let (sender, receiver) = oneshot::channel();
    let sender = RefCell::new(Some(sender));
    let service = service_fn(move |request: Request<Incoming>| {
        let _ = sender.borrow_mut().take().unwrap().send(request.into_body());
        pending::<Result<http::Response<Empty<Bytes>>, Infallible>>()
    });
    tokio::task::spawn_local(async move {
        let _ = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service)
            .await;
    });
    client.write_all(format!("POST / HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n").as_bytes()).await.unwrap();
    let rest = timeout(LIMIT, receiver).await.unwrap().unwrap();
    (client, TestBody::Incoming { unread: None, rest })
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
async fn a_response_that_comes_whole_frees_its_connection_before_it_is_read() {
    let (connection, mut server) = pair();
    let kept = Rc::new(Kept::default());
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
    let response = send(connection, &kept, &head(Method::GET), TestBody::Empty).await.unwrap();
    assert_eq!(kept.count(), 1);
    let mut body = response.body;
    assert_eq!(body.size_hint().exact(), Some(5));
    assert!(!body.is_end_stream());
    assert_eq!(collect(&mut body).await.unwrap().0, b"hello");
    assert_eq!(read_until(&mut server, "\r\n\r\n").await, "GET /a?b HTTP/1.1\r\nhost: api.example\r\n\r\n");

    // The same connection carries the next request.
    let connection = kept.0.borrow_mut().pop().unwrap();
    assert!(connection.is_free());
    server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let response = send(connection, &kept, &head(Method::DELETE), TestBody::Empty).await.unwrap();
    assert!(response.body.is_end_stream());
    assert_eq!(kept.count(), 1);
}

#[tokio::test]
async fn a_response_is_the_same_however_it_comes_in() {
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
            let (connection, mut server) = pair();
            let kept = Rc::new(Kept::default());
            let pieces = async {
                for piece in wire_form.as_bytes().chunks(cut) {
                    server.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let reply = async {
                let mut response =
                    send(connection, &kept, &head(Method::GET), TestBody::Empty).await.unwrap();
                assert_eq!(response.status, 200);
                collect(&mut response.body).await.unwrap()
            };
            let ((), (data, with)) = tokio::join!(pieces, reply);
            assert_eq!(data, b"hello, world");
            assert_eq!(with.is_some(), trailers);
            assert_eq!(kept.count(), reused, "{wire_form}");
        }
    }
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_its_connection() {
    let (response, kept, _server) = get(b"HTTP/1.1 200 OK\r\n\r\nhello").await;
    let mut body = response.unwrap().body;
    assert_eq!(body.size_hint().exact(), None);
    assert_eq!(collect(&mut body).await.unwrap().0, b"hello");
    assert_eq!(kept.count(), 0);
}

#[tokio::test]
async fn a_response_that_is_cut_off_never_ends_cleanly() {
    for whole in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\n\r\n",
    ] {
        let body = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        for end in 0..whole.len() {
            let (response, kept, _server) = get(&whole[..end]).await;
            match response {
                Err(SendError::Died) => assert_eq!(end, 0),
                Err(SendError::Broken) => assert!((1..body).contains(&end)),
                Err(other) => panic!("{other:?} at {end}"),
                Ok(mut response) => {
                    assert!(end >= body);
                    assert!(matches!(collect(&mut response.body).await, Err(BodyError::Cut)), "{end}");
                }
            }
            assert_eq!(kept.count(), 0);
        }
    }
}

#[tokio::test]
async fn what_was_not_requested_costs_the_connection() {
    for reply in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n"[..],
        b"HTTP/1.1 204 No Content\r\n\r\nhello",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\r\n",
    ] {
        let (response, kept, _server) = get(reply).await;
        assert!(collect(&mut response.unwrap().body).await.is_ok());
        assert_eq!(kept.count(), 0);
    }
    let (connection, mut server) = pair();
    let kept = Rc::new(Kept::default());
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    let response = send(connection, &kept, &head(Method::HEAD), TestBody::Empty).await.unwrap();
    assert_eq!((response.body.is_end_stream(), kept.count()), (true, 1));
    server.write_all(b"hello").await.unwrap();
    until(|| !kept.0.borrow()[0].is_free()).await;
}

#[tokio::test]
async fn a_connection_that_ends_while_idle_is_not_free() {
    let (connection, server) = pair();
    assert!(connection.is_free());
    drop(server);
    until(|| !connection.is_free()).await;
}

#[tokio::test]
async fn a_failure_says_exactly_what_can_have_been_seen() {
    // Nothing could be written.
    let (connection, server) = pair();
    let kept = Rc::new(Kept::default());
    drop(server);
    let failed = send(connection, &kept, &head(Method::GET), TestBody::Empty).await.unwrap_err();
    assert!(matches!(failed, SendError::Unsent(TestBody::Empty)));

    // It was read, and got no response.
    let (connection, mut server) = pair();
    let request = head(Method::GET);
    let (failed, ()) = tokio::join!(send(connection, &kept, &request, TestBody::Empty), async {
        read_until(&mut server, "\r\n\r\n").await;
        drop(server);
    });
    assert!(matches!(failed, Err(SendError::Died)));

    for (reply, malformed) in [
        (&b"HTTP/1.1 100 Continue\r\n\r\n"[..], false),
        (b"HTTP/1.1 2", false),
        (b"HTTP/1.1 x\r\n\r\n", true),
    ] {
        match get(reply).await.0 {
            Err(SendError::Broken) => assert!(!malformed),
            Err(SendError::Malformed(_)) => assert!(malformed),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_body_that_was_not_sent_comes_back_whole() {
    local(async {
        let (mut client, body) = client("content-length: 5").await;
        let (connection, server) = pair();
        drop(server);
        client.write_all(b"hello").await.unwrap();
        let kept = Rc::new(Kept::default());
        let failed = send(connection, &kept, &head(Method::POST), body).await.unwrap_err();
        let SendError::Unsent(body) = failed else { panic!("{failed:?}") };

        let (connection, mut server) = pair();
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        send(connection, &kept, &head(Method::POST), body).await.unwrap();
        let sent = read_until(&mut server, "hello").await;
        assert!(sent.contains("content-length: 5\r\n"), "{sent}");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_at_hand_goes_with_its_head_in_one_write() {
    local(async {
        let (mut client, accepted) = UnixStream::pair().unwrap();
        let (connection, mut server) = pair();
        let connection = RefCell::new(Some(connection));
        // As the proxy does it: the request goes out from the connection's own task.
        let service = service_fn(move |request: Request<Incoming>| {
            let connection = connection.borrow_mut().take().unwrap();
            async move {
                let body = TestBody::Incoming { unread: None, rest: request.into_body() };
                let kept = Rc::new(Kept::default());
                let _ = send(connection, &kept, &head(Method::POST), body).await;
                Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
            }
        });
        let serving =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(accepted), service);
        tokio::task::spawn_local(async move { serving.await.is_ok() });
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await
            .unwrap();
        let mut first = vec![0; 4096];
        let read = timeout(LIMIT, server.read(&mut first)).await.unwrap().unwrap();
        let first = String::from_utf8_lossy(&first[..read]);
        assert!(first.ends_with("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"), "{first}");
        client.write_all(b"2\r\n, \r\n").await.unwrap();
        assert_eq!(read_until(&mut server, "\r\n, \r\n").await, "2\r\n, \r\n");
        client.write_all(b"0\r\nx-sum: 1\r\n\r\n").await.unwrap();
        assert_eq!(read_until(&mut server, "\r\n\r\n").await, "0\r\nx-sum: 1\r\n\r\n");
    })
    .await;
}

#[tokio::test]
async fn a_head_does_not_wait_for_a_body_that_is_late() {
    local(async {
        let (_app, body) = client("content-length: 5").await;
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        tokio::task::spawn_local(async move {
            let _ = send(connection, &kept, &head(Method::POST), body).await;
        });
        read_until(&mut server, "content-length: 5\r\n\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn a_response_before_the_bodys_end_is_read_while_the_body_goes_on() {
    local(async {
        let (mut client, body) = client("transfer-encoding: chunked").await;
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        server.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let response = send(connection, &kept, &head(Method::POST), body).await.unwrap();
        let mut body = response.body;
        // Both ways at once, a word at a time.
        read_until(&mut server, "\r\n\r\n").await;
        for word in ["one", "two"] {
            client.write_all(format!("3\r\n{word}\r\n").as_bytes()).await.unwrap();
            assert_eq!(read_until(&mut server, &format!("{word}\r\n")).await, format!("3\r\n{word}\r\n"));
            server.write_all(format!("3\r\n{word}\r\n").as_bytes()).await.unwrap();
            let frame = timeout(LIMIT, poll_fn(|cx| body.poll_frame(cx))).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        // The reply ends first; the server still gets the rest of the body, and the connection lives on.
        server.write_all(b"0\r\n\r\n").await.unwrap();
        assert!(collect(&mut body).await.unwrap().0.is_empty());
        drop(body);
        assert_eq!(kept.count(), 0);
        client.write_all(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
        assert_eq!(read_until(&mut server, "0\r\n\r\n").await, "4\r\nlast\r\n0\r\n\r\n");
        until(|| kept.count() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_body_ends_with_a_response_that_closes_or_is_not_wanted() {
    for reply in [
        "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
    ] {
        local(async {
            let (mut client, body) = client("transfer-encoding: chunked").await;
            client.write_all(b"5\r\nhello\r\n").await.unwrap();
            let (connection, mut server) = pair();
            let kept = Rc::new(Kept::default());
            server.write_all(reply.as_bytes()).await.unwrap();
            drop(send(connection, &kept, &head(Method::POST), body).await.unwrap());
            closed(&mut server).await;
            assert_eq!(kept.count(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn an_upload_does_not_wait_for_a_slow_reader_of_its_response() {
    local(async {
        let (mut client, body) = client("transfer-encoding: chunked").await;
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        let _unread = send(connection, &kept, &head(Method::POST), body).await.unwrap();
        let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024));
        tokio::task::spawn_local(async move {
            for _ in 0..64 {
                client.write_all(chunk.as_bytes()).await.unwrap();
            }
            client.write_all(b"0\r\n\r\n").await.unwrap();
            pending::<()>().await;
        });
        assert!(read_until(&mut server, "\r\n0\r\n\r\n").await.len() > 64 * 64 * 1024);
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_closes_the_connection() {
    local(async {
        let (mut client, body) = client("content-length: 50").await;
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        let mut response = send(connection, &kept, &head(Method::POST), body).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        drop(client);
        assert!(matches!(collect(&mut response.body).await, Err(BodyError::RequestBody)));
        closed(&mut server).await;
    })
    .await;
}

#[tokio::test]
async fn a_response_counts_although_the_server_reads_no_further() {
    local(async {
        let (mut client, body) = client("transfer-encoding: chunked").await;
        client.write_all(b"5\r\nhello\r\n").await.unwrap();
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024));
        tokio::task::spawn_local(async move { while client.write_all(chunk.as_bytes()).await.is_ok() {} });
        let request = head(Method::POST);
        let (response, ()) = tokio::join!(send(connection, &kept, &request, body), async {
            read_until_any(&mut server).await;
            server.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge").await.unwrap();
            drop(server);
        });
        let mut response = response.unwrap();
        assert_eq!(response.status, 413);
        assert_eq!(collect(&mut response.body).await.unwrap().0, b"large");
        assert_eq!(kept.count(), 0);
    })
    .await;
}

async fn read_until_any(stream: &mut UnixStream) {
    assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
}

#[tokio::test]
async fn interim_responses_are_reported_in_order_and_may_be_many() {
    let (connection, mut server) = pair();
    let kept = Rc::new(Kept::default());
    let reported = RefCell::new(Vec::new());
    let on_interim =
        |status: StatusCode, headers: HeaderMap| reported.borrow_mut().push((status, headers.len()));
    let request = head(Method::GET);
    let (response, ()) =
        tokio::join!(send_with(connection, &kept, &request, TestBody::Empty, &on_interim), async {
            server.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            for _ in 0..10_000 {
                server.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await.unwrap();
            }
            server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        });
    assert_eq!(response.unwrap().status, 200);
    let reported = reported.into_inner();
    assert_eq!(reported.len(), 10_001);
    assert_eq!((reported[0], reported[1]), ((StatusCode::CONTINUE, 0), (StatusCode::EARLY_HINTS, 1)));
}

#[tokio::test]
async fn an_upgrade_hands_the_connection_over_with_what_was_read() {
    let (connection, mut server) = pair();
    let kept = Rc::new(Kept::default());
    let mut request = head(Method::GET);
    request.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    server.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\nglued").await.unwrap();
    let response = send(connection, &kept, &request, TestBody::Empty).await.unwrap();
    assert!(read_until(&mut server, "\r\n\r\n").await.contains("connection: upgrade\r\n"));
    assert_eq!(response.headers["upgrade"], "websocket");
    let (mut stream, read, _counted) = response.body.into_tunnel().unwrap();
    assert_eq!(read, "glued");
    stream.write_all(b"more").await.unwrap();
    assert_eq!(read_until(&mut server, "more").await, "more");

    let (response, ..) = get(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n").await;
    assert!(matches!(response, Err(SendError::Malformed(_))));
    let (response, ..) = get(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(response.unwrap().body.into_tunnel().is_none());
}

#[tokio::test]
async fn a_large_body_comes_in_pieces_of_bounded_size() {
    const LENGTH: usize = 10 * 1024 * 1024;
    for chunked in [false, true] {
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        let mut request = head(Method::GET);
        request.headers.insert(TE, HeaderValue::from_static("trailers"));
        let sender = tokio::spawn(async move {
            let fields = if chunked {
                "transfer-encoding: chunked".into()
            } else {
                format!("content-length: {LENGTH}")
            };
            server.write_all(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes()).await.unwrap();
            let part = vec![b'x'; LENGTH / 10];
            for _ in 0..10 {
                if chunked {
                    server.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await.unwrap();
                }
                server.write_all(&part).await.unwrap();
                if chunked {
                    server.write_all(b"\r\n").await.unwrap();
                }
            }
            if chunked {
                server.write_all(b"0\r\n\r\n").await.unwrap();
            }
            server
        });
        let mut body = send(connection, &kept, &request, TestBody::Empty).await.unwrap().body;
        let mut total = 0;
        while let Some(frame) = timeout(LIMIT, poll_fn(|cx| body.poll_frame(cx))).await.unwrap() {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= 2 * crate::response_body::MAX_ROOM, "{}", data.len());
            total += data.len();
        }
        assert_eq!(total, LENGTH);
        assert_eq!(kept.count(), 1);
        assert!(kept.0.borrow()[0].input.capacity() <= crate::connection::HEAD_ROOM);
        sender.await.unwrap();
    }
}

/// Longer than anything here takes, however slow the machine.
const LIMIT: Duration = Duration::from_mins(1);
