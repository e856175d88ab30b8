//! One sending of a request: a head that is kept, a body that goes, one connection, one answer.
//!
//! The head is borrowed and not consumed: a request may be sent again, on another connection or with another token. What
//! may be sent again, and when, is `sender`'s to say; this file says only how a sending failed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use cupbearer_h1::MAX_FIELDS;
use http::header::{EXPECT, HOST};
use http::uri::Authority;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use hyper::client::conn::TrySendError;

use super::api::Upstream;
use super::download::Download;
use super::failure::SendFailure;
use super::h1::{self, Http1Pool, ResponseManner};
use super::metered::Intake;
use super::pool::{Connection, ConnectionAge, Pool};
use super::received_body::ReceivedBody;
use super::request_body::RequestBody;
use crate::proxy::error::hyper_error::{
    has_died, is_ended_as_malformed, is_judged_malformed, is_over_all_limits, is_unprocessed, reset_of,
};
use crate::proxy::error::{BodyError, Malformed};
use crate::proxy::http2::head_marks::marked_fields;
use crate::proxy::memory::HeadRoom;
use crate::proxy::message::outbound_head::{OutboundHead, RequestKind, size_of_fields};
use crate::proxy::message::upgrade;

/// Whether a response is late for lack of memory.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// Its head has come, or a part of it, and waits for memory.
    head: Cell<bool>,
    /// What the HTTP/2 connection that it comes by may read.
    intake: RefCell<Option<Rc<Intake>>>,
}

impl Waits {
    /// Whether the head waits.
    pub(crate) const fn head(&self) -> &Cell<bool> {
        &self.head
    }

    /// It is expected on an HTTP/2 connection.
    fn on(&self, intake: &Rc<Intake>) {
        *self.intake.borrow_mut() = Some(Rc::clone(intake));
    }

    /// Whether there would be a response with more memory.
    pub(crate) fn for_memory(&self) -> bool {
        self.head.get() || self.intake.borrow().as_ref().is_some_and(|intake| intake.is_clogged())
    }
}

impl Connection {
    pub(crate) const fn age(&self) -> ConnectionAge {
        match self {
            Self::Http1 { age, .. } | Self::Http2 { age, .. } => *age,
        }
    }

    /// Which of the shared connections it is; `None` for one that is not shared.
    pub(crate) const fn number(&self) -> Option<u64> {
        match self {
            Self::Http1 { .. } => None,
            Self::Http2 { number, .. } => Some(*number),
        }
    }

    /// Sends a request and waits for the head of its answer. `on_interim` is told of each interim answer; of HTTP/2's hyper
    /// does not tell, so an expected 100 is taken as said there. `waits` says whether the response waits for memory.
    pub(crate) async fn send(
        self,
        pool: &Rc<Pool>,
        head: &OutboundHead,
        body: RequestBody,
        on_interim: &dyn Fn(StatusCode, HeaderMap),
        waits: &Waits,
    ) -> Result<Response<Download>, SendFailure> {
        let settings = &pool.upstream().settings;
        let (patience, max_head) = (settings.idle_timeout, settings.max_response_header_size);
        match self {
            Self::Http1 { wire, .. } => {
                let keeper = Rc::clone(pool) as Rc<Http1Pool>;
                let manner = ResponseManner { patience, max_head, on_interim, waits: waits.head() };
                let response = h1::send(wire, keeper, head, body, manner).await?;
                Ok(response.map(|answer| Download::wire(answer, patience)))
            }
            // `alone` ends with the head of the response: then the upstream has taken that of the request.
            Self::Http2 { mut sender, streams, peer, alone: _alone, .. } => {
                if let Some(limit) = peer.max_header_list_size.map(|limit| limit as usize)
                    && let size = head.list_size(&pool.upstream().scheme)
                    && size > limit
                {
                    return Err(SendFailure::HeadRefused { size, limit });
                }
                waits.on(&streams.0);
                let mut request = to_http2(head, body, pool.upstream());
                if request.headers_mut().remove(EXPECT).is_some() {
                    on_interim(StatusCode::CONTINUE, HeaderMap::new());
                }
                if head.asks == RequestKind::WebSocket {
                    upgrade::to_connect(&mut request);
                }
                let response =
                    sender.try_send_request(request).await.map_err(|failed| failure(failed, max_head))?;
                if streams.0.has_marks() {
                    marked_fields(response.headers()).map_err(SendFailure::Malformed)?;
                }
                let size = size_of_fields(response.headers());
                if size > max_head || response.headers().len() > MAX_FIELDS {
                    return Err(SendFailure::TooLarge(max_head));
                }
                HeadRoom::default().whole(size, waits.head()).await;
                let status = response.status();
                let mut response = response.map(|incoming| {
                    let body = ReceivedBody::response(incoming, status, max_head);
                    Download::shared(body, streams, patience)
                });
                match poll_fn(|cx| Poll::Ready(response.body_mut().look_ahead(cx))).await {
                    Ok(()) => Ok(response),
                    Err(BodyError::TrailersTooLarge(_)) => Err(SendFailure::TooLarge(max_head)),
                    Err(error) => Err(SendFailure::Cut(error.cut())),
                }
            }
        }
    }
}

/// Scheme and authority are in the target, not in Host (RFC 9113 section 8.3.1).
fn to_http2(head: &OutboundHead, body: RequestBody, upstream: &Upstream) -> Request<RequestBody> {
    let mut request = Request::new(body);
    head.method.clone_into(request.method_mut());
    head.headers.clone_into(request.headers_mut());
    let host = request.headers_mut().remove(HOST).filter(|host| *host != upstream.authority.as_str());
    let other = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = head.uri.clone().into_parts();
    parts.scheme = Some(upstream.scheme.clone());
    parts.authority = Some(other.unwrap_or_else(|| upstream.authority.clone()));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_else(|_| head.uri.clone());
    *request.version_mut() = Version::HTTP_2;
    request
}

fn failure(mut failed: TrySendError<Request<RequestBody>>, max_head: usize) -> SendFailure {
    match failed.take_message() {
        Some(unsent) => SendFailure::Unsent(unsent.into_body()),
        None if is_unprocessed(failed.error()) => SendFailure::Unprocessed,
        None if let Some(reset) = reset_of(failed.error()) => SendFailure::Reset(reset),
        None if has_died(failed.error()) => SendFailure::Died,
        None if is_over_all_limits(failed.error()) => SendFailure::TooLarge(max_head),
        None if is_ended_as_malformed(failed.error()) => SendFailure::NotHttp2,
        None if failed.error().is_parse() || is_judged_malformed(failed.error()) => {
            SendFailure::Malformed(Malformed::Http2)
        }
        None => SendFailure::Broken,
    }
}
