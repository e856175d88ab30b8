//! The sendings of one request: on as many connections as it takes, with a proof each where its token is bound to a key.
//!
//! A kept connection may be dead before anything tells of it: the upstream closed it as the request went out. Where nothing of
//! the request was sent, it is sent again on another one, whatever it is; where it may have been, only if that does no harm (RFC 9110 section
//! 9.2.2, RFC 9112 section 9.3.1) and the body is still there: there is none, or it is kept.
//!
//! A token that is bound to a key goes with a proof of its own each time that a request goes out (RFC 9449 section 7).
//! An upstream that wants its nonce in it gets the request a second time, on the same terms.

use std::borrow::Cow;
use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::credentials::AttachedCredentials;
use super::rewrite::Rewriter;
use crate::clock;
use crate::proxy::downstream::context::Downstream;
use crate::proxy::downstream::stream::Stream;
use crate::proxy::error::{ApplicationFault, BadRequest, LimitFault, ProxyError, TokenFault, UpstreamFault};
use crate::proxy::memory::{self, Limited};
use crate::proxy::message::headers::strip_response;
use crate::proxy::message::outbound_head::{OutboundHead, RequestKind};
use crate::proxy::observe::timing::{Timing, UploadState, WaitsFor};
use crate::proxy::observe::trace::{Tracing, WaitSpan};
use crate::proxy::settings::UpstreamSettings;
use crate::proxy::upstream::attempt::Waits;
use crate::proxy::upstream::download::Received;
use crate::proxy::upstream::expect_continue::GateOpener;
use crate::proxy::upstream::failure::SendFailure;
use crate::proxy::upstream::pool::{Company, ConnectionAge, Pool, Want};
use crate::proxy::upstream::replay_body::ReplayBody;
use crate::proxy::upstream::request_body::RequestBody;
use crate::token::{Binding, TokenHandle, Verdict};

/// All that the sendings of one request have in common.
pub(super) struct RequestSender<'a> {
    pub(super) pool: &'a Rc<Pool>,
    pub(super) downstream: &'a Downstream,
    /// Of its route.
    pub(super) token: Option<&'a TokenHandle>,
    pub(super) tracing: Option<&'a Tracing>,
    pub(super) timing: &'a Timing,
    /// Whether its response waits for memory.
    pub(super) waits: Waits,
    /// How often it was sent, but for what was repeated because a connection was dead or for a nonce (RFC 9449 section 8.2).
    pub(super) rounds: Cell<u64>,
    /// Its body; `None`: it has none.
    pub(super) upload: Option<Rc<ReplayBody>>,
    /// Where the application waits to be asked for it.
    pub(super) opener: Option<GateOpener>,
    pub(super) begun: Instant,
    /// Of its interim answers.
    pub(super) rewriting: Option<(&'a Rewriter<'a>, &'a Uri)>,
}

impl RequestSender<'_> {
    /// Until when the answer to the first sending may come: counted from its last byte. It bounds the wait for a new
    /// token, too.
    pub(super) fn deadline(&self) -> Instant {
        self.upload.as_ref().map_or(self.begun, |upload| upload.progress().last()) + self.limit()
    }

    /// The same for one that begins now.
    pub(super) fn fresh_deadline(&self) -> Instant {
        clock::now() + self.limit()
    }

    fn limit(&self) -> Duration {
        self.pool.upstream().settings.response_header_timeout
    }

    /// The request waits for a new token, until what this gives is dropped.
    pub(super) fn wait(&self) -> Option<WaitSpan<'_>> {
        Some(self.tracing?.wait(self.token?.name()))
    }

    /// Whether all that was sent so far may be sent again with a new token.
    pub(super) fn may_replay(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.may_replay())
    }

    /// Whether nothing of the request is still to be sent.
    pub(super) fn has_sent_all(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.progress().outcome() == UploadState::Sent)
    }

    /// The body of another sending; the one before it fails from now on. `None`: it cannot be repeated.
    pub(super) fn again(&self) -> Option<RequestBody> {
        let Some(upload) = &self.upload else { return Some(RequestBody::Empty) };
        upload.again(self.opener.as_ref().map(GateOpener::gate)).map(RequestBody::Streaming)
    }

    /// Sends the request and waits for its answer, on as many connections as it takes. `deadline` is for one without a
    /// body.
    pub(super) async fn send_with_retry(
        &self,
        head: &mut OutboundHead,
        body: RequestBody,
        used: Option<&AttachedCredentials>,
        deadline: Instant,
    ) -> Answer {
        let span = self.tracing.map(|tracing| {
            let token = self.token.zip(used).map(|(token, used)| (token.name(), used.generation));
            let nth = self.rounds.replace(self.rounds.get() + 1);
            let upstream = self.pool.upstream().span_attributes(head.uri.path());
            Box::new(tracing.send(head, upstream, token, nth))
        });
        // Pinned here and waited for by reference: the future of every request would hold it twice otherwise.
        let sent = pin!(self.send(head, body, used.and_then(|used| used.binding.as_deref())));
        let answer = match &self.upload {
            None => {
                let mut timer = self.downstream.timer(deadline);
                let answer = tokio::select! {
                    biased;
                    answer = sent => answer,
                    () = timer.as_mut() => Err(late(&self.waits)),
                };
                self.downstream.keep_timer(timer);
                answer
            }
            Some(upload) => {
                let stream = &self.downstream.stream;
                while_uploading(sent, upload, stream, &self.pool.upstream().settings, &self.waits).await
            }
        };
        if let Some(span) = span {
            span.answered(answer.as_ref());
        }
        answer
    }

    /// An interim answer: 100 asks for the body, all others go on to the application (RFC 9110 section 15.2).
    fn inform(&self, status: StatusCode, mut headers: HeaderMap) {
        if status == StatusCode::CONTINUE {
            if let Some(opener) = &self.opener {
                opener.open();
            }
        } else if strip_response(Version::HTTP_11, &mut headers).is_ok() {
            if let Some((rewriter, uri)) = self.rewriting {
                rewriter.response(self.pool.upstream(), uri, status, &mut headers);
            }
            self.downstream.inform(status, headers);
        }
    }

    async fn send(
        &self,
        head: &mut OutboundHead,
        mut body: RequestBody,
        binding: Option<&Binding>,
    ) -> Answer {
        let pool = self.pool;
        let mut want = Want::Any;
        let (mut stale, mut unprocessed) = (0, Unprocessed::default());
        // HTTP/1.1 shares no connection, so a head is measured for HTTP/2 alone.
        let is_large = pool.upstream().may_speak_http2() && head.size() > LARGE_HEAD;
        let company = if is_large { Company::Alone } else { Company::Shared };
        // Whether the upstream may still ask for its nonce.
        let mut may_demand = binding.is_some();
        let origin = binding.map_or(Cow::Borrowed(""), |_| pool.upstream().origin_of(&head.headers));
        loop {
            let connection = match head.asks {
                RequestKind::Answer => {
                    self.timing.wait(WaitsFor::Connection, pin!(pool.connection(want, company))).await?
                }
                RequestKind::WebSocket => {
                    self.timing
                        .wait(WaitsFor::Connection, Box::pin(pool.for_websocket(want)).as_mut())
                        .await?
                }
            };
            let (age, number) = (connection.age(), connection.number());
            if let Some(binding) = binding {
                prove(binding, &origin, head)?;
            }
            let on_interim = |status, headers| self.inform(status, headers);
            self.timing.sent(age == ConnectionAge::New);
            let sending = pin!(connection.send(pool, head, body, &on_interim, &self.waits));
            let sent = self
                .timing
                .wait(WaitsFor::Upstream(self.upload.as_deref().map(ReplayBody::progress)), sending)
                .await;
            let failed = match (sent, binding) {
                (Ok(answer), None) => return Ok(answer),
                (Ok(mut response), Some(binding)) => {
                    let verdict = binding.judge(&origin, response.status(), response.headers());
                    // The nonce is for our proofs; the application has no key to prove.
                    response.headers_mut().remove(DPOP_NONCE);
                    let whole = self.has_sent_all();
                    if verdict == Verdict::Again
                        && std::mem::take(&mut may_demand)
                        && let Some(again) = self.again()
                    {
                        self.timing
                            .wait(WaitsFor::Upstream(None), Box::pin(put_away(response, whole)).as_mut())
                            .await;
                        body = again;
                        continue;
                    }
                    return Ok(response);
                }
                (Err(failed), _) => failed,
            };
            let unsent = matches!(failed, SendFailure::Unsent(_));
            // An HTTP/2 connection that ends takes many requests with it that the upstream did not look at, and so may the next
            // one: their number says nothing, so that time alone bounds the attempts.
            let is_unprocessed = number.is_some() && (unsent || matches!(failed, SendFailure::Unprocessed));
            if is_unprocessed {
                match unprocessed.pause(pool.upstream().settings.connect_timeout) {
                    None => return Err(ProxyError::Upstream(UpstreamFault::NotProcessed)),
                    Some(Duration::ZERO) => {}
                    Some(pause) => {
                        let pause = Box::pin(tokio::time::sleep(pause));
                        self.timing.wait(WaitsFor::Connection, pin!(pause)).await;
                    }
                }
            } else {
                stale += 1;
            }
            body = match failed {
                SendFailure::Unsent(unsent) if is_unprocessed => unsent,
                // Nothing was sent. A new connection that took nothing will not do better the next time.
                SendFailure::Unsent(unsent) if age == ConnectionAge::Reused && stale <= MAX_STALE => unsent,
                failed => {
                    let again = stale <= MAX_STALE && allows(&head.method, &failed, age, number.is_some());
                    let Some(again) = again.then(|| self.again()).flatten() else {
                        return Err(match failed {
                            SendFailure::Died | SendFailure::Broken
                                if company == Company::Alone && number.is_some() =>
                            {
                                ProxyError::Upstream(UpstreamFault::LargeHeadBroken { size: head.size() })
                            }
                            failed => ProxyError::from(&failed),
                        });
                    };
                    again
                }
            };
            want = match number {
                // A shared one that is newer is as good as new, and spares the upstream a connection for each request.
                Some(number) => Want::Newer(number),
                None if unsent && stale < MAX_STALE => Want::Any,
                None => Want::Newer(u64::MAX),
            };
        }
    }
}

type Answer = Result<Received, ProxyError>;

/// Waits for the answer to a request with a body: its time runs from the body's last byte. Before that only silence is
/// bounded, whether it is the application that sends nothing or the upstream that takes nothing.
async fn while_uploading(
    mut sent: Pin<&mut impl Future<Output = Answer>>,
    upload: &ReplayBody,
    stream: &Stream,
    settings: &UpstreamSettings,
    waits: &Waits,
) -> Answer {
    loop {
        let limit = match upload.progress().outcome() {
            UploadState::Sending => settings.idle_timeout,
            UploadState::Sent | UploadState::Broken | UploadState::Silent => settings.response_header_timeout,
        };
        let deadline = upload.progress().last() + limit;
        if deadline <= clock::now() {
            return Err(late(waits));
        }
        tokio::select! {
            biased;
            answer = &mut sent => {
                return answer.map_err(|error| match upload.progress().outcome() {
                    UploadState::Broken => {
                        stream.fault.get().map_or(BadRequest::Body, BadRequest::MalformedBody).into()
                    }
                    UploadState::Silent => ProxyError::Request(ApplicationFault::BodyTimeout),
                    UploadState::Sending | UploadState::Sent => error,
                });
            }
            // By now more may have been sent, or all of it: then the deadline has moved, and may have come nearer.
            () = tokio::time::sleep_until(deadline.min(clock::now() + settings.response_header_timeout)) => {}
        }
    }
}

/// Why no response came in time.
fn late(waits: &Waits) -> ProxyError {
    if !waits.for_memory() {
        return ProxyError::Upstream(UpstreamFault::ResponseTimeout);
    }
    memory::limited(Limited::Request);
    ProxyError::Limit(LimitFault::Memory)
}

/// Puts a proof of this sending on the request, in place of that of any sending before.
fn prove(binding: &Binding, origin: &str, head: &mut OutboundHead) -> Result<(), ProxyError> {
    let proof = binding.proof(&head.method, origin, head.uri.path()).map_err(|_| TokenFault::Proof)?;
    head.headers.insert(DPOP, proof);
    Ok(())
}

/// Drops a response that is not wanted. Where the request was sent to its end, the answer is read to its own, so that
/// the connection lives on. Not for long: another is soon made.
pub(super) async fn put_away(response: Received, sent_all: bool) {
    if !sent_all {
        return;
    }
    let mut body = response.into_body();
    let all = async {
        let mut left = MAX_DISCARDED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.checked_sub(frame.data_ref().map_or(0, Bytes::len))?;
        }
        Some(())
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, all).await;
}

/// Whether a request that may have been looked at goes out once more: it met `failure` on a connection of `age`; `shared`
/// says that others are on that connection, too.
fn allows(method: &Method, failure: &SendFailure, age: ConnectionAge, shared: bool) -> bool {
    let stale = shared || age == ConnectionAge::Reused;
    match failure {
        SendFailure::Died | SendFailure::NotHttp2 => stale && is_idempotent(method),
        // The upstream says that it did nothing (RFC 9113 section 8.7).
        SendFailure::Unprocessed => shared || stale && is_idempotent(method),
        SendFailure::Unsent(_)
        | SendFailure::Malformed(_)
        | SendFailure::TooLarge(_)
        | SendFailure::HeadRefused { .. }
        | SendFailure::Cut(_)
        | SendFailure::Reset(_)
        | SendFailure::Broken => false,
    }
}

/// RFC 9110 section 9.2.2; methods that are not known here may do anything.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// Attempts of one request that an HTTP/2 upstream did not process (RFC 9113 section 8.7).
#[derive(Debug, Default)]
struct Unprocessed {
    attempts: u32,
    paused: Duration,
}

impl Unprocessed {
    /// The pause before the next attempt; `None`: the pauses would exceed `limit`. The wait for a connection is not counted: it has
    /// a limit of its own, and a request that waits long behind others is not refused for that.
    fn pause(&mut self, limit: Duration) -> Option<Duration> {
        self.attempts += 1;
        let doublings = self.attempts.checked_sub(PROMPT_ATTEMPTS + 1);
        let pause = doublings.map_or(Duration::ZERO, |doublings| {
            FIRST_PAUSE.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)
        });
        self.paused += pause;
        (self.paused <= limit).then_some(pause)
    }
}

/// Kept connections that one request may find dead. The next is a new one, and the last.
const MAX_STALE: u32 = 2;

/// Attempts that follow at once where the upstream did not process a request, and the pauses between the later ones.
const PROMPT_ATTEMPTS: u32 = 2;

const FIRST_PAUSE: Duration = Duration::from_millis(10);

const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Bytes of a request's head from which on it has an HTTP/2 connection to itself until its response begins: servers end a
/// connection for a head that is too large for them, and every other request on it.
const LARGE_HEAD: usize = 8 * 1024;

/// More than any server says with a 401.
const MAX_DISCARDED_BYTES: usize = 64 * 1024;

const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a proof stands (RFC 9449 section 4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Where a server gives a nonce (RFC 9449 section 8).
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_that_were_not_processed_are_bounded_by_their_pauses() {
        let mut unprocessed = Unprocessed::default();
        let limit = Duration::from_secs(2);
        let pauses: Vec<_> = std::iter::from_fn(|| unprocessed.pause(limit)).collect();
        assert_eq!(pauses[..2], [Duration::ZERO; 2], "the first ones follow at once");
        assert!(pauses[1..].is_sorted() && pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        let sum: Duration = pauses.iter().sum();
        assert!(sum <= limit && sum + LONGEST_PAUSE > limit, "{sum:?}");
        assert_eq!(Unprocessed { attempts: u32::MAX - 1, paused: limit }.pause(limit), None);
    }
}
