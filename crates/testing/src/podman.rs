//! podman, which runs containers and speaks to registries.

use tokio::process::Command;

use super::program::{Program, repository};

/// podman with the settings of the tests.
pub fn podman() -> Command {
    let mut podman = Program::peer(
        "podman",
        "podman buildah runc catatonit netavark aardvark-dns fuse-overlayfs debootstrap",
    );
    podman
        .env("CONTAINERS_CONF", repository().join("tests/peers/image/containers.conf"))
        .args(["--runtime", "runc"]);
    podman
}
