//! The program between servers and clients that others wrote, a file per topic.
//!
//! oidc-provider is the authorization server; nginx, HAProxy and Node.js are APIs; curl, h2load, gRPC, WebSocket and
//! package managers are clients. Their scripts stand in the folders beside the tests, which `tests/browser` and
//! `tests/cluster` use too. A peer that is missing is a failure that says how to install it; nothing is skipped.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage ends there")]
#![expect(clippy::print_stdout, reason = "figures, for runs that show the output")]

mod certificates;
mod client_auth;
mod clients;
mod conformance;
mod connections;
mod counts;
mod cut;
mod dial;
mod dns;
mod dpop;
mod early;
mod events;
mod grants;
mod grpc;
mod hangups;
mod http2_settings;
mod http2_upstream;
mod jumps;
mod lacks;
mod life;
mod listeners;
mod localhost;
mod logs;
mod memory;
mod mtls;
mod network;
mod online_check;
mod outage;
mod outbound;
mod programs;
mod protocols;
mod recovery;
mod refresh;
mod renewal;
mod request;
mod rewriting;
mod secrets;
mod smuggling;
mod stream;
mod targets;
mod tokens;
mod traces;
mod trusted;
mod upgrades;
mod upstreams;
mod websocket;
