//! One request, step by step: admission, limits, credentials, the way upstream and back.

pub(crate) mod admit;
pub(crate) mod cors;
pub(crate) mod credentials;
pub(crate) mod discard_body;
pub(crate) mod forward;
pub(crate) mod grpc;
pub(crate) mod guard;
pub(crate) mod handler;
pub(crate) mod limits;
pub(crate) mod max_forwards;
pub(crate) mod own_credentials;
pub(crate) mod refused_token_log;
pub(crate) mod response_body;
mod retry_policy;
mod retry_unauthorized;
pub(crate) mod rewrite;
pub(crate) mod route_table;
pub(crate) mod sender;
pub(crate) mod worker_routes;
