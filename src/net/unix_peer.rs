//! Which process is at the other end of a Unix socket, as the kernel reports it (`SO_PEERCRED`, unix(7)): its user, and whether
//! it is in the PID namespace of this process, which is to say in the same container.
//!
//! A name in the abstract namespace has no file and so no mode: every process of the network namespace can bind it or connect to
//! it. Both ends therefore look at each other by this.

use std::io;

use rustix::process::geteuid;
use tokio::net::UnixStream;

/// The process at the other end, as it was when it connected or began to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// Whether it is in the PID namespace of this process.
    pub same_pid_namespace: bool,
}

impl Peer {
    /// Reads who is at the other end of `stream`. Blocks for two small reads of procfs.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let same_pid_namespace = credentials.pid().is_none_or(|pid| pid > 0 && is_as_deep(pid));
        Ok(Self { uid: credentials.uid(), same_pid_namespace })
    }

    /// Whether it runs as the user that this process runs as.
    #[must_use]
    pub(crate) fn is_this_user(self) -> bool {
        self.uid == geteuid().as_raw()
    }

    /// Whether it runs as the user that this process runs as, in the same PID namespace.
    #[must_use]
    pub(crate) fn is_own(self) -> bool {
        self.is_this_user() && self.same_pid_namespace
    }
}

/// Whether a process that has a number here is in this PID namespace, and in none within it: then as many nested namespaces have a
/// number for it as for this process. A process of any other namespace has no number here, which reads as 0.
fn is_as_deep(pid: i32) -> bool {
    match (depth("self"), depth(&pid.to_string())) {
        // The kernel does not report it (before Linux 4.1, gVisor, other systems).
        (None, _) => true,
        (own, peer) => own == peer,
    }
}

/// In how many nested PID namespaces the process has a number (`NSpid`, proc(5)).
fn depth(process: &str) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:")).map(|ids| ids.split_whitespace().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_knows_its_own_kind() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert!(peer.is_own(), "{peer:?}");
        assert!(!Peer { uid: peer.uid + 1, ..peer }.is_own());
        assert!(!Peer { same_pid_namespace: false, ..peer }.is_own());
    }
}
