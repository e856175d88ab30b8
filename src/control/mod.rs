//! The control surface: what the running proxy tells and does for the person at the machine.
//!
//! `GET /status`, `POST /reload`, `POST /tokens/{name}/renew`, `POST /tokens/{name}/access_token`. It changes state and gives a token
//! out, so it listens on loopback or on a Unix socket alone, its guard keeps web pages away from it, and whatever restricts the
//! proxy restricts it too. `app` runs it, the command line talks to it through [`Client`]. It knows token handles; no requests, no stores, no secrets of clients.

mod access;
mod client;
mod dashboard;
mod events;
mod guard;
mod history;
mod login;
mod logins;
mod metrics;
mod problem;
mod reload;
mod routes;
mod server;
mod status;
mod view;

pub(crate) use access::{Access, ControlSettings};
pub(crate) use client::{Client, ClientError};
pub(crate) use login::Login;
pub(crate) use reload::{ReloadRequest, ReloadVerdict, reload_requests};
pub(crate) use server::{ControlState, Facts, serve, serve_too};
pub(crate) use status::{LastReload, Latency, Listener, Route, Status, StoreFault, Token};
