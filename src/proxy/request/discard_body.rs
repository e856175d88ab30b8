//! A request's body that nothing wants: the proxy has refused the request, or failed, before it sent the body on.
//!
//! HTTP/2 resets the stream once the response is out (RFC 9113 section 8.1), which hyper does by itself. In HTTP/1.1 the
//! rest of the body stands before the next request. What is short is read, so that the connection goes on; otherwise it
//! ends with the response, and `linger` discards the rest.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes};

use crate::proxy::downstream::activity::Receiving;
use crate::proxy::downstream::context::Downstream;
use crate::proxy::upstream::received_body::ReceivedBody;

/// Whether the application sends its body without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sends {
    AtOnce,
    /// After a 100 (Continue), which will not come.
    WhenAsked,
}

/// Lets go of a request's body.
pub(super) fn discard(downstream: &Downstream, body: ReceivedBody, sends: Sends) {
    if body.is_end_stream() || downstream.watch.is_http2() {
        return;
    }
    let is_short = body.size_hint().exact().is_some_and(|length| length <= MAX_READ);
    let is_here = downstream.watch.is_between_requests();
    if (is_short || is_here) && sends == Sends::AtOnce {
        let receiving = Receiving::new(Rc::clone(&downstream.watch));
        // Ends with the body, with the connection, or in time.
        tokio::task::spawn_local(async move {
            if let Ok(true) = tokio::time::timeout(MAX_WAIT, to_the_end(body)).await {
                receiving.ended();
            }
        });
    } else {
        downstream.watch.abandon_body();
    }
}

/// Reads a body to its end; `false`: it broke off.
async fn to_the_end(body: ReceivedBody) -> bool {
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        drop::<Result<Bytes, _>>(frame.into_data());
    }
    true
}

/// Bytes of a body that are read for the sake of its connection, and how long that may take.
const MAX_READ: u64 = 64 * 1024;
const MAX_WAIT: Duration = Duration::from_secs(5);
