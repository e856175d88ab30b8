//! One sending of a request: a head that is kept, a body that goes, one connection, one answer.
//!
//! The head is borrowed and not consumed: a request may be sent again, on another connection or with another token. What
//! may be sent again, and when, is `forward`'s to say; this file says only how a sending failed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use cupbearer_h1::MAX_FIELDS;
use http::header::{EXPECT, HOST};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::client::conn::TrySendError;

use super::body::{BodyError, Download, RequestBody};
use super::error::{ProxyError, ResponseCut};
use super::h1::{self, Http1Pool, Manner};
use super::head_marks::marked_fields;
use super::malformed::Malformed;
use super::memory::HeadRoom;
use super::metered::Intake;
use super::pool::{Age, Connection, Pool};
use super::received::ReceivedBody;
use super::stream_reset::StreamReset;
use super::upstream::Upstream;
use super::websocket;

/// A request's head as it goes upstream, in origin-form.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) asks: Asks,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asks {
    /// An answer.
    #[default]
    Answer,
    /// A WebSocket, by an upgrade in HTTP/1.1 or an extended CONNECT in HTTP/2; or an upgrade to another protocol.
    WebSocket,
}

/// How a sending failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing of the request was sent: its body comes back whole.
    Unsent(RequestBody),
    /// The upstream says that it did not look at the request (RFC 9113 section 8.7).
    Unprocessed,
    /// The connection ended under the request: it may have been looked at.
    Died,
    /// The response is no HTTP.
    Malformed(Malformed),
    /// The connection ended under the request, since what came by it is no HTTP/2: another response, perhaps.
    NotHttp2,
    /// The upstream reset the request's stream.
    Reset(StreamReset),
    /// The head of the answer is over this many bytes, or has too many fields.
    TooLarge(usize),
    /// The head of the request is larger than the upstream says that it takes; nothing was sent.
    HeadRefused { size: usize, limit: usize },
    /// The response broke off behind its head, before any of it was passed on.
    Cut(ResponseCut),
    /// Anything else: the request's own body failed, above all.
    Broken,
}

/// Whether a response is late for lack of memory.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Its head has come, or a part of it, and waits for memory.
    head: Cell<bool>,
    /// What the HTTP/2 connection that it comes by may read.
    intake: RefCell<Option<Rc<Intake>>>,
}

impl Waits {
    /// Whether the head waits.
    pub(super) const fn head(&self) -> &Cell<bool> {
        &self.head
    }

    /// It is expected on an HTTP/2 connection.
    fn on(&self, intake: &Rc<Intake>) {
        *self.intake.borrow_mut() = Some(Rc::clone(intake));
    }

    /// Whether there would be a response with more memory.
    pub(super) fn for_memory(&self) -> bool {
        self.head.get() || self.intake.borrow().as_ref().is_some_and(|intake| intake.is_clogged())
    }
}

impl From<&Failure> for ProxyError {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Malformed(why) => Self::UpstreamMalformed(*why),
            Failure::TooLarge(limit) => Self::ResponseHeadTooLarge { limit: *limit },
            Failure::HeadRefused { size, limit } => Self::UpstreamHeadLimit { size: *size, limit: *limit },
            Failure::Cut(how) => Self::UpstreamCut(*how),
            Failure::Unprocessed => Self::NotProcessed,
            Failure::NotHttp2 => Self::UpstreamNotHttp2,
            Failure::Reset(reset) => Self::UpstreamReset(*reset),
            Failure::Unsent(_) | Failure::Died | Failure::Broken => Self::UpstreamBroken,
        }
    }
}

impl Head {
    /// Bytes of it as HTTP/1.1 writes it.
    pub(super) fn size(&self) -> usize {
        let target = self.uri.path_and_query().map_or(1, |target| target.as_str().len());
        self.method.as_str().len() + target + size_of_fields(&self.headers)
    }

    /// Bytes of it as HTTP/2 counts them (RFC 9113 section 6.5.2).
    fn list_size(&self, upstream: &Upstream) -> usize {
        let names = [":method", ":scheme", ":authority", ":path"];
        let pseudo =
            names.map(|name| name.len() + ENTRY).iter().sum::<usize>() + upstream.scheme.as_str().len();
        // The value of Host is that of `:authority`.
        let host = if self.headers.contains_key(HOST) { HOST.as_str().len() + ENTRY } else { 0 };
        self.size() + self.headers.len() * (ENTRY - LINE) + pseudo - host
    }
}

impl Connection {
    pub(super) const fn age(&self) -> Age {
        match self {
            Self::Http1 { age, .. } | Self::Http2 { age, .. } => *age,
        }
    }

    /// Which of the shared connections it is; `None` for one that is not shared.
    pub(super) const fn number(&self) -> Option<u64> {
        match self {
            Self::Http1 { .. } => None,
            Self::Http2 { number, .. } => Some(*number),
        }
    }

    /// Sends a request and waits for the head of its answer. `on_interim` is told of each interim answer; of HTTP/2's hyper
    /// does not tell, so an expected 100 is taken as said there. `waits` says whether the response waits for memory.
    pub(super) async fn send(
        self,
        pool: &Rc<Pool>,
        head: &Head,
        body: RequestBody,
        on_interim: &dyn Fn(StatusCode, HeaderMap),
        waits: &Waits,
    ) -> Result<Response<Download>, Failure> {
        let settings = &pool.upstream().settings;
        let (patience, max_head) = (settings.idle_timeout, settings.max_response_header_size);
        match self {
            Self::Http1 { wire, .. } => {
                let keeper = Rc::clone(pool) as Rc<Http1Pool>;
                let manner = Manner { patience, max_head, on_interim, waits: waits.head() };
                let response = h1::send(wire, keeper, head, body, manner).await?;
                Ok(response.map(|answer| Download::wire(answer, patience)))
            }
            // `alone` ends with the head of the response: then the upstream has taken that of the request.
            Self::Http2 { mut sender, streams, peer, alone: _alone, .. } => {
                if let Some(limit) = peer.max_header_list_size.map(|limit| limit as usize)
                    && let size = head.list_size(pool.upstream())
                    && size > limit
                {
                    return Err(Failure::HeadRefused { size, limit });
                }
                waits.on(&streams.0);
                let mut request = to_http2(head, body, pool.upstream());
                if request.headers_mut().remove(EXPECT).is_some() {
                    on_interim(StatusCode::CONTINUE, HeaderMap::new());
                }
                if head.asks == Asks::WebSocket {
                    websocket::to_connect(&mut request);
                }
                let response =
                    sender.try_send_request(request).await.map_err(|failed| failure(failed, max_head))?;
                if streams.0.has_marks() {
                    marked_fields(response.headers()).map_err(Failure::Malformed)?;
                }
                let size = size_of_fields(response.headers());
                if size > max_head || response.headers().len() > MAX_FIELDS {
                    return Err(Failure::TooLarge(max_head));
                }
                HeadRoom::default().whole(size, waits.head()).await;
                let status = response.status();
                let mut response = response.map(|incoming| {
                    let body = ReceivedBody::response(incoming, status, max_head);
                    Download::shared(body, streams, patience)
                });
                match poll_fn(|cx| Poll::Ready(response.body_mut().look_ahead(cx))).await {
                    Ok(()) => Ok(response),
                    Err(BodyError::TrailersTooLarge(_)) => Err(Failure::TooLarge(max_head)),
                    Err(error) => Err(Failure::Cut(error.cut())),
                }
            }
        }
    }
}

/// Scheme and authority are in the target, not in Host (RFC 9113 section 8.3.1).
fn to_http2(head: &Head, body: RequestBody, upstream: &Upstream) -> Request<RequestBody> {
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

fn failure(mut failed: TrySendError<Request<RequestBody>>, max_head: usize) -> Failure {
    match failed.take_message() {
        Some(unsent) => Failure::Unsent(unsent.into_body()),
        None if is_unprocessed(failed.error()) => Failure::Unprocessed,
        None if let Some(reset) = reset_of(failed.error()) => Failure::Reset(reset),
        None if has_died(failed.error()) => Failure::Died,
        None if is_over_all_limits(failed.error()) => Failure::TooLarge(max_head),
        None if is_ended_as_malformed(failed.error()) => Failure::NotHttp2,
        None if failed.error().is_parse() || is_judged_malformed(failed.error()) => {
            Failure::Malformed(Malformed::Http2)
        }
        None => Failure::Broken,
    }
}

/// Whether a connection ended under the request, as against an answer that made no sense.
fn has_died(error: &hyper::Error) -> bool {
    error.is_canceled()
        || error.is_closed()
        || error.is_incomplete_message()
        || causes(error)
            .any(|cause| cause.is::<std::io::Error>() || cause.downcast_ref().is_some_and(h2::Error::is_io))
}

/// A GOAWAY is told to the streams above its last alone. Where the upstream broke the protocol, the error is a GOAWAY of our
/// own, told to every stream: what became of those is unknown.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let of_http2 = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>());
    of_http2.filter(|error| error.is_remote()).is_some_and(|error| {
        error.is_go_away() || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

/// How the upstream reset the request's stream; `None`: it did not.
fn reset_of(error: &hyper::Error) -> Option<StreamReset> {
    let of_http2 = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>())?;
    let reason = of_http2.reason().filter(|_| of_http2.is_remote() && of_http2.is_reset());
    reason.map(StreamReset)
}

/// Whether HTTP/2 itself refused what the upstream sent, and reset its stream (RFC 9113 section 8.1.1).
pub(super) fn is_judged_malformed(error: &hyper::Error) -> bool {
    let of_http2 = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>());
    of_http2.is_some_and(|error| error.is_library() && error.is_reset())
}

/// Whether it ended the whole connection for that, as where the compression of heads cannot go on (RFC 9113 section 4.3). Every
/// stream is given the same error, whichever was at fault.
fn is_ended_as_malformed(error: &hyper::Error) -> bool {
    let of_http2 = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>());
    of_http2.is_some_and(|error| error.is_library() && error.is_go_away())
}

/// Whether HTTP/2 ended the connection for a head that is far above all limits.
fn is_over_all_limits(error: &hyper::Error) -> bool {
    let of_http2 = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>());
    of_http2.is_some_and(|error| {
        error.is_library() && error.is_go_away() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
    })
}

/// Bytes of fields as HTTP/1.1 writes them.
pub(super) fn size_of_fields(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE).sum()
}

fn causes(error: &hyper::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}

/// Of a field's line: the colon, the space and the line's end.
const LINE: usize = 4;
/// What HTTP/2 counts for a field beside its name and its value.
const ENTRY: usize = 32;
