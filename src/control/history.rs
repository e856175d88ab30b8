//! What became of each token lately: its renewals and failures, as the dashboard draws them.
//!
//! It is gathered by looking once a second, so that tokens pay nothing for it: of several renewals within one second it
//! knows the last.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::clock::{self, BootInstant};
use crate::token::{TokenHandle, TokenRegistry};

/// Something that became of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    /// When, in seconds since 1970.
    pub at: u64,
    /// `renewed`, `adopted`, `failed`, `unsent` (it ended before a request was sent) or `logged_out`.
    pub kind: String,
    /// Why it failed: one word of a closed set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Why it failed: a sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The events of the first [`MOST_TOKENS`] tokens. Shared by clone.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    tokens: Arc<Mutex<BTreeMap<String, Lately>>>,
}

#[derive(Debug, Default)]
struct Lately {
    renewals: u64,
    adoptions: u64,
    failed_at: Option<BootInstant>,
    events: VecDeque<Event>,
}

impl History {
    /// Looks once a second, until it is dropped.
    pub(super) async fn observe(&self, registry: &TokenRegistry) {
        let mut looks = tokio::time::interval(BETWEEN_LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.look(registry);
        }
    }

    fn look(&self, registry: &TokenRegistry) {
        let handles = registry.load();
        let mut tokens = self.lock();
        tokens.retain(|name, _| handles.contains_key(name));
        for handle in handles.values().take(MOST_TOKENS) {
            tokens.entry(handle.name().to_owned()).or_default().look(handle);
        }
    }

    /// What became of this token, the oldest first.
    pub(super) fn of(&self, token: &str) -> Vec<Event> {
        self.lock().get(token).map(|lately| lately.events.iter().cloned().collect()).unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Lately>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lately {
    fn look(&mut self, handle: &TokenHandle) {
        let state = handle.load();
        // Fewer than before: a reload made another token of this name.
        if state.renewals < self.renewals || state.adoptions < self.adoptions {
            (self.renewals, self.adoptions, self.failed_at) = (0, 0, None);
        }
        let failed_at = state.last_error.as_ref().map(|failure| failure.at);
        if let Some(failure) = state.last_error.as_ref().filter(|_| failed_at != self.failed_at) {
            let kind = match &failure.error {
                error if error.is_logged_out() => "logged_out",
                error if error.is_counted() => "failed",
                _ => "unsent",
            };
            self.push(Event {
                at: unix(failure.at),
                kind: kind.to_owned(),
                cause: Some(failure.error.cause().to_owned()),
                message: Some(failure.to_string()),
            });
        }
        let kind = match &*state {
            state if state.renewals > self.renewals => Some("renewed"),
            state if state.adoptions > self.adoptions => Some("adopted"),
            _ => None,
        };
        if let (Some(at), Some(kind)) = (state.last_success, kind) {
            self.push(Event { at: unix(at), kind: kind.to_owned(), cause: None, message: None });
        }
        (self.renewals, self.adoptions, self.failed_at) = (state.renewals, state.adoptions, failed_at);
    }

    fn push(&mut self, event: Event) {
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

fn unix(at: BootInstant) -> u64 {
    clock::wall_at(at).duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Timelines of more tokens are not looked at.
pub(super) const MOST_TOKENS: usize = 100;
const MOST_EVENTS: usize = 50;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::{BoxFuture, ready};

    use super::*;
    use crate::lifecycle::DrainTrigger;
    use crate::metrics::Metrics;
    use crate::oauth::{Lifetime, RequestFault, TokenResponse, TransportFault};
    use crate::secret::{Secret, SecretSource};
    use crate::token::Error;
    use crate::token::{Attachment, Fetched, Limits, Origin, Policy, Renewer, Source, TokenSettings};

    /// One outcome of each kind, one a call.
    #[derive(Default)]
    struct Scripted(AtomicUsize);

    impl Source for Scripted {
        fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
            let call = self.0.fetch_add(1, Ordering::SeqCst);
            let response = TokenResponse::bearer(
                Secret::new(format!("token-{call}")),
                Lifetime::ExpiresIn(Duration::from_hours(1)),
            );
            let outcome = match call {
                0 => Ok(Fetched { adopted: true, ..response.into() }),
                1 => Ok(response.into()),
                2 => Err(Error::from(RequestFault::ShortSecret)),
                _ => Err(Error::from(TransportFault::Reset)),
            };
            ready(outcome).boxed()
        }
    }

    #[tokio::test]
    async fn the_timeline_tells_requests_that_failed_from_attempts_that_sent_none() {
        let (_trigger, drain) = DrainTrigger::new();
        let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
        let policy = Policy::default();
        let settings = TokenSettings {
            origin: Origin::Static(SecretSource::Env("NOT_READ".into())),
            attachment: Attachment { header: http::header::AUTHORIZATION, scheme: "Bearer".to_owned() },
            policy: Policy {
                retry: crate::token::Backoff { initial: policy.retry.max, ..policy.retry },
                ..policy
            },
            required: true,
            revoke_on_exit: false,
        };
        let handle = renewer.add("api", settings, Scripted::default());
        handle.wait().await.unwrap();
        let mut lately = Lately::default();
        lately.look(&handle);
        for _ in 0..3 {
            // What it comes to is in the state.
            let _ = handle.renew().await;
            lately.look(&handle);
        }
        let kinds: Vec<_> = lately.events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["adopted", "renewed", "unsent", "failed"]);
    }
}
