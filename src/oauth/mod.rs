//! The protocol alone: what to send to an authorization server and what its answers mean, never when.
//!
//! A file per idea of the RFCs. Nothing here knows schedules, storage or requests that pass through the proxy.

mod client;
mod endpoint;
mod error;
mod grant;
mod key;
mod kind;
mod metadata;
#[cfg(test)]
mod peer;
mod response;
mod server;
mod transport;
mod write;

pub use client::{AssertionAudience, Client, ClientAuth, KeySettings};
pub use endpoint::AuthorizationServer;
pub(crate) use endpoint::read;
pub use error::{Class, Error};
pub use grant::{Exchange, Grant, TokenRequest, TypedToken};
pub use key::Algorithm;
#[cfg(test)]
pub(crate) use kind::Code as ErrorCode;
pub(crate) use kind::{CommandFault, Holder, Kind as ErrorKind, Said, TextFlaw};
pub use response::{Lifetime, MAX_LIFETIME, TokenResponse, TokenType};
pub(crate) use response::{jwt_expiry, parse_bare, parse_json};
pub use server::{Issuer, Location, ServerSettings, Transport};
pub use transport::ServerError;
