//! What else an assertion says, and how long it lives: of the grant where that signs one, else of the client.

use std::time::Duration;

use serde_json::Value;

use super::{client, exchange};
use crate::config::file::{ClientAuth, Grant, Period, Token};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::resolve::{Zero, duration};
use crate::oauth::AssertionTerms;

/// Those of the assertion that the grant signs. `None` only where something was reported.
pub(super) fn of_grant(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<AssertionTerms> {
    read(path, token, review)
}

/// Those of the assertion that the client authenticates by; the default where the grant has them.
pub(super) fn of_client(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<AssertionTerms> {
    if is_signed_by_grant(token) {
        return Some(AssertionTerms::default());
    }
    let auth = client::auth(path, token, review);
    if matches!(auth, ClientAuth::PrivateKeyJwt | ClientAuth::ClientSecretJwt) {
        return read(path, token, review);
    }
    if review.is_spoken_for(&path.key("client_auth")) || review.is_spoken_for(&path.key("grant")) {
        return Some(AssertionTerms::default());
    }
    for key in ["assertion_claims", "assertion_lifetime"] {
        let key = path.key(key);
        if review.is_given(&key) {
            let what = "has no meaning where nothing is signed";
            let help = "take it out; it belongs to grant = \"jwt_bearer\" with a key or \"self_signed\", and to client_auth \
                        = \"private_key_jwt\" or \"client_secret_jwt\"";
            review.error(&key, what, help);
        }
    }
    Some(AssertionTerms::default())
}

/// Whether the grant itself signs something.
fn is_signed_by_grant(token: &Token) -> bool {
    token.grant == Grant::SelfSigned || token.grant == Grant::JwtBearer && !exchange::has_subject(token)
}

fn read(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<AssertionTerms> {
    let claims_path = path.key("assertion_claims");
    let mut sound = true;
    for (name, value) in &token.assertion_claims {
        let path = claims_path.key(name);
        let help = match name.as_str() {
            "iss" if token.grant == Grant::ClientCredentials => "`client_id` says it",
            "iss" => "`issuer_claim` says it",
            "sub" => "`subject` says it",
            "aud" => "`audience_claim` says it, or `client_assertion_audience`",
            "exp" => "`assertion_lifetime` says it",
            _ => "it is another one in each assertion",
        };
        if AssertionTerms::RESERVED.contains(&name.as_str()) {
            review.error(&path, "is a claim that each assertion has already", format!("take it out; {help}"));
            sound = false;
        } else if name.is_empty() || has_null(value) {
            let help = "write a string, a number, true, false, a list or a table";
            review.error(&path, "has a name or a value that no claim has", help);
            sound = false;
        }
    }
    let lifetime_path = path.key("assertion_lifetime");
    let lifetime = duration(&lifetime_path, token.assertion_lifetime, Zero::Refused, review);
    if lifetime < SHORTEST && !lifetime.is_zero() {
        let what = format!("must be at least {}, not {}", Period(SHORTEST), Period(lifetime));
        review.error(&lifetime_path, what, "set it to what the server allows, such as \"45s\"");
    }
    let claims = token.assertion_claims.clone().into_iter().collect();
    sound.then_some(AssertionTerms { claims, lifetime })
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(members) => members.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A shorter one ends on its way to a server whose clock is a little ahead.
const SHORTEST: Duration = Duration::from_secs(10);
