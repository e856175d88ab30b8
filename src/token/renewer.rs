//! The write side: one task that drives every token, from one to a hundred thousand.
//!
//! It keeps a queue of instants, starts token requests up to a cap, those that someone waits for first, and puts each
//! outcome into the token's state. It is the only writer, so it needs no lock. A source that hangs or panics costs its
//! own token one attempt and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::lifecycle::Drain;
use crate::metrics::Metrics;
use crate::traces::Traces;

use super::handle::{Command, Token, TokenHandle};
use super::metrics::TokenMetrics;
use super::settings::TokenSettings;
use super::source::Source;
use super::state::{Credentials, TokenState};
use super::subject_tokens::{Callers, Exchanges};

mod task;

use task::Task;

/// Starts the task that renews tokens.
#[derive(Debug)]
pub(crate) struct Renewer;

/// How much the renewer does at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
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
pub(crate) struct RenewerHandle {
    commands: mpsc::UnboundedSender<Command>,
    ids: Arc<AtomicU64>,
    exchanges: Arc<Exchanges>,
}

impl Renewer {
    /// Starts the task on the current runtime.
    ///
    /// It ends when `drain` starts or when the last [`RenewerHandle`] is gone; token requests under way are dropped
    /// then, and what waits for a token is told. Requests that are still being served need their tokens: `drain`
    /// is to start after the last of them has ended.
    #[must_use]
    pub(crate) fn spawn(limits: Limits, drain: Drain, metrics: &Metrics) -> RenewerHandle {
        Self::spawn_traced(limits, drain, metrics, Traces::off())
    }

    /// The same, with a span in `traces` for each token request.
    #[must_use]
    pub(crate) fn spawn_traced(
        limits: Limits,
        drain: Drain,
        metrics: &Metrics,
        traces: Traces,
    ) -> RenewerHandle {
        let (commands, inbox) = mpsc::unbounded_channel();
        let metrics = TokenMetrics::new(metrics);
        let exchanges = Arc::new(Exchanges::new(limits.concurrent, metrics.clone(), traces.clone()));
        tokio::spawn(Task::new(limits, metrics, traces).run(inbox, drain));
        RenewerHandle { commands, ids: Arc::default(), exchanges }
    }
}

impl RenewerHandle {
    /// Takes charge of a token and asks for it at once. One of the same name takes over its metrics.
    #[must_use]
    pub(crate) fn add(
        &self,
        name: impl Into<String>,
        settings: impl Into<Arc<TokenSettings>>,
        source: impl Source + 'static,
    ) -> TokenHandle {
        self.take(name.into(), settings.into(), Arc::new(source), None, None)
    }

    /// The same in the place of `held`, whose credentials are good until the first of its own are there: for where only the
    /// way to its server has changed. An authorization server that is down at that moment fails no request then.
    #[must_use]
    pub(crate) fn add_in_place_of(
        &self,
        held: &TokenHandle,
        settings: impl Into<Arc<TokenSettings>>,
        source: impl Source + 'static,
    ) -> TokenHandle {
        let credentials = held.load().credentials.clone();
        self.take(held.name().to_owned(), settings.into(), Arc::new(source), None, credentials)
    }

    /// The same for one of many: its metrics are `pool`'s, where each state shows how many tokens are in it. A hundred
    /// thousand tokens would else have a million series.
    #[must_use]
    #[cfg(any(test, feature = "benching"))]
    pub(crate) fn add_to_pool(
        &self,
        pool: &Arc<str>,
        name: impl Into<String>,
        settings: impl Into<Arc<TokenSettings>>,
        source: Arc<dyn Source>,
    ) -> TokenHandle {
        self.take(name.into(), settings.into(), source, Some(Arc::clone(pool)), None)
    }

    fn take(
        &self,
        name: String,
        settings: Arc<TokenSettings>,
        source: Arc<dyn Source>,
        pool: Option<Arc<str>>,
        credentials: Option<Arc<Credentials>>,
    ) -> TokenHandle {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let callers = settings.is_per_caller().then(|| {
            Callers::new(&name, Arc::clone(&settings), Arc::clone(&source), Arc::clone(&self.exchanges))
        });
        let token = Arc::new(Token::new(id, name, settings, callers, &*source, self.commands.downgrade()));
        if credentials.is_some() {
            token.publish(TokenState { credentials, ..TokenState::clone(&token.state()) });
        }
        if self.commands.send(Command::Add(Arc::clone(&token), source, pool)).is_err() {
            token.retire();
        }
        TokenHandle::new(token)
    }

    /// Lets go of a token. What its handles hold stays usable until it expires.
    pub(crate) fn remove(&self, token: &TokenHandle) {
        // An error says that the task has ended, and so has let go of all of them.
        let _ = self.commands.send(Command::Remove(token.id()));
    }

    /// Says that the clock has jumped (see [`ClockWatch`](crate::clock::ClockWatch)): the machine slept, or the wall
    /// clock was put forward. What is due by now starts now, and not when a timer ends that knows nothing of it.
    pub(crate) fn look_at_the_clock(&self) {
        // An error says that the task has ended.
        let _ = self.commands.send(Command::Look);
    }
}

/// Token requests under way at once: enough for a hundred tokens at start, and few enough for any server.
pub(crate) const CONCURRENT_REQUESTS: usize = 32;

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures_util::future::{BoxFuture, join_all};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::clock::{self, BootInstant, sleep_until};
    use crate::lifecycle::DrainTrigger;
    use crate::oauth::{ErrorKind, Lifetime, ResponseFault, TokenResponse, TransportFault};
    use crate::secret::Secret;
    use crate::token::error::{Error, LoginFault};
    use crate::token::schedule::MIN_RENEWAL_GAP;
    use crate::token::source::ServerId;
    use crate::token::{Attachment, Fetched, GrantSettings, Origin, Policy, RenewError, Status};

    type Play = Box<dyn FnMut(usize) -> Step + Send>;

    /// A source that does what the test says for each call, and remembers when it was called.
    #[derive(Default)]
    struct Script {
        calls: Mutex<Vec<BootInstant>>,
        under_way: AtomicUsize,
        most: AtomicUsize,
        step: Mutex<Option<Play>>,
        server: Option<ServerId>,
    }

    #[derive(Clone)]
    enum Step {
        Token { takes: Duration, lives: Duration },
        Fail { takes: Duration, error: Error, hold: Option<Duration> },
        Hang,
        Panic,
    }

    impl Script {
        fn new(step: impl FnMut(usize) -> Step + Send + 'static) -> Arc<Self> {
            let script = Self::default();
            script.play(step);
            Arc::new(script)
        }

        fn always(step: Step) -> Arc<Self> {
            Self::new(move |_| step.clone())
        }

        /// Another script from the next call on.
        fn play(&self, step: impl FnMut(usize) -> Step + Send + 'static) {
            *self.step.lock().unwrap() = Some(Box::new(step));
        }

        fn calls(&self) -> Vec<BootInstant> {
            self.calls.lock().unwrap().clone()
        }

        fn count(&self) -> usize {
            self.calls.lock().unwrap().len()
        }
    }

    impl Source for Script {
        fn server(&self) -> Option<ServerId> {
            self.server
        }

        fn patience(&self) -> Duration {
            secs(100)
        }

        fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
            let call = {
                let mut calls = self.calls.lock().unwrap();
                calls.push(BootInstant::now());
                calls.len()
            };
            let step = self.step.lock().unwrap().as_mut().unwrap()(call);
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(under_way, Ordering::SeqCst);
            Box::pin(async move {
                let outcome = match step {
                    Step::Token { takes, lives } => {
                        sleep(takes).await;
                        Ok(response(&format!("sentinel-{call}"), Lifetime::ExpiresIn(lives)))
                    }
                    Step::Fail { takes, error, hold } => {
                        sleep(takes).await;
                        Err(error.after(hold))
                    }
                    Step::Hang => std::future::pending().await,
                    Step::Panic => panic!("a defect on purpose"),
                };
                self.under_way.fetch_sub(1, Ordering::SeqCst);
                outcome.map(Fetched::from)
            })
        }
    }

    fn response(token: &str, lifetime: Lifetime) -> TokenResponse {
        TokenResponse::bearer(Secret::new(token.to_owned()), lifetime)
    }

    const HOUR: Duration = Duration::from_hours(1);
    const MOMENT: Duration = Duration::from_millis(10);

    fn hourly() -> Step {
        Step::Token { takes: MOMENT, lives: HOUR }
    }

    fn failing(error: impl Into<Error>) -> Step {
        Step::Fail { takes: MOMENT, error: error.into(), hold: None }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    pub(in crate::token) fn settings() -> TokenSettings {
        TokenSettings {
            origin: Origin::Server(Box::new(crate::token::source::tests::origin(
                GrantSettings::ClientCredentials,
            ))),
            attachment: Attachment { header: http::header::AUTHORIZATION, scheme: "Bearer".into() },
            policy: Policy::default(),
            required: true,
            revoke_on_exit: false,
        }
    }

    struct Bench {
        renewer: RenewerHandle,
        metrics: Metrics,
        trigger: DrainTrigger,
    }

    fn bench(concurrent: usize) -> Bench {
        let metrics = Metrics::new();
        let (trigger, drain) = DrainTrigger::new();
        Bench { renewer: Renewer::spawn(Limits { concurrent }, drain, &metrics), metrics, trigger }
    }

    impl Bench {
        fn add(&self, name: &str, source: &Arc<Script>) -> TokenHandle {
            self.renewer.add(name, settings(), Arc::clone(source))
        }
    }

    impl Bench {
        /// A token that readiness does not wait for.
        fn add_optional(&self, name: &str, source: &Arc<Script>) -> TokenHandle {
            self.renewer.add(name, TokenSettings { required: false, ..settings() }, Arc::clone(source))
        }
    }

    fn status(token: &TokenHandle) -> Status {
        token.load().status(BootInstant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_requests_without_a_token_make_one_token_request_and_all_succeed() {
        let bench = bench(32);
        let source = Script::always(Step::Token { takes: secs(3), lives: HOUR });
        let token = bench.add("api", &source);
        let start = BootInstant::now();
        let got = join_all((0..1000).map(|_| token.wait())).await;
        assert!(got.iter().all(|credentials| credentials.as_ref().unwrap().generation == 1));
        assert_eq!(source.count(), 1);
        assert_eq!((BootInstant::now() - start).as_secs(), 3);
        let value = &got[0].as_ref().unwrap().value;
        assert_eq!(value.to_str().unwrap(), "Bearer sentinel-1");
        assert!(value.is_sensitive());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_in_the_place_of_another_has_its_credentials_until_its_own_come() {
        let bench = bench(32);
        let held = bench.add("api", &Script::always(hourly()));
        assert_eq!(held.wait().await.unwrap().generation, 1);
        let down = Script::always(failing(TransportFault::Reset));
        let token = bench.renewer.add_in_place_of(&held, settings(), Arc::clone(&down));
        bench.renewer.remove(&held);
        assert_eq!((status(&token), token.wait().await.unwrap().generation), (Status::Valid, 1));
        sleep(secs(60)).await;
        assert_eq!((status(&token), token.wait().await.unwrap().generation), (Status::Degraded, 1));
        assert!(down.count() > 1);

        let up = Script::always(hourly());
        let next = bench.renewer.add_in_place_of(&token, settings(), Arc::clone(&up));
        sleep(secs(1)).await;
        // The script gives the same token again, so it is no newer one.
        assert_eq!((status(&next), next.wait().await.unwrap().generation, up.count()), (Status::Valid, 1, 1));
        sleep(HOUR + HOUR).await;
        assert_eq!(status(&token), Status::Expired, "a token without renewal expires");
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_error_reaches_all_who_wait_and_makes_no_storm() {
        let bench = bench(32);
        let source = Script::always(failing(ResponseFault::TokenType));
        let token = bench.add("api", &source);
        for got in join_all((0..1000).map(|_| token.wait())).await {
            let error = got.unwrap_err();
            assert_eq!(error.status, Status::Misconfigured);
            assert_eq!(error.cause.unwrap().cause(), "token_type");
        }
        let start = BootInstant::now();
        for _ in 0..100 {
            token.wait().await.unwrap_err();
        }
        assert_eq!((BootInstant::now() - start, source.count()), (Duration::ZERO, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_bounded_where_the_server_never_answers() {
        let bench = bench(32);
        let token = bench.add("api", &Script::always(Step::Hang));
        let start = BootInstant::now();
        let error = token.wait().await.unwrap_err();
        assert_eq!((error.status, error.cause), (Status::Pending, None));
        assert_eq!((BootInstant::now() - start).as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_back_within_the_wait_costs_the_first_requests_no_error() {
        let bench = bench(32);
        let source = Script::new(|call| if call <= 2 { failing(TransportFault::Reset) } else { hourly() });
        let token = bench.add("api", &source);
        sleep(MOMENT * 2).await;
        assert_eq!((source.count(), status(&token)), (1, Status::Pending));
        let got = join_all((0..100).map(|_| token.wait())).await;
        assert!(got.iter().all(Result::is_ok));
        assert_eq!(source.count(), 3, "those who wait leave the pace to the backoff");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_first_token_is_told_in_time_where_none_comes() {
        let bench = bench(32);
        let token = bench.add("down", &Script::always(failing(TransportFault::Dns)));
        let start = BootInstant::now();
        let error = token.wait().await.unwrap_err();
        assert!(BootInstant::now() - start <= secs(10));
        assert_eq!((error.status, error.cause.unwrap().cause()), (Status::Pending, "dns"));

        let hold = Some(secs(60));
        let busy = Script::always(Step::Fail { takes: MOMENT, error: TransportFault::Reset.into(), hold });
        let token = bench.add("held", &busy);
        sleep(MOMENT * 2).await;
        let start = BootInstant::now();
        assert!(token.wait().await.unwrap_err().retry_after >= secs(59));
        assert_eq!(BootInstant::now(), start, "the next attempt is after the wait");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_removed_after_a_failure_tells_those_who_wait() {
        let bench = bench(32);
        let token = bench.add("api", &Script::always(failing(TransportFault::Dns)));
        sleep(MOMENT * 2).await;
        let waiter = tokio::spawn({
            let token = token.clone();
            async move { token.wait().await }
        });
        tokio::task::yield_now().await;
        bench.renewer.remove(&token);
        let start = BootInstant::now();
        assert!(waiter.await.unwrap().is_err());
        assert_eq!(BootInstant::now(), start);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_in_its_window_and_none_is_ever_missing() {
        let bench = bench(32);
        let source = Script::always(Step::Token { takes: secs(2), lives: HOUR });
        let token = bench.add("api", &source);
        token.wait().await.unwrap();
        for _ in 0..24 * 360 {
            sleep(secs(10)).await;
            assert_eq!(status(&token), Status::Valid);
        }
        let calls = source.calls();
        assert!((31..=38).contains(&calls.len()), "{}", calls.len());
        for pair in calls.windows(2) {
            let after = (pair[1] - pair[0]).as_secs();
            assert!((39 * 60..=45 * 60).contains(&after), "{after}");
        }
        assert_eq!(token.load().credentials.as_ref().unwrap().generation, calls.len() as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn expiry_counts_from_before_the_request_was_sent() {
        let bench = bench(32);
        let start = BootInstant::now();
        let token = bench.add("api", &Script::always(Step::Token { takes: secs(7), lives: secs(100) }));
        let credentials = token.wait().await.unwrap();
        assert_eq!(credentials.expires_at, start + secs(100));
        assert_eq!(credentials.usable_until, start + secs(90));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_renewal_keeps_the_valid_token() {
        let bench = bench(32);
        let source = Script::new(|call| if call == 1 { hourly() } else { failing(TransportFault::Reset) });
        let token = bench.add("api", &source);
        let first = token.wait().await.unwrap();
        sleep(secs(3000)).await;
        assert!(source.count() > 1);
        assert_eq!(status(&token), Status::Degraded);
        assert!(Arc::ptr_eq(&first, &token.wait().await.unwrap()));
        assert_eq!(token.renew().await.unwrap_err(), RenewError::Failed(Error::from(TransportFault::Reset)));
        assert!(Arc::ptr_eq(&first, &token.wait().await.unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_bridged_until_real_expiry_then_said_at_once_and_recovered_from_alone() {
        let bench = bench(32);
        let source = Script::new(|call| if call == 1 { hourly() } else { failing(TransportFault::Dns) });
        let token = bench.add("api", &source);
        let first = token.wait().await.unwrap();
        sleep_until(first.usable_until - MOMENT).await;
        assert!(token.wait().await.is_ok());
        let last_try = *source.calls().last().unwrap();
        assert!(first.usable_until - last_try <= secs(4), "a last attempt is made just before the end");
        sleep(MOMENT * 2).await;
        let start = BootInstant::now();
        let error = token.wait().await.unwrap_err();
        assert_eq!((BootInstant::now() - start, error.status), (Duration::ZERO, Status::Expired));
        assert_eq!(error.cause.unwrap().cause(), "dns");
        assert!(error.retry_after >= secs(1) && error.retry_after <= secs(60));
        assert!(bench.metrics.render().contains(r#"cupbearer_token_state{state="expired",token="api"} 1"#));
        sleep(HOUR * 10).await;
        source.play(|_| hourly());
        let back = BootInstant::now();
        while status(&token) != Status::Valid {
            sleep(MOMENT).await;
        }
        assert!(BootInstant::now() - back <= secs(61));
    }

    #[tokio::test(start_paused = true)]
    async fn the_backoff_doubles_and_is_never_hot() {
        let bench = bench(32);
        let source = Script::always(Step::Fail {
            takes: Duration::ZERO,
            error: TransportFault::Dns.into(),
            hold: None,
        });
        let _token = bench.add_optional("api", &source);
        sleep(HOUR).await;
        let calls = source.calls();
        for (failures, pair) in (1_u32..).zip(calls.windows(2)) {
            let bound =
                secs(60).min(Duration::from_millis(500) * 2_u32.saturating_pow((failures - 1).min(10)));
            let gap = pair[1] - pair[0];
            assert!(gap >= Duration::from_millis(250) && gap <= bound + MOMENT, "{failures}: {gap:?}");
        }
        assert!((61..400).contains(&calls.len()), "{}", calls.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_starts_in_an_outage_has_its_token_seconds_after_the_server_is_back() {
        for minutes in [1, 10, 600] {
            let bench = bench(32);
            let source = Script::always(failing(TransportFault::Dns));
            let token = bench.add("api", &source);
            sleep(Duration::from_mins(minutes)).await;
            let calls = source.calls();
            let gaps = calls.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(gaps.clone().all(|gap| gap >= Duration::from_millis(250)), "{calls:?}");
            let late: Vec<Duration> = gaps.skip(calls.len() / 2).collect();
            assert!(late.iter().any(|gap| *gap != late[0]), "there is no jitter: {late:?}");
            source.play(|_| hourly());
            let back = BootInstant::now();
            while status(&token) != Status::Valid {
                sleep(MOMENT).await;
            }
            assert!(back.elapsed() <= secs(6), "{minutes}: {:?}", back.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_waits_for_its_first_token_keeps_to_retry_after() {
        let bench = bench(32);
        let busy = Error::from(ErrorKind::Status(http::StatusCode::SERVICE_UNAVAILABLE));
        let source = Script::always(Step::Fail { takes: MOMENT, error: busy, hold: Some(secs(90)) });
        let _token = bench.add("api", &source);
        sleep(secs(900)).await;
        let calls = source.calls();
        assert!((8..=10).contains(&calls.len()), "{calls:?}");
        assert!(calls.windows(2).all(|pair| pair[1] - pair[0] >= secs(90)), "{calls:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_holds_from_every_path_while_the_valid_token_goes_on() {
        let bench = bench(32);
        let busy = Error::from(ErrorKind::Status(http::StatusCode::TOO_MANY_REQUESTS));
        let source = Script::new(move |call| match call {
            2 => Step::Fail { takes: MOMENT, error: busy.clone(), hold: Some(secs(60)) },
            _ => hourly(),
        });
        let token = bench.add("api", &source);
        token.wait().await.unwrap();
        sleep(secs(2)).await;
        assert!(matches!(token.renew().await, Err(RenewError::Failed(_))));
        let held = BootInstant::now();
        for _ in 0..59 {
            sleep(secs(1)).await;
            let Err(RenewError::Held { left }) = token.renew().await else { panic!("not held") };
            assert!(left <= secs(60));
            token.wake();
            assert!(token.wait().await.is_ok());
        }
        assert_eq!(source.count(), 2);
        sleep(secs(3)).await;
        assert_eq!((source.count(), status(&token)), (3, Status::Valid));
        assert!(source.calls()[2] >= held + secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_misconfigured_is_tried_more_and_more_slowly_and_at_once_when_something_changed() {
        let bench = bench(32);
        let source = Script::always(failing(ResponseFault::TokenType));
        let token = bench.add("api", &source);
        sleep(HOUR).await;
        let calls = source.calls();
        assert_eq!(status(&token), Status::Misconfigured);
        assert!((61..400).contains(&calls.len()), "{}", calls.len());
        assert!(calls[1] - calls[0] <= secs(1), "what is refused at first may be a hiccup");
        let last: Vec<Duration> = calls.windows(2).skip(20).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            last.iter().all(|gap| *gap <= secs(61)) && last.iter().any(|gap| *gap != last[0]),
            "{last:?}"
        );
        token.wake();
        sleep(secs(2)).await;
        assert!(source.count() > calls.len());
        source.play(|_| hourly());
        token.wake();
        sleep(secs(2)).await;
        let count = source.count();
        assert_eq!(status(&token), Status::Valid);
        token.wake();
        sleep(secs(5)).await;
        assert_eq!(source.count(), count, "a token that is well is left alone");
    }

    #[tokio::test(start_paused = true)]
    async fn while_requests_wait_attempts_are_seconds_apart_and_one_serves_all() {
        let bench = bench(32);
        let source = Script::new(|call| if call == 1 { hourly() } else { failing(TransportFault::Dns) });
        let token = bench.add("api", &source);
        let first = token.wait().await.unwrap();
        // The outage begins long before the end: the backoff is at its bound by then.
        sleep_until(first.usable_until + MOMENT).await;
        let (start, before) = (BootInstant::now(), source.count());
        while start.elapsed() < secs(60) {
            let error = token.wait().await.unwrap_err();
            assert!(error.retry_after <= secs(5), "{error:?}");
            sleep(Duration::from_millis(50)).await;
        }
        let asked = source.count() - before;
        assert!((11..=60).contains(&asked), "{asked}");
        source.play(|_| hourly());
        let back = BootInstant::now();
        while token.wait().await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        assert!(back.elapsed() <= secs(6), "{:?}", back.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_after_a_quiet_time_starts_the_next_attempt_unless_the_server_wants_none() {
        for hold in [None, Some(secs(50))] {
            let bench = bench(32);
            let source =
                Script::always(Step::Fail { takes: MOMENT, error: TransportFault::Reset.into(), hold });
            let token = bench.add_optional("api", &source);
            loop {
                sleep(secs(1)).await;
                let state = token.load();
                let quiet = state.next_attempt.is_some_and(|at| at - BootInstant::now() > secs(20));
                if quiet && BootInstant::now() - state.last_error.as_ref().unwrap().at > secs(5) {
                    break;
                }
            }
            let before = source.count();
            token.wait().await.unwrap_err();
            sleep(MOMENT * 2).await;
            assert_eq!(source.count() - before, usize::from(hold.is_none()), "{hold:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_left_this_machine_is_no_failed_request() {
        let bench = bench(32);
        let source = Script::always(failing(LoginFault::Required));
        let token = bench.add("api", &source);
        sleep(secs(1)).await;
        token.wake();
        sleep(secs(2)).await;
        assert_eq!((source.count(), status(&token)), (2, Status::LoginRequired));
        assert_eq!((token.load().failures, token.load().last_error.as_ref().unwrap().in_a_row), (0, 0));
        let text = bench.metrics.render();
        assert!(text.contains(r#"cupbearer_token_renewals_total{result="refused",token="api"} 0"#), "{text}");
        assert!(text.contains(r#"cupbearer_token_state{state="login_required",token="api"} 1"#), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_during_an_attempt_is_tried_after_it() {
        let bench = bench(32);
        let source = Script::new(|call| match call {
            1 => Step::Fail { takes: secs(5), error: ResponseFault::TokenType.into(), hold: None },
            _ => hourly(),
        });
        let token = bench.add("api", &source);
        sleep(secs(2)).await;
        token.wake();
        sleep(secs(4)).await;
        assert_eq!(status(&token), Status::Valid);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_grant_is_not_tried_again_until_something_changed() {
        let bench = bench(32);
        let source = Script::always(failing(LoginFault::Required));
        let token = bench.add("api", &source);
        sleep(HOUR).await;
        assert_eq!((source.count(), status(&token)), (1, Status::LoginRequired));
        assert_eq!(token.wait().await.unwrap_err().status, Status::LoginRequired);
        source.play(|_| hourly());
        token.wake();
        sleep(secs(1)).await;
        assert_eq!(status(&token), Status::Valid);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_with_no_or_few_seconds_to_live_make_no_hot_loop() {
        for (lives, at_most) in
            [(Duration::ZERO, 61), (Duration::from_millis(300), 61), (secs(1), 61), (secs(3), 40)]
        {
            let bench = bench(32);
            let source = Script::always(Step::Token { takes: MOMENT, lives });
            let token = bench.add("api", &source);
            for _ in 0..600 {
                let _ = timeout(Duration::from_millis(100), token.wait()).await;
                sleep(Duration::from_millis(100)).await;
                if source.calls()[0] + secs(60) < BootInstant::now() {
                    break;
                }
            }
            assert!(source.count() <= at_most, "{lives:?}: {}", source.count());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_arrives_expired_is_a_failure_with_a_cause() {
        let bench = bench(32);
        let token = bench.add("api", &Script::always(Step::Token { takes: MOMENT, lives: Duration::ZERO }));
        let error = token.wait().await.unwrap_err();
        assert_eq!((error.status, error.cause.unwrap().cause()), (Status::Pending, "stale"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_token_of_several_that_fails_recovers_alone_and_delays_none() {
        let bench = bench(32);
        let broken = Script::new(|call| match call {
            1 => Step::Panic,
            2 => Step::Hang,
            3 => failing(TransportFault::Dns),
            _ => hourly(),
        });
        let bad = bench.add("bad", &broken);
        let good: Vec<TokenHandle> =
            (0..5).map(|n| bench.add(&format!("good-{n}"), &Script::always(hourly()))).collect();
        for token in &good {
            token.wait().await.unwrap();
        }
        assert_eq!(bad.wait().await.unwrap_err().cause.unwrap().cause(), "internal");
        sleep(secs(50)).await;
        assert_eq!(broken.count(), 2, "the one that hangs is left until its bound");
        sleep(secs(55)).await;
        assert_eq!(status(&bad), Status::Valid);
        assert!(good.iter().all(|token| status(token) == Status::Valid));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_forgotten_is_asked_for_again_only_when_someone_says_so() {
        let bench = bench(4);
        let source = Script::always(hourly());
        let token = bench.add("api", &source);
        token.wait().await.unwrap();
        token.forget().await.unwrap();
        assert_eq!((status(&token), source.count()), (Status::LoginRequired, 1));
        assert_eq!(token.wait().await.unwrap_err().cause.unwrap().cause(), "logged_out");
        sleep(HOUR * 3).await;
        assert_eq!(source.count(), 1);
        token.renew().await.unwrap();
        assert_eq!((status(&token), source.count()), (Status::Valid, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_forgotten_after_the_request_under_way_which_cannot_bring_it_back() {
        let bench = bench(4);
        let source = Script::always(Step::Token { takes: secs(3), lives: HOUR });
        let token = bench.add("api", &source);
        sleep(secs(1)).await;
        let start = BootInstant::now();
        token.forget().await.unwrap();
        assert!(start.elapsed() >= secs(2));
        assert_eq!(status(&token), Status::LoginRequired);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_slept_past_the_expiry_sends_no_dead_token_and_has_a_new_one_at_once() {
        let bench = bench(4);
        let source = Script::always(hourly());
        let token = bench.add("api", &source);
        let first = token.wait().await.unwrap();
        clock::suspend(HOUR * 8);
        assert!(
            token.load().usable(BootInstant::now()).is_none(),
            "the expiry is not noticed yet, and the token is not sent"
        );
        let second = token.wait().await.unwrap();
        assert_eq!((second.generation, source.count()), (first.generation + 1, 2));
        clock::suspend(HOUR * 8);
        bench.renewer.look_at_the_clock();
        sleep(secs(1)).await;
        assert_eq!((status(&token), source.count()), (Status::Valid, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_cap_holds_and_a_request_that_waits_overtakes() {
        let bench = bench(4);
        let source = Script::always(Step::Token { takes: secs(1), lives: HOUR });
        let tokens: Vec<TokenHandle> = (0..40).map(|n| bench.add(&n.to_string(), &source)).collect();
        tokio::task::yield_now().await;
        let start = BootInstant::now();
        tokens[39].wait().await.unwrap();
        assert!(BootInstant::now() - start <= secs(1) + MOMENT, "a slot is kept for those who wait");
        assert_eq!(status(&tokens[20]), Status::Pending);
        sleep(secs(13)).await;
        assert!(tokens.iter().all(|token| status(token) == Status::Valid));
        assert_eq!(source.most.load(Ordering::SeqCst), 4);
        assert_eq!(source.count(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_tokens_whose_server_hangs_delay_no_renewal_at_another() {
        let bench = bench(CONCURRENT_REQUESTS);
        let at = |server, step: Step| {
            let script = Script { server: Some(ServerId(server)), ..Script::default() };
            script.play(move |_| step.clone());
            Arc::new(script)
        };
        let (dead, well) = (at(1, Step::Hang), at(2, Step::Token { takes: MOMENT, lives: secs(60) }));
        let _held: Vec<TokenHandle> = (0..1000).map(|n| bench.add(&format!("dead-{n}"), &dead)).collect();
        let tokens: Vec<TokenHandle> = (0..50).map(|n| bench.add(&format!("well-{n}"), &well)).collect();
        for second in 1..=600 {
            sleep(secs(1)).await;
            for token in &tokens {
                assert_eq!(status(token), Status::Valid, "after {second} s: {}", token.name());
            }
        }
        // Those that hang have their turn, too, one after the other.
        assert!(dead.count() > 50, "{}", dead.count());
        bench.renewer.remove(&tokens[0]);
    }

    #[tokio::test(start_paused = true)]
    async fn many_tokens_whose_server_hangs_do_not_hold_up_one_whose_server_is_well() {
        let bench = bench(4);
        let dead = Script::always(Step::Hang);
        for n in 0..20 {
            let _token = bench.add(&n.to_string(), &dead);
        }
        // By now each has had its first attempt, and all are retried.
        sleep(secs(1200)).await;
        let source = Script::always(Step::Token { takes: MOMENT, lives: secs(60) });
        let token = bench.add("well", &source);
        token.wait().await.unwrap();
        for _ in 0..600 {
            sleep(secs(1)).await;
            assert_eq!(status(&token), Status::Valid);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_start_together_do_not_renew_together() {
        let bench = bench(100);
        let source = Script::always(hourly());
        let _tokens: Vec<TokenHandle> = (0..100).map(|n| bench.add(&n.to_string(), &source)).collect();
        sleep(secs(46 * 60)).await;
        let mut renewals = source.calls().split_off(100);
        renewals.sort();
        assert_eq!(renewals.len(), 100);
        assert!(renewals[99] - renewals[0] > secs(120));
        let most = renewals
            .iter()
            .map(|at| renewals.iter().filter(|other| **other >= *at && **other < *at + secs(5)).count());
        assert!(most.max().unwrap() < 20);
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_cancels_ends_only_its_own_request() {
        let bench = bench(32);
        let source = Script::always(Step::Token { takes: secs(3), lives: HOUR });
        let token = bench.add("api", &source);
        let patient = tokio::spawn({
            let token = token.clone();
            async move { token.wait().await }
        });
        let hasty = timeout(secs(1), token.wait()).await;
        assert!(hasty.is_err());
        assert!(patient.await.unwrap().is_ok());
        assert_eq!(source.count(), 1);
    }

    #[tokio::test]
    async fn requests_on_other_threads_are_told_too() {
        let bench = bench(32);
        let takes = Duration::from_millis(50);
        let source = Script::always(Step::Token { takes, lives: HOUR });
        let token = bench.add("api", &source);
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let token = token.clone();
                std::thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    let all = join_all((0..2500).map(|_| token.wait()));
                    runtime.block_on(all).into_iter().flatten().count()
                })
            })
            .collect();
        let served =
            tokio::task::spawn_blocking(|| workers.into_iter().map(|w| w.join().unwrap()).sum::<usize>());
        assert_eq!((served.await.unwrap(), source.count()), (10_000, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_sleep_past_expiry_the_first_request_gets_a_fresh_token() {
        let bench = bench(32);
        let source = Script::always(hourly());
        let token = bench.add("api", &source);
        token.wait().await.unwrap();
        tokio::time::advance(HOUR * 8).await;
        assert!(token.load().usable(BootInstant::now()).is_none());
        let credentials = token.wait().await.unwrap();
        assert_eq!((credentials.generation, source.count()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_for_a_renewal_together_share_one() {
        let bench = bench(32);
        let source = Script::always(hourly());
        let token = bench.add("api", &source);
        token.wait().await.unwrap();
        sleep(secs(5)).await;
        let got = join_all((0..100).map(|_| token.renew())).await;
        assert!(got.iter().all(Result::is_ok));
        assert_eq!(source.count(), 2);
        let start = BootInstant::now();
        token.renew().await.unwrap();
        assert!(BootInstant::now() - start + MOMENT * 2 >= MIN_RENEWAL_GAP, "they keep a gap");
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_says_how_long_a_token_lives_the_jwt_does_and_then_the_default() {
        struct Fixed(Lifetime);
        impl Source for Fixed {
            fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
                Box::pin(async { Ok(response("t", self.0).into()) })
            }
        }
        let bench = bench(32);
        let start = BootInstant::now();
        let exp = clock::wall() + secs(600);
        for (lifetime, want) in [
            (Lifetime::Unknown, Policy::default().default_lifetime.unwrap()),
            (Lifetime::ExpiresAt(exp), secs(600)),
            (Lifetime::ExpiresIn(crate::oauth::MAX_LIFETIME * 3), crate::oauth::MAX_LIFETIME),
        ] {
            let credentials = bench.renewer.add("api", settings(), Fixed(lifetime)).wait().await.unwrap();
            let got = credentials.expires_at - start;
            assert!(got <= want && got + secs(2) > want, "{got:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_removed_tells_those_who_wait_and_takes_its_metrics_along() {
        let bench = bench(32);
        let source = Script::always(Step::Hang);
        let token = bench.add("api", &source);
        let waiter = tokio::spawn({
            let token = token.clone();
            async move { token.wait().await }
        });
        sleep(secs(1)).await;
        bench.renewer.remove(&token);
        let start = BootInstant::now();
        assert!(waiter.await.unwrap().is_err());
        assert_eq!(token.renew().await, Err(RenewError::Retired));
        assert_eq!(BootInstant::now(), start);
        assert!(!bench.metrics.render().contains("api"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_hands_the_metrics_of_a_name_to_the_new_token() {
        let bench = bench(32);
        let old = bench.add("api", &Script::always(hourly()));
        old.wait().await.unwrap();
        let new = bench.add("api", &Script::always(hourly()));
        new.wait().await.unwrap();
        bench.renewer.remove(&old);
        sleep(MOMENT).await;
        assert!(bench.metrics.render().contains(r#"cupbearer_token_state{state="valid",token="api"} 1"#));
        assert_eq!(status(&old), Status::Valid, "what is held stays usable");
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_with_the_drain_and_tells_those_who_wait() {
        let bench = bench(32);
        let token = bench.add("api", &Script::always(Step::Hang));
        let waiter = tokio::spawn({
            let token = token.clone();
            async move { token.wait().await }
        });
        sleep(secs(1)).await;
        bench.trigger.start();
        bench.trigger.finished().await;
        assert!(waiter.await.unwrap().is_err());
        assert!(bench.add("late", &Script::always(hourly())).wait().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_with_its_last_handle() {
        let bench = bench(32);
        let token = bench.add("api", &Script::always(hourly()));
        token.wait().await.unwrap();
        drop(bench.renewer);
        bench.trigger.finished().await;
        assert_eq!(token.renew().await, Err(RenewError::Retired));
    }
}
