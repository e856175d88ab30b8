//! The program between authorization servers that people run: Keycloak and Ory Hydra, a file per topic.
//!
//! `scripts/test --world` brings both servers and runs these tests. `cargo test` and `scripts/test` leave them out.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage ends there")]
#![expect(clippy::print_stdout, reason = "the counts of each status, one row of a table per event")]

mod api;
mod exchange;
mod frames;
mod hiccups;
mod hydra;
mod keycloak;
mod login_end;
mod password;
mod patience;
mod revocation;
mod steady;
