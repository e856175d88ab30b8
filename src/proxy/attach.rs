//! Puts credentials on a request: the one thing that all the rest is for.

use std::sync::Arc;

use http::HeaderMap;

use crate::clock::Moment;
use crate::token::{Binding, Credentials, TokenHandle};

/// Whether a token was at hand.
#[derive(Debug)]
pub enum Attached {
    /// The request carries it.
    Yes,
    /// The request carries it, and needs a proof besides, which is made when it goes out (RFC 9449 section 7).
    Bound(Arc<Binding>),
    /// None is usable now; the head is as it was.
    No,
}

/// Attaches `token`, if it is usable at `now`, in place of whatever field of that name was there. It takes no lock and
/// allocates nothing but what the header map needs for one more field.
pub fn attach(headers: &mut HeaderMap, token: &TokenHandle, now: Moment) -> Attached {
    match token.load().usable(now) {
        Some(credentials) => put(headers, credentials).map_or(Attached::Yes, Attached::Bound),
        None => Attached::No,
    }
}

/// Puts `credentials` on, and says what the request has to prove besides.
pub(super) fn put(headers: &mut HeaderMap, credentials: &Credentials) -> Option<Arc<Binding>> {
    headers.insert(credentials.header.clone(), credentials.value.clone());
    credentials.binding.clone()
}
