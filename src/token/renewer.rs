//! The write side: one task that drives every token, from one to a hundred thousand.
//!
//! It keeps a queue of instants, starts token requests up to a cap, those that someone waits for first, and puts each
//! outcome into the token's state. It is the only writer, so it needs no lock. A source that hangs or panics costs its
//! own token one attempt and nothing else.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock;
use crate::lifecycle::Drain;
use crate::metrics::Metrics;
use crate::oauth::{Error, ErrorKind, TokenResponse};

use super::handle::{Ask, Token, TokenHandle};
use super::metrics::TokenMetrics;
use super::outcome::{self, Memory};
use super::queue::{Queue, Urgency};
use super::schedule::MIN_RENEWAL_GAP;
use super::settings::TokenSettings;
use super::source::Source;

/// Starts the task that renews tokens.
#[derive(Debug)]
pub struct Renewer;

/// How much the renewer does at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Token requests under way at the same time, of all tokens together. Default [`CONCURRENT_REQUESTS`].
    pub concurrent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrent: CONCURRENT_REQUESTS }
    }
}

/// The way to the renewer: adds and removes tokens. The task ends when the last clone is gone.
#[derive(Clone, Debug)]
pub struct RenewerHandle {
    commands: mpsc::UnboundedSender<Command>,
    ids: Arc<AtomicU64>,
}

/// What the task is told. The queue is bounded by those who wait: each puts one message in and then waits.
pub(super) enum Command {
    Add(Arc<Token>, Arc<dyn Source>),
    Remove(u64),
    Ask {
        id: u64,
        ask: Ask,
        /// How many attempts had ended when it was asked: what ended since is the answer.
        seen: u64,
    },
}

impl Renewer {
    /// Starts the task on the current runtime.
    ///
    /// It ends when `drain` starts or when the last [`RenewerHandle`] is gone; token requests under way are dropped
    /// then, and whoever waits for a token is told. Requests that are still being served need their tokens: `drain`
    /// is to start after the last of them has ended.
    #[must_use]
    pub fn spawn(limits: Limits, drain: Drain, metrics: &Metrics) -> RenewerHandle {
        let (commands, inbox) = mpsc::unbounded_channel();
        let task = Task {
            limits,
            metrics: TokenMetrics::new(metrics),
            entries: HashMap::new(),
            owners: HashMap::new(),
            queue: Queue::default(),
            lapses: BTreeSet::new(),
            attempts: JoinSet::new(),
        };
        tokio::spawn(task.run(inbox, drain));
        RenewerHandle { commands, ids: Arc::default() }
    }
}

impl RenewerHandle {
    /// Takes charge of a token and asks for it at once. One of the same name takes over its metrics.
    #[must_use]
    pub fn add(
        &self,
        name: impl Into<String>,
        settings: impl Into<Arc<TokenSettings>>,
        source: impl Source + 'static,
    ) -> TokenHandle {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let token = Arc::new(Token::new(id, name.into(), settings.into(), self.commands.downgrade()));
        if self.commands.send(Command::Add(Arc::clone(&token), Arc::new(source))).is_err() {
            token.retire();
        }
        TokenHandle::new(token)
    }

    /// Lets go of a token. What its handles hold stays usable until it expires.
    pub fn remove(&self, token: &TokenHandle) {
        // An error says that the task has ended, and so has let go of all of them.
        let _ = self.commands.send(Command::Remove(token.id()));
    }
}

struct Task {
    limits: Limits,
    metrics: TokenMetrics,
    entries: HashMap<u64, Entry>,
    /// Whose the metrics of a name are: in a reload two tokens have it for a moment.
    owners: HashMap<String, u64>,
    queue: Queue,
    /// When tokens stop being usable: a change of state that no attempt announces.
    lapses: BTreeSet<(Instant, u64)>,
    attempts: JoinSet<Ended>,
}

struct Entry {
    token: Arc<Token>,
    source: Arc<dyn Source>,
    /// The attempt under way.
    running: Option<AbortHandle>,
    last_start: Option<Instant>,
    lapse: Option<Instant>,
    /// Someone said during the attempt under way that it may start from what has changed since.
    woken: bool,
    memory: Memory,
}

/// An attempt that came to an end.
struct Ended {
    id: u64,
    sent: Instant,
    outcome: Result<TokenResponse, Error>,
}

impl Task {
    /// Ends when the drain starts or the last handle of the renewer is gone.
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>, mut drain: Drain) {
        loop {
            let now = clock::now();
            self.lapse(now);
            while self.attempts.len() < self.limits.concurrent.max(1)
                && let Some(id) = self.queue.pop(now)
            {
                self.start(id, now);
            }
            let next = self.next();
            tokio::select! {
                () = drain.started() => return,
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Some(ended) = self.attempts.join_next() => {
                    // An error says that the attempt was aborted: its token is gone.
                    if let Ok(ended) = ended {
                        self.settle(ended);
                    }
                }
                () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            }
        }
    }

    /// When there is something to do by the clock alone.
    fn next(&self) -> Option<Instant> {
        let lapse = self.lapses.first().map(|(at, _)| *at);
        // With no slot free, the end of an attempt is what to wait for.
        let due = self.queue.next().filter(|_| self.attempts.len() < self.limits.concurrent.max(1));
        [lapse, due].into_iter().flatten().min()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Add(token, source) => self.add(token, source),
            Command::Remove(id) => self.remove(id),
            Command::Ask { id, ask, seen } => self.hear(id, ask, seen),
        }
    }

    fn add(&mut self, token: Arc<Token>, source: Arc<dyn Source>) {
        let id = token.id;
        self.metrics.added(&token.name);
        self.owners.insert(token.name.clone(), id);
        self.queue.plan(id, clock::now(), Urgency::Planned);
        let entry = Entry {
            token,
            source,
            running: None,
            last_start: None,
            lapse: None,
            woken: false,
            memory: Memory::default(),
        };
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, id: u64) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.queue.remove(id);
        if let Some(at) = entry.lapse {
            self.lapses.remove(&(at, id));
        }
        if let Some(running) = &entry.running {
            running.abort();
        }
        if self.owners.get(&entry.token.name) == Some(&id) {
            self.owners.remove(&entry.token.name);
            self.metrics.removed(&entry.token.name);
        }
        entry.token.retire();
    }

    fn hear(&mut self, id: u64, ask: Ask, seen: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let now = clock::now();
        let state = entry.token.state();
        if entry.running.is_some() {
            entry.woken |= ask == Ask::Wake;
            return;
        }
        let wanted = match ask {
            Ask::Token | Ask::Renew => state.attempts() == seen,
            Ask::Wake => state.last_error.is_some(),
        };
        if wanted && state.hold(now).is_none() {
            let urgency = if ask == Ask::Wake { Urgency::Planned } else { Urgency::Waiting };
            self.queue.hasten(id, entry.earliest(now), urgency);
        }
    }

    fn start(&mut self, id: u64, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let source = Arc::clone(&entry.source);
        let bound =
            entry.token.settings.server.transport.timeout.saturating_mul(EXCHANGES).saturating_add(BACKSTOP);
        let attempt = async move {
            let fetch = AssertUnwindSafe(async { source.fetch().await }).catch_unwind();
            let outcome = match timeout(bound, fetch).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_panic)) => Err(Error::here(ErrorKind::Panicked)),
                Err(_elapsed) => Err(Error::here(ErrorKind::Stalled)),
            };
            Ended { id, sent: now, outcome }
        };
        entry.running = Some(self.attempts.spawn(attempt));
        entry.last_start = Some(now);
    }

    fn settle(&mut self, ended: Ended) {
        let Some(entry) = self.entries.get_mut(&ended.id) else { return };
        let (id, now) = (ended.id, clock::now());
        entry.running = None;
        let old = entry.token.state();
        let attempt = outcome::Attempt { sent: ended.sent, now, jitter: fastrand::f64() };
        if let Ok(response) = &ended.outcome {
            outcome::log_oddities(&entry.token.name, response, &entry.token.settings, &mut entry.memory);
        }
        let mut state = outcome::apply(&old, ended.outcome, &attempt, &entry.token.settings);
        if std::mem::take(&mut entry.woken) && state.last_error.is_some() && state.hold(now).is_none() {
            state.next_attempt = Some(entry.earliest(now));
        }
        if let Some(at) = state.next_attempt {
            self.queue.plan(id, at, Urgency::Planned);
        }
        outcome::log(&entry.token.name, &old, &state, now);

        if let Some(at) = entry.lapse.take() {
            self.lapses.remove(&(at, id));
        }
        if let Some(credentials) = state.usable(now) {
            entry.lapse = Some(credentials.usable_until);
            self.lapses.insert((credentials.usable_until, id));
        }
        if self.owners.get(&entry.token.name) == Some(&id) {
            let failed = state.last_error.as_ref().map(|failure| failure.error.class());
            self.metrics.ended(&entry.token.name, now - ended.sent, failed);
            self.metrics.status(&entry.token.name, state.status(now));
            if let (None, Some(credentials)) = (failed, &state.credentials) {
                self.metrics.expiry(&entry.token.name, credentials.expires_at);
            }
        }
        entry.token.publish(state);
    }

    /// Says of each token whose time has run out that it has.
    fn lapse(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.lapses.first()
            && at <= now
        {
            self.lapses.pop_first();
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.lapse = None;
            let state = entry.token.state();
            outcome::log_lapse(&entry.token.name, &state);
            if self.owners.get(&entry.token.name) == Some(&id) {
                self.metrics.status(&entry.token.name, state.status(now));
            }
        }
    }
}

impl Entry {
    /// When an attempt may start that someone asks for now.
    fn earliest(&self, now: Instant) -> Instant {
        self.last_start.map_or(now, |start| (start + MIN_RENEWAL_GAP).max(now))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        for entry in self.entries.values() {
            entry.token.retire();
        }
    }
}

/// Token requests under way at once: enough for a hundred tokens at start, and few enough for any server.
pub const CONCURRENT_REQUESTS: usize = 32;

/// How many exchanges an attempt has at most: two for discovery and the token request.
const EXCHANGES: u32 = 3;

/// What an attempt gets beyond the transport's own timeouts before it is given up: it reads a file, too.
const BACKSTOP: Duration = Duration::from_secs(10);
