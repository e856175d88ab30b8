//! The way to the API: connections, and the sendings of a request.

pub(crate) mod api;
pub(crate) mod attempt;
pub(crate) mod body_silence;
pub(crate) mod connect;
pub(crate) mod connection_info;
pub(crate) mod connector;
pub(crate) mod download;
pub(crate) mod expect_continue;
pub(crate) mod failure;
pub(crate) mod forwarded_target;
pub(crate) mod h1;
pub(crate) mod health;
pub(crate) mod metered;
pub(crate) mod peer_settings;
pub(crate) mod pool;
pub(crate) mod received_body;
pub(crate) mod replay_body;
pub(crate) mod request_body;
pub(crate) mod shared_dial;
pub(crate) mod slots;
pub(crate) mod sockets;
