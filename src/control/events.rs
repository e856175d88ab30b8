//! The dashboard's live feed: server-sent events (HTML Living Standard section 9.2). The whole status at once and after
//! each change, what goes through the proxy each second, and nothing at all without a listener.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::history::{Event, MOST_TOKENS};
use super::metrics::{Totals, Traffic};
use super::server::{ControlState, status};
use super::status::{Status, Token};
use crate::clock;

/// The pages that listen, and the browsers that they are open in.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    browsers: Arc<Mutex<Vec<String>>>,
}

/// The place of one page, for as long as it listens.
#[derive(Debug)]
pub(super) struct Seat {
    _place: OwnedSemaphorePermit,
    name: String,
    browsers: Arc<Mutex<Vec<String>>>,
}

impl Default for Seats {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(MOST_LISTENERS)), browsers: Arc::default() }
    }
}

impl Seats {
    /// A place to listen from, for a page in `browser`; `None`: all are taken.
    pub(super) fn take(&self, browser: &str) -> Option<Seat> {
        let place = Arc::clone(&self.free).try_acquire_owned().ok()?;
        self.lock().push(browser.to_owned());
        Some(Seat { _place: place, name: browser.to_owned(), browsers: Arc::clone(&self.browsers) })
    }

    /// The browsers in which a page listens.
    pub(super) fn browsers(&self) -> BTreeSet<String> {
        self.lock().iter().filter(|browser| !browser.is_empty()).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.browsers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut browsers = self.browsers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = browsers.iter().position(|browser| *browser == self.name) {
            browsers.swap_remove(index);
        }
    }
}

/// What the page is told of the program.
#[derive(Clone, PartialEq, Serialize)]
struct Shown {
    status: Status,
    /// Tokens beyond those in `status`.
    more_tokens: usize,
    /// What became of each of them lately, in their order.
    history: Vec<Vec<Event>>,
}

/// A feed, between two of its events.
struct Feed {
    state: ControlState,
    _seat: Seat,
    /// What was told last, without what changes by itself.
    told: Option<Shown>,
    told_at: Instant,
    totals: Totals,
    counted_at: Instant,
    next_look: Instant,
}

/// The body of `GET /events`.
pub(super) fn body(
    state: ControlState,
    seat: Seat,
) -> StreamBody<impl Stream<Item = Result<Frame<Bytes>, Infallible>>> {
    let now = clock::now();
    let totals = Totals::read(&state.metrics);
    let feed = Feed { state, _seat: seat, told: None, told_at: now, totals, counted_at: now, next_look: now };
    StreamBody::new(unfold(feed, |mut feed| async move {
        let text = feed.next().await;
        Some((Ok(Frame::data(Bytes::from(text))), feed))
    }))
}

impl Feed {
    /// Waits for something to tell.
    async fn next(&mut self) -> String {
        loop {
            sleep_until(self.next_look).await;
            let now = clock::now();
            self.next_look = now + BETWEEN_LOOKS;
            let mut text = String::new();
            self.look(now, &mut text);
            self.count(now, &mut text);
            if !text.is_empty() {
                return text;
            }
        }
    }

    fn look(&mut self, now: Instant, text: &mut String) {
        let shown = self.shown();
        let lasting = shown.lasting();
        // Now and then without a change, too: the page's clock is put right, and a connection that is dead is noticed.
        if self.told.as_ref() == Some(&lasting) && now < self.told_at + SILENCE {
            return;
        }
        write(text, "status", &shown);
        (self.told, self.told_at) = (Some(lasting), now);
    }

    fn count(&mut self, now: Instant, text: &mut String) {
        let since = now.saturating_duration_since(self.counted_at);
        if since < BETWEEN_COUNTS {
            return;
        }
        let totals = Totals::read(&self.state.metrics);
        let traffic: Traffic = totals.since(&self.totals, since.as_secs_f64());
        write(text, "traffic", &traffic);
        (self.totals, self.counted_at) = (totals, now);
    }

    fn shown(&self) -> Shown {
        let status = status(&self.state, MOST_TOKENS);
        let more_tokens = self.state.registry.load().len().saturating_sub(status.tokens.len());
        let history = status.tokens.iter().map(|token| self.state.history.of(&token.name)).collect();
        Shown { status, more_tokens, history }
    }
}

impl Shown {
    /// The same without what time alone changes.
    fn lasting(&self) -> Self {
        let mut lasting = self.clone();
        lasting.status.uptime_seconds = 0;
        for token in &mut lasting.status.tokens {
            let Token { expires_in_seconds, next_attempt_in_seconds, login, .. } = token;
            *expires_in_seconds = None;
            // Whether one is planned, or is under way, is a change.
            *next_attempt_in_seconds = next_attempt_in_seconds.map(|left| left.min(1));
            if let Some(login) = login {
                login.expires_in_seconds = None;
            }
        }
        lasting
    }
}

fn write(text: &mut String, event: &str, data: &impl Serialize) {
    // Plain structs of text and numbers: they always serialise, and on one line.
    let data = serde_json::to_string(data).unwrap_or_default();
    text.push_str("event: ");
    text.push_str(event);
    text.push_str("\ndata: ");
    text.push_str(&data);
    text.push_str("\n\n");
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
const BETWEEN_COUNTS: Duration = Duration::from_secs(1);
/// The status is told again after this, changed or not.
const SILENCE: Duration = Duration::from_secs(15);
/// A person has few tabs; more are a mistake.
const MOST_LISTENERS: usize = 16;
