//! Address families: a kernel may have been told to do without IPv6, and then `[::]`, which stands for every address, stands for
//! none.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// Listens on `address`. `[::]` takes IPv4 too, and is IPv4's alone where there is no other.
///
/// # Errors
/// What the system says.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip() != Ipv6Addr::UNSPECIFIED {
        return TcpListener::bind(address).await;
    }
    match of_both(address) {
        Err(error) if is_of_none(address, &error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        listener => listener,
    }
}

/// Whatever the system has as its default (`net.ipv6.bindv6only`).
fn of_both(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Where whoever is on the same machine reaches what listens on `address`: every address of IPv6 may be none of this machine's,
/// and its loopback of IPv4 always is.
#[must_use]
pub fn from_here(address: SocketAddr) -> SocketAddr {
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        return (Ipv4Addr::LOCALHOST, address.port()).into();
    }
    address
}

/// Whether `address` could not be bound, and `error` says why, only because it is every address of IPv6 and there is no IPv6.
#[must_use]
pub fn is_of_none(address: SocketAddr, error: &io::Error) -> bool {
    address.ip() == Ipv6Addr::UNSPECIFIED && error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
