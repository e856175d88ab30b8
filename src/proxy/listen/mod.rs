//! Listeners, workers, and a connection from accept to close.

pub(crate) mod accept;
pub(crate) mod connection;
pub(crate) mod hyper_server;
pub(crate) mod listener;
pub(crate) mod server;
pub(crate) mod stream_executor;
pub(crate) mod worker;
