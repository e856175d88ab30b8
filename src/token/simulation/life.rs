//! What goes on in a life: readers, weather, accidents, people. Each at an instant that the seed says.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Builder;
use tokio::time::sleep;

use super::source::ModelSource;
use super::tally::Tally;
use super::world::{Fault, Weather, World};
use crate::clock::{self, BootInstant, ClockWatch};
use crate::lifecycle::DrainTrigger;
use crate::metrics::Metrics;
use crate::token::renewer::tests::settings;
use crate::token::{Backoff, Limits, Policy, Renewer, RenewerHandle, TokenHandle, TokenSettings};

/// Which life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) days: u64,
    pub(super) fault: Option<Fault>,
}

/// Lives it, up to the first thing that must never happen.
pub(super) fn live(plan: &Plan) -> Result<Tally, String> {
    // The renewer draws its jitter from this thread's generator.
    fastrand::seed(plan.seed);
    clock::set_wall_forward(Duration::ZERO);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut life = Life::new(plan);
        life.go_on(Duration::from_hours(24 * plan.days)).await;
        let inner = life.world.look();
        inner.violation.clone().map_or(Ok(inner.tally), Err)
    })
}

struct Life {
    random: fastrand::Rng,
    world: Arc<World>,
    settings: Arc<TokenSettings>,
    process: Process,
    watch: ClockWatch,
    weather_ends: Option<BootInstant>,
    store_mended: Option<BootInstant>,
}

/// What a crash ends.
struct Process {
    tokens: Vec<TokenHandle>,
    renewer: RenewerHandle,
    trigger: DrainTrigger,
}

impl Process {
    fn start(world: &Arc<World>, settings: &Arc<TokenSettings>) -> Self {
        let (trigger, drain) = DrainTrigger::new();
        let renewer = Renewer::spawn(Limits { concurrent: 4 }, drain, &Metrics::new());
        let count = world.look().grants.len();
        let tokens = (0..count)
            .map(|token| {
                let source = ModelSource { world: Arc::clone(world), token, looked: AtomicBool::new(false) };
                renewer.add(format!("t{token}"), Arc::clone(settings), source)
            })
            .collect();
        Self { tokens, renewer, trigger }
    }

    /// Ends it between two of its steps; what was under way is dropped where it stood.
    async fn end(&self) {
        self.trigger.start();
        self.trigger.finished().await;
        // Attempts that were aborted are dropped when the runtime comes to them.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
}

impl Life {
    fn new(plan: &Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let policy = Policy {
            retry: Backoff { max: Duration::from_mins(random.u64(1..20)), ..Policy::default().retry },
            ..Policy::default()
        };
        let settings = Arc::new(TokenSettings { policy: policy.clone(), ..settings() });
        let world = World::new(random.fork(), policy, plan.fault);
        let process = Process::start(&world, &settings);
        let watch = ClockWatch::new();
        Self { random, world, settings, process, watch, weather_ends: None, store_mended: None }
    }

    async fn go_on(&mut self, time: Duration) {
        let end = BootInstant::now() + time;
        while BootInstant::now() < end && self.world.look().violation.is_none() {
            let mut pause = Duration::from_secs(self.random.u64(1..=MEAN_PAUSE.as_secs() * 2));
            if let Some(at) = self.weather_ends {
                pause = pause.min(at - BootInstant::now());
            }
            sleep(pause).await;
            self.what_was_due();
            match self.random.u32(..1000) {
                ..500 => self.read().await,
                500..540 => self.weather(),
                540..590 => self.sleep_of_the_machine().await,
                590..600 => self.wall_clock().await,
                600..640 => self.crash().await,
                640..680 => self.renew().await,
                680..720 => self.wake(),
                720..723 => self.take_away(),
                723..730 => self.full_disk(),
                730..735 => self.storm().await,
                _ => {}
            }
            self.log_in();
        }
    }

    fn what_was_due(&mut self) {
        let now = BootInstant::now();
        if self.weather_ends.take_if(|at| *at <= now).is_some() {
            let mut inner = self.world.look();
            let before = std::mem::replace(&mut inner.weather, Weather::Well);
            inner.since = now;
            drop(inner);
            // A secret is fixed by a change of its file.
            if before == Weather::Misconfigured && self.random.bool() {
                self.wake();
            }
        }
        if self.store_mended.take_if(|at| *at <= now).is_some() {
            self.world.store_works(true);
        }
    }

    fn one(&mut self) -> (usize, TokenHandle) {
        let token = self.random.usize(..self.process.tokens.len());
        (token, self.process.tokens[token].clone())
    }

    fn ask(&self, token: usize) {
        self.world.look().grants[token].account.ask();
    }

    /// A request: what it finds must be good, and what it waits for too.
    async fn read(&mut self) {
        let (token, handle) = self.one();
        self.world.observe(token, &handle.load());
        if handle.load().usable(BootInstant::now()).is_none() {
            self.wait(token, &handle, 3).await;
        }
    }

    async fn wait(&self, token: usize, handle: &TokenHandle, requests: usize) {
        self.ask(token);
        self.world.look().tally.waits += requests as u64;
        for got in join_all((0..requests).map(|_| handle.wait())).await {
            assert!(got.is_ok() || handle.load().usable(BootInstant::now()).is_none() || requests == 0);
        }
        self.world.observe(token, &handle.load());
    }

    /// A crowd at a token of which nothing is known, just after the process has started.
    async fn storm(&mut self) {
        self.restart().await;
        self.world.look().tally.storms += 1;
        let (token, handle) = self.one();
        self.wait(token, &handle, 50).await;
    }

    fn weather(&mut self) {
        let kinds = [
            (Weather::Slow, 600),
            (Weather::Refusing, 600),
            (Weather::Silent, 240),
            (Weather::Hanging, 240),
            (Weather::Busy, 240),
            (Weather::Misconfigured, 1200),
            (Weather::LosesAnswers, 240),
            (Weather::OddLifetimes, 5),
        ];
        let (weather, minutes) = kinds[self.random.usize(..kinds.len())];
        // Mostly short; now and then longer than any token lives.
        let minutes = if self.random.u8(..10) == 0 { minutes * 4 } else { minutes };
        let lasts = Duration::from_secs(self.random.u64(1..=minutes * 60));
        let mut inner = self.world.look();
        inner.weather = weather;
        inner.since = BootInstant::now();
        drop(inner);
        self.weather_ends = Some(BootInstant::now() + lasts);
        if self.random.bool() {
            // Before the weather's first request.
            self.wake();
        }
    }

    /// The lid is closed; the first request after it may come before anybody notices.
    async fn sleep_of_the_machine(&mut self) {
        clock::suspend(Duration::from_mins(self.random.u64(1..24 * 60)));
        {
            let mut inner = self.world.look();
            inner.tally.suspends += 1;
            inner.since = BootInstant::now();
        }
        if self.random.bool() {
            self.read().await;
        }
        self.notice().await;
    }

    /// A paused virtual machine goes on, or someone sets the clock.
    async fn wall_clock(&mut self) {
        self.world.look().tally.wall_steps += 1;
        let step = Duration::from_mins(self.random.u64(1..300));
        if self.random.bool() {
            clock::set_wall_back(step);
            // With the clock back, it is unknown how old the token in the store is.
            for grant in &mut self.world.look().grants {
                grant.stored.forget_access();
            }
            self.watch.look();
        } else {
            clock::set_wall_forward(step);
            self.world.look().unseen = step;
            self.notice().await;
        }
    }

    /// What the program does each second.
    async fn notice(&mut self) {
        sleep(Duration::from_millis(self.random.u64(1..1000))).await;
        self.watch.look();
        {
            let mut inner = self.world.look();
            if inner.unseen > Duration::ZERO {
                inner.unseen = Duration::ZERO;
                inner.since = BootInstant::now();
            }
        }
        if self.world.fault() != Some(Fault::ClockUnwatched) {
            self.process.renewer.look_at_the_clock();
        }
    }

    /// Ends the process at any instant, also between answer and write.
    async fn crash(&mut self) {
        if self.random.bool() {
            let (token, handle) = self.one();
            self.ask(token);
            let soon = Duration::from_millis(self.random.u64(1..600));
            tokio::select! {
                _ = handle.renew() => {}
                () = sleep(soon) => {}
            }
        }
        self.restart().await;
    }

    async fn restart(&mut self) {
        self.process.end().await;
        self.world.restarted();
        self.process = Process::start(&self.world, &self.settings);
    }

    async fn renew(&mut self) {
        let (token, handle) = self.one();
        self.ask(token);
        self.world.look().tally.renewals_asked += 1;
        let _ = handle.renew().await;
        self.world.observe(token, &handle.load());
    }

    fn wake(&mut self) {
        self.world.look().tally.wakes += 1;
        for token in 0..self.process.tokens.len() {
            self.ask(token);
            self.process.tokens[token].wake();
        }
    }

    /// An administrator ends a grant.
    fn take_away(&mut self) {
        let (token, _) = self.one();
        let mut inner = self.world.look();
        inner.grants[token].revoked = true;
        inner.grants[token].account.take_away();
    }

    fn full_disk(&mut self) {
        self.world.store_works(false);
        self.store_mended = Some(BootInstant::now() + Duration::from_mins(self.random.u64(1..24 * 60)));
    }

    /// People log in when they come to it.
    fn log_in(&mut self) {
        for token in 0..self.process.tokens.len() {
            let refused = self.world.look().grants[token].account.refused();
            if refused && self.random.u8(..4) == 0 {
                self.world.log_in(token);
                self.process.tokens[token].wake();
            }
        }
    }
}

/// Between two things that happen.
const MEAN_PAUSE: Duration = Duration::from_hours(2);
