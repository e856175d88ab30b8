//! What this machine may lack for a moment: descriptors, ports, memory, threads.
//!
//! None of it is the fault of who is connected to, nor of the configuration. It passes by itself, so what failed for it is
//! tried again soon, and the sentence names it.

mod read;

use std::error::Error;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;

pub(crate) use read::{Unreadable, read};

/// What there is none left of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lack {
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
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Descriptors),
            Errno::NOMEM | Errno::NOBUFS => Some(Self::Memory),
            _ => None,
        }
    }

    /// The same of a TCP connection to `remote`.
    #[must_use]
    pub(crate) fn of_connection(error: &io::Error, remote: SocketAddr) -> Option<Self> {
        match Errno::from_io_error(error)? {
            // It also says that there is no address of this machine to connect from, as without IPv6.
            Errno::ADDRNOTAVAIL if has_address_for(remote) => Some(Self::Ports),
            Errno::AGAIN => Some(Self::Ports),
            // Of epoll_ctl(2).
            Errno::NOSPC => Some(Self::Watches),
            _ => Self::of(error),
        }
    }

    /// What an error or one of its causes says that is lacking.
    #[must_use]
    pub(crate) fn within(error: &(dyn Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| {
            let lack = error.downcast_ref::<Self>().copied();
            lack.or_else(|| {
                let error = error.downcast_ref::<io::Error>()?;
                Self::of(error).or_else(|| error.get_ref()?.downcast_ref::<Self>().copied())
            })
        })
    }

    /// What is lacking now for any descriptor at all: for what fails without a reason.
    #[must_use]
    pub(crate) fn now() -> Option<Self> {
        Self::of(&File::open("/dev/null").err()?)
    }

    /// What to do about it.
    #[must_use]
    pub(crate) const fn help(self) -> &'static str {
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

/// That this process may open so many files more.
///
/// # Errors
/// What it lacks for that.
pub(crate) fn has_room_for(files: usize) -> Result<(), Lack> {
    let opened: io::Result<Vec<File>> = (0..files).map(|_| File::open("/dev/null")).collect();
    match opened {
        Err(error) => Lack::of(&error).map_or(Ok(()), Err),
        Ok(_) => Ok(()),
    }
}

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
    fn what_an_error_lacks_is_found_among_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Box<dyn Error>);

        let descriptors = io::Error::from(Errno::MFILE);
        assert_eq!(Lack::within(&Outer(Box::new(Outer(descriptors.into())))), Some(Lack::Descriptors));
        assert_eq!(Lack::within(&Outer(Lack::Ports.into())), Some(Lack::Ports));
        assert_eq!(Lack::within(&io::Error::other(Lack::Threads)), Some(Lack::Threads));
        assert_eq!(Lack::within(&Outer(io::Error::from(Errno::NOENT).into())), None);
    }

    #[test]
    fn room_for_files_ends_where_the_limit_is() {
        assert_eq!(has_room_for(3), Ok(()));
        assert_eq!(has_room_for(20_000_000), Err(Lack::Descriptors));
    }
}
