//! How many sockets and files this process may have open, and who gets how many of them.
//!
//! Requests and those who connect must not take the descriptors that the program itself needs: to read secrets, to reach
//! authorization servers, to look names up, to answer probes. So each has a share, and the program's own comes first.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How a limit of open descriptors is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Connections of applications.
    pub downstream: usize,
    /// Connections to upstreams. They are kept and shared, so they may be fewer; but a request has to get one.
    pub upstream: usize,
}

impl Shares {
    /// The shares of `limit` (`None`: there is none) in a program with so many workers, each with so many listeners.
    #[must_use]
    pub(crate) fn of(limit: Option<u64>, workers: usize, listeners: usize) -> Self {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let fixed = STANDARD + workers.saturating_mul(PER_WORKER + listeners) + 2 * SURFACE_CONNECTIONS;
        let own = (limit / 8).clamp(LEAST_OWN, MOST_OWN);
        let left = limit.saturating_sub(fixed.saturating_add(own));
        let downstream = (left / 5).saturating_mul(3).max(LEAST);
        Self { downstream, upstream: left.saturating_sub(downstream).max(LEAST) }
    }
}

/// Raises the soft limit of open descriptors to the hard one, and returns it; `None`: there is none. Many systems start
/// programs with a soft limit of 1024, for the sake of programs that use select(2); this one does not.
#[must_use]
pub(crate) fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Refused only where the hard limit was lowered in between; then the soft one is what there is.
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

/// Connections at a time of the health surface, and as many of the control surface.
pub(crate) const SURFACE_CONNECTIONS: usize = 64;
/// Standard streams, the program's own runtime, signals, the listeners of the surfaces, what watches the network.
const STANDARD: usize = 32;
/// What a worker's runtime has.
const PER_WORKER: usize = 4;
/// What the program itself needs beside those, an eighth of the limit within these bounds: token requests (32 at a time) and
/// the connections that are kept for them, secrets, certificates, the store, lookups of names, helper programs, logins, spans.
const LEAST_OWN: usize = 32;
const MOST_OWN: usize = 512;
/// Each share has so many, even where the limit is too low for all.
const LEAST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!((current, raised), (maximum, maximum));
    }

    #[test]
    fn the_program_s_own_share_comes_first() {
        for (limit, downstream, upstream) in
            [(256, 30, 22), (300, 54, 37), (1024, 432, 292), (20_000, 11_589, 7_727)]
        {
            let shares = Shares::of(Some(limit), 2, 2);
            assert_eq!((shares.downstream, shares.upstream), (downstream, upstream), "{limit}");
            let taken = shares.downstream + shares.upstream + 2 * SURFACE_CONNECTIONS;
            assert!(taken + LEAST_OWN <= usize::try_from(limit).unwrap(), "{limit}");
        }
        assert_eq!(Shares::of(Some(16), 2, 2), Shares { downstream: LEAST, upstream: LEAST });
        let endless = Shares::of(None, 2, 2);
        assert!(endless.downstream > 1 << 40 && endless.upstream > 1 << 40);
    }
}
