//! The end of a connection whose application may still be sending (RFC 9112 section 9.6).
//!
//! A socket that is closed with unread bytes in it is reset, and a reset may destroy a response before the application has
//! read it. So the proxy ends its own side, reads on and discards, until the application has closed or a bound has passed.
//! `connection` does so at the end of HTTP/1.1, and while a response is written to an application that still sends a body
//! which nothing wants. It holds no route's slot, and counts among the connections.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::time::Instant;

use super::context::{Downstream, DrainStage};
use super::stream::Stream;
use crate::clock;

/// What may still be discarded of one connection.
#[derive(Debug)]
pub(crate) struct Discard {
    left: u64,
    /// When something came last.
    moved: Instant,
}

impl Discard {
    pub(crate) fn new() -> Self {
        Self { left: MAX_BYTES, moved: clock::now() }
    }

    /// Discards what is there. Ready where nothing more can come, or nothing more is read.
    pub(crate) fn poll(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<()> {
        let mut room = [const { MaybeUninit::uninit() }; ROOM];
        for _ in 0..MAX_ROUNDS {
            let mut read = ReadBuf::uninit(&mut room);
            let Ok(()) = ready!(stream.poll_read_raw(cx, &mut read)) else { return Poll::Ready(()) };
            let count = read.filled().len() as u64;
            self.left = self.left.saturating_sub(count);
            if count == 0 || self.left == 0 {
                return Poll::Ready(());
            }
            self.moved = clock::now();
        }
        // Others on this worker have something to do, too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Discards what comes on a connection whose own side was ended, for `limit` at the most. `is_over` says that the
/// application's last request is whole: then only what it has sent behind that is a reason to wait.
pub(crate) async fn linger(downstream: &Downstream, mut discard: Discard, is_over: bool, limit: Duration) {
    let began = clock::now();
    let mut timer = None;
    poll_fn(|cx| {
        let before = discard.moved;
        let is_late = downstream.worker.stage() == DrainStage::Ending;
        if is_late || discard.poll(&downstream.stream, cx).is_ready() {
            return Poll::Ready(());
        }
        if timer.is_none() && is_over && discard.moved == before {
            return Poll::Ready(());
        }
        let deadline = (discard.moved.max(began) + LINGER_SILENCE).min(began + limit);
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    })
    .await;
}

/// The same for a stream that no request has come by.
pub(crate) async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) {
    let all = async {
        let mut room = vec![0; ROOM];
        let mut left = MAX_BYTES;
        while left > 0 {
            match tokio::time::timeout(LINGER_SILENCE, stream.read(&mut room)).await {
                Ok(Ok(count @ 1..)) => left = left.saturating_sub(count as u64),
                Ok(Ok(0) | Err(_)) | Err(_) => return,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER_TIME, all).await;
}

/// Bytes that are discarded at the most: an upload of any usual size ends before.
const MAX_BYTES: u64 = 1 << 30;
/// How long a connection lingers at the most, and how long without a byte: nginx has the same.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(30);
pub(crate) const LINGER_SILENCE: Duration = Duration::from_secs(5);
/// Bytes that are read at a time, and reads in a row before others get their turn.
const ROOM: usize = 16 * 1024;
const MAX_ROUNDS: usize = 16;
