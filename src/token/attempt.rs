//! What an attempt's outcome makes of a token's state, and what is said about it.
//!
//! [`apply`] is pure but for the wall clock that a JWT's `exp` is compared with. The renewer calls all of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tracing::{debug, error, info, warn};
use zeroize::Zeroizing;

use crate::clock::{self, BootInstant};
use crate::oauth::{self, Class, Lifetime, MAX_LIFETIME, Oddity, ResponseFault, TokenResponse, TokenType};
use crate::token::error::{AttemptFault, Error, LoginFault, SourceFault, TokenHolder};

use super::binding::Binding;
use super::facts::{self, Credential, Facts, Worked};
use super::schedule::{renew_before, retry_at, usable_for};
use super::scopes::withheld;
use super::settings::{GrantSettings, Origin, TokenSettings};
use super::source::Fetched;
use super::state::{Credentials, Failure, Rejected, TokenState};
use super::store::Fingerprint;

/// When an attempt was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// Just before the token request was sent: expiry counts from here.
    pub(super) sent: BootInstant,
    /// When its outcome was known.
    pub(super) now: BootInstant,
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
    Fetched { response, asked, until, dpop, user, adopted }: Fetched,
    attempt: &Attempt,
    settings: &TokenSettings,
) -> Result<TokenState, Error> {
    let policy = &settings.policy;
    // What was stored has lived since it was asked for; what waited for a lease was asked for after that.
    let sent = asked.map_or(attempt.sent, |at| clock::moment_at(at).min(attempt.now));
    let said = match response.lifetime {
        Lifetime::Unknown if policy.default_lifetime.is_none() => Lifetime::Unbounded,
        said => said,
    };
    let lifetime = match said {
        Lifetime::ExpiresIn(lifetime) => lifetime,
        Lifetime::ExpiresAt(at) => match clock::until(at) {
            Duration::ZERO => Duration::ZERO,
            left => left.saturating_add(attempt.now - sent),
        },
        Lifetime::Unknown => policy.default_lifetime.unwrap_or(MAX_LIFETIME),
        Lifetime::NoTime(_) => Duration::ZERO,
        Lifetime::Unbounded => MAX_LIFETIME,
    };
    let lifetime = until.map_or(lifetime, |end| lifetime.min(end - sent)).min(MAX_LIFETIME);
    // A bound token under another scheme would be taken for one that is good by itself (RFC 9449 section 7.1).
    let scheme = if dpop.is_some() { DPOP_SCHEME } else { settings.attachment.scheme.as_str() };
    let value =
        header_value(scheme, response.access_token.expose()).ok_or(Error::from(AttemptFault::Unusable))?;
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
        return Err(match (holder(settings), response.lifetime) {
            (Some(holder), _) => SourceFault::Spent(holder).into(),
            (None, Lifetime::NoTime(said)) => oauth::Error::here(ResponseFault::NoTime(said)).into(),
            (None, Lifetime::ExpiresIn(lives)) if !lives.is_zero() => {
                AttemptFault::Slow { took: attempt.now - sent, lives }.into()
            }
            (None, _) => AttemptFault::Stale.into(),
        });
    }
    if let Some(holder) = holder(settings).filter(|_| again.is_some() && old.facts().api.refuses) {
        return Err(Error::from(SourceFault::StillRefused(holder)));
    }
    let mut expires_at = sent + lifetime;
    let login_ends = match response.refresh_expires_in {
        Some(life) if renews(settings, &response) => Some(sent + life),
        None if response.refresh_token.is_none() => old.login_ends.filter(|end| *end > attempt.now),
        _ => None,
    };
    let login = login_ends.map(|end| end - sent);
    let mut next_attempt = Some(sent + renew_before(lifetime, login, policy, attempt.jitter));
    if said == Lifetime::Unbounded && until.is_none() {
        (usable_until, expires_at, next_attempt) = (BootInstant::NEVER, BootInstant::NEVER, None);
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
        requested: Some(if adopted { sent } else { attempt.now }),
        renewals: old.renewals + u64::from(!adopted),
        adoptions: old.adoptions + u64::from(adopted),
        failures: old.failures,
        attempts: old.attempts + 1,
        worked,
        login_ends,
        rejected: old.rejected,
        scope: response.scope,
        user,
        per_caller: false,
        stored_until: None,
    })
}

/// What holds the token, where no authorization server gives it.
const fn holder(settings: &TokenSettings) -> Option<TokenHolder> {
    match &settings.origin {
        Origin::Server(_) | Origin::SelfSigned(_) => None,
        Origin::Command(_) => Some(TokenHolder::Command),
        Origin::File(_) => Some(TokenHolder::File),
        Origin::Static(_) => Some(TokenHolder::Configuration),
    }
}

/// Whether the refresh token is what the next renewal spends: its end counts then.
fn renews(settings: &TokenSettings, response: &TokenResponse) -> bool {
    let earned = response.refresh_token.is_some()
        && settings.server().is_some_and(|origin| origin.grant != GrantSettings::ClientCredentials);
    settings.spends_a_login() || earned
}

fn failed(old: &TokenState, error: Error, attempt: &Attempt, settings: &TokenSettings) -> TokenState {
    let before = old.last_error.as_ref();
    let sent = error.is_counted();
    let attempts = old.attempts + 1;
    // The end of a login is one failure: what is found afterwards, without a request, says less than the server did.
    if !sent
        && error.class() == Class::Refused
        && before.is_some_and(|before| before.error.class() == Class::Refused && before.error.is_counted())
    {
        return TokenState { attempts, next_attempt: None, ..old.clone() };
    }
    let failure = Failure {
        in_a_row: before.map_or(0, |before| before.in_a_row).saturating_add(u32::from(sent)),
        attempts: before.map_or(0, |before| before.attempts).saturating_add(1),
        doubtful: match error.class() {
            Class::Doubtful => before.map_or(0, |before| before.doubtful).saturating_add(1),
            // An outage between two of them is no answer to the question.
            Class::Transient => before.map_or(0, |before| before.doubtful),
            Class::Misconfigured | Class::Refused => 0,
        },
        since: before.map_or(attempt.now, |before| before.since),
        hold_until: error.pause(settings.policy.retry.max).map(|hold| attempt.now + hold),
        worked: match (old.worked, attempt.inputs) {
            (Some((until, worked)), Some(inputs)) if worked == inputs => Worked::Same(until),
            (Some((until, _)), Some(_)) => Worked::Other(until),
            _ => Worked::Never,
        },
        credential: if error.is_withheld() {
            Credential::Withheld
        } else if error.refuses_person() {
            Credential::Person
        } else {
            Credential::Client
        },
        ..Failure::first(error, attempt.now)
    };
    let failures = old.failures + u64::from(sent);
    let state = TokenState { last_error: Some(failure), failures, attempts, ..old.clone() };
    let facts = state.facts();
    let facts = Facts { starting: settings.required && facts.usable_until.is_none(), ..facts };
    TokenState { next_attempt: retry_at(&facts, &settings.policy.retry, attempt.jitter), ..state }
}

/// The state after an API has refused the token `generation` at `now`; `None`: another one is held by now.
pub(super) fn rejected(old: &TokenState, generation: u64, now: BootInstant) -> Option<TokenState> {
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
pub(super) fn log_rejected(token: &str, old: &TokenState, new: &TokenState, now: BootInstant) {
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
pub(super) fn forgotten(old: &TokenState, now: BootInstant) -> TokenState {
    TokenState {
        last_error: Some(Failure::first(Error::from(LoginFault::LoggedOut), now)),
        renewals: old.renewals,
        adoptions: old.adoptions,
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
    length: bool,
    instant: bool,
    longer: bool,
    refresh_token: bool,
    login: bool,
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
    if matches!(response.lifetime, Lifetime::Unknown | Lifetime::Unbounded)
        && !std::mem::replace(&mut memory.lifetime, true)
    {
        let default = settings.policy.default_lifetime.filter(|_| response.lifetime == Lifetime::Unknown);
        if let Some(lifetime) = default {
            warn!(
                token,
                lifetime_seconds = lifetime.as_secs(),
                "the server does not say how long the token lives; default_lifetime is taken"
            );
        } else {
            info!(
                token,
                "the server does not say how long the token lives; it is used until an API refuses it"
            );
        }
    }
    log_lifetimes(token, response, settings, memory);
    if response.token_type == TokenType::Assumed && !std::mem::replace(&mut memory.token_type, true) {
        warn!(token, "the server does not say the token's type; Bearer is taken");
    }
    let granted = response.scope.as_deref().filter(|granted| !granted.is_empty());
    let withheld = granted.map_or_else(Vec::new, |granted| withheld(&origin.request.scope, granted));
    if !withheld.is_empty() && !std::mem::replace(&mut memory.scope, true) {
        warn!(token, withheld = withheld.join(" "), "the server granted less scope than was asked for");
    }
}

/// Reports, once for each token, what is strange about a response.
fn log_lifetimes(token: &str, response: &TokenResponse, settings: &TokenSettings, memory: &mut Memory) {
    match response.oddity {
        Some(Oddity::Instant) if !std::mem::replace(&mut memory.instant, true) => {
            warn!(
                token,
                "`expires_in` is an instant since 1970 and no duration; it is counted from the server's clock"
            );
        }
        Some(Oddity::LongerThanToken { said, own }) if !std::mem::replace(&mut memory.longer, true) => {
            let (expires_in, own_seconds) = (said.as_secs(), own.as_secs());
            warn!(
                token,
                expires_in,
                own_seconds,
                "`expires_in` is longer than the token's own life from `iat` to `exp`; the shorter counts"
            );
        }
        Some(Oddity::RefreshToken) if !std::mem::replace(&mut memory.refresh_token, true) => {
            warn!(
                token,
                "`refresh_token` is neither text nor a whole number; the response counts as one without"
            );
        }
        _ => {}
    }
    let Lifetime::ExpiresIn(lifetime) = response.lifetime else { return };
    if lifetime > LONG_LIFETIME && !std::mem::replace(&mut memory.length, true) {
        let days = lifetime.as_secs() / 86_400;
        warn!(
            token,
            days, "the server says that the token lives for more than 30 days; check `expires_in` there"
        );
    }
    if let Some(login) = response.refresh_expires_in.filter(|login| *login < lifetime)
        && renews(settings, response)
        && !std::mem::replace(&mut memory.login, true)
    {
        let (lifetime_seconds, refresh_seconds) = (lifetime.as_secs(), login.as_secs());
        warn!(
            token,
            lifetime_seconds,
            refresh_seconds,
            "the refresh token ends before the access token; the token is renewed before the earlier of the two"
        );
    }
}

/// Says what changed; a repetition is for debugging alone.
pub(super) fn log(token: &str, old: &TokenState, new: &TokenState, now: BootInstant) {
    let status = new.status(now).as_str();
    let next_seconds = new.next_attempt.map(|at| seconds(at.saturating_duration_since(now)));
    match (&old.last_error, &new.last_error) {
        (before, Some(after)) => {
            let (cause, class) = (after.error.cause(), after.error.class().as_str());
            let error = after;
            let help = new.advice(now).map(tracing::field::display);
            let server_says = after.error.description();
            // Who was logged in, and until when the newest token is good, or was.
            let ended = new.facts().failing.is_some_and(|failing| failing.ends_the_login());
            let user = new.user.as_ref().filter(|_| ended).map(tracing::field::display);
            let good_until = new.expiry().map(clock::time_of);
            if !error.error.is_counted() && error.error.class() == Class::Refused {
                if before.as_ref().is_none_or(|before| before.error != error.error) {
                    info!(token, status, cause, %error, user, good_until, help, "waiting for a login");
                }
            } else if before.as_ref().is_some_and(|before| before.error == error.error) {
                debug!(
                    token,
                    status,
                    cause,
                    class,
                    next_seconds,
                    in_a_row = after.in_a_row,
                    "{}, as before",
                    what_failed(new, now)
                );
            } else {
                warn!(
                    token,
                    status,
                    cause,
                    class,
                    next_seconds,
                    %error,
                    server_says,
                    user,
                    good_until,
                    help,
                    "{}",
                    what_failed(new, now)
                );
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

/// What a failed attempt means for the token that there was.
fn what_failed(state: &TokenState, now: BootInstant) -> &'static str {
    match state.expiry() {
        _ if state.usable(now).is_some() => "the token could not be renewed",
        Some(_) => "the token expired and could not be renewed",
        None => "no token could be had",
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

/// A token that lives for longer is worth a warning: a stolen one is good for as long.
const LONG_LIFETIME: Duration = Duration::from_hours(24 * 30);

/// A token that was asked for so long before this attempt began is another's, or one from before a restart.
const ADOPTED: Duration = Duration::from_secs(1);

/// RFC 9449 section 7.1.
pub(super) const DPOP_SCHEME: &str = "DPoP";

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;
    use crate::net::retry_after::RetryAfter;
    use crate::oauth::{ErrorKind, Place, RequestFault};
    use crate::secret::{SecretError, SecretSource};
    use crate::token::renewer::tests::settings;
    use crate::token::settings::CommandSettings;
    use crate::token::source::tests::{origin, response};
    use crate::token::state::{Past, Status};

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
    fn logged(old: &TokenState, new: &TokenState, now: BootInstant) -> String {
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

    fn credentials(now: BootInstant) -> Credentials {
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
        let now = BootInstant::now();
        let error = Error::from(RequestFault::Secret(SecretError::Unset("X".into())));
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

    /// What becomes of a token that was asked for `took` ago.
    fn after(old: &TokenState, outcome: Result<Fetched, Error>, took: Duration) -> TokenState {
        let now = BootInstant::now();
        let inputs = Some(Fingerprint::of([b"secret".as_slice()]));
        let attempt = Attempt { sent: now - took, now, jitter: 0.0, inputs };
        apply(old, outcome, &attempt, &login())
    }

    fn login() -> TokenSettings {
        let grant = GrantSettings::RefreshToken { seed: None };
        TokenSettings { origin: Origin::Server(Box::new(origin(grant))), ..settings() }
    }

    fn lives(lifetime: Lifetime, login: Option<u64>) -> Fetched {
        let response = response("t", Duration::ZERO);
        TokenResponse { lifetime, refresh_expires_in: login.map(Duration::from_secs), ..response }.into()
    }

    fn minute() -> Lifetime {
        Lifetime::ExpiresIn(Duration::from_mins(1))
    }

    #[test]
    fn a_login_that_ends_first_is_what_the_next_renewal_is_planned_by() {
        let none = TokenState::default();
        for (login, within, shown) in
            [(None, 45, None), (Some(3600), 45, Some(3600)), (Some(20), 15, Some(20))]
        {
            let state = after(&none, Ok(lives(minute(), login)), Duration::ZERO);
            let (now, next) = (state.last_success.unwrap(), state.next_attempt.unwrap());
            assert!(next - now <= Duration::from_secs(within), "{login:?}: {:?}", next - now);
            assert!(next - now > Duration::from_secs(within / 2), "{login:?}: {:?}", next - now);
            assert_eq!(state.login_ends.map(|end| (end - now).as_secs()), shown);
            // The next response says nothing and brings no other refresh token.
            let again = after(&state, Ok(lives(minute(), None)), Duration::ZERO);
            assert_eq!(again.login_ends, state.login_ends);
        }
    }

    #[test]
    fn a_token_that_is_over_when_it_comes_is_reported_as_what_happened() {
        let none = TokenState::default();
        for (lifetime, took, says) in [
            (Lifetime::NoTime(0), 0, "`expires_in` 0,"),
            (Lifetime::NoTime(-1), 0, "`expires_in` -1,"),
            (Lifetime::ExpiresIn(Duration::from_secs(10)), 25, "took 25 s, and the token lives for 10 s"),
            (Lifetime::ExpiresIn(Duration::ZERO), 0, "compare the clocks"),
            (Lifetime::ExpiresAt(clock::wall() - Duration::from_mins(1)), 0, "compare the clocks"),
        ] {
            let state = after(&none, Ok(lives(lifetime, None)), Duration::from_secs(took));
            let failure = state.last_error.unwrap().to_string();
            assert!(failure.contains(says), "{lifetime:?}: {failure}");
        }
    }

    #[test]
    fn a_refusal_remembers_whether_the_same_secret_worked() {
        let refused = || Err(Error::from(ResponseFault::TokenType));
        let none = after(&TokenState::default(), refused(), Duration::ZERO);
        assert_eq!(none.last_error.unwrap().worked, Worked::Never);
        let held = after(&TokenState::default(), Ok(lives(minute(), None)), Duration::ZERO);
        let at = held.last_success.unwrap();
        let same = after(&held, refused(), Duration::ZERO).last_error.unwrap();
        assert_eq!(same.worked, Worked::Same(at));
        assert!(same.to_string().contains("with the same secret"), "{same}");
        let other = TokenState { worked: Some((at, Fingerprint::of([b"old".as_slice()]))), ..held.clone() };
        assert_eq!(after(&other, refused(), Duration::ZERO).last_error.unwrap().worked, Worked::Other(at));
        // What came out of a store was not asked for with this secret.
        let stored =
            Fetched { asked: Some(clock::wall() - Duration::from_secs(20)), ..lives(minute(), None) };
        assert_eq!(after(&TokenState::default(), Ok(stored), Duration::ZERO).worked, None);
    }

    #[test]
    fn the_end_of_a_login_is_one_failure() {
        let held = after(&TokenState::default(), Ok(lives(minute(), None)), Duration::ZERO);
        let place = Place::of(&"https://as.example/token".parse().unwrap());
        let ended = ErrorKind::LoginEnded(oauth::LoginEnd::User);
        let by_server = Error::from(oauth::Error::at(place, ended));
        let ended = after(&held, Err(by_server.clone()), Duration::ZERO);
        let found = after(&ended, Err(Error::from(LoginFault::Required)), Duration::ZERO);
        let failure = found.last_error.as_ref().unwrap();
        assert_eq!((found.failures, failure.in_a_row, &failure.error), (1, 1, &by_server));
        assert_eq!((found.attempts, found.next_attempt), (3, None));
        let fresh = after(&TokenState::default(), Err(Error::from(LoginFault::Required)), Duration::ZERO);
        assert_eq!((fresh.failures, fresh.last_error.unwrap().in_a_row), (0, 0), "nothing was sent");
    }

    #[test]
    fn what_still_holds_the_token_that_the_api_refuses_is_named() {
        let path = std::path::PathBuf::from("/run/token");
        let file = || SecretSource::File(path.clone());
        let command = CommandSettings { command: vec!["helper".to_owned()], timeout: Duration::from_secs(1) };
        for (origin, want) in [
            (Origin::File(file()), "the file still holds the token that the API refuses; "),
            (Origin::Static(file()), "the configuration still holds the token that the API refuses; "),
            (Origin::Command(command), "the helper program still prints the token that the API refuses; "),
        ] {
            let settings = TokenSettings { origin, ..settings() };
            let now = BootInstant::now();
            let attempt = Attempt { sent: now, now, jitter: 0.5, inputs: None };
            let fetched = |text: &str| response(text, Duration::from_mins(5)).into();
            let held = apply(&TokenState::default(), Ok(fetched("one")), &attempt, &settings);
            let again = apply(&held, Ok(fetched("one")), &attempt, &settings);
            assert!(again.last_error.is_none(), "nothing is wrong with the same token by itself");
            let refused = rejected(&again, 1, now).unwrap();
            let still = apply(&refused, Ok(fetched("one")), &attempt, &settings);
            let failure = still.last_error.as_ref().unwrap();
            assert!(failure.to_string().starts_with(want), "{failure}");
            // It is one witness: the token stays in use, is looked for again soon, and no request was sent.
            assert_eq!((still.status(now), still.failures), (Status::Degraded, 0));
            assert!(still.next_attempt.unwrap() <= now + settings.policy.retry.max);
            let line = logged(&refused, &still, now);
            assert!(line.contains("WARN") && line.contains(want), "{line}");
            let new = apply(&still, Ok(fetched("two")), &attempt, &settings);
            assert_eq!(new.status(now), Status::Valid);
        }
    }

    #[test]
    fn a_token_out_of_the_store_is_adopted_and_no_renewal() {
        let none = TokenState::default();
        let adopted = Fetched { adopted: true, ..lives(minute(), None) };
        let state = after(&none, Ok(adopted), Duration::ZERO);
        assert_eq!((state.renewals, state.adoptions), (0, 1));
        let state = after(&state, Ok(lives(minute(), None)), Duration::ZERO);
        assert_eq!((state.renewals, state.adoptions), (1, 1));
        let state = forgotten(&state, BootInstant::now());
        assert_eq!((state.renewals, state.adoptions), (1, 1));
    }

    #[test]
    fn the_log_tells_a_token_that_expired_from_one_that_never_was() {
        let now = BootInstant::now();
        let error = Error::from(RequestFault::ShortSecret);
        let failed = TokenState { last_error: Some(Failure::first(error, now)), ..TokenState::default() };
        let token = |end| {
            let held = Credentials { expires_at: end, usable_until: end, ..credentials(now) };
            TokenState { credentials: Some(Arc::new(held)), ..failed.clone() }
        };
        let mut stored = failed.clone();
        let user = Some(oauth::Identity::stored("Alice", "1".to_owned()));
        stored.recall(Past { user, asked: Some(clock::wall()), until: Some(clock::wall()) });
        let shown = stored.last_error.as_ref().unwrap().to_string();
        assert!(shown.contains("; the newest token in the token store was issued at "), "{shown}");
        for (state, words) in [
            (&failed, "no token could be had"),
            (&token(now + Duration::from_mins(1)), "the token could not be renewed"),
            (&token(now), "the token expired and could not be renewed"),
            (&stored, "the token expired and could not be renewed"),
        ] {
            let line = logged(&TokenState::default(), state, now);
            assert!(line.contains(words), "{words} in: {line}");
            assert_eq!(line.contains("good_until="), state.expiry().is_some(), "{line}");
        }
        let login = Failure::first(Error::from(LoginFault::Required), now);
        let line = logged(&TokenState::default(), &TokenState { last_error: Some(login), ..stored }, now);
        assert!(line.contains("waiting for a login") && line.contains("user=Alice"), "{line}");
        assert!(line.contains("good_until="), "{line}");
    }

    #[test]
    fn a_pause_that_cannot_be_read_is_the_longest_one() {
        let busy = Error::from(ErrorKind::Status(http::StatusCode::SERVICE_UNAVAILABLE));
        let error = busy.after(Some(RetryAfter::Unreadable));
        assert!(error.to_string().contains("cannot be read"), "{error}");
        let state = after(&TokenState::default(), Err(error), Duration::ZERO);
        let failure = state.last_error.as_ref().unwrap();
        assert_eq!(failure.hold_until, Some(failure.at + login().policy.retry.max));
        assert!(state.next_attempt >= failure.hold_until);
    }
}
