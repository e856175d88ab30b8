//! The request path, a file per step: listener, guard, route, handler, response.
//!
//! It takes no lock, and never waits where a valid token is held. Nothing here knows grants, stores or the
//! configuration's file.

mod age;
mod attach;
mod body;
mod calm;
mod condition;
mod connect;
mod connect_fault;
mod connection;
mod connection_info;
mod cors;
mod discard;
mod error;
mod exchange;
mod expect;
mod forward;
mod forwarded;
mod frames;
mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod grpc;
mod guard;
mod handler;
mod headers;
mod hyper_server;
mod interim;
mod lateness;
mod limits;
mod linger;
mod listener;
mod local;
mod malformed;
mod max_forwards;
mod metrics;
mod opening;
mod path;
mod peer;
mod pool;
mod received;
mod record;
mod recovery;
mod refusal;
mod replay;
mod rewrite;
mod route;
mod sending;
mod server;
mod settings;
mod socket;
mod sockets;
mod stream;
mod target;
mod through;
mod trace;
mod traceparent;
mod tunnel;
mod upgrade;
mod upstream;
mod via;
mod watch;
mod way;
mod websocket;
mod wire;
mod worker;

pub use attach::{Attached, Used, attach};
pub use connect::{ProbeError, probe};
pub use guard::Guard;
pub use metrics::ProxyMetrics;
pub use rewrite::Rewrite;
pub use route::{LinkError, OnUnauthorized, OwnAuthorization, Rate, Route, RouteLimits, RouteTable, Routes};
pub use server::{AccessLog, ListenError, Listeners, Records, Workers};
pub use settings::{ListenAddress, ServerSettings, ServerTls};
pub use upstream::{Forwarded, Http2, Proxy, Upstream, UpstreamError, UpstreamSettings};
