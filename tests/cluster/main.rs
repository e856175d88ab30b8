//! The program as it is deployed, a file per topic: its image in containers, Kubernetes' manifests and webhook, systemd.
//!
//! Containers are podman's and need root. No API server sees any of the manifests; schemas, kubectl and a stand-in for
//! the kubelet do.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage ends there")]
#![expect(clippy::print_stdout, reason = "figures, for runs that show the output")]

mod charts;
mod deploy;
mod image;
mod inject;
mod kubelet;
mod manifests;
mod policies;
mod supervised;
mod systemd;
mod webhook;
