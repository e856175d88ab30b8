//! What could not be read for what this machine lacked: it is read again at the next look, and reported once.

use crate::machine;

/// Whether the last reading of something is to be repeated.
#[derive(Debug, Default)]
pub(super) struct Postponed(bool);

impl Postponed {
    /// Takes note of a reading of `what` that began when there were `before` shortages. Whether it is to be repeated.
    pub(super) fn ended(&mut self, what: &'static str, failed: bool, before: u64) -> bool {
        let postponed = failed && machine::shortages() > before;
        if postponed && !self.0 {
            tracing::warn!(what, "no descriptor is left to read it; it is read later");
        }
        self.0 = postponed;
        postponed
    }

    pub(super) const fn is_due(&self) -> bool {
        self.0
    }
}
