//! What the log says of refused tokens that no renewal follows: a line at the first, and at most one a minute for each route.
//!
//! `retry_unauthorized` and `forward` report them; each entry of the route table has one, over all workers.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::clock;
use crate::telemetry::burst::LogGap;
use crate::token::{BINDING_HELP, Incurable, TokenHandle};

/// The lines of one route.
#[derive(Debug)]
pub(super) struct RefusalLog {
    since: Instant,
    incurable: LogGap,
    unlisted: LogGap,
    unbound: LogGap,
}

impl RefusalLog {
    /// Nothing was refused yet.
    pub(crate) fn new() -> Self {
        Self {
            since: clock::now(),
            incurable: LogGap::default(),
            unlisted: LogGap::default(),
            unbound: LogGap::default(),
        }
    }

    /// A refusal is passed on, as another token does not change what it is for.
    pub(crate) fn incurable(&self, route: &str, token: &TokenHandle, status: StatusCode, why: Incurable) {
        if self.incurable.is_over(self.passed()) {
            let (token, status) = (token.name(), status.as_u16());
            let reason = tracing::field::display(why);
            tracing::warn!(
                route,
                token,
                status,
                reason,
                help = why.help(),
                "an upstream refused a request for a reason that a new token does not change; its response is passed on"
            );
        }
    }

    /// A response names the token as its reason, by a status that is not one of the route's `unauthorized_status`.
    pub(super) fn unlisted(&self, route: &str, token: &TokenHandle, status: StatusCode) {
        if self.unlisted.is_over(self.passed()) {
            let (token, status) = (token.name(), status.as_u16());
            let help = "add the status to unauthorized_status of the route, and the token is renewed";
            tracing::warn!(
                route,
                token,
                status,
                help,
                "an upstream refused the token by a status that renews none; its response is passed on"
            );
        }
    }

    /// A response demands a token that is bound to a key, and names the token as its reason, so that it is renewed.
    pub(crate) fn unbound(&self, route: &str, token: &TokenHandle, status: StatusCode) {
        if self.unbound.is_over(self.passed()) {
            let (token, status) = (token.name(), status.as_u16());
            tracing::warn!(
                route,
                token,
                status,
                help = BINDING_HELP,
                "an upstream demands a token that is bound to a key (DPoP), and this one is bound to none"
            );
        }
    }

    fn passed(&self) -> Duration {
        clock::now().saturating_duration_since(self.since)
    }
}
