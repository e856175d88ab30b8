//! What this machine may lack for a moment: descriptors, ports, memory, threads.
//!
//! None of it is the fault of who is connected to, nor of the configuration. It passes by itself, so what failed for it is
//! tried again soon, and the sentence names it.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

/// What there is none left of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Files and sockets that this process, or the whole system, may have open.
    #[error("this machine has no descriptor left")]
    Descriptors,
    /// Local ports for connections to one address.
    #[error("this machine has no port left for another connection to that address")]
    Ports,
    /// Memory in the kernel.
    #[error("this machine has no memory left for a socket")]
    Memory,
    /// Descriptors or memory: the system did not report which.
    #[error("this machine has no descriptor or no memory left")]
    Resources,
    /// Descriptors that one user may wait on.
    #[error("this machine lets this user watch no more descriptors")]
    Watches,
    /// Threads.
    #[error("this machine has no thread left")]
    Threads,
}

impl Lack {
    /// What an error of a file or a socket says that is lacking; `None`: it says something else.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Descriptors),
            Errno::NOMEM | Errno::NOBUFS => Some(Self::Memory),
            _ => None,
        }
    }

    /// The same of a TCP connection to `remote`.
    #[must_use]
    pub fn of_connection(error: &io::Error, remote: SocketAddr) -> Option<Self> {
        match Errno::from_io_error(error)? {
            // It also says that there is no address of this machine to connect from, as without IPv6.
            Errno::ADDRNOTAVAIL if has_address_for(remote) => Some(Self::Ports),
            Errno::AGAIN => Some(Self::Ports),
            // Of epoll_ctl(2).
            Errno::NOSPC => Some(Self::Watches),
            _ => Self::of(error),
        }
    }

    /// What is lacking now for any descriptor at all: for what fails without a reason.
    #[must_use]
    pub fn now() -> Option<Self> {
        Self::of(&File::open("/dev/null").err()?)
    }

    /// What to do about it.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Descriptors => "raise the limit of open files (ulimit -n)",
            Self::Ports => {
                "see why connections to it do not last, and widen the range of local ports (net.ipv4.ip_local_port_range)"
            }
            Self::Memory => "raise the limit of memory",
            Self::Resources => "raise the limits of open files (ulimit -n) and memory",
            Self::Watches => "raise fs.epoll.max_user_watches",
            Self::Threads => "raise the limit of processes (pids.max of the cgroup, ulimit -u)",
        }
    }
}

/// Opens a file to read it. That no descriptor was left for it is counted in [`shortages`].
///
/// # Errors
/// Those of the system.
pub fn open(path: &Path) -> io::Result<File> {
    File::open(path).inspect_err(|error| {
        if Lack::of(error).is_some() {
            SHORTAGES.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// How many files could not be opened so far for what this machine lacked. Who reads many files and reports what is wrong with
/// each finds out by it whether that passes.
#[must_use]
pub fn shortages() -> u64 {
    SHORTAGES.load(Ordering::Relaxed)
}

static SHORTAGES: AtomicU64 = AtomicU64::new(0);

/// Whether this machine has an address of its own that leads to `remote`. UDP has ports of its own, and sends nothing here.
fn has_address_for(remote: SocketAddr) -> bool {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(remote)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_told_from_what_is_wrong() {
        let of = |errno: Errno| Lack::of(&errno.into());
        assert_eq!([Errno::MFILE, Errno::NFILE].map(of), [Some(Lack::Descriptors); 2]);
        assert_eq!([Errno::NOMEM, Errno::NOBUFS].map(of), [Some(Lack::Memory); 2]);
        assert_eq!([Errno::CONNREFUSED, Errno::NOENT, Errno::ACCESS].map(of), [None; 3]);
        assert_eq!(Lack::of(&io::ErrorKind::TimedOut.into()), None);
        assert_eq!(Lack::now(), None);
    }

    #[test]
    fn ports_are_lacking_only_where_there_is_an_address_to_connect_from() {
        let of = |errno: Errno, remote: &str| Lack::of_connection(&errno.into(), remote.parse().unwrap());
        assert_eq!(of(Errno::ADDRNOTAVAIL, "127.0.0.1:443"), Some(Lack::Ports));
        // Of a scope that no interface has.
        assert_eq!(of(Errno::ADDRNOTAVAIL, "[fe80::1%4294967295]:443"), None);
        assert_eq!(of(Errno::AGAIN, "127.0.0.1:443"), Some(Lack::Ports));
        assert_eq!(of(Errno::NOSPC, "127.0.0.1:443"), Some(Lack::Watches));
        assert_eq!(of(Errno::MFILE, "127.0.0.1:443"), Some(Lack::Descriptors));
        assert_eq!(of(Errno::NETUNREACH, "127.0.0.1:443"), None);
    }

    #[test]
    fn a_file_that_is_not_there_is_no_shortage() {
        let before = shortages();
        assert!(open(Path::new("/no/such/file")).is_err());
        assert_eq!(shortages(), before);
    }
}
