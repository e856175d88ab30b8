//! One signal, sent once: finish what is under way and stop.
//!
//! `app` holds the [`DrainTrigger`]; every task that must end holds a [`Drain`]. The trigger also knows when all
//! of them are gone, so that the end waits for requests under way and for nothing else.

use tokio::sync::watch;

/// Starts the drain, and waits until every [`Drain`] is dropped.
#[derive(Debug)]
pub(crate) struct DrainTrigger {
    started: watch::Sender<bool>,
}

/// Says whether the drain has started. The drain ends once all of them are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    started: watch::Receiver<bool>,
}

impl DrainTrigger {
    /// A drain that has not started, and its first watcher.
    #[must_use]
    pub(crate) fn new() -> (Self, Drain) {
        let (sender, receiver) = watch::channel(false);
        (Self { started: sender }, Drain { started: receiver })
    }

    /// Starts the drain. Doing so twice changes nothing.
    pub(crate) fn start(&self) {
        self.started.send_replace(true);
    }

    /// Ends once every [`Drain`] has been dropped.
    pub(crate) async fn finished(&self) {
        self.started.closed().await;
    }
}

impl Drain {
    /// Ends once the drain has started; at once where it has, or where the trigger is gone.
    pub(crate) async fn started(&mut self) {
        // An error says that the trigger is gone: there is nothing left to serve for.
        let _ = self.started.wait_for(|started| *started).await;
    }

    #[cfg(test)]
    fn has_started(&self) -> bool {
        *self.started.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_the_last_watcher_and_no_longer() {
        let (trigger, first) = DrainTrigger::new();
        let mut second = first.clone();
        assert!(!first.has_started());
        trigger.start();
        second.started().await;
        assert!(first.has_started());
        drop(first);
        let early = tokio::time::timeout(std::time::Duration::from_millis(1), trigger.finished());
        assert!(early.await.is_err(), "the second watcher is still there");
        drop(second);
        trigger.finished().await;
    }
}
