//! Sends a request upstream and brings its answer back, over a kept connection where there is one.
//!
//! A kept connection may be dead without anybody having said so: the upstream closed it as the request went out. Where
//! nothing of the request was sent, it is sent again on another one, whatever it is; where it may have been, only
//! if that does no harm (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1) and the body is still there, which is to
//! say that there is none.
//!
//! A token that is bound to a key goes with a proof of its own each time that a request goes out (RFC 9449 section 7).
//! An upstream that wants its nonce in it gets the request a second time, on the same terms.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::body::{Download, Outcome, Progress, RequestBody, ResponseBody};
use super::connection::Downstream;
use super::error::{BadRequest, ProxyError};
use super::expect::{Gate, GateOpener};
use super::headers::{Expect, HopFields};
use super::pool::{Age, Pool, Want};
use super::sending::{Failure, Head};
use super::upstream::{Upstream, UpstreamSettings};
use crate::clock;
use crate::token::{Binding, Verdict};

/// A request with its head made for the next hop.
pub(super) struct Outbound {
    pub(super) head: Head,
    pub(super) body: Incoming,
    pub(super) hop: HopFields,
    /// What the token proves besides, where it is bound to a key.
    pub(super) binding: Option<Arc<Binding>>,
}

/// On an answer that came before the request's body was asked for: the body may come or not, so nothing can follow it
/// (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyUnasked;

/// Forwards a request; the answer's body streams from the upstream.
pub(super) async fn forward(
    pool: &Rc<Pool>,
    outbound: Outbound,
    downstream: &Downstream,
) -> Result<Response<ResponseBody>, ProxyError> {
    let settings = &pool.upstream().settings;
    let (gate, opener) = if outbound.hop.expect == Expect::Continue {
        let (gate, opener) = Gate::new();
        (Some(gate), Some(opener))
    } else {
        (None, None)
    };
    let (body, progress) = RequestBody::new(outbound.body, settings.idle_timeout, gate);
    let repeat = match progress {
        Some(_) => Repeat::Never,
        None if is_idempotent(&outbound.head.method) => Repeat::Harmless,
        None => Repeat::IfUnprocessed,
    };
    // Pinned here and waited for by reference: the future of every request would hold it twice otherwise.
    let sent = pin!(send(pool, outbound.head, body, repeat, opener.clone(), outbound.binding.as_deref()));
    let answer = match progress {
        None => {
            let mut timer = downstream.timer(clock::now() + settings.response_header_timeout);
            let answer = tokio::select! {
                biased;
                answer = sent => answer,
                () = timer.as_mut() => Err(ProxyError::ResponseTimeout),
            };
            downstream.keep_timer(timer);
            answer
        }
        Some(progress) => while_uploading(sent, &progress, settings).await,
    };
    let mut response = answer?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ProxyError::UpstreamMalformed);
    }
    if opener.is_some_and(|opener| !opener.is_open()) {
        response.extensions_mut().insert(BodyUnasked);
    }
    Ok(response.map(ResponseBody::upstream))
}

type Answer = Result<Response<Download>, ProxyError>;

/// Waits for the answer to a request with a body: its time runs from the body's last byte. Before that only silence is
/// bounded, whether it is the application that sends nothing or the upstream that takes nothing.
async fn while_uploading(
    mut sent: Pin<&mut impl Future<Output = Answer>>,
    progress: &Progress,
    settings: &UpstreamSettings,
) -> Answer {
    loop {
        let limit = match progress.outcome() {
            Outcome::Sending => settings.idle_timeout,
            Outcome::Sent | Outcome::Broken | Outcome::Silent => settings.response_header_timeout,
        };
        let deadline = progress.last() + limit;
        if deadline <= clock::now() {
            return Err(ProxyError::ResponseTimeout);
        }
        tokio::select! {
            biased;
            answer = &mut sent => {
                return answer.map_err(|error| match progress.outcome() {
                    Outcome::Broken => BadRequest::Body.into(),
                    Outcome::Silent => ProxyError::RequestTimeout,
                    Outcome::Sending | Outcome::Sent => error,
                });
            }
            // By now more may have been sent: then the deadline has moved.
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

async fn send(
    pool: &Rc<Pool>,
    mut head: Head,
    mut body: RequestBody,
    repeat: Repeat,
    opener: Option<GateOpener>,
    binding: Option<&Binding>,
) -> Answer {
    let mut want = Want::Any;
    let on_interim = |status, _headers| {
        if let (StatusCode::CONTINUE, Some(opener)) = (status, &opener) {
            opener.open();
        }
    };
    // Whether the upstream may still ask for its nonce.
    let mut may_demand = binding.is_some() && repeat != Repeat::Never;
    loop {
        let connection = pool.connection(want).await?;
        let (age, number) = (connection.age(), connection.number());
        if let Some(binding) = binding {
            prove(binding, pool.upstream(), &mut head)?;
        }
        let failed = match (connection.send(pool, &head, body, &on_interim).await, binding) {
            (Ok(answer), None) => return Ok(answer),
            (Ok(mut response), Some(binding)) => {
                let verdict = binding.judge(&pool.upstream().origin, response.status(), response.headers());
                // The nonce is for our proofs; the application has no key to prove.
                response.headers_mut().remove(DPOP_NONCE);
                if may_demand && verdict == Verdict::Again {
                    may_demand = false;
                    Box::pin(discard(response.into_body())).await;
                    body = RequestBody::Empty;
                    continue;
                }
                return Ok(response);
            }
            (Err(failed), _) => failed,
        };
        body = match failed {
            // Nothing was sent. A new connection that took nothing will not do better the next time.
            Failure::Unsent(unsent) if age == Age::Reused => unsent,
            failed if want == Want::Any && repeat.allows(&failed, age, number.is_some()) => {
                want = Want::Newer(number.unwrap_or(u64::MAX));
                RequestBody::Empty
            }
            failed => return Err(ProxyError::from(&failed)),
        };
    }
}

/// Puts a proof of this sending on the request, in place of that of any sending before.
fn prove(binding: &Binding, upstream: &Upstream, head: &mut Head) -> Result<(), ProxyError> {
    let proof =
        binding.proof(&head.method, &upstream.origin, head.uri.path()).map_err(|_| ProxyError::Proof)?;
    head.headers.insert(DPOP, proof);
    Ok(())
}

/// Reads an answer that nobody wants to its end, so that its connection lives on. Not for long: another is soon made.
async fn discard(mut body: Download) {
    let all = async {
        let mut left = MAX_DISCARDED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.checked_sub(frame.data_ref().map_or(0, Bytes::len))?;
        }
        Some(())
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, all).await;
}

/// When a request may be sent a second time although it may have been sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    /// Its body is gone.
    Never,
    /// It does no harm.
    Harmless,
    /// Only where the upstream says that it did nothing (RFC 9113 section 8.7).
    IfUnprocessed,
}

impl Repeat {
    /// Whether a request that met `failure` on a connection of `age` goes out once more; `shared` says that others are on
    /// that connection, too.
    const fn allows(self, failure: &Failure, age: Age, shared: bool) -> bool {
        let stale = shared || matches!(age, Age::Reused);
        match (self, failure) {
            (Self::Harmless, Failure::Died | Failure::Unprocessed) => stale,
            (Self::IfUnprocessed, Failure::Unprocessed) => shared,
            _ => false,
        }
    }
}

/// RFC 9110 section 9.2.2; methods that are not known here may do anything.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// More than any server says with a 401.
const MAX_DISCARDED_BYTES: usize = 64 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a proof stands (RFC 9449 section 4.1).
pub(super) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// Where a server gives a nonce (RFC 9449 section 8).
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
