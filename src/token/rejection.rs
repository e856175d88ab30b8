//! What follows when an upstream refuses a token: one renewal, and not too often.
//!
//! Any number of requests may be refused at once, and an upstream may refuse whatever it is given. So those that were
//! refused the same token share one renewal, planned or not, and a token that was had because of a refusal and is refused
//! in its turn makes the next one wait longer: [`MIN_REJECT_GAP`] at first, then twice as long each time, up to
//! `retry.max`. While renewals fail, the backoff plans them and a refusal asks for none. The gap limits requests to the
//! authorization server alone: within it, the store is looked at for a newer token of another process. `handle` and
//! `callers` keep these rules; the proxy calls [`TokenHandle::reject`].

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::watch;

use crate::clock::{BootInstant, timeout_at};
use crate::oauth::{ChallengeVerdict, MAX_LIFETIME, challenge_verdict, demands_binding};
use crate::secret::Secret;

use super::attempt::DPOP_SCHEME;
use super::handle::{Ask, TokenHandle};
use super::state::{Credentials, TokenState};

/// What can be done about a token that an upstream has refused.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// Another one is held already.
    Newer(Arc<Credentials>),
    /// A new one is asked for.
    Asked(Renewal),
    /// Nothing now: it is too soon after the last time, renewals fail anyway, the authorization server wants to be left
    /// alone, or only a login helps.
    NotNow,
}

/// A renewal under way. Dropping it ends nothing but the wait.
#[derive(Debug)]
pub(crate) struct Renewal {
    way: Way,
    refused: u64,
    deadline: BootInstant,
}

#[derive(Debug)]
enum Way {
    /// The renewer's; `seen` is how many attempts had ended when it was asked, or joined.
    Renewer { token: TokenHandle, seen: u64, joined: bool },
    /// A look into the store, by its number.
    Look { token: TokenHandle, number: u64 },
    /// An exchange for one caller.
    Exchange(watch::Receiver<Option<TokenState>>),
}

impl Renewal {
    /// An exchange whose outcome `told` tells.
    pub(super) fn exchange(
        told: watch::Receiver<Option<TokenState>>,
        refused: u64,
        deadline: BootInstant,
    ) -> Self {
        Self { way: Way::Exchange(told), refused, deadline }
    }

    /// The new credentials, waited for up to `policy.wait`. `None`: the renewal failed, brought the same token again, or
    /// takes longer, and goes on then.
    pub(crate) async fn outcome(self) -> Option<Arc<Credentials>> {
        let Self { way, refused, deadline } = self;
        match way {
            Way::Renewer { token, seen, joined } => {
                let is_over = |state: &TokenState| {
                    state.attempts() != seen || joined && !token.activity().is_renewing()
                };
                renewed(&token, refused, deadline, is_over).await
            }
            Way::Look { token, number } => {
                let is_over = |_: &TokenState| token.activity().has_looked(number);
                let found = renewed(&token, refused, deadline, is_over).await;
                if found.is_none() {
                    token.refusals().looked_in_vain(BootInstant::now());
                }
                found
            }
            Way::Exchange(mut told) => {
                let told = timeout_at(deadline, told.wait_for(Option::is_some)).await.ok()?.ok()?;
                newer(told.as_ref()?, refused)
            }
        }
    }
}

/// Waits for other credentials than the refused ones, until that for which it waits `is_over`.
async fn renewed(
    token: &TokenHandle,
    refused: u64,
    deadline: BootInstant,
    is_over: impl Fn(&TokenState) -> bool,
) -> Option<Arc<Credentials>> {
    loop {
        let mut changed = pin!(token.changed());
        // Before the state is read, so that no change falls between the two.
        changed.as_mut().enable();
        {
            // Whether it is over is asked first: what came of it is in the state then.
            let before = token.load();
            let over = is_over(&before) || token.is_retired() || BootInstant::now() >= deadline;
            drop(before);
            if let Some(newer) = newer(&token.load(), refused) {
                return Some(newer);
            }
            if over {
                return None;
            }
        }
        // Where the time runs out, the loop looks a last time.
        let _ = timeout_at(deadline, changed).await;
    }
}

/// The credentials of `state`, where they are usable and not the ones that were refused.
pub(super) fn newer(state: &TokenState, refused: u64) -> Option<Arc<Credentials>> {
    state.usable(BootInstant::now()).filter(|held| held.generation != refused).map(Arc::clone)
}

impl TokenHandle {
    /// What a refusal with these fields says of the token that the request carried. It may demand something else: other
    /// credentials, or more scope.
    #[must_use]
    pub(crate) fn judge_refusal(&self, response: &HeaderMap) -> ChallengeVerdict {
        let settings = self.settings();
        challenge_verdict(response, if self.is_bound() { DPOP_SCHEME } else { &settings.attachment.scheme })
    }

    /// Whether a refusal with these fields asks for a token that is bound to a key, which this one is not.
    #[must_use]
    pub(crate) fn lacks_binding(&self, response: &HeaderMap) -> bool {
        !self.is_bound() && demands_binding(response)
    }

    fn is_bound(&self) -> bool {
        self.settings().server().is_some_and(|origin| origin.dpop.is_some())
    }

    /// An upstream has refused the credentials of this generation. Where others are held by now, they are given; else
    /// a renewal is asked for, where one is due. `caller` is the caller's own token where each has one of their own.
    ///
    /// The credentials stay in use: a refusal may be the upstream's mistake, and a renewal may fail.
    #[must_use]
    pub(crate) fn reject(&self, refused: u64, caller: Option<Secret<String>>) -> Rejection {
        let policy = &self.settings().policy;
        let now = BootInstant::now();
        let deadline = now + policy.wait.min(MAX_LIFETIME);
        if let Some(callers) = self.per_caller() {
            return match caller {
                Some(caller) => callers.reject(caller, refused, deadline),
                None => Rejection::NotNow,
            };
        }
        // Before the state is read: what ends between the two is seen there.
        let renewing = self.activity().is_renewing();
        let state = self.load();
        if let Some(newer) = newer(&state, refused) {
            let just_now = state.last_success.is_some_and(|at| now < at + REVOKED_WITHIN);
            if just_now && newer.generation == refused + 1 {
                self.has_revoked();
            }
            return Rejection::Newer(newer);
        }
        let seen = state.attempts();
        if renewing {
            if state.usable(now).is_some() {
                self.has_revoked();
            }
            drop(state);
            let way = Way::Renewer { token: self.clone(), seen, joined: true };
            return Rejection::Asked(Renewal { way, refused, deadline });
        }
        self.note_rejected(refused, &state);
        if state.last_error.is_some() {
            return self.look(&state, refused, now, deadline);
        }
        let judgement = self.refusals().judge(refused, seen, now, policy.retry.max);
        match judgement {
            Judgement::TooSoon => return self.look(&state, refused, now, deadline),
            Judgement::UnderWay => {}
            Judgement::Ask => {
                tracing::info!(token = self.name(), "an upstream refused the token; another is asked for");
                if !self.ask(Ask::Renew, &state) {
                    return Rejection::NotNow;
                }
            }
        }
        drop(state);
        let way = Way::Renewer { token: self.clone(), seen, joined: false };
        Rejection::Asked(Renewal { way, refused, deadline })
    }

    /// Has the store looked at where another process may have had a newer token; not again right after one that found
    /// nothing.
    fn look(&self, state: &TokenState, refused: u64, now: BootInstant, deadline: BootInstant) -> Rejection {
        if !self.activity().is_shared() || self.refusals().has_looked_lately(now) {
            return Rejection::NotNow;
        }
        let number = self.activity().want_look();
        if !self.ask(Ask::Look, state) {
            return Rejection::NotNow;
        }
        let way = Way::Look { token: self.clone(), number };
        Rejection::Asked(Renewal { way, refused, deadline })
    }

    /// Takes note that a refresh has ended the token of before, which was good by its own word.
    fn has_revoked(&self) {
        if self.activity().has_revoked() {
            tracing::info!(
                token = self.name(),
                "the authorization server ends the old token at each refresh; requests that cannot be sent again wait \
                 for one that is under way"
            );
        }
    }

    /// Whether the token held is likely to end at any moment: it is being refreshed at a server that was seen to end the
    /// old one then. This is on the way of a request.
    #[must_use]
    pub(crate) fn is_changing(&self) -> bool {
        self.activity().revokes() && self.activity().is_renewing()
    }

    /// Waits until it is not, for `LONGEST_CHANGE` at most. Where renewals fail, no request waits: the token held is good
    /// for as long as it lives.
    pub(crate) async fn settled(&self) {
        let deadline = BootInstant::now() + LONGEST_CHANGE;
        loop {
            let mut changed = pin!(self.changed());
            changed.as_mut().enable();
            let over =
                !self.is_changing() || self.load().last_error.is_some() || BootInstant::now() >= deadline;
            if over || timeout_at(deadline, changed).await.is_err() {
                return;
            }
        }
    }

    /// An upstream took the credentials of this generation, which came because others were refused: what was wrong is
    /// mended, and the next refusal is another matter.
    pub(crate) fn accepted(&self, generation: u64, caller: Option<&Secret<String>>) {
        match (self.per_caller(), caller) {
            (Some(callers), Some(caller)) => callers.accepted(caller, generation),
            (Some(_), None) => {}
            (None, _) => {
                self.refusals().mended(generation);
                self.note_accepted();
            }
        }
    }
}

/// When a token was last asked for because it was refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    last: Option<Asked>,
    /// When a look into the store found nothing newer.
    vain: Option<BootInstant>,
}

#[derive(Debug)]
struct Asked {
    at: BootInstant,
    /// Which generation had been refused.
    refused: u64,
    /// How many attempts had ended then.
    seen: u64,
    /// For how long there is no other renewal because of a refusal.
    gap: Duration,
}

/// Whether a refusal is worth a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Ask for it.
    Ask,
    /// It was asked for, and has not ended.
    UnderWay,
    /// Not yet.
    TooSoon,
}

impl Refusals {
    /// Judges the refusal of `refused` at `now`, and takes note where a renewal is to be asked for. `seen` is how many
    /// attempts have ended by now, `longest` the longest gap.
    pub(super) fn judge(
        &mut self,
        refused: u64,
        seen: u64,
        now: BootInstant,
        longest: Duration,
    ) -> Judgement {
        let mut gap = MIN_REJECT_GAP;
        if let Some(last) = &self.last {
            if now < last.at + last.gap {
                let same = last.refused == refused && last.seen == seen;
                return if same { Judgement::UnderWay } else { Judgement::TooSoon };
            }
            // The one that came because of it, or, where none came, the same again.
            if refused == last.refused || refused == last.refused + 1 {
                gap = last.gap.saturating_mul(2).min(longest.max(MIN_REJECT_GAP));
            }
        }
        self.last = Some(Asked { at: now, refused, seen, gap });
        Judgement::Ask
    }

    fn looked_in_vain(&mut self, now: BootInstant) {
        self.vain = Some(now);
    }

    fn has_looked_lately(&self, now: BootInstant) -> bool {
        self.vain.is_some_and(|at| now < at + LOOK_GAP)
    }

    /// The credentials that came because of the last refusal were taken.
    pub(super) fn mended(&mut self, generation: u64) {
        if let Some(last) = self.last.as_mut().filter(|last| last.refused != generation) {
            last.gap = MIN_REJECT_GAP;
            // What is refused next has nothing to do with it.
            last.refused = u64::MAX - 1;
        }
    }
}

/// Between two renewals of a token because it was refused. A renewal that does not help doubles it, up to `retry.max`.
pub(crate) const MIN_REJECT_GAP: Duration = Duration::from_secs(5);

/// Between a look into the store that found nothing newer and the next: an upstream that refuses whatever it is given
/// costs the disk no more.
const LOOK_GAP: Duration = Duration::from_millis(100);

/// A token that is refused so soon after its successor came was ended by it.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

/// How long a request that cannot be sent again waits for a refresh that is under way.
pub(super) const LONGEST_CHANGE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use futures_util::future::{BoxFuture, join_all};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::sleep;

    use super::*;
    use crate::lifecycle::DrainTrigger;
    use crate::metrics::Metrics;
    use crate::oauth::{ErrorKind, ResponseFault, TransportFault};
    use crate::token::error::{Error, LoginFault};
    use crate::token::renewer::tests::settings;
    use crate::token::source::tests::response;
    use crate::token::{Advice, Fetched, Limits, Renewer, RenewerHandle, Source, Status};

    const HOUR: Duration = Duration::from_hours(1);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Gives `t1`, `t2`, ... within half a second, or fails, or gives the same again.
    #[derive(Default)]
    struct Giver {
        calls: AtomicUsize,
        failing: Mutex<Option<Error>>,
        same: Mutex<bool>,
        /// Another process may share the store, and has put this token into it.
        shared: bool,
        stored: Mutex<Option<&'static str>>,
        looks: AtomicUsize,
    }

    impl Giver {
        fn count(&self) -> usize {
            self.calls.load(Ordering::SeqCst)
        }
    }

    impl Source for Giver {
        fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
            Box::pin(async {
                let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(Duration::from_millis(500)).await;
                if let Some(error) = self.failing.lock().unwrap().clone() {
                    return Err(error);
                }
                let name = if *self.same.lock().unwrap() { "t".to_owned() } else { format!("t{call}") };
                Ok(response(&name, HOUR).into())
            })
        }

        fn find_newer(&self) -> BoxFuture<'_, Option<Fetched>> {
            Box::pin(async {
                self.looks.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(200)).await;
                self.stored.lock().unwrap().take().map(|name| response(name, HOUR).into())
            })
        }

        fn is_shared(&self) -> bool {
            self.shared
        }
    }

    struct Bench {
        token: TokenHandle,
        giver: Arc<Giver>,
        renewer: RenewerHandle,
        _trigger: DrainTrigger,
    }

    impl Bench {
        /// A token that has been held for a minute.
        async fn new() -> Self {
            Self::giving(Giver::default()).await
        }

        async fn giving(giver: Giver) -> Self {
            let (trigger, drain) = DrainTrigger::new();
            let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
            let giver = Arc::new(giver);
            let token = renewer.add("api", settings(), Arc::clone(&giver));
            token.wait().await.unwrap();
            sleep(secs(60)).await;
            Self { token, giver, renewer, _trigger: trigger }
        }

        fn held(&self) -> u64 {
            self.token.load().credentials.as_ref().unwrap().generation
        }

        /// The generation that comes of it.
        async fn reject(&self, refused: u64) -> Option<u64> {
            match self.token.reject(refused, None) {
                Rejection::Newer(newer) => Some(newer.generation),
                Rejection::Asked(renewal) => renewal.outcome().await.map(|newer| newer.generation),
                Rejection::NotNow => None,
            }
        }

        fn fail(&self, error: Error) {
            *self.giver.failing.lock().unwrap() = Some(error);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_rejections_at_once_make_one_renewal() {
        let bench = Bench::new().await;
        let got = join_all((0..1000).map(|_| bench.reject(1))).await;
        assert!(got.iter().all(|generation| *generation == Some(2)));
        assert_eq!(bench.giver.count(), 2);
        assert_eq!(bench.token.load().status(BootInstant::now()), Status::Valid);
    }

    #[tokio::test]
    async fn rejections_on_other_threads_share_the_renewal() {
        let (trigger, drain) = DrainTrigger::new();
        let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
        let giver = Arc::new(Giver::default());
        let token = renewer.add("api", settings(), Arc::clone(&giver));
        token.wait().await.unwrap();
        let threads = (0..4).map(|_| {
            let token = token.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(join_all((0..50).map(|_| async {
                    match token.reject(1, None) {
                        Rejection::Newer(newer) => newer.generation,
                        Rejection::Asked(renewal) => renewal.outcome().await.unwrap().generation,
                        Rejection::NotNow => 0,
                    }
                })))
            })
        });
        let threads: Vec<_> = threads.collect();
        let got = tokio::task::spawn_blocking(|| {
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(got.await.unwrap().iter().all(|generation| *generation == 2));
        assert_eq!(giver.count(), 2);
        drop(trigger);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_joins_the_renewal_that_is_under_way_whatever_the_gap_says() {
        let bench = Bench::new().await;
        assert_eq!(bench.reject(1).await, Some(2));
        assert_eq!(bench.reject(2).await, None, "within the gap, and nothing is under way");
        let token = bench.token.clone();
        let planned = tokio::spawn(async move { token.renew().await });
        sleep(secs(1)).await;
        while !bench.token.activity().is_renewing() {
            sleep(Duration::from_millis(10)).await;
        }
        let got = join_all((0..100).map(|_| bench.reject(2))).await;
        assert!(got.iter().all(|generation| *generation == Some(3)), "{got:?}");
        planned.await.unwrap().unwrap();
        assert_eq!(bench.giver.count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_joins_a_renewal_that_fails_and_ends_with_it() {
        let bench = Bench::new().await;
        bench.fail(Error::from(TransportFault::Dns));
        assert_eq!(bench.reject(1).await, None);
        let token = bench.token.clone();
        tokio::spawn(async move { token.renew().await });
        while !bench.token.activity().is_renewing() {
            sleep(Duration::from_millis(10)).await;
        }
        let start = BootInstant::now();
        assert_eq!(bench.reject(1).await, None);
        assert!(start.elapsed() <= Duration::from_millis(500), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn within_the_gap_the_newer_token_of_another_process_is_found() {
        let bench = Bench::giving(Giver { shared: true, ..Giver::default() }).await;
        assert_eq!(bench.reject(1).await, Some(2));
        *bench.giver.stored.lock().unwrap() = Some("theirs");
        let got = join_all((0..100).map(|_| bench.reject(2))).await;
        assert!(got.iter().all(|generation| *generation == Some(3)), "{got:?}");
        assert_eq!(
            (bench.giver.count(), bench.giver.looks.load(Ordering::SeqCst)),
            (2, 1),
            "one look, no request"
        );
        // And while renewals fail.
        bench.fail(Error::from(TransportFault::Dns));
        assert!(bench.token.renew().await.is_err());
        *bench.giver.stored.lock().unwrap() = Some("theirs again");
        assert_eq!(bench.reject(3).await, Some(4));
        assert_eq!(bench.token.load().status(BootInstant::now()), Status::Valid);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_that_find_nothing_are_few_and_none_is_made_where_nobody_shares_the_store() {
        for shared in [true, false] {
            let bench = Bench::giving(Giver { shared, ..Giver::default() }).await;
            assert_eq!(bench.reject(1).await, Some(2));
            let start = BootInstant::now();
            while start.elapsed() < secs(3) {
                assert_eq!(bench.reject(2).await, None);
                sleep(Duration::from_millis(1)).await;
            }
            let looks = bench.giver.looks.load(Ordering::SeqCst);
            assert_eq!((2..=11).contains(&looks), shared, "{looks}");
            assert_eq!(bench.giver.count(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_during_a_look_is_done_after_it() {
        let bench = Bench::giving(Giver { shared: true, ..Giver::default() }).await;
        assert_eq!(bench.reject(1).await, Some(2));
        let looking = bench.token.reject(2, None);
        sleep(Duration::from_millis(50)).await;
        assert_eq!(bench.giver.looks.load(Ordering::SeqCst), 1);
        bench.token.renew().await.unwrap();
        assert_eq!(bench.held(), 3);
        let Rejection::Asked(looking) = looking else { panic!("{looking:?}") };
        assert_eq!(looking.outcome().await.map(|newer| newer.generation), Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_changes_brings_the_token_of_another_process_through_an_outage() {
        let bench = Bench::giving(Giver { shared: true, ..Giver::default() }).await;
        bench.fail(Error::from(TransportFault::Dns));
        assert!(bench.token.renew().await.is_err());
        let calls = bench.giver.count();
        bench.token.wake_by_store();
        sleep(Duration::from_millis(250)).await;
        assert_eq!(
            bench.token.load().status(BootInstant::now()),
            Status::Degraded,
            "it was this process' own change"
        );
        *bench.giver.stored.lock().unwrap() = Some("theirs");
        bench.token.wake_by_store();
        sleep(Duration::from_millis(250)).await;
        assert_eq!(bench.token.load().status(BootInstant::now()), Status::Valid);
        // The backoff may have tried once meanwhile.
        assert!(bench.giver.count() <= calls + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_ends_the_old_token_at_a_refresh_is_noticed_and_its_next_refresh_waited_for() {
        let bench = Bench::new().await;
        let renewing = |token: &TokenHandle| {
            let token = token.clone();
            tokio::spawn(async move { token.renew().await })
        };
        let first = renewing(&bench.token);
        sleep(Duration::from_millis(100)).await;
        assert!(!bench.token.is_changing(), "no change is known yet");
        assert_eq!(bench.reject(1).await, Some(2));
        first.await.unwrap().unwrap();
        sleep(secs(2)).await;
        assert!(!bench.token.is_changing());
        bench.token.settled().await;
        let second = renewing(&bench.token);
        sleep(Duration::from_millis(100)).await;
        assert!(bench.token.is_changing());
        bench.token.settled().await;
        assert_eq!(bench.held(), 3);
        second.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_rejection_of_an_old_token_costs_nothing_and_brings_the_new_one_at_once() {
        let bench = Bench::new().await;
        bench.token.renew().await.unwrap();
        let start = BootInstant::now();
        for _ in 0..100 {
            assert_eq!(bench.reject(1).await, Some(2));
        }
        assert_eq!((BootInstant::now(), bench.giver.count()), (start, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_refuses_every_token_brings_fewer_and_fewer_renewals() {
        let bench = Bench::new().await;
        let mut renewals = Vec::new();
        let start = BootInstant::now();
        while start.elapsed() < secs(300) {
            if bench.reject(bench.held()).await.is_some() {
                renewals.push(start.elapsed().as_secs());
            }
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(renewals, [0, 5, 15, 35, 75, 135, 195, 255], "retry.max is a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_taken_in_the_meantime_begins_with_the_shortest_gap_again() {
        let bench = Bench::new().await;
        for _ in 0..4 {
            assert!(bench.reject(bench.held()).await.is_some());
            sleep(secs(60)).await;
        }
        assert!(bench.reject(bench.held()).await.is_some());
        bench.token.accepted(bench.held(), None);
        assert_eq!(bench.reject(bench.held()).await, None, "the gap is kept");
        sleep(MIN_REJECT_GAP).await;
        assert!(bench.reject(bench.held()).await.is_some());
        sleep(MIN_REJECT_GAP).await;
        assert!(bench.reject(bench.held()).await.is_some());
        sleep(MIN_REJECT_GAP).await;
        assert_eq!(bench.reject(bench.held()).await, None, "twice as long: the one before mended nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_fails_keeps_the_token_and_the_backoff_plans_the_next() {
        for (error, status) in [
            (Error::from(TransportFault::Dns), Status::Degraded),
            // Two witnesses: the upstream refuses the token, and the authorization server another one.
            (ResponseFault::TokenType.into(), Status::Misconfigured),
            (LoginFault::Required.into(), Status::LoginRequired),
        ] {
            // One after the other, and both by the same chance: the backoff's pauses are random.
            fastrand::seed(7);
            let quiet = Bench::new().await;
            quiet.fail(error.clone());
            assert!(quiet.token.renew().await.is_err());
            sleep(secs(300)).await;
            let alone = quiet.giver.count();
            drop(quiet);
            fastrand::seed(7);
            let bench = Bench::new().await;
            bench.fail(error.clone());
            let got = join_all((0..100).map(|_| bench.reject(1))).await;
            assert!(got.iter().all(Option::is_none), "{error:?}");
            assert_eq!(bench.giver.count(), 2, "{error:?}");
            assert_eq!(bench.token.load().status(BootInstant::now()), status);
            assert_eq!(bench.token.wait().await.unwrap().generation, 1);
            // What the backoff does by itself in these five minutes, and no more.
            for _ in 0..3000 {
                assert_eq!(bench.reject(1).await, None);
                sleep(Duration::from_millis(100)).await;
            }
            let asked = bench.giver.count();
            assert!(asked.abs_diff(alone) <= 1 && asked <= 25, "{error:?}: {asked}, and {alone} without");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_follows_a_refused_renewal_is_the_second_witness() {
        let bench = Bench::new().await;
        bench.fail(Error::from(LoginFault::Required));
        assert!(bench.token.renew().await.is_err());
        let status = || bench.token.load().status(BootInstant::now());
        assert_eq!(status(), Status::Degraded);
        assert!(matches!(bench.token.load().advice(BootInstant::now()), Some(Advice::LogInBefore(_))));
        assert_eq!(bench.reject(1).await, None);
        tokio::task::yield_now().await;
        assert_eq!(status(), Status::LoginRequired);
        assert_eq!(
            bench.token.wait().await.unwrap().generation,
            1,
            "the API's own word reaches the application"
        );
        *bench.giver.failing.lock().unwrap() = None;
        bench.token.renew().await.unwrap();
        assert_eq!((status(), bench.token.load().advice(BootInstant::now())), (Status::Valid, None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_refuses_two_new_tokens_in_a_row_is_advised_about_until_it_accepts_one() {
        let bench = Bench::new().await;
        sleep(secs(60)).await;
        let advice = || bench.token.load().advice(BootInstant::now());
        // The first has worked for a while; the two that follow never did.
        for (held, advised) in [(1, false), (2, false), (3, true)] {
            assert_eq!(bench.held(), held);
            // It comes back with a newer one, which the next round refuses.
            let _newer = bench.reject(held).await;
            assert_eq!(advice(), None, "the newer one was not refused yet");
            if advised {
                break;
            }
            sleep(MIN_REJECT_GAP * (1 << held)).await;
        }
        assert_eq!(bench.reject(bench.held()).await, None, "too soon");
        tokio::task::yield_now().await;
        assert_eq!(advice(), Some(Advice::CheckAudience(3)));
        bench.token.accepted(bench.held(), None);
        tokio::task::yield_now().await;
        assert_eq!(advice(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_holds_whatever_is_rejected() {
        let bench = Bench::new().await;
        let busy = Error::from(ErrorKind::Status(http::StatusCode::TOO_MANY_REQUESTS));
        bench.fail(busy.after(Some(secs(120))));
        assert_eq!(bench.reject(1).await, None);
        *bench.giver.failing.lock().unwrap() = None;
        for _ in 0..110 {
            assert_eq!(bench.reject(1).await, None);
            sleep(secs(1)).await;
        }
        assert_eq!(bench.giver.count(), 2);
        sleep(secs(20)).await;
        assert_eq!(bench.reject(1).await, Some(2), "the backoff has had another by now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_gives_the_same_token_again_mends_nothing() {
        let bench = Bench::giving(Giver { same: Mutex::new(true), ..Giver::default() }).await;
        let got = join_all((0..10).map(|_| bench.reject(1))).await;
        assert!(got.iter().all(Option::is_none));
        assert_eq!((bench.held(), bench.giver.count()), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_takes_too_long_is_not_waited_for_and_goes_on() {
        let bench = Bench::new().await;
        let Rejection::Asked(mut renewal) = bench.token.reject(1, None) else { panic!("not asked") };
        renewal.deadline = BootInstant::now() + Duration::from_millis(100);
        assert!(renewal.outcome().await.is_none());
        sleep(secs(1)).await;
        assert_eq!(bench.reject(1).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_no_longer_renewed_is_not_waited_for() {
        let bench = Bench::new().await;
        let Rejection::Asked(renewal) = bench.token.reject(1, None) else { panic!("not asked") };
        bench.renewer.remove(&bench.token);
        let start = BootInstant::now();
        assert!(renewal.outcome().await.is_none());
        assert_eq!(bench.reject(1).await, None);
        assert_eq!(BootInstant::now(), start);
    }
}
