//! What every topic needs: the real program, the real peers beside it, and a wire on which each byte is ours.
//!
//! All of it listens on loopback, on free ports, and ends with the test that started it. A peer that is not
//! installed fails the test with the command that installs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage ends there")]
#![expect(
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "a test that drops a result fails by what it then lacks"
)]
#![expect(missing_docs, reason = "names of fields and of steps that tests alone use")]

mod certificate;
mod cgroup;
mod chrome;
pub mod clock;
mod corpus;
mod curl;
mod descriptors;
mod faketime;
mod frame_server;
pub mod frames;
mod grpc;
mod h2load;
mod haproxy;
mod hosts;
mod key;
mod login_command;
mod nginx;
mod node_api;
mod oidc_provider;
mod origin;
mod podman;
mod program;
mod projected;
mod prometheus;
mod proxy;
mod recorder;
mod rotating;
mod script;
mod stage;
mod tinyproxy;
mod websocket;
mod wire;

pub use certificate::{Certificates, ClientCertificate};
pub use cgroup::Cgroup;
pub use chrome::{Chrome, chromium};
pub use corpus::{Case, Expect, Line, corpus};
pub use curl::{Answer, curl};
pub use descriptors::raise_limit;
pub use faketime::faketime;
pub use frame_server::{FrameServer, Reaction, fields};
pub use grpc::GrpcApi;
pub use h2load::h2load;
pub use haproxy::Haproxy;
pub use hosts::hosts;
pub use key::Key;
pub use login_command::{LoginCommand, login_command};
pub use nginx::{Nginx, run_nginx};
pub use node_api::NodeApi;
pub use oidc_provider::{Login, ODD_ID, ODD_SECRET, OidcProvider, PASSWORD, SECRET};
pub use origin::{Origin, Reply};
pub use podman::podman;
pub use program::{PATIENCE, Program, binary, eventually, free_address, repository};
pub use projected::project;
pub use prometheus::{Prometheus, Target};
pub use proxy::{Config, Proxy, cupbearer, limited, token_at, upstream_at};
pub use recorder::{Record, Recorder};
pub use rotating::{Behaviour, FIRST, Rotating};
pub use script::{hear, node, python, run, told};
pub use stage::{CREDENTIALS, Stage};
pub use tinyproxy::Tinyproxy;
pub use websocket::{WebSocketApi, http1_client, http2_client, passes};
pub use wire::{Message, Wire};
