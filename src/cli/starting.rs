//! SIGTERM and SIGINT while a command reads files, which may hang: the command ends all the same.
//!
//! Process 1 of a container ignores a signal that it has no handler for, and a handler that the main thread serves is of no use
//! while that thread hangs on a file of a network.

use std::process::exit;
use std::thread;

use crate::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Ends the process at a signal, until it is dropped.
pub(super) struct Starting {
    _until: oneshot::Sender<()>,
}

impl Starting {
    /// At a signal from now on the process ends with `code`.
    pub(super) fn ends_with(code: i32) -> Self {
        let (until, over) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel::<()>();
        let watch = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
                let (Ok(mut terminate), Ok(mut interrupt)) = signals else { return };
                drop(ready);
                tokio::select! {
                    // An error says that the start is over.
                    _ = over => return,
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!("told to end during the start");
                telemetry::finish();
                exit(code);
            });
        };
        // Without a thread for it a signal does what it does by default.
        if thread::Builder::new().name("starting".to_owned()).spawn(watch).is_ok() {
            // Returns once the handlers are there, or cannot be.
            let _ = is_ready.recv();
        }
        Self { _until: until }
    }
}
