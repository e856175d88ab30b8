//! TLS configurations and sockets, for whoever connects or listens beside the request path.

pub mod acceptor;
pub mod ask;
pub mod browser;
pub mod certificate;
pub mod cgroup;
pub mod descriptors;
pub mod dial;
pub mod eviction;
pub mod family;
pub mod files;
pub mod local_address;
pub mod local_listener;
pub mod loopback;
pub mod names;
pub mod outgoing;
pub mod presence;
pub mod resolver;
pub mod serve;
pub mod threads;
pub mod tls;
pub mod unix;
pub mod unix_peer;
