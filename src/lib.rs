//! Cupbearer: a reverse-proxy sidecar that keeps OAuth 2.0 access tokens fresh and puts them on every request.

pub mod app;
pub mod clock;
pub mod config;
pub mod control;
#[cfg(feature = "demo")]
pub mod demo;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod health;
pub mod kubernetes;
pub mod lifecycle;
pub mod login;
pub mod machine;
pub mod metrics;
pub mod net;
pub mod oauth;
pub mod proxy;
pub mod secret;
pub mod telemetry;
pub mod token;
pub mod traces;
