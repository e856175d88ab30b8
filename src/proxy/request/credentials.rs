//! Puts credentials on a request: the one thing that all the rest is for.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::own_credentials::subject;
use crate::clock::BootInstant;
use crate::token::{Binding, Credentials, Rejection, TokenHandle};

/// Whether a token was at hand.
#[derive(Debug)]
pub(crate) enum Attached {
    /// The request carries it.
    Yes(AttachedCredentials),
    /// None is usable now; the head is as it was.
    No,
}

/// What is to be remembered of the credentials that a request carries.
#[derive(Debug)]
pub(crate) struct AttachedCredentials {
    /// Which of the token's: what is said where they are refused.
    pub(crate) generation: u64,
    /// What the request has to prove besides each time that it goes out (RFC 9449 section 7); `None`: nothing.
    pub(crate) binding: Option<Arc<Binding>>,
    /// The caller's own credentials that they were traded for, marked sensitive; `None`: for no caller's.
    pub(crate) caller: Option<HeaderValue>,
}

/// Attaches `token`, if it is usable at `now`, in place of whatever field of that name was there. It takes no lock and
/// allocates nothing but what the header map needs for one more field.
pub(crate) fn attach(headers: &mut HeaderMap, token: &TokenHandle, now: BootInstant) -> Attached {
    match token.load().usable(now) {
        Some(credentials) => Attached::Yes(put(headers, credentials)),
        None => Attached::No,
    }
}

/// Puts `credentials` on, in place of any that were there.
pub(crate) fn put(headers: &mut HeaderMap, credentials: &Credentials) -> AttachedCredentials {
    headers.insert(credentials.header.clone(), credentials.value.clone());
    AttachedCredentials {
        generation: credentials.generation,
        binding: credentials.binding.clone(),
        caller: None,
    }
}

/// Says that the credentials of `generation` were refused. `None`: they were traded for what is no token.
pub(crate) fn reject(
    token: &TokenHandle,
    generation: u64,
    caller: Option<&HeaderValue>,
) -> Option<Rejection> {
    let caller = match caller {
        Some(caller) => Some(subject(caller).ok()?),
        None => None,
    };
    Some(token.reject(generation, caller))
}
