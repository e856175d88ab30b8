//! Each authorization server's share of the slots for token requests: one that hangs holds up its own tokens alone.
//!
//! It counts and queues numbers. The renewer alone uses it.

use std::collections::{HashMap, VecDeque};

use super::queue::Urgency;
use super::source::ServerId;

/// Who has how much of the slots.
#[derive(Debug)]
pub(super) struct FairShare {
    slots: usize,
    servers: HashMap<ServerId, Load>,
}

#[derive(Debug, Default)]
struct Load {
    tokens: usize,
    running: usize,
    /// Tokens that are due while their server has all of its share, by urgency.
    parked: [VecDeque<u64>; 3],
}

/// The most urgent first; the places in [`Load::parked`].
const URGENCIES: [Urgency; 3] = [Urgency::Waiting, Urgency::Planned, Urgency::Retrying];

impl FairShare {
    /// All servers together have `slots`.
    pub(super) fn of(slots: usize) -> Self {
        Self { slots: slots.max(1), servers: HashMap::new() }
    }

    /// One more token of `server`.
    pub(super) fn join(&mut self, server: Option<ServerId>) {
        if let Some(server) = server {
            self.servers.entry(server).or_default().tokens += 1;
        }
    }

    /// One token fewer.
    pub(super) fn leave(&mut self, server: Option<ServerId>) {
        let Some(server) = server else { return };
        if let Some(load) = self.servers.get_mut(&server) {
            load.tokens -= 1;
            if load.tokens == 0 {
                self.servers.remove(&server);
            }
        }
    }

    /// Whether an attempt may start. A server that is the only one has all slots; of several, each has a part, and the
    /// less of it the less urgent the attempt is, so that there is room for those of the others.
    pub(super) fn admits(&self, server: Option<ServerId>, urgency: Urgency) -> bool {
        let Some(load) = server.and_then(|server| self.servers.get(&server)) else { return true };
        let share = match urgency {
            _ if self.servers.len() == 1 => return true,
            Urgency::Waiting => self.slots * 3 / 4,
            Urgency::Planned => self.slots * 3 / 8,
            Urgency::Retrying => self.slots / 4,
        };
        load.running < share.max(1)
    }

    /// An attempt has started.
    pub(super) fn begin(&mut self, server: Option<ServerId>) {
        if let Some(load) = server.and_then(|server| self.servers.get_mut(&server)) {
            load.running += 1;
        }
    }

    /// An attempt has ended.
    pub(super) fn end(&mut self, server: Option<ServerId>) {
        if let Some(load) = server.and_then(|server| self.servers.get_mut(&server)) {
            load.running = load.running.saturating_sub(1);
        }
    }

    /// Keeps `id` until [`FairShare::next`] gives it back.
    pub(super) fn park(&mut self, server: Option<ServerId>, id: u64, urgency: Urgency) {
        if let Some(load) = server.and_then(|server| self.servers.get_mut(&server)) {
            load.parked[urgency as usize].push_back(id);
        }
    }

    /// Takes out the most urgent of those that are parked and may start now.
    pub(super) fn next(&mut self, server: Option<ServerId>) -> Option<(u64, Urgency)> {
        let may_start = URGENCIES.map(|urgency| self.admits(server, urgency));
        let load = self.servers.get_mut(&server?)?;
        let mut places = URGENCIES.iter().zip(may_start).filter(|(_, may_start)| *may_start);
        places.find_map(|(urgency, _)| Some((load.parked[*urgency as usize].pop_front()?, *urgency)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Option<ServerId> = Some(ServerId(1));
    const OTHER: Option<ServerId> = Some(ServerId(2));

    #[test]
    fn a_server_alone_has_all_slots_and_of_two_each_has_a_part() {
        let mut shares = FairShare::of(32);
        shares.join(ONE);
        for _ in 0..32 {
            assert!(shares.admits(ONE, Urgency::Retrying));
            shares.begin(ONE);
        }
        shares.join(OTHER);
        assert!(!shares.admits(ONE, Urgency::Waiting));
        for (urgency, share) in [(Urgency::Retrying, 8), (Urgency::Planned, 12), (Urgency::Waiting, 24)] {
            let mut shares = FairShare::of(32);
            shares.join(ONE);
            shares.join(OTHER);
            let running = (0..).take_while(|_| {
                let admitted = shares.admits(ONE, urgency);
                shares.begin(ONE);
                admitted
            });
            assert_eq!(running.count(), share);
            assert!(shares.admits(OTHER, Urgency::Retrying) && shares.admits(None, Urgency::Retrying));
        }
    }

    #[test]
    fn who_is_parked_comes_back_when_an_attempt_ends_and_who_waits_comes_first() {
        let mut shares = FairShare::of(4);
        shares.join(ONE);
        shares.begin(ONE);
        shares.begin(ONE);
        shares.park(ONE, 7, Urgency::Planned);
        shares.park(ONE, 8, Urgency::Waiting);
        shares.end(ONE);
        assert_eq!(shares.next(ONE), Some((8, Urgency::Waiting)));
        assert_eq!(shares.next(ONE), Some((7, Urgency::Planned)));
        assert_eq!(shares.next(ONE), None);
        shares.leave(ONE);
        assert_eq!(shares.next(ONE), None);
    }
}
