//! The process as the system sees it: who may read its memory, and what it does as the first process of a container.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use rustix::process::Signal;
use tokio::process::Command;

use cupbearer_testing::{Config, Origin, Program, Proxy, eventually, token_at, upstream_at};

/// A user that nothing here belongs to.
const USER: u32 = 65_534;

/// A program of that user, and what it wrote.
async fn as_user(mut command: Command) -> Output {
    assert!(rustix::process::geteuid().is_root(), "only root can be another user: run the tests as root");
    command.uid(USER).gid(USER).current_dir("/").output().await.unwrap()
}

/// Whether a process of the same user can read the environment and the memory of process `id`.
async fn reads(id: u32) -> [bool; 2] {
    let mut environment = Program::peer("cat", "coreutils");
    environment.arg(format!("/proc/{id}/environ"));
    let environment = as_user(environment).await;
    // Of a mapping that every process has.
    let script = "start=$(sed -n 's/^\\([0-9a-f]*\\)-.*\\[stack\\]$/\\1/p' \"/proc/$0/maps\") && test -n \"$start\" && \\
        test \"$(dd if=\"/proc/$0/mem\" bs=16 count=1 skip=$((0x$start)) iflag=skip_bytes status=none | wc -c)\" = 16";
    let mut memory = Program::peer("sh", "dash");
    memory.args(["-c", script, &id.to_string()]);
    let memory = as_user(memory).await;
    [environment.status.success() && !environment.stdout.is_empty(), memory.status.success()]
}

#[tokio::test]
async fn no_process_of_the_same_user_reads_its_memory_or_environment() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let (uid, gid) = (format!("--reuid={USER}"), format!("--regid={USER}"));
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .environment("SOME_SECRET", "sentinel")
        .run_by(&["setpriv", &uid, &gid, "--clear-groups"]);
    let mut proxy = Proxy::start_live_in(dir, config).await;
    proxy.until_ready().await;
    let id = proxy.program().id();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{USER}\t")), "{status}");

    // Another program of that user can be read: the question is a good one.
    let mut other = Program::peer("sleep", "coreutils");
    let mut other = other.arg("60").uid(USER).gid(USER).kill_on_drop(true).spawn().unwrap();
    assert_eq!(reads(other.id().unwrap()).await, [true, true]);
    other.kill().await.unwrap();
    assert_eq!(reads(id).await, [false, false]);

    assert_eq!(proxy.get("/").await.status, 200);
}

/// The numbers of the children of process `parent`, and the state of each.
fn children(parent: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let files = numbers.filter_map(|id| Some((id, fs::read_to_string(format!("/proc/{id}/stat")).ok()?)));
    let fields = files.filter_map(|(id, stat)| {
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.to_owned();
        (fields.next()?.parse() == Ok(parent)).then_some((id, state))
    });
    fields.collect()
}

#[tokio::test]
async fn as_process_1_it_reaps_what_helpers_leave_behind_and_loses_no_status() {
    let api = Origin::ok().await;
    // Two that outlive it: one of its own group, and one that begins a session. Each ends soon.
    let helper = "sleep 0.05 & setsid -f sh -c \"sleep 0.1 & exit 3\"; echo token";
    let token = format!("[tokens.api]\ngrant = \"command\"\ncommand = [\"sh\", \"-c\", {helper:?}]\n");
    let config = Config::one_route(&upstream_at(&api.url()), &token).run_by(&[
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    ]);
    let mut proxy = Proxy::start(config).await;
    let first = children(proxy.program().id());
    let [(first, _)] = first.as_slice() else { panic!("{first:?}") };
    let namespaced = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    assert!(
        namespaced.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")),
        "{namespaced}"
    );
    for round in 1..=20 {
        let renewed = proxy.command(&["renew", "api"]).await;
        assert!(renewed.status.success(), "{round}: {renewed:?}\n{}", proxy.log());
    }
    let shown = proxy.status().await;
    assert_eq!(shown["tokens"][0]["failures"], 0, "no status was lost: {shown}");
    assert_eq!(shown["tokens"][0]["renewals"], 21, "{shown}");
    eventually("none is left", || async { children(*first).is_empty() }).await;
    proxy.until_ready().await;
    let first = i32::try_from(*first).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(first, Signal::TERM).unwrap();
    let (status, log) = proxy.end().await;
    assert_eq!(status.code(), Some(0), "{log}");
}
