//! The model: an authorization server with rotating refresh tokens and reuse detection, a store, and the weather
//! between them and us.
//!
//! It knows the truth: when a token really ends, which refresh token is the newest. `judge` looks at what is done with
//! it; the first thing that must never happen ends the life.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::judge::{Account, End};
use super::tally::Tally;
use crate::clock::{self, BootInstant};
use crate::oauth::{ErrorKind, Lifetime, ResponseFault, TransportFault};
use crate::token::error::{Error, LoginFault};
use crate::token::{Fetched, Policy, TokenState};

/// What is broken on purpose, to see that the judge sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    LifetimeStretched,
    LifetimeShrunk,
    StoredTokenCountsFromNow,
    AsksTwice,
    UsesBeforeItStores,
    NeverStores,
    DeafToRetryAfter,
    RetriesAtOnce,
    GivesUp,
    ClockUnwatched,
}

/// What the network and the server are like for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    Well,
    Slow,
    Refusing,
    /// No answer, up to the source's own timeout.
    Silent,
    /// No answer, and no timeout either.
    Hanging,
    /// 429 or 503, with `Retry-After`.
    Busy,
    /// The client's secret was changed.
    Misconfigured,
    /// The server acts, and its answer gets lost.
    LosesAnswers,
    /// Tokens of a second, or none, or one whose lifetime is not told.
    OddLifetimes,
}

/// How a token is earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Client,
    /// Each refresh token is good once; the second use ends the grant.
    Rotating,
    /// The refresh token stays the same.
    Steady,
}

/// Everything around the renewer.
pub(super) struct World {
    inner: Mutex<Inner>,
    fault: Option<Fault>,
}

pub(super) struct Inner {
    pub(super) random: fastrand::Rng,
    pub(super) weather: Weather,
    /// Since when it has been as it is, or the machine awake, or the process running.
    pub(super) since: BootInstant,
    pub(super) policy: Policy,
    pub(super) grants: Vec<Grant>,
    pub(super) store_works: bool,
    /// The wall clock was put forward by this, and it was not looked at yet.
    pub(super) unseen: Duration,
    pub(super) violation: Option<String>,
    pub(super) tally: Tally,
}

/// One token, as its server and its store have it.
pub(super) struct Grant {
    pub(super) kind: Kind,
    lifetime: Duration,
    /// The newest refresh token that was issued.
    pub(super) newest: u32,
    pub(super) revoked: bool,
    /// When each access token really ends.
    ends: Vec<BootInstant>,
    pub(super) stored: Stored,
    /// What this process holds and could not store.
    memory: Option<Stored>,
    /// What is to be stored later: a planted fault.
    lazy: Option<(BootInstant, Stored)>,
    pub(super) account: Account,
}

/// What the store has.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    pub(super) refresh: u32,
    access: Option<(usize, SystemTime, Duration)>,
}

impl Stored {
    /// Only the refresh token is left.
    pub(super) fn forget_access(&mut self) {
        self.access = None;
    }
}

/// A token request under way.
pub(super) struct Call {
    world: Arc<World>,
    token: usize,
    asked: SystemTime,
    refresh: u32,
    issued: Option<Stored>,
    done: bool,
}

/// What becomes of a request that has arrived.
pub(super) enum Reply {
    Never,
    Failed { after: Duration, error: Error },
    Token { after: Duration, text: String, lifetime: Lifetime },
}

impl World {
    pub(super) fn new(mut random: fastrand::Rng, policy: Policy, fault: Option<Fault>) -> Arc<Self> {
        let grants = (0..random.usize(1..=3))
            .map(|_| Grant {
                kind: [Kind::Client, Kind::Rotating, Kind::Rotating, Kind::Steady][random.usize(..4)],
                lifetime: Duration::from_mins(random.u64(4 * 60..48 * 60)),
                newest: 0,
                revoked: false,
                ends: Vec::new(),
                stored: Stored::default(),
                memory: None,
                lazy: None,
                account: Account::default(),
            })
            .collect();
        let inner = Inner {
            random,
            weather: Weather::Well,
            since: BootInstant::now(),
            policy,
            grants,
            store_works: true,
            unseen: Duration::ZERO,
            violation: None,
            tally: Tally::default(),
        };
        Arc::new(Self { inner: Mutex::new(inner), fault })
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    pub(super) fn look(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// How long a write to the disk takes.
    pub(super) fn writing(&self) -> Duration {
        let millis = self.look().random.u64(1..40);
        Duration::from_millis(millis)
    }

    /// The access token in the store, if it is still good by the wall clock.
    pub(super) fn restore(&self, token: usize) -> Option<(String, SystemTime, Duration)> {
        let mut inner = self.look();
        let (serial, asked, lifetime) = inner.grants[token].stored.access?;
        let left = (asked + lifetime).duration_since(clock::wall()).ok()?;
        if left < Duration::from_mins(1) {
            return None;
        }
        inner.tally.restored += 1;
        inner.grants[token].account.begin_without_a_call();
        Some((format!("{token}-{serial}"), asked, lifetime))
    }

    /// A token request that starts now.
    pub(super) fn call(self: &Arc<Self>, token: usize) -> Call {
        let mut inner = self.look();
        inner.tally.calls += 1;
        let broken = inner.judge_call(token);
        inner.violate(broken);
        let refresh = inner.grants[token].held().refresh;
        drop(inner);
        Call { world: Arc::clone(self), token, asked: clock::wall(), refresh, issued: None, done: false }
    }

    /// Looks at what a reader would get now.
    pub(super) fn observe(&self, token: usize, state: &TokenState) {
        let mut inner = self.look();
        inner.tally.observations += 1;
        let broken = inner.judge_state(token, state).or_else(|| inner.judge_store(token));
        inner.violate(broken);
    }

    /// The process is gone, and another one starts.
    pub(super) fn restarted(&self) {
        let mut inner = self.look();
        inner.tally.restarts += 1;
        inner.since = BootInstant::now();
        for grant in &mut inner.grants {
            if grant.memory.take().is_some_and(|held| held.refresh > grant.stored.refresh) {
                grant.account.excuse();
            }
            grant.lazy = None;
            grant.account.restart();
        }
    }

    /// The store works again: what could not be written is written.
    pub(super) fn store_works(&self, works: bool) {
        let mut inner = self.look();
        inner.store_works = works;
        if works {
            for grant in &mut inner.grants {
                if let Some(held) = grant.memory.take() {
                    grant.stored = held;
                }
            }
        }
    }

    /// Someone logs in.
    pub(super) fn log_in(&self, token: usize) {
        let mut inner = self.look();
        inner.since = BootInstant::now();
        inner.tally.logins += 1;
        let grant = &mut inner.grants[token];
        grant.revoked = false;
        grant.newest += 1;
        grant.stored = Stored { refresh: grant.newest, access: None };
        grant.memory = None;
        grant.lazy = None;
        grant.account.logged_in();
    }
}

impl Inner {
    pub(super) fn violate(&mut self, broken: Option<String>) {
        if let (None, Some(broken)) = (&self.violation, broken) {
            self.violation = Some(broken);
        }
    }

    /// Now, by a clock that cannot be set.
    pub(super) fn truth(&self) -> BootInstant {
        BootInstant::now() + self.unseen
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.u64(range))
    }

    /// What the server does with a request at this instant.
    fn answer(&mut self, token: usize, refresh: u32) -> (Reply, Option<u32>) {
        let failed = |after, error| (Reply::Failed { after, error }, None);
        let quick = self.millis(1..300);
        match self.weather {
            Weather::Refusing => return failed(quick, TransportFault::Reset.into()),
            Weather::Silent => {
                return failed(Duration::from_secs(30), TransportFault::Reset.into());
            }
            Weather::Hanging => return (Reply::Never, None),
            Weather::Misconfigured => return failed(quick, ResponseFault::TokenType.into()),
            Weather::Busy => {
                let status = if self.random.bool() {
                    StatusCode::TOO_MANY_REQUESTS
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                let hold = Duration::from_secs(self.random.u64(1..600));
                self.tally.held += 1;
                let error = Error::from(ErrorKind::Status(status)).after(Some(hold));
                return (Reply::Failed { after: quick, error }, None);
            }
            Weather::Well | Weather::Slow | Weather::LosesAnswers | Weather::OddLifetimes => {}
        }
        let after = if self.weather == Weather::Slow { self.millis(1000..20_000) } else { quick };
        let grant = &self.grants[token];
        if grant.kind != Kind::Client && (grant.revoked || refresh != grant.newest) {
            let broken = self.judge_refusal(token);
            self.violate(broken);
            self.grants[token].revoked = true;
            return failed(after, LoginFault::Required.into());
        }
        let (lives, told) = self.lifetime(token);
        let ends = self.truth() + lives;
        let grant = &mut self.grants[token];
        if grant.kind == Kind::Rotating {
            grant.newest += 1;
            self.tally.rotations += 1;
        }
        grant.ends.push(ends);
        let text = format!("{token}-{}", grant.ends.len() - 1);
        let newest = grant.newest;
        if self.weather == Weather::LosesAnswers && self.random.bool() {
            return (Reply::Failed { after, error: Error::from(TransportFault::Reset) }, Some(newest));
        }
        (Reply::Token { after, text, lifetime: told }, Some(newest))
    }

    /// How long a token lives, and what is said of it.
    fn lifetime(&mut self, token: usize) -> (Duration, Lifetime) {
        let usual = self.grants[token].lifetime;
        if self.weather != Weather::OddLifetimes {
            return (usual, Lifetime::ExpiresIn(usual));
        }
        self.tally.odd += 1;
        match self.random.u8(..5) {
            0 => (Duration::ZERO, Lifetime::ExpiresIn(Duration::ZERO)),
            1 => (Duration::from_secs(1), Lifetime::ExpiresIn(Duration::from_secs(1))),
            2 => (Duration::from_millis(2500), Lifetime::ExpiresIn(Duration::from_millis(2500))),
            3 => (Duration::from_hours(24 * 300), Lifetime::ExpiresIn(Duration::MAX)),
            _ => (self.policy.default_lifetime.unwrap(), Lifetime::Unknown),
        }
    }
}

impl Grant {
    /// What this process knows best.
    fn held(&mut self) -> Stored {
        if let Some((_, stored)) = self.lazy.take_if(|(due, _)| *due <= BootInstant::now()) {
            self.stored = stored;
        }
        let lazy = self.lazy.as_ref().map(|(_, stored)| stored);
        lazy.or(self.memory.as_ref()).unwrap_or(&self.stored).clone()
    }

    /// Whether the newest refresh token is where no crash can lose it, or could not be put there.
    pub(super) fn keeps_the_newest(&mut self) -> bool {
        self.held();
        self.kind == Kind::Client
            || self.stored.refresh == self.newest
            || self.memory.as_ref().is_some_and(|held| held.refresh == self.newest)
    }

    /// When the access token `serial` really ends.
    pub(super) fn end_of(&self, serial: usize) -> BootInstant {
        self.ends[serial]
    }
}

impl Call {
    /// How long the request takes to its server.
    pub(super) fn way(&self) -> Duration {
        self.world.look().millis(1..100)
    }

    /// The request is there: the server acts.
    pub(super) fn arrive(&mut self) -> Reply {
        let mut inner = self.world.look();
        let (reply, newest) = inner.answer(self.token, self.refresh);
        let grant = &mut inner.grants[self.token];
        self.issued = newest.map(|refresh| {
            let access = match &reply {
                Reply::Token { lifetime: Lifetime::ExpiresIn(lifetime), .. } => {
                    let lifetime = (*lifetime).min(Duration::from_hours(24 * 300));
                    Some((grant.ends.len() - 1, self.asked, lifetime))
                }
                _ => None,
            };
            Stored { refresh, access }
        });
        reply
    }

    pub(super) fn failed(mut self, error: Error) -> Result<Fetched, Error> {
        self.end(End::failed(&error));
        Err(error)
    }

    /// The store has it, or this process where the store does not work.
    pub(super) fn write(mut self) {
        let issued = self.issued.take();
        {
            let mut inner = self.world.look();
            let works = inner.store_works;
            let grant = &mut inner.grants[self.token];
            if works {
                grant.stored = issued.unwrap_or_default();
            } else {
                grant.memory = issued;
                inner.tally.unwritten += 1;
            }
        }
        self.end(End::Token);
    }

    /// A planted fault.
    pub(super) fn write_later(mut self) {
        let issued = self.issued.take().unwrap_or_default();
        self.world.look().grants[self.token].lazy =
            Some((BootInstant::now() + Duration::from_mins(10), issued));
        self.end(End::Token);
    }

    /// A planted fault.
    pub(super) fn forget_to_write(mut self) {
        self.issued = None;
        self.end(End::Token);
    }

    fn end(&mut self, end: End) {
        self.done = true;
        let mut inner = self.world.look();
        let weather = inner.weather;
        let grant = &mut inner.grants[self.token];
        grant.account.ended(end, grant.lifetime, weather == Weather::OddLifetimes);
        if self.issued.take().is_some_and(|issued| issued.refresh != grant.stored.refresh) {
            // The answer was lost on its way, or the process ended before it was written.
            grant.account.excuse();
            inner.tally.lost_answers += 1;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.done {
            self.end(End::Dropped);
        }
    }
}
