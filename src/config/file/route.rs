//! `[[routes]]`: which request goes where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Words;

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
