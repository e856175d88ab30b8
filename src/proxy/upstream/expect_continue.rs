//! `Expect: 100-continue`, end to end (RFC 9110 section 10.1.1).
//!
//! hyper asks the application for its body as soon as the body is polled. So it must not be polled before the
//! upstream said 100: a [`Gate`] stands before it, and opens at the upstream's 100, or when it stays silent for too
//! long. A final answer without a 100 goes back while the gate is still shut, and the body is never asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Sleep;

/// Holds a body back until the upstream asks for it.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Arc<GateState>,
    /// Runs from the moment at which the head was sent and the body could follow.
    patience: Option<Pin<Box<Sleep>>>,
}

/// Opens a [`Gate`].
#[derive(Clone, Debug)]
pub(crate) struct GateOpener(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    open: AtomicBool,
    waker: AtomicWaker,
}

impl Gate {
    /// Whether the body may be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.state.open.load(Ordering::Acquire)
    }

    /// A shut gate.
    pub(crate) fn new() -> (Self, GateOpener) {
        let state = Arc::new(GateState::default());
        (Self { state: Arc::clone(&state), patience: None }, GateOpener(state))
    }

    /// Ready once the body may be sent.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.waker.register(cx.waker());
        if self.state.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        ready!(patience.as_mut().poll(cx));
        self.state.open.store(true, Ordering::Release);
        Poll::Ready(())
    }
}

impl GateOpener {
    /// The same gate, before another sending of the body.
    pub(crate) fn gate(&self) -> Gate {
        Gate { state: Arc::clone(&self.0), patience: None }
    }

    /// Whether the body has been asked for, or silence was taken for asking.
    pub(crate) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Opens the gate now: the upstream asks for the body.
    pub(crate) fn open(&self) {
        self.0.open.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}

/// How long a silent upstream is waited for before the body is sent all the same: it may not know the expectation.
const PATIENCE: Duration = Duration::from_secs(1);
