//! The bytes under a connection to an upstream: TCP or a Unix socket, in the clear or under TLS.
//!
//! `connect` makes one, `cupbearer_h1` reads and writes it, a tunnel takes it over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use cupbearer_h1::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// A connected stream. TLS stands behind a box: it is a kilobyte, and most connections have none.
#[derive(Debug)]
pub(crate) enum UpstreamStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    TlsUnix(Box<TlsStream<UnixStream>>),
}

impl Transport for UpstreamStream {
    /// It costs a system call only where the runtime has seen an event.
    fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(tcp) => tcp.try_read(&mut byte),
            Self::Unix(unix) => unix.try_read(&mut byte),
            // Session tickets and key updates are read over: only what is for us counts.
            other @ (Self::Tls(_) | Self::TlsUnix(_)) => {
                let mut context = Context::from_waker(Waker::noop());
                return Pin::new(other).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending();
            }
        };
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Under TLS the peer saw nothing where the bytes are one record at most: half of one cannot be read.
    fn is_all_or_nothing(&self, len: usize) -> bool {
        !matches!(self, Self::Tls(_) | Self::TlsUnix(_)) || len <= MAX_TLS_RECORD
    }
}

impl From<TcpStream> for UpstreamStream {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl From<UnixStream> for UpstreamStream {
    fn from(unix: UnixStream) -> Self {
        Self::Unix(unix)
    }
}

impl From<TlsStream<TcpStream>> for UpstreamStream {
    fn from(tls: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(tls))
    }
}

impl From<TlsStream<UnixStream>> for UpstreamStream {
    fn from(tls: TlsStream<UnixStream>) -> Self {
        Self::TlsUnix(Box::new(tls))
    }
}

/// Does the same with whichever stream it is.
macro_rules! each {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream.get_mut() {
            UpstreamStream::Tcp(io) => {
                let $io = Pin::new(io);
                $call
            }
            UpstreamStream::Unix(io) => {
                let $io = Pin::new(io);
                $call
            }
            UpstreamStream::Tls(io) => {
                let $io = Pin::new(&mut **io);
                $call
            }
            UpstreamStream::TlsUnix(io) => {
                let $io = Pin::new(&mut **io);
                $call
            }
        }
    };
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_shutdown(cx))
    }
}

/// Plaintext of one TLS record (RFC 8446 section 5.1).
const MAX_TLS_RECORD: usize = 16 * 1024;
