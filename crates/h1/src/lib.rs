//! HTTP/1.1 toward an upstream: our own client, in place of hyper's (RFC 9112).
//!
//! The future of a request writes its head and reads the answer by itself: there is no task, no channel and no copy of
//! the head behind a connection. Buffers are bounded, what was sent is known to the byte, and an upstream that
//! answers in two readings of one message is malformed. HTTP/2 is not spoken here, and nothing here knows of pools'
//! limits, retries or tokens. `sending` sends by it, `pool` keeps what is idle, `body` hands the answer on.

mod answer;
mod body;
mod connection;
mod encode;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod head;
mod stream;
#[cfg(test)]
mod tests;
mod upload;

pub(super) use answer::{Answer, AnswerError};
pub(super) use connection::{Keeper, Manner, Wire};
pub(super) use head::MAX_FIELDS;
pub(super) use stream::Stream;
