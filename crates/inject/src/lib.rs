//! The sidecar in Kubernetes manifests and in admission reviews: bytes to bytes, without I/O.
//!
//! | module | what it does |
//! |---|---|
//! | `manifests` | [`rewrite`]: a file of manifests with the sidecar put into its pods, or taken out |
//! | [`admission`] | the response to an `AdmissionReview`: a JSON Patch, a warning or a refusal |
//! | `pod` | the sidecar put into one pod, or taken out of it, as values |
//! | `sidecar`, `overrides`, `resources`, `quantity` | the container and its volumes, and what sets them |
//! | `annotations` | what a pod's annotations change of its sidecar |
//! | `configuration`, `references` | what the `config.toml` in the same file needs of the pod |
//! | `judge`, `ports`, `system`, `remarks` | whether a pod can have the sidecar, and what may go wrong |
//! | `object`, `foreign` | the objects that hold pods, of known and unknown kinds |
//! | `defaults`, `live` | what an API server adds to an object |
//! | `yaml`, `readable`, `scalar` | YAML as Kubernetes reads it, as nodes that know their place in the text |
//! | `emit`, `splice`, `patch` | values as YAML, edits of a text that keep its other lines, JSON Patch (RFC 6902) |
//! | `problem` | what is wrong, and where |
//!
//! What a pod becomes is decided on values (`pod`). A file is edited to say that (`manifests`), and read again to see
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
