//! What follows when an upstream refuses a token: a new one, and the request once more.
//!
//! A token is refused by a status that the route lists, 401 by default, unless the challenges demand something that another
//! token does not change. The answer is held as it came until the new token is there. Where none comes, or not in time, or the
//! body is gone, it goes to the application as if nothing had been. A request is repeated once, and whatever is said to that is
//! the answer. `forward` calls this where the token was ours; how often a token is renewed is the token's own affair.

use std::pin::pin;

use http::Response;
use hyper::body::Body as _;

use super::credentials::{AttachedCredentials, put, reject};
use super::own_credentials::subject;
use super::retry_policy::{Decision, RetryPolicy};
use super::route_table::RouteEntry;
use super::sender::{RequestSender, put_away};
use crate::proxy::error::ProxyError;
use crate::proxy::message::outbound_head::OutboundHead;
use crate::proxy::observe::metrics::Replay;
use crate::proxy::observe::timing::WaitsFor;
use crate::proxy::upstream::download::{Download, Received};
use crate::proxy::upstream::received_body::ReceivedBody;
use crate::token::{ChallengeVerdict, Credentials, Incurable, Rejection, TokenHandle};

/// Logs a response that names the token as its reason by another status than the route lists.
pub(super) fn note_unlisted(entry: &RouteEntry, response: &Response<Download>) {
    if let Some(token) = &entry.token
        && RetryPolicy::of(&entry.route).decide() != Decision::Pass
    {
        let (route, status) = (entry.metrics.label(), response.status());
        match token.judge_refusal(response.headers()) {
            ChallengeVerdict::TokenError => entry.refusals.unlisted(route, token, status),
            ChallengeVerdict::Incurable(Incurable::Unbound) => {
                entry.refusals.incurable(route, token, status, Incurable::Unbound);
            }
            ChallengeVerdict::Unspecified | ChallengeVerdict::Incurable(_) => {}
        }
    }
}

/// Does what the route says about a refusal, and gives the answer that goes to the application: `refusal`, or that of the
/// request's repetition.
pub(super) async fn recover(
    sender: &RequestSender<'_>,
    entry: &RouteEntry,
    head: &mut OutboundHead,
    used: &mut AttachedCredentials,
    refusal: Received,
) -> Result<Received, ProxyError> {
    entry.metrics.unauthorized();
    let Some(token) = &entry.token else { return Ok(refusal) };
    let policy = RetryPolicy::of(&entry.route);
    if policy.decide() == Decision::Pass {
        return Ok(refusal);
    }
    let status = refusal.status();
    if policy.lists(status)
        && let ChallengeVerdict::Incurable(why) = token.judge_refusal(refusal.headers())
    {
        entry.refusals.incurable(entry.metrics.label(), token, status, why);
        return Ok(refusal);
    }
    if token.lacks_binding(refusal.headers()) {
        entry.refusals.unbound(entry.metrics.label(), token, status);
    }
    let Some(rejection) = reject(token, used.generation, used.caller.as_ref()) else { return Ok(refusal) };
    if policy.decide() == Decision::Renew {
        return Ok(refusal);
    }
    let count = |result: Replay| {
        tracing::debug!(
            route = entry.metrics.label(),
            result = result.as_str(),
            "a response refused the token of its request"
        );
        entry.metrics.replay(result);
    };
    if !sender.may_replay() {
        count(Replay::BodyTooLarge);
        return Ok(refusal);
    }
    let newer = match sender.timing.wait(WaitsFor::Other, pin!(outcome(rejection, sender))).await {
        Ok(newer) => newer,
        Err(result) => {
            count(result);
            return Ok(refusal);
        }
    };
    // The answer to what was sent before may have come while its body was still under way.
    let whole = sender.has_sent_all();
    let Some(body) = sender.again() else {
        count(Replay::BodyTooLarge);
        return Ok(refusal);
    };
    sender.timing.wait(WaitsFor::Upstream(None), pin!(put_away(refusal, whole))).await;
    *used = AttachedCredentials { caller: used.caller.take(), ..put(&mut head.headers, &newer) };
    let answer = sender.send_with_retry(head, body, Some(used), sender.fresh_deadline()).await;
    match &answer {
        Err(_) => count(Replay::Broken),
        Ok(answer) if policy.is_refusal(answer) => {
            entry.metrics.unauthorized();
            count(Replay::StillUnauthorized);
        }
        Ok(_) => {
            let caller = used.caller.as_ref().and_then(|caller| subject(caller).ok());
            token.accepted(used.generation, caller.as_ref());
            count(Replay::Ok);
        }
    }
    answer
}

/// Whether a request has waited for a refresh, at a server that ends the old token with it: one that could not be sent
/// again afterwards, as its body is longer than what is kept.
pub(super) async fn has_settled(
    entry: &RouteEntry,
    token: &TokenHandle,
    body: Option<&ReceivedBody>,
) -> bool {
    if !token.is_changing() {
        return false;
    }
    let length = body.map_or(Some(0), |body| body.size_hint().upper());
    if RetryPolicy::of(&entry.route).can_retry(length) {
        return false;
    }
    // Rare: boxed, it is no part of every request's future.
    Box::pin(token.settled()).await;
    true
}

/// The new credentials, or why there are none.
async fn outcome(
    rejection: Rejection,
    sender: &RequestSender<'_>,
) -> Result<std::sync::Arc<Credentials>, Replay> {
    match rejection {
        Rejection::Newer(newer) => Ok(newer),
        Rejection::NotNow => Err(Replay::NotAllowed),
        Rejection::Asked(renewal) => {
            let _waits = sender.wait();
            match tokio::time::timeout_at(sender.deadline(), renewal.outcome()).await {
                Ok(Some(newer)) => Ok(newer),
                Ok(None) | Err(_) => Err(Replay::RenewalFailed),
            }
        }
    }
}
