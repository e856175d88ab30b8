//! The health surface: `/livez`, `/readyz` and `/metrics`, for what watches over the program.
//!
//! Read-only and without a secret, so that it may be exposed to a cluster. `app` runs it, and it goes on answering
//! while the program drains; [`wait_ready`] is the command line's side of it.

mod client;
mod readiness;
mod server;

pub(crate) use client::wait_ready;
#[cfg(test)]
pub(crate) use readiness::TokenReadiness;
pub(crate) use readiness::{Readiness, ReadyOnce};
pub(crate) use server::{HealthSettings, HealthState, serve};
