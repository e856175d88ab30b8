//! The request path, a file per step: listener, guard, route, handler, response.
//!
//! It takes no lock, and never waits where a valid token is held. Nothing here knows grants, stores or the
//! configuration's file.

mod attach;
mod body;
mod connect;
mod connection;
mod cors;
mod error;
mod exchange;
mod expect;
mod forward;
mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod guard;
mod handler;
mod headers;
mod metrics;
mod path;
mod peer;
mod pool;
mod refusal;
mod route;
mod sending;
mod server;
mod settings;
mod socket;
mod target;
mod upstream;
mod watch;
mod wire;
mod worker;

pub use attach::{Attached, attach};
pub use connect::{ProbeError, probe};
pub use guard::Guard;
pub use metrics::ProxyMetrics;
pub use route::{LinkError, OnUnauthorized, OwnAuthorization, Rate, Route, RouteLimits, RouteTable, Routes};
pub use server::{AccessLog, ListenError, Listeners, Workers};
pub use settings::{ListenAddress, ServerSettings, ServerTls};
pub use upstream::{Forwarded, Http2, Proxy, Upstream, UpstreamError, UpstreamSettings};
