//! Whether this machine's network has changed: a cable, a Wi-Fi, a VPN, a sleep.
//!
//! On Linux the kernel tells of links, addresses and routes (rtnetlink); nothing is read of what it tells but that it does.
//! Where it may not be asked (another system, a sandbox), the address that packets would leave from is looked at every few
//! seconds, which sends none. A change is reported once it has settled, and not more often than every few seconds: a
//! network that flaps makes nobody busy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock;

/// The ear to the network.
#[derive(Debug)]
pub struct Presence {
    source: Source,
    /// Not reported again before this.
    rests_until: Instant,
}

#[derive(Debug)]
enum Source {
    #[cfg(target_os = "linux")]
    Kernel(kernel::Ear),
    Address([Option<IpAddr>; 2]),
}

impl Presence {
    /// Begins to listen.
    #[must_use]
    pub fn new() -> Self {
        Self { source: Source::new(), rests_until: clock::now() }
    }

    /// Waits for the next change. It may be dropped at any await; what it had heard by then is heard again or lost, and the
    /// next change is not far.
    pub async fn changed(&mut self) {
        self.source.heard().await;
        sleep_until(self.rests_until).await;
        // An address comes before its route: it is over once nothing has been heard for a while.
        let latest = clock::now() + LONGEST_SETTLING;
        while clock::now() < latest && timeout(SETTLING, self.source.heard()).await.is_ok() {}
        self.rests_until = clock::now() + BETWEEN_CHANGES;
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self::new()
    }
}

impl Source {
    fn new() -> Self {
        #[cfg(target_os = "linux")]
        match kernel::Ear::open() {
            Ok(ear) => return Self::Kernel(ear),
            Err(error) => tracing::debug!(kind = ?error.kind(), "the kernel does not tell of the network"),
        }
        Self::Address(leaving())
    }

    async fn heard(&mut self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Kernel(ear) => {
                if ear.heard().await.is_err() {
                    *self = Self::Address(leaving());
                }
            }
            Self::Address(known) => loop {
                sleep(BETWEEN_LOOKS).await;
                let now = leaving();
                if now != *known {
                    *known = now;
                    return;
                }
            },
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
    pub(super) struct Ear(UnixDatagram);

    impl Ear {
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
pub fn moved() {
    ERA.fetch_add(1, Ordering::Relaxed);
}

/// Counts what [`moved`] said: a kept connection of another era is not used again.
#[must_use]
pub fn era() -> u64 {
    ERA.load(Ordering::Relaxed)
}

static ERA: AtomicU64 = AtomicU64::new(0);

/// A network is there when nothing has changed for this long ...
const SETTLING: Duration = Duration::from_millis(300);
/// ... or it is one that never settles.
const LONGEST_SETTLING: Duration = Duration::from_secs(2);
/// Changes that follow each other faster are one.
const BETWEEN_CHANGES: Duration = Duration::from_secs(3);
/// Where nobody tells.
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);
/// Addresses for documentation (RFC 5737, RFC 3849): as good as any to ask where packets would leave from.
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOMEWHERE_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_network_that_flaps_is_reported_every_few_seconds_and_no_more() {
        let mut presence = Presence {
            source: Source::Address([Some(IpAddr::from([10, 0, 0, 1])); 2]),
            rests_until: clock::now(),
        };
        let start = clock::now();
        let mut reports = 0;
        while start.elapsed() < Duration::from_mins(1) {
            // Each look finds another address than the one known.
            presence.source = Source::Address([Some(IpAddr::from([10, 0, 0, 1])); 2]);
            presence.changed().await;
            reports += 1;
        }
        assert!((2..=21).contains(&reports), "{reports} reports in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_reported_where_nothing_changes() {
        let mut presence = Presence { source: Source::Address(leaving()), rests_until: clock::now() };
        assert!(timeout(Duration::from_mins(5), presence.changed()).await.is_err());
    }

    #[test]
    fn an_era_ends_with_each_move() {
        let before = era();
        moved();
        assert_ne!(era(), before);
    }
}
