//! Until when a connection to an upstream is used again: its greatest age, and the addresses that the upstream's name has.
//!
//! `connect` writes it down for each connection, and `pool` reads it whenever a connection comes back.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

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
    pub(super) fn new(address: Option<IpAddr>, max_age: Duration) -> Self {
        Self { address, ends: clock::now() + max_age.mul_f64(0.9 + 0.1 * fastrand::f64()) }
    }

    /// Whether another request may use it, where `current` are the addresses that its upstream has; `None`: unknown.
    pub(super) fn may_be_kept(&self, now: Instant, current: Option<&[IpAddr]>) -> bool {
        let is_current = match (self.address, current) {
            (Some(address), Some(current)) => current.contains(&address),
            _ => true,
        };
        is_current && now < self.ends
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
        assert!(info.may_be_kept(now + minute / 2, None));
        assert!(info.may_be_kept(now, Some(&[other, one])));
        assert!(!info.may_be_kept(now, Some(&[other])));
        assert!(!info.may_be_kept(now + minute * 2, None));
        assert!(ConnectionInfo::new(None, minute).may_be_kept(now, Some(&[other])));
    }
}
