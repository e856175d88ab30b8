//! A request and its response over a real socket, against a server that a test plays byte by byte: what the tests share.

mod connection;
mod request_body;
mod response;

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

/// Longer than anything here takes, however slow the machine.
const LIMIT: Duration = Duration::from_mins(1);
