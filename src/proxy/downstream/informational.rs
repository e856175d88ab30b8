//! Interim answers (RFC 9110 section 15.2) on their way to an application that speaks HTTP/1.1.
//!
//! hyper's server sends none, so they go around it: [`Downstream::inform`](crate::proxy::listen::connection::Downstream::inform) queues
//! them, and the connection's socket writes them when hyper has nothing left to write, which is before the final answer and
//! behind the one before. In HTTP/2 there is no such moment, so they end here.

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};

use crate::proxy::message::headers::strip_response;

/// The interim answers that wait on one connection.
#[derive(Debug, Default)]
pub(super) struct Interim {
    queued: RefCell<Vec<u8>>,
    /// Whether a final answer waits for them to be written.
    awaited: Cell<bool>,
}

impl Interim {
    /// Queues one, without what is for this hop alone; `false`: too many wait already, and this one is lost. A 100 is
    /// hyper's to send, and 101 is no interim answer.
    pub(crate) fn queue(&self, status: StatusCode, mut headers: HeaderMap) -> bool {
        if !status.is_informational()
            || matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS)
        {
            return true;
        }
        // An interim answer has no body (RFC 9110 section 8.6): what frames one there says nothing.
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
        if strip_response(Version::HTTP_11, &mut headers).is_err() {
            return true;
        }
        let mut queued = self.queued.borrow_mut();
        let before = queued.len();
        queued.extend_from_slice(b"HTTP/1.1 ");
        queued.extend_from_slice(status.as_str().as_bytes());
        queued.push(b' ');
        queued.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        queued.extend_from_slice(b"\r\n");
        for (name, value) in &headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                queued.extend_from_slice(part);
            }
        }
        queued.extend_from_slice(b"\r\n");
        let fits = queued.len() <= MAX_INTERIM;
        if !fits {
            queued.truncate(before);
        }
        fits
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued.borrow().is_empty()
    }

    /// Ready once all are written.
    pub(super) fn poll_written(&self) -> Poll<()> {
        let empty = self.is_empty();
        self.awaited.set(!empty);
        if empty { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Writes them by `write`, and wakes who waits for that.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let mut queued = self.queued.borrow_mut();
        while !queued.is_empty() {
            let count = ready!(write(cx, &queued))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            queued.drain(..count);
        }
        *queued = Vec::new();
        if self.awaited.take() {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}

/// Bytes of interim answers that may wait for one application.
const MAX_INTERIM: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::HeaderValue;
    use http::header::{CONNECTION, LINK};

    use super::*;

    const HINTS: StatusCode = StatusCode::EARLY_HINTS;

    fn hints() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(LINK, HeaderValue::from_static("</a.css>; rel=preload"));
        headers
    }

    fn written(interim: &Interim) -> String {
        let mut all = Vec::new();
        let done = interim.poll_write(&mut Context::from_waker(Waker::noop()), |_, bytes| {
            // A socket takes what it likes.
            let count = bytes.len().min(7);
            all.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        });
        assert!(matches!(done, Poll::Ready(Ok(()))));
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn they_are_written_in_order_without_what_is_for_this_hop() {
        let interim = Interim::default();
        let mut first = hints();
        first.append(CONNECTION, HeaderValue::from_static("x-hop"));
        first.append("x-hop", HeaderValue::from_static("1"));
        first.append(CONTENT_LENGTH, HeaderValue::from_static("5"));
        first.append("cupbearer-error", HeaderValue::from_static("forged"));
        assert!(interim.queue(HINTS, first) && interim.queue(StatusCode::PROCESSING, HeaderMap::new()));
        assert!(interim.poll_written().is_pending());
        let expected =
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
        assert_eq!(written(&interim), expected);
        assert!(interim.poll_written().is_ready());
    }

    #[test]
    fn what_is_no_interim_answer_or_not_ours_to_send_is_not_sent() {
        let interim = Interim::default();
        for status in [100, 101, 200, 404] {
            assert!(interim.queue(StatusCode::from_u16(status).unwrap(), hints()));
        }
        assert_eq!(written(&interim), "");
    }

    #[test]
    fn more_than_an_application_reads_is_lost_and_not_kept() {
        let interim = Interim::default();
        let kept = (0..10_000).filter(|_| interim.queue(HINTS, hints())).count();
        let size = written(&interim).len();
        assert!(kept > 100 && size <= MAX_INTERIM, "{kept} in {size} bytes");
        assert!(interim.queue(HINTS, hints()), "there is room again");
    }
}
