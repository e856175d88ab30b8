//! The sidecar in Kubernetes manifests: what is added to a pod, how it gets into a file without disturbing the rest of it,
//! and the same as a mutating admission webhook.
//!
//! What a pod becomes is decided on values (`pod`); a file is edited to say that (`manifests`), and read again to see
//! that it does.

mod admission;
mod annotations;
mod configuration;
mod defaults;
mod emit;
mod foreign;
mod judge;
mod lifetime;
mod live;
mod manifests;
mod metrics;
mod object;
mod overrides;
mod patch;
mod pod;
mod ports;
mod problem;
mod quantity;
mod readable;
mod references;
mod resources;
mod scalar;
mod sidecar;
mod splice;
mod webhook;
mod yaml;

pub use admission::{FailurePolicy, Policy};
pub use manifests::{Direction, Rewritten, rewrite};
pub use object::{Outcome, Report};
pub use overrides::Overrides;
pub use problem::Problem;
pub use resources::{Amount, Resources};
pub use sidecar::{Mode, Port, RunAs, Sidecar};
pub use webhook::{Webhook, WebhookError};
