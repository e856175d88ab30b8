//! A control group with a memory limit of its own: what a container is to the kernel.

use std::fs;
use std::path::{Path, PathBuf};

/// A group that a program can be started in; removed with this, once nothing runs in it.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// With a limit of so many MiB, and no swap beyond it.
    pub fn with_memory(mib: u64) -> Self {
        let name = format!("cupbearer-test-{}-{}", std::process::id(), fastrand::u32(..));
        let [first, second] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(Path::new);
        let (mount, file) = if first.join("memory.limit_in_bytes").exists() {
            (first, "memory.limit_in_bytes")
        } else {
            // Refused where it is on already, or not there; which of the two shows below.
            let _ = fs::write(second.join("cgroup.subtree_control"), "+memory");
            (second, "memory.max")
        };
        let group = Self(mount.join(name));
        let made =
            fs::create_dir(&group.0).and_then(|()| fs::write(group.0.join(file), (mib << 20).to_string()));
        if let Err(error) = made {
            panic!(
                "this test needs a memory control group, and {} cannot be made: {error}. Run it as root, where cgroups are \
                 mounted for writing: in a container that takes --privileged",
                group.0.display()
            );
        }
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        group
    }

    /// The file that a process is put into the group by.
    pub fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// MiB of memory that no file stands behind.
    pub fn anonymous_mib(&self) -> u64 {
        let stat = fs::read_to_string(self.0.join("memory.stat")).unwrap();
        let field = |name| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        field("anon ").or_else(|| field("rss ")).unwrap() >> 20
    }

    /// How many processes the kernel has killed for the limit.
    pub fn kills(&self) -> u64 {
        let read = |file| fs::read_to_string(self.0.join(file));
        let events = read("memory.events").or_else(|_| read("memory.oom_control")).unwrap();
        events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
