//! What a person sees: answers on standard output, everything else on standard error.

use std::io::Write;

/// Writes an answer, and a line end.
pub(super) fn answer(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Says on standard error what went wrong.
pub(super) fn complain(text: &str) {
    say(&format!("cupbearer: {text}"));
}

/// Says something on standard error. There is nobody to tell where even that fails.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
