//! What could not be read for what this machine lacked: it is read again at the next look, and reported once.

use std::error::Error;

use crate::machine::Lack;

/// Whether the last reading of something is to be repeated.
#[derive(Debug, Default)]
pub(super) struct Postponed(bool);

impl Postponed {
    /// Takes note of a reading of `what`. Whether it is to be repeated.
    pub(super) fn ended<T, E: Error + 'static>(&mut self, what: &'static str, read: &Result<T, E>) -> bool {
        let lack = read.as_ref().err().and_then(|error| Lack::within(error));
        if let Some(lack) = lack
            && !self.0
        {
            tracing::warn!(what, reason = %lack, help = lack.help(), "it cannot be read now; it is read later");
        }
        self.0 = lack.is_some();
        self.0
    }

    pub(super) const fn is_due(&self) -> bool {
        self.0
    }
}
