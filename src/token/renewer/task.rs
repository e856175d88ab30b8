//! The renewer's task: what is due, what is under way, and what came of it.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::Limits;
use crate::clock::{BootInstant, sleep_until};
use crate::lifecycle::Drain;
use crate::token::attempt::{self, Memory};
use crate::token::error::{AttemptFault, Error};
use crate::token::fair_share::FairShare;
use crate::token::handle::{Ask, Command, Token};
use crate::token::inputs::fingerprint;
use crate::token::metrics::{PoolMetrics, TokenMetrics};
use crate::token::queue::{Queue, Urgency};
use crate::token::schedule::MIN_RENEWAL_GAP;
use crate::token::source::{Fetched, ServerId, Source};
use crate::token::span;
use crate::token::state::Status;
use crate::token::store::Fingerprint;
use crate::traces::Traces;

mod forget;
mod look;
mod requests;

/// Drives every token; see [`super::Renewer`].
pub(super) struct Task {
    limits: Limits,
    shares: FairShare,
    metrics: TokenMetrics,
    traces: Traces,
    entries: HashMap<u64, Entry>,
    /// Whose the metrics of a name are: in a reload two tokens have it for a moment.
    owners: HashMap<String, u64>,
    pools: HashMap<Arc<str>, Arc<PoolMetrics>>,
    queue: Queue,
    /// When tokens stop being usable: a change of state that no attempt announces.
    lapses: BTreeSet<(BootInstant, u64)>,
    attempts: JoinSet<Ended>,
}

struct Entry {
    token: Arc<Token>,
    source: Arc<dyn Source>,
    server: Option<ServerId>,
    /// It is due, and waits for its server's share of the slots.
    parked: Option<Urgency>,
    /// What is under way.
    running: Option<AbortHandle>,
    /// Who wants it forgotten, once what is under way has ended.
    leaving: Vec<oneshot::Sender<Result<(), Error>>>,
    last_start: Option<BootInstant>,
    lapse: Option<BootInstant>,
    /// Someone said during the attempt under way that something has changed since it began.
    woken: Option<Ask>,
    /// What is under way is a look into the store, by its number.
    looking: Option<u64>,
    /// What was asked for, or became due, during a look.
    asked: Option<(Ask, u64)>,
    due: Option<Urgency>,
    memory: Memory,
    /// The pool that counts it, and as what; `None`: its metrics are its own.
    pool: Option<(Arc<PoolMetrics>, Status)>,
}

/// An attempt that came to an end.
struct Ended {
    id: u64,
    sent: BootInstant,
    outcome: Outcome,
}

enum Outcome {
    /// With the hash of the inputs that it was made with, where they could be read.
    Fetched(Box<Result<Fetched, Error>>, Option<Fingerprint>),
    Looked(Option<Box<Fetched>>),
    Forgotten(Result<(), Error>),
}

impl Task {
    pub(super) fn new(limits: Limits, metrics: TokenMetrics, traces: Traces) -> Self {
        Self {
            limits,
            shares: FairShare::of(limits.concurrent),
            metrics,
            traces,
            entries: HashMap::new(),
            owners: HashMap::new(),
            pools: HashMap::new(),
            queue: Queue::default(),
            lapses: BTreeSet::new(),
            attempts: JoinSet::new(),
        }
    }

    /// Ends when the drain starts or the last handle of the renewer is gone.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>, mut drain: Drain) {
        loop {
            // All that was said by now, before anything starts: the shares of a few depend on who else there is.
            while let Ok(command) = inbox.try_recv() {
                self.obey(command);
            }
            let now = BootInstant::now();
            self.lapse(now);
            while let Some(least) = self.admits()
                && let Some((id, urgency)) = self.queue.pop(now, least)
            {
                self.start(id, urgency, now);
            }
            let next = self.next();
            tokio::select! {
                // In this order, so that a simulation that fails fails again. What someone asks for goes before a
                // backlog of attempts that end; it does not keep them up for long, as who has asked waits.
                biased;
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
    fn next(&self) -> Option<BootInstant> {
        let lapse = self.lapses.first().map(|(at, _)| *at);
        // With no slot free, the end of an attempt is what to wait for.
        let due = self.queue.next().filter(|_| self.admits().is_some());
        [lapse, due].into_iter().flatten().min()
    }

    /// How urgent an attempt must be to start now; `None`: none may. Retries get half of the slots and plans three
    /// quarters: tokens whose server is down do not hold up those whose server is well, nor any that someone
    /// waits for.
    fn admits(&self) -> Option<Urgency> {
        let (running, all) = (self.attempts.len(), self.limits.concurrent.max(1));
        if running < all.div_ceil(2) {
            Some(Urgency::Retrying)
        } else if running < all - all / 4 {
            Some(Urgency::Planned)
        } else if running < all {
            Some(Urgency::Waiting)
        } else {
            None
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Add(token, source, pool) => self.add(token, source, pool),
            Command::Remove(id) => self.remove(id),
            // The loop has looked at the clock by now.
            Command::Look => {}
            Command::Ask { id, ask, seen } => self.hear(id, ask, seen),
            Command::Rejected { id, generation } => self.rejected(id, generation),
            Command::Accepted { id } => self.accepted(id),
            Command::Forget { id, done } => self.forget(id, done),
        }
    }

    fn add(&mut self, token: Arc<Token>, source: Arc<dyn Source>, pool: Option<Arc<str>>) {
        let id = token.id;
        let pool = pool.map(|pool| {
            let metrics = match self.pools.get(&pool) {
                Some(metrics) => Arc::clone(metrics),
                None => Arc::new(self.metrics.pool(&pool)),
            };
            self.pools.entry(pool).or_insert_with(|| Arc::clone(&metrics));
            metrics.enter(Status::Pending);
            (metrics, Status::Pending)
        });
        if pool.is_none() {
            self.metrics.added(&token.name, token.settings.required);
            self.owners.insert(token.name.clone(), id);
        }
        let state = token.state();
        if state.per_caller || state.credentials.is_some() {
            self.metrics.status(&token.name, state.status(BootInstant::now()));
        }
        if !state.per_caller {
            self.queue.plan(id, BootInstant::now(), Urgency::Planned);
        }
        let server = source.server();
        self.shares.join(server);
        let entry = Entry {
            token,
            source,
            server,
            parked: None,
            running: None,
            leaving: Vec::new(),
            last_start: None,
            lapse: None,
            woken: None,
            looking: None,
            asked: None,
            due: None,
            memory: Memory::default(),
            pool,
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
            self.freed(entry.server);
        }
        self.shares.leave(entry.server);
        if let Some((pool, status)) = &entry.pool {
            pool.leave(*status);
        } else if self.owners.get(&entry.token.name) == Some(&id) {
            self.owners.remove(&entry.token.name);
            self.metrics.removed(&entry.token.name);
        }
        entry.token.retire();
    }

    fn hear(&mut self, id: u64, ask: Ask, seen: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let now = BootInstant::now();
        let state = entry.token.state();
        if state.per_caller {
            return;
        }
        if ask == Ask::Look {
            if entry.running.is_none() && entry.token.activity.wants_look() {
                self.start_looking(id);
            }
            return;
        }
        if entry.looking.is_some() {
            entry.asked = entry.asked.max(Some((ask, seen)));
            return;
        }
        if entry.running.is_some() {
            entry.woken = entry.woken.max(matches!(ask, Ask::Wake | Ask::Changed).then_some(ask));
            return;
        }
        if ask == Ask::Token && state.last_error.is_some() {
            return self.waited_for(id, &state, now);
        }
        let wanted = match ask {
            Ask::Token | Ask::Renew => state.attempts() == seen,
            Ask::Wake => state.last_error.is_some(),
            Ask::Changed => true,
            Ask::Look => false,
        };
        if ask == Ask::Renew && wanted && state.last_error.is_some() {
            entry.source.pardon();
        }
        if wanted && state.hold(now).is_none() {
            let urgency = match ask {
                Ask::Token | Ask::Renew => Urgency::Waiting,
                Ask::Changed => Urgency::Planned,
                Ask::Wake | Ask::Look => Urgency::Retrying,
            };
            // What is parked for less is taken up again where it is more urgent now.
            if entry.parked.is_none_or(|parked| urgency < parked) {
                entry.parked = None;
                self.queue.hasten(id, entry.earliest(now), urgency);
            }
        }
    }

    /// Starts an attempt, or parks it where its server has all of its share.
    fn start(&mut self, id: u64, urgency: Urgency, now: BootInstant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.looking.is_some() {
            // What it finds may be what is due.
            entry.due = Some(entry.due.map_or(urgency, |due| due.min(urgency)));
            return;
        }
        if !self.shares.admits(entry.server, urgency) {
            entry.parked = Some(urgency);
            self.shares.park(entry.server, id, urgency);
            return;
        }
        self.shares.begin(entry.server);
        let source = Arc::clone(&entry.source);
        let bound = source.patience();
        let settings = Arc::clone(&entry.token.settings);
        let attempt = async move {
            let mut inputs = None;
            let fetch = async {
                inputs = fingerprint(&settings).await;
                source.fetch().await
            };
            let outcome = bounded(bound, fetch).await;
            Ended { id, sent: now, outcome: Outcome::Fetched(Box::new(outcome), inputs) }
        };
        entry.token.activity.set_renewing(true);
        entry.running = Some(self.attempts.spawn(attempt));
        entry.last_start = Some(now);
    }

    /// A slot of `server`'s is free: who was parked for it has its turn. Others may have come to be gone, or more urgent,
    /// since they were.
    fn freed(&mut self, server: Option<ServerId>) {
        self.shares.end(server);
        while let Some((id, urgency)) = self.shares.next(server) {
            if let Some(entry) = self.entries.get_mut(&id)
                && entry.parked.take_if(|parked| *parked == urgency).is_some()
            {
                self.queue.hasten(id, BootInstant::now(), urgency);
                return;
            }
        }
    }

    fn settle(&mut self, ended: Ended) {
        if let Some(entry) = self.entries.get(&ended.id) {
            self.freed(entry.server);
        }
        match ended.outcome {
            Outcome::Fetched(outcome, inputs) => self.fetched(ended.id, ended.sent, *outcome, inputs),
            Outcome::Looked(found) => self.looked(ended.id, ended.sent, found.map(|found| *found)),
            Outcome::Forgotten(outcome) => self.forgotten(ended.id, &outcome),
        }
        let waits = |entry: &Entry| !entry.leaving.is_empty() && entry.running.is_none();
        if self.entries.get(&ended.id).is_some_and(waits) {
            self.queue.remove(ended.id);
            self.start_forgetting(ended.id);
        }
        if self
            .entries
            .get(&ended.id)
            .is_some_and(|entry| entry.token.activity.wants_look() && entry.running.is_none())
        {
            self.start_looking(ended.id);
        }
    }

    fn fetched(
        &mut self,
        id: u64,
        sent: BootInstant,
        outcome: Result<Fetched, Error>,
        inputs: Option<Fingerprint>,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let now = BootInstant::now();
        entry.running = None;
        let old = entry.token.state();
        let attempt = attempt::Attempt { sent, now, jitter: fastrand::f64(), inputs };
        // What ended on this machine is no token request, and neither is what was in the store.
        let requested = outcome.as_ref().map_or_else(Error::is_counted, |fetched| !fetched.adopted);
        let adopted =
            outcome.as_ref().ok().filter(|fetched| fetched.adopted).and_then(|fetched| fetched.asked);
        if let Ok(fetched) = &outcome {
            attempt::log_oddities(
                &entry.token.name,
                &fetched.response,
                &entry.token.settings,
                &mut entry.memory,
            );
        }
        let mut state = attempt::apply(&old, outcome, &attempt, &entry.token.settings);
        if state.last_error.is_some() {
            state.recall(entry.source.past());
        }
        let again = match entry.woken.take() {
            Some(Ask::Changed) => true,
            Some(_) => state.last_error.is_some(),
            None => false,
        };
        if again && state.hold(now).is_none() {
            state.next_attempt = Some(entry.earliest(now));
        }
        if let Some(at) = state.next_attempt {
            let urgency = if state.last_error.is_some() { Urgency::Retrying } else { Urgency::Planned };
            self.queue.plan(id, at, urgency);
        }
        attempt::log(&entry.token.name, &old, &state, now);

        if let Some(at) = entry.lapse.take() {
            self.lapses.remove(&(at, id));
        }
        if let Some(credentials) = state.usable(now)
            && credentials.usable_until < BootInstant::NEVER
        {
            entry.lapse = Some(credentials.usable_until);
            self.lapses.insert((credentials.usable_until, id));
        }
        let failed = state.last_error.as_ref().map(|failure| failure.error.class());
        if entry.server.is_some() && requested {
            span::renewal(&self.traces, &entry.token.name, now - sent, &state);
        }
        let (took, name) = (now - sent, &entry.token.name.clone());
        let own = entry.show(id, state.status(now), &self.owners, &self.metrics);
        match (&entry.pool, own) {
            (Some((pool, _)), _) if requested => pool.ended(took, failed),
            (Some((pool, _)), _) => adopted.into_iter().for_each(|asked| pool.adopted(asked)),
            (None, Some(metrics)) => {
                if requested {
                    metrics.ended(name, took, failed);
                } else if let Some(asked) = adopted {
                    metrics.adopted(name, asked);
                }
                if let (None, Some(expiry)) = (failed, state.expiry()) {
                    metrics.expiry(name, expiry);
                }
            }
            (None, None) => {}
        }
        entry.token.publish(state);
    }

    /// Says of each token whose time has run out that it has.
    fn lapse(&mut self, now: BootInstant) {
        while let Some(&(at, id)) = self.lapses.first()
            && at <= now
        {
            self.lapses.pop_first();
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.lapse = None;
            let state = entry.token.state();
            attempt::log_lapse(&entry.token.name, &state);
            entry.show(id, state.status(now), &self.owners, &self.metrics);
        }
    }
}

impl Entry {
    /// Shows the state that the token is in from now on: among its pool's counts, or in series of its own where it is
    /// whose they are. What comes back are those.
    fn show<'m>(
        &mut self,
        id: u64,
        now: Status,
        owners: &HashMap<String, u64>,
        metrics: &'m TokenMetrics,
    ) -> Option<&'m TokenMetrics> {
        if let Some((pool, status)) = &mut self.pool {
            pool.leave(std::mem::replace(status, now));
            pool.enter(now);
            return None;
        }
        let metrics = Some(metrics).filter(|_| owners.get(&self.token.name) == Some(&id))?;
        metrics.status(&self.token.name, now);
        Some(metrics)
    }

    /// When an attempt may start that someone asks for now.
    fn earliest(&self, now: BootInstant) -> BootInstant {
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

/// Runs a source's work within `bound`; a panic in it is an error like others.
async fn bounded<T>(bound: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(bound, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_panic)) => Err(Error::from(AttemptFault::Panicked)),
        Err(_elapsed) => Err(Error::from(AttemptFault::Stalled)),
    }
}
