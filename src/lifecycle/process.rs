//! What this process is to the system: a memory that is its own, and the first process of a container.
//!
//! `cli` keeps the memory private before a secret is read. Where the program is process 1, what its helper programs leave
//! behind become its children: `app` has them reaped. What starts a child does so by [`start_child`], so that its status
//! is left to the code that waits for it.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Has the kernel keep other processes of this user out of the memory and the environment of this one, and from attaching to
/// it: `/proc/PID/mem`, `/proc/PID/environ`, ptrace(2). There is no core dump either (`PR_SET_DUMPABLE`, prctl(2)).
/// Programs that this one starts are as they always are.
///
/// # Errors
/// What the system says.
pub(crate) fn keep_memory_private() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Starts a child by `start`, so that [`reap_orphans`] leaves the child of the number `id` alone.
///
/// # Errors
/// Those of `start`.
pub(crate) fn start_child<C>(
    start: impl FnOnce() -> io::Result<C>,
    id: impl FnOnce(&C) -> Option<u32>,
) -> io::Result<C> {
    if !is_first() {
        return start();
    }
    // Held over the start: no look comes between a child and its number.
    let mut own = own_children();
    let child = start()?;
    own.extend(id(&child));
    Ok(child)
}

/// Reaps the processes that have ended and that this one did not start. Such processes are children of process 1 alone:
/// elsewhere this does nothing. Costs one system call where nothing has ended.
pub(crate) fn reap_orphans() {
    if !is_first() {
        return;
    }
    let mut own = own_children();
    // An error says that it is no child any more: its status has been read.
    own.retain(|&id| {
        Pid::from_raw(id.cast_signed()).is_some_and(|pid| waitid(WaitId::Pid(pid), LOOK).is_ok())
    });
    if !matches!(waitid(WaitId::All, LOOK), Ok(Some(_))) {
        return;
    }
    for orphan in ended_children().filter(|id| !own.contains(id)) {
        if let Some(pid) = Pid::from_raw(orphan.cast_signed()) {
            // An error says that it is gone.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            tracing::debug!(pid = orphan, "a process that a helper program left behind was reaped");
        }
    }
}

/// The numbers of this process's children that have ended and were not waited for.
fn ended_children() -> impl Iterator<Item = u32> {
    let own = std::process::id();
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(move |id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        is_ended_child(&stat, own)
    })
}

/// Whether `stat` (`/proc/PID/stat`, proc(5)) is that of a child of `parent` that has ended.
fn is_ended_child(stat: &str, parent: u32) -> bool {
    // The name stands in parentheses and may have any character in it.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let mut fields = rest.split(' ');
    fields.next() == Some("Z") && fields.next().is_some_and(|field| field.parse() == Ok(parent))
}

/// Whether this is process 1 of its PID namespace: what has lost its parent becomes its child.
fn is_first() -> bool {
    std::process::id() == 1
}

fn own_children() -> MutexGuard<'static, BTreeSet<u32>> {
    static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks without waiting, and leaves the status where it is.
const LOOK: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_has_ended_is_known_whatever_its_name() {
        for (stat, is) in [
            ("12 (sh) Z 1 12 12 0 -1", true),
            ("12 (a) Z 1 (b) Z 1 12 12", true),
            ("12 (a) Z 1 ) S 7 12 12", false),
            ("12 (sh) S 1 12 12", false),
            ("12 (sh) Z 11 12 12", false),
            ("", false),
        ] {
            assert_eq!(is_ended_child(stat, 1), is, "{stat}");
        }
    }
}
