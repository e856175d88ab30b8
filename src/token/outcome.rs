//! What an attempt's outcome makes of a token's state, and what is said about it.
//!
//! [`apply`] is pure but for the wall clock that a JWT's `exp` is compared with. The renewer calls all of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tracing::{debug, error, info, warn};
use zeroize::Zeroizing;

use crate::clock::{self, Moment};
use crate::oauth::{Class, Error, ErrorKind, Holder, Lifetime, MAX_LIFETIME, TokenResponse, TokenType};

use super::binding::Binding;
use super::facts::{self, Credential, Worked};
use super::schedule::{renew_after, retry_at, usable_for};
use super::settings::{Origin, TokenSettings};
use super::source::Fetched;
use super::state::{Credentials, Failure, Rejected, TokenState};
use super::store::Fingerprint;

/// When an attempt was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// Just before the token request was sent: expiry counts from here.
    pub(super) sent: Moment,
    /// When its outcome was known.
    pub(super) now: Moment,
    /// From 0 to 1.
    pub(super) jitter: f64,
    /// The hash of the secrets and keys that it was made with; `None`: they could not be read.
    pub(super) inputs: Option<Fingerprint>,
}

/// The state after an attempt.
pub(super) fn apply(
    old: &TokenState,
    outcome: Result<Fetched, Error>,
    attempt: &Attempt,
    settings: &TokenSettings,
) -> TokenState {
    match outcome.and_then(|fetched| succeeded(old, fetched, attempt, settings)) {
        Ok(state) => state,
        Err(error) => failed(old, error, attempt, settings),
    }
}

fn succeeded(
    old: &TokenState,
    Fetched { response, asked, until, dpop, user }: Fetched,
    attempt: &Attempt,
    settings: &TokenSettings,
) -> Result<TokenState, Error> {
    let policy = &settings.policy;
    // What was stored has lived since it was asked for; what waited for a lease was asked for after that.
    let sent = asked.map_or(attempt.sent, |at| clock::moment_at(at).min(attempt.now));
    let lifetime = match response.lifetime {
        Lifetime::ExpiresIn(lifetime) => lifetime,
        Lifetime::ExpiresAt(at) => match clock::until(at) {
            Duration::ZERO => Duration::ZERO,
            left => left.saturating_add(attempt.now - sent),
        },
        Lifetime::Unknown => policy.default_lifetime,
        Lifetime::Unbounded => MAX_LIFETIME,
    };
    let lifetime = until.map_or(lifetime, |end| lifetime.min(end - sent)).min(MAX_LIFETIME);
    // A bound token under another scheme would be taken for one that is good by itself (RFC 9449 section 7.1).
    let scheme = if dpop.is_some() { DPOP_SCHEME } else { settings.attachment.scheme.as_str() };
    let value =
        header_value(scheme, response.access_token.expose()).ok_or(Error::here(ErrorKind::Unusable))?;
    let again = old.credentials.as_ref().filter(|held| held.value == value);
    let mut usable_until = sent + usable_for(lifetime, policy);
    if let (Some(held), Lifetime::ExpiresAt(_)) = (again, response.lifetime)
        && lifetime < MAX_LIFETIME
    {
        // The margin is a share of the lifetime as it was at first: it must not shrink with what is left.
        usable_until = usable_until.min(held.usable_until);
    }
    if usable_until <= attempt.now {
        // As good as no token: said as a failure, it is paced by the backoff and shown with its cause.
        return Err(Error::here(match settings.origin {
            Origin::Server(_) => ErrorKind::Stale,
            Origin::Command(_) => ErrorKind::Spent(Holder::Command),
            Origin::File(_) => ErrorKind::Spent(Holder::File),
            Origin::Static(_) => ErrorKind::Spent(Holder::Configuration),
        }));
    }
    let mut expires_at = sent + lifetime;
    let mut next_attempt = Some(sent + renew_after(lifetime, policy, attempt.jitter));
    if response.lifetime == Lifetime::Unbounded && until.is_none() {
        (usable_until, expires_at, next_attempt) = (Moment::NEVER, Moment::NEVER, None);
    }
    let generation = old.credentials.as_ref().map_or(0, |credentials| credentials.generation);
    // A token out of a store says nothing of what this attempt would have been made with.
    let fresh = sent + ADOPTED >= attempt.sent;
    let worked = attempt.inputs.filter(|_| fresh).map(|inputs| (attempt.now, inputs)).or(old.worked);
    let credentials = Credentials {
        header: settings.attachment.header.clone(),
        binding: dpop.map(|key| Arc::new(Binding::new(key, response.access_token.expose()))),
        expires_at,
        usable_until,
        generation: if again.is_some() { generation } else { generation + 1 },
        value,
    };
    Ok(TokenState {
        credentials: Some(Arc::new(credentials)),
        last_error: None,
        next_attempt,
        last_success: Some(attempt.now),
        renewals: old.renewals + 1,
        failures: old.failures,
        attempts: old.attempts + 1,
        worked,
        login_ends: None,
        rejected: old.rejected,
        scope: response.scope,
        user,
        per_caller: false,
    })
}

fn failed(old: &TokenState, error: Error, attempt: &Attempt, settings: &TokenSettings) -> TokenState {
    let before = old.last_error.as_ref();
    let sent = error.was_sent();
    let attempts = old.attempts + 1;
    // The end of a login is one failure: what is found afterwards, without a request, says less than the server did.
    if !sent
        && error.class() == Class::Refused
        && before.is_some_and(|before| before.error.class() == Class::Refused && before.error.was_sent())
    {
        return TokenState { attempts, next_attempt: None, ..old.clone() };
    }
    let failure = Failure {
        in_a_row: before.map_or(0, |before| before.in_a_row).saturating_add(u32::from(sent)),
        attempts: before.map_or(0, |before| before.attempts).saturating_add(1),
        doubtful: match error.class() {
            Class::Doubtful => before.map_or(0, |before| before.doubtful).saturating_add(1),
            _ => 0,
        },
        since: before.map_or(attempt.now, |before| before.since),
        hold_until: error.retry_after().map(|hold| attempt.now + hold),
        worked: match (old.worked, attempt.inputs) {
            (Some((until, worked)), Some(inputs)) if worked == inputs => Worked::Same(until),
            (Some((until, _)), Some(_)) => Worked::Other(until),
            _ => Worked::Never,
        },
        credential: Credential::Client,
        ..Failure::first(error, attempt.now)
    };
    let failures = old.failures + u64::from(sent);
    let state = TokenState { last_error: Some(failure), failures, attempts, ..old.clone() };
    TokenState { next_attempt: retry_at(&state.facts(), &settings.policy.retry, attempt.jitter), ..state }
}

/// The state after an API has refused the token `generation` at `now`; `None`: another one is held by now.
pub(super) fn rejected(old: &TokenState, generation: u64, now: Moment) -> Option<TokenState> {
    old.credentials.as_ref().filter(|held| held.generation == generation)?;
    let is_new = old.last_success.is_some_and(|at| now - at < facts::NEW);
    let new = if is_new { old.rejected.new.saturating_add(1) } else { 0 };
    Some(TokenState { rejected: Rejected { generation, new }, ..old.clone() })
}

/// The state after an API has accepted a token: what it refused before is another matter.
pub(super) fn accepted(old: &TokenState) -> TokenState {
    TokenState { rejected: Rejected::default(), ..old.clone() }
}

/// Says what an API's refusal changed.
pub(super) fn log_rejected(token: &str, old: &TokenState, new: &TokenState, now: Moment) {
    let (before, status) = (old.status(now), new.status(now));
    if before != status {
        let (status, cause) = (status.as_str(), new.last_error.as_ref().map(|failure| failure.error.cause()));
        warn!(token, status, cause, "the API refuses the token, and the authorization server its renewal");
    }
    if new.rejected.new == facts::NEW_REFUSED {
        let refused = new.rejected.new;
        warn!(
            token,
            refused,
            help = "check that `audience`, `issuer` and `scope` are those that the API expects",
            "the API refuses one new token after the other"
        );
    }
}

/// The state after a token was given back: none is held, and none is asked for.
pub(super) fn forgotten(old: &TokenState, now: Moment) -> TokenState {
    TokenState {
        last_error: Some(Failure::first(Error::here(ErrorKind::LoggedOut), now)),
        renewals: old.renewals,
        failures: old.failures,
        attempts: old.attempts + 1,
        worked: old.worked,
        ..TokenState::default()
    }
}

/// Scheme and token as one header value, marked sensitive at birth and zeroed when the last that holds it is gone.
fn header_value(scheme: &str, token: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(match scheme {
        "" => token.to_owned(),
        scheme => format!("{scheme} {token}"),
    });
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What was said of a token already and is not said again.
#[derive(Debug, Default)]
pub(super) struct Memory {
    lifetime: bool,
    token_type: bool,
    scope: bool,
}

/// Says, once for each token, where an answer had to be helped out.
pub(super) fn log_oddities(
    token: &str,
    response: &TokenResponse,
    settings: &TokenSettings,
    memory: &mut Memory,
) {
    // Of the others nothing else is to be expected.
    let Some(origin) = settings.server() else { return };
    if response.lifetime == Lifetime::Unknown && !std::mem::replace(&mut memory.lifetime, true) {
        let seconds = settings.policy.default_lifetime.as_secs();
        warn!(
            token,
            lifetime_seconds = seconds,
            "the server does not say how long the token lives; default_lifetime is taken"
        );
    }
    if response.token_type == TokenType::Assumed && !std::mem::replace(&mut memory.token_type, true) {
        warn!(token, "the server does not say the token's type; Bearer is taken");
    }
    let asked = &origin.request.scope;
    let narrower =
        response.scope.as_ref().is_some_and(|granted| asked.iter().any(|scope| !granted.contains(scope)));
    if narrower && !std::mem::replace(&mut memory.scope, true) {
        warn!(token, "the server granted less scope than was asked for");
    }
}

/// Says what changed; a repetition is for debugging alone.
pub(super) fn log(token: &str, old: &TokenState, new: &TokenState, now: Moment) {
    let status = new.status(now).as_str();
    let next_seconds = new.next_attempt.map(|at| seconds(at.saturating_duration_since(now)));
    match (&old.last_error, &new.last_error) {
        (before, Some(after)) => {
            let (cause, class) = (after.error.cause(), after.error.class().as_str());
            let error = after;
            let help = new.advice(now).map(tracing::field::display);
            if before.as_ref().is_some_and(|before| before.error == error.error) {
                debug!(
                    token,
                    status,
                    cause,
                    class,
                    next_seconds,
                    in_a_row = after.in_a_row,
                    "no token could be had, as before"
                );
            } else {
                warn!(token, status, cause, class, next_seconds, %error, help, "no token could be had");
            }
        }
        (before, None) if old.credentials.is_none() => {
            let failures = before.as_ref().map(|failure| failure.in_a_row);
            info!(token, status, next_seconds, failures, "the first token was obtained");
        }
        (Some(before), None) => {
            let failures = before.in_a_row;
            info!(token, status, next_seconds, failures, "the token was renewed after failures");
        }
        (None, None) => debug!(token, status, next_seconds, "the token was renewed"),
    }
}

/// Seconds with two decimals: a third of a second must not read as none.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

/// Says that a token's time ran out.
pub(super) fn log_lapse(token: &str, state: &TokenState) {
    let cause = state.last_error.as_ref().map(|failure| failure.error.cause());
    if cause.is_some() {
        error!(
            token,
            cause,
            "the token expired and could not be renewed; requests that need it are refused until it is"
        );
    } else {
        // Lifetimes of a second or so, and machines that slept.
        debug!(token, "the token expired before its renewal");
    }
}

/// A token that was asked for so long before this attempt began is another's, or one from before a restart.
const ADOPTED: Duration = Duration::from_secs(1);

/// RFC 9449 section 7.1.
pub(super) const DPOP_SCHEME: &str = "DPoP";

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;
    use crate::secret::SecretError;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The line that such a change gives.
    fn logged(old: &TokenState, new: &TokenState, now: Moment) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || log("api", old, new, now));
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn credentials(now: Moment) -> Credentials {
        let end = now + Duration::from_mins(1);
        Credentials {
            header: http::header::AUTHORIZATION,
            value: HeaderValue::from_static("Bearer t"),
            binding: None,
            expires_at: end,
            usable_until: end,
            generation: 1,
        }
    }

    #[test]
    fn the_log_says_what_came_of_an_attempt_and_when_the_next_one_is() {
        let now = Moment::now();
        let error = Error::here(ErrorKind::Secret(SecretError::Unset("X".into())));
        let failed = TokenState {
            last_error: Some(Failure { in_a_row: 2, ..Failure::first(error, now) }),
            next_attempt: Some(now + Duration::from_micros(312_345)),
            ..TokenState::default()
        };
        let none = TokenState::default();
        let token = Some(Arc::new(credentials(now)));
        let held = TokenState { credentials: token.clone(), ..TokenState::default() };
        let degraded = TokenState { credentials: token, ..failed.clone() };
        for (old, new, level, words) in [
            (&none, &failed, "WARN", "no token could be had token="),
            (&failed, &failed, "DEBUG", "no token could be had, as before "),
            (&held, &degraded, "WARN", "next_seconds=0.31 "),
            (&none, &held, "INFO", "the first token was obtained "),
            (&failed, &held, "INFO", "failures=2"),
            (&degraded, &held, "INFO", "the token was renewed after failures "),
            (&held, &held, "DEBUG", "the token was renewed "),
        ] {
            let line = logged(old, new, now);
            assert!(line.contains(level) && line.contains(words), "{words} in: {line}");
        }
        assert!(!logged(&none, &failed, now).contains("request failed"));
    }
}
