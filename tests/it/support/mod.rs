//! What every topic needs: the real program, the real peers beside it, and a wire on which each byte is ours.
//!
//! All of it listens on loopback, on free ports, and ends with the test that started it. A peer that is not
//! installed fails the test with the command that installs it.

mod certificate;
mod cgroup;
mod chrome;
mod corpus;
mod curl;
mod faketime;
mod frame_server;
pub(crate) mod frames;
mod grpc;
mod h2load;
mod haproxy;
mod hosts;
mod key;
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

pub(crate) use certificate::{Certificates, ClientCertificate};
pub(crate) use cgroup::Cgroup;
pub(crate) use chrome::{Chrome, chromium};
pub(crate) use corpus::{Case, Expect, Line, corpus};
pub(crate) use curl::{Answer, curl};
pub(crate) use faketime::faketime;
pub(crate) use frame_server::{FrameServer, Reaction, fields};
pub(crate) use grpc::GrpcApi;
pub(crate) use h2load::h2load;
pub(crate) use haproxy::Haproxy;
pub(crate) use hosts::hosts;
pub(crate) use key::Key;
pub(crate) use nginx::{Nginx, run_nginx};
pub(crate) use node_api::NodeApi;
pub(crate) use oidc_provider::{Login, ODD_ID, ODD_SECRET, OidcProvider, PASSWORD, SECRET};
pub(crate) use origin::{Origin, Reply};
pub(crate) use podman::podman;
pub(crate) use program::{PATIENCE, Program, eventually, free_address, repository};
pub(crate) use projected::project;
pub(crate) use prometheus::{Prometheus, Target};
pub(crate) use proxy::{Config, Proxy, cupbearer, limited, token_at, upstream_at};
pub(crate) use recorder::{Record, Recorder};
pub(crate) use rotating::{Behaviour, FIRST, Rotating};
pub(crate) use script::{hear, node, python, run, told};
pub(crate) use stage::{CREDENTIALS, Stage};
pub(crate) use tinyproxy::Tinyproxy;
pub(crate) use websocket::{WebSocketApi, http1_client, http2_client, passes};
pub(crate) use wire::{Message, Wire};
