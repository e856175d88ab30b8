//! How the token is earned, with what each grant spends.

use super::{exchange, key, login, terms};
use crate::config::file::{Grant, Token};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::secret_ref::{Need, Variables, Wanted, Written};
use crate::token::{BearerAssertion, GrantSettings, TradeGrant};

/// A grant, and what came to light with it.
#[derive(Default)]
pub(super) struct Granted {
    /// `None` only where something was reported, or where the token comes from no authorization server.
    pub(super) grant: Option<GrantSettings>,
    /// The key and its word for where tokens are asked for, where nothing else says so.
    pub(super) token_uri: Option<(KeyPath, String)>,
}

/// The grant of a token that comes from an authorization server.
pub(super) fn resolve(
    path: &KeyPath,
    token: &Token,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Granted {
    let mut token_uri = None;
    let grant = match token.grant {
        Grant::ClientCredentials => Some(GrantSettings::ClientCredentials),
        Grant::RefreshToken => {
            let keys = vec![("refresh_token_file", Written::File(token.refresh_token_file.as_deref()))];
            let wanted = Wanted { noun: "refresh token", owner: "the token", keys };
            let found = wanted.resolve(path, Need::Optional, variables, review).ok();
            found.map(|found| GrantSettings::RefreshToken { seed: found.map(|found| found.source) })
        }
        Grant::AuthorizationCode | Grant::DeviceCode => {
            login::resolve(path, token, review).map(GrantSettings::Login)
        }
        Grant::Password => password(path, token, variables, review),
        Grant::JwtBearer if exchange::has_subject(token) => {
            no_key_beside_a_subject(path, review);
            let settings = exchange::resolve(path, token, TradeGrant::JwtBearer, variables, review);
            settings.map(GrantSettings::TokenExchange)
        }
        Grant::JwtBearer => {
            jwt_bearer(path, token, &mut token_uri, variables, review).map(GrantSettings::JwtBearer)
        }
        Grant::TokenExchange => {
            let settings = exchange::resolve(path, token, TradeGrant::TokenExchange, variables, review);
            settings.map(GrantSettings::TokenExchange)
        }
        Grant::Command | Grant::File | Grant::Static | Grant::SelfSigned => None,
    };
    Granted { grant, token_uri }
}

fn password(
    path: &KeyPath,
    token: &Token,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<GrantSettings> {
    review.warning(
        &path.key("grant"),
        "\"password\" hands a user's password to a program, which RFC 9700 section 2.4 forbids",
        "use it for old servers and for test users alone; another grant does without the password",
    );
    let username_path = path.key("username");
    let username = token.username.as_ref().filter(|name| !name.is_empty());
    if username.is_none() {
        let help = review.set(&username_path);
        match token.username {
            None => review.missing(&username_path, "is missing: grant = \"password\" needs it", help),
            Some(_) => review.error(&username_path, "is empty", help),
        }
    }
    let wanted = Wanted {
        noun: "password",
        owner: "the user",
        keys: vec![
            ("password_file", Written::File(token.password_file.as_deref())),
            ("password_env", Written::Env(token.password_env.as_deref())),
            ("password", Written::Inline(token.password.as_ref())),
        ],
    };
    let password = wanted.require(path, variables, review)?.source;
    Some(GrantSettings::Password { username: username?.clone(), password })
}

/// What is signed has no place where a token that was issued before is the assertion.
fn no_key_beside_a_subject(path: &KeyPath, review: &mut Review<'_>) {
    for key in ["key_file", "key_id", "key_algorithm", "issuer_claim", "subject", "audience_claim"] {
        let key = path.key(key);
        if review.is_given(&key) {
            let what = "has no place beside `subject_token` or `subject_token_file`, which is the assertion";
            review.error(&key, what, "take it out, or the other to have an assertion signed here");
        }
    }
}

fn jwt_bearer(
    path: &KeyPath,
    token: &Token,
    token_uri: &mut Option<(KeyPath, String)>,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<BearerAssertion> {
    let Signed { assertion, path: key_path, told } = signed(path, token, "the assertion", variables, review)?;
    let says_issuer = told.as_ref().is_none_or(|told| told.issuer);
    *token_uri = told.and_then(|told| told.token_uri).map(|uri| (key_path, uri));
    let is_unnamed = token.client_id.is_none() && !review.is_spoken_for(&path.key("client_id"));
    if assertion.issuer.is_none() && is_unnamed && !says_issuer {
        let issuer_path = path.key("issuer_claim");
        let help = format!("{}, or `client_id`, which stands in for it", review.set(&issuer_path));
        review.missing(&issuer_path, "nothing says who signs the assertion (its iss)", help);
        return None;
    }
    Some(assertion)
}

/// `grant = "self_signed"`.
pub(super) fn self_signed(
    path: &KeyPath,
    token: &Token,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<BearerAssertion> {
    let Signed { assertion, told, .. } = signed(path, token, "the token", variables, review)?;
    let says_issuer = told.is_none_or(|told| told.issuer);
    if assertion.issuer.is_none() && assertion.subject.is_none() && !says_issuer {
        let issuer_path = path.key("issuer_claim");
        let help = format!("{}, or `subject`, as the API has it", review.set(&issuer_path));
        review.missing(&issuer_path, "nothing says whose token it is (its iss or sub)", help);
        return None;
    }
    Some(assertion)
}

/// What is to be signed, and what its key says of itself.
struct Signed {
    assertion: BearerAssertion,
    path: KeyPath,
    told: Option<key::Told>,
}

fn signed(
    path: &KeyPath,
    token: &Token,
    owner: &'static str,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<Signed> {
    let keys = vec![("key_file", Written::File(token.key_file.as_deref()))];
    let wanted = Wanted { noun: "key to sign with", owner, keys };
    let spec = key::Spec {
        id: (path.key("key_id"), token.key_id.as_deref()),
        algorithm: (path.key("key_algorithm"), token.key_algorithm),
        certificate: None,
        kind: key::Kind::OrGoogle,
    };
    let found = wanted.require(path, variables, review);
    let checked = found.and_then(|found| spec.check(found, review));
    let issuer = claim(&path.key("issuer_claim"), token.issuer_claim.as_deref(), review);
    let subject = claim(&path.key("subject"), token.subject.as_deref(), review);
    let audience = claim(&path.key("audience_claim"), token.audience_claim.as_deref(), review);
    let terms = terms::of_grant(path, token, review);
    let checked = checked?;
    let assertion = BearerAssertion {
        key: checked.settings,
        issuer: issuer.ok()?,
        subject: subject.ok()?,
        audience: audience.ok()?,
        terms: terms?,
    };
    Some(Signed { assertion, path: checked.path, told: checked.told })
}

/// A claim that is there, or is not; `Err`: it is empty, and that is reported.
fn claim(path: &KeyPath, text: Option<&str>, review: &mut Review<'_>) -> Result<Option<String>, ()> {
    if text.is_some_and(str::is_empty) {
        review.error(path, "is empty", "write what the authorization server expects there, or take it out");
        return Err(());
    }
    Ok(text.map(str::to_owned))
}
