//! One request and its answer, for those who count: begins with the head, ends with the answer's last byte.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::activity::Busy;
use crate::clock;
use crate::proxy::error::{LimitFault, ProxyError};
use crate::proxy::memory::{self, Charge, Room};
use crate::proxy::message::outbound_head::size_of_fields;
use crate::proxy::observe::access_log::{AccessRecord, Answerer};
use crate::proxy::observe::metrics::{Aborted, Meter, RouteMetrics};
use crate::proxy::observe::timing::Timing;
use crate::proxy::observe::trace::Tracing;

/// Ends when it is dropped, whichever way that comes about: sent, broken off, or the application gone.
#[derive(Debug)]
pub(crate) struct Exchange {
    metrics: Arc<RouteMetrics>,
    started: Instant,
    /// The connection is not idle while this lives.
    busy: Busy,
    record: Option<Box<AccessRecord>>,
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
    pub(crate) fn begin(
        metrics: Arc<RouteMetrics>,
        started: Instant,
        busy: Busy,
        parts: &Parts,
        record: Option<Box<AccessRecord>>,
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
    pub(crate) fn hold(&mut self, slot: Option<OwnedSemaphorePermit>) {
        self.slot = slot;
    }

    /// Takes its part of the memory, with that of its decoded head, until this ends.
    ///
    /// # Errors
    /// [`ProxyError::Limit(LimitFault::Memory)`] where there is no room.
    pub(crate) fn take_room(&mut self, parts: &Parts) -> Result<(), ProxyError> {
        let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
        let Room::Taken(charge) = memory::request(target + size_of_fields(&parts.headers)) else {
            return Err(ProxyError::Limit(LimitFault::Memory));
        };
        self.charge = charge;
        Ok(())
    }

    /// Its place in its trace, where its spans are recorded.
    pub(crate) fn tracing(&self) -> Option<&Tracing> {
        self.record.as_ref()?.tracing()
    }

    /// How long it waits for others.
    pub(crate) const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// What is counted of its route.
    pub(crate) fn metrics(&self) -> &RouteMetrics {
        &self.metrics
    }

    /// Counts the bytes that come from the application.
    pub(crate) fn received(&self) -> Meter {
        self.metrics.received(self.record.as_ref().map(|record| record.received()))
    }

    /// Counts the bytes that go to the application, of a tunnel.
    pub(crate) fn given(&self) -> Meter {
        self.metrics.given(self.record.as_ref().map(|record| record.given()))
    }

    /// So many bytes of the response's body are on their way.
    pub(crate) fn gave(&self, bytes: usize) {
        if bytes > 0 {
            self.metrics.gave(bytes);
            if let Some(record) = &self.record {
                record.passed(bytes);
            }
        }
    }

    /// Whether the response's body waits for the upstream from now on.
    pub(crate) fn stalls(&mut self, stalls: bool) {
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
    pub(crate) fn record_mut(&mut self) -> Option<&mut AccessRecord> {
        self.record.as_deref_mut()
    }

    /// The answer's head is known.
    pub(crate) fn answered(&mut self, status: StatusCode, by: Answerer) {
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
    pub(crate) fn withholds(&self) -> bool {
        self.busy.withholds()
    }

    /// The application asked for more of the answer: whether there was more to give.
    pub(crate) fn asked(&self, given: bool) {
        self.busy.asked(given);
    }

    /// Whether its answer's head is all of it.
    pub(crate) const fn has_no_body(&self) -> bool {
        self.has_no_body
    }

    /// The answer has come to its end. Without a client there is none.
    pub(crate) fn completed(&mut self) {
        if !self.is_answered {
            return;
        }
        self.aborted = None;
        if let Some(record) = &mut self.record {
            record.completed();
        }
    }

    /// The upstream broke off in the middle of the answer.
    pub(crate) fn broken(&mut self) {
        self.aborted = Some(Aborted::Upstream);
        if let Some(record) = &mut self.record {
            record.broken();
        }
    }

    /// The tunnel that it became was cut, by either side.
    pub(crate) fn tunnel_cut(&mut self) {
        self.aborted = Some(Aborted::WebSocket);
    }

    /// The answer has reached `limit`; a connection that has, too, takes no further requests.
    pub(crate) fn aged(&mut self, limit: Duration) {
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
