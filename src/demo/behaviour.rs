//! How the authorization server answers: as it should, or in one of the ways in which real ones fail.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

/// One way to answer a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// As the RFC says.
    #[default]
    Normal,
    /// As the RFC says, so much later.
    Delay(Duration),
    /// Takes the request and never answers.
    Stall,
    /// This answer instead of its own.
    Answer(ScriptedAnswer),
    /// These bytes on the connection, which then ends. They need not be HTTP.
    Raw(Bytes),
    /// 200, and so many bytes that are no JSON.
    Huge(u64),
    /// 200, and then a space so often, for ever.
    Drip(Duration),
    /// The connection is reset (RST) without an answer.
    Reset,
    /// The connection ends (FIN) without an answer.
    Close,
    /// 302 to this place.
    Redirect(String),
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScriptedAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields; Content-Type and Content-Length are not added.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Behaviour {
    /// A failure with a status, and a body in HTML as a gateway would send it.
    #[must_use]
    pub(crate) fn status(status: StatusCode) -> Self {
        let body = format!("<html><body><h1>{status}</h1></body></html>\n");
        Self::Answer(ScriptedAnswer::new(status, body).with("content-type", "text/html"))
    }

    /// A failure that asks for patience: seconds, or an HTTP date (RFC 9110 section 10.2.3).
    #[must_use]
    pub(crate) fn retry_after(status: StatusCode, retry_after: &str) -> Self {
        match Self::status(status) {
            Self::Answer(answer) => Self::Answer(answer.with("retry-after", retry_after)),
            other => other,
        }
    }

    /// An error answer as RFC 6749 section 5.2 has it.
    #[must_use]
    pub(crate) fn oauth_error(status: StatusCode, error: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": error }))
    }

    /// This JSON instead of a token response.
    #[must_use]
    pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        let answer = ScriptedAnswer::new(status, body.to_string());
        Self::Answer(answer.with("content-type", "application/json").with("cache-control", "no-store"))
    }

    /// One word for it.
    #[must_use]
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Delay(_) => "delay",
            Self::Stall => "stall",
            Self::Answer(_) => "answer",
            Self::Raw(_) => "raw",
            Self::Huge(_) => "huge",
            Self::Drip(_) => "drip",
            Self::Reset => "reset",
            Self::Close => "close",
            Self::Redirect(_) => "redirect",
        }
    }

    /// The status that it answers with, where that is part of it.
    #[must_use]
    pub(crate) const fn answers_with(&self) -> Option<StatusCode> {
        match self {
            Self::Answer(answer) => Some(answer.status),
            Self::Redirect(_) => Some(StatusCode::FOUND),
            Self::Huge(_) | Self::Drip(_) => Some(StatusCode::OK),
            Self::Normal | Self::Delay(_) | Self::Stall | Self::Raw(_) | Self::Reset | Self::Close => None,
        }
    }
}

impl ScriptedAnswer {
    /// An answer without fields.
    pub(crate) fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: HeaderMap::new(), body: body.into() }
    }

    /// The same with one more field.
    ///
    /// # Panics
    /// Where name or value are no HTTP: a script is written by hand.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = value.parse().expect("a scripted field value is HTTP");
        self.headers.append(name, value);
        self
    }
}

/// What the next requests meet: first the scripted answers, one each, then what holds until further notice.
#[derive(Debug, Default)]
pub(super) struct Script(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    next: VecDeque<Behaviour>,
    standing: Behaviour,
    until: Option<Instant>,
}

impl Script {
    /// Until further notice.
    pub(super) fn behave(&self, behaviour: Behaviour) {
        self.with(|lines| (lines.standing, lines.until) = (behaviour, None));
    }

    /// Until then.
    pub(super) fn behave_until(&self, behaviour: Behaviour, until: Instant) {
        self.with(|lines| (lines.standing, lines.until) = (behaviour, Some(until)));
    }

    /// One request each, after those that are already waiting.
    pub(super) fn push(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.with(|lines| lines.next.extend(behaviours));
    }

    /// Back to normal.
    pub(super) fn heal(&self) {
        self.with(|lines| *lines = Lines::default());
    }

    /// What the request that came at `now` meets.
    pub(super) fn take(&self, now: Instant) -> Behaviour {
        self.with(|lines| {
            if lines.until.is_some_and(|until| until <= now) {
                (lines.standing, lines.until) = (Behaviour::Normal, None);
            }
            lines.next.pop_front().unwrap_or_else(|| lines.standing.clone())
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Lines) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn scripted_answers_come_first_then_what_holds() {
        let script = Script::default();
        script.behave(Behaviour::Close);
        script.push([Behaviour::Reset, Behaviour::Stall]);
        let taken: Vec<_> = (0..4).map(|_| script.take(clock::now()).name()).collect();
        assert_eq!(taken, ["reset", "stall", "close", "close"]);
        script.heal();
        assert_eq!(script.take(clock::now()), Behaviour::Normal);
    }

    #[tokio::test(start_paused = true)]
    async fn what_holds_for_a_time_ends_by_itself() {
        let script = Script::default();
        script.behave_until(Behaviour::Stall, clock::now() + Duration::from_secs(5));
        assert_eq!(script.take(clock::now()), Behaviour::Stall);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(script.take(clock::now()), Behaviour::Normal);
    }
}
