//! The last word to an application that began a request's head and did not end it within `header_timeout` (RFC 9110 section
//! 15.5.9).
//!
//! `connection` has it said once nothing else writes. It is not for a body that stops coming: there a handler answers.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::AsyncWrite as _;

use super::context::Downstream;
use crate::proxy::error::{ApplicationFault, ProxyError};

/// Writes the answer as far as the socket takes it at once, and ends the connection in order. A client that takes nothing is not
/// waited for: the connection was to be gone by now.
pub(crate) async fn tell(downstream: &Downstream) {
    let answer =
        downstream.worker.refuse(downstream.peer.remote, ProxyError::Request(ApplicationFault::HeadTimeout));
    poll_fn(|cx| {
        let mut transport = downstream.stream.transport();
        let mut transport = Pin::new(&mut *transport);
        if let Poll::Ready(Ok(_)) = transport.as_mut().poll_write(cx, &answer) {
            let _ = transport.as_mut().poll_flush(cx);
            let _ = transport.as_mut().poll_shutdown(cx);
        }
        Poll::Ready(())
    })
    .await;
}
