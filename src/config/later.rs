//! Keys and words that the design has and this version does not: whoever writes one is told so, rather than that
//! nobody knows it.

use super::problem::{KeyPath, Step};

/// Whether the unknown key at `path` belongs to a later version.
pub(super) fn is_key(path: &KeyPath) -> bool {
    let names: Vec<&str> = path
        .steps()
        .iter()
        .map(|step| match step {
            Step::Key(key) => key.as_str(),
            Step::Index(_) => "",
        })
        .collect();
    match names.as_slice() {
        [section] => SECTIONS.contains(section),
        ["server", key] => *key == "tls",
        ["guard", key] => GUARD.contains(key),
        ["upstreams", _, key] => UPSTREAM.contains(key),
        ["tokens", _, key] => TOKEN.contains(key),
        ["routes", _, key] => ROUTE.contains(key),
        _ => false,
    }
}

/// Whether `word` is one that the key `key` will take in a later version.
pub(super) fn is_word(key: &str, word: &str) -> bool {
    match key {
        "grant" => GRANTS.contains(&word),
        "client_auth" => CLIENT_AUTHS.contains(&word),
        _ => false,
    }
}

const SECTIONS: [&str; 2] = ["store", "telemetry"];
const GUARD: [&str; 2] = ["shared_secret_file", "allowed_uids"];
const UPSTREAM: [&str; 4] = ["client_cert_file", "client_key_file", "proxy", "server_name"];
const TOKEN: [&str; 26] = [
    "dpop",
    "client_key_file",
    "client_key_id",
    "client_assertion_audience",
    "client_cert_file",
    "client_cert_key_file",
    "assertion_file",
    "refresh_token_file",
    "username",
    "password_file",
    "key_file",
    "issuer_claim",
    "subject",
    "subject_token",
    "subject_token_file",
    "subject_token_type",
    "requested_token_type",
    "actor_token_file",
    "command",
    "command_timeout",
    "token_file",
    "token",
    "identities_file",
    "warm_rate",
    "warm_concurrency",
    "token_env",
];
const ROUTE: [&str; 3] = ["on_unauthorized", "replay_body_limit", "identity"];
const GRANTS: [&str; 9] = [
    "refresh_token",
    "authorization_code",
    "device_code",
    "jwt_bearer",
    "token_exchange",
    "password",
    "command",
    "file",
    "static",
];
const CLIENT_AUTHS: [&str; 5] =
    ["client_secret_jwt", "private_key_jwt", "tls_client_auth", "assertion_file", "none"];
