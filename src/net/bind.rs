//! Address families: a kernel may have been told to do without IPv6, and then `[::]`, which stands for every address, stands for
//! none.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Listens on `address`. `[::]` takes IPv4 too, and is IPv4's alone where there is no other.
///
/// # Errors
/// What the system says.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip() != Ipv6Addr::UNSPECIFIED {
        return TcpListener::bind(address).await;
    }
    match bound(address, Families::Both).and_then(|socket| TcpListener::from_std(socket.into())) {
        Err(error) if is_of_none(address, &error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        listener => listener,
    }
}

/// Whose connections an address of IPv6 takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// Those of its own family.
    Own,
    /// IPv4's too, where it is every address.
    Both,
}

/// A socket that listens on `address`, whatever the system has as its default for `families` (`net.ipv6.bindv6only`).
///
/// # Errors
/// What the system says.
pub(crate) fn bound(address: SocketAddr, families: Families) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the last run's connections to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(families == Families::Own)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Where a process of the same machine reaches what listens on `address`: every address of IPv6 may be none of this machine's,
/// and its loopback of IPv4 always is.
#[must_use]
pub(crate) fn from_here(address: SocketAddr) -> SocketAddr {
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        return (Ipv4Addr::LOCALHOST, address.port()).into();
    }
    address
}

/// Whether `address` could not be bound, and `error` says why, only because it is every address of IPv6 and there is no IPv6.
#[must_use]
pub(crate) fn is_of_none(address: SocketAddr, error: &io::Error) -> bool {
    address.ip() == Ipv6Addr::UNSPECIFIED && error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Whether `address` is the loopback of IPv6, and could not be bound, and `error` says why, only because there is none.
#[must_use]
pub(crate) fn is_absent_loopback(address: SocketAddr, error: &io::Error) -> bool {
    let absent = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(|errno| Some(errno.raw_os_error()));
    address.ip() == Ipv6Addr::LOCALHOST && absent.contains(&error.raw_os_error())
}

/// Connections that the kernel holds until they are accepted; the system's own limit may be lower.
pub(crate) const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_of_ipv6_may_be_absent_and_not_taken() {
        for (address, errno, is) in [
            ("[::1]:1", Errno::ADDRNOTAVAIL, true),
            ("[::1]:1", Errno::AFNOSUPPORT, true),
            ("[::1]:1", Errno::ADDRINUSE, false),
            ("127.0.0.1:1", Errno::ADDRNOTAVAIL, false),
            ("[::2]:1", Errno::ADDRNOTAVAIL, false),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(is_absent_loopback(address.parse().unwrap(), &error), is, "{address} {error}");
        }
    }

    #[test]
    fn only_every_address_of_ipv6_may_be_done_without() {
        let unknown = io::Error::from_raw_os_error(Errno::AFNOSUPPORT.raw_os_error());
        let taken = io::Error::from_raw_os_error(Errno::ADDRINUSE.raw_os_error());
        for (address, error, is) in [
            ("[::]:1", &unknown, true),
            ("[::]:1", &taken, false),
            ("[::1]:1", &unknown, false),
            ("0.0.0.0:1", &unknown, false),
        ] {
            assert_eq!(is_of_none(address.parse().unwrap(), error), is, "{address} {error}");
        }
    }
}
