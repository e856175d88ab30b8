//! The request path, in layers. A layer imports those that stand after it alone:
//!
//! `listen` accepts connections, `request` takes a request through its steps, `websocket` is the tunnel behind an upgrade,
//! `upstream` the way to the API, `downstream` the application's connection, `observe` what is told of requests, `message`
//! what heads of messages mean, `http2` what is done to HTTP/2 before h2 reads it, `memory` what requests may cost, `error`
//! why the proxy responds by itself, and `settings` how all of it is configured.
//!
//! It takes no lock, and never waits where a valid token is held. Nothing here knows grants, stores or the
//! configuration's file.

mod downstream;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod http2;
mod listen;
mod memory;
mod message;
mod observe;
mod request;
mod settings;
mod upstream;
mod websocket;

pub(crate) use listen::server::{ListenError, Listeners, Workers};
pub(crate) use observe::access_log::Records;
pub(crate) use observe::metrics::ProxyMetrics;
#[cfg(feature = "benching")]
pub(crate) use request::credentials::{Attached, attach};
pub(crate) use request::guard::Guard;
pub(crate) use request::route_table::{LinkError, RouteTable, Routes};
pub(crate) use settings::{CookieAttributes, Rewrite};
pub(crate) use settings::{Forwarded, Http2, SentHost, UpstreamSettings};
pub(crate) use settings::{ListenAddress, MemoryLimit, ServerSettings, ServerTls};
pub(crate) use settings::{OnUnauthorized, OwnAuthorization, Rate, Route, RouteLimits};
pub(crate) use upstream::api::{Upstream, UpstreamError};
pub(crate) use upstream::connect::{ProbeError, probe};
