//! Whose turn it is: a queue of instants, and before it those whose instant has come.
//!
//! It knows numbers and instants, no tokens. The renewer alone uses it. Each number has one place at most; all
//! operations take logarithmic time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::clock::BootInstant;

/// Who goes first among those whose instant has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Someone waits.
    Waiting,
    /// The schedule says so.
    Planned,
    /// The last attempt failed, and the backoff is over.
    Retrying,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    planned: BTreeSet<(BootInstant, u64)>,
    /// By urgency, then by who came first.
    ready: BTreeMap<(Urgency, u64), u64>,
    places: HashMap<u64, Place>,
    arrivals: u64,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Planned(BootInstant, Urgency),
    Ready(Urgency, u64),
}

impl Queue {
    /// Gives `id` a place, instead of the one it may have.
    pub(super) fn plan(&mut self, id: u64, at: BootInstant, urgency: Urgency) {
        self.remove(id);
        self.planned.insert((at, id));
        self.places.insert(id, Place::Planned(at, urgency));
    }

    /// Like [`Queue::plan`], but never makes it later or less urgent than it is.
    pub(super) fn hasten(&mut self, id: u64, at: BootInstant, urgency: Urgency) {
        match self.places.get(&id) {
            Some(Place::Ready(now, _)) if *now <= urgency => {}
            Some(Place::Ready(now, arrival)) => {
                self.ready.remove(&(*now, *arrival));
                self.make_ready(id, urgency);
            }
            Some(Place::Planned(then, now)) => {
                let (at, urgency) = (at.min(*then), urgency.min(*now));
                self.plan(id, at, urgency);
            }
            None => self.plan(id, at, urgency),
        }
    }

    /// Takes `id` out.
    pub(super) fn remove(&mut self, id: u64) {
        match self.places.remove(&id) {
            Some(Place::Planned(at, _)) => drop(self.planned.remove(&(at, id))),
            Some(Place::Ready(urgency, arrival)) => drop(self.ready.remove(&(urgency, arrival))),
            None => {}
        }
    }

    /// The next whose instant has come, if it is at least as urgent as `least`: those that someone waits for first,
    /// then in the order they came in.
    pub(super) fn pop(&mut self, now: BootInstant, least: Urgency) -> Option<(u64, Urgency)> {
        while let Some(&(at, id)) = self.planned.first()
            && at <= now
        {
            self.planned.pop_first();
            let urgency = match self.places.get(&id) {
                Some(Place::Planned(_, urgency) | Place::Ready(urgency, _)) => *urgency,
                None => Urgency::Planned,
            };
            self.make_ready(id, urgency);
        }
        let first = self.ready.first_entry().filter(|first| first.key().0 <= least)?;
        let urgency = first.key().0;
        let id = first.remove();
        self.places.remove(&id);
        Some((id, urgency))
    }

    fn make_ready(&mut self, id: u64, urgency: Urgency) {
        self.ready.insert((urgency, self.arrivals), id);
        self.places.insert(id, Place::Ready(urgency, self.arrivals));
        self.arrivals += 1;
    }

    /// When the next instant comes of those that are still to come.
    pub(super) fn next(&self) -> Option<BootInstant> {
        self.planned.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn those_that_someone_waits_for_overtake_and_the_rest_keep_their_order() {
        let now = BootInstant::now();
        let mut queue = Queue::default();
        for id in 0..5 {
            queue.plan(id, now, Urgency::Planned);
        }
        assert_eq!(queue.pop(now, Urgency::Retrying).map(|(id, _)| id), Some(0));
        queue.hasten(3, now, Urgency::Waiting);
        queue.hasten(4, now, Urgency::Waiting);
        queue.hasten(3, now, Urgency::Planned);
        let order: Vec<u64> =
            std::iter::from_fn(|| queue.pop(now, Urgency::Retrying).map(|(id, _)| id)).collect();
        assert_eq!(order, [3, 4, 1, 2]);
    }

    #[test]
    fn a_place_is_taken_once_and_given_up_once() {
        let now = BootInstant::now();
        let later = now + Duration::from_secs(1);
        let mut queue = Queue::default();
        queue.plan(1, now, Urgency::Planned);
        queue.plan(1, later, Urgency::Planned);
        assert_eq!(queue.pop(now, Urgency::Retrying).map(|(id, _)| id), None);
        assert_eq!(queue.next(), Some(later));
        queue.hasten(1, now, Urgency::Waiting);
        queue.hasten(1, later, Urgency::Planned);
        assert_eq!(queue.pop(now, Urgency::Retrying).map(|(id, _)| id), Some(1));
        assert_eq!(queue.pop(later, Urgency::Retrying).map(|(id, _)| id), None);
        queue.plan(2, now, Urgency::Planned);
        queue.remove(2);
        queue.remove(2);
        assert_eq!((queue.pop(later, Urgency::Retrying).map(|(id, _)| id), queue.next()), (None, None));
    }

    #[test]
    fn what_is_not_urgent_enough_stays() {
        let now = BootInstant::now();
        let mut queue = Queue::default();
        queue.plan(1, now, Urgency::Retrying);
        queue.plan(2, now, Urgency::Planned);
        assert_eq!(queue.pop(now, Urgency::Waiting).map(|(id, _)| id), None);
        assert_eq!(queue.pop(now, Urgency::Planned).map(|(id, _)| id), Some(2));
        assert_eq!(queue.pop(now, Urgency::Planned).map(|(id, _)| id), None);
        queue.hasten(1, now, Urgency::Waiting);
        assert_eq!(queue.pop(now, Urgency::Waiting).map(|(id, _)| id), Some(1));
    }
}
