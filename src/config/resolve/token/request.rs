//! What is asked for: scopes, audience, resources and further parameters of a token request.

use url::Url;

use crate::config::file::Token;
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::oauth::TokenRequest;

pub(super) fn resolve(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<TokenRequest> {
    let scope_path = path.key("scope");
    let mut sound = true;
    let mut scope = Vec::new();
    for (path, text) in review.elements(&scope_path).iter().zip(&token.scope.0) {
        for word in text.split_ascii_whitespace() {
            if !word.bytes().all(is_scope_char) {
                review.error(
                    path,
                    "has a character that a scope cannot have",
                    "write printable ASCII without \" and \\",
                );
                sound = false;
            }
            scope.push(word.to_owned());
        }
    }
    let mut resource = Vec::new();
    for (path, text) in review.elements(&path.key("resource")).iter().zip(&token.resource.0) {
        match Url::parse(text) {
            Ok(url) if url.fragment().is_none() => resource.push(text.clone()),
            _ => {
                review.error(
                    path,
                    "must be an absolute URI without a fragment",
                    "write it as in \"https://api.example.com\"",
                );
                sound = false;
            }
        }
    }
    let params_path = path.key("params");
    for name in token.params.keys() {
        let path = params_path.key(name);
        if name.is_empty() {
            review.error(&path, "a parameter has a name", "give it one, or take it out");
            sound = false;
        } else if PROTOCOL_NAMES.contains(&name.to_ascii_lowercase().as_str()) {
            review.error(
                &path,
                "is a name of the protocol's own",
                format!("take it out; {}", key_instead(name)),
            );
            sound = false;
        }
    }
    let audience = token.audience.clone().filter(|audience| !audience.is_empty());
    let params = token.params.clone().into_iter().collect();
    sound.then_some(TokenRequest { scope, audience, resource, params })
}

/// `scope-token` (RFC 6749 section 3.3).
const fn is_scope_char(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)
}

/// The key that says what a parameter of this name would.
pub(super) fn key_instead(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "grant_type" => "`grant` says it, and `grant_type` one that has no name here",
        "client_id" => "`client_id` of the token says it",
        "client_secret" => "`client_secret_file` says where it is",
        "client_assertion" => "`client_auth` says how the client proves who it is",
        "client_assertion_type" => "`client_assertion_type` of the token says it",
        "username" => "`username` of the token says it",
        "password" => "`password_file` says where it is",
        "refresh_token" => "`refresh_token_file` says where it is",
        "assertion" => "grant = \"jwt_bearer\" sends it",
        "subject_token" => "`subject_token_file` or `subject_token` of the token says where it is",
        "subject_token_type" => "`subject_token_type` of the token says it",
        "actor_token" => "`actor_token_file` says where it is",
        "actor_token_type" => "`actor_token_type` of the token says it",
        "requested_token_type" => "`requested_token_type` of the token says it",
        "dpop" | "dpop_jkt" => "`dpop = true` sends a proof with each token request",
        "prompt" | "login_hint" => "`authorization_params` says it",
        "scope" => "`scope` of the token says it",
        "audience" => "`audience` of the token says it",
        "resource" => "`resource` of the token says it",
        _ => "the grant and the client authentication set it where they need it",
    }
}

/// What requests to a token endpoint are made of (the IANA registry of OAuth parameters): set by keys of their own,
/// or by the grant.
pub(super) const PROTOCOL_NAMES: [&str; 32] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "audience",
    "resource",
    "code",
    "code_verifier",
    "code_challenge",
    "code_challenge_method",
    "device_code",
    "redirect_uri",
    "response_type",
    "state",
    "refresh_token",
    "access_token",
    "username",
    "password",
    "assertion",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "auth_req_id",
    "dpop",
    "dpop_jkt",
    "request",
    "request_uri",
    "token",
];
