//! A TCP connection to one of several addresses: the first that accepts wins (RFC 8305 section 5).
//!
//! It knows no names and no TLS, and its caller bounds the time. Callers: `reach` of this room.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::machine::Lack;

/// A connection, and what was learned on the way.
#[derive(Debug)]
pub(crate) struct Dialed {
    /// The connection.
    pub stream: TcpStream,
    /// Whom it leads to.
    pub address: IpAddr,
    /// Addresses that were tried before and had not accepted by then.
    pub slow: Vec<IpAddr>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum DialError {
    /// This machine lacks what one takes.
    Lacking(Lack),
    /// No address accepts one.
    Connect(io::Error),
}

impl DialError {
    fn of(error: io::Error, address: SocketAddr) -> Self {
        Lack::of_connection(&error, address).map_or(Self::Connect(error), Self::Lacking)
    }

    /// How much it says, of several: where this machine lacks something, what the address would have done is unknown;
    /// and a refusal says that the host is there.
    fn rank(&self) -> u8 {
        match self {
            Self::Lacking(_) => 2,
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => 1,
            Self::Connect(_) => 0,
        }
    }
}

/// Tries `addresses` in their order. The next one is tried as soon as one has failed, or has kept us waiting for
/// `ATTEMPT_DELAY`; those before it go on.
///
/// # Errors
/// [`DialError`]: what this machine lacks, else a refusal, where an address refused.
pub(crate) async fn connect(addresses: impl IntoIterator<Item = SocketAddr>) -> Result<Dialed, DialError> {
    let mut waiting = addresses.into_iter().peekable();
    let mut tried = Vec::new();
    let mut attempts = FuturesUnordered::new();
    let mut failed: Option<DialError> = None;
    loop {
        if let Some(address) = waiting.next() {
            tried.push(address.ip());
            attempts.push(async move { (address, attempt(address).await) });
        }
        let ended = tokio::select! {
            ended = attempts.next() => ended,
            () = sleep(ATTEMPT_DELAY), if waiting.peek().is_some() => continue,
        };
        match ended {
            Some((address, Ok(stream))) => {
                tried.retain(|tried| *tried != address.ip());
                return Ok(Dialed { stream, address: address.ip(), slow: tried });
            }
            Some((address, Err(error))) => {
                let error = DialError::of(error, address);
                if failed.as_ref().is_none_or(|failed| failed.rank() <= error.rank()) {
                    failed = Some(error);
                }
            }
            None => {
                let nowhere = || DialError::Connect(io::ErrorKind::AddrNotAvailable.into());
                return Err(failed.unwrap_or_else(nowhere));
            }
        }
    }
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Neither is needed for the connection to work.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    Ok(stream)
}

/// What RFC 8305 section 5 recommends.
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// TCP keep-alive probes find a peer that vanished while a long response is awaited.
const KEEPALIVE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// A listener whose queue is full: the kernel drops every further SYN.
    fn deaf() -> (SocketAddr, Vec<Socket>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut all = vec![listener];
        for _ in 0..4 {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&address.into());
            all.push(filler);
        }
        (address, all)
    }

    fn refusing() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn an_address_that_drops_packets_costs_a_moment_and_not_the_request() {
        let (deaf, _held) = deaf();
        let well = TcpListener::bind("127.0.0.1:0").unwrap();
        let dialed = connect([deaf, refusing(), well.local_addr().unwrap()]).await.unwrap();
        assert_eq!(dialed.stream.peer_addr().unwrap(), well.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_refusal_is_what_is_reported() {
        let kind = |error| match error {
            DialError::Connect(error) => error.kind(),
            DialError::Lacking(lack) => panic!("{lack}"),
        };
        let error = connect([refusing(), SocketAddr::from(([0, 0, 0, 0], 0))]).await.unwrap_err();
        assert_eq!(kind(error), io::ErrorKind::ConnectionRefused);
        assert_eq!(kind(connect([]).await.unwrap_err()), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn what_this_machine_lacks_outranks_what_an_address_did() {
        let address = refusing();
        let lacking = DialError::of(rustix::io::Errno::MFILE.into(), address);
        let refused = DialError::of(rustix::io::Errno::CONNREFUSED.into(), address);
        let unreachable = DialError::of(rustix::io::Errno::NETUNREACH.into(), address);
        assert!(matches!(lacking, DialError::Lacking(Lack::Descriptors)));
        assert!(lacking.rank() > refused.rank() && refused.rank() > unreachable.rank());
    }
}
