//! The mutating admission webhook as a server: HTTPS, its certificate's life, and what it counts.
//!
//! What a review gets for a response is decided in `cupbearer_inject::admission`; `cli` starts the server.

mod lifetime;
mod metrics;
mod server;

pub(crate) use server::Webhook;
