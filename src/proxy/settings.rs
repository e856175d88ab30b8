//! How the proxy listens and what it allows a connection: every bound has its name here.

use std::net::SocketAddr;
use std::time::Duration;

/// The listeners and their limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Worker threads; each has its own connections. `None`: one per core that the process may use.
    pub workers: Option<usize>,
    /// Downstream connections at a time, over all workers; the next one waits in the kernel's queue.
    pub max_connections: usize,
    /// Bytes of a request's head; more: 431.
    pub max_header_size: usize,
    /// Header fields of a request; more: 431.
    pub max_headers: usize,
    /// From a head's first byte to its last.
    pub header_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub keep_alive_timeout: Duration,
    /// How long an application may leave an answer unread.
    pub send_timeout: Duration,
    /// HTTP/2 streams at a time on one connection.
    pub max_streams: u32,
    /// How long requests under way may take to finish after SIGTERM.
    pub drain_timeout: Duration,
}
