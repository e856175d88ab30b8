//! The request path, a file per step: listener, guard, route, handler, response.
//!
//! It takes no lock, and never waits where a valid token is held. Nothing here knows grants, stores or the
//! configuration's file.

mod guard;
mod route;
mod settings;
mod upstream;

pub use guard::Guard;
pub use route::{OwnAuthorization, Route};
pub use settings::ServerSettings;
pub use upstream::{Http2, UpstreamSettings};
