//! What a container takes of the machine: threads and memory, by its own limits.

use std::fs;
use std::thread::available_parallelism;

use super::{Container, text};
use cupbearer_testing::{Config, Origin, Program, eventually, upstream_at};

/// How many threads of the process serve requests.
fn workers(id: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
    let name = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.filter(|task| name(task).starts_with("worker")).count()
}

/// The most that the memory cgroup of the process ever held, programs' files and the kernel's own for it included, and how often it
/// came up against its limit; by cgroup v1 or v2, whichever this machine has.
fn memory(id: &str) -> (u64, u64) {
    let number = |text: &str| text.trim().parse().unwrap();
    let groups = fs::read_to_string(format!("/proc/{id}/cgroup")).unwrap();
    if let Some(group) = groups.lines().find_map(|line| line.split_once(":memory:")) {
        let of = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/memory{}/{name}", group.1)).unwrap();
        return (number(&of("memory.max_usage_in_bytes")), number(&of("memory.failcnt")));
    }
    let group = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let of = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup{group}/{name}")).unwrap();
    let events = of("memory.events");
    let hits = events.lines().find_map(|line| line.strip_prefix("max ")).unwrap();
    (number(&of("memory.peak")), number(hits))
}

#[tokio::test]
async fn there_is_a_worker_for_each_whole_core_that_the_container_may_use_and_always_one() {
    let api = Origin::ok().await;
    let config = Config::new(
        upstream_at(&api.url()) + "[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"none\"\n",
    );
    let cores = available_parallelism().unwrap().get();
    // Two is all that a machine of two cores has, with and without a limit. What a node with exclusive cores gives is a set of them.
    for (limit, expected) in [
        (Some("--cpus=0.5"), 1),
        (Some("--cpus=1"), 1),
        (Some("--cpus=1.5"), 1),
        (Some("--cpus=2"), cores.min(2)),
        (Some("--cpuset-cpus=0"), 1),
        (None, cores),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let more: Vec<&str> = limit.into_iter().collect();
        let (container, _) = Container::with(&config, dir.path(), &more).await;
        container.wait().await;
        let id = container.inspect("{{.State.Pid}}").await;
        eventually(&format!("{limit:?}: {expected} workers"), || async { workers(&id) == expected }).await;
    }
}

#[tokio::test]
async fn under_load_it_stays_within_its_memory() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    let (container, listen) = Container::between(&api, &server, dir.path()).await;
    // Small requests, and the largest of which all is kept for a second sending.
    let script = dir.path().join("upload.lua");
    fs::write(&script, "wrk.method = 'POST'\nwrk.body = string.rep('x', 65536)\n").unwrap();
    let upload = ["--script", script.to_str().unwrap()];
    let url = format!("http://{listen}/");
    for more in [&[][..], &upload] {
        let mut load = Program::peer("wrk", "wrk");
        load.args(["-t1", "-c200", "-d4s", "--timeout=10s"]).args(more).arg(&url);
        let said = text(&load.output().await.unwrap().stdout);
        assert!(said.contains("Requests/sec") && !said.contains("Non-2xx"), "{said}");
    }
    assert_eq!(container.inspect("{{.State.Running}} {{.State.OOMKilled}}").await, "true false");
    let (peak, hits) = memory(&container.inspect("{{.State.Pid}}").await);
    println!(
        "the cgroup's peak was {} KiB, the program's own {}",
        peak / 1024,
        container.status("VmHWM").await
    );
    // The limit was never even reached: nothing was thrown away to stay below it.
    assert!(hits == 0 && peak < 64 << 20, "{peak} bytes at most, at the limit {hits} times");
}
