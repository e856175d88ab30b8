//! HTTP/2 on its way to h2: heads that are judged and rewritten, floods, windows (RFC 9113).

pub(crate) mod flood;
pub(crate) mod head_frames;
pub(crate) mod head_marks;
pub(crate) mod hpack;
pub(crate) mod odd_targets;
pub(crate) mod request_heads;
pub(crate) mod response_heads;
pub(crate) mod window;
