//! Who logged in: the ID token (OpenID Connect Core 1.0 sections 2 and 3.1.3.7).
//!
//! It is read where it comes straight from the token endpoint, whose certificate vouches for it in place of a signature
//! (section 3.1.3.7, point 6). It is a name to show and a bond between the login and the request that began it; nothing
//! here is let in by it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::secret::Secret;

use crate::oauth::endpoint::remark::excerpt;
use crate::oauth::error::kind::{FoundIssuer, IdTokenFault};

/// What an ID token must say.
#[derive(Clone, Copy, Debug)]
pub(in crate::oauth) struct Expected<'a> {
    /// `None`: no issuer is configured.
    pub(in crate::oauth) issuer: Option<&'a str>,
    pub(in crate::oauth) client_id: &'a str,
    /// `None`: none was sent.
    pub(in crate::oauth) nonce: Option<&'a Secret<String>>,
    pub(in crate::oauth) now: SystemTime,
}

/// Who logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    words: String,
    /// What the server knows them by (`sub`), which never changes; empty: it was not recorded.
    subject: String,
}

impl Identity {
    /// A stored one; its words are made plain once more.
    #[must_use]
    pub(crate) fn stored(words: &str, subject: String) -> Self {
        Self { words: excerpt(words, 2 * MAX_NAME + 50), subject }
    }

    /// In words for people: `Alice <alice@example.com>`. Plain text of at most 250 characters.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.words
    }

    /// What the server knows them by.
    #[must_use]
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether `other` is another user, as far as is known.
    #[must_use]
    pub(crate) fn differs(&self, other: &Self) -> bool {
        !self.subject.is_empty() && !other.subject.is_empty() && self.subject != other.subject
    }

    fn of(claims: &Map<String, Value>) -> Self {
        let text = |name: &str| {
            let text = claims.get(name).and_then(Value::as_str).map(|text| excerpt(text, MAX_NAME));
            text.filter(|text| !text.is_empty())
        };
        let name = text("name").or_else(|| text("preferred_username"));
        let words = match (name, text("email")) {
            (Some(name), Some(email)) if name != email => format!("{name} <{email}>"),
            (Some(one), _) | (None, Some(one)) => one,
            (None, None) => text("sub").unwrap_or_default(),
        };
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { words, subject }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Reads an ID token.
pub(in crate::oauth) fn read(
    token: &Secret<String>,
    expected: Expected<'_>,
) -> Result<Identity, IdTokenFault> {
    let claims = claims(token.expose()).ok_or(IdTokenFault::Malformed)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if expected.issuer.is_some_and(|issuer| text("iss") != Some(issuer)) {
        return Err(IdTokenFault::Issuer(FoundIssuer::of(text("iss"))));
    }
    let ours = |value: &Value| value.as_str() == Some(expected.client_id);
    let (audience, alone) = match claims.get("aud") {
        Some(Value::Array(all)) => (all.iter().any(ours), all.len() == 1),
        Some(one) => (ours(one), true),
        None => (false, true),
    };
    let party = claims.get("azp");
    if !audience || party.is_some_and(|party| !ours(party)) || !alone && party.is_none() {
        return Err(IdTokenFault::Audience);
    }
    if let Some(nonce) = expected.nonce
        && text("nonce") != Some(nonce.expose())
    {
        return Err(IdTokenFault::Nonce);
    }
    let now = expected.now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let instant =
        |name: &str| claims.get(name).and_then(Value::as_f64).map(|seconds| seconds.max(0.0) as u64);
    let expiry = instant("exp").ok_or(IdTokenFault::Malformed)?;
    if expiry.saturating_add(SKEW.as_secs()) < now {
        return Err(IdTokenFault::Expired(now - expiry));
    }
    match instant("iat") {
        Some(issued) if issued > now.saturating_add(SKEW.as_secs()) => {
            Err(IdTokenFault::Future(issued - now))
        }
        _ if text("sub").is_none_or(str::is_empty) => Err(IdTokenFault::Malformed),
        _ => Ok(Identity::of(&claims)),
    }
}

/// Whose token a JWT is: `iss` and `sub`, unverified; `None`: it does not say.
pub(crate) fn jwt_subject(token: &str) -> Option<[String; 2]> {
    let claims = claims(token)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some([text("iss"), text("sub")]).filter(|[_, subject]| !subject.is_empty())
}

pub(in crate::oauth) fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (Some(_header), Some(payload), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// By how much two clocks may differ before it is worth a word.
const SKEW: Duration = Duration::from_mins(5);
/// A longer name is cut.
const MAX_NAME: usize = 100;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn judge(change: impl FnOnce(&mut Value)) -> Result<Identity, IdTokenFault> {
        let mut claims = json!({
            "iss": "https://as.example", "aud": "laptop", "sub": "u1", "nonce": "right",
            "exp": NOW + 60, "iat": NOW, "name": "Alice", "email": "alice@example.com",
        });
        change(&mut claims);
        let token = Secret::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string())));
        let nonce = Secret::new("right".to_owned());
        read(
            &token,
            Expected {
                issuer: Some("https://as.example"),
                client_id: "laptop",
                nonce: Some(&nonce),
                now: UNIX_EPOCH + Duration::from_secs(NOW),
            },
        )
    }

    #[test]
    fn who_logged_in_is_told_by_the_best_name_there_is() {
        assert_eq!(judge(|_| ()).unwrap().as_str(), "Alice <alice@example.com>");
        assert_eq!(judge(|c| c["email"] = Value::Null).unwrap().as_str(), "Alice");
        let only_sub = judge(|c| {
            c["name"] = json!("\u{1b}[2J");
            c["email"] = Value::Null;
        });
        assert_eq!(only_sub.unwrap().as_str(), "[2J");
        let neither = judge(|c| {
            c["name"] = Value::Null;
            c["email"] = json!("");
        });
        assert_eq!(neither.unwrap().as_str(), "u1");
    }

    #[test]
    fn another_subject_is_somebody_else_whatever_the_name() {
        let alice = judge(|_| ()).unwrap();
        assert!(!alice.differs(&judge(|c| c["name"] = json!("Alicia")).unwrap()));
        assert!(alice.differs(&judge(|c| c["sub"] = json!("u2")).unwrap()));
        assert!(!alice.differs(&Identity::stored("Alice", String::new())), "who was not written down");
    }

    #[test]
    fn a_token_of_another_login_issuer_or_client_is_not_taken() {
        assert_eq!(
            judge(|c| c["iss"] = json!("https://as.example/")),
            Err(IdTokenFault::Issuer(FoundIssuer::of(Some("https://as.example/"))))
        );
        assert_eq!(judge(|c| c["aud"] = json!("other")), Err(IdTokenFault::Audience));
        assert_eq!(judge(|c| c["aud"] = json!(["laptop", "other"])), Err(IdTokenFault::Audience));
        assert_eq!(judge(|c| c["azp"] = json!("other")), Err(IdTokenFault::Audience));
        assert_eq!(judge(|c| c["nonce"] = json!("wrong")), Err(IdTokenFault::Nonce));
        assert_eq!(judge(|c| c["nonce"] = Value::Null), Err(IdTokenFault::Nonce));
        assert_eq!(judge(|c| c["sub"] = Value::Null), Err(IdTokenFault::Malformed));
        assert!(
            judge(|c| {
                c["aud"] = json!(["laptop", "other"]);
                c["azp"] = json!("laptop");
            })
            .is_ok()
        );
    }

    #[test]
    fn a_clock_that_is_off_is_named_with_its_distance() {
        assert_eq!(judge(|c| c["exp"] = json!(NOW - 301)), Err(IdTokenFault::Expired(301)));
        assert!(judge(|c| c["exp"] = json!(NOW - 299)).is_ok(), "clocks may differ a little");
        assert_eq!(judge(|c| c["iat"] = json!(NOW + 3600)), Err(IdTokenFault::Future(3600)));
        assert!(IdTokenFault::Future(3600).to_string().contains("clock"));
    }

    #[test]
    fn what_is_no_jwt_is_malformed() {
        for text in ["", "a.b", "a.b.c.d", "e30.!.x", "e30.W10.x"] {
            let expected = Expected { issuer: None, client_id: "a", nonce: None, now: UNIX_EPOCH };
            assert_eq!(read(&Secret::new(text.to_owned()), expected), Err(IdTokenFault::Malformed), "{text}");
        }
    }
}
