//! Who is at the other end of a downstream connection, as far as the connection itself says.

use std::cell::Cell;
use std::net::SocketAddr;

use crate::net::names::Subject;

/// What is known of a connection before its first request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The address that was connected to; `None`: a Unix socket.
    pub(crate) local: Option<SocketAddr>,
    /// The address that it came from; `None`: a Unix socket.
    pub(crate) remote: Option<SocketAddr>,
    /// The user at the other end of a Unix socket.
    pub(crate) uid: Option<u32>,
    /// Whether it is TLS.
    pub(crate) tls: bool,
    /// The names in the client certificate that it has shown and that was found to be good.
    pub(crate) names: Vec<Subject>,
    /// The number of the guard that found it good last; 0: none did yet.
    pub(crate) passed: Cell<u64>,
}
