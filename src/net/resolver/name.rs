//! What is known of one name, and what follows from it: pure but for the channel that tells of a lookup's end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Done, LookupError};

/// What is known of one name.
#[derive(Debug)]
pub(super) struct Name {
    known: Option<Known>,
    /// How the last lookup failed, and when; `None`: it did not.
    failed: Option<(LookupError, Instant)>,
    /// Since when every lookup that got a response says that there is no such name.
    missing_since: Option<Instant>,
    /// The lookup under way.
    lookup: Option<UnderWay>,
    /// Addresses that had to be overtaken, and when.
    slow: Vec<(IpAddr, Instant)>,
    /// Counts calls: each begins with another address.
    turn: usize,
    used: Instant,
}

/// The last addresses that a lookup found.
#[derive(Debug)]
struct Known {
    addresses: Arc<[SocketAddr]>,
    at: Instant,
    /// Those that the lookup before found: an address is gone once two in a row do not have it. Some name servers give a
    /// part of all addresses in each response.
    before: Arc<[SocketAddr]>,
    /// Whether a change was found that another lookup is to confirm soon.
    unconfirmed: bool,
}

#[derive(Debug)]
struct UnderWay {
    since: Instant,
    done: watch::Sender<()>,
}

/// What a caller does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Connect to these.
    Use(Vec<SocketAddr>),
    /// Give up.
    Fail(LookupError),
    /// Wait for the lookup under way, at most until `patience`: from then on the last good addresses will do.
    Wait { done: Done, patience: Option<Instant> },
}

impl Name {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            known: None,
            failed: None,
            missing_since: None,
            lookup: None,
            slow: Vec::new(),
            turn: 0,
            used: now,
        }
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.lookup.is_some()
    }

    pub(super) const fn used(&self) -> Instant {
        self.used
    }

    /// What a caller does that wants to connect; and whether a lookup begins with it.
    pub(super) fn step(&mut self, now: Instant) -> (Step, bool) {
        self.used = now;
        let is_fresh = |at: Instant, kept: Duration| now.saturating_duration_since(at) < kept;
        let settled = match (&self.failed, &self.known) {
            (Some((_, at)), _) => is_fresh(*at, FAILURE_KEPT),
            (None, Some(known)) => is_fresh(known.at, RESULT_KEPT),
            (None, None) => false,
        };
        if settled {
            return (self.best(now).map_or_else(Step::Fail, Step::Use), false);
        }
        let begins = self.lookup.is_none();
        let (since, done) = self.begin(now);
        // Where the last lookup failed, this one is not likely to be quick.
        let patience = if self.failed.is_some() { Duration::ZERO } else { PATIENCE };
        let patience = self.may_use_last(now).then(|| since + patience);
        (Step::Wait { done, patience }, begins)
    }

    /// Marks that a lookup is under way.
    pub(super) fn begin(&mut self, now: Instant) -> (Instant, Done) {
        let lookup = self.lookup.get_or_insert_with(|| UnderWay { since: now, done: watch::channel(()).0 });
        (lookup.since, lookup.done.subscribe())
    }

    /// The addresses to try, from the last lookup or from the last good one; or why there are none.
    pub(super) fn best(&mut self, now: Instant) -> Result<Vec<SocketAddr>, LookupError> {
        match self.failed {
            Some((error, _)) if !self.may_use_last(now) => Err(error),
            // Only a caller that waited for a lookup, which was lost, sees none of both.
            _ => self.in_order(now).ok_or(LookupError::Unanswered),
        }
    }

    /// Takes note of a lookup's end and tells those who wait.
    pub(super) fn found(&mut self, found: Result<Vec<SocketAddr>, LookupError>, now: Instant) {
        match found {
            Ok(addresses) => {
                let addresses: Arc<[SocketAddr]> = addresses.into();
                let before = self.known.take();
                let changed = before.as_ref().is_some_and(|before| !is_same(&before.addresses, &addresses));
                let was_unconfirmed = before.as_ref().is_some_and(|before| before.unconfirmed);
                self.known = Some(Known {
                    before: before.map_or_else(|| Arc::clone(&addresses), |before| before.addresses),
                    addresses,
                    at: now,
                    // A name whose every response is another is not looked up without a pause.
                    unconfirmed: changed && !was_unconfirmed,
                });
                (self.failed, self.missing_since) = (None, None);
            }
            Err(error) => {
                if error == LookupError::NoSuchName {
                    self.missing_since.get_or_insert(now);
                }
                self.failed = Some((error, now));
            }
        }
        // Dropped, it tells those who wait.
        self.lookup = None;
    }

    /// Whether a lookup is due for the sake of connections that are kept.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let known = self.known.as_ref();
        let last = known.map(|known| known.at).max(self.failed.map(|(_, at)| at));
        let interval = if known.is_some_and(|known| known.unconfirmed) { CONFIRM_AFTER } else { LOOK_EVERY };
        self.lookup.is_none() && last.is_some_and(|last| now.saturating_duration_since(last) >= interval)
    }

    /// Addresses to which connections may be kept.
    pub(super) fn kept(&self) -> Option<Arc<[IpAddr]>> {
        let known = self.known.as_ref()?;
        Some(known.addresses.iter().chain(&*known.before).map(SocketAddr::ip).collect())
    }

    pub(super) fn was_slow(&mut self, address: IpAddr, now: Instant) {
        self.slow.retain(|(slow, at)| *slow != address && now.saturating_duration_since(*at) < SLOW_KEPT);
        if self.slow.len() < MAX_SLOW {
            self.slow.push((address, now));
        }
    }

    /// Whether the last good addresses are better than none.
    fn may_use_last(&self, now: Instant) -> bool {
        let Some(known) = &self.known else { return false };
        match self.missing_since {
            Some(since) => now.saturating_duration_since(since) < MISSING_HIDDEN,
            None => now.saturating_duration_since(known.at) < LAST_GOOD_KEPT,
        }
    }

    /// The order of RFC 8305 section 4, with the address that begins taking turns.
    fn in_order(&mut self, now: Instant) -> Option<Vec<SocketAddr>> {
        let known = self.known.as_ref()?;
        let preferred = known.addresses.first()?.is_ipv6();
        let (mut first, mut second): (Vec<SocketAddr>, Vec<SocketAddr>) =
            known.addresses.iter().copied().partition(|address| address.is_ipv6() == preferred);
        for family in [&mut first, &mut second] {
            let places = family.len().max(1);
            family.rotate_left(self.turn % places);
        }
        self.turn = self.turn.wrapping_add(1);
        let mut order = Vec::with_capacity(known.addresses.len());
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        loop {
            match (first.next(), second.next()) {
                (None, None) => break,
                (one, other) => order.extend(one.into_iter().chain(other)),
            }
        }
        let is_slow = |address: &SocketAddr| {
            let recent = |at: &Instant| now.saturating_duration_since(*at) < SLOW_KEPT;
            self.slow.iter().any(|(slow, at)| *slow == address.ip() && recent(at))
        };
        order.sort_by_key(is_slow);
        Some(order)
    }
}

fn is_same(before: &[SocketAddr], now: &[SocketAddr]) -> bool {
    before.len() == now.len() && before.iter().all(|address| now.contains(address))
}

/// How long the result of a lookup counts for new connections. `getaddrinfo` does not say its TTL; the caches behind it
/// keep to that.
const RESULT_KEPT: Duration = Duration::from_secs(1);
/// The same for a failure.
const FAILURE_KEPT: Duration = Duration::from_millis(500);
/// How long a lookup may take before the last good addresses are tried.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long the last good addresses are used while no name server responds: the least that RFC 8767 section 5 recommends.
const LAST_GOOD_KEPT: Duration = Duration::from_hours(24);
/// How long the last good addresses are used while the name servers say that there is no such name: that is a name server
/// that was just started, or a service that is being replaced, or an end. HAProxy's `hold nx` is the same.
const MISSING_HIDDEN: Duration = Duration::from_secs(30);
/// How often a name is looked up while connections to it are kept: Envoy's `dns_refresh_rate`.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How soon a change is confirmed.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);
/// How long an address that was slow comes last.
const SLOW_KEPT: Duration = Duration::from_secs(10);
const MAX_SLOW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn addresses(last: &[u8]) -> Vec<SocketAddr> {
        last.iter().map(|last| SocketAddr::from(([10, 0, 0, *last], 0))).collect()
    }

    fn later(from: Instant, seconds: f32) -> Instant {
        from + Duration::from_secs_f32(seconds)
    }

    /// A name that was found at `now` to have the addresses that end in `last`.
    fn found(last: &[u8], now: Instant) -> Name {
        let mut name = Name::new(now);
        name.begin(now);
        name.found(Ok(addresses(last)), now);
        name
    }

    fn used(step: (Step, bool)) -> Vec<SocketAddr> {
        match step {
            (Step::Use(addresses), false) => addresses,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_good_address_is_used_while_the_name_servers_are_mute() {
        let now = clock::now();
        let mut name = found(&[1], now);
        let (step, begins) = name.step(later(now, 2.0));
        let Step::Wait { patience: Some(patience), .. } = step else { panic!("{step:?}") };
        assert!(begins && patience <= later(now, 2.5), "a caller waits for a moment only");
        let (step, begins) = name.step(later(now, 40.0));
        let Step::Wait { patience: Some(patience), .. } = step else { panic!("{step:?}") };
        assert!(!begins && patience < later(now, 3.0), "and the next ones not at all");
        assert_eq!(name.best(later(now, 40.0)), Ok(addresses(&[1])));
        name.found(Err(LookupError::Unanswered), later(now, 41.0));
        assert_eq!(used(name.step(later(now, 41.1))), addresses(&[1]));
        let (step, begins) = name.step(later(now, 42.0));
        let Step::Wait { patience: Some(patience), .. } = step else { panic!("{step:?}") };
        assert!(begins && patience == later(now, 42.0), "the next lookup is not waited for");
        name.found(Ok(addresses(&[2])), later(now, 42.0));
        assert_eq!(used(name.step(later(now, 42.1))), addresses(&[2]));
    }

    #[test]
    fn a_name_that_never_was_found_has_no_last_address() {
        let now = clock::now();
        let mut name = Name::new(now);
        let (step, begins) = name.step(now);
        assert!(begins && matches!(step, Step::Wait { patience: None, .. }), "{step:?}");
        name.found(Err(LookupError::NoSuchName), now);
        let (step, begins) = name.step(later(now, 0.1));
        assert!(matches!(step, Step::Fail(LookupError::NoSuchName)) && !begins, "failures are kept, too");
        assert!(name.step(later(now, 0.6)).1, "for less than a second");
    }

    #[test]
    fn a_name_that_is_no_more_is_not_hidden_for_ever() {
        let now = clock::now();
        let mut name = found(&[1], now);
        for seconds in [2.0, 12.0, 22.0, 31.0] {
            name.found(Err(LookupError::NoSuchName), later(now, seconds));
            assert_eq!(used(name.step(later(now, seconds))), addresses(&[1]), "{seconds}");
        }
        // Mute meanwhile: what was said before still stands.
        name.found(Err(LookupError::Unanswered), later(now, 33.0));
        assert_eq!(name.best(later(now, 33.0)), Err(LookupError::Unanswered));
        name.found(Err(LookupError::NoSuchName), later(now, 34.0));
        let step = name.step(later(now, 34.0)).0;
        assert!(matches!(step, Step::Fail(LookupError::NoSuchName)), "{step:?}");
        name.found(Ok(addresses(&[1])), later(now, 40.0));
        name.found(Err(LookupError::NoSuchName), later(now, 50.0));
        assert!(name.best(later(now, 50.0)).is_ok(), "a new end begins anew");
    }

    #[test]
    fn families_take_turns_and_each_call_begins_with_another_address() {
        let now = clock::now();
        let six = |last: u16| SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, last], 0));
        let four = addresses(&[1, 2, 3]);
        let mut name = Name::new(now);
        name.found(Ok(vec![six(1), six(2), four[0], four[1], four[2]]), now);
        assert_eq!(used(name.step(now)), [six(1), four[0], six(2), four[1], four[2]]);
        assert_eq!(used(name.step(now)), [six(2), four[1], six(1), four[2], four[0]]);
        name.was_slow(six(1).ip(), now);
        assert_eq!(used(name.step(now)), [four[2], six(2), four[0], four[1], six(1)]);
        let later = later(now, 11.0);
        name.found(Ok(vec![six(1), four[0]]), later);
        assert!(used(name.step(later)).starts_with(&[six(1)]), "not for ever");
    }

    #[test]
    fn an_address_is_gone_once_two_lookups_in_a_row_do_not_have_it() {
        let now = clock::now();
        let ips = |last: &[u8]| addresses(last).iter().map(SocketAddr::ip).collect::<Vec<_>>();
        let mut name = found(&[1], now);
        assert!(!name.is_due(later(now, 4.0)) && name.is_due(later(now, 5.0)));
        name.found(Ok(addresses(&[2])), later(now, 5.0));
        assert!(name.kept().unwrap().contains(&ips(&[1])[0]), "it may be a part of all");
        assert!(!name.is_due(later(now, 5.5)) && name.is_due(later(now, 6.0)), "soon confirmed");
        name.found(Ok(addresses(&[2])), later(now, 6.0));
        assert!(!name.kept().unwrap().contains(&ips(&[1])[0]));
        assert!(!name.is_due(later(now, 10.0)) && name.is_due(later(now, 11.0)));
    }

    #[test]
    fn a_name_whose_every_response_is_another_is_looked_up_at_the_usual_pace() {
        let now = clock::now();
        let mut name = found(&[1], now);
        name.found(Ok(addresses(&[2])), later(now, 5.0));
        name.found(Ok(addresses(&[3])), later(now, 6.0));
        assert!(!name.is_due(later(now, 7.0)) && name.is_due(later(now, 11.0)));
    }

    #[test]
    fn a_failed_lookup_takes_no_address_away_from_kept_connections() {
        let now = clock::now();
        let mut name = found(&[1], now);
        name.found(Err(LookupError::NoSuchName), later(now, 5.0));
        assert!(name.kept().is_some());
        assert!(!name.is_due(later(now, 9.0)) && name.is_due(later(now, 10.0)));
    }
}
