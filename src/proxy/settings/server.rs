//! How the proxy listens and what it allows a connection: every bound has its name here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, thread};

use crate::net::cgroup;
use crate::net::descriptors::Shares;
use crate::net::local_address::LocalAddress;

/// The listeners and their limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSettings {
    /// Addresses to listen on.
    pub listen: Vec<ListenAddress>,
    /// TLS on the TCP listeners; `None`: plain.
    pub tls: Option<ServerTls>,
    /// Worker threads; each has its own connections. `None`: one per core that the process may use.
    pub workers: Option<usize>,
    /// Downstream connections at a time, over all workers; the next one waits in the kernel's queue.
    pub max_connections: usize,
    /// What requests may cost in memory, over all workers.
    pub memory_limit: MemoryLimit,
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
    /// Whether an HTTP/1.1 application that closes only its own side still gets its response (RFC 9112 section 9.6); where
    /// not, it has gone, and its request is cancelled.
    pub half_close: bool,
    /// HTTP/2 streams at a time on one connection.
    pub max_streams: u32,
    /// HTTP/2 requests that one connection may take back in a second (RFC 9113 section 10.5).
    pub max_resets: usize,
    /// How long the proxy goes on accepting after SIGTERM before it drains.
    pub drain_delay: Duration,
    /// How long requests under way may take to finish then.
    pub drain_timeout: Duration,
}

impl ServerSettings {
    /// Worker threads.
    #[must_use]
    pub(crate) fn worker_count(&self) -> usize {
        self.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
    }

    /// How a limit of open descriptors is shared out under these settings.
    #[must_use]
    pub(crate) fn shares(&self, limit: Option<u64>) -> Shares {
        Shares::of(limit, self.worker_count(), self.listen.len())
    }
}

/// How much memory requests and connections may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryLimit {
    /// What the container, or the machine, has beyond what the program needs.
    Auto,
    /// So many bytes.
    Bytes(usize),
    /// As much as they cost.
    None,
}

/// What a memory limit comes to on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Bytes; `None`: no limit.
    pub bytes: Option<usize>,
    /// What `auto` took it from; `None`: it was not `auto`, or the system does not tell.
    pub of: Option<cgroup::MemoryLimit>,
}

impl MemoryLimit {
    /// What it comes to here and now. Blocks for a few small reads.
    #[must_use]
    pub(crate) fn budget(self) -> Budget {
        match self {
            Self::Auto => {
                let of = cgroup::MemoryLimit::read();
                Budget { bytes: of.as_ref().map(automatic), of }
            }
            Self::Bytes(bytes) => Budget { bytes: Some(bytes), of: None },
            Self::None => Budget { bytes: None, of: None },
        }
    }
}

impl Budget {
    /// Bytes of the container, or the machine, that it leaves to the program itself; `None`: it was not taken from either.
    pub(crate) fn beside(&self) -> Option<usize> {
        let whole = usize::try_from(self.of.as_ref()?.bytes).unwrap_or(usize::MAX);
        Some(whole.saturating_sub(self.bytes?))
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bytes) = self.bytes else { return f.write_str("none") };
        write!(f, "{} MiB", bytes >> 20)?;
        match &self.of {
            None => Ok(()),
            Some(of) => {
                let whose = match of.origin {
                    cgroup::LimitOrigin::Cgroup => "container's limit",
                    cgroup::LimitOrigin::Machine => "machine's memory",
                };
                write!(f, " of the {whose} of {} MiB", of.bytes >> 20)
            }
        }
    }
}

/// What is left for requests. A machine has other programs, too.
fn automatic(limit: &cgroup::MemoryLimit) -> usize {
    let bytes = match limit.origin {
        cgroup::LimitOrigin::Cgroup => {
            limit.bytes.saturating_sub(PROGRAM_BYTES + limit.bytes / 16).max(limit.bytes / 4)
        }
        cgroup::LimitOrigin::Machine => limit.bytes / 2,
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What the program needs beside its requests, tokens and the authorization server's connections included.
const PROGRAM_BYTES: u64 = 12 * 1024 * 1024;

/// Where the proxy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Where it is.
        path: PathBuf,
        /// Who may connect, as a file's mode: `0o600`.
        mode: u32,
    },
}

impl ListenAddress {
    /// The address and port; `None` for a Unix socket.
    #[must_use]
    pub(crate) const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }

    /// A Unix socket's mode; `None` for an address and port.
    #[must_use]
    pub(crate) const fn unix_mode(&self) -> Option<u32> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix { mode, .. } => Some(*mode),
        }
    }
}

impl From<&ListenAddress> for LocalAddress {
    fn from(address: &ListenAddress) -> Self {
        match address {
            ListenAddress::Tcp(address) => Self::Tcp(*address),
            ListenAddress::Unix { path, .. } => Self::Path(path.clone()),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        LocalAddress::from(self).fmt(f)
    }
}

/// The proxy's own certificate, and whose certificates it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the names of the keys of `[server.tls]`")]
pub(crate) struct ServerTls {
    /// PEM file of the certificate with its chain.
    pub cert_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
    /// PEM file of the authorities of client certificates, which are demanded then (mutual TLS); `None`: none is asked for.
    pub client_ca_file: Option<PathBuf>,
}

impl ServerTls {
    /// Its files: what a watcher looks at.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        [self.cert_file.as_path(), &self.key_file].into_iter().chain(self.client_ca_file.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_leaves_the_program_its_part() {
        let of = |mib: u64, origin| automatic(&cgroup::MemoryLimit { bytes: mib << 20, origin }) >> 20;
        for (mib, budget) in [(16, 4), (32, 18), (64, 48), (128, 108), (1024, 948)] {
            assert_eq!(of(mib, cgroup::LimitOrigin::Cgroup), budget, "{mib} MiB");
        }
        assert_eq!(of(8192, cgroup::LimitOrigin::Machine), 4096);
    }

    #[test]
    fn a_budget_says_what_it_was_taken_from() {
        let of = cgroup::MemoryLimit { bytes: 64 << 20, origin: cgroup::LimitOrigin::Cgroup };
        let budget = Budget { bytes: Some(48 << 20), of: Some(of) };
        assert_eq!(budget.to_string(), "48 MiB of the container's limit of 64 MiB");
        assert_eq!(MemoryLimit::Bytes(32 << 20).budget().to_string(), "32 MiB");
        assert_eq!(MemoryLimit::None.budget().to_string(), "none");
    }
}
