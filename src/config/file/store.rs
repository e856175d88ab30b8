//! `[store]`: where tokens outlive a restart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where tokens outlive a restart.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Store {
    /// memory: nowhere; file: in a folder; keyring: in the platform's keyring, or in a folder where that has none. Left
    /// out: keyring where a token needs a person's login, else memory.
    pub(in crate::config) kind: Option<StoreKind>,
    /// The folder; left out: `$XDG_STATE_HOME/cupbearer`, else `$HOME/.local/state/cupbearer`.
    pub(in crate::config) path: Option<String>,
    /// File of the 32 bytes, in base64 or hexadecimal, that the folder's files are encrypted with; left out: they are not.
    pub(in crate::config) encryption_key_file: Option<String>,
}

/// What kind of store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum StoreKind {
    Memory,
    File,
    Keyring,
}
