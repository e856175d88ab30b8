//! How much memory this process may have, by its control groups (Linux's cgroups, version 1 and 2), and how much it has.
//!
//! `config` and `proxy` read it. Nothing here decides what the memory is for.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

/// The limit that counts for this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryLimit {
    /// Bytes.
    pub bytes: u64,
    /// Where it comes from.
    pub origin: LimitOrigin,
}

/// Where a limit comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LimitOrigin {
    /// The container, a systemd unit, or any other control group.
    Cgroup,
    /// No control group limits it: the memory that the machine has.
    Machine,
}

impl MemoryLimit {
    /// The lowest limit of this process' control groups and their parents; the machine's memory where none has one.
    /// `None`: the system does not tell, as macOS does not.
    #[must_use]
    pub(crate) fn read() -> Option<Self> {
        Self::under(Path::new("/"))
    }

    fn under(root: &Path) -> Option<Self> {
        let cgroup = groups(root).iter().filter_map(|group| limit_of(group)).min();
        match cgroup {
            Some(bytes) => Some(Self { bytes, origin: LimitOrigin::Cgroup }),
            None => Some(Self { bytes: machine(root)?, origin: LimitOrigin::Machine }),
        }
    }
}

/// What the process really has, as the kernel counts it.
#[derive(Debug)]
pub(crate) struct Usage {
    /// Of the process.
    pages: File,
    page_size: u64,
    /// Of its control group, where version 2 counts the sockets' buffers.
    sockets: Option<File>,
}

impl Usage {
    /// Opens what is read again and again. `None`: the system has no such files.
    #[must_use]
    pub(crate) fn open() -> Option<Self> {
        let root = Path::new("/");
        let limited = groups(root).into_iter().find(|group| group.join("memory.max").exists());
        Some(Self {
            pages: File::open("/proc/self/statm").ok()?,
            page_size: rustix::param::page_size() as u64,
            sockets: limited.and_then(|group| File::open(group.join("memory.stat")).ok()),
        })
    }

    /// Bytes of memory that no file stands behind: what a limit kills for.
    #[must_use]
    pub(crate) fn anonymous(&self) -> Option<u64> {
        let mut text = [0; STATM];
        let read = self.pages.read_at(&mut text, 0).ok()?;
        Some(anonymous_pages(&text[..read])? * self.page_size)
    }

    /// Bytes in the buffers of the control group's sockets; 0 where the kernel does not count them as its memory.
    #[must_use]
    pub(crate) fn sockets(&self) -> u64 {
        let read = |file: &File| {
            let mut text = [0; STAT];
            let read = file.read_at(&mut text, 0).ok()?;
            field(std::str::from_utf8(&text[..read]).ok()?, "sock")
        };
        self.sockets.as_ref().and_then(read).unwrap_or(0)
    }
}

/// The folders of this process' control groups that may limit its memory, the innermost first.
///
/// In a container the path is often that of the host, and the folder that is mounted is the container's own: so whatever part
/// of the path exists is looked at, up to the mounted folder.
fn groups(root: &Path) -> Vec<PathBuf> {
    let Ok(own) = fs::read_to_string(root.join("proc/self/cgroup")) else { return Vec::new() };
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let mount = match controllers {
            "" => root.join("sys/fs/cgroup"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                root.join("sys/fs/cgroup/memory")
            }
            _ => continue,
        };
        let inner: PathBuf =
            Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect();
        found.extend(inner.ancestors().map(|part| mount.join(part)).filter(|group| group.is_dir()));
    }
    found
}

fn limit_of(group: &Path) -> Option<u64> {
    let read = |file| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let files = ["memory.max", "memory.high", "memory.limit_in_bytes"];
    files.into_iter().filter_map(read).filter(|bytes| *bytes < UNLIMITED).min()
}

fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok();
    text.and_then(|text| field(&text, "MemTotal:")).map(|kib| kib * 1024).or_else(installed)
}

/// As sysinfo(2) reports it, which also works where procfs is hidden (systemd's `ProcSubset=pid`).
#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "other systems do not tell")]
fn installed() -> Option<u64> {
    let info = rustix::system::sysinfo();
    #[expect(clippy::useless_conversion, reason = "its width is the machine's")]
    let units = u64::from(info.totalram);
    Some(units * u64::from(info.mem_unit))
}

#[cfg(not(target_os = "linux"))]
fn installed() -> Option<u64> {
    None
}

/// The number behind `name` in a text of one field a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

/// What is resident, less what is shared with files (proc(5), `/proc/pid/statm`).
fn anonymous_pages(statm: &[u8]) -> Option<u64> {
    let mut numbers = std::str::from_utf8(statm).ok()?.split_ascii_whitespace().skip(1);
    let resident: u64 = numbers.next()?.parse().ok()?;
    let shared: u64 = numbers.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared))
}

/// Version 1 writes "no limit" as a number of pages that no machine has.
const UNLIMITED: u64 = 1 << 60;
/// Bytes of the files that are read in one go; the field that counts is near the beginning.
const STATM: usize = 128;
const STAT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these files.
    fn machine_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let all = [("proc/meminfo", "MemTotal:        8048540 kB\nMemFree:         100 kB\n")];
        for (path, text) in all.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn limit(files: &[(&str, &str)]) -> (u64, LimitOrigin) {
        let found = MemoryLimit::under(machine_with(files).path()).unwrap();
        (found.bytes, found.origin)
    }

    #[test]
    fn a_container_of_version_2_sees_its_own_limit_at_the_mounted_folder() {
        let files = [("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "67108864\n")];
        assert_eq!(limit(&files), (64 << 20, LimitOrigin::Cgroup));
    }

    #[test]
    fn the_lowest_limit_of_all_parents_counts() {
        let files = [
            ("proc/self/cgroup", "0::/kubepods/pod1/sidecar\n"),
            ("sys/fs/cgroup/kubepods/pod1/sidecar/memory.max", "max\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.max", "134217728\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.high", "100000000\n"),
            ("sys/fs/cgroup/kubepods/memory.max", "8000000000\n"),
        ];
        assert_eq!(limit(&files), (100_000_000, LimitOrigin::Cgroup));
    }

    #[test]
    fn a_container_of_version_1_is_found_though_its_path_is_that_of_the_host() {
        let files = [
            ("proc/self/cgroup", "12:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n0::/system.slice\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n"),
        ];
        assert_eq!(limit(&files), (64 << 20, LimitOrigin::Cgroup));
    }

    #[test]
    fn without_a_limit_the_machines_memory_is_the_limit() {
        let unlimited = [
            ("proc/self/cgroup", "4:memory:/\n0::/user.slice\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
        ];
        for files in [&unlimited[..], &[]] {
            assert_eq!(limit(files), (8_048_540 * 1024, LimitOrigin::Machine));
        }
        // Where procfs is hidden, the kernel still tells.
        let hidden = MemoryLimit::under(Path::new("/nowhere")).map(|limit| (limit.bytes, limit.origin));
        assert_eq!(hidden, installed().map(|bytes| (bytes, LimitOrigin::Machine)));
    }

    #[test]
    fn a_path_cannot_lead_out_of_the_mounted_folder() {
        let files = [
            ("proc/self/cgroup", "0::/../../etc\n"),
            ("etc/memory.max", "1\n"),
            ("sys/fs/cgroup/memory.max", "67108864\n"),
        ];
        assert_eq!(limit(&files), (64 << 20, LimitOrigin::Cgroup));
    }

    #[test]
    fn memory_that_is_written_to_is_seen_and_files_are_not() {
        assert_eq!(anonymous_pages(b"1000 300 120 10 0 200 0\n"), Some(180));
        assert_eq!(anonymous_pages(b"1000 300"), None);
        let usage = Usage::open().unwrap();
        let before = usage.anonymous().unwrap();
        let written = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = usage.anonymous().unwrap();
        assert!(after > before + (32 << 20), "{before} then {after}, {} bytes", written.len());
    }

    #[test]
    fn the_sockets_buffers_are_a_field_of_the_groups_statistics() {
        let text = "anon 9289728\nfile 0\nkernel 3182592\nsock 1310720\nslab 1\n";
        assert_eq!((field(text, "sock"), field(text, "sockets")), (Some(1_310_720), None));
    }
}
