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
mod remarks;
mod resources;
mod scalar;
mod sidecar;
mod splice;
mod system;
mod webhook;
mod yaml;

pub(crate) use admission::{FailurePolicy, Policy};
pub(crate) use manifests::{Direction, rewrite};
pub(crate) use object::Outcome;
pub(crate) use overrides::Overrides;
pub(crate) use resources::{Amount, Resources};
pub(crate) use sidecar::{Mode, Port, RunAs, Sidecar};
pub(crate) use webhook::Webhook;
