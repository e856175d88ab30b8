//! `[[routes]]`: which request goes where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::{Bytes, Period, Rate, Words};

/// Which request goes where, and with which token.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Route {
    /// A path prefix on segment borders: /v1 matches /v1 and /v1/x, never /v10.
    pub(in crate::config) path: String,
    /// Only for requests to this host name; left out: any.
    pub(in crate::config) host: Option<String>,
    /// Only these methods; empty: any.
    pub(in crate::config) methods: Words,
    /// Whether `path` is taken off before the request is forwarded.
    pub(in crate::config) strip_prefix: bool,
    /// The name of the upstream.
    pub(in crate::config) upstream: Option<String>,
    /// The name of the token, or "none".
    pub(in crate::config) token: Option<String>,
    /// What the application's own Authorization header meets: replace, refuse, or keep (then no token is added).
    pub(in crate::config) own_authorization: OwnAuthorization,
    /// What follows a 401 of the upstream: replay (a new token, and the request once more), renew (a new token for later
    /// requests), or pass (nothing).
    pub(in crate::config) on_unauthorized: OnUnauthorized,
    /// The statuses by which this API refuses a token that it no longer takes, from 400 to 499.
    #[schemars(inner(range(min = 400, max = 499)))]
    pub(in crate::config) unauthorized_status: Vec<u16>,
    /// Bytes of a request's body that are kept for a replay; a larger one is sent once.
    pub(in crate::config) replay_body_limit: Bytes,
    /// How often requests may come, over all workers: 100/s, 600/m, 5000/h; left out: as often as they do.
    pub(in crate::config) rate_limit: Option<Rate>,
    /// So many at once after a pause; left out: one second's worth, at least 1.
    pub(in crate::config) rate_burst: Option<u32>,
    /// Requests under way at a time, over all workers; left out: any number.
    pub(in crate::config) max_concurrent: Option<usize>,
    /// Requests that may wait for their turn; more are refused at once.
    pub(in crate::config) max_queue: usize,
    /// How long one may wait for its turn.
    pub(in crate::config) queue_timeout: Period,
    /// For how long a stream or a WebSocket may go on; left out: as long as it likes.
    pub(in crate::config) max_stream_age: Option<Period>,
    /// Whether Location and Content-Location that lead to the upstream lead to the proxy instead.
    pub(in crate::config) rewrite_location: bool,
    /// Whether cookies of the upstream become the proxy's: Domain, Path, and Secure where no TLS is between.
    pub(in crate::config) rewrite_cookies: bool,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            host: None,
            methods: Words::default(),
            strip_prefix: false,
            upstream: None,
            token: None,
            own_authorization: OwnAuthorization::default(),
            on_unauthorized: OnUnauthorized::default(),
            unauthorized_status: vec![401],
            replay_body_limit: Bytes(256 * 1024),
            rate_limit: None,
            rate_burst: None,
            max_concurrent: None,
            max_queue: 0,
            queue_timeout: Period::seconds(5),
            max_stream_age: None,
            rewrite_location: false,
            rewrite_cookies: false,
        }
    }
}

/// What the application's own `Authorization` meets.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum OwnAuthorization {
    #[default]
    Replace,
    Refuse,
    Keep,
}

/// What follows a 401 of the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum OnUnauthorized {
    #[default]
    Replay,
    Renew,
    Pass,
}
