//! The mark of a refresh token that was spent and whose successor is not stored: why it is refused next time.
//!
//! `source::stored` writes one before each refresh, in the place that `TokenStore::spending` has for it.

use crate::oauth::Interruption;

use super::entry::Fingerprint;

/// A refresh token that was spent, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpentMark {
    /// The refresh token's.
    pub(in crate::token) token: Fingerprint,
    pub(in crate::token) how: Interruption,
}

/// What becomes of the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spending {
    /// It is read.
    Read,
    /// This one takes its place.
    Of(SpentMark),
    /// It goes.
    Over,
}

impl SpentMark {
    /// Of a refresh token that is being spent: unless something else is written, its response was lost.
    pub(in crate::token) const fn begun(token: Fingerprint) -> Self {
        Self { token, how: Interruption::Lost }
    }

    pub(super) fn encode(self) -> String {
        let token = self.token.encode();
        match self.how {
            Interruption::Lost => token,
            Interruption::Unread => format!("{token} {UNREAD}"),
            Interruption::Failed => format!("{token} {FAILED}"),
        }
    }

    /// `None`: it is none, or one that a later release wrote.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let (token, how) = match text.split_once(' ') {
            None => (text, Interruption::Lost),
            Some((token, UNREAD)) => (token, Interruption::Unread),
            Some((token, FAILED)) => (token, Interruption::Failed),
            Some(_) => return None,
        };
        Some(Self { token: Fingerprint::decode(token)?, how })
    }
}

/// No mark is longer.
pub(super) const LONGEST_MARK: u64 = 64;

const UNREAD: &str = "unread";
const FAILED: &str = "failed";

#[cfg(test)]
mod tests {
    use super::super::entry::tests::print;
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_by_earlier_releases_where_nothing_came() {
        let token = print("token");
        for how in [Interruption::Lost, Interruption::Unread, Interruption::Failed] {
            let mark = SpentMark { token, how };
            assert_eq!(SpentMark::decode(&mark.encode()), Some(mark));
            assert!(mark.encode().len() as u64 <= LONGEST_MARK);
        }
        assert_eq!(SpentMark::begun(token).encode(), token.encode());
        for text in ["", "nonsense", &format!("{} later", token.encode()), " unread"] {
            assert_eq!(SpentMark::decode(text), None, "{text}");
        }
    }
}
