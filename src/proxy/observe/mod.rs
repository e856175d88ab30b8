//! What is told of requests: metrics, the access log, spans.

pub(crate) mod access_log;
pub(crate) mod local_reply_log;
pub(crate) mod metrics;
pub(crate) mod timing;
pub(crate) mod trace;
pub(crate) mod upstream_metrics;
