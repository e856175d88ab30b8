//! Sends a request upstream and brings its response back. `sender` says when it is sent again for its connection's sake, and
//! `retry_unauthorized` what follows when its token is refused.

use std::cell::Cell;
use std::rc::Rc;

use cupbearer_h1::Malformed::UnexpectedSwitch;
use http::{Method, Response, StatusCode, Uri, Version};
use hyper::body::Body as _;

use super::credentials::AttachedCredentials;
use super::grpc::{self, TrailerWatch};
use super::response_body::ResponseBody;
use super::retry_policy::{Decision, RetryPolicy};
use super::retry_unauthorized::{note_unlisted, recover};
use super::rewrite::Rewriter;
use super::route_table::RouteEntry;
use super::sender::RequestSender;
use crate::clock;
use crate::proxy::downstream::context::Downstream;
use crate::proxy::downstream::exchange::Exchange;
use crate::proxy::error::{ProxyError, UpstreamFault};
use crate::proxy::message::headers::{Expect, HopByHop};
use crate::proxy::message::outbound_head::OutboundHead;
use crate::proxy::upstream::attempt::Waits;
use crate::proxy::upstream::download::Download;
use crate::proxy::upstream::expect_continue::Gate;
use crate::proxy::upstream::pool::Pool;
use crate::proxy::upstream::received_body::ReceivedBody;
use crate::proxy::upstream::replay_body::RecordLimit;
use crate::proxy::upstream::request_body::RequestBody;
use crate::proxy::websocket::handshake::{Handshake, HandshakeOutcome};

/// A request, but for its body, made for the next hop.
pub(super) struct Outbound<'t> {
    pub(super) head: &'t mut OutboundHead,
    pub(super) hop: HopByHop,
    /// The route that it takes.
    pub(super) entry: &'t RouteEntry,
    /// The credentials that the proxy put on; `None`: none.
    pub(super) used: Option<AttachedCredentials>,
    /// Where the head asks for a WebSocket.
    pub(super) handshake: Option<Box<Handshake>>,
    /// What is counted and told of the request.
    pub(super) exchange: &'t Exchange,
    /// What interim answers are rewritten by, and the target that the application asked for.
    pub(super) rewriting: Option<(&'t Rewriter<'t>, &'t Uri)>,
}

/// On an answer that came before the request's body was asked for, or after which no more of it is sent on: the body may come
/// or not, so nothing can follow it (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyUnasked;

/// Forwards a request with `body`; the answer's body streams from the upstream.
pub(super) async fn forward(
    pool: &Rc<Pool>,
    outbound: Outbound<'_>,
    body: ReceivedBody,
    downstream: &Downstream,
) -> Result<Response<ResponseBody>, ProxyError> {
    let Outbound { head, hop, entry, mut used, handshake, exchange, rewriting } = outbound;
    let settings = &pool.upstream().settings;
    // Without a body there is nothing to hold back, whatever was expected.
    let (gate, opener) = if hop.expect == Expect::Continue && !body.is_end_stream() {
        let (gate, opener) = Gate::new();
        (Some(gate), Some(opener))
    } else {
        (None, None)
    };
    let policy = RetryPolicy::of(&entry.route);
    let limit = RecordLimit {
        replay: used.as_ref().map_or(0, |used| policy.buffer_limit(used.binding.is_some())),
        unprocessed: if pool.shares() { UNPROCESSED_LIMIT } else { 0 },
    };
    let (body, upload) = RequestBody::new(body, &downstream.watch, settings.idle_timeout, gate, limit);
    let begun = clock::now();
    if let Some(upload) = &upload {
        upload.count_in(exchange.received());
    }
    let (token, tracing, timing) = (entry.token.as_ref(), exchange.tracing(), exchange.timing());
    let (waits, rounds) = (Waits::default(), Cell::new(0));
    let sender = RequestSender {
        pool,
        downstream,
        token,
        tracing,
        timing,
        waits,
        rounds,
        upload,
        opener,
        begun,
        rewriting,
    };
    let mut received = sender.send_with_retry(head, body, used.as_ref(), sender.deadline()).await?;
    let is_post = head.method == Method::POST;
    if let Some(used) = &mut used
        && policy.is_refusal(&received)
    {
        // Rare, and its future is large: boxed, it is no part of every request's.
        received = Box::pin(recover(&sender, entry, head, used, received)).await?;
    } else if received.status().is_client_error() {
        if received.status() == StatusCode::UNAUTHORIZED {
            entry.metrics.unauthorized();
        }
        if used.is_some() {
            note_unlisted(entry, &received);
        }
    }
    if let Some(upload) = &sender.upload {
        upload.forget();
    }
    let mut response = received;
    if let Some(handshake) = handshake {
        return Ok(match Box::pin(handshake.answered(response)).await? {
            HandshakeOutcome::Tunnel(response) => response.map(ResponseBody::tunnel),
            HandshakeOutcome::Response(response) => response.map(ResponseBody::upstream),
        });
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ProxyError::Upstream(UpstreamFault::Malformed(UnexpectedSwitch.into())));
    }
    if sender.opener.is_some_and(|opener| !opener.is_open()) || response.body().cuts_upload() {
        response.extensions_mut().insert(BodyUnasked);
    }
    let watch = used.filter(|_| is_post).and_then(|used| watch_of(entry, used, &response));
    let response = response.map(ResponseBody::upstream);
    Ok(match watch {
        Some(watch) => response.map(|body| body.watched(watch)),
        None => response,
    })
}

/// What looks at the trailers of a gRPC call, which is always a POST and answered by HTTP/2.
fn watch_of(
    entry: &RouteEntry,
    used: AttachedCredentials,
    answer: &Response<Download>,
) -> Option<TrailerWatch> {
    let of_call = answer.version() == Version::HTTP_2 && grpc::is_grpc(answer.headers());
    let renews = RetryPolicy::of(&entry.route).decide() != Decision::Pass;
    if !of_call || !renews || answer.body().is_end_stream() {
        return None;
    }
    Some(TrailerWatch { token: entry.token.clone()?, generation: used.generation, caller: used.caller })
}

/// Bytes of an upload that are kept until it is known that an HTTP/2 upstream has begun with it: more than the window that
/// most servers open a stream with (64 KiB), and what is on its way behind that.
const UNPROCESSED_LIMIT: usize = 256 * 1024;
