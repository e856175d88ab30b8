//! The program as its users meet it: the real binary between real peers, a file per topic.
//!
//! `scripts/test` brings the peers onto the machine and runs all of this. Nothing here is skipped: a peer that is
//! missing is a failure that says how to install it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage ends there")]

mod support;

mod cli;
mod demo;
mod framing;
mod guard;
mod hostile;
mod house;
mod life;
mod multitude;
mod outage;
mod protocols;
mod readme;
mod renewal;
mod request;
mod routes;
mod secrets;
mod stream;
mod tokens;
