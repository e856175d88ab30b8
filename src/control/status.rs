//! What the control surface says, as JSON: written by the server, read by the client.
//!
//! Durations are whole seconds from the answer's instant, instants are seconds since 1970. What is not known is left
//! out. No field holds a secret but [`AccessToken`], which exists to hand one out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::login::Login;

/// `GET /status`: the whole program at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The version of the running program.
    pub version: String,
    /// Since it started.
    pub uptime_seconds: u64,
    /// The configuration's file; `None` where it runs from flags alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
    /// Where tokens outlive a restart: `memory` (they do not), or a kind of store and its place.
    #[serde(default)]
    pub store: String,
    /// What the store does not hold as it should, by token; empty: it holds all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub store_degraded: Vec<StoreFault>,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// Its tokens, by name.
    pub tokens: Vec<Token>,
    /// Its routes, in the order in which they are tried.
    pub routes: Vec<Route>,
    /// How long requests took since the start. Left out: there were none, or the reader counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Why the control surface is for reading alone, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
    /// How the last reload of the configuration went; `None`: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reload: Option<LastReload>,
    /// Whether the program is on its way out: it was told to end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

/// A reload of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastReload {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Whether the new configuration is in force; else the one before is.
    pub applied: bool,
    /// How many problems the refused configuration has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub problems: u64,
    /// The first of them: a sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_problem: Option<String>,
    /// Sections of the configuration that count from the next start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_needed: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How long requests took, in microseconds, as exact as the buckets of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON members")]
pub(crate) struct Latency {
    /// From the head of the request to the end of the response, for half of them.
    pub p50_us: u64,
    /// The same as the 99th percentile.
    pub p99_us: u64,
    /// The proxy's own share until the head of the response, without any waits.
    pub own_p50_us: u64,
    /// The same as the 99th percentile.
    pub own_p99_us: u64,
}

/// `POST /reload`: the configuration of now is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// What the user should know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A token that the store cannot keep or delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreFault {
    /// Its name.
    pub token: String,
    /// Why, at the last try: a sentence for people, which names the file.
    pub message: String,
    /// Since when.
    pub since: u64,
    /// It was logged out and is not deleted, so that a restart brings it back; else what is held of it is in memory alone,
    /// and a restart may lose it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub logged_out: bool,
}

/// One address and what is served there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listener {
    /// `proxy`, `health` or `control`.
    pub name: String,
    /// The bound address.
    pub address: String,
}

/// One route, as it was configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    /// The path's prefix.
    pub path: String,
    /// The host that it is for; `None`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The methods that it takes; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The upstream's name.
    pub upstream: String,
    /// The token's name; `None`: requests go without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// One token: what is held, what went wrong last, and what comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// Its name in the configuration.
    pub name: String,
    /// Where it comes from: the configuration's `grant`.
    #[serde(default)]
    pub grant: String,
    /// Whether readiness waits for it.
    pub required: bool,
    /// One word; the same as in the metric `cupbearer_token_state`.
    pub status: String,
    /// Until the newest token expires, held or found in the store at the start; 0 where it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
    /// When it does, or did. Left out: there is no token yet, or it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// Whether nothing says when the held token expires, so that it is used until an API refuses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub until_refused: bool,
    /// Until the login ends unless it is renewed before, as far as its server says; 0 where it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_expires_in_seconds: Option<u64>,
    /// When it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_expires_at: Option<u64>,
    /// What to do about it, where the last error does not say so: a sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Counts the tokens that were held under this name; the first is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The scope that was granted, where the authorization server said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// When the held token came; of one that was taken out of the store, when it was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_renewal: Option<u64>,
    /// Until the next token request is planned; 0 where it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_in_seconds: Option<u64>,
    /// Why the last token request failed; `None` where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<Failure>,
    /// Successful token requests since the start.
    pub renewals: u64,
    /// Tokens taken out of the store since the start: another process', an earlier run's or a login's.
    #[serde(default)]
    pub adoptions: u64,
    /// Requests that failed; what ended on this machine is none.
    pub failures: u64,
    /// For how many callers one is held; `None` where it is not one for each caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers: Option<u64>,
    /// Who logged in last, where the authorization server says so: `Alice <alice@example.com>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether a person logs in for it.
    #[serde(default)]
    pub can_log_in: bool,
    /// Whether a login on another device may begin, as far as that is known.
    #[serde(default)]
    pub can_log_in_by_device: bool,
    /// The login that is under way, or how the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// What renews a login: `refresh_token` or `browser`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_via: Option<String>,
    /// Whether the dashboard is called for, to renew it in a hidden frame.
    #[serde(default)]
    pub browser_wanted: bool,
}

impl Token {
    /// The same without the person who logged in, or is about to, and without what a server says, which may name one: for
    /// a reader of a read-only control surface.
    #[must_use]
    pub(super) fn impersonal(self) -> Self {
        let last_error = self.last_error.map(|failure| Failure { server_says: None, ..failure });
        Self { user: None, login: None, last_error, ..self }
    }
}

/// `POST /tokens/{name}/logout`: how the token stands then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoggedOut {
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// Where a browser ends its session at the authorization server, where that offers it: without that, the next login
    /// may ask for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_session_url: Option<String>,
}

/// A failed token request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Its kind, one word of a closed set.
    pub cause: String,
    /// A sentence for people. Never a body of the authorization server.
    pub message: String,
    /// The description that the authorization server gave in its own words, cleaned and bounded; it may name a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_says: Option<String>,
    /// When.
    pub at: u64,
    /// How many requests in a row; 0 where none was sent.
    pub consecutive_failures: u64,
}

/// `POST /tokens/{name}/access_token`: the one answer that holds a token, on purpose.
#[derive(Clone, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON members (RFC 6749, section 5.1)")]
pub(crate) struct AccessToken {
    /// The token, without its scheme.
    pub access_token: String,
    /// Its scheme: `Bearer`.
    pub token_type: String,
    /// Whole seconds until it expires.
    pub expires_in: u64,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("access_token", &"***")
            .field("token_type", &self.token_type)
            .field("expires_in", &self.expires_in)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handed_out_token_is_masked_in_debug() {
        let token =
            AccessToken { access_token: "sentinel".into(), token_type: "Bearer".into(), expires_in: 9 };
        assert!(!format!("{token:?}").contains("sentinel"));
    }
}
