//! What follows when an upstream refuses a token: one renewal, and not too often.
//!
//! Any number of requests may be refused at once, and an upstream may refuse whatever it is given. So those that were
//! refused the same token share one renewal, and a token that was had because of a refusal and is refused in its turn
//! makes the next one wait longer: [`MIN_REJECT_GAP`] at first, then twice as long each time, up to `retry.max`. While
//! renewals fail, the backoff plans them and a refusal asks for none. `handle` and `callers` keep these rules; the proxy
//! calls [`TokenHandle::reject`].

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::watch;

use crate::clock::{Moment, timeout_at};
use crate::oauth::{MAX_LIFETIME, refuses_token};
use crate::secret::Secret;

use super::handle::{Ask, TokenHandle};
use super::outcome::DPOP_SCHEME;
use super::state::{Credentials, TokenState};

/// What can be done about a token that an upstream has refused.
#[derive(Debug)]
pub enum Rejection {
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
pub struct Renewal {
    way: Way,
    refused: u64,
    deadline: Moment,
}

#[derive(Debug)]
enum Way {
    /// The renewer's; `seen` is how many attempts had ended when it was asked.
    Renewer { token: TokenHandle, seen: u64 },
    /// An exchange for one caller.
    Exchange(watch::Receiver<Option<TokenState>>),
}

impl Renewal {
    /// An exchange whose outcome `told` tells.
    pub(super) fn exchange(
        told: watch::Receiver<Option<TokenState>>,
        refused: u64,
        deadline: Moment,
    ) -> Self {
        Self { way: Way::Exchange(told), refused, deadline }
    }

    /// The new credentials, waited for up to `policy.wait`. `None`: the renewal failed, brought the same token again, or
    /// takes longer, and goes on then.
    pub async fn outcome(self) -> Option<Arc<Credentials>> {
        let Self { way, refused, deadline } = self;
        match way {
            Way::Renewer { token, seen } => renewed(&token, refused, seen, deadline).await,
            Way::Exchange(mut told) => {
                let told = timeout_at(deadline, told.wait_for(Option::is_some)).await.ok()?.ok()?;
                newer(told.as_ref()?, refused)
            }
        }
    }
}

async fn renewed(token: &TokenHandle, refused: u64, seen: u64, deadline: Moment) -> Option<Arc<Credentials>> {
    loop {
        let mut changed = pin!(token.changed());
        // Before the state is read, so that no change falls between the two.
        changed.as_mut().enable();
        {
            let state = token.load();
            if let Some(newer) = newer(&state, refused) {
                return Some(newer);
            }
            if state.attempts() != seen || token.is_retired() || Moment::now() >= deadline {
                return None;
            }
        }
        // Where the time runs out, the loop looks a last time.
        let _ = timeout_at(deadline, changed).await;
    }
}

/// The credentials of `state`, where they are usable and not the ones that were refused.
pub(super) fn newer(state: &TokenState, refused: u64) -> Option<Arc<Credentials>> {
    state.usable(Moment::now()).filter(|held| held.generation != refused).map(Arc::clone)
}

impl TokenHandle {
    /// Whether a 401 with these fields refuses the token that the request carried. It may ask for something else: other
    /// credentials, or more scope.
    #[must_use]
    pub fn is_refused_by(&self, answer: &HeaderMap) -> bool {
        let settings = self.settings();
        let bound = settings.server().is_some_and(|origin| origin.dpop.is_some());
        refuses_token(answer, if bound { DPOP_SCHEME } else { &settings.attachment.scheme })
    }

    /// An upstream has refused the credentials of this generation. Where others are held by now, they are given; else
    /// a renewal is asked for, where one is due. `caller` is the caller's own token where each has one of their own.
    ///
    /// The credentials stay in use: a refusal may be the upstream's mistake, and a renewal may fail.
    #[must_use]
    pub fn reject(&self, refused: u64, caller: Option<Secret<String>>) -> Rejection {
        let policy = &self.settings().policy;
        let now = Moment::now();
        let deadline = now + policy.wait.min(MAX_LIFETIME);
        if let Some(callers) = self.per_caller() {
            return match caller {
                Some(caller) => callers.reject(caller, refused, deadline),
                None => Rejection::NotNow,
            };
        }
        let state = self.load();
        self.note_rejected(refused, &state);
        if let Some(newer) = newer(&state, refused) {
            return Rejection::Newer(newer);
        }
        if state.last_error.is_some() {
            return Rejection::NotNow;
        }
        let seen = state.attempts();
        match self.refusals().judge(refused, seen, now, policy.retry.max) {
            Judgement::TooSoon => return Rejection::NotNow,
            Judgement::UnderWay => {}
            Judgement::Ask => {
                tracing::info!(token = self.name(), "an upstream refused the token; another is asked for");
                if !self.ask(Ask::Renew, &state) {
                    return Rejection::NotNow;
                }
            }
        }
        drop(state);
        let way = Way::Renewer { token: self.clone(), seen };
        Rejection::Asked(Renewal { way, refused, deadline })
    }

    /// An upstream took the credentials of this generation, which came because others were refused: what was wrong is
    /// mended, and the next refusal is another matter.
    pub fn accepted(&self, generation: u64, caller: Option<&Secret<String>>) {
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
}

#[derive(Debug)]
struct Asked {
    at: Moment,
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
    pub(super) fn judge(&mut self, refused: u64, seen: u64, now: Moment, longest: Duration) -> Judgement {
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

    /// The credentials that came because of the last refusal were taken.
    pub(super) fn mended(&mut self, generation: u64) {
        if let Some(last) = self.last.as_mut().filter(|last| last.refused != generation) {
            last.gap = MIN_REJECT_GAP;
            // What is refused next has nothing to do with it.
            last.refused = u64::MAX - 1;
        }
    }
}

/// Between two renewals of a token because it was refused. A renewal that mends nothing doubles it, up to `retry.max`.
pub const MIN_REJECT_GAP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use futures_util::future::{BoxFuture, join_all};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::sleep;

    use super::*;
    use crate::lifecycle::DrainTrigger;
    use crate::metrics::Metrics;
    use crate::oauth::{Error, ErrorKind};
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
        assert_eq!(bench.token.load().status(Moment::now()), Status::Valid);
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
    async fn the_rejection_of_an_old_token_costs_nothing_and_brings_the_new_one_at_once() {
        let bench = Bench::new().await;
        bench.token.renew().await.unwrap();
        let start = Moment::now();
        for _ in 0..100 {
            assert_eq!(bench.reject(1).await, Some(2));
        }
        assert_eq!((Moment::now(), bench.giver.count()), (start, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_refuses_every_token_brings_fewer_and_fewer_renewals() {
        let bench = Bench::new().await;
        let mut renewals = Vec::new();
        let start = Moment::now();
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
        for (kind, status) in [
            (ErrorKind::Dns, Status::Degraded),
            // Two witnesses: the upstream refuses the token, and the authorization server another one.
            (ErrorKind::TokenType, Status::Misconfigured),
            (ErrorKind::LoginRequired, Status::LoginRequired),
        ] {
            // One after the other, and both by the same chance: the backoff's pauses are random.
            fastrand::seed(7);
            let quiet = Bench::new().await;
            quiet.fail(Error::here(kind.clone()));
            assert!(quiet.token.renew().await.is_err());
            sleep(secs(300)).await;
            let alone = quiet.giver.count();
            drop(quiet);
            fastrand::seed(7);
            let bench = Bench::new().await;
            bench.fail(Error::here(kind.clone()));
            let got = join_all((0..100).map(|_| bench.reject(1))).await;
            assert!(got.iter().all(Option::is_none), "{kind:?}");
            assert_eq!(bench.giver.count(), 2, "{kind:?}");
            assert_eq!(bench.token.load().status(Moment::now()), status);
            assert_eq!(bench.token.wait().await.unwrap().generation, 1);
            // What the backoff does by itself in these five minutes, and no more.
            for _ in 0..3000 {
                assert_eq!(bench.reject(1).await, None);
                sleep(Duration::from_millis(100)).await;
            }
            let asked = bench.giver.count();
            assert!(asked.abs_diff(alone) <= 1 && asked <= 25, "{kind:?}: {asked}, and {alone} without");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_follows_a_refused_renewal_is_the_second_witness() {
        let bench = Bench::new().await;
        bench.fail(Error::here(ErrorKind::LoginRequired));
        assert!(bench.token.renew().await.is_err());
        let status = || bench.token.load().status(Moment::now());
        assert_eq!(status(), Status::Degraded);
        assert!(matches!(bench.token.load().advice(Moment::now()), Some(Advice::LogInBefore(_))));
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
        assert_eq!((status(), bench.token.load().advice(Moment::now())), (Status::Valid, None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_refuses_two_new_tokens_in_a_row_is_advised_about_until_it_accepts_one() {
        let bench = Bench::new().await;
        sleep(secs(60)).await;
        let advice = || bench.token.load().advice(Moment::now());
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
        let busy = Error::here(ErrorKind::Status(http::StatusCode::TOO_MANY_REQUESTS));
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
        renewal.deadline = Moment::now() + Duration::from_millis(100);
        assert!(renewal.outcome().await.is_none());
        sleep(secs(1)).await;
        assert_eq!(bench.reject(1).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_no_longer_renewed_is_not_waited_for() {
        let bench = Bench::new().await;
        let Rejection::Asked(renewal) = bench.token.reject(1, None) else { panic!("not asked") };
        bench.renewer.remove(&bench.token);
        let start = Moment::now();
        assert!(renewal.outcome().await.is_none());
        assert_eq!(bench.reject(1).await, None);
        assert_eq!(Moment::now(), start);
    }
}
