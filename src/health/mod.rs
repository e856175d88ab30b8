//! The health surface: `/livez`, `/readyz` and `/metrics`, for whoever watches over the program.
//!
//! Read-only and without a secret, so that it may be exposed to a cluster. `app` runs it, and it goes on answering
//! while the program drains; [`wait_ready`] is the command line's side of it.

mod client;
mod readiness;
mod server;

pub use client::{LastSeen, NotReady, wait_ready};
pub use readiness::{Readiness, ReadyOnce, TokenReadiness};
pub use server::{HealthSettings, HealthState, serve};
