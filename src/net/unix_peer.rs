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

/// The users that have a number in the user namespace of this process (`user_namespaces(7)`). The kernel reports every other user
/// as [`overflow_uid`]: systemd's `PrivateUsers=` and rootless containers make such namespaces.
pub(crate) struct UidMap(Option<String>);

impl UidMap {
    /// Reads it once. Where the system has none, every user has a number.
    #[must_use]
    pub(crate) fn read() -> Self {
        Self(std::fs::read_to_string("/proc/self/uid_map").ok())
    }

    /// Whether the kernel can report `uid` as a peer.
    #[must_use]
    pub(crate) fn has(&self, uid: u32) -> bool {
        self.0.as_deref().is_none_or(|map| maps(map, uid))
    }

    /// Whether some users have no number.
    #[must_use]
    pub(crate) fn hides_users(&self) -> bool {
        !self.has(u32::MAX - 1)
    }
}

/// The number of all users that have none here (`/proc/sys/kernel/overflowuid`).
#[must_use]
pub(crate) fn overflow_uid() -> u32 {
    let read = std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok();
    read.and_then(|text| text.trim().parse().ok()).unwrap_or(65534)
}

/// Whether `map` (`user_namespaces(7)`) has a line for `uid`.
fn maps(map: &str, uid: u32) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        matches!(numbers[..], [inside, _, count] if uid.checked_sub(inside).is_some_and(|at| at < count))
    })
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

    #[test]
    fn a_user_namespace_maps_the_users_of_its_lines_alone() {
        let map = "         0          0          1\n     61234      61234          1\n    100000     200000      65536\n";
        assert!([0, 61234, 100_000, 165_535].iter().all(|uid| maps(map, *uid)));
        assert!(![1, 1001, 65_534, 165_536].iter().any(|uid| maps(map, *uid)));
        assert!(maps("         0          0 4294967295\n", 1001));
    }

    #[tokio::test]
    async fn a_process_knows_its_own_kind() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert!(peer.is_own(), "{peer:?}");
        assert!(!Peer { uid: peer.uid + 1, ..peer }.is_own());
        assert!(!Peer { same_pid_namespace: false, ..peer }.is_own());
    }
}
