//! What a person sees: answers on standard output, everything else on standard error.

use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use cupbearer::telemetry::{self, plain_line};

/// Writes an answer, and a line end.
pub(super) fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Answers that come while the proxy runs in the same process: a thread of their own writes them, so that a terminal which was
/// stopped (Ctrl-S) stops nothing else.
#[derive(Clone, Debug)]
pub(super) struct Answers(SyncSender<String>);

impl Answers {
    /// Starts the thread; it ends with the last clone, or where standard output is closed.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, lines) = sync_channel::<String>(MOST_ANSWERS);
        let write = move || while lines.recv().is_ok_and(|line| answer(&line).is_ok()) {};
        thread::Builder::new().name("answers".to_owned()).spawn(write)?;
        Ok(Self(sender))
    }

    /// Writes an answer; one too many is left out. An error where standard output is closed.
    pub(super) fn answer(&self, text: String) -> io::Result<()> {
        match self.0.try_send(text) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Answers that wait to be written.
const MOST_ANSWERS: usize = 1000;

/// Says on standard error what went wrong. A file, an authorization server or another process may have a part in it.
pub(super) fn complain(text: &str) {
    let lines: Vec<_> = text.split('\n').map(plain_line).collect();
    say(&format!("cupbearer: {}", lines.join("\n")));
}

/// Says something on standard error: behind the log, where this command has one, and then it waits for no reader either. There
/// is nobody to tell where even that fails.
pub(super) fn say(text: &str) {
    if !telemetry::write_behind(text) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}
