//! The stream under a downstream connection: TCP or a Unix socket, plain or TLS.

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::informational::Interim;
use crate::net::client_hello::ClientHello;
use crate::proxy::error::Malformed;
use crate::proxy::http2::request_heads::HeadNotes;

/// A downstream connection's stream: hyper reads and writes it, and others may look at it.
#[derive(Debug)]
pub(crate) struct Stream {
    transport: RefCell<Transport>,
    /// Interim answers that wait for their turn to be written.
    pub(super) interim: Interim,
    /// What was changed in the heads of its requests before h2 read them.
    pub(crate) head_notes: HeadNotes,
    /// What is wrong with what was refused: with the body of the request under way, where that breaks off (HTTP/1.1).
    pub(crate) fault: Cell<Option<Malformed>>,
    /// Whether the body of the response under way ends with the connection (HTTP/1.0).
    pub(crate) ends_body: Cell<bool>,
}

/// What carries the bytes.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<ClientHello<TcpStream>>>),
}

impl Stream {
    pub(crate) fn new(transport: Transport) -> Rc<Self> {
        Rc::new(Self {
            transport: RefCell::new(transport),
            interim: Interim::default(),
            head_notes: HeadNotes::default(),
            fault: Cell::new(None),
            ends_body: Cell::new(false),
        })
    }

    /// The address of the application; `None`: a Unix socket's.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        match &*self.transport.borrow() {
            Transport::Tcp(tcp) => tcp.peer_addr().ok(),
            Transport::Tls(tls) => tls.get_ref().0.get_ref().peer_addr().ok(),
            Transport::Unix(_) => None,
        }
    }

    /// For one read or write.
    pub(crate) fn transport(&self) -> RefMut<'_, Transport> {
        self.transport.borrow_mut()
    }

    /// Whether the application has closed its side, whatever of its bytes is unread. For a connection that nothing reads now:
    /// one of HTTP/1.1 with a request under way, since hyper looks for the end only when it is through with that. Costs no
    /// system call, but in TLS where something came: there an application may close its side within the encryption and leave
    /// its TCP connection open (RFC 8446 section 6.1).
    pub(crate) fn has_ended(&self) -> bool {
        let ready = self.transport.borrow().readiness(Interest::READABLE | Interest::ERROR);
        if ready.is_read_closed() || ready.is_error() {
            return true;
        }
        match &mut *self.transport.borrow_mut() {
            Transport::Tls(stream) if ready.is_readable() => has_close_notify(stream),
            _ => false,
        }
    }

    /// The response under way is cut. Where the end of the connection would pass for the end of its body, the connection is
    /// reset when it closes (RFC 9112 section 8). A Unix socket knows no reset.
    pub(crate) fn cut(&self) {
        let transport = self.transport.borrow();
        let tcp = match &*transport {
            Transport::Tcp(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0.get_ref(),
            Transport::Unix(_) => return,
        };
        if self.ends_body.get()
            && let Err(error) = SockRef::from(tcp).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "a connection will not be reset");
        }
    }

    /// Reads what is there, past any TLS, into `buf`: for bytes that are only discarded.
    pub(super) fn poll_read_raw(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self.transport.borrow_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream.get_mut().0.get_mut()).poll_read(cx, buf),
        }
    }

    /// Whether the application has sent what was not read yet.
    pub(super) fn has_input(&self) -> bool {
        matches!(self.transport.borrow().peek(), Ok(1..))
    }

    /// Whether more can be written, as far as is known without a system call.
    pub(super) fn is_writable(&self) -> bool {
        self.transport.borrow().readiness(Interest::WRITABLE).is_writable()
    }

    /// Whether the connection is gone for certain, both ways: it was reset, or is a Unix socket that was closed. An
    /// application that closes a TCP connection looks like one that only half-closes it. Costs no system call.
    pub(super) fn is_gone(&self) -> bool {
        let ready = self.transport.borrow().readiness(Interest::WRITABLE | Interest::ERROR);
        ready.is_write_closed() || ready.is_error()
    }
}

/// Whether what came ends with a `close_notify`. What is before it stays in the TLS session for the next read.
fn has_close_notify(stream: &mut TlsStream<ClientHello<TcpStream>>) -> bool {
    let (hello, session) = stream.get_mut();
    let tcp = hello.get_ref();
    // An error, or more than the session holds, shows at the next read.
    while matches!(session.read_tls(&mut WhatCame(tcp)), Ok(1..)) && session.process_new_packets().is_ok() {}
    session.process_new_packets().is_ok_and(|state| state.peer_has_closed())
}

/// Reads without waiting.
struct WhatCame<'a>(&'a TcpStream);

impl io::Read for WhatCame<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Transport {
    /// How much of one byte is there to be read; 0 is the end.
    fn peek(&self) -> io::Result<usize> {
        let mut byte = [MaybeUninit::uninit()];
        match self {
            Self::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0.get_ref()).peek(&mut byte),
        }
    }

    /// What is known of the socket without asking.
    fn readiness(&self, interest: Interest) -> Ready {
        let ready = match self {
            Self::Tcp(stream) => stream.ready(interest).now_or_never(),
            Self::Unix(stream) => stream.ready(interest).now_or_never(),
            Self::Tls(stream) => stream.get_ref().0.get_ref().ready(interest).now_or_never(),
        };
        ready.and_then(Result::ok).unwrap_or(Ready::EMPTY)
    }
}

/// Forwards a call to whatever carries the bytes.
macro_rules! carried {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport.get_mut() {
            Transport::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Transport::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Transport::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        carried!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        carried!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        carried!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, stream => stream.poll_shutdown(cx))
    }
}
