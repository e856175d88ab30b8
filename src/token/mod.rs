//! The token path: when to renew, who renews, and what a request sees of it.
//!
//! schedule -> renewer -> source -> `oauth` -> state -> schedule. Nothing here knows a request or the configuration's
//! file.

mod settings;

pub use settings::{Attachment, Backoff, Policy, TokenSettings};
