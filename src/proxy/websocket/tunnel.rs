//! A WebSocket, or another protocol that HTTP/1.1 was upgraded to, after its handshake: two streams of bytes tied together
//! until both have ended.
//!
//! The bytes are opaque: they pass as they come, with backpressure, and an idle tunnel holds no buffer. An
//! end of one side's sending ends the other side's. A side that takes nothing more, or breaks, may have said its last words
//! before: they are passed on. What an application still sends then is read and discarded, within bounds, for a socket that
//! is closed with unread bytes in it is reset, and takes the last words with it. A token is in the handshake alone, so no
//! renewal concerns a tunnel.
//!
//! Where the proxy has to end one (the drain is over, `max_stream_age` or `idle_timeout` has passed), it says so to both
//! sides with a close frame of status 1001, between two frames of theirs, and gives them a while to answer (RFC 6455 section 7.1).
//! Another protocol is just closed.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::farewell_timer::LastWords;
use super::frames::{FrameSender, Frames, going_away};
use super::handshake::{self, ConnectStream};
use crate::clock;
use crate::proxy::downstream::context::{Downstream, Takeover, WorkerContext};
use crate::proxy::downstream::exchange::Exchange;
use crate::proxy::message::stream_deadline::StreamDeadline;
use crate::proxy::observe::metrics::Meter;
use crate::proxy::upstream::metered::StreamPlace;
use crate::proxy::upstream::pool::OpenConnection;

/// A connection, or a stream of one.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// The upstream's half of a tunnel, and all that lives as long as the tunnel does.
pub(crate) struct Tunnel {
    pub(crate) upstream: Box<dyn Io>,
    /// What the upstream sent behind its answer's head and was read already.
    pub(crate) early: Bytes,
    /// What `Upgrade` calls the protocol on the 101.
    pub(crate) protocol: HeaderValue,
    pub(super) speaks: Speaks,
    /// The longest silence of both sides together.
    pub(crate) idle_timeout: Duration,
    /// The stream's place on a shared connection.
    pub(crate) place: Option<Rc<StreamPlace>>,
    /// The connection, where it is the tunnel's own.
    pub(crate) open: Option<OpenConnection>,
}

/// What is spoken in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Frames of RFC 6455.
    WebSocket,
    /// What the two sides alone know.
    Other,
}

/// Whether an application that has ended its side of a tunnel may still wait for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HalfClose {
    Waits,
    HasGone,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").field("idle_timeout", &self.idle_timeout).finish_non_exhaustive()
    }
}

/// A tunnel that waits for the application's half: it is had once the answer's head is sent.
#[derive(Debug)]
pub(crate) struct PendingTunnel {
    pub(crate) tunnel: Box<Tunnel>,
    /// Ends with the tunnel: until then the request is in flight and the connection is not idle.
    pub(crate) exchange: Exchange,
    pub(crate) age: Option<StreamDeadline>,
    pub(crate) worker: Rc<WorkerContext>,
}

impl PendingTunnel {
    /// Has the tunnel begin once `response` is sent: on the connection itself, or on the stream that `connect` asked for.
    pub(crate) fn begin(
        self,
        downstream: &Downstream,
        connect: Option<ConnectStream>,
        response: &mut HeaderMap,
    ) {
        let half_close =
            if self.worker.settings().half_close { HalfClose::Waits } else { HalfClose::HasGone };
        match connect {
            None => {
                handshake::name_protocols(response, self.tunnel.protocol.clone());
                downstream.takeover.set(Some(Takeover::new(move |socket, early| {
                    self.run(socket, early, half_close, By::Connection)
                })));
            }
            // It ends with the stream, and so with the connection at the latest.
            Some(ConnectStream(stream)) => {
                tokio::task::spawn_local(async move {
                    if let Ok(stream) = stream.await {
                        // In HTTP/2 an application that has gone resets the stream.
                        self.run(TokioIo::new(stream), Bytes::new(), HalfClose::Waits, By::Stream).await;
                    }
                });
            }
        }
    }

    /// Passes bytes on until both sides have ended, or the tunnel has to end. `early` is what the application sent
    /// behind its request's head.
    async fn run(self, downstream: impl Io, early: Bytes, half_close: HalfClose, by: By) {
        let Self { tunnel, mut exchange, age, worker } = self;
        let Tunnel { upstream, early: answered, speaks, idle_timeout, place, open, .. } = *tunnel;
        let leave = async {
            let aged = async {
                match age {
                    Some(mut age) => age.reached().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = aged => Leave::Age,
                () = worker.last_moment() => Leave::Drain,
            }
        };
        let ends = Ends { downstream, upstream };
        let is_http2 = place.is_some() || by == By::Stream;
        let end =
            if is_http2 && speaks == Speaks::WebSocket { TunnelEnd::CloseFrame } else { TunnelEnd::Silence };
        let rules = Rules { speaks, half_close, idle: idle_timeout, end };
        let meters = [exchange.received(), exchange.given()];
        match tie(ends, early, answered, rules, meters, leave).await {
            Ok(()) => exchange.completed(),
            Err(error) => {
                tracing::debug!(%error, "a tunnel was cut");
                exchange.tunnel_cut();
            }
        }
        drop((exchange, place, open));
    }
}

/// What the application has a tunnel by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Its HTTP/1.1 connection.
    Connection,
    /// A stream of HTTP/2.
    Stream,
}

/// Why the proxy ends a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Drain,
    Age,
    Idle,
}

impl Leave {
    const fn reason(self) -> &'static str {
        match self {
            Self::Drain => "cupbearer: the proxy is shutting down",
            Self::Age => "cupbearer: max_stream_age has passed",
            Self::Idle => "cupbearer: idle_timeout has passed",
        }
    }
}

/// The two sides.
struct Ends<D, U> {
    downstream: D,
    upstream: U,
}

/// What a tunnel goes by.
#[derive(Clone, Copy, Debug)]
struct Rules {
    speaks: Speaks,
    half_close: HalfClose,
    /// The longest silence of both sides together.
    idle: Duration,
    end: TunnelEnd,
}

/// What shows that a tunnel has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TunnelEnd {
    /// Both sides have ended.
    Silence,
    /// A close frame has gone by, too (RFC 6455 section 7.1.5): hyper reports the same end of an HTTP/2 stream where it was
    /// reset.
    CloseFrame,
}

/// Passes bytes between `ends` until both have ended. When `leave` is ready, or both sides have been silent for too long, it
/// takes leave of both, within [`FAREWELL`].
async fn tie<D: Io, U: Io>(
    mut ends: Ends<D, U>,
    from_downstream: Bytes,
    from_upstream: Bytes,
    rules: Rules,
    [of_up, of_down]: [Meter; 2],
    leave: impl Future<Output = Leave>,
) -> io::Result<()> {
    let moved = Cell::new(clock::now());
    let sender = |sender| if rules.speaks == Speaks::WebSocket { Some(sender) } else { None };
    let mut up = Relay::new(from_downstream, sender(FrameSender::Application), of_up);
    let mut down = Relay::new(from_upstream, sender(FrameSender::Server), of_down);
    let mut last = None;
    let passed = poll_fn(|cx| {
        if poll_both(cx, &mut ends, &mut up, &mut down, &moved).is_ready() {
            return Poll::Ready(());
        }
        let gone = up.told && rules.half_close == HalfClose::HasGone;
        if up.told && (up.fault.is_some() || down.deaf) {
            // The application's connection is broken, and the upstream has all that came by it.
            return Poll::Ready(());
        }
        let broken = up.is_broken() || down.is_broken();
        if gone || broken {
            let last = last.get_or_insert_with(|| LastWords::new(gone));
            return last.poll_over(moved.get(), cx);
        }
        Poll::Pending
    });
    let why = tokio::select! {
        biased;
        () = passed => {
            let is_closed = up.frames.is_closed() || down.frames.is_closed();
            let cut = (rules.end == TunnelEnd::CloseFrame && !is_closed).then(|| io::ErrorKind::UnexpectedEof.into());
            return up.fault.take().or(down.fault.take()).or(cut).map_or(Ok(()), Err);
        }
        why = leave => why,
        () = silence(&moved, rules.idle) => Leave::Idle,
    };
    up.leave(why.reason());
    down.leave(why.reason());
    let mut is_shut = false;
    let farewell = poll_fn(|cx| {
        if poll_both(cx, &mut ends, &mut up, &mut down, &moved).is_ready() {
            return Poll::Ready(());
        }
        if !is_shut && up.is_over() && down.is_over() {
            let _ = ready!(Pin::new(&mut ends.downstream).poll_shutdown(cx));
            let _ = ready!(Pin::new(&mut ends.upstream).poll_shutdown(cx));
            is_shut = true;
        }
        // Behind a close frame nothing comes; another protocol's sender is read on, as it does not know yet.
        if is_shut && rules.speaks == Speaks::WebSocket { Poll::Ready(()) } else { Poll::Pending }
    });
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    Ok(())
}

/// Ready once nothing has moved for `limit`.
async fn silence(moved: &Cell<Instant>, limit: Duration) {
    loop {
        let deadline = moved.get() + limit;
        if deadline <= clock::now() {
            return;
        }
        tokio::time::sleep_until(deadline).await;
    }
}

/// Ready once both ways have ended.
fn poll_both<D: Io, U: Io>(
    cx: &mut Context<'_>,
    ends: &mut Ends<D, U>,
    up: &mut Relay,
    down: &mut Relay,
    moved: &Cell<Instant>,
) -> Poll<()> {
    let Ends { downstream, upstream } = ends;
    let of_up = up.poll(cx, downstream, upstream, moved);
    let of_down = down.poll(cx, upstream, downstream, moved);
    if of_up.is_ready() { of_down } else { Poll::Pending }
}

/// One direction.
struct Relay {
    /// Who sends frames; `None`: nothing is known of the bytes.
    sender: Option<FrameSender>,
    meter: Meter,
    frames: Frames,
    course: Course,
    /// Bytes that were read and are not written yet: then nothing more is read.
    rest: Bytes,
    /// What was written may still be in a buffer.
    unflushed: bool,
    /// The sender has ended.
    ended: bool,
    /// And the receiver was told.
    told: bool,
    /// The receiver takes nothing more: what comes is discarded.
    deaf: bool,
    /// Why the sender broke off.
    fault: Option<io::Error>,
}

/// What becomes of the bytes that come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Course {
    /// They pass.
    Passing,
    /// Those of the frame under way pass; then leave is taken, for this reason.
    Leaving(&'static str),
    /// So much is still to be written of the close frame.
    Parting(Bytes),
    /// None pass; only an answer to the close frame is awaited.
    Left,
}

impl Relay {
    fn new(early: Bytes, sender: Option<FrameSender>, meter: Meter) -> Self {
        meter.passed(early.len());
        Self {
            sender,
            meter,
            frames: Frames::default(),
            course: Course::Passing,
            rest: early,
            unflushed: false,
            ended: false,
            told: false,
            deaf: false,
            fault: None,
        }
    }

    fn leave(&mut self, reason: &'static str) {
        self.course = Course::Leaving(reason);
    }

    /// Whether leave has been taken of the receiver, and the sender has taken its leave.
    fn is_over(&self) -> bool {
        let has_left = self.ended || self.frames.is_closed() || self.sender.is_none();
        self.deaf || self.course == Course::Left && !self.unflushed && has_left
    }

    /// Whether the sender or the receiver has gone without a proper end.
    const fn is_broken(&self) -> bool {
        self.deaf || self.fault.is_some()
    }

    /// Takes note of bytes that pass.
    fn pass(&mut self, bytes: &[u8]) {
        if self.sender.is_some() {
            self.frames.pass(bytes);
        }
    }

    /// Passes on what there is. Ready once the sender has ended and the receiver knows, or takes nothing more.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Io,
        to: &mut impl Io,
        moved: &Cell<Instant>,
    ) -> Poll<()> {
        if self.told {
            return Poll::Ready(());
        }
        for _ in 0..MAX_ROUNDS {
            if !self.deaf && ready!(self.poll_pass(cx, to)).is_err() {
                self.deafen();
            }
            if self.ended {
                if !self.deaf && ready!(Pin::new(&mut *to).poll_shutdown(cx)).is_err() {
                    self.deafen();
                }
                (self.told, self.unflushed) = (true, false);
                return Poll::Ready(());
            }
            let mut room = [const { MaybeUninit::uninit() }; ROOM];
            let mut read = ReadBuf::uninit(&mut room);
            match Pin::new(&mut *from).poll_read(cx, &mut read) {
                Poll::Pending => {
                    if self.unflushed && ready!(Pin::new(&mut *to).poll_flush(cx)).is_err() {
                        self.deafen();
                    }
                    self.unflushed = false;
                    return Poll::Pending;
                }
                Poll::Ready(Err(fault)) => (self.ended, self.fault) = (true, Some(fault)),
                Poll::Ready(Ok(())) => {
                    moved.set(clock::now());
                    self.ended = read.filled().is_empty();
                    self.meter.passed(read.filled().len());
                    if !self.deaf {
                        match self.write(cx, to, read.filled()) {
                            Ok(written) => self.rest = Bytes::copy_from_slice(&read.filled()[written..]),
                            Err(_gone) => self.deafen(),
                        }
                    }
                }
            }
        }
        // Others on this worker have something to say, too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The receiver takes nothing more.
    fn deafen(&mut self) {
        (self.deaf, self.unflushed) = (true, false);
        self.rest = Bytes::new();
    }

    /// Writes what the receiver takes of `bytes` at once, where they simply pass.
    fn write(&mut self, cx: &mut Context<'_>, to: &mut impl Io, bytes: &[u8]) -> io::Result<usize> {
        if self.course != Course::Passing || bytes.is_empty() {
            return Ok(0);
        }
        match Pin::new(to).poll_write(cx, bytes)? {
            Poll::Ready(count) => {
                self.pass(&bytes[..count]);
                self.unflushed = true;
                Ok(count)
            }
            Poll::Pending => Ok(0),
        }
    }

    /// Ready once nothing is left to be written.
    fn poll_pass(&mut self, cx: &mut Context<'_>, to: &mut impl Io) -> Poll<io::Result<()>> {
        loop {
            let (bytes, ours) = match &mut self.course {
                Course::Passing => (&self.rest[..], false),
                Course::Leaving(reason) => {
                    let last = match self.sender {
                        Some(_) => self.frames.to_border(&self.rest),
                        None => self.rest.len(),
                    };
                    if last == 0 && self.frames.at_border() {
                        let frame = match self.sender {
                            Some(sender) if !self.frames.is_closed() => going_away(sender, reason),
                            _ => Vec::new(),
                        };
                        self.course = Course::Parting(frame.into());
                        continue;
                    }
                    (&self.rest[..last], false)
                }
                Course::Parting(left) if left.is_empty() => {
                    self.course = Course::Left;
                    continue;
                }
                Course::Parting(left) => (&left[..], true),
                Course::Left => {
                    let rest = std::mem::take(&mut self.rest);
                    self.pass(&rest);
                    (&[][..], false)
                }
            };
            if bytes.is_empty() {
                // An empty remainder may still hold on to what it was cut from.
                self.rest = Bytes::new();
                return Poll::Ready(Ok(()));
            }
            let count = ready!(Pin::new(&mut *to).poll_write(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            match &mut self.course {
                Course::Parting(left) if ours => left.advance(count),
                _ => {
                    let passed = self.rest.split_to(count);
                    self.pass(&passed);
                }
            }
        }
    }
}

/// Bytes that are read at a time, and held at most of each direction while its receiver takes none.
const ROOM: usize = 16 * 1024;
/// Reads in a row before others get their turn.
const MAX_ROUNDS: usize = 16;
/// How long the two sides have for the frame under way and for an answer to the close frame.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::downstream::linger::LINGER_TIME;
    use crate::proxy::websocket::farewell_timer::GONE;
    use std::future::pending;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    /// A tunnel between two pipes: the application's end, the upstream's end, what ends it, and how it ended.
    struct Stage {
        application: DuplexStream,
        upstream: DuplexStream,
        leave: oneshot::Sender<Leave>,
        tied: JoinHandle<io::Result<()>>,
    }

    const IDLE: Duration = Duration::from_mins(5);

    const PATIENT: Rules = Rules {
        speaks: Speaks::WebSocket,
        half_close: HalfClose::Waits,
        idle: IDLE,
        end: TunnelEnd::Silence,
    };

    fn stage(early: [&'static [u8]; 2]) -> Stage {
        stage_by(PATIENT, early)
    }

    fn stage_by(rules: Rules, early: [&'static [u8]; 2]) -> Stage {
        let (application, downstream) = duplex(4096);
        let (upstream, ours) = duplex(4096);
        let (leave, left) = oneshot::channel();
        let leaving = async move {
            match left.await {
                Ok(why) => why,
                Err(_) => pending().await,
            }
        };
        let ends = Ends { downstream, upstream: ours };
        let [first, second] = early.map(Bytes::from_static);
        let tied = tokio::task::spawn_local(async move {
            tie(ends, first, second, rules, <[Meter; 2]>::default(), leaving).await
        });
        Stage { application, upstream, leave, tied }
    }

    async fn read(from: &mut DuplexStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        from.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    async fn rest(from: &mut DuplexStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    /// A frame of the upstream's with this payload.
    fn frame(payload: &[u8]) -> Vec<u8> {
        [&[0x82, payload.len() as u8], payload].concat()
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn what_came_with_the_handshake_comes_first_and_an_end_passes_each_way() {
        let mut stage = stage([b"from the application ", b"from the upstream "]);
        stage.application.write_all(b"up").await.unwrap();
        stage.application.shutdown().await.unwrap();
        assert_eq!(rest(&mut stage.upstream).await, b"from the application up");
        stage.upstream.write_all(b"down").await.unwrap();
        assert_eq!(read(&mut stage.application, 22).await, b"from the upstream down");
        drop(stage.upstream);
        assert_eq!(rest(&mut stage.application).await, b"");
        assert!(stage.tied.await.unwrap().is_ok());
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_reader_that_does_not_read_holds_the_sender_up() {
        let mut stage = stage([b"", b""]);
        let sender = tokio::spawn(async move {
            let mut sent = 0;
            let patience = Duration::from_secs(10);
            while tokio::time::timeout(patience, stage.upstream.write_all(&[0; 1024])).await.is_ok() {
                sent += 1024;
            }
            (sent, stage.upstream)
        });
        let (sent, _upstream) = sender.await.unwrap();
        assert!(sent <= 2 * 4096 + ROOM, "{sent} bytes are held");
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_silence_is_counted_over_both_ways() {
        let mut stage = stage([b"", b""]);
        let began = clock::now();
        for round in 0_u8..12 {
            tokio::time::sleep(IDLE.saturating_sub(Duration::from_secs(1))).await;
            // A ping of either side is life for both.
            let (from, to) = match round % 2 {
                0 => (&mut stage.application, &mut stage.upstream),
                _ => (&mut stage.upstream, &mut stage.application),
            };
            from.write_all(&[0x89, 0]).await.unwrap();
            assert_eq!(read(to, 2).await, [0x89, 0]);
        }
        assert!(clock::now() - began > Duration::from_mins(55));
        let last = clock::now();
        assert_eq!(
            rest(&mut stage.application).await[..4],
            [0x88, Leave::Idle.reason().len() as u8 + 2, 0x03, 0xe9]
        );
        let waited = clock::now() - last;
        assert!(waited >= IDLE && waited < IDLE + FAREWELL * 2, "{waited:?}");
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn leave_is_taken_between_two_frames_and_the_answers_are_awaited() {
        let mut stage = stage([b"", b""]);
        let whole = frame(b"hello, world");
        stage.upstream.write_all(&whole[..5]).await.unwrap();
        assert_eq!(read(&mut stage.application, 5).await, whole[..5]);
        stage.leave.send(Leave::Drain).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The frame under way is finished; the one behind it comes too late.
        stage.upstream.write_all(&[&whole[5..], &frame(b"late")].concat()).await.unwrap();
        assert_eq!(read(&mut stage.application, whole.len() - 5).await, whole[5..]);
        let farewell = going_away(FrameSender::Server, Leave::Drain.reason());
        assert_eq!(read(&mut stage.application, farewell.len()).await, farewell);
        let to_upstream = read(&mut stage.upstream, farewell.len() + 4).await;
        assert_eq!(to_upstream[..2], [0x88, 0x80 | (farewell.len() - 2) as u8], "masked");

        let began = clock::now();
        stage.application.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).await.unwrap();
        stage.upstream.write_all(&[0x88, 2, 0x03, 0xe9]).await.unwrap();
        assert_eq!(rest(&mut stage.application).await, b"", "neither the late frame nor the answer");
        assert_eq!(rest(&mut stage.upstream).await, b"");
        assert!(stage.tied.await.unwrap().is_ok());
        assert!(clock::now() - began < FAREWELL);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn nobody_is_told_twice_that_it_is_over() {
        let mut stage = stage([b"", b""]);
        stage.application.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
        assert_eq!(read(&mut stage.upstream, 6).await, [0x88, 0x80, 0, 0, 0, 0]);
        stage.leave.send(Leave::Age).unwrap();
        assert_eq!(rest(&mut stage.upstream).await, b"");
        assert_eq!(
            rest(&mut stage.application).await[..2],
            [0x88, Leave::Age.reason().len() as u8 + 2],
            "this side was not told yet"
        );
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn whoever_does_not_answer_is_not_waited_for() {
        let mut stage = stage([b"", b""]);
        // Far more than there is room for, and it is not read.
        let flood = [&[0x82, 126, 0x80, 0][..], &vec![0; 0x8000]].concat();
        let sender = tokio::spawn(async move { stage.upstream.write_all(&flood).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let began = clock::now();
        stage.leave.send(Leave::Age).unwrap();
        assert!(stage.tied.await.unwrap().is_ok());
        assert_eq!((clock::now() - began).as_secs(), FAREWELL.as_secs());
        assert!(sender.await.unwrap().is_err());
        let _ = rest(&mut stage.application).await;
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn the_last_words_of_a_side_that_has_gone_arrive_while_the_other_still_sends() {
        let mut stage = stage([b"", b""]);
        stage.upstream.write_all(b"last words").await.unwrap();
        drop(stage.upstream);
        // More than fits into the pipe: it is taken all the same.
        for _ in 0..64 {
            stage.application.write_all(&[0; 1024]).await.unwrap();
        }
        assert_eq!(rest(&mut stage.application).await, b"last words");
        assert!(!stage.tied.is_finished(), "the application has not ended");
        drop(stage.application);
        assert!(stage.tied.await.unwrap().is_ok());
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn an_application_that_has_gone_leaves_its_last_words_to_the_upstream() {
        let mut stage = stage([b"", b""]);
        stage.application.write_all(b"last words").await.unwrap();
        drop(stage.application);
        while stage.upstream.write_all(&[0; 1024]).await.is_ok() {}
        assert_eq!(rest(&mut stage.upstream).await, b"last words");
        let _ = stage.tied.await.unwrap();
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_side_that_sends_for_ever_to_one_that_has_gone_is_cut() {
        let mut stage = stage([b"", b""]);
        drop(stage.upstream);
        let began = clock::now();
        while stage.application.write_all(&[0; 16]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(clock::now() - began <= LINGER_TIME + Duration::from_secs(2));
        assert!(stage.tied.await.unwrap().is_ok());
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn an_application_that_ends_its_side_has_gone_unless_it_may_wait() {
        for (half_close, lasts) in [(HalfClose::HasGone, GONE), (HalfClose::Waits, IDLE)] {
            let mut stage = stage_by(Rules { half_close, ..PATIENT }, [b"", b""]);
            let began = clock::now();
            stage.application.shutdown().await.unwrap();
            assert_eq!(rest(&mut stage.upstream).await, b"", "the upstream knows at once");
            assert_eq!(clock::now(), began);
            assert!(stage.tied.await.unwrap().is_ok());
            let lasted = clock::now() - began;
            assert!(lasted >= lasts && lasted <= lasts + FAREWELL, "{half_close:?}: {lasted:?}");
        }
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn another_protocol_is_closed_without_a_frame() {
        let mut stage = stage_by(Rules { speaks: Speaks::Other, ..PATIENT }, [b"", b""]);
        stage.upstream.write_all(&[0x82, 100, 1, 2, 3]).await.unwrap();
        assert_eq!(read(&mut stage.application, 5).await, [0x82, 100, 1, 2, 3]);
        stage.leave.send(Leave::Age).unwrap();
        assert_eq!(rest(&mut stage.application).await, b"");
        assert_eq!(rest(&mut stage.upstream).await, b"");
        assert!(stage.tied.await.unwrap().is_ok());
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_websocket_by_http_2_that_ends_without_a_close_frame_was_cut() {
        for (frame, end, whole) in [
            (&[0x81, 1, b'a'][..], TunnelEnd::CloseFrame, false),
            (&[0x88, 0], TunnelEnd::CloseFrame, true),
            (&[0x81, 1, b'a'], TunnelEnd::Silence, true),
        ] {
            let mut stage = stage_by(Rules { end, ..PATIENT }, [b"", b""]);
            stage.upstream.write_all(frame).await.unwrap();
            drop(stage.upstream);
            assert_eq!(rest(&mut stage.application).await, frame);
            drop(stage.application);
            assert_eq!(stage.tied.await.unwrap().is_ok(), whole, "{frame:?} {end:?}");
        }
    }
}
