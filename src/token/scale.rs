//! A hundred thousand tokens in one renewer, on a paused clock: what their server sees of them.
//!
//! What they weigh is measured by `benches/renewals`, which has an allocator of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::renewer::tests::settings;
use super::{CONCURRENT_REQUESTS, Fetched, Limits, Renewer, RenewerHandle, Source, TokenHandle};
use crate::clock::{self, BootInstant};
use crate::lifecycle::DrainTrigger;
use crate::metrics::Metrics;
use crate::oauth::{Lifetime, TokenResponse, TransportFault};
use crate::secret::Secret;
use crate::token::error::Error;

/// A server that all tokens share. It answers in [`ANSWER`], and counts.
struct Server {
    down: AtomicBool,
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// Requests in each second since the start.
    start: BootInstant,
    seconds: Mutex<BTreeMap<u64, usize>>,
}

impl Server {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            down: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            start: BootInstant::now(),
            seconds: Mutex::default(),
        })
    }

    /// The requests since the last look: how many, the most in one second, and from the first to the last.
    fn look(&self) -> (usize, usize, u64) {
        let seconds = std::mem::take(&mut *self.seconds.lock().unwrap());
        let span = match (seconds.first_key_value(), seconds.last_key_value()) {
            (Some((first, _)), Some((last, _))) => last - first + 1,
            _ => 0,
        };
        (seconds.values().sum(), seconds.values().max().copied().unwrap_or(0), span)
    }
}

impl Source for Server {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async {
            *self.seconds.lock().unwrap().entry(self.start.elapsed().as_secs()).or_default() += 1;
            let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(under_way, Ordering::Relaxed);
            sleep(ANSWER).await;
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            if self.down.load(Ordering::Relaxed) {
                return Err(Error::from(TransportFault::Reset));
            }
            Ok(TokenResponse::bearer(Secret::new("t".to_owned()), Lifetime::ExpiresIn(LIFETIME)).into())
        })
    }
}

struct Crowd {
    server: Arc<Server>,
    tokens: Vec<TokenHandle>,
    renewer: RenewerHandle,
    metrics: Metrics,
    _trigger: DrainTrigger,
}

fn crowd() -> Crowd {
    let metrics = Metrics::new();
    let (trigger, drain) = DrainTrigger::new();
    let renewer = Renewer::spawn(Limits::default(), drain, &metrics);
    let (server, settings, pool) = (Server::new(), Arc::new(settings()), Arc::from("crowd"));
    let tokens = (0..TOKENS)
        .map(|n| renewer.add_to_pool(&pool, format!("{n}"), Arc::clone(&settings), server.clone()))
        .collect();
    Crowd { server, tokens, renewer, metrics, _trigger: trigger }
}

impl Crowd {
    fn usable(&self) -> usize {
        let now = BootInstant::now();
        self.tokens.iter().filter(|token| token.load().usable(now).is_some()).count()
    }

    /// How many the cap lets through: what must be asked for at once is asked for at this pace, and no faster.
    fn check_pace(&self, what: &str, least_span: u64) {
        let (calls, worst, span) = self.server.look();
        let most = self.server.most.load(Ordering::Relaxed);
        assert!(most <= CONCURRENT_REQUESTS, "{what}: {most} at once");
        assert!(worst <= PER_SECOND, "{what}: {worst} in one second");
        assert!(span >= least_span, "{what}: {calls} calls within {span} s");
        report(&format!("{what}: {calls} calls in {span} s, at worst {worst} in one second, {most} at once"));
    }
}

#[expect(clippy::print_stdout, reason = "figures, with --nocapture")]
fn report(line: &str) {
    println!("{line}");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_tokens_never_overrun_their_server() {
    fastrand::seed(1);
    let crowd = crowd();
    let at_the_cap = (TOKENS / PER_SECOND) as u64;

    // The start: all are due at once, and the cap alone paces them.
    sleep(Duration::from_secs(at_the_cap * 3)).await;
    assert_eq!(crowd.usable(), TOKENS);
    crowd.check_pace("after the start", at_the_cap);

    // An outage of three minutes, just when most are due: what they hold carries them through.
    sleep(Duration::from_mins(42).saturating_sub(Duration::from_secs(at_the_cap * 3))).await;
    crowd.server.look();
    crowd.server.down.store(true, Ordering::Relaxed);
    sleep(Duration::from_mins(3)).await;
    assert_eq!(crowd.usable(), TOKENS);
    crowd.check_pace("in an outage", 1);
    crowd.server.down.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(60 + at_the_cap * 3)).await;
    assert_eq!(crowd.usable(), TOKENS);
    crowd.check_pace("after the outage", at_the_cap);

    let text = crowd.metrics.render();
    assert!(text.contains(&format!(r#"cupbearer_token_state{{state="valid",token="crowd"}} {TOKENS}"#)));
    assert!(text.lines().count() < 100, "a pool has the series of one token");

    // The machine slept, and all have expired.
    clock::suspend(LIFETIME * 3);
    assert_eq!(crowd.usable(), 0);
    crowd.renewer.look_at_the_clock();
    // A token that is needed does not wait for the rest.
    let began = BootInstant::now();
    crowd.tokens[TOKENS - 1].wait().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    sleep(Duration::from_mins(1)).await;
    crowd.check_pace("in the first minute after a sleep", 60);
}

const TOKENS: usize = 100_000;

/// What a server takes for an answer.
const ANSWER: Duration = Duration::from_millis(100);

/// What the cap lets through in a second at that.
const PER_SECOND: usize = CONCURRENT_REQUESTS * 10;

const LIFETIME: Duration = Duration::from_hours(1);
