//! Why the proxy responds by itself, and how a body or a connection failed.

mod application_fault;
mod bad_request;
mod body_error;
mod connect_fault;
mod dial_fault;
pub(crate) mod hyper_error;
mod limit_fault;
mod malformed;
mod proxy_error;
mod rejection;
mod stream_reset;
mod token_fault;
mod upstream_fault;

pub(crate) use application_fault::{ApplicationFault, CLIENT_GONE};
pub(crate) use bad_request::{BadRequest, PathFault};
pub(crate) use body_error::BodyError;
pub(crate) use connect_fault::{ConnectFault, ConnectStage, Full};
pub(crate) use dial_fault::DialFault;
pub(crate) use limit_fault::LimitFault;
pub(crate) use malformed::Malformed;
pub(crate) use proxy_error::{Cause, KINDS, ProxyError};
pub(crate) use rejection::{GuardRejection, RejectedRequest};
pub(crate) use stream_reset::StreamReset;
pub(crate) use token_fault::TokenFault;
pub(crate) use upstream_fault::{ResponseCut, UpstreamFault, WebSocketFault};
