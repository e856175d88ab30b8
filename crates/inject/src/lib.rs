//! The sidecar in Kubernetes manifests: what is added to a pod, how it gets into a file without disturbing the rest of it,
//! and the same in response to an admission review.
//!
//! What a pod becomes is decided on values (`pod`); a file is edited to say that (`manifests`), and read again to see
//! that it does.

pub mod admission;
mod annotations;
mod configuration;
mod defaults;
mod emit;
mod foreign;
mod judge;
mod live;
mod manifests;
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
mod yaml;

pub use manifests::{CheckConfig, Direction, Rewritten, rewrite};
pub use object::{Outcome, Report};
pub use overrides::Overrides;
pub use problem::Problem;
pub use resources::{Amount, Resources};
pub use sidecar::{Mode, Port, RunAs, Sidecar};
