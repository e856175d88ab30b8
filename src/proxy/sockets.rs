//! The sockets that connections to upstreams may take: the share that the limit of open files leaves to them. What keeps tokens
//! alive, and what applications connect by, have shares of their own (`net::descriptors`).
//!
//! All workers draw from it, and only where a connection is opened. Where none is left, idle connections are closed for a
//! request that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::machine::Lack;
use crate::net::eviction::Spell;

/// The sockets of one program's connections to upstreams.
#[derive(Debug)]
pub(super) struct Sockets {
    free: Arc<Semaphore>,
    /// Requests that wait for one.
    waiting: AtomicUsize,
    lacking: Spell,
}

/// A connection's socket, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Socket(
    #[expect(dead_code, reason = "held, and given back by its drop")] OwnedSemaphorePermit,
);

/// A request waits as long as this lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Sockets {
    /// So many at a time.
    pub(super) fn new(count: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { free, waiting: AtomicUsize::new(0), lacking: Spell::default() })
    }

    /// One that is free now.
    pub(super) fn take(&self) -> Option<Socket> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(Socket)
    }

    /// One that is free within `limit`. Meanwhile [`Self::are_wanted`], so that idle connections are closed.
    pub(super) async fn wait(&self, limit: Duration) -> Option<Socket> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let freed = tokio::time::timeout(limit, Arc::clone(&self.free).acquire_owned()).await;
        freed.ok()?.ok().map(Socket)
    }

    /// Whether a request waits for one: then no connection is worth keeping idle.
    pub(super) fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// A request could not have one, or the system refused to give it.
    pub(super) fn were_lacking(&self, lack: Lack) {
        if self.lacking.begins() {
            let help = lack.help();
            tracing::warn!(%lack, help, "requests get 503: there is no connection to their upstream");
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_the_next_socket_and_not_for_longer_than_it_may() {
        let sockets = Sockets::new(1);
        let held = sockets.take().unwrap();
        assert!(sockets.take().is_none() && !sockets.are_wanted());
        let waiting = sockets.wait(Duration::from_secs(5));
        let free = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(sockets.are_wanted());
            drop(held);
        };
        let (taken, ()) = tokio::join!(waiting, free);
        assert!(taken.is_some() && !sockets.are_wanted());
        assert!(sockets.wait(Duration::from_secs(5)).await.is_none(), "it is held");
        assert!(!sockets.are_wanted());
    }
}
