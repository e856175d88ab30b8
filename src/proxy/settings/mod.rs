//! How the proxy is configured: its listeners, its routes, its upstreams.

mod route;
mod server;
mod upstream;

pub(crate) use route::{
    CookieAttributes, Fit, OnUnauthorized, OwnAuthorization, Rate, Rewrite, Route, RouteLimits,
};
pub(crate) use server::{Budget, ListenAddress, MemoryLimit, ServerSettings, ServerTls};
pub(crate) use upstream::{Forwarded, Http2, SentHost, UpstreamSettings};
