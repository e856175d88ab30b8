//! What a person sees: answers on standard output, everything else on standard error.

use std::io::{self, Write};

use crate::telemetry::{self, plain_line};

/// Writes an answer, and a line end.
pub(super) fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written =
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    written.map_err(|error| io::Error::new(error.kind(), format!("standard output takes no more: {error}")))
}

/// Says on standard error what went wrong. A file, an authorization server or another process may have a part in it.
pub(super) fn complain(text: &str) {
    let lines: Vec<_> = text.split('\n').map(plain_line).collect();
    say(&telemetry::error_text(&format!("cupbearer: {}", lines.join("\n"))));
}

/// Reports on standard error why `run` ends: as an event where the log is JSON.
pub(super) fn fail(text: &str) {
    let lines: Vec<_> = text.split('\n').map(plain_line).collect();
    let text = lines.join("\n");
    if !telemetry::write_failure(&text) {
        say(&telemetry::error_text(&text));
    }
}

/// Says something on standard error: behind the log, where this command has one, and then it waits for no reader either. Where
/// even that fails, nothing is left to report it by.
pub(super) fn say(text: &str) {
    if !telemetry::write_behind(text) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}
