//! The protocol alone: what to send to an authorization server and what its answers mean, never when.
//!
//! A file per idea of the RFCs. Nothing here knows schedules, storage or requests that pass through the proxy.

mod client;
mod grant;
mod server;

pub use client::{Client, ClientAuth};
pub use grant::{Grant, TokenRequest};
pub use server::{Location, ServerSettings, Transport};
