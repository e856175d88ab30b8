//! The configuration as it is written: serde's mirror of `config.toml`, key for key, with every default.
//!
//! The doc comments here are the descriptions of the JSON schema, so they speak to a user. What a value means, and
//! whether values fit together, is `resolve`'s business.

mod dialect;
mod memory;
mod most;
mod quantity;
mod route;
mod secret;
mod server;
mod store;
mod telemetry;
mod token;
mod upstream;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use dialect::Response;
pub(super) use memory::MemoryLimit;
pub(super) use most::Most;
pub(super) use quantity::{Bytes, Period, Rate};
pub(super) use route::{CookieAttributes, Route};
use secret::secret;
pub(super) use server::{Control, Guard, Health, Log, Ready, Server};
pub(super) use store::{Store, StoreKind};
pub(super) use telemetry::Telemetry;
pub(super) use token::{Algorithm, ClientAuth, Grant, Token};
pub(super) use upstream::Upstream;

/// The configuration of Cupbearer, a proxy that keeps OAuth 2.0 access tokens fresh.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// How the proxy listens, and its limits.
    pub(super) server: Server,
    /// Liveness, readiness and metrics: read-only, holds no secret, may be shown to a cluster.
    pub(super) health: Health,
    /// Status and commands: changes state, so loopback only.
    pub(super) control: Control,
    /// Who may use the proxy.
    pub(super) guard: Guard,
    /// The protected APIs, by name.
    pub(super) upstreams: BTreeMap<String, Upstream>,
    /// The access tokens, by name.
    pub(super) tokens: BTreeMap<String, Token>,
    /// Where tokens outlive a restart.
    pub(super) store: Store,
    /// Which request goes where with which token; the first match wins, and without one the answer is 404.
    pub(super) routes: Vec<Route>,
    /// What is logged and how.
    pub(super) log: Log,
    /// Traces of requests and renewals.
    pub(super) telemetry: Telemetry,
}
