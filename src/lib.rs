//! Cupbearer: a reverse-proxy sidecar that keeps OAuth 2.0 access tokens fresh and puts them on every request.

mod app;
#[cfg(feature = "benching")]
pub mod benching;
pub mod cli;
mod clock;
mod config;
mod control;
#[cfg(feature = "demo")]
#[expect(dead_code, reason = "unit tests make its servers misbehave")]
mod demo;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod health;
mod kubernetes;
mod lifecycle;
mod login;
mod machine;
mod metrics;
mod net;
mod oauth;
mod proxy;
mod secret;
mod telemetry;
#[doc(hidden)]
pub mod testing;
mod token;
mod traces;
