//! What a token exchange trades in (RFC 8693), or a JWT bearer grant that signs nothing (RFC 7523), and how the tokens of a configuration trade with each other.

use std::collections::BTreeMap;

use url::Url;

use super::jwt;
use crate::config::file::{Grant, Route, Token};
use crate::config::findings::Review;
use crate::config::problem::{KeyPath, Shown};
use crate::config::secret_ref::{Need, Variables, Wanted, Written};
use crate::config::shape::nearest;
use crate::proxy::OwnAuthorization;
use crate::token::{ExchangeSettings, Subject, TradeGrant};

pub(super) fn resolve(
    path: &KeyPath,
    token: &Token,
    grant: TradeGrant,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<ExchangeSettings> {
    let subject = subject(path, token, variables, review);
    let keys = vec![("actor_token_file", Written::File(token.actor_token_file.as_deref()))];
    let wanted = Wanted { noun: "token", owner: "the actor", keys };
    let actor = wanted.resolve(path, Need::Optional, variables, review);
    let subject_type = token_type(path, "subject_token_type", token.subject_token_type.as_deref(), review);
    let actor_path = path.key("actor_token_type");
    let actor_type = token_type(path, "actor_token_type", token.actor_token_type.as_deref(), review);
    if token.actor_token_type.is_some() && matches!(actor, Ok(None)) {
        let help = "set `actor_token_file`, or take it out";
        review.error(&actor_path, "has no meaning without an actor's token", help);
    }
    let requested = token_type(path, "requested_token_type", token.requested_token_type.as_deref(), review);
    let subject = subject?;
    let usual = if matches!(subject, Subject::File(_)) { JWT } else { ACCESS_TOKEN };
    let actor_type = actor_type.ok()?.unwrap_or_else(|| JWT.to_owned());
    Some(ExchangeSettings {
        grant,
        subject,
        subject_token_type: subject_type.ok()?.unwrap_or_else(|| usual.to_owned()),
        actor: actor.ok()?.map(|found| (found.source, actor_type)),
        requested_token_type: requested.ok()?,
    })
}

fn subject(
    path: &KeyPath,
    token: &Token,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<Subject> {
    let (file_path, name_path) = (path.key("subject_token_file"), path.key("subject_token"));
    let by_name = review.is_override(&name_path) && !review.is_override(&file_path);
    let by_file = review.is_override(&file_path) && !review.is_override(&name_path);
    let text = match (&token.subject_token_file, &token.subject_token) {
        (Some(_), Some(_)) if !by_name && !by_file => {
            review.error(
                &name_path,
                "the subject has more than one token",
                "keep subject_token or subject_token_file, and take out the other",
            );
            return None;
        }
        (file, Some(text)) if file.is_none() || by_name => text,
        (None, None) => {
            if !review.is_spoken_for(&file_path) {
                review.missing(
                    &name_path,
                    "nothing says which token is traded in",
                    "set `subject_token_file`, or `subject_token` to \"incoming\" or \"token:NAME\"",
                );
            }
            return None;
        }
        (file, _) => {
            let keys = vec![("subject_token_file", Written::File(file.as_deref()))];
            let wanted = Wanted { noun: "token", owner: "the subject", keys };
            let found = wanted.require(path, variables, review)?;
            jwt::review("token to trade in", &found, review);
            jwt::review_subject(&found, token, review);
            return Some(Subject::File(found.source));
        }
    };
    let subject = named_subject(text);
    if subject.is_none() {
        // It may be a token itself, so it is not shown.
        review.error(
            &name_path,
            "must be \"incoming\" or \"token:NAME\"",
            "write one of the two, or put the token into a file and name that by `subject_token_file`",
        );
    }
    subject
}

fn named_subject(text: &str) -> Option<Subject> {
    match text.strip_prefix(TOKEN_PREFIX) {
        Some(name) if !name.is_empty() => Some(Subject::Token(name.to_owned())),
        None if text == INCOMING => Some(Subject::Incoming),
        _ => None,
    }
}

/// Whether a token that was issued before is named.
pub(super) const fn has_subject(token: &Token) -> bool {
    token.subject_token.is_some() || token.subject_token_file.is_some()
}

/// Whether the grant can spend a token that was issued before.
const fn trades(token: &Token) -> bool {
    matches!(token.grant, Grant::TokenExchange | Grant::JwtBearer)
}

/// Whether each caller has a token of their own.
pub(in crate::config::resolve) fn is_per_caller(token: &Token) -> bool {
    trades(token) && token.subject_token_file.is_none() && token.subject_token.as_deref() == Some(INCOMING)
}

/// The token of the configuration that this one trades in.
pub(in crate::config::resolve) fn traded_in(token: &Token) -> Option<&str> {
    (trades(token) && token.subject_token_file.is_none())
        .then(|| token.subject_token.as_deref()?.strip_prefix(TOKEN_PREFIX))
        .flatten()
        .filter(|name| !name.is_empty())
}

/// An identifier of a type (RFC 8693 section 3): a URI.
fn token_type(
    path: &KeyPath,
    key: &str,
    text: Option<&str>,
    review: &mut Review<'_>,
) -> Result<Option<String>, ()> {
    let Some(text) = text else { return Ok(None) };
    if Url::parse(text).is_err() {
        let help = format!("write it out, such as \"{ACCESS_TOKEN}\"");
        review.error(&path.key(key), "must be the URI of a token's type (RFC 8693 section 3)", help);
        return Err(());
    }
    Ok(Some(text.to_owned()))
}

/// What only all tokens and all routes together show: whether a token that is traded in is there and is one, and
/// whether the tokens of callers are only used where a caller's token comes in.
pub(in crate::config::resolve) fn check_all(
    tokens: &BTreeMap<String, Token>,
    routes: &[Route],
    review: &mut Review<'_>,
) {
    for (name, token) in tokens {
        let Some(other) = traded_in(token) else { continue };
        let path = KeyPath::from("tokens").key(name).key("subject_token");
        match tokens.get(other) {
            None => {
                let help = nearest(other, tokens.keys().filter(|known| *known != name).map(String::as_str))
                    .map_or_else(
                        || "name one of [tokens]".to_owned(),
                        |meant| format!("did you mean \"{TOKEN_PREFIX}{meant}\"?"),
                    );
                review.error(&path, format!("there is no [tokens.{}]", Shown(other)), help);
            }
            Some(_) if other == name => {
                review.error(
                    &path,
                    "names the token itself: it would wait for itself",
                    "name another of [tokens]",
                );
            }
            Some(other_token) if is_per_caller(other_token) => review.error(
                &path,
                format!(
                    "[tokens.{}] is another for each caller, so that there is none to trade in",
                    Shown(other)
                ),
                "name a token that is not",
            ),
            // Told once, at the first of those that wait for each other.
            Some(_) if is_first_of_a_circle(name, tokens) => review.error(
                &path,
                format!("[tokens.{}] in its turn waits for this one", Shown(other)),
                "let one of the two be had in another way",
            ),
            Some(_) => {}
        }
    }
    let routes_path = KeyPath::from("routes");
    for (path, route) in review.elements(&routes_path).into_iter().zip(routes) {
        let Some((name, token)) = route.token.as_ref().and_then(|name| tokens.get_key_value(name)) else {
            continue;
        };
        if is_per_caller(token) && !matches!(route.own_authorization, OwnAuthorization::Replace) {
            review.error(
                &path.key("own_authorization"),
                format!(
                    "[tokens.{}] trades in the request's own Authorization, which must be let in for that",
                    Shown(name)
                ),
                "set it to \"replace\"",
            );
        }
    }
}

/// Whether the tokens that `start` waits for come back to it, and it is the first of them by name.
fn is_first_of_a_circle(start: &str, tokens: &BTreeMap<String, Token>) -> bool {
    let mut here = start;
    for _ in 0..tokens.len() {
        match tokens.get(here).and_then(traded_in) {
            Some(next) if next == start => return true,
            Some(next) if next > start => here = next,
            _ => return false,
        }
    }
    false
}

const INCOMING: &str = "incoming";
const TOKEN_PREFIX: &str = "token:";
/// RFC 8693 section 3.
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
