//! Header fields, targets and paths: pure functions of a message's head.

pub(crate) mod fields;
pub(crate) mod forwarded;
pub(crate) mod headers;
pub(crate) mod outbound_head;
pub(crate) mod path;
pub(crate) mod peer;
pub(crate) mod problem;
pub(crate) mod reason_phrase;
pub(crate) mod stream_deadline;
pub(crate) mod target;
pub(crate) mod traceparent;
pub(crate) mod upgrade;
pub(crate) mod via;
