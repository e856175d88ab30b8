//! How much a route lets through: so many requests in a time, and so many at a time, over all workers.
//!
//! A request that comes too soon waits in a queue, first come first served, as long as the queue has room and for as long as
//! `queue_timeout` says; everybody else is told at once when to come back. A route without limits has none of this.
//! It is not for what the upstream says of its own limits: its 429 goes to the application as it is.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use crate::clock;
use crate::proxy::downstream::context::Downstream;
use crate::proxy::downstream::exchange::Exchange;
use crate::proxy::error::{ApplicationFault, LimitFault, ProxyError};
use crate::proxy::observe::timing::WaitsFor;
use crate::proxy::settings::{Rate, RouteLimits};

/// The limits of one route, shared by all workers, and kept over a reload that does not change them.
#[derive(Debug)]
pub(crate) struct RouteGate {
    settings: RouteLimits,
    rate: Option<Bucket>,
    slots: Option<Arc<Semaphore>>,
    /// Held by who is at the head of the line; the others wait for it, in order.
    head: Semaphore,
    /// How many stand in the line, its head included.
    queued: AtomicUsize,
}

/// A request's leave to go upstream.
#[derive(Debug)]
pub(crate) struct Permit {
    /// Held until the answer's last byte; `None`: the route counts no requests under way.
    pub(crate) slot: Option<OwnedSemaphorePermit>,
    /// Whether it waited: its token may be older than it was.
    pub(super) has_waited: bool,
}

/// Waits until the route's limits let this request through, and says whether that took any time. What it holds it holds
/// until the answer's last byte. Whatever has to be waited for besides comes before: who has a turn goes out at once.
pub(super) async fn take_turn(
    limits: Option<&Arc<RouteGate>>,
    downstream: &Downstream,
    exchange: &mut Exchange,
) -> Result<bool, ProxyError> {
    let Some(limits) = limits else { return Ok(false) };
    let entering = pin!(limits.enter(|| !downstream.watch.is_http2() && downstream.stream.has_ended()));
    let turn = exchange.timing().wait(WaitsFor::Other, entering).await?;
    exchange.hold(turn.slot);
    Ok(turn.has_waited)
}

impl RouteGate {
    /// The limits that `settings` ask for; `None`: none.
    pub(crate) fn new(settings: &RouteLimits) -> Option<Arc<Self>> {
        if settings.rate.is_none() && settings.concurrent.is_none() {
            return None;
        }
        let slots =
            settings.concurrent.map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))));
        Some(Arc::new(Self {
            rate: settings.rate.as_ref().map(Bucket::new),
            slots,
            head: Semaphore::new(1),
            queued: AtomicUsize::new(0),
            settings: settings.clone(),
        }))
    }

    /// Whether these are the limits that `settings` ask for.
    pub(super) fn are_of(&self, settings: &RouteLimits) -> bool {
        self.settings == *settings
    }

    /// Lets a request through, now or when its turn comes. `has_hung_up` says whether no client waits for it any more; where
    /// that is known by other means, the future is dropped, and leaves the line so.
    pub(crate) async fn enter(&self, has_hung_up: impl Fn() -> bool) -> Result<Permit, ProxyError> {
        let queued = self.queued.load(Ordering::Acquire);
        let refusal = if queued > 0 {
            self.refusal(queued)
        } else {
            match self.pass() {
                Ok(slot) => return Ok(Permit { slot, has_waited: false }),
                Err(refusal) => refusal,
            }
        };
        let place = self.line_up(refusal)?;
        // Boxed: the future of every request would have room for this otherwise.
        Box::pin(self.wait(place, has_hung_up)).await
    }

    /// Takes one of what each limit gives, or nothing.
    fn pass(&self) -> Result<Option<OwnedSemaphorePermit>, ProxyError> {
        let slot = match &self.slots {
            None => None,
            Some(slots) => Some(
                Arc::clone(slots)
                    .try_acquire_owned()
                    .map_err(|_| ProxyError::Limit(LimitFault::Concurrency))?,
            ),
        };
        match self.rate.as_ref().map(Bucket::take) {
            None | Some(Ok(())) => Ok(slot),
            Some(Err(retry_after)) => Err(ProxyError::Limit(LimitFault::Rate { retry_after })),
        }
    }

    /// What is said to a request that finds `ahead` others before it.
    fn refusal(&self, ahead: usize) -> ProxyError {
        let is_full = self.slots.as_ref().is_some_and(|slots| slots.available_permits() == 0);
        match &self.rate {
            Some(rate) if !is_full => {
                ProxyError::Limit(LimitFault::Rate { retry_after: rate.time_for(ahead + 1) })
            }
            _ => ProxyError::Limit(LimitFault::Concurrency),
        }
    }

    /// A place at the line's end, unless the line is full, or so long that no turn would come in time.
    fn line_up(&self, refusal: ProxyError) -> Result<Place<'_>, ProxyError> {
        let room = |queued| (queued < self.settings.queue).then_some(queued + 1);
        let ahead = match self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, room) {
            Ok(ahead) => ahead,
            Err(0) => return Err(refusal),
            Err(full) => return Err(self.refusal(full)),
        };
        let place = Place(self);
        match &self.rate {
            Some(rate) if rate.time_for(ahead) > self.settings.queue_timeout => {
                Err(ProxyError::Limit(LimitFault::Rate { retry_after: rate.time_for(ahead + 1) }))
            }
            _ => Ok(place),
        }
    }

    async fn wait(&self, place: Place<'_>, has_hung_up: impl Fn() -> bool) -> Result<Permit, ProxyError> {
        let deadline = clock::now() + self.settings.queue_timeout;
        let mut turn = pin!(self.turn(&has_hung_up));
        let slot = loop {
            tokio::select! {
                biased;
                slot = &mut turn => break slot?,
                () = sleep_until(deadline.min(clock::now() + LOOK)) => {}
            }
            if has_hung_up() {
                return Err(ProxyError::Request(ApplicationFault::Gone));
            }
            if clock::now() >= deadline {
                return Err(self.refusal(0));
            }
        };
        drop(place);
        Ok(Permit { slot, has_waited: true })
    }

    /// Waits for the head of the line, and there for both limits. What is taken by the one is given back while the other
    /// is waited for: a request that is not under way holds up none that is.
    async fn turn(
        &self,
        has_hung_up: &impl Fn() -> bool,
    ) -> Result<Option<OwnedSemaphorePermit>, ProxyError> {
        // Neither semaphore is ever closed.
        let _head = self.head.acquire().await.map_err(|_| ProxyError::Limit(LimitFault::Concurrency))?;
        loop {
            let slot = match &self.slots {
                None => None,
                Some(slots) => Some(
                    Arc::clone(slots)
                        .acquire_owned()
                        .await
                        .map_err(|_| ProxyError::Limit(LimitFault::Concurrency))?,
                ),
            };
            if has_hung_up() {
                return Err(ProxyError::Request(ApplicationFault::Gone));
            }
            match self.rate.as_ref().map(Bucket::take) {
                None | Some(Ok(())) => return Ok(slot),
                Some(Err(wait)) => {
                    drop(slot);
                    sleep(wait).await;
                }
            }
        }
    }
}

/// A place in the line, given up where it is dropped.
struct Place<'l>(&'l RouteGate);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A rate: the generic cell rate algorithm, one atomic number.
#[derive(Debug)]
struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>,
    /// Between two requests at the full rate.
    period: Duration,
}

impl Bucket {
    fn new(rate: &Rate) -> Self {
        let period = (rate.per / rate.requests.max(1)).max(SHORTEST_PERIOD);
        let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
        // `None` is for a period of zero, which this one is not.
        let quota = Quota::with_period(period).unwrap_or(Quota::per_second(burst)).allow_burst(burst);
        Self { limiter: RateLimiter::direct_with_clock(quota, Ticks(clock::now())), period }
    }

    /// Takes one; an error says how long it is until there is one to take.
    fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|until| until.wait_time_from(self.limiter.clock().now()))
    }

    /// How long it takes to give `requests` from an empty bucket.
    fn time_for(&self, requests: usize) -> Duration {
        self.period.saturating_mul(u32::try_from(requests).unwrap_or(u32::MAX))
    }
}

/// The program's own clock, from when the bucket was made.
#[derive(Clone, Debug)]
struct Ticks(Instant);

impl Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.0)
    }
}

/// How often a queued request looks whether its application has hung up.
const LOOK: Duration = Duration::from_millis(250);
/// A rate of more is none.
const SHORTEST_PERIOD: Duration = Duration::from_nanos(1);

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use std::cell::RefCell;

    const NEVER: fn() -> bool = || false;

    fn limits(rate: Option<(u32, u32)>, concurrent: Option<usize>, queue: usize) -> Arc<RouteGate> {
        let second = Duration::from_secs(1);
        let rate = rate.map(|(requests, burst)| Rate { requests, per: second, burst });
        let queue_timeout = Duration::from_secs(5);
        RouteGate::new(&RouteLimits { rate, concurrent, queue, queue_timeout }).unwrap()
    }

    fn retry_after(entered: &Result<Permit, ProxyError>) -> Option<Duration> {
        match entered {
            Err(ProxyError::Limit(LimitFault::Rate { retry_after })) => Some(*retry_after),
            _ => None,
        }
    }

    #[test]
    fn a_route_without_limits_has_none() {
        assert!(RouteGate::new(&RouteLimits::default()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_the_rest_is_told_when_to_come_back() {
        let limits = limits(Some((2, 3)), None, 0);
        for _ in 0..3 {
            assert!(!limits.enter(NEVER).await.unwrap().has_waited);
        }
        assert_eq!(retry_after(&limits.enter(NEVER).await), Some(Duration::from_millis(500)));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(limits.enter(NEVER).await.is_ok());
        assert!(retry_after(&limits.enter(NEVER).await).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_served_in_order_and_at_the_rate() {
        let limits = limits(Some((10, 1)), None, 5);
        let (served, started) = (RefCell::new(Vec::new()), clock::now());
        let all = join_all((0..8).map(|number| {
            let (limits, served) = (Arc::clone(&limits), &served);
            async move {
                let entered = limits.enter(NEVER).await;
                if entered.is_ok() {
                    served.borrow_mut().push(number);
                }
                entered
            }
        }));
        let refused: Vec<_> = all.await.iter().filter_map(retry_after).collect();
        assert_eq!(*served.borrow(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(refused, [Duration::from_millis(600); 2]);
        let took = clock::now() - started;
        assert!((500..520).contains(&took.as_millis()), "{took:?}");
        assert_eq!(limits.queued.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_could_not_be_served_in_time_does_not_wait() {
        let limits = limits(Some((1, 1)), None, 100);
        let started = clock::now();
        let mut waiting: Vec<_> = (0..20).map(|_| Box::pin(limits.enter(NEVER))).collect();
        let refused =
            waiting.iter_mut().filter_map(|turn| turn.as_mut().now_or_never()).filter(Result::is_err);
        assert_eq!(refused.count(), 13, "one at once, six in line");
        assert_eq!(clock::now(), started);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_held_until_it_is_dropped() {
        let limits = limits(None, Some(2), 1);
        let first = limits.enter(NEVER).await.unwrap();
        let second = limits.enter(NEVER).await.unwrap();
        let mut third = Box::pin(limits.enter(NEVER));
        assert!(third.as_mut().now_or_never().is_none());
        assert!(matches!(limits.enter(NEVER).await, Err(ProxyError::Limit(LimitFault::Concurrency))));
        drop(first);
        let third = third.await.unwrap();
        assert!(third.has_waited);
        assert!(third.slot.is_some() && second.slot.is_some());
        let started = clock::now();
        assert!(
            matches!(limits.enter(NEVER).await, Err(ProxyError::Limit(LimitFault::Concurrency))),
            "in its time"
        );
        assert_eq!(clock::now() - started, Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn who_hangs_up_leaves_the_line() {
        let limits = limits(None, Some(1), 2);
        let only = limits.enter(NEVER).await.unwrap();
        let mut dropped = Box::pin(limits.enter(NEVER));
        assert!(dropped.as_mut().now_or_never().is_none());
        assert_eq!(limits.queued.load(Ordering::Relaxed), 1);
        drop(dropped);
        assert_eq!(limits.queued.load(Ordering::Relaxed), 0);
        let started = clock::now();
        assert!(matches!(limits.enter(|| true).await, Err(ProxyError::Request(ApplicationFault::Gone))));
        assert!(clock::now() - started <= LOOK);
        drop(only);
        assert!(limits.enter(NEVER).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn no_slot_is_held_while_the_rate_is_waited_for() {
        let limits = limits(Some((1, 1)), Some(1), 2);
        drop(limits.enter(NEVER).await.unwrap());
        let mut waiting = Box::pin(limits.enter(NEVER));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(limits.slots.as_ref().unwrap().available_permits(), 1);
        assert!(waiting.await.unwrap().slot.is_some());
    }
}
