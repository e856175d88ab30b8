//! What a token's state looks like on the control surface. Reads, never writes.

use std::time::{Duration, UNIX_EPOCH};

use super::login::Login;
use super::status::{AccessToken, Failure, StoreFault, Token};
use crate::clock::{self, BootInstant};
use crate::login::LoginSessions;
use crate::oauth::MAX_LIFETIME;
use crate::token::{self, TokenHandle};

/// How a token stands at `now`.
pub(super) fn token(handle: &TokenHandle, login_sessions: &LoginSessions, now: BootInstant) -> Token {
    let state = handle.load();
    let credentials = state.credentials.as_deref();
    let account = handle.account();
    let expiry = state.expiry();
    Token {
        name: handle.name().to_owned(),
        grant: handle.settings().grant().to_owned(),
        required: handle.required(),
        status: state.status(now).as_str().to_owned(),
        expires_in_seconds: expiry.map(|at| seconds_until(at, now)),
        expires_at: expiry.map(unix),
        until_refused: credentials.is_some() && expiry.is_none() && handle.settings().server().is_some(),
        login_expires_in_seconds: state.login_ends.map(|at| seconds_until(at, now)),
        login_expires_at: state.login_ends.map(unix),
        help: state.advice(now).map(|advice| advice.to_string()).or_else(|| {
            // Of a login that is over it is no news.
            state.usable(now).and(account).and_then(|account| account.advice())
        }),
        generation: credentials.map(|held| held.generation),
        scope: state.scope.as_ref().map(|scope| scope.join(" ")),
        last_renewal: state.requested.map(unix),
        next_attempt_in_seconds: state.next_attempt.map(|at| seconds_until(at, now)),
        last_error: state.last_error.as_ref().map(|failure| Failure {
            cause: failure.error.cause().to_owned(),
            message: failure.to_string(),
            server_says: failure.error.description().map(str::to_owned),
            at: unix(failure.at),
            consecutive_failures: u64::from(failure.in_a_row),
        }),
        renewals: state.renewals,
        adoptions: state.adoptions,
        failures: state.failures,
        callers: handle.callers().map(|count| count as u64),
        user: state.user.as_ref().map(ToString::to_string),
        can_log_in: account.is_some(),
        can_log_in_by_device: account.is_some_and(|account| login_sessions.may_offer_devices(account)),
        login: account
            .and_then(|_| login_sessions.progress(handle.name()))
            .filter(|login| is_news(login.ended, state.last_success, now))
            .map(|login| Login::of(&login, now)),
        renew_via: account.map(|account| account.settings().renew_via.as_str().to_owned()),
        browser_wanted: account
            .and_then(|account| account.renewal_request())
            .is_some_and(|call| call.is_wanted()),
    }
}

/// What the store does not hold, and why.
pub(super) fn store_fault(fault: &token::StoreFault) -> StoreFault {
    let token::StoreFault { token, since, cause, pending } = fault;
    let logged_out = *pending == token::Pending::Deletion;
    StoreFault { token: token.clone(), message: cause.to_string(), since: unix(*since), logged_out }
}

/// Whether a login is still to be shown: it has not ended, or a while ago at most and the token was not renewed since.
fn is_news(ended: Option<BootInstant>, renewed: Option<BootInstant>, now: BootInstant) -> bool {
    ended.is_none_or(|ended| now < ended + LOGIN_NEWS && renewed.is_none_or(|renewed| renewed < ended))
}

/// The token itself, where one is held that may be sent at `now`. The one place where a token leaves on purpose.
pub(super) fn access_token(handle: &TokenHandle, now: BootInstant) -> Option<AccessToken> {
    let state = handle.load();
    let held = state.usable(now)?;
    let token_type = match handle.settings().attachment.scheme.as_str() {
        _ if held.binding.is_some() => "DPoP",
        "" => "Bearer",
        scheme => scheme,
    };
    Some(AccessToken {
        access_token: held.access_token()?.expose().clone(),
        token_type: token_type.to_owned(),
        // Rounded down: a reader that counts on it must not use the token for too long.
        expires_in: held.expires_at.saturating_duration_since(now).min(MAX_LIFETIME).as_secs(),
    })
}

/// How long it is shown how a login ended.
const LOGIN_NEWS: Duration = Duration::from_mins(10);

/// Up: what has just come for 20 seconds has 20 left, and 0 is for what is over.
fn seconds_until(at: BootInstant, now: BootInstant) -> u64 {
    at.saturating_duration_since(now).as_secs_f64().ceil() as u64
}

/// Rounded: the wall clock is read anew each time, and the same instant must not flicker between two seconds.
pub(super) fn unix(at: BootInstant) -> u64 {
    clock::wall_at(at).duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs_f64().round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_login_goes_away_with_time_and_with_the_next_token() {
        let now = BootInstant::now();
        let ago = |seconds| Some(now - Duration::from_secs(seconds));
        assert!(is_news(None, ago(1), now), "it goes on");
        assert!(is_news(ago(30), None, now) && is_news(ago(30), ago(60), now));
        assert!(!is_news(ago(30), ago(10), now), "it was renewed since");
        assert!(!is_news(ago(601), None, now));
    }
}
