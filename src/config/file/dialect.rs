//! Keys of `[tokens.NAME]` for servers that deviate from the protocol.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the members of a token response stand. What is not named stands beside the access token.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Response {
    /// The access token, such as `authed_user.access_token`.
    pub(in crate::config) access_token: Option<String>,
    /// Its lifetime in seconds, or the point in time at which it ends.
    pub(in crate::config) expires_in: Option<String>,
    /// The refresh token.
    pub(in crate::config) refresh_token: Option<String>,
    /// The token's type.
    pub(in crate::config) token_type: Option<String>,
    /// The scope that was granted.
    pub(in crate::config) scope: Option<String>,
    /// The ID token, which says who logged in.
    pub(in crate::config) id_token: Option<String>,
}
