//! Puts credentials on a request: the one thing that all the rest is for.

use crate::clock::Moment;
use http::HeaderMap;

use crate::token::TokenHandle;

/// Whether a token was at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The request carries it.
    Yes,
    /// None is usable now; the head is as it was.
    No,
}

/// Attaches `token`, if it is usable at `now`, in place of whatever field of that name was there. It takes no lock and
/// allocates nothing but what the header map needs for one more field.
pub fn attach(headers: &mut HeaderMap, token: &TokenHandle, now: Moment) -> Attached {
    match token.load().usable(now) {
        Some(credentials) => {
            headers.insert(credentials.header.clone(), credentials.value.clone());
            Attached::Yes
        }
        None => Attached::No,
    }
}
