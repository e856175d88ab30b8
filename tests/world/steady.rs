//! A steady load: 20 requests a second, whatever became of those before, and the count of each status.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cupbearer_testing::clock;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use cupbearer_testing::Wire;

/// Between two requests.
const GAP: Duration = Duration::from_millis(50);
/// A request that takes longer counts as status 0. More than a proxy's `wait` for a first token.
const LONGEST: Duration = Duration::from_secs(14);

/// A load that is under way.
#[derive(Debug)]
pub(crate) struct Steady {
    start: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// One request: when it was sent, and the status of its response; 0: none came.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    status: u16,
}

/// What became of a load.
#[derive(Debug)]
pub(crate) struct Outcome(Vec<Sample>);

impl Steady {
    /// GET requests for these paths in turn, each on a connection of its own, to these proxies in turn.
    pub(crate) fn start(proxies: &[SocketAddr], paths: &[&str]) -> Self {
        let requests = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"));
        Self::sending(proxies, requests.collect(), GAP)
    }

    /// POST requests with a body of so many bytes, ten a second.
    pub(crate) fn uploads(proxies: &[SocketAddr], bytes: usize) -> Self {
        let head = format!("POST /upload HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {bytes}\r\n\r\n");
        Self::sending(proxies, vec![head + &"x".repeat(bytes)], GAP * 2)
    }

    fn sending(proxies: &[SocketAddr], requests: Vec<String>, gap: Duration) -> Self {
        let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (start, record, stopped) = (clock::now(), Arc::clone(&samples), Arc::clone(&stop));
        let (proxies, requests) = (proxies.to_vec(), Arc::new(requests));
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            let mut ticks = interval(gap);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for turn in 0.. {
                ticks.tick().await;
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (record, requests) = (Arc::clone(&record), Arc::clone(&requests));
                let (proxy, turn) = (proxies[turn % proxies.len()], turn / proxies.len());
                open.spawn(async move {
                    let at = start.elapsed();
                    let request = &requests[turn % requests.len()];
                    let status = timeout(LONGEST, status(proxy, request)).await.unwrap_or(0);
                    record.lock().unwrap().push(Sample { at, status });
                });
                while open.try_join_next().is_some() {}
            }
            while open.join_next().await.is_some() {}
        });
        Self { start, samples, stop, task }
    }

    /// How long it has been going on.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits for a second of successes among requests sent after `from`, at most for `longest` from then on.
    pub(crate) async fn until_good(&self, from: Duration, longest: Duration) {
        let good = || {
            let samples = self.samples.lock().unwrap();
            let last: Vec<u16> =
                samples.iter().filter(|s| s.at >= from).rev().take(20).map(|s| s.status).collect();
            last.len() == 20 && last.iter().all(|status| *status == 200)
        };
        while !good() && self.now() < from + longest {
            sleep(GAP).await;
        }
    }

    /// Waits for a request sent after `from` that does not get a 200, at most for `longest` from then on.
    pub(crate) async fn until_bad(&self, from: Duration, longest: Duration) {
        let bad = || self.samples.lock().unwrap().iter().any(|s| s.at >= from && s.status != 200);
        while !bad() && self.now() < from + longest {
            sleep(GAP).await;
        }
    }

    /// Ends it and waits for the responses that are outstanding.
    pub(crate) async fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let mut samples = self.samples.lock().unwrap().clone();
        samples.sort_by_key(|sample| sample.at);
        Outcome(samples)
    }
}

impl Outcome {
    /// How often each status came.
    pub(crate) fn counts(&self) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        for sample in &self.0 {
            *counts.entry(sample.status).or_default() += 1;
        }
        counts
    }

    /// For how long after `gone` requests were sent that did not get a 200.
    pub(crate) fn aftermath(&self, gone: Duration) -> Duration {
        let last = self.0.iter().rev().find(|sample| sample.status != 200);
        last.map_or(Duration::ZERO, |sample| sample.at.saturating_sub(gone))
    }

    /// How many of the requests sent after `from` got this status.
    pub(crate) fn since(&self, from: Duration, status: u16) -> usize {
        self.0.iter().filter(|sample| sample.at >= from && sample.status == status).count()
    }

    /// When the first request was sent that did not get a 200.
    pub(crate) fn first_failure(&self) -> Option<Duration> {
        self.0.iter().find(|sample| sample.status != 200).map(|sample| sample.at)
    }

    /// Prints a row: the event, the count of each status, and for how long after its cause requests failed.
    pub(crate) fn row(&self, event: &str, gone: Option<Duration>) {
        let counts: Vec<String> =
            self.counts().iter().map(|(status, count)| format!("{count} x {status}")).collect();
        let after =
            gone.map_or("-".to_owned(), |gone| format!("{:.1} s", self.aftermath(gone).as_secs_f64()));
        println!("| {event} | {} | {} | {after} |", self.0.len(), counts.join(", "));
    }
}

async fn status(proxy: SocketAddr, request: &str) -> u16 {
    let Ok(stream) = TcpStream::connect(proxy).await else { return 0 };
    let mut wire = Wire::new(stream);
    wire.send(request).await;
    let method = request.split(' ').next().unwrap_or_default();
    wire.response(method).await.map_or(0, |response| response.status())
}
