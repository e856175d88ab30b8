//! Single steps of a request's path, each as a closure that a benchmark calls over and over.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::clock::{self, BootInstant};
use crate::lifecycle::DrainTrigger;
use crate::metrics::Metrics;
use crate::oauth::{Dpop, Lifetime, SigningKey, TokenResponse};
use crate::proxy::{Attached, Guard, ProxyMetrics, Route, RouteTable, Upstream, UpstreamSettings, attach};
use crate::secret::{Secret, SecretSource};
use crate::token::Error;
use crate::token::{
    Attachment, Binding, Fetched, Limits, Origin, Policy, Renewer, Source, TokenHandle, TokenSettings,
    schedule,
};

/// A name, and what is measured.
pub type Step = (&'static str, Box<dyn FnMut()>);

/// All steps.
#[must_use]
pub fn steps() -> Vec<Step> {
    let mut steps = attaching();
    steps.extend(proving());
    steps.extend(routing());
    let policy = Policy::default();
    steps.push((
        "schedule a renewal",
        Box::new(move || {
            black_box(schedule::renew_after(black_box(Duration::from_hours(1)), &policy, black_box(0.5)));
        }),
    ));
    steps
}

/// A source that always has a token of a usual size.
struct Always;

impl Source for Always {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async {
            Ok(TokenResponse::bearer(
                Secret::new("t".repeat(900)),
                Lifetime::ExpiresIn(Duration::from_hours(1)),
            )
            .into())
        })
    }
}

fn settings() -> TokenSettings {
    TokenSettings {
        origin: Origin::Static(SecretSource::Env("NOT_READ".into())),
        attachment: Attachment { header: HeaderName::from_static("authorization"), scheme: "Bearer".into() },
        policy: Policy::default(),
        required: true,
        revoke_on_exit: false,
    }
}

/// A token that is held.
fn held(runtime: &tokio::runtime::Runtime) -> (TokenHandle, impl Drop + use<>) {
    runtime.block_on(async {
        let (trigger, drain) = DrainTrigger::new();
        let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
        let token = renewer.add("bench", settings(), Always);
        token.wait().await.expect("the source always has one");
        (token, Kept(Some((trigger, renewer))))
    })
}

struct Kept<T>(Option<T>);

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// The head of a small request as curl or a client library sends it.
fn head() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in [
        ("host", "127.0.0.1:8080"),
        ("user-agent", "curl/8.9.1"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("x-request-id", "0123456789abcdef"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn attaching() -> Vec<Step> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (token, kept) = held(&runtime);
    let now = BootInstant::now();
    let token = Arc::new((token, kept));
    let (mut headers, shared) = (head(), Arc::clone(&token));
    vec![
        (
            "attach, the header is there",
            Box::new(move || {
                let attached = attach(black_box(&mut headers), &shared.0, now);
                assert!(matches!(attached, Attached::Yes(_)));
            }),
        ),
        (
            "attach, with a head of its own",
            Box::new(move || {
                black_box(attach(&mut head(), &token.0, now));
            }),
        ),
        (
            "the clock",
            Box::new(|| {
                black_box(clock::now());
            }),
        ),
    ]
}

fn proving() -> Vec<Step> {
    let binding = Binding::new(Arc::new(Dpop::generate().expect("random bytes")), &"t".repeat(900));
    let key = SigningKey::generate().expect("random bytes");
    let message = [b'm'; 600];
    vec![
        (
            "a DPoP proof (ES256)",
            Box::new(move || {
                let target = ("https://api.example.com", black_box("/v1/orders/42"));
                binding.proof(&Method::GET, target.0, target.1).expect("a proof");
            }),
        ),
        (
            "a DPoP proof's signature alone",
            Box::new(move || {
                key.sign(black_box(&message)).expect("a signature");
            }),
        ),
    ]
}

fn routing() -> Vec<Step> {
    let upstream = UpstreamSettings::bare("http://127.0.0.1:1");
    let upstream = Arc::new(Upstream::new("api", upstream).expect("no TLS"));
    let routes: Vec<Route> = (0..20)
        .map(|n| Route {
            path: if n == 19 { "/".into() } else { format!("/v1/resource{n}") },
            upstream: "api".into(),
            unauthorized_status: vec![StatusCode::UNAUTHORIZED],
            replay_body_limit: 256 * 1024,
            ..Route::default()
        })
        .collect();
    let guard = Guard::default();
    let metrics = ProxyMetrics::new(&Metrics::new());
    let table =
        RouteTable::link(guard, &routes, vec![upstream], |_| None, &metrics).expect("all names are there");
    let table = Arc::new(table);
    [
        ("route, the first of 20", "/v1/resource0/42"),
        ("route, the last of 20", "/v2/other/42"),
        ("route, a path to be folded", "/v2/caf%C3%A9//42;v=1"),
    ]
    .map(|(name, path)| -> Step {
        let table = Arc::clone(&table);
        (
            name,
            Box::new(move || {
                assert!(table.label_for("127.0.0.1:8080", black_box(path), &Method::GET).is_some());
            }),
        )
    })
    .into()
}
