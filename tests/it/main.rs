//! The program as its users meet it: the real binary between real peers, a file per topic.
//!
//! `scripts/test` brings the peers onto the machine and runs all of this. Nothing here is skipped: a peer that is
//! missing is a failure that says how to install it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage ends there")]
#![expect(clippy::print_stdout, reason = "figures, for whoever runs a test with its output shown")]

mod support;

#[cfg(not(feature = "otlp"))]
compile_error!("these tests are of a program with traces: scripts/test, or cargo test --features otlp");

mod access;
mod addresses;
mod browser;
mod certificates;
mod charts;
mod checked;
mod cli;
mod client_auth;
mod clients;
mod conformance;
mod connections;
mod control;
mod counts;
mod crowd;
mod cut;
mod dashboard;
mod demo;
mod deploy;
mod dial;
mod dialects;
mod dns;
mod dpop;
mod early;
mod events;
mod fields;
mod files;
mod floods;
mod forwarded;
mod framing;
mod frontends;
mod grants;
mod grpc;
mod guard;
mod handshakes;
mod hangups;
mod hiccups;
mod hostile;
mod house;
mod http2_settings;
mod http2_upstream;
mod image;
mod inject;
mod jumps;
mod kept;
mod keys;
mod kubelet;
mod lacks;
mod life;
mod limits;
mod listeners;
mod localhost;
mod login;
mod logs;
mod manifests;
mod memory;
mod mtls;
mod network;
mod outage;
mod outbound;
mod policies;
mod process;
mod programs;
mod proofs;
mod protocols;
mod providers;
mod readme;
mod recovery;
mod refresh;
mod refusals;
mod renewal;
mod request;
mod resets;
mod revoking;
mod rewriting;
mod rotation;
mod routes;
mod said;
mod secrets;
mod smuggling;
mod spa;
mod stream;
mod stream_age;
mod supervised;
mod systemd;
mod targets;
mod terminal;
mod tokens;
mod traces;
mod trusted;
mod upgrades;
mod upstreams;
mod webhook;
mod websocket;
