//! A request's body on its way upstream, and what is kept of it for a second sending.
//!
//! While it streams through, what was sent is recorded: references to the same memory, and no copies. A second sending
//! plays the record and goes on with what is still to come from the application. Over the limit the record is let go:
//! the request goes on, and only its repetition is lost. `sender` and `retry_unauthorized` say what is kept, and when it is sent
//! again.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::body_silence::Silence;
use super::expect_continue::Gate;
use super::received_body::ReceivedBody;
use crate::proxy::downstream::activity::Receiving;
use crate::proxy::error::BodyError;
use crate::proxy::memory::KeptBody;
use crate::proxy::message::headers::without_forbidden_trailers;
use crate::proxy::observe::metrics::Meter;
use crate::proxy::observe::timing::{UploadProgress, UploadState};

/// A request's body: what all of its sendings share, and what the handler sees of them.
#[derive(Debug)]
pub(crate) struct ReplayBody<B = ReceivedBody> {
    state: RefCell<ReplayState<B>>,
    progress: UploadProgress,
}

/// How much of an upload is kept for another sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordLimit {
    /// Bytes that may be sent again with a new token; of a body that says it is longer, none are kept for that.
    pub(crate) replay: usize,
    /// Bytes that are kept while an HTTP/2 upstream may still report that it did not process the request: it takes more only
    /// of a stream that it has begun with, as its window has no more room (RFC 9113 section 5.2).
    pub(crate) unprocessed: usize,
}

#[derive(Debug)]
struct ReplayState<B> {
    incoming: B,
    silence: Silence,
    /// The application has sent all of it.
    ended: bool,
    /// A part of it was taken from the application.
    begun: bool,
    /// Counts the bytes that come.
    meter: Meter,
    /// The application said how long it is.
    exact: bool,
    /// Until then its connection may not rest.
    receiving: Option<Receiving>,
    record: KeptFrames,
    /// Bytes that may still be sent again with a new token; `None`: there were more.
    replay_left: Option<usize>,
    /// The sending that has its turn; all before have lost it.
    turn: u32,
    /// Wakes that sending, so that it is told when it has lost its turn.
    waker: Option<Waker>,
}

#[derive(Debug)]
enum KeptFrames {
    /// Nothing is kept, or no more.
    Off,
    Kept {
        frames: Vec<Bytes>,
        trailers: Option<HeaderMap>,
        /// Bytes that may still be kept.
        left: usize,
        charge: KeptBody,
    },
    /// No more is kept, and what was is let go as the sending that has its turn gets to it.
    Last { frames: Vec<Bytes>, trailers: Option<HeaderMap>, _charge: KeptBody },
}

/// One sending of an upload.
#[derive(Debug)]
pub(crate) struct ReplaySending<B = ReceivedBody> {
    upload: Rc<ReplayBody<B>>,
    /// Boxed, as few have one.
    gate: Option<Box<Gate>>,
    turn: u32,
    /// How many of the recorded frames it has sent.
    sent: usize,
    trailers_sent: bool,
    /// What was taken of it and did not go out after all.
    unread: Bytes,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> ReplayBody<B> {
    /// The first sending. So much is kept for another as `limit` says. `receiving` ends with what comes from the application.
    pub(crate) fn begin(
        incoming: B,
        receiving: Option<Receiving>,
        idle_timeout: Duration,
        gate: Option<Gate>,
        limit: RecordLimit,
    ) -> (Rc<Self>, ReplaySending<B>) {
        let hint = incoming.size_hint();
        let RecordLimit { replay, unprocessed } = limit;
        let fits = replay > 0 && usize::try_from(hint.lower()).is_ok_and(|length| length <= replay);
        let left = if fits { replay.max(unprocessed) } else { unprocessed };
        let record = if left > 0 {
            KeptFrames::Kept { frames: Vec::new(), trailers: None, left, charge: KeptBody::default() }
        } else {
            KeptFrames::Off
        };
        let state = ReplayState {
            incoming,
            silence: Silence::new(idle_timeout),
            ended: false,
            begun: false,
            meter: Meter::default(),
            exact: hint.exact().is_some(),
            receiving,
            record,
            replay_left: fits.then_some(replay),
            turn: 0,
            waker: None,
        };
        let upload = Rc::new(Self { state: RefCell::new(state), progress: UploadProgress::new() });
        let gate = gate.map(Box::new);
        let sending = ReplaySending {
            upload: Rc::clone(&upload),
            gate,
            turn: 0,
            sent: 0,
            trailers_sent: false,
            unread: Bytes::new(),
        };
        (upload, sending)
    }

    /// Whether all that was sent so far may be sent again with a new token.
    pub(crate) fn may_replay(&self) -> bool {
        let state = self.state.borrow();
        (state.replay_left.is_some() || !state.begun) && self.may_repeat()
    }

    /// Whether all that was sent so far could be sent again.
    pub(crate) fn may_repeat(&self) -> bool {
        self.state.borrow().is_repeatable()
            && matches!(self.progress.outcome(), UploadState::Sending | UploadState::Sent)
    }

    /// Another sending, from the first byte on. The one before it fails from now on. `None`: it cannot be repeated.
    pub(crate) fn again(self: &Rc<Self>, gate: Option<Gate>) -> Option<ReplaySending<B>> {
        if !self.may_repeat() {
            return None;
        }
        let mut state = self.state.borrow_mut();
        state.turn += 1;
        let (turn, waker) = (state.turn, state.waker.take());
        drop(state);
        self.ended(UploadState::Sending);
        if let Some(waker) = waker {
            waker.wake();
        }
        let gate = gate.map(Box::new);
        Some(ReplaySending {
            upload: Rc::clone(self),
            gate,
            turn,
            sent: 0,
            trailers_sent: false,
            unread: Bytes::new(),
        })
    }

    /// No other sending will follow: lets go of what was kept, but for what a repetition that was answered early has still
    /// to send of it.
    pub(crate) fn forget(&self) {
        let state = &mut *self.state.borrow_mut();
        state.record = match std::mem::replace(&mut state.record, KeptFrames::Off) {
            KeptFrames::Kept { frames, trailers, charge, .. } if state.turn > 0 => {
                KeptFrames::Last { frames, trailers, _charge: charge }
            }
            // The first sending has sent all that was recorded of it.
            _ => KeptFrames::Off,
        };
    }
}

impl<B> ReplayBody<B> {
    /// Has `meter` count the bytes that come from now on.
    pub(crate) fn count_in(&self, meter: Meter) {
        self.state.borrow_mut().meter = meter;
    }

    /// How far it has come.
    pub(crate) const fn progress(&self) -> &UploadProgress {
        &self.progress
    }

    fn ended(&self, outcome: UploadState) {
        self.progress.reached(outcome);
    }
}

impl<B> ReplayState<B> {
    /// Whether all that came so far is still there: it is kept, or nothing has come, as where the upstream answered before it
    /// asked for the body (RFC 9110 section 10.1.1).
    const fn is_repeatable(&self) -> bool {
        matches!(self.record, KeptFrames::Kept { .. }) || !self.begun
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> ReplayState<B> {
    /// What the application sends next.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_live(cx);
        self.begun |= polled.is_ready();
        if self.ended
            && let Some(receiving) = self.receiving.take()
        {
            receiving.ended();
        }
        polled
    }

    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.silence.broken();
                self.ended = self.incoming.is_end_stream();
                let frame = without_forbidden_trailers(frame);
                if let (Some(receiving), Some(data)) = (&self.receiving, frame.data_ref()) {
                    receiving.took(data.len());
                }
                self.meter.passed(frame.data_ref().map_or(0, Bytes::len));
                self.record.keep(&frame);
                if let Some(data) = frame.data_ref() {
                    self.replay_left =
                        self.replay_left.and_then(|left| left.checked_sub(data.len().max(LEAST_CHARGE)));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Pending => {
                if let Some(receiving) = &self.receiving {
                    receiving.starves();
                }
                ready!(self.silence.poll_too_long(cx));
                Poll::Ready(Some(Err(BodyError::Silent)))
            }
        }
    }

    /// Keeps the waker of the sending that has its turn, where another may follow.
    fn remember(&mut self, waker: &Waker) {
        if self.is_repeatable() {
            match &mut self.waker {
                Some(known) => known.clone_from(waker),
                None => self.waker = Some(waker.clone()),
            }
        }
    }
}

impl KeptFrames {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Self::Kept { frames, trailers, left, charge } = self else { return };
        if let Some(data) = frame.data_ref() {
            let bytes = data.len().max(LEAST_CHARGE);
            match left.checked_sub(bytes) {
                Some(rest) if charge.may_keep(bytes) => {
                    *left = rest;
                    frames.push(data.clone());
                }
                _ => *self = Self::Off,
            }
        } else if let Some(sent) = frame.trailers_ref() {
            *trailers = Some(sent.clone());
        }
    }

    /// What was recorded, and a sending that has sent so much of it has not sent yet.
    fn next(&self, sent: usize, trailers_sent: bool) -> Option<Frame<Bytes>> {
        let (Self::Kept { frames, trailers, .. } | Self::Last { frames, trailers, .. }) = self else {
            return None;
        };
        match frames.get(sent) {
            Some(data) => Some(Frame::data(data.clone())),
            None => Some(Frame::trailers(trailers.as_ref().filter(|_| !trailers_sent)?.clone())),
        }
    }

    /// Lets go of a frame that will not be needed again.
    fn played(&mut self, number: usize) {
        if let Self::Last { frames, .. } = self
            && let Some(frame) = frames.get_mut(number)
        {
            *frame = Bytes::new();
        }
    }

    /// Bytes that such a sending has not sent yet.
    fn rest(&self, sent: usize) -> u64 {
        let (Self::Kept { frames, .. } | Self::Last { frames, .. }) = self else { return 0 };
        frames.iter().skip(sent).map(|data| data.len() as u64).sum()
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> ReplaySending<B> {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let state = &mut *self.upload.state.borrow_mut();
        if state.turn != self.turn {
            return Poll::Ready(Some(Err(BodyError::Repeated)));
        }
        if let Some(gate) = &mut self.gate {
            if gate.poll_open(cx).is_pending() {
                state.remember(cx.waker());
                return Poll::Pending;
            }
            self.gate = None;
        }
        if !self.unread.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.unread)))));
        }
        let polled = match state.record.next(self.sent, self.trailers_sent) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if state.ended => Poll::Ready(None),
            None => state.poll_incoming(cx),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if frame.is_data() {
                    state.record.played(self.sent);
                    self.sent += 1;
                } else {
                    self.trailers_sent = true;
                }
                let more = !state.ended || state.record.next(self.sent, self.trailers_sent).is_some();
                self.upload.ended(if more { UploadState::Sending } else { UploadState::Sent });
            }
            Poll::Ready(None) => self.upload.ended(UploadState::Sent),
            Poll::Ready(Some(Err(BodyError::Silent))) => self.upload.ended(UploadState::Silent),
            Poll::Ready(Some(Err(_))) => self.upload.ended(UploadState::Broken),
            Poll::Pending => state.remember(cx.waker()),
        }
        polled
    }

    /// Whether it waits for the upstream to ask for it, rather than for the application to send it.
    pub(super) fn is_held_back(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| !gate.is_open())
    }

    /// Puts back what was taken last.
    pub(crate) fn unread(&mut self, data: Bytes) {
        self.unread = data;
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let state = self.upload.state.borrow();
        let ended = state.ended || state.incoming.is_end_stream();
        let ended = ended && self.unread.is_empty();
        ended && state.turn == self.turn && state.record.next(self.sent, self.trailers_sent).is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let state = self.upload.state.borrow();
        let played = state.record.rest(self.sent) + self.unread.len() as u64;
        let live = state.incoming.size_hint();
        let whole = live.exact().filter(|_| state.exact).map(|live| played + live);
        whole.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Bytes that a frame counts as at least: a body that comes byte by byte costs more to keep than its bytes.
const LEAST_CHARGE: usize = 64;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;

    use futures_util::task::noop_waker_ref;
    use http::HeaderValue;

    use super::*;

    /// An application that has sent so much by now.
    #[derive(Debug, Default)]
    struct Application {
        frames: Rc<RefCell<VecDeque<Frame<Bytes>>>>,
        ended: Rc<Cell<bool>>,
        length: Option<u64>,
    }

    impl Body for Application {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            match self.frames.borrow_mut().pop_front() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None if self.ended.get() => Poll::Ready(None),
                None => Poll::Pending,
            }
        }

        fn is_end_stream(&self) -> bool {
            self.ended.get() && self.frames.borrow().is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }

    struct Bench {
        frames: Rc<RefCell<VecDeque<Frame<Bytes>>>>,
        ended: Rc<Cell<bool>>,
        upload: Rc<ReplayBody<Application>>,
        first: ReplaySending<Application>,
    }

    impl Bench {
        fn new(limit: usize, length: Option<u64>) -> Self {
            let application = Application { length, ..Application::default() };
            let (frames, ended) = (Rc::clone(&application.frames), Rc::clone(&application.ended));
            let limit = RecordLimit { replay: limit, unprocessed: 0 };
            Self::keeping(application, limit, frames, ended)
        }

        fn keeping(
            application: Application,
            limit: RecordLimit,
            frames: Rc<RefCell<VecDeque<Frame<Bytes>>>>,
            ended: Rc<Cell<bool>>,
        ) -> Self {
            let (upload, first) = ReplayBody::begin(application, None, Duration::from_secs(30), None, limit);
            Self { frames, ended, upload, first }
        }

        fn send(&self, data: &'static str) {
            self.frames.borrow_mut().push_back(Frame::data(Bytes::from_static(data.as_bytes())));
        }
    }

    /// All that a sending sends by now, trailers in brackets, and whether that is its end.
    fn drain(sending: &mut ReplaySending<Application>) -> (String, bool) {
        let mut cx = Context::from_waker(noop_waker_ref());
        let mut all = String::new();
        loop {
            if sending.is_end_stream() {
                return (all, true);
            }
            match sending.poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => all.push_str(std::str::from_utf8(&data).unwrap()),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap();
                        all.extend(["[", trailers["check"].to_str().unwrap(), "]"]);
                    }
                },
                Poll::Ready(None) => return (all, true),
                Poll::Ready(Some(Err(error))) => panic!("{error}"),
                Poll::Pending => return (all, false),
            }
        }
    }

    #[tokio::test]
    async fn a_second_sending_is_the_same_to_the_byte_and_to_the_trailer() {
        let mut bench = Bench::new(1024, None);
        bench.send("hello ");
        bench.send("world");
        let trailers = HeaderMap::from_iter([("check".parse().unwrap(), HeaderValue::from_static("sum"))]);
        bench.frames.borrow_mut().push_back(Frame::trailers(trailers));
        bench.ended.set(true);
        assert_eq!(drain(&mut bench.first), ("hello world[sum]".to_owned(), true));
        assert_eq!(bench.upload.progress().outcome(), UploadState::Sent);
        for _ in 0..3 {
            let mut again = bench.upload.again(None).unwrap();
            assert_eq!(bench.upload.progress().outcome(), UploadState::Sending);
            assert_eq!(drain(&mut again), ("hello world[sum]".to_owned(), true));
            assert_eq!(bench.upload.progress().outcome(), UploadState::Sent);
        }
    }

    #[tokio::test]
    async fn a_second_sending_goes_on_with_what_is_still_to_come_and_ends_the_first() {
        let mut bench = Bench::new(1024, None);
        bench.send("one ");
        assert_eq!(drain(&mut bench.first), ("one ".to_owned(), false));
        let mut second = bench.upload.again(None).unwrap();
        bench.send("two ");
        let mut cx = Context::from_waker(noop_waker_ref());
        let failed = bench.first.poll_frame(&mut cx);
        assert!(matches!(failed, Poll::Ready(Some(Err(BodyError::Repeated)))));
        assert_eq!(drain(&mut second), ("one two ".to_owned(), false));
        let mut third = bench.upload.again(None).unwrap();
        bench.send("three");
        bench.ended.set(true);
        assert_eq!(drain(&mut third), ("one two three".to_owned(), true));
    }

    #[tokio::test]
    async fn the_sending_that_lost_its_turn_is_woken_to_be_told() {
        let mut bench = Bench::new(1024, None);
        let (waker, count) = counting_waker();
        assert!(bench.first.poll_frame(&mut Context::from_waker(&waker)).is_pending());
        let _second = bench.upload.again(None).unwrap();
        assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    fn counting_waker() -> (Waker, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        struct Count(std::sync::Arc<std::sync::atomic::AtomicUsize>);
        impl std::task::Wake for Count {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let count = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        (std::sync::Arc::new(Count(std::sync::Arc::clone(&count))).into(), count)
    }

    #[tokio::test]
    async fn over_the_limit_the_body_goes_on_and_only_its_repetition_is_lost() {
        let mut bench = Bench::new(100, None);
        let part = "x".repeat(90).leak();
        bench.send(part);
        assert_eq!(drain(&mut bench.first).0.len(), 90);
        assert!(bench.upload.may_repeat());
        bench.send(part);
        bench.ended.set(true);
        let (sent, ended) = drain(&mut bench.first);
        assert_eq!((sent.len(), ended), (90, true));
        assert!(!bench.upload.may_repeat() && bench.upload.again(None).is_none());
        assert_eq!(bench.upload.progress().outcome(), UploadState::Sent);
    }

    #[tokio::test]
    async fn what_an_upstream_may_not_have_processed_is_kept_beyond_what_a_new_token_may_repeat() {
        for length in [None, Some(300)] {
            let application = Application { length, ..Application::default() };
            let (frames, ended) = (Rc::clone(&application.frames), Rc::clone(&application.ended));
            let limit = RecordLimit { replay: 100, unprocessed: 200 };
            let mut bench = Bench::keeping(application, limit, frames, ended);
            let part = "x".repeat(90).leak();
            bench.send(part);
            drain(&mut bench.first);
            assert_eq!(bench.upload.may_replay(), length.is_none(), "{length:?}");
            bench.send(part);
            drain(&mut bench.first);
            assert!(!bench.upload.may_replay() && bench.upload.may_repeat(), "{length:?}");
            let mut again = bench.upload.again(None).unwrap();
            assert_eq!(drain(&mut again).0.len(), 180);
            bench.send(part);
            assert_eq!(drain(&mut again).0.len(), 90);
            assert!(!bench.upload.may_repeat(), "{length:?}");
        }
    }

    #[tokio::test]
    async fn of_a_body_that_says_it_is_longer_nothing_is_kept() {
        for (limit, length, kept) in
            [(100, Some(101), false), (100, Some(100), true), (0, Some(0), false), (0, None, false)]
        {
            let mut bench = Bench::new(limit, length);
            bench.send("x");
            drain(&mut bench.first);
            assert_eq!(bench.upload.may_repeat(), kept, "{limit} {length:?}");
        }
    }

    #[tokio::test]
    async fn a_body_of_which_nothing_was_taken_is_there_for_another_sending_whatever_its_length() {
        let mut bench = Bench::new(4, Some(10));
        let mut second = bench.upload.again(None).unwrap();
        bench.send("0123456789");
        bench.ended.set(true);
        let mut cx = Context::from_waker(noop_waker_ref());
        let first = bench.first.poll_frame(&mut cx);
        assert!(matches!(first, Poll::Ready(Some(Err(BodyError::Repeated)))), "it has lost its turn");
        assert_eq!(drain(&mut second), ("0123456789".to_owned(), true));
        assert!(!bench.upload.may_repeat(), "nothing was kept");
    }

    #[tokio::test]
    async fn a_body_that_comes_byte_by_byte_is_not_kept_at_many_times_its_size() {
        let mut bench = Bench::new(64 * 1024, None);
        for _ in 0..1025 {
            bench.send("x");
        }
        assert_eq!(drain(&mut bench.first).0.len(), 1025);
        assert!(!bench.upload.may_repeat());
    }

    #[tokio::test]
    async fn a_known_length_is_told_each_time_and_an_unknown_one_never() {
        let mut bench = Bench::new(1024, Some(0));
        bench.send("12345");
        drain(&mut bench.first);
        let again = bench.upload.again(None).unwrap();
        assert_eq!(again.size_hint().exact(), Some(5));
        let mut bench = Bench::new(1024, None);
        bench.send("12345");
        drain(&mut bench.first);
        assert_eq!(bench.upload.again(None).unwrap().size_hint().exact(), None);
    }

    #[tokio::test]
    async fn what_was_kept_is_let_go_when_no_repetition_will_follow() {
        let mut bench = Bench::new(1024, None);
        bench.send("12345");
        drain(&mut bench.first);
        bench.upload.forget();
        assert!(bench.upload.again(None).is_none());
        bench.send("6");
        bench.ended.set(true);
        assert_eq!(drain(&mut bench.first), ("6".to_owned(), true));
    }

    #[tokio::test]
    async fn a_repetition_that_is_answered_early_still_sends_all_of_the_body() {
        for length in [None, Some(0)] {
            let mut bench = Bench::new(1024, length);
            for part in ["one ", "two ", "three "] {
                bench.send(part);
            }
            assert_eq!(drain(&mut bench.first).0, "one two three ");
            let mut second = bench.upload.again(None).unwrap();
            let mut cx = Context::from_waker(noop_waker_ref());
            let Poll::Ready(Some(Ok(first))) = second.poll_frame(&mut cx) else { panic!("nothing was kept") };
            assert_eq!(first.into_data().unwrap(), "one ");
            bench.upload.forget();
            assert!(!bench.upload.may_repeat());
            assert_eq!(second.size_hint().exact(), length.map(|_| 10));
            bench.send("four");
            bench.ended.set(true);
            assert_eq!(drain(&mut second), ("two three four".to_owned(), true));
        }
    }
}
