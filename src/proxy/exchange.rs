//! One request and its answer, for those who count: begins with the head, ends with the answer's last byte.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::error::ProxyError;
use super::head::size_of_fields;
use super::memory::{self, Charge, Room};
use super::metrics::{Aborted, Meter, RouteMetrics};
use super::record::{Answerer, Record};
use super::timing::Timing;
use super::trace::Tracing;
use super::watch::Busy;
use crate::clock;

/// Ends when it is dropped, whichever way that comes about: sent, broken off, or the application gone.
#[derive(Debug)]
pub(super) struct Exchange {
    metrics: Arc<RouteMetrics>,
    started: Instant,
    /// The connection is not idle while this lives.
    busy: Busy,
    record: Option<Box<Record>>,
    /// Its place among those that its route lets through at a time.
    slot: Option<OwnedSemaphorePermit>,
    /// Whether its answer's head is all of it (RFC 9110 section 9.3.2).
    has_no_body: bool,
    /// Why it is counted as aborted if it ends now; `None`: its answer has come to its end.
    aborted: Option<Aborted>,
    /// What it costs in memory.
    charge: Option<Charge>,
    timing: Timing,
    /// Whether the head of its response is known.
    is_answered: bool,
    /// Since when its response's body waits for the upstream; `None`: it does not.
    stalled: Option<Instant>,
}

impl Exchange {
    pub(super) fn begin(
        metrics: Arc<RouteMetrics>,
        started: Instant,
        busy: Busy,
        parts: &Parts,
        record: Option<Box<Record>>,
    ) -> Self {
        metrics.begun();
        let has_no_body = parts.method == Method::HEAD;
        let aborted = Some(Aborted::Application);
        Self {
            metrics,
            started,
            busy,
            record,
            slot: None,
            has_no_body,
            aborted,
            charge: None,
            timing: Timing::default(),
            is_answered: false,
            stalled: None,
        }
    }

    /// Keeps a place among those that the route lets through at a time until this ends.
    pub(super) fn hold(&mut self, slot: Option<OwnedSemaphorePermit>) {
        self.slot = slot;
    }

    /// Takes its part of the memory, with that of its decoded head, until this ends.
    ///
    /// # Errors
    /// [`ProxyError::MemoryLimit`] where there is no room.
    pub(super) fn take_room(&mut self, parts: &Parts) -> Result<(), ProxyError> {
        let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
        let Room::Taken(charge) = memory::request(target + size_of_fields(&parts.headers)) else {
            return Err(ProxyError::MemoryLimit);
        };
        self.charge = charge;
        Ok(())
    }

    /// Its place in its trace, where its spans are recorded.
    pub(super) fn tracing(&self) -> Option<&Tracing> {
        self.record.as_ref()?.tracing()
    }

    /// How long it waits for others.
    pub(super) const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// What is counted of its route.
    pub(super) fn metrics(&self) -> &RouteMetrics {
        &self.metrics
    }

    /// Counts the bytes that come from the application.
    pub(super) fn received(&self) -> Meter {
        self.metrics.received(self.record.as_ref().map(|record| record.received()))
    }

    /// Counts the bytes that go to the application, of a tunnel.
    pub(super) fn given(&self) -> Meter {
        self.metrics.given(self.record.as_ref().map(|record| record.given()))
    }

    /// So many bytes of the response's body are on their way.
    pub(super) fn gave(&self, bytes: usize) {
        if bytes > 0 {
            self.metrics.gave(bytes);
            if let Some(record) = &self.record {
                record.passed(bytes);
            }
        }
    }

    /// Whether the response's body waits for the upstream from now on.
    pub(super) fn stalls(&mut self, stalls: bool) {
        match (stalls, self.stalled) {
            (true, None) => self.stalled = Some(clock::now()),
            (false, Some(since)) => {
                self.timing.waited_for_body(clock::now().saturating_duration_since(since));
                self.stalled = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// The record, to say more.
    pub(super) fn record_mut(&mut self) -> Option<&mut Record> {
        self.record.as_deref_mut()
    }

    /// The answer's head is known.
    pub(super) fn answered(&mut self, status: StatusCode, by: Answerer) {
        let took = clock::now().saturating_duration_since(self.started);
        self.is_answered = true;
        self.metrics.answered(status);
        self.metrics.worked(took.saturating_sub(self.timing.waited()));
        self.busy.answered();
        if let Some(record) = &mut self.record {
            record.answered(status, by, took);
        }
    }

    /// Whether the next part of the answer has to wait until what is before it was written; then the connection's task is
    /// woken.
    pub(super) fn withholds(&self) -> bool {
        self.busy.withholds()
    }

    /// The application asked for more of the answer: whether there was more to give.
    pub(super) fn asked(&self, given: bool) {
        self.busy.asked(given);
    }

    /// Whether its answer's head is all of it.
    pub(super) const fn has_no_body(&self) -> bool {
        self.has_no_body
    }

    /// The answer has come to its end. Without a client there is none.
    pub(super) fn completed(&mut self) {
        if !self.is_answered {
            return;
        }
        self.aborted = None;
        if let Some(record) = &mut self.record {
            record.completed();
        }
    }

    /// The upstream broke off in the middle of the answer.
    pub(super) fn broken(&mut self) {
        self.aborted = Some(Aborted::Upstream);
        if let Some(record) = &mut self.record {
            record.broken();
        }
    }

    /// The tunnel that it became was cut, by either side.
    pub(super) fn tunnel_cut(&mut self) {
        self.aborted = Some(Aborted::WebSocket);
    }

    /// The answer has reached `limit`; a connection that has, too, takes no further requests.
    pub(super) fn aged(&mut self, limit: Duration) {
        self.aborted = Some(Aborted::MaxStreamAge);
        self.busy.retire_if_older(limit);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stalls(false);
        let took = clock::now().saturating_duration_since(self.started);
        if !self.is_answered {
            self.metrics.gave_up();
        }
        if let Some(upstream) = self.timing.upstream() {
            self.metrics.waited_for_upstream(upstream);
        }
        if let Some(cause) = self.aborted {
            self.metrics.aborted(cause);
        }
        self.metrics.ended(took);
        if let Some(record) = &self.record {
            record.end(self.metrics.label(), took, &self.timing);
        }
    }
}
