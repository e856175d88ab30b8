//! Why the proxy responds by itself, and how a body or a connection failed.

mod bad_request;
mod body_error;
mod connect_fault;
pub(crate) mod hyper_error;
mod malformed;
mod proxy_error;
mod rejection;
mod stream_reset;

pub(crate) use bad_request::{BadRequest, PathFault};
pub(crate) use body_error::BodyError;
pub(crate) use connect_fault::{ConnectFault, ConnectStage, DialFault, Full};
pub(crate) use malformed::Malformed;
pub(crate) use proxy_error::{CLIENT_GONE, Cause, KINDS, ProxyError, ResponseCut, WebSocketFault};
pub(crate) use rejection::{GuardRejection, RejectedRequest};
pub(crate) use stream_reset::StreamReset;
