//! What a trace shows of a token request. It is a trace of its own: it is made for all requests to come, and those that wait for it have
//! a span of theirs that says so.

use std::time::Duration;

use crate::clock;
use crate::oauth::Class;
use crate::traces::{Context, Kind, Parent, Span, Traces, Value};

use super::state::TokenState;

/// Records that a request for the token called `token` has ended, and in `state`.
pub(super) fn renewal(traces: &Traces, token: &str, took: Duration, state: &TokenState) {
    let Some(sink) = traces.sink().filter(|_| traces.draw()) else { return };
    let failed: Option<Class> = state.last_error.as_ref().map(|failure| failure.error.class());
    let mut attributes = vec![("cupbearer.token.name", Value::of(token))];
    match (failed, &state.credentials) {
        (Some(class), _) => attributes.push(("error.type", class.as_str().into())),
        (None, Some(credentials)) => {
            attributes.push(("cupbearer.token.generation", credentials.generation.into()));
        }
        (None, None) => {}
    }
    sink.record(Span {
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
