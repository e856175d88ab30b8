//! What a trace shows of a token request. It belongs to no request of an application's, which does not wait for it, so it
//! is a trace of its own.

use std::time::Duration;

use crate::clock;
use crate::oauth::Class;
use crate::traces::{Context, Kind, Parent, Span, Traces};

use super::state::TokenState;

/// Records that a request for the token called `token` has ended, and in `state`.
pub(super) fn renewal(traces: &Traces, token: &str, took: Duration, state: &TokenState) {
    if !traces.records() || !traces.draw() {
        return;
    }
    let failed: Option<Class> = state.last_error.as_ref().map(|failure| failure.error.class());
    let mut attributes = vec![("cupbearer.token.name", token.to_owned().into())];
    match (failed, &state.credentials) {
        (Some(class), _) => attributes.push(("error.type", class.as_str().into())),
        (None, Some(credentials)) => {
            attributes.push(("cupbearer.token.generation", credentials.generation.into()));
        }
        (None, None) => {}
    }
    traces.record(Span {
        name: "renew token".into(),
        kind: Kind::Client,
        context: Context::begin(true),
        parent: Parent::None,
        ended: clock::wall(),
        took,
        attributes,
        failed: failed.is_some(),
    });
}
