//! What an answer of the token endpoint means (RFC 6749 sections 5.1 and 5.2): strict about what would do harm,
//! tolerant of what real servers send.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::oauth::endpoint::number::{MAX_LIFETIME, clamped, number};
use crate::secret::Secret;

use crate::oauth::endpoint::body::{says_something, without_mark};
use crate::oauth::endpoint::members::{Expiry, Members, Reading};
use crate::oauth::endpoint::report::Report;
use crate::oauth::endpoint::timestamp::instant_of;
use crate::oauth::endpoint::token_type::is_bearer;
use crate::oauth::error::kind::{Code, ErrorKind, ResponseFault, ResponseFlaw};

/// An access token as it was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenResponse {
    /// The token: visible ASCII and not empty (RFC 6749 appendix A.12).
    pub access_token: Secret<String>,
    /// For how long it is good.
    pub lifetime: Lifetime,
    /// Whether the server said that it is a Bearer token.
    pub token_type: TokenType,
    /// The scope that was granted, where the server says so; it may be narrower than the one asked for.
    pub scope: Option<Vec<String>>,
    /// The refresh token that came with it: the first one, or the next (RFC 6749 section 6).
    pub refresh_token: Option<Secret<String>>,
    /// What kind of token it is, which an answer to a token exchange must say (RFC 8693 section 2.2.1).
    pub issued_token_type: Option<String>,
    /// The host of the API that the token is for, where the server says so (`instance_url`, `api_domain`).
    pub api_host: Option<String>,
    /// For how long the refresh token is good unless it is used before: `refresh_expires_in` (Keycloak) or
    /// `refresh_token_expires_in`. `None`: for ever, or the server does not say.
    pub refresh_expires_in: Option<Duration>,
    /// What is strange about it.
    pub oddity: Option<Oddity>,
    /// Who logged in, as the server says (OpenID Connect Core 1.0 section 3.1.3.3). Not verified.
    pub id_token: Option<Secret<String>>,
}

/// For how long a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// `expires_in`, counted from the request; zero: already over. Never more than [`MAX_LIFETIME`].
    ExpiresIn(Duration),
    /// The `exp` claim of a JWT (RFC 7519 section 4.1.4), read where `expires_in` is missing. It is not verified.
    ExpiresAt(SystemTime),
    /// `expires_in` that is zero or less, as the server says it: over when it comes.
    NoTime(i64),
    /// Nothing says so: the configured default applies.
    Unknown,
    /// For ever: an opaque token that the configuration holds.
    Unbounded,
}

/// What is strange about a response that can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// `expires_in` is an instant, in seconds or milliseconds since 1970, and no duration.
    Instant,
    /// `expires_in` is longer than the token's own life, as its claims `iat` and `exp` have it; the shorter counts.
    LongerThanToken {
        /// What `expires_in` says.
        said: Duration,
        /// From `iat` to `exp`.
        own: Duration,
    },
    /// The refresh token is neither text nor a whole number: there is none.
    RefreshToken,
}

/// What the server said about the token's type (RFC 6749 section 7.1). Other types are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenType {
    /// `Bearer`, in any case.
    Bearer,
    /// Nothing; taken as `Bearer`.
    Assumed,
    /// `DPoP`, in any case (RFC 9449 section 5): it is good together with a proof alone.
    Dpop,
}

/// The kind of token that was asked for; no other is taken in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oauth) enum Wanted<'a> {
    /// One that is good by itself, which this server may call so, too.
    Bearer(Option<&'a str>),
    /// One that is bound to a key of ours.
    Bound,
}

impl Wanted<'_> {
    pub(in crate::oauth) const BEARER: Self = Self::Bearer(None);
}

/// Reads an answer that is to hold a token which is good by itself. Nothing of `body` gets into the error.
pub(in crate::oauth) fn parse(status: StatusCode, body: &[u8]) -> Result<TokenResponse, ErrorKind> {
    parse_as(status, body, Wanted::BEARER, Reading::PLAIN)
}

/// The same for a token of either kind, in the endpoint's own form.
pub(in crate::oauth) fn parse_as(
    status: StatusCode,
    body: &[u8],
    wanted: Wanted<'_>,
    reading: Reading<'_>,
) -> Result<TokenResponse, ErrorKind> {
    // Whatever the status: a code says more.
    if let Some(code) = refusal(status, body, reading) {
        return Err(ErrorKind::Denied(status, code));
    }
    if status.is_redirection() {
        return Err(ResponseFault::Redirect(status).into());
    }
    if !status.is_success() {
        return Err(ErrorKind::Status(status));
    }
    success(Members::read(body, reading)?, wanted)
}

/// Whether an answer that holds no token is a success; else what it says (RFC 6749 section 5.2, which the other
/// endpoints share).
pub(in crate::oauth) fn accepted(status: StatusCode, body: &[u8]) -> Result<(), ErrorKind> {
    match refusal(status, body, Reading::PLAIN) {
        Some(code) => Err(ErrorKind::Denied(status, code)),
        None if status.is_success() => Ok(()),
        None if status.is_redirection() => Err(ResponseFault::Redirect(status).into()),
        None => Err(ErrorKind::Status(status)),
    }
}

/// The code of a response that refuses, whatever its status. A success has one only where it says so outright.
pub(in crate::oauth) fn refusal(status: StatusCode, body: &[u8], reading: Reading<'_>) -> Option<Code> {
    let has_token = || {
        let members = serde_json::from_slice(without_mark(body)).unwrap_or_default();
        Members::of(&members, reading).access_token.is_some_and(|token| !token.is_null())
    };
    Report::read(body).refusal(status, has_token)
}

/// Reads a token response that came from elsewhere than a token endpoint.
pub(crate) fn parse_json(body: &[u8]) -> Result<TokenResponse, ErrorKind> {
    parse(StatusCode::OK, body)
}

/// Makes a response of a token alone, without anything said of it.
pub(crate) fn parse_bare(token: &str) -> Result<TokenResponse, ErrorKind> {
    let access_token = Some(Value::String(token.to_owned()));
    success(Members { access_token, ..Members::default() }, Wanted::BEARER)
}

fn success(answer: Members, wanted: Wanted<'_>) -> Result<TokenResponse, ErrorKind> {
    let access_token = match answer.access_token {
        None | Some(Value::Null) => {
            return Err(ResponseFault::Malformed(ResponseFlaw::NoAccessToken).into());
        }
        Some(token) => {
            Secret::new(token_text(token).ok_or(ResponseFault::Malformed(ResponseFlaw::AccessToken))?)
        }
    };
    // More than RFC 6749 appendix A.12 allows would let a server write headers of its own into our requests.
    if access_token.expose().is_empty() || !access_token.expose().bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ResponseFault::Malformed(ResponseFlaw::AccessToken).into());
    }
    let token_type = match (answer.token_type, wanted) {
        (Some(Value::String(name)), Wanted::Bound) if name.eq_ignore_ascii_case("dpop") => TokenType::Dpop,
        // It must be said (RFC 9449 section 5): a token that is not bound is good for every finder.
        (_, Wanted::Bound) => return Err(ResponseFault::Unbound.into()),
        (None | Some(Value::Null), Wanted::Bearer(_)) => TokenType::Assumed,
        (Some(Value::String(name)), Wanted::Bearer(more)) if is_bearer(&name, more) => TokenType::Bearer,
        (Some(_), Wanted::Bearer(_)) => return Err(ResponseFault::TokenType.into()),
    };
    let mut oddity = None;
    let lifetime = match answer.expires_in {
        None | Some(Value::Null) => match answer.expiry {
            Some(Expiry::At(at)) => Lifetime::ExpiresAt(UNIX_EPOCH + at),
            Some(Expiry::In(said)) => lifetime(said, claims(access_token.expose()).as_ref()).0,
            None => jwt_expiry(access_token.expose()).map_or(Lifetime::Unknown, Lifetime::ExpiresAt),
        },
        // A point in time in words.
        Some(value) if number(&value).is_none() && instant_of(&value).is_some() => {
            let at = instant_of(&value).unwrap_or_default();
            Lifetime::ExpiresAt(UNIX_EPOCH + at)
        }
        Some(value) => {
            let said = number(&value).ok_or(ResponseFault::Malformed(ResponseFlaw::ExpiresIn))?;
            let (lifetime, strange) = lifetime(said, claims(access_token.expose()).as_ref());
            oddity = strange;
            lifetime
        }
    };
    let is_said = answer.refresh_token.as_ref().is_some_and(says_something);
    let refresh_token = answer.refresh_token.and_then(token_text).map(Secret::new);
    if is_said && refresh_token.is_none() {
        oddity = Some(Oddity::RefreshToken);
    }
    // A flaw in it costs nothing but the plan.
    let refresh_life = answer.refresh_expires_in.or(answer.refresh_token_expires_in);
    let refresh_expires_in =
        refresh_life.and_then(|value| number(&value)).filter(|said| *said > 0.0 && instant(*said).is_none());
    Ok(TokenResponse {
        access_token,
        lifetime,
        token_type,
        scope: answer.scope.and_then(scopes),
        refresh_token,
        refresh_expires_in: refresh_expires_in.map(clamped),
        oddity,
        issued_token_type: answer.issued_token_type.and_then(text),
        api_host: answer.instance_url.or(answer.api_domain).and_then(text).as_deref().and_then(host),
        id_token: answer.id_token.and_then(text).map(Secret::new),
    })
}

/// The host in an address.
fn host(address: &str) -> Option<String> {
    Url::parse(address).ok()?.host_str().map(str::to_owned)
}

/// A string that says something.
pub(in crate::oauth) fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// A token: some servers write a number.
pub(in crate::oauth) fn token_text(value: Value) -> Option<String> {
    match value {
        Value::Number(number) if !number.is_f64() && number.as_u64() != Some(0) => Some(number.to_string()),
        value => text(value),
    }
}

/// What `expires_in` means beside the claims of a JWT. The two are compared by the token's own life: a machine whose
/// clock is wrong goes on working.
fn lifetime(said: f64, claims: Option<&Claims>) -> (Lifetime, Option<Oddity>) {
    if said <= 0.0 {
        return (Lifetime::NoTime(said.floor() as i64), None);
    }
    if let Some(at) = instant(said) {
        return (Lifetime::ExpiresAt(UNIX_EPOCH + at), Some(Oddity::Instant));
    }
    let said = clamped(said);
    let own =
        claims.and_then(|claims| Some(claims.exp - claims.iat()?)).filter(|own| *own > 0.0).map(clamped);
    match own {
        Some(own) if own < said => {
            let strange = said.saturating_sub(own) > (own / 10).max(Duration::from_secs(1));
            (Lifetime::ExpiresIn(own), strange.then_some(Oddity::LongerThanToken { said, own }))
        }
        _ => (Lifetime::ExpiresIn(said), None),
    }
}

/// The instant since 1970 that a number of seconds or milliseconds is where it would be absurd as a duration: between
/// the years 2017 and 2036.
fn instant(said: f64) -> Option<Duration> {
    let seconds = if INSTANTS.contains(&said) { said } else { said / 1000.0 };
    INSTANTS.contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

impl TokenResponse {
    /// A Bearer token of which nothing else is known.
    pub(crate) const fn bearer(access_token: Secret<String>, lifetime: Lifetime) -> Self {
        Self {
            access_token,
            lifetime,
            token_type: TokenType::Bearer,
            scope: None,
            refresh_token: None,
            issued_token_type: None,
            api_host: None,
            refresh_expires_in: None,
            oddity: None,
            id_token: None,
        }
    }

    /// Of a login without a refresh token: an `expires_in` of no time is what servers write there whose tokens have no end
    /// (Mailchimp).
    pub(in crate::oauth) fn without_an_end(&mut self) {
        if self.refresh_token.is_none() && matches!(self.lifetime, Lifetime::NoTime(_)) {
            self.lifetime =
                jwt_expiry(self.access_token.expose()).map_or(Lifetime::Unknown, Lifetime::ExpiresAt);
        }
    }

    /// Counts a JWT's `exp` from `now`, which is the server's own clock where it said so: then neither of the two
    /// clocks need be right. Where the answer has an `expires_in`, nothing changes.
    pub(in crate::oauth) fn count_from(&mut self, now: SystemTime) {
        let Lifetime::ExpiresAt(at) = self.lifetime else { return };
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let own = claims(self.access_token.expose());
        let own = own.map_or(MAX_LIFETIME, |own| left(own.exp, own.iat(), now));
        self.lifetime = Lifetime::ExpiresIn(left(at, None, now).min(own));
    }
}

/// What is left of a token at `now`, and no more than what it had when it was issued.
pub(in crate::oauth) fn left(exp: f64, iat: Option<f64>, now: SystemTime) -> Duration {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let whole = iat.map_or(f64::INFINITY, |iat| exp - iat);
    clamped((exp - now).min(whole))
}

/// The `exp` of a JWT, on the far side of the calendar at most, so that no sum of clocks overflows.
pub(crate) fn jwt_expiry(token: &str) -> Option<SystemTime> {
    let exp = claims(token)?.exp.clamp(0.0, MAX_UNIX_SECONDS);
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(exp).ok()?)
}

/// When a token was made and when it ends (RFC 7519 section 4.1).
#[derive(Deserialize)]
pub(in crate::oauth) struct Claims {
    pub(in crate::oauth) exp: f64,
    iat: Option<Value>,
}

/// The claims of a JWT in compact form (RFC 7515 section 3.1), unverified: they are for planning alone.
pub(in crate::oauth) fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let mut claims: Claims = serde_json::from_slice(&payload).ok()?;
    if claims.exp > INSTANTS.end * 10.0 && instant(claims.exp).is_some() {
        claims.exp /= 1000.0;
    }
    Some(claims)
}

impl Claims {
    /// When it was made, in seconds; some servers write milliseconds.
    fn iat(&self) -> Option<f64> {
        let iat = self.iat.as_ref()?.as_f64()?;
        Some(if iat > INSTANTS.end * 10.0 { iat / 1000.0 } else { iat })
    }
}

/// A space-separated list (RFC 6749 section 3.3); some servers send commas, or an array of strings.
pub(in crate::oauth) fn scopes(value: Value) -> Option<Vec<String>> {
    let words: Vec<String> = match value {
        Value::String(text) if text.trim().contains(' ') => {
            text.split_ascii_whitespace().map(|word| word.trim_end_matches(',').to_owned()).collect()
        }
        Value::String(text) => text.trim().split(',').map(str::to_owned).collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => return None,
    };
    // Scopes are shown in status; RFC 6749 section 3.3 allows no more than this.
    Some(words.into_iter().filter(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_graphic())).collect())
}

/// What is an instant and no duration, in seconds since 1970. Below lie durations that mean "for ever" (31 years), above
/// it the largest number of 32 bits, which means the same.
const INSTANTS: std::ops::Range<f64> = 1.5e9..2.1e9;

/// The year 9999.
const MAX_UNIX_SECONDS: f64 = 253_402_300_799.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Result<TokenResponse, ErrorKind> {
        parse(StatusCode::OK, body.as_bytes())
    }

    fn lifetime(expires_in: &str) -> Result<Lifetime, ErrorKind> {
        answer(&format!(r#"{{"access_token":"t","token_type":"Bearer","expires_in":{expires_in}}}"#))
            .map(|response| response.lifetime)
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn expires_in_is_read_as_number_string_or_float() {
        for (given, want) in [
            ("3600", 3600.0),
            (r#""86400""#, 86400.0),
            ("3600.5", 3600.5),
            (r#"" 60 ""#, 60.0),
            (r#""1.5e2""#, 150.0),
            ("1e30", MAX_LIFETIME.as_secs_f64()),
            ("18446744073709551615", MAX_LIFETIME.as_secs_f64()),
            (r#""99999999999999999999999999""#, MAX_LIFETIME.as_secs_f64()),
        ] {
            assert_eq!(lifetime(given), Ok(Lifetime::ExpiresIn(Duration::from_secs_f64(want))), "{given}");
        }
    }

    #[test]
    fn an_expires_in_of_no_time_is_told_as_the_server_says_it() {
        for (given, said) in [("0", 0), ("-1", -1), ("-5", -5), (r#""-5""#, -5), ("-0.5", -1), ("0.0", 0)] {
            assert_eq!(lifetime(given), Ok(Lifetime::NoTime(said)), "{given}");
        }
    }

    #[test]
    fn a_form_with_a_token_in_it_is_a_token_response() {
        let got = answer("access_token=a%2Bb&expires_in=7776000&refresh_token=r&scope=read,write\n").unwrap();
        assert_eq!((got.access_token.expose().as_str(), got.token_type), ("a+b", TokenType::Assumed));
        assert_eq!(got.lifetime, Lifetime::ExpiresIn(Duration::from_hours(2160)));
        assert_eq!(got.refresh_token.unwrap().expose(), "r");
        assert_eq!(got.scope.unwrap(), ["read", "write"]);
        for body in
            ["access_tokens=a", "access_token", "<p>access_token=a</p>", "token=a&access_token\u{e4}=b"]
        {
            assert!(answer(body).is_err(), "{body}");
        }
        assert_eq!(
            answer("access_token=&expires_in=1").unwrap_err(),
            ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::AccessToken))
        );
    }

    #[test]
    fn an_expires_in_of_no_time_says_of_a_login_without_a_refresh_token_that_its_token_has_no_end() {
        let jwt = jwt(r#"{"exp":1800003600}"#);
        let at = Lifetime::ExpiresAt(UNIX_EPOCH + Duration::from_hours(500_001));
        for (token, more, want) in [
            ("t", "", Lifetime::Unknown),
            (jwt.as_str(), "", at),
            ("t", r#","refresh_token":"r""#, Lifetime::NoTime(0)),
        ] {
            let mut got =
                answer(&format!(r#"{{"access_token":"{token}","expires_in":0,"scope":null{more}}}"#))
                    .unwrap();
            got.without_an_end();
            assert_eq!(got.lifetime, want, "{token} {more}");
        }
        let mut hour = answer(r#"{"access_token":"t","expires_in":3600}"#).unwrap();
        hour.without_an_end();
        assert_eq!(hour.lifetime, Lifetime::ExpiresIn(Duration::from_hours(1)));
    }

    #[test]
    fn an_expires_in_that_is_an_instant_counts_from_the_servers_clock() {
        let now = UNIX_EPOCH + Duration::from_hours(500_000);
        let hour = Lifetime::ExpiresIn(Duration::from_hours(1));
        for said in ["1800003600", r#""1800003600""#, "1800003600000"] {
            let body = format!(r#"{{"access_token":"t","expires_in":{said}}}"#);
            let mut got = answer(&body).unwrap();
            assert_eq!(got.oddity, Some(Oddity::Instant), "{said}");
            got.count_from(now);
            assert_eq!(got.lifetime, hour, "{said}");
        }
        let token = jwt(r#"{"iat":1800000000,"exp":1800000600}"#);
        let mut got = answer(&format!(r#"{{"access_token":"{token}","expires_in":1800003600}}"#)).unwrap();
        got.count_from(now);
        assert_eq!(got.lifetime, Lifetime::ExpiresIn(Duration::from_mins(10)), "the earlier of the two");
        for forever in ["1000000000", "2147483647", "4294967295", "9999999999"] {
            assert_eq!(lifetime(forever), Ok(Lifetime::ExpiresIn(MAX_LIFETIME)), "{forever}");
        }
    }

    #[test]
    fn an_expires_in_longer_than_the_tokens_own_life_is_cut_to_it_whatever_the_clocks_say() {
        let secs = Duration::from_secs;
        for (claims, said, want, strange) in [
            (r#"{"iat":1000,"exp":1600}"#, 3600, 600, true),
            (r#"{"iat":1800000000,"exp":1800000600}"#, 3600, 600, true),
            (r#"{"iat":1800000000000,"exp":1800000600000}"#, 3600, 600, true),
            // Rounded.
            (r#"{"iat":1000,"exp":4599}"#, 3600, 3599, false),
            (r#"{"iat":1000,"exp":9000}"#, 3600, 3600, false),
            (r#"{"exp":1600}"#, 3600, 3600, false),
            (r#"{"iat":1600,"exp":1600}"#, 3600, 3600, false),
            (r#"{"iat":"odd","exp":1600}"#, 3600, 3600, false),
        ] {
            let token = jwt(claims);
            let got = answer(&format!(r#"{{"access_token":"{token}","expires_in":{said}}}"#)).unwrap();
            assert_eq!(got.lifetime, Lifetime::ExpiresIn(secs(want)), "{claims}");
            let oddity = Oddity::LongerThanToken { said: secs(said), own: secs(want) };
            assert_eq!(got.oddity, strange.then_some(oddity), "{claims}");
        }
    }

    #[test]
    fn a_jwt_whose_times_are_in_milliseconds_is_read_in_seconds() {
        let exp = UNIX_EPOCH + Duration::from_mins(30_000_010);
        let token = jwt(r#"{"iat":1800000000000,"exp":1800000600000}"#);
        let mut got = answer(&format!(r#"{{"access_token":"{token}"}}"#)).unwrap();
        assert_eq!(got.lifetime, Lifetime::ExpiresAt(exp));
        got.count_from(UNIX_EPOCH + Duration::from_secs(1_800_000_100));
        assert_eq!(got.lifetime, Lifetime::ExpiresIn(Duration::from_secs(500)));
    }

    #[test]
    fn a_refresh_tokens_life_is_read_under_both_names_and_zero_is_for_ever() {
        for (members, want) in [
            (r#""refresh_expires_in":1800"#, Some(1800)),
            (r#""refresh_token_expires_in":1800"#, Some(1800)),
            (r#""refresh_token_expires_in":"1800""#, Some(1800)),
            (r#""refresh_expires_in":0"#, None),
            (r#""refresh_expires_in":-1"#, None),
            (r#""refresh_expires_in":null"#, None),
            (r#""refresh_expires_in":"soon""#, None),
            (r#""x":1"#, None),
        ] {
            let got = answer(&format!(r#"{{"access_token":"t",{members}}}"#)).unwrap();
            assert_eq!(got.refresh_expires_in, want.map(Duration::from_secs), "{members}");
        }
    }

    #[test]
    fn an_expires_in_that_is_no_number_is_an_error() {
        for given in ["false", "{}", "[]", r#""zzz""#, r#""""#, r#""inf""#, r#""nan""#, r#""12 s""#] {
            assert_eq!(
                lifetime(given),
                Err(ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::ExpiresIn))),
                "{given}"
            );
        }
    }

    #[test]
    fn without_expires_in_a_jwt_says_when_and_an_opaque_token_does_not() {
        assert_eq!(lifetime("null"), Ok(Lifetime::Unknown));
        let body = |token: &str| format!(r#"{{"access_token":"{token}","token_type":"bearer"}}"#);
        let at = |token: &str| answer(&body(token)).unwrap().lifetime;
        let exp = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        assert_eq!(at(&jwt(r#"{"exp":2000000000,"sub":"x"}"#)), Lifetime::ExpiresAt(exp));
        assert_eq!(at(&jwt(r#"{"exp":2000000000.0}"#)), Lifetime::ExpiresAt(exp));
        for odd in
            [jwt("{}"), jwt(r#"{"exp":"soon"}"#), jwt("nonsense"), "a.b.c".into(), "a.b".into(), "..".into()]
        {
            assert_eq!(at(&odd), Lifetime::Unknown, "{odd}");
        }
        assert!(matches!(at(&jwt(r#"{"exp":1e300}"#)), Lifetime::ExpiresAt(_)));
    }

    #[test]
    fn a_jwts_end_is_counted_by_the_servers_clock_and_never_beyond_its_whole_life() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let count = |members: &str, now: u64| {
            let mut got = answer(&format!(r#"{{"access_token":"{}"}}"#, jwt(members))).unwrap();
            got.count_from(at(now));
            got.lifetime
        };
        let secs = |seconds| Lifetime::ExpiresIn(Duration::from_secs(seconds));
        for (members, now, want) in [
            (r#"{"exp":2000000600}"#, 2_000_000_000, secs(600)),
            (r#"{"exp":2000000600,"iat":2000000000}"#, 2_000_000_100, secs(500)),
            // A clock that is behind lends no token a longer life.
            (r#"{"exp":2000000600,"iat":2000000000}"#, 1_999_990_000, secs(600)),
            (r#"{"exp":2000000600,"iat":"odd"}"#, 2_000_000_000, secs(600)),
            (r#"{"exp":2000000600,"iat":2000000900}"#, 2_000_000_000, secs(0)),
            (r#"{"exp":2000000600}"#, 2_000_000_601, secs(0)),
            (r#"{"exp":1e300}"#, 2_000_000_000, Lifetime::ExpiresIn(MAX_LIFETIME)),
        ] {
            assert_eq!(count(members, now), want, "{members} at {now}");
        }
        let said = format!(r#"{{"access_token":"{}","expires_in":60}}"#, jwt(r#"{"exp":2000000600}"#));
        let mut got = answer(&said).unwrap();
        got.count_from(at(2_000_000_000));
        assert_eq!(got.lifetime, secs(60), "what says nothing of its own life changes nothing");
    }

    #[test]
    fn bearer_counts_in_any_case_and_when_missing_but_no_other_type_does() {
        let kind = |value: &str| {
            answer(&format!(r#"{{"access_token":"t","token_type":{value}}}"#))
                .map(|response| response.token_type)
        };
        for value in [r#""bearer""#, r#""Bearer""#, r#""BEARER""#, r#""beAREr""#] {
            assert_eq!(kind(value), Ok(TokenType::Bearer), "{value}");
        }
        assert_eq!(answer(r#"{"access_token":"t"}"#).unwrap().token_type, TokenType::Assumed);
        assert_eq!(kind("null"), Ok(TokenType::Assumed));
        for value in [r#""""#, r#""bearer ""#, r#""BearerToken""#] {
            assert_eq!(kind(value), Ok(TokenType::Bearer), "{value}");
        }
        for value in [r#""mac""#, r#""N_A""#, r#""DPoP""#, "7"] {
            assert_eq!(kind(value), Err(ErrorKind::Response(ResponseFault::TokenType)), "{value}");
        }
        let bot = br#"{"access_token":"t","token_type":"bot"}"#;
        let read = |wanted| parse_as(StatusCode::OK, bot, wanted, Reading::PLAIN);
        assert_eq!(read(Wanted::Bearer(Some("bot"))).unwrap().token_type, TokenType::Bearer);
        assert_eq!(read(Wanted::BEARER), Err(ErrorKind::Response(ResponseFault::TokenType)));
    }

    #[test]
    fn a_token_that_could_write_headers_is_refused() {
        for token in [r"a\r\nX: y", r"a\u0000", r"a b", r"\u00e9", "", r"a\u007f", r"a\n"] {
            let got = answer(&format!(r#"{{"access_token":"{token}","token_type":"Bearer"}}"#));
            assert_eq!(
                got,
                Err(ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::AccessToken))),
                "{token}"
            );
        }
        for value in ["7.5", "0", "{}", "[]", "true"] {
            let got = answer(&format!(r#"{{"access_token":{value}}}"#));
            assert_eq!(
                got,
                Err(ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::AccessToken))),
                "{value}"
            );
        }
    }

    #[test]
    fn a_success_without_a_token_is_a_failure_with_a_clear_cause() {
        for (body, want) in [
            ("", ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Empty))),
            (" \r\n", ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Empty))),
            ("{", ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::BrokenJson))),
            (
                r#"{"access_token":"t","#,
                ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::BrokenJson)),
            ),
            ("<html>", ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Page))),
            (
                r#"{"access_token":"t","access_token":"u"}"#,
                ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Twice)),
            ),
            ("[]", ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NotJson))),
            ("null", ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NotJson))),
            (r#""text""#, ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NotJson))),
            ("{}", ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NoAccessToken))),
            (
                r#"{"access_token":null}"#,
                ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NoAccessToken)),
            ),
            (r#"{"error":"invalid_client"}"#, ErrorKind::Denied(StatusCode::OK, Code::InvalidClient)),
            (r#"{"error":"odd","access_token":"t"}"#, ErrorKind::Denied(StatusCode::OK, Code::Other)),
            (r#"{"error":{"a":1}}"#, ErrorKind::Denied(StatusCode::OK, Code::Other)),
        ] {
            assert_eq!(answer(body), Err(want), "{body}");
        }
    }

    #[test]
    fn an_error_answer_is_judged_by_its_code_and_else_by_its_status() {
        let status = |code: u16| StatusCode::from_u16(code).unwrap();
        for (code, body, want) in [
            (401, r#"{"error":"invalid_client"}"#, ErrorKind::Denied(status(401), Code::InvalidClient)),
            (400, "", ErrorKind::Status(status(400))),
            (502, "<html>bad gateway</html>", ErrorKind::Status(status(502))),
            (403, r#"{"access_token":"t"}"#, ErrorKind::Status(status(403))),
            (307, "", ErrorKind::Response(ResponseFault::Redirect(status(307)))),
        ] {
            assert_eq!(parse(status(code), body.as_bytes()), Err(want), "{code}");
        }
    }

    #[test]
    fn unknown_members_are_ignored_and_a_narrower_scope_is_kept() {
        let got = answer(r#"{"access_token":"t","x":{"y":[1]},"scope":"a  b"}"#).unwrap();
        assert_eq!(got.scope, Some(vec!["a".into(), "b".into()]));
        let got = answer(r#"{"access_token":"t","scope":["a","b"]}"#).unwrap();
        assert_eq!(got.scope, Some(vec!["a".into(), "b".into()]));
        let got = answer(r#"{"access_token":"t","scope":"a,b"}"#).unwrap();
        assert_eq!(got.scope, Some(vec!["a".into(), "b".into()]));
        for nothing in ["null", r#""""#, "false"] {
            let body = format!(r#"{{"access_token":"t","error":{nothing}}}"#);
            assert_eq!(answer(&body).unwrap().scope, None, "{nothing}");
        }
        assert!(answer("\u{feff}{\"access_token\":\"t\"}").is_ok());
    }

    #[test]
    fn a_refresh_token_is_kept_where_there_is_one() {
        let kept = |value: &str| {
            let got = answer(&format!(r#"{{"access_token":"t","refresh_token":{value}}}"#)).unwrap();
            got.refresh_token.map(|token| token.expose().clone())
        };
        assert_eq!(kept(r#""r1""#).as_deref(), Some("r1"));
        for none in ["null", r#""""#, "{}"] {
            assert_eq!(kept(none), None, "{none}");
        }
    }

    #[test]
    fn a_token_that_is_a_number_is_taken_as_it_is_written_and_one_of_another_type_is_reported() {
        for number in ["12345", "-7", "18446744073709551615", "123456789012345678901234567890"] {
            let got = answer(&format!(r#"{{"access_token":{number},"refresh_token":{number}}}"#)).unwrap();
            assert_eq!(got.access_token.expose(), number);
            assert_eq!(got.refresh_token.unwrap().expose(), number);
            assert_eq!(got.oddity, None);
        }
        for odd in ["1.5", "true", r#"{"value":"r"}"#, r#"["r"]"#] {
            let got = answer(&format!(r#"{{"access_token":"t","refresh_token":{odd}}}"#)).unwrap();
            assert_eq!((got.refresh_token, got.oddity), (None, Some(Oddity::RefreshToken)), "{odd}");
        }
        for none in ["null", "false", "0", r#""""#, "[]", "{}"] {
            let got = answer(&format!(r#"{{"access_token":"t","refresh_token":{none}}}"#)).unwrap();
            assert_eq!((got.refresh_token, got.oddity), (None, None), "{none}");
        }
    }

    #[test]
    fn a_token_of_another_kind_than_was_asked_for_is_refused() {
        let read = |token_type: &str, wanted| {
            let body = format!(r#"{{"access_token":"t"{token_type}}}"#);
            parse_as(StatusCode::OK, body.as_bytes(), wanted, Reading::PLAIN)
                .map(|response| response.token_type)
        };
        for name in ["DPoP", "dpop"] {
            let said = format!(r#","token_type":"{name}""#);
            assert_eq!(read(&said, Wanted::Bound), Ok(TokenType::Dpop));
            assert_eq!(read(&said, Wanted::BEARER), Err(ErrorKind::Response(ResponseFault::TokenType)));
        }
        for said in [r#","token_type":"Bearer""#, r#","token_type":null"#, "", r#","token_type":7"#] {
            assert_eq!(read(said, Wanted::Bound), Err(ErrorKind::Response(ResponseFault::Unbound)), "{said}");
        }
        let denied = parse_as(
            StatusCode::BAD_REQUEST,
            br#"{"error":"use_dpop_nonce"}"#,
            Wanted::Bound,
            Reading::PLAIN,
        );
        assert_eq!(denied, Err(ErrorKind::Denied(StatusCode::BAD_REQUEST, Code::UseDpopNonce)));
    }

    #[test]
    fn a_response_never_prints_its_token() {
        let got = answer(r#"{"access_token":"sentinel","refresh_token":"sentinel"}"#).unwrap();
        assert!(!format!("{got:?}").contains("sentinel"));
    }
}
