//! Until when a connection to an upstream is used again: its greatest age, and the addresses that the upstream's name has.
//!
//! `connect` writes it down for each connection, and `pool` reads it whenever a connection comes back.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::proxy::observe::upstream_metrics::Closed;

/// Whom a connection leads to, and how long it may be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionInfo {
    /// The address behind the name that was looked up; `None`: there is none, as of a Unix socket.
    address: Option<IpAddr>,
    ends: Instant,
}

impl ConnectionInfo {
    /// A connection that was opened just now. A tenth of `max_age` is drawn by lot, so that connections that were opened
    /// together do not end together.
    pub(crate) fn new(address: Option<IpAddr>, max_age: Duration) -> Self {
        Self { address, ends: clock::now() + max_age.mul_f64(0.9 + 0.1 * fastrand::f64()) }
    }

    /// Why no other request may use it, where `current` are the addresses that its upstream has (`None`: unknown); `None`: one
    /// may.
    pub(crate) fn end(&self, now: Instant, current: Option<&[IpAddr]>) -> Option<Closed> {
        match (self.address, current) {
            (Some(address), Some(current)) if !current.contains(&address) => Some(Closed::Address),
            _ if now >= self.ends => Some(Closed::Age),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_kept_until_its_greatest_age_or_until_its_address_is_gone() {
        let (now, minute) = (clock::now(), Duration::from_mins(1));
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let info = ConnectionInfo::new(Some(one), minute);
        assert_eq!(info.end(now + minute / 2, None), None);
        assert_eq!(info.end(now, Some(&[other, one])), None);
        assert_eq!(info.end(now, Some(&[other])), Some(Closed::Address));
        assert_eq!(info.end(now + minute * 2, None), Some(Closed::Age));
        assert_eq!(ConnectionInfo::new(None, minute).end(now, Some(&[other])), None);
    }
}
