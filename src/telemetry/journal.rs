//! systemd's journal as the reader of standard error: each line begins with its priority, `<3>` of an error (sd-daemon(3)).

use std::borrow::Cow;
use std::env;
use std::io;

use tracing::Level;

/// Whether standard error is a stream to the journal. Its device and inode are in `JOURNAL_STREAM` (systemd.exec(5)), which a
/// program whose standard error is another one may have inherited.
pub(super) fn is_reader() -> bool {
    let Some(stream) = env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(facts) = rustix::fs::fstat(io::stderr()) else { return false };
    stream.to_str() == Some(&format!("{}:{}", facts.st_dev, facts.st_ino))
}

/// What a line of this level begins with.
pub(super) const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Text for standard error that reports an error, with the priority of one on each line where the journal reads it.
#[must_use]
pub(crate) fn error_text(text: &str) -> Cow<'_, str> {
    if is_reader() { Cow::Owned(with_priority(text, Level::ERROR)) } else { Cow::Borrowed(text) }
}

/// `text` with the priority on each line.
pub(super) fn with_priority(text: &str, level: Level) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| format!("{}{line}", priority(level))).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_the_priority() {
        assert_eq!(with_priority("one\n  two", Level::ERROR), "<3>one\n<3>  two");
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        assert_eq!(levels.map(priority), ["<3>", "<4>", "<6>", "<7>", "<7>"]);
    }
}
