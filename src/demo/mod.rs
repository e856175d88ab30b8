//! An authorization server and a protected API in process: for `cupbearer demo`, for tests and for benches.
//!
//! Both are real servers on real sockets, and know nothing of the proxy that stands between them. Nothing here
//! prints: what happens is told as [`Event`]s. Not for production: secrets may be anything, and tokens live in
//! memory.

mod answer;
mod api;
mod authorization_server;
mod behaviour;
mod client_auth;
mod connection;
mod event;
mod levers;
mod pages;
mod state;
mod token_endpoint;
mod tokens;

pub(crate) use api::{Api, ApiOptions};
#[cfg(test)]
pub(crate) use authorization_server::Metadata;
pub(crate) use authorization_server::{AuthorizationServer, Options};
#[cfg(test)]
pub(crate) use behaviour::Behaviour;
pub(crate) use event::Event;
pub(crate) use tokens::TokenRefusal;
