//! How many renewals a core can drive, and what a token weighs: tokens of the demo's authorization server, on real
//! sockets, and tokens without a server. Run with `cargo bench --bench renewals`.
//!
//! The server is a process of its own. The figure is renewals per second of this process' CPU time, which hardly depends
//! on what else the machine does: it is what one core can drive that has nothing else to do.
//! `CUPBEARER_TOKENS` says how many tokens, 100000 where it does not.

use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderName;

use crate::clock;
use crate::demo::{AuthorizationServer as Peer, Options};
use crate::lifecycle::DrainTrigger;
use crate::metrics::Metrics;
use crate::oauth::{AuthorizationServer, Lifetime, TokenResponse};
use crate::secret::{Secret, SecretSource};
use crate::token::{
    Attachment, CountedSource, Error, Fetched, Limits, Load, Origin, Policy, Renewer, ServerSource, Source,
    TokenHandle, TokenRegistry, TokenSettings, client_credentials,
};

/// Runs the benchmark, or with `--serve` the authorization server of one.
pub fn run() {
    if std::env::args().any(|word| word == SERVE) {
        serve();
        return;
    }
    let tokens = std::env::var("CUPBEARER_TOKENS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime().block_on(weigh(tokens));
    runtime().block_on(drive(tokens));
}

/// The authorization server, until the process that started it is gone.
fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(async {
        let options = Options { lifetime: Duration::from_hours(1), ..Options::default() };
        Peer::start(options).await.expect("an address")
    });
    println!("{}", server.token_endpoint());
    runtime.block_on(async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if std::os::unix::process::parent_id() == 1 {
                return;
            }
        }
    });
}

/// A source of tokens that weigh next to nothing.
struct Featherweight;

impl Source for Featherweight {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async { Ok(response()) })
    }
}

fn response() -> Fetched {
    TokenResponse::bearer(Secret::new("t".to_owned()), Lifetime::ExpiresIn(Duration::from_hours(1))).into()
}

async fn weigh(tokens: usize) {
    let source: Arc<dyn Source> = Arc::new(Featherweight);
    let mut held = Vec::with_capacity(tokens);
    let before = resident();
    let (_trigger, drain) = DrainTrigger::new();
    let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
    let (pool, settings) = (Arc::from("pool"), Arc::new(settings(Origin::Static(secret()))));
    for n in 0..tokens {
        held.push(renewer.add_to_pool(&pool, format!("{n:06}"), Arc::clone(&settings), Arc::clone(&source)));
    }
    all(&held).await;
    let each = resident().saturating_sub(before) / tokens;
    println!("memory: {each} bytes for each of {tokens} tokens held, beside the token itself");
}

async fn drive(tokens: usize) {
    let (mut peer, endpoint) = peer();
    let origin = client_credentials(&endpoint, "bench");
    let shared = Arc::new(AuthorizationServer::new(&origin.server).expect("no TLS"));
    let load = Load::default();
    let source = ServerSource::new(shared, origin.clone(), TokenRegistry::default());
    let source: Arc<dyn Source> = Arc::new(CountedSource::new(source, &load));
    let (_trigger, drain) = DrainTrigger::new();
    let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
    let (pool, settings) = (Arc::from("pool"), Arc::new(settings(Origin::Server(Box::new(origin)))));
    let (began, used) = (clock::now(), cpu_time());
    let held: Vec<TokenHandle> = (0..tokens)
        .map(|n| renewer.add_to_pool(&pool, format!("{n:06}"), Arc::clone(&settings), Arc::clone(&source)))
        .collect();
    all(&held).await;
    let (took, used) = (began.elapsed().as_secs_f64(), cpu_time().saturating_sub(used).as_secs_f64());
    println!(
        "renewals: {tokens} in {took:.1} s, {:.0} in a second; {:.0} in a second of one core",
        tokens as f64 / took,
        tokens as f64 / used
    );
    println!("at most {} token requests were under way at once", load.most());
    let _ = peer.kill();
    let _ = peer.wait();
}

/// Until each token is there. It looks rather than waits: a wait would bring each of them forward.
async fn all(tokens: &[TokenHandle]) {
    for token in tokens {
        while token.load().credentials.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn settings(origin: Origin) -> TokenSettings {
    TokenSettings {
        origin,
        attachment: Attachment { header: HeaderName::from_static("authorization"), scheme: "Bearer".into() },
        policy: Policy::default(),
        required: true,
        revoke_on_exit: false,
    }
}

fn secret() -> SecretSource {
    SecretSource::Inline(Secret::new("a secret of a usual length".to_owned()))
}

/// This program again, as the server, and where its token endpoint is.
fn peer() -> (Child, String) {
    let me = std::env::current_exe().expect("this program");
    let mut child = Command::new(me).arg(SERVE).stdout(Stdio::piped()).spawn().expect("this program starts");
    let mut line = String::new();
    let output = child.stdout.take().expect("it is piped");
    std::io::BufReader::new(output).read_line(&mut line).expect("the server says where it is");
    (child, line.trim().to_owned())
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = status.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number of pages");
    pages * PAGE
}

/// What this process has computed for.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// On every machine that this is measured on.
const PAGE: usize = 4096;

const SERVE: &str = "--serve";
