//! Which keys have a meaning beside which grant and which client authentication. One that has none was written in the
//! belief that it does something, so it is refused, and the problem says what does use it.

use crate::config::file::{ClientAuth, Grant, Token};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;

/// Who uses a key.
enum Use {
    /// Tokens that an authorization server issues.
    Server,
    /// These grants.
    Grants(&'static [Grant]),
    /// These client authentications.
    Auths(&'static [ClientAuth]),
}

/// Reports the keys of the token at `path` that nothing uses.
pub(super) fn check(path: &KeyPath, token: &Token, review: &mut Review<'_>) {
    // Where a line could not be read, it may have been the one that gives another its meaning.
    let (grant_path, auth_path) = (path.key("grant"), path.key("client_auth"));
    if !review.is_whole() || review.is_spoken_for(&grant_path) {
        return;
    }
    let auth_known = !review.is_spoken_for(&auth_path);
    for (key, used) in USES {
        let path = path.key(key);
        if !review.is_given(&path) {
            continue;
        }
        let grant = word(token.grant);
        match used {
            Use::Grants(grants) if !grants.contains(&token.grant) => {
                let users = either("grant", grants.iter().map(|grant| word(*grant)));
                review.error(
                    &path,
                    format!("has no meaning with grant = \"{grant}\""),
                    format!("take it out; it belongs to {users}"),
                );
            }
            Use::Server | Use::Auths(_) if !asks_a_server(token.grant) => review.error(
                &path,
                format!("has no meaning with grant = \"{grant}\", which asks no authorization server"),
                "take it out",
            ),
            Use::Auths(auths) if auth_known && !auths.contains(&token.client_auth) => {
                let users = either("client_auth", auths.iter().map(|auth| auth_word(*auth)));
                review.error(
                    &path,
                    format!("has no meaning with client_auth = \"{}\"", auth_word(token.client_auth)),
                    format!("take it out; it belongs to {users}"),
                );
            }
            _ => {}
        }
    }
    let key = path.key("dpop_key_file");
    if review.is_given(&key) && !token.dpop && !review.is_spoken_for(&path.key("dpop")) {
        review.error(&key, "has no meaning without dpop", "set `dpop = true`, or take it out");
    }
}

/// Whether a token of this grant comes from an authorization server.
pub(super) const fn asks_a_server(grant: Grant) -> bool {
    match grant {
        Grant::ClientCredentials
        | Grant::RefreshToken
        | Grant::AuthorizationCode
        | Grant::DeviceCode
        | Grant::Password
        | Grant::JwtBearer
        | Grant::TokenExchange => true,
        Grant::Command | Grant::File | Grant::Static | Grant::SelfSigned => false,
    }
}

/// `grant = "file" or "static"`.
fn either(key: &str, words: impl Iterator<Item = &'static str>) -> String {
    let words: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
    format!("{key} = {}", words.join(" or "))
}

/// As it is written.
const fn word(grant: Grant) -> &'static str {
    match grant {
        Grant::ClientCredentials => "client_credentials",
        Grant::RefreshToken => "refresh_token",
        Grant::AuthorizationCode => "authorization_code",
        Grant::DeviceCode => "device_code",
        Grant::Password => "password",
        Grant::JwtBearer => "jwt_bearer",
        Grant::TokenExchange => "token_exchange",
        Grant::Command => "command",
        Grant::File => "file",
        Grant::Static => "static",
        Grant::SelfSigned => "self_signed",
    }
}

/// As it is written.
pub(super) const fn auth_word(auth: ClientAuth) -> &'static str {
    match auth {
        ClientAuth::ClientSecretBasic => "client_secret_basic",
        ClientAuth::ClientSecretPost => "client_secret_post",
        ClientAuth::ClientSecretJwt => "client_secret_jwt",
        ClientAuth::PrivateKeyJwt => "private_key_jwt",
        ClientAuth::TlsClientAuth => "tls_client_auth",
        ClientAuth::AssertionFile => "assertion_file",
        ClientAuth::None => "none",
    }
}

const SECRETS: Use =
    Use::Auths(&[ClientAuth::ClientSecretBasic, ClientAuth::ClientSecretPost, ClientAuth::ClientSecretJwt]);
const KEYS: Use = Use::Auths(&[ClientAuth::PrivateKeyJwt]);
const ASSERTIONS: Use = Use::Auths(&[ClientAuth::ClientSecretJwt, ClientAuth::PrivateKeyJwt]);
const PASSWORD: Use = Use::Grants(&[Grant::Password]);
const SIGNED: Use = Use::Grants(&[Grant::JwtBearer, Grant::SelfSigned]);
const LOGIN: Use = Use::Grants(&[Grant::AuthorizationCode, Grant::DeviceCode]);
const EXCHANGE: Use = Use::Grants(&[Grant::TokenExchange]);
const SUBJECT: Use = Use::Grants(&[Grant::TokenExchange, Grant::JwtBearer]);

/// Every key that has not always a meaning.
const USES: [(&str, Use); 68] = [
    ("issuer", Use::Server),
    ("token_endpoint", Use::Server),
    ("refresh_endpoint", Use::Server),
    ("revocation_endpoint", Use::Server),
    ("introspection_endpoint", Use::Server),
    ("token_type", Use::Server),
    ("authorization_endpoint", LOGIN),
    ("device_authorization_endpoint", LOGIN),
    ("redirect_uri", LOGIN),
    ("authorization_params", LOGIN),
    ("pushed_authorization", LOGIN),
    ("post_logout_redirect_uri", LOGIN),
    ("renew_via", LOGIN),
    ("pkce", LOGIN),
    ("grant_type", Use::Grants(&[Grant::ClientCredentials])),
    ("client_id", Use::Server),
    ("client_auth", Use::Server),
    ("client_secret_file", SECRETS),
    ("client_secret_env", SECRETS),
    ("client_secret", SECRETS),
    ("client_key_file", KEYS),
    ("client_key_env", KEYS),
    ("client_key_id", KEYS),
    ("client_key_algorithm", ASSERTIONS),
    ("client_assertion_audience", ASSERTIONS),
    (
        "client_assertion_type",
        Use::Auths(&[ClientAuth::ClientSecretJwt, ClientAuth::PrivateKeyJwt, ClientAuth::AssertionFile]),
    ),
    ("client_cert_file", Use::Server),
    ("client_cert_key_file", Use::Server),
    ("assertion_file", Use::Auths(&[ClientAuth::AssertionFile])),
    ("refresh_token_file", Use::Grants(&[Grant::RefreshToken])),
    ("username", PASSWORD),
    ("password_file", PASSWORD),
    ("password_env", PASSWORD),
    ("password", PASSWORD),
    ("key_file", SIGNED),
    ("key_id", SIGNED),
    ("key_algorithm", SIGNED),
    ("issuer_claim", SIGNED),
    ("subject", SIGNED),
    ("audience_claim", SIGNED),
    ("subject_token_file", SUBJECT),
    ("subject_token", SUBJECT),
    ("subject_token_type", EXCHANGE),
    ("requested_token_type", EXCHANGE),
    ("actor_token_file", EXCHANGE),
    ("actor_token_type", EXCHANGE),
    ("command", Use::Grants(&[Grant::Command])),
    ("command_timeout", Use::Grants(&[Grant::Command])),
    ("token_file", Use::Grants(&[Grant::File, Grant::Static])),
    ("token_env", Use::Grants(&[Grant::Static])),
    ("token", Use::Grants(&[Grant::Static])),
    ("scope", Use::Server),
    (
        "refresh_scope",
        Use::Grants(&[
            Grant::RefreshToken,
            Grant::AuthorizationCode,
            Grant::DeviceCode,
            Grant::Password,
            Grant::JwtBearer,
            Grant::TokenExchange,
        ]),
    ),
    ("audience", Use::Server),
    ("resource", Use::Server),
    ("params", Use::Server),
    ("request_format", Use::Server),
    ("parameter_names", Use::Server),
    ("token_method", Use::Server),
    ("token_headers", Use::Server),
    ("response", Use::Server),
    ("dpop", Use::Server),
    ("revoke_on_exit", Use::Server),
    ("ca_file", Use::Server),
    ("proxy", Use::Server),
    ("connect_timeout", Use::Server),
    ("timeout", Use::Server),
    (
        "retry",
        Use::Grants(&[
            Grant::ClientCredentials,
            Grant::RefreshToken,
            Grant::AuthorizationCode,
            Grant::DeviceCode,
            Grant::Password,
            Grant::JwtBearer,
            Grant::TokenExchange,
            Grant::Command,
            Grant::File,
            Grant::SelfSigned,
        ]),
    ),
];
