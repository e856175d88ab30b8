//! Whether this machine's network has changed: a cable, a Wi-Fi, a VPN, a sleep.
//!
//! On Linux the kernel tells of links, addresses and routes (rtnetlink); nothing is read of what it tells but that it does.
//! Where it may not be asked (another system, a sandbox), the address that packets would leave from is looked at every few
//! seconds, which sends none. A change is reported once it has settled, and not more often than every few seconds: a
//! network that flaps costs little.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::clock;

/// What watches the network.
#[derive(Debug)]
pub(crate) struct NetworkMonitor {
    source: Source,
    /// A change that has been heard and has not settled.
    heard: Option<Heard>,
    /// No change is reported before this.
    rests_until: Instant,
    /// When to look once more after the last change, the soonest last.
    echoes: Vec<Instant>,
}

/// What there is to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The network is another one than before.
    Network,
    /// It changed a while ago, and what it needs (addresses of name servers, a tunnel) may be there by now.
    Echo,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    /// An address comes before its route: it is over once nothing has been heard until then ...
    settles: Instant,
    /// ... or then, where it never settles.
    latest: Instant,
}

#[derive(Debug)]
enum Source {
    #[cfg(target_os = "linux")]
    Kernel(kernel::NetlinkSocket),
    Address {
        known: [Option<IpAddr>; 2],
        next_look: Instant,
    },
}

impl NetworkMonitor {
    /// Begins to listen.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::with(Source::new())
    }

    fn with(source: Source) -> Self {
        Self { source, heard: None, rests_until: clock::now(), echoes: Vec::new() }
    }

    /// Waits for the next change, or the next echo of one. It may be dropped at any await, and nothing is lost.
    pub(crate) async fn changed(&mut self) -> Change {
        loop {
            let settled = self.heard.map(|heard| heard.settles.max(self.rests_until));
            let echo = self.echoes.last().copied();
            tokio::select! {
                biased;
                () = at(settled) => {
                    let now = clock::now();
                    self.heard = None;
                    self.rests_until = now + BETWEEN_CHANGES;
                    self.echoes = ECHOES.map(|after| now + after).to_vec();
                    return Change::Network;
                }
                () = at(echo) => {
                    self.echoes.pop();
                    return Change::Echo;
                }
                () = self.source.heard() => {
                    let now = clock::now();
                    let latest = self.heard.map_or(now + LONGEST_SETTLING, |heard| heard.latest);
                    self.heard = Some(Heard { settles: (now + SETTLING).min(latest), latest });
                }
            }
        }
    }
}

/// Never, where there is no such instant.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

impl Default for NetworkMonitor {
    fn default() -> Self {
        Self::new()
    }
}

impl Source {
    fn new() -> Self {
        #[cfg(target_os = "linux")]
        match kernel::NetlinkSocket::open() {
            Ok(socket) => return Self::Kernel(socket),
            Err(error) => tracing::debug!(kind = ?error.kind(), "the kernel does not tell of the network"),
        }
        Self::by_address()
    }

    fn by_address() -> Self {
        Self::Address { known: leaving(), next_look: clock::now() + BETWEEN_LOOKS }
    }

    async fn heard(&mut self) {
        loop {
            match self {
                #[cfg(target_os = "linux")]
                Self::Kernel(socket) => match socket.heard().await {
                    Ok(()) => return,
                    Err(_) => *self = Self::by_address(),
                },
                Self::Address { known, next_look } => {
                    sleep_until(*next_look).await;
                    *next_look = clock::now() + BETWEEN_LOOKS;
                    let now = leaving();
                    if now != *known {
                        *known = now;
                        return;
                    }
                }
            }
        }
    }
}

/// The addresses that packets to the rest of the world would leave from: none is sent.
fn leaving() -> [Option<IpAddr>; 2] {
    [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), SocketAddr::from((SOMEWHERE, 9))),
        (IpAddr::from(Ipv6Addr::UNSPECIFIED), SocketAddr::from((SOMEWHERE_6, 9))),
    ]
    .map(|(from, to)| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    })
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::os::unix::net::UnixDatagram as StdDatagram;

    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    use tokio::net::UnixDatagram;

    use super::io;

    /// A socket that the kernel writes to (rtnetlink(7)). It is of another family than its type says: all that is done with
    /// it is to receive, which is the same for both, and the runtime knows how to wait for this one.
    #[derive(Debug)]
    pub(super) struct NetlinkSocket(UnixDatagram);

    impl NetlinkSocket {
        pub(super) fn open() -> io::Result<Self> {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(Self(UnixDatagram::from_std(StdDatagram::from(socket))?))
        }

        pub(super) async fn heard(&mut self) -> io::Result<()> {
            let mut scrap = [0; 4096];
            match self.0.recv(&mut scrap).await {
                Ok(_) => Ok(()),
                // It told more than there was room for.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
    }

    /// `RTMGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR` and `_IPV6_ROUTE`.
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
}

/// Says that connections of before may lead nowhere: after a sleep, and after a change of the network.
pub(crate) fn moved() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Counts what [`moved`] said: a kept connection of another generation is not used again.
#[must_use]
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// What is looked at once more after a change, the soonest last: three times, so that a network without a way out makes
/// little.
const ECHOES: [Duration; 3] = [Duration::from_secs(15), Duration::from_secs(5), Duration::from_secs(2)];
/// A network is there when nothing has changed for this long ...
const SETTLING: Duration = Duration::from_millis(300);
/// ... or it is one that never settles.
const LONGEST_SETTLING: Duration = Duration::from_secs(2);
/// Changes that follow each other faster are one.
const BETWEEN_CHANGES: Duration = Duration::from_secs(3);
/// Where the kernel does not tell.
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);
/// Addresses for documentation (RFC 5737, RFC 3849): as good as any to ask where packets would leave from.
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOMEWHERE_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A network whose next look finds another address than the one known.
    fn another() -> NetworkMonitor {
        let known = [Some(IpAddr::from([10, 0, 0, 1])); 2];
        NetworkMonitor::with(Source::Address { known, next_look: clock::now() + BETWEEN_LOOKS })
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_reported_once_and_echoes_a_few_times() {
        let mut monitor = another();
        assert_eq!(monitor.changed().await, Change::Network);
        let start = clock::now();
        for after in [2, 5, 15] {
            assert_eq!(monitor.changed().await, Change::Echo);
            assert_eq!(start.elapsed().as_secs(), after);
        }
        assert!(timeout(Duration::from_mins(5), monitor.changed()).await.is_err(), "and then no more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_pieces_loses_nothing() {
        let mut monitor = another();
        let start = clock::now();
        loop {
            // As the program does, which looks at other things each second.
            if let Ok(change) = timeout(Duration::from_millis(50), monitor.changed()).await {
                assert_eq!(change, Change::Network);
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(10));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_flaps_is_reported_every_few_seconds_and_no_more() {
        let mut monitor = another();
        let start = clock::now();
        let mut reports = 0;
        while start.elapsed() < Duration::from_mins(1) {
            monitor.source = another().source;
            reports += u32::from(monitor.changed().await == Change::Network);
        }
        assert!((2..=21).contains(&reports), "{reports} reports in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_reported_where_nothing_changes() {
        let mut monitor = NetworkMonitor::with(Source::by_address());
        assert!(timeout(Duration::from_mins(5), monitor.changed()).await.is_err());
    }

    #[test]
    fn an_era_ends_with_each_move() {
        let before = generation();
        moved();
        assert_ne!(generation(), before);
    }
}
