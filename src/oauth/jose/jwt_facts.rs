//! What a JWT in a file says of itself (RFC 7519 section 4.1): whom it is for, whose it is, when it ends. It is not verified: it
//! is for a person who compares it with the configuration, and for not sending what has expired.
//!
//! `config` reads files by it when a configuration is checked, `authentication` and `token::source::exchange` before they send
//! one, `app::trial` after one was refused. A secret has no claims, and so is never shown.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::clock;
use crate::oauth::endpoint::remark::excerpt;
use crate::oauth::error::Error;
use crate::oauth::error::kind::RequestFault;
use crate::oauth::grant::id_token::claims;
use crate::secret::{Secret, SecretSource};

/// The claims of a JWT that tell what it can be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JwtFacts {
    issuer: Option<String>,
    subject: Option<String>,
    audience: Vec<String>,
    expires: Option<SystemTime>,
}

impl JwtFacts {
    /// Of the token that a file holds; `None`: it is no JWT.
    #[must_use]
    pub(crate) fn read(token: &str) -> Option<Self> {
        let claims = claims(unquoted(token.trim_ascii()))?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let audience = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let seconds = claims.get("exp").and_then(Value::as_f64);
        let expires = seconds.and_then(|seconds| {
            UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds.clamp(0.0, LAST_SECOND)).ok()?)
        });
        Some(Self { issuer: text("iss"), subject: text("sub"), audience, expires })
    }

    /// When it expired, if it has by this machine's clock, with a minute or so to spare.
    #[must_use]
    pub(crate) fn expired(&self) -> Option<SystemTime> {
        self.expires.filter(|at| clock::until(*at + SKEW).is_zero())
    }

    /// Who issued it (`iss`), as it is written there.
    #[must_use]
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Whom it is for (`aud`), as it is written there.
    #[must_use]
    pub(crate) fn audience(&self) -> &[String] {
        &self.audience
    }

    /// The client that it is about, where a client made it itself (RFC 7523 section 3: `iss` and `sub` are the same).
    #[must_use]
    pub(crate) fn client(&self) -> Option<&str> {
        self.subject.as_deref().filter(|subject| self.issuer.as_deref() == Some(*subject))
    }
}

/// In words for a person, plain and short: `for "https://login.example.com", issued by "ci", about "orders", until Mon, ...`.
impl fmt::Display for JwtFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| excerpt(text, LONGEST);
        let mut parts = Vec::new();
        if !self.audience.is_empty() {
            let all: Vec<_> =
                self.audience.iter().take(MOST).map(|one| format!("\"{}\"", shown(one))).collect();
            parts.push(format!("for {}", all.join(" and ")));
        }
        parts.extend(self.issuer.as_deref().map(|issuer| format!("issued by \"{}\"", shown(issuer))));
        parts.extend(self.subject.as_deref().map(|subject| format!("about \"{}\"", shown(subject))));
        parts.extend(self.expires.map(|at| format!("until {}", httpdate::fmt_http_date(at))));
        if parts.is_empty() { f.write_str("without claims") } else { f.write_str(&parts.join(", ")) }
    }
}

/// When a JWT says that it was issued (`iat`).
pub(in crate::oauth) fn jwt_issued(token: &str) -> Option<SystemTime> {
    let seconds = claims(token)?.get("iat")?.as_f64()?.clamp(0.0, LAST_SECOND);
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// Whether the JWT that was read from `source` may still be good. `what` it is, in a sentence.
///
/// # Errors
/// [`RequestFault::Outdated`] where it says itself that it has expired: the response is known.
pub(crate) fn still_good(
    what: &'static str,
    source: &SecretSource,
    token: &Secret<String>,
) -> Result<(), Error> {
    let (Some(file), Some(at)) =
        (source.file(), JwtFacts::read(token.expose()).and_then(|facts| facts.expired()))
    else {
        return Ok(());
    };
    let told = format!("{} expired at {}", file.display(), httpdate::fmt_http_date(at)).into_boxed_str();
    Err(Error::here(RequestFault::Outdated { what, told }))
}

/// A token without the quotes that some programs print around it, as JSON has them.
pub(crate) fn unquoted(text: &str) -> &str {
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

/// What a server's clock may be apart from this machine's: most servers allow as much.
const SKEW: Duration = Duration::from_mins(1);
/// The end of the year 9999, beyond which there is no date to write.
const LAST_SECOND: f64 = 253_402_300_799.0;
/// Letters of a claim that are shown.
const LONGEST: usize = 120;
/// Audiences that are shown.
const MOST: usize = 5;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.sentinel", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_jwt_is_described_and_a_secret_never_is() {
        let facts = JwtFacts::read(&jwt(
            r#"{"iss":"https://ci.example","sub":"job\u001b1","aud":["a","b"],"exp":2000000000}"#,
        ))
        .unwrap();
        let shown = facts.to_string();
        assert!(
            shown.starts_with(r#"for "a" and "b", issued by "https://ci.example", about "job"#),
            "{shown}"
        );
        assert!(shown.ends_with("until Wed, 18 May 2033 03:33:20 GMT"), "{shown}");
        assert!(!shown.contains('\u{1b}') && !shown.contains("sentinel"), "{shown}");
        assert_eq!(facts.client(), None);
        assert_eq!(facts.expired(), None);
        let own = JwtFacts::read(&format!(" \"{}\"\n", jwt(r#"{"iss":"orders","sub":"orders","aud":"x"}"#)))
            .unwrap();
        assert_eq!((own.client(), own.audience()), (Some("orders"), ["x".to_owned()].as_slice()));
        for no_jwt in ["hunter2", "a.b", "a.b.c", "", "e30.e30", "-----BEGIN PRIVATE KEY-----"] {
            assert_eq!(JwtFacts::read(no_jwt), None, "{no_jwt}");
        }
    }

    #[test]
    fn what_has_expired_is_told_by_its_file_and_a_moment_of_skew_is_not() {
        let now = clock::wall().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let source = SecretSource::File(PathBuf::from("/run/assertion"));
        let judge =
            |exp: u64| still_good("assertion", &source, &Secret::new(jwt(&format!(r#"{{"exp":{exp}}}"#))));
        judge(now + 60).unwrap();
        judge(now - 30).unwrap();
        let error = judge(now - 90).unwrap_err().to_string();
        assert!(error.starts_with("the assertion in the file /run/assertion expired at "), "{error}");
        assert!(error.ends_with("no token request was made"), "{error}");
        still_good("assertion", &source, &Secret::new("opaque".to_owned())).unwrap();
    }
}
