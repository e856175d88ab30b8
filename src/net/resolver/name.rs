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
    /// The lookup that callers wait for.
    lookup: Option<UnderWay>,
    /// Lookups that have begun and not ended: that one, and one that it took the place of.
    running: usize,
    /// Counts lookups.
    begun: u64,
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
    number: u64,
    since: Instant,
    /// The generation of the network that it began in.
    generation: u64,
    done: watch::Sender<()>,
}

/// What has changed for a name that has addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is no longer resolved.
    Lost(LookupError),
    /// It is again.
    Back,
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

impl Known {
    fn new(addresses: Arc<[SocketAddr]>, before: Option<Self>, now: Instant) -> Self {
        let Some(before) = before else {
            return Self { before: Arc::clone(&addresses), addresses, at: now, unconfirmed: false };
        };
        let changed = !is_same(&before.addresses, &addresses);
        // A name whose every response is another is not looked up without a pause.
        let unconfirmed = changed && !before.unconfirmed;
        Self { addresses, at: now, before: before.addresses, unconfirmed }
    }
}

impl Name {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            known: None,
            failed: None,
            missing_since: None,
            lookup: None,
            running: 0,
            begun: 0,
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

    /// What a caller does that wants to connect; and the number of the lookup that begins with it.
    pub(super) fn step(&mut self, now: Instant, generation: u64) -> (Step, Option<u64>) {
        self.used = now;
        let is_fresh = |at: Instant, kept: Duration| now.saturating_duration_since(at) < kept;
        let settled = match (&self.failed, &self.known) {
            (Some((_, at)), _) => is_fresh(*at, FAILURE_KEPT),
            (None, Some(known)) => is_fresh(known.at, RESULT_KEPT),
            (None, None) => false,
        };
        if settled {
            return (self.best(now).map_or_else(Step::Fail, Step::Use), None);
        }
        let (since, done, begins) = self.begin(now, generation);
        let patience = self.may_use_last(now).then(|| since + self.patience(since));
        (Step::Wait { done, patience }, begins)
    }

    /// How long a lookup that began at `since` may take before the last good addresses are tried.
    fn patience(&self, since: Instant) -> Duration {
        match (&self.failed, &self.known) {
            // This one is not likely to be quick, either.
            (Some(_), _) => Duration::ZERO,
            (None, Some(known)) if since.saturating_duration_since(known.at) < RECENT => PATIENCE,
            (None, _) => LONG_PATIENCE,
        }
    }

    /// Joins the lookup under way, or marks that one begins and says its number. One that began before the network changed may
    /// wait for a name server that is not there any more: another one takes its place.
    pub(super) fn begin(&mut self, now: Instant, generation: u64) -> (Instant, Done, Option<u64>) {
        if let Some(lookup) = &self.lookup
            && (lookup.generation == generation || self.running >= MAX_RUNNING)
        {
            return (lookup.since, lookup.done.subscribe(), None);
        }
        self.running += 1;
        self.begun += 1;
        let done = self.lookup.take().map_or_else(|| watch::channel(()).0, |lookup| lookup.done);
        let waiter = done.subscribe();
        self.lookup = Some(UnderWay { number: self.begun, since: now, generation, done });
        (now, waiter, Some(self.begun))
    }

    /// The addresses to try, from the last lookup or from the last good one; or why there are none.
    pub(super) fn best(&mut self, now: Instant) -> Result<Vec<SocketAddr>, LookupError> {
        match self.failed {
            Some((error, _)) if !self.may_use_last(now) => Err(error),
            // Only a caller that waited for a lookup, which was lost, sees none of both.
            _ => self.in_order(now).ok_or(LookupError::Unanswered),
        }
    }

    /// Takes note of the end of the lookup of this number and tells those who wait. Says what is worth a line in the log.
    pub(super) fn found(
        &mut self,
        number: u64,
        found: Result<Vec<SocketAddr>, LookupError>,
        now: Instant,
    ) -> Option<Change> {
        self.running = self.running.saturating_sub(1);
        if self.lookup.as_ref().is_none_or(|lookup| lookup.number != number) {
            // Another one took its place.
            return None;
        }
        // Dropped, it tells those who wait.
        self.lookup = None;
        let before = self.known.take();
        match found {
            Ok(addresses) => {
                let back = before.is_some() && self.failed.is_some();
                self.known = Some(Known::new(addresses.into(), before, now));
                (self.failed, self.missing_since) = (None, None);
                back.then_some(Change::Back)
            }
            Err(error) => {
                let lost = before.is_some() && self.failed.is_none();
                self.known = before;
                if error == LookupError::NoSuchName {
                    self.missing_since.get_or_insert(now);
                }
                self.failed = Some((error, now));
                lost.then_some(Change::Lost(error))
            }
        }
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

/// Lookups of one name at a time, over a change of the network.
const MAX_RUNNING: usize = 2;
/// How long the result of a lookup counts for new connections. `getaddrinfo` does not say its TTL; the caches behind it
/// keep to that.
const RESULT_KEPT: Duration = Duration::from_secs(1);
/// The same for a failure.
const FAILURE_KEPT: Duration = Duration::from_millis(500);
/// How long a lookup may take before addresses are tried that are recent, and likely to be right.
const PATIENCE: Duration = Duration::from_millis(300);
const RECENT: Duration = Duration::from_secs(30);
/// The same for older ones: a name server that is slow is no reason to use them (RFC 8767 section 5 has the same bound).
const LONG_PATIENCE: Duration = Duration::from_millis(1800);
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

    const GENERATION: u64 = 0;

    /// A lookup that ends at once.
    fn look_up(name: &mut Name, found: Result<Vec<SocketAddr>, LookupError>, now: Instant) -> Option<Change> {
        name.begin(now, GENERATION);
        let number = name.lookup.as_ref().unwrap().number;
        name.found(number, found, now)
    }

    #[test]
    fn a_change_of_fortune_is_told_once() {
        let now = clock::now();
        let (good, away) = (|| Ok(addresses(&[1])), LookupError::Unanswered);
        let mut name = Name::new(now);
        assert_eq!(look_up(&mut name, Err(away), now), None, "who asked hears of it");
        assert_eq!(look_up(&mut name, good(), now), None);
        assert_eq!(look_up(&mut name, Err(away), now), Some(Change::Lost(away)));
        assert_eq!(look_up(&mut name, Err(LookupError::NoSuchName), now), None);
        assert_eq!(look_up(&mut name, good(), now), Some(Change::Back));
    }

    /// A name that was found at `now` to have the addresses that end in `last`.
    fn found(last: &[u8], now: Instant) -> Name {
        let mut name = Name::new(now);
        look_up(&mut name, Ok(addresses(last)), now);
        name
    }

    fn used(step: (Step, Option<u64>)) -> Vec<SocketAddr> {
        match step {
            (Step::Use(addresses), None) => addresses,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_good_address_is_used_while_the_name_servers_are_mute() {
        let now = clock::now();
        let mut name = found(&[1], now);
        let (step, begins) = name.step(later(now, 2.0), GENERATION);
        let Step::Wait { patience: Some(patience), .. } = step else { panic!("{step:?}") };
        assert!(begins.is_some() && patience <= later(now, 2.5), "a caller waits for a moment only");
        let (step, begins) = name.step(later(now, 40.0), GENERATION);
        let Step::Wait { patience: Some(patience), .. } = step else { panic!("{step:?}") };
        assert!(begins.is_none() && patience < later(now, 3.0), "and the next ones not at all");
        assert_eq!(name.best(later(now, 40.0)), Ok(addresses(&[1])));
        look_up(&mut name, Err(LookupError::Unanswered), later(now, 41.0));
        assert_eq!(used(name.step(later(now, 41.1), GENERATION)), addresses(&[1]));
        let (step, begins) = name.step(later(now, 42.0), GENERATION);
        let Step::Wait { patience: Some(patience), .. } = step else { panic!("{step:?}") };
        assert!(begins.is_some() && patience == later(now, 42.0), "the next lookup is not waited for");
        look_up(&mut name, Ok(addresses(&[2])), later(now, 42.0));
        assert_eq!(used(name.step(later(now, 42.1), GENERATION)), addresses(&[2]));
    }

    #[test]
    fn a_slow_name_server_is_no_reason_to_use_an_address_of_long_ago() {
        let now = clock::now();
        let later = later(now, 3600.0);
        let (step, _) = found(&[1], now).step(later, GENERATION);
        let Step::Wait { patience: Some(patience), .. } = step else { panic!("{step:?}") };
        assert_eq!(patience - later, LONG_PATIENCE);
    }

    #[test]
    fn a_name_that_never_was_found_has_no_last_address() {
        let now = clock::now();
        let mut name = Name::new(now);
        let (step, begins) = name.step(now, GENERATION);
        assert!(begins.is_some() && matches!(step, Step::Wait { patience: None, .. }), "{step:?}");
        look_up(&mut name, Err(LookupError::NoSuchName), now);
        let (step, begins) = name.step(later(now, 0.1), GENERATION);
        assert!(
            matches!(step, Step::Fail(LookupError::NoSuchName)) && begins.is_none(),
            "failures are kept, too"
        );
        assert!(name.step(later(now, 0.6), GENERATION).1.is_some(), "for less than a second");
    }

    #[test]
    fn a_name_that_is_no_more_is_not_hidden_for_ever() {
        let now = clock::now();
        let mut name = found(&[1], now);
        for seconds in [2.0, 12.0, 22.0, 31.0] {
            look_up(&mut name, Err(LookupError::NoSuchName), later(now, seconds));
            assert_eq!(used(name.step(later(now, seconds), GENERATION)), addresses(&[1]), "{seconds}");
        }
        // Mute meanwhile: what was said before still stands.
        look_up(&mut name, Err(LookupError::Unanswered), later(now, 33.0));
        assert_eq!(name.best(later(now, 33.0)), Err(LookupError::Unanswered));
        look_up(&mut name, Err(LookupError::NoSuchName), later(now, 34.0));
        let step = name.step(later(now, 34.0), GENERATION).0;
        assert!(matches!(step, Step::Fail(LookupError::NoSuchName)), "{step:?}");
        look_up(&mut name, Ok(addresses(&[1])), later(now, 40.0));
        look_up(&mut name, Err(LookupError::NoSuchName), later(now, 50.0));
        assert!(name.best(later(now, 50.0)).is_ok(), "a new end begins anew");
    }

    #[test]
    fn families_take_turns_and_each_call_begins_with_another_address() {
        let now = clock::now();
        let six = |last: u16| SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, last], 0));
        let four = addresses(&[1, 2, 3]);
        let mut name = Name::new(now);
        look_up(&mut name, Ok(vec![six(1), six(2), four[0], four[1], four[2]]), now);
        assert_eq!(used(name.step(now, GENERATION)), [six(1), four[0], six(2), four[1], four[2]]);
        assert_eq!(used(name.step(now, GENERATION)), [six(2), four[1], six(1), four[2], four[0]]);
        name.was_slow(six(1).ip(), now);
        assert_eq!(used(name.step(now, GENERATION)), [four[2], six(2), four[0], four[1], six(1)]);
        let later = later(now, 11.0);
        look_up(&mut name, Ok(vec![six(1), four[0]]), later);
        assert!(used(name.step(later, GENERATION)).starts_with(&[six(1)]), "not for ever");
    }

    #[test]
    fn an_address_is_gone_once_two_lookups_in_a_row_do_not_have_it() {
        let now = clock::now();
        let ips = |last: &[u8]| addresses(last).iter().map(SocketAddr::ip).collect::<Vec<_>>();
        let mut name = found(&[1], now);
        assert!(!name.is_due(later(now, 4.0)) && name.is_due(later(now, 5.0)));
        look_up(&mut name, Ok(addresses(&[2])), later(now, 5.0));
        assert!(name.kept().unwrap().contains(&ips(&[1])[0]), "it may be a part of all");
        assert!(!name.is_due(later(now, 5.5)) && name.is_due(later(now, 6.0)), "soon confirmed");
        look_up(&mut name, Ok(addresses(&[2])), later(now, 6.0));
        assert!(!name.kept().unwrap().contains(&ips(&[1])[0]));
        assert!(!name.is_due(later(now, 10.0)) && name.is_due(later(now, 11.0)));
    }

    #[test]
    fn a_name_whose_every_response_is_another_is_looked_up_at_the_usual_pace() {
        let now = clock::now();
        let mut name = found(&[1], now);
        look_up(&mut name, Ok(addresses(&[2])), later(now, 5.0));
        look_up(&mut name, Ok(addresses(&[3])), later(now, 6.0));
        assert!(!name.is_due(later(now, 7.0)) && name.is_due(later(now, 11.0)));
    }

    #[test]
    fn a_lookup_from_before_the_network_changed_is_not_waited_for() {
        let now = clock::now();
        let mut name = Name::new(now);
        let (Step::Wait { done: first, .. }, Some(old)) = name.step(now, 0) else { panic!() };
        let (Step::Wait { done: second, .. }, Some(new)) = name.step(later(now, 1.0), 1) else { panic!() };
        assert_eq!(name.step(later(now, 2.0), 2).1, None, "there is a bound");
        name.found(old, Err(LookupError::Unanswered), later(now, 3.0));
        let waits = |done: &Done| done.has_changed().is_ok();
        assert!(waits(&first) && waits(&second), "its end tells nothing");
        name.found(new, Ok(addresses(&[1])), later(now, 3.0));
        assert!(!waits(&first) && !waits(&second));
        assert_eq!(used(name.step(later(now, 3.0), 2)), addresses(&[1]));
        assert!(name.step(later(now, 9.0), 2).1.is_some());
    }

    #[test]
    fn a_failed_lookup_takes_no_address_away_from_kept_connections() {
        let now = clock::now();
        let mut name = found(&[1], now);
        look_up(&mut name, Err(LookupError::NoSuchName), later(now, 5.0));
        assert!(name.kept().is_some());
        assert!(!name.is_due(later(now, 9.0)) && name.is_due(later(now, 10.0)));
    }
}
