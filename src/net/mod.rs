//! TLS configurations and sockets, for whoever connects.

pub mod loopback;
pub mod tls;
