//! A connection to an HTTP/2 upstream that reads no more than memory allows.
//!
//! Every stream has a window, so what one response may leave here is bounded; the sum of all is not. Where memory has run
//! out, the connection reads a little at a time, with pauses: enough for pings, settings and window updates, which
//! would otherwise wait behind data that no application takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::memory::{self, SMALL_READ};
use super::metrics::Limited;

/// A stream whose reads are counted.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    /// Until when the next small read waits.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Metered<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, pause: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if memory::may_read() {
            this.pause = None;
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let pause = this.pause.get_or_insert_with(|| {
                memory::limited(Limited::Read);
                Box::pin(tokio::time::sleep(PAUSE))
            });
            ready!(pause.as_mut().poll(cx));
            let mut space = [0; SMALL_READ];
            let mut few = ReadBuf::new(&mut space[..SMALL_READ.min(buf.remaining())]);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut few))?;
            buf.put_slice(few.filled());
            this.pause = None;
        }
        memory::read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Between two small reads.
const PAUSE: Duration = Duration::from_millis(50);
