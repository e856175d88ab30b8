//! The units of `deploy/systemd`: systemd takes them, the service confines, and the program can live in it. `booted` runs them in a
//! real systemd.

mod booted;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tokio::process::Command;

use cupbearer_testing::{Origin, Program, cupbearer, curl, eventually, free_address, repository};

fn unit() -> String {
    fs::read_to_string(repository().join("deploy/systemd/cupbearer.service")).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_systemd_unit_is_valid_and_confined() {
    let dir = tempfile::tempdir().unwrap();
    let unit = unit();
    let program = dir.path().join("cupbearer");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = dir.path().join("cupbearer.service");
    let socket = repository().join("deploy/systemd/cupbearer.socket");
    fs::copy(socket, dir.path().join("cupbearer.socket")).unwrap();
    // The manual page is not installed here either.
    let here = unit
        .replace("/usr/local/bin/cupbearer", program.to_str().unwrap())
        .replace("Documentation=man:cupbearer(1)\n", "");
    fs::write(&file, &here).unwrap();
    let verify = |file: PathBuf| async move {
        Program::peer("systemd-analyze", "systemd").arg("verify").arg(file).output().await.unwrap()
    };
    let output = verify(file.clone()).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let output = verify(dir.path().join("cupbearer.socket")).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    fs::write(dir.path().join("wrong.service"), here.replace("ProtectHome=yes", "ProtectHouse=yes")).unwrap();
    let wrong = verify(dir.path().join("wrong.service")).await;
    assert!(text(&wrong.stderr).contains("ProtectHouse"), "{}", text(&wrong.stderr));
    let output = Program::peer("systemd-analyze", "systemd")
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(&file)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "an exposure of more than 2.0: {}", text(&output.stdout));
}

/// The groups of system calls that systemd knows, by their names; a member may be a group.
async fn groups() -> BTreeMap<String, Vec<String>> {
    let output = Program::peer("systemd-analyze", "systemd").arg("syscall-filter").output().await.unwrap();
    let mut groups = BTreeMap::new();
    let mut name = String::new();
    for line in text(&output.stdout).lines() {
        match line.strip_prefix("    ") {
            Some(member) if !member.starts_with('#') => {
                groups.entry(name.clone()).or_insert_with(Vec::new).push(member.to_owned());
            }
            None if line.starts_with('@') => line.clone_into(&mut name),
            Some(_) | None => {}
        }
    }
    groups
}

/// What a unit's filters leave allowed: the first is a list of what is, and those with `~` take away from it.
fn allowed(unit: &str, groups: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    fn calls(name: &str, groups: &BTreeMap<String, Vec<String>>, found: &mut BTreeSet<String>) {
        if let Some(members) = groups.get(name) {
            for member in members {
                calls(member, groups, found);
            }
        } else {
            assert!(!name.starts_with('@'), "{name} is no group of systemd's");
            found.insert(name.to_owned());
        }
    }
    let mut allowed = BTreeSet::new();
    calls("@default", groups, &mut allowed);
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let mut named = BTreeSet::new();
        for name in filter.trim_start_matches('~').split(' ') {
            calls(name, groups, &mut named);
        }
        if filter.starts_with('~') {
            allowed.retain(|call| !named.contains(call));
        } else {
            allowed.append(&mut named);
        }
    }
    allowed
}

/// A command of the program that strace watches, and the file where it names the system calls at the end.
fn watched(words: &[&str], calls: &Path) -> Command {
    let mut command = Program::peer("strace", "strace");
    // Apart, so that the program itself is what is started, told to end and waited for.
    command
        .args(["--daemonize", "--follow-forks", "--summary-only", "--summary-columns=name", "--output"])
        .arg(calls);
    command.arg(cupbearer().as_std().get_program()).args(words);
    command
}

/// The calls that strace has named.
async fn called(calls: &Path) -> BTreeSet<String> {
    let named = || fs::read_to_string(calls).unwrap_or_default();
    eventually("strace names the calls", || async { named().ends_with("total\n") }).await;
    let columns = named();
    columns
        .lines()
        .skip(2)
        .filter(|line| !line.starts_with('-') && *line != "total")
        .map(ToOwned::to_owned)
        .collect()
}

#[tokio::test]
async fn the_program_lives_within_the_units_system_calls() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let [listen, health, control] = [free_address(), free_address(), free_address()];
    fs::write(at("client_secret"), "the-secret-of-the-tests").unwrap();
    // By a name, which has to be looked up, with a Unix socket and a store: all that the unit's folders are for.
    let config = format!(
        "[server]\nlisten = [\"{listen}\", \"unix:{}\"]\n[health]\nlisten = \"{health}\"\n[control]\nlisten = \"{control}\"\n\
         [store]\nkind = \"file\"\npath = \"{}\"\n[upstreams.api]\nurl = \"{}\"\n\
         [tokens.api]\ntoken_endpoint = \"{}/token\"\nclient_id = \"orders\"\nclient_secret_file = \"{}\"\n\
         [[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"api\"\n",
        at("proxy.sock").display(),
        at("store").display(),
        api.url().replace("127.0.0.1", "localhost"),
        server.url(),
        at("client_secret").display()
    );
    let file = at("config.toml");
    fs::write(&file, &config).unwrap();
    let path = file.to_str().unwrap();
    let command = watched(&["run", "--config", path], &at("run.calls"));
    let mut program = Program::spawn("cupbearer", command, dir.path());
    let wait =
        watched(&["wait", "--config", path, "--timeout", "20s"], &at("wait.calls")).output().await.unwrap();
    assert!(wait.status.success(), "{}{}", text(&wait.stderr), program.log());
    assert_eq!(curl(&[&format!("http://{listen}/a")]).await.status, 200, "{}", program.log());
    let socket = at("proxy.sock");
    assert_eq!(curl(&["--unix-socket", socket.to_str().unwrap(), "http://localhost/a"]).await.status, 200);
    fs::write(&file, config + "max_concurrent = 9\n").unwrap();
    program.signal(Signal::HUP);
    program
        .until("reloaded", || async {
            let metrics = curl(&[&format!("http://{health}/metrics")]).await.text();
            metrics.contains("cupbearer_config_reloads_total{result=\"applied\"} 1\n")
        })
        .await;
    program.signal(Signal::TERM);
    assert!(program.ended(cupbearer_testing::PATIENCE).await.success(), "{}", program.log());

    let mut calls = called(&at("run.calls")).await;
    calls.append(&mut called(&at("wait.calls")).await);
    let unit = unit();
    let groups = groups().await;
    let permitted = allowed(&unit, &groups);
    let refused: Vec<&String> = calls.difference(&permitted).collect();
    assert!(refused.is_empty(), "the unit refuses {refused:?}");
    // A filter that takes too much is found.
    let narrow = allowed(&unit.replace("~@privileged", "~@privileged @network-io"), &groups);
    assert!(!calls.is_subset(&narrow), "{calls:?}");
}
