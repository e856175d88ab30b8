//! One request: guard, route, credentials, forward, answer. Plain calls in order.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use super::admit::{Admitted, admit};
use super::cors;
use super::credentials::{Attached, AttachedCredentials, attach, put};
use super::discard_body::{Sends, discard};
use super::forward::{BodyUnasked, Outbound, forward};
use super::limits::take_turn;
use super::max_forwards::{count_forward, last_hop};
use super::own_credentials::{Own, goes_beside, keeps_own, only_authorization, subject};
use super::response_body::ResponseBody;
use super::retry_unauthorized::has_settled;
use super::rewrite::Rewriter;
use super::route_table::RouteEntry;
use super::sender::DPOP;
use super::worker_routes::LocalTable;
use crate::clock::{self, BootInstant};
use crate::proxy::downstream::activity::Busy;
use crate::proxy::downstream::context::{Downstream, DrainStage};
use crate::proxy::downstream::exchange::Exchange;
use crate::proxy::error::{ApplicationFault, BadRequest, Malformed, ProxyError, TokenFault, UpstreamFault};
use crate::proxy::http2::request_heads;
use crate::proxy::message::fields::{self, Present};
use crate::proxy::message::forwarded::ForwardedHeaders;
use crate::proxy::message::headers::{
    Expect, HopByHop, add_via, has_passed, join_cookies, strip_request, strip_response,
};
use crate::proxy::message::outbound_head::{OutboundHead, RequestKind};
use crate::proxy::message::problem::Call;
use crate::proxy::message::stream_deadline::{Aging, StreamDeadline};
use crate::proxy::message::{reason_phrase, upgrade};
use crate::proxy::observe::access_log::{AccessRecord, Answerer};
use crate::proxy::observe::local_reply_log::bound_of;
use crate::proxy::observe::timing::WaitsFor;
use crate::proxy::observe::trace;
use crate::proxy::settings::OwnAuthorization;
use crate::proxy::upstream::forwarded_target;
use crate::proxy::upstream::received_body::ReceivedBody;
use crate::proxy::websocket::handshake::{self, Handshake, HandshakeForm};
use crate::proxy::websocket::tunnel::PendingTunnel;
use crate::token::TokenHandle;

/// Answers a request: with the upstream's answer, or with the proxy's own.
pub(crate) async fn handle(
    table: Rc<LocalTable>,
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let started = clock::now();
    let (mut parts, body) = request.into_parts();
    let body = ReceivedBody::request(body, parts.version);
    let present = Present::of(&parts.headers);
    let unmarked = request_heads::restore(&downstream.stream.head_notes, &mut parts);
    let in_form = unmarked.and(fields::normalise(parts.version, &mut parts.headers, present));
    let connect = match parts.method {
        Method::CONNECT => handshake::from_connect(&mut parts),
        _ => None,
    };
    let call = Call::of(parts.version, &parts.headers);
    let sends = if present.expect { Sends::WhenAsked } else { Sends::AtOnce };
    let mut body = Some(body);
    let admitted = match in_form {
        Ok(()) => admit(&downstream, &table, &mut parts, present),
        Err(fault) => Err(BadRequest::Malformed(fault).into()),
    };
    let mut response = match admitted {
        Ok(Admitted::Route { entry, caller }) => {
            let origin = cors::origin_of(caller, &parts.headers);
            if present.addresses
                && let Some(rewriter) = Rewriter::new(&table.routes, entry, &parts, &downstream.peer)
            {
                rewriter.request(table.pools[entry.upstream].upstream(), &mut parts);
            }
            let mut exchange = begin(&downstream, &entry.metrics, &parts, started);
            let form = if connect.is_some() { HandshakeForm::Connect } else { HandshakeForm::Upgrade };
            let mut age = entry.route.max_stream_age.map(|limit| StreamDeadline::new(started, limit));
            let answered = {
                let mut sent =
                    pin!(to_upstream(&table, entry, &downstream, &mut parts, &mut body, form, &mut exchange));
                match &mut age {
                    None => sent.await,
                    Some(age) => tokio::select! {
                        biased;
                        answered = &mut sent => answered,
                        () = age.reached() => Err(ProxyError::StreamTooOld),
                    },
                }
            };
            let mut response = finish(&downstream, &mut exchange, Some(entry), answered, call);
            cors::tell(table.routes.guard(), response.headers_mut(), origin);
            match response.body_mut().take_tunnel() {
                None => end_with_body(&mut response, exchange, age, call),
                Some(tunnel) => {
                    let worker = Rc::clone(&downstream.worker);
                    let opening = PendingTunnel { tunnel, exchange, age, worker };
                    opening.begin(&downstream, connect, response.headers_mut());
                }
            }
            response
        }
        Ok(Admitted::Preflight) => own(
            &downstream,
            &table,
            &parts,
            started,
            Ok(cors::preflight(table.routes.guard(), &parts.headers).map(ResponseBody::from)),
            call,
        ),
        Ok(Admitted::LastHop) => {
            own(&downstream, &table, &parts, started, Ok(last_hop().map(ResponseBody::from)), call)
        }
        Err(error) => {
            let reader = cors::reader(table.routes.guard(), &error, &parts.headers);
            let is_stream_error = error.is_stream_error();
            let mut response = own(&downstream, &table, &parts, started, Err(error), call);
            if is_stream_error {
                response.body_mut().reset_behind();
            }
            if let Some(origin) = reader {
                cors::allow(table.routes.guard(), response.headers_mut(), origin);
            }
            response
        }
    };
    downstream.informed().await;
    if let Some(unwanted) = body {
        discard(&downstream, unwanted, sends);
    }
    let is_last = downstream.worker.stage() != DrainStage::Serving || downstream.watch.has_abandoned_body();
    let closes = is_last && !downstream.watch.is_http2();
    if closes && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if parts.version == Version::HTTP_10 {
        downstream.stream.ends_body.set(!response.headers().contains_key(CONTENT_LENGTH));
    }
    downstream.watch.responded();
    Ok(response)
}

/// Gives an answer's body what ends when it does, and what ends it at its age.
fn end_with_body(
    response: &mut Response<ResponseBody>,
    exchange: Exchange,
    age: Option<StreamDeadline>,
    call: Call,
) {
    if let Some(age) = age
        && response.body().may_age()
    {
        let aging = Aging::new(age, call, response.headers());
        response.body_mut().end_by(aging);
    }
    response.body_mut().end_with(exchange);
}

/// Attaches the token, makes the head that goes upstream, and sends it. Takes of `parts` what goes there.
async fn to_upstream(
    table: &LocalTable,
    entry: &RouteEntry,
    downstream: &Downstream,
    parts: &mut Parts,
    body: &mut Option<ReceivedBody>,
    form: HandshakeForm,
    exchange: &mut Exchange,
) -> Result<Response<ResponseBody>, ProxyError> {
    exchange.take_room(parts)?;
    let pool = &table.pools[entry.upstream];
    let upstream = pool.upstream();
    let rewriter = Rewriter::new(&table.routes, entry, parts, &downstream.peer);
    let told = ForwardedHeaders::of(upstream.settings.forwarded, &downstream.peer, parts);
    let host = upstream.host(parts);
    let headers = &mut parts.headers;
    let mut hop = strip_request(headers, upstream.settings.forwarded, table.routes.overrides());
    refuse_by_route(entry, downstream, headers, &hop)?;
    if hop.expect == Expect::Continue {
        headers.remove(EXPECT);
    }
    let mut used = None;
    if let Some(token) = &entry.token
        && !keeps_own(entry.route.own_authorization, headers, token)?
    {
        let caller = if token.is_per_caller() { Some(only_authorization(headers)?) } else { None };
        let beside = goes_beside(entry.route.own_authorization, token);
        if caller.is_some() || (token.settings().attachment.header != AUTHORIZATION && !beside) {
            headers.remove(AUTHORIZATION);
        }
        if hop.dpop && !beside {
            headers.remove(DPOP);
        }
        let is_ours = caller.is_none();
        used = Some(credentials(headers, token, caller, downstream, exchange).await?);
        let queued = take_turn(entry.limits.as_ref(), downstream, exchange).await?;
        let settling = pin!(has_settled(entry, token, body.as_ref()));
        if (exchange.timing().wait(WaitsFor::Other, settling).await || queued) && is_ours {
            // It may have been renewed meanwhile.
            used = Some(credentials(headers, token, None, downstream, exchange).await?);
        }
    } else {
        take_turn(entry.limits.as_ref(), downstream, exchange).await?;
    }
    told.put(headers);
    if exchange.tracing().is_none() {
        trace::pass_on_or_begin(headers, hop.trace, &downstream.worker.proxy().records.traces);
    }
    if let Some(record) = exchange.record_mut() {
        let token = entry.token.as_ref().filter(|_| used.is_some());
        record.sent_to(&upstream.name, token.map(TokenHandle::name), headers);
    }
    let via = &downstream.worker.proxy().via;
    let (via, from_http2) = match parts.version {
        Version::HTTP_2 => (&via.http_2, true),
        Version::HTTP_10 => (&via.http_1_0, false),
        _ => (&via.http_1_1, false),
    };
    if upstream.settings.via {
        add_via(headers, via);
    } else if hop.via {
        headers.remove(VIA);
    }
    if parts.method == Method::OPTIONS {
        count_forward(headers);
    }
    if from_http2 {
        join_cookies(headers);
    }
    let uri = if parts.uri.path() == "*" {
        // HTTP/2's target has an authority, too, which is no part of this form.
        Uri::from_static("*")
    } else {
        forwarded_target::forwarded(&parts.uri, upstream, entry.route.forwarded_part(parts.uri.path()))?
    };
    make_hop_fields(headers, &hop, host);
    let upgrade = hop.upgrade.take().filter(|_| parts.version == Version::HTTP_11).map(|upgrade| *upgrade);
    let is_bare = parts.method == Method::GET && body.as_ref().is_none_or(ReceivedBody::is_end_stream);
    let handshake = Handshake::wanted(form, upgrade, is_bare, upstream, headers)?;
    let asks = if handshake.is_some() { RequestKind::WebSocket } else { RequestKind::Answer };
    let Some(body) = body.take() else { return Err(BadRequest::Body.into()) };
    let method = std::mem::take(&mut parts.method);
    let mut head = OutboundHead { method, uri, headers: std::mem::take(&mut parts.headers), asks };
    let rewriting = rewriter.as_ref().map(|rewriter| (rewriter, &parts.uri));
    let outbound = Outbound { head: &mut head, hop, entry, used, handshake, exchange, rewriting };
    let forwarded = forward(pool, outbound, body, downstream).await;
    let answered = forwarded.and_then(|mut response| {
        strip(downstream, &mut response).map_err(UpstreamFault::Malformed)?;
        if let Some((rewriter, uri)) = rewriting {
            let status = response.status();
            rewriter.response(upstream, uri, status, response.headers_mut());
        }
        Ok(response)
    });
    pool.upstream().went(answered.as_ref().err());
    answered
}

/// What only this route, or this hop, refuses.
fn refuse_by_route(
    entry: &RouteEntry,
    downstream: &Downstream,
    headers: &HeaderMap,
    hop: &HopByHop,
) -> Result<(), ProxyError> {
    if hop.via && has_passed(headers, &downstream.worker.proxy().via.pseudonym) {
        return Err(ProxyError::Request(ApplicationFault::Loop));
    }
    if hop.expect == Expect::Unknown {
        return Err(ProxyError::Request(ApplicationFault::ExpectationFailed));
    }
    if entry.route.own_authorization == OwnAuthorization::Refuse
        && !entry.token.as_ref().is_some_and(TokenHandle::is_per_caller)
        && Own::of(headers, entry.token.as_ref()) != Own::None
    {
        return Err(ProxyError::AuthorizationRefused);
    }
    Ok(())
}

/// Attaches `token`, or the one that `caller`'s is traded in for; where none is usable, waits for one as long as its
/// policy says.
async fn credentials(
    headers: &mut HeaderMap,
    token: &TokenHandle,
    caller: Option<HeaderValue>,
    downstream: &Downstream,
    exchange: &Exchange,
) -> Result<AttachedCredentials, ProxyError> {
    let waits = || exchange.tracing().map(|tracing| tracing.wait(token.name()));
    let timing = exchange.timing();
    let credentials = match &caller {
        Some(caller) => {
            let mut asked = pin!(token.on_behalf(subject(caller)?));
            if let Some(known) = asked.as_mut().now_or_never() {
                return Ok(AttachedCredentials { caller: Some(caller.clone()), ..put(headers, &*known?) });
            }
            let _waits = waits();
            timing.wait(WaitsFor::Other, asked).await?
        }
        None => match attach(headers, token, BootInstant::now()) {
            Attached::Yes(used) => return Ok(used),
            Attached::No => {
                let _waits = waits();
                timing.wait(WaitsFor::Other, pin!(token.wait())).await.map_err(TokenFault::Unavailable)?
            }
        },
    };
    // HTTP/1.1 cannot tell who hung up from who only half-closed. A client that did either while there was nothing to answer
    // does not get an order placed in its name.
    if !downstream.watch.is_http2() && downstream.stream.has_ended() {
        return Err(ProxyError::Request(ApplicationFault::Gone));
    }
    Ok(AttachedCredentials { caller, ..put(headers, &credentials) })
}

/// The answer to send, with what only this proxy may say, or what it says itself.
fn finish(
    downstream: &Downstream,
    exchange: &mut Exchange,
    entry: Option<&RouteEntry>,
    answered: Result<Response<ResponseBody>, ProxyError>,
    call: Call,
) -> Response<ResponseBody> {
    let error = match answered {
        Ok(mut response) => {
            if response.extensions_mut().remove::<BodyUnasked>().is_some() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            *response.version_mut() = Version::HTTP_11;
            reason_phrase::complete(&mut response);
            let unchanged = response.status() == StatusCode::NOT_MODIFIED;
            if unchanged && response.headers().contains_key(CONTENT_LENGTH) && !downstream.watch.is_http2() {
                response.body_mut().omit();
            }
            exchange.answered(response.status(), Answerer::Upstream);
            return response;
        }
        Err(error) => error,
    };
    let cause = error.cause();
    tracing::debug!(kind = cause.kind, %error, "a request was answered by the proxy itself");
    if error.is_client_gone(|| downstream.has_gone()) {
        // It counts as given up, though one that has only closed its own side may read the response.
        return error.into_response(call).map(ResponseBody::from);
    }
    let metrics = exchange.metrics();
    metrics.failed(cause.kind);
    metrics.local_reply_log().responded(&error, || {
        bound_of(&error, downstream.worker.settings(), entry.map(|entry| &entry.route))
    });
    let response = error.into_response(call).map(ResponseBody::from);
    exchange.answered(response.status(), Answerer::Proxy(Some(cause)));
    response
}

/// Removes from a response what must not go downstream. What a 426 demands is said again for this hop (RFC 9110 section
/// 15.5.22).
fn strip(downstream: &Downstream, response: &mut Response<ResponseBody>) -> Result<(), Malformed> {
    let required = match response.status() {
        StatusCode::UPGRADE_REQUIRED if !downstream.watch.is_http2() => upgrade::passing(response.headers()),
        _ => None,
    };
    strip_response(response.version(), response.headers_mut())?;
    if response.status() == StatusCode::NO_CONTENT {
        // A reader that believed it would take the next response for the body (RFC 9110 section 8.6).
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    if let Some(protocols) = required {
        handshake::name_protocols(response.headers_mut(), protocols);
    }
    Ok(())
}

/// An answer that no route gives.
fn own(
    downstream: &Downstream,
    table: &LocalTable,
    parts: &Parts,
    started: Instant,
    answer: Result<Response<ResponseBody>, ProxyError>,
    call: Call,
) -> Response<ResponseBody> {
    let mut exchange = begin(downstream, table.routes.unrouted(), parts, started);
    let mut response = match answer {
        Ok(response) => {
            exchange.answered(response.status(), Answerer::Proxy(None));
            response
        }
        error @ Err(_) => finish(downstream, &mut exchange, None, error, call),
    };
    response.body_mut().end_with(exchange);
    response
}

fn begin(
    downstream: &Downstream,
    metrics: &Arc<crate::proxy::observe::metrics::RouteMetrics>,
    parts: &Parts,
    started: Instant,
) -> Exchange {
    let busy = Busy::new(Rc::clone(&downstream.watch));
    Exchange::begin(
        Arc::clone(metrics),
        started,
        busy,
        parts,
        AccessRecord::of(parts, &downstream.peer, &downstream.worker.proxy().records),
    )
}

/// The fields that this hop makes anew, after all that the application sent for this hop is gone.
fn make_hop_fields(headers: &mut HeaderMap, hop: &HopByHop, host: HeaderValue) {
    headers.insert(HOST, host);
    if hop.te_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if hop.expect == Expect::Continue {
        headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
}
