//! What stands where a file is named, and is none: no start, check or renewal hangs on it.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;

use cupbearer_testing::{
    Config, Origin, Program, Proxy, cupbearer, eventually, free_address, token_at, upstream_at,
};

/// Far more than what a pipe is waited for, and far less than for ever.
const BOUND: Duration = Duration::from_mins(1);

async fn output(mut command: Command) -> Output {
    tokio::time::timeout(BOUND, command.output()).await.expect("it does not hang").unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What is no file, and what it is called.
fn strange(dir: &Path) -> Vec<(PathBuf, &'static str)> {
    let (fifo, socket) = (dir.join("fifo"), dir.join("socket"));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    drop(UnixListener::bind(&socket).unwrap());
    vec![
        (fifo, "is a pipe that no program writes to"),
        (socket, "is a socket, not a file"),
        (PathBuf::from("/dev/zero"), "is a device, not a file"),
        (PathBuf::from("/dev/tty"), "is a device, not a file"),
        (dir.to_owned(), "is a directory, not a file"),
    ]
}

/// A configuration with what `lines` say of its token, and `end` behind it.
fn with(lines: &str, end: &str) -> String {
    let token = format!(
        "[tokens.api]\ntoken_endpoint = \"http://127.0.0.1:1/token\"\ngrant = \"client_credentials\"\nclient_id = \"orders\"\n{lines}\n"
    );
    let config = Config::one_route(&upstream_at("http://127.0.0.1:1"), &token).and(end);
    config.render([free_address(), free_address(), free_address()])
}

#[tokio::test]
async fn whatever_stands_in_place_of_a_file_is_named_by_check_and_by_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let tls = "[server]\n";
    for (path, says) in strange(dir.path()) {
        let path = path.to_str().unwrap();
        let secret = "client_secret = \"sixteen-characters\"";
        for (what, config) in [
            ("secret", with(&format!("client_secret_file = \"{path}\""), "")),
            ("key", with(&format!("client_auth = \"private_key_jwt\"\nclient_key_file = \"{path}\""), "")),
            (
                "assertion",
                with(&format!("client_auth = \"assertion_file\"\nassertion_file = \"{path}\""), ""),
            ),
            ("authorities", with(&format!("{secret}\nca_file = \"{path}\""), "")),
            ("guard", with(secret, &format!("[guard]\nshared_secret_file = \"{path}\""))),
            (
                "certificate",
                with(secret, "").replacen(
                    tls,
                    &format!("{tls}tls = {{ cert_file = \"{path}\", key_file = \"{path}\" }}\n"),
                    1,
                ),
            ),
        ] {
            fs::write(&file, config).unwrap();
            for words in ["check", "run"] {
                let mut command = cupbearer();
                command.args([words, "--config"]).arg(&file);
                let output = output(command).await;
                let said = text(&output);
                assert!(!output.status.success() && said.contains(says), "{words} {what} {path}: {said}");
                assert!(said.contains(path), "{words} {what} {path}: {said}");
            }
        }
        for words in ["check", "run"] {
            let mut command = cupbearer();
            command.args([words, "--config", path]);
            let output = output(command).await;
            assert!(
                !output.status.success() && text(&output).contains(says),
                "{words} {path}: {}",
                text(&output)
            );
        }
    }
}

#[tokio::test]
async fn a_process_substitution_is_a_configuration_and_a_secret_for_as_long_as_the_program_runs() {
    let (api, server) = (Origin::ok().await, Origin::issuing(2).await);
    let dir = tempfile::tempdir().unwrap();
    let addresses = [free_address(), free_address(), free_address()];
    let token =
        token_at(&server.url()).replace(&format!("client_secret = \"{}\"\n", cupbearer_testing::SECRET), "");
    let config = Config::one_route(&upstream_at(&api.url()), &token).render(addresses);
    fs::write(dir.path().join("config.toml"), config).unwrap();
    // The secret takes a while, as a password manager does.
    let run = "exec 9< <(sleep 1; echo s3cret); CUPBEARER__TOKENS__API__CLIENT_SECRET_FILE=/dev/fd/9 exec \"$0\" run --config <(cat config.toml)";
    let mut command = Program::peer("bash", "bash");
    command.args(["-c", run, env!("CARGO_BIN_EXE_cupbearer")]).current_dir(dir.path());
    let program = Program::spawn("cupbearer", command, dir.path());
    eventually("it has renewed three times", || async { server.seen().len() >= 3 }).await;
    for request in server.seen() {
        // orders:s3cret
        let sent = request.field("authorization");
        assert_eq!(sent.as_deref(), Some("Basic b3JkZXJzOnMzY3JldA=="), "{}", program.log());
    }
    // What came out of the pipe is there for a reload, too.
    program.signal(Signal::HUP);
    eventually("it is reloaded", || async { program.log().contains("the configuration was reloaded") }).await;
}

#[tokio::test]
async fn a_configuration_comes_in_by_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, with("client_secret = \"sixteen-characters\"", "")).unwrap();
    for script in
        ["cat \"$1\" | \"$0\" check --config /dev/stdin", "\"$0\" check --config /dev/stdin <\"$1\""]
    {
        let mut command = Program::peer("sh", "dash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_cupbearer")]).arg(&file);
        let output = output(command).await;
        assert!(output.status.success(), "{script}: {}", text(&output));
    }
}

#[tokio::test]
async fn a_secret_that_becomes_a_pipe_fails_a_renewal_and_holds_up_nothing() {
    let (api, server) = (Origin::ok().await, Origin::issuing(4).await);
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "s3cret").unwrap();
    let inline = format!("client_secret = \"{}\"", cupbearer_testing::SECRET);
    let token = token_at(&server.url()).replace(&inline, &format!("client_secret_file = {secret:?}"));
    let config = Config::one_route(
        &upstream_at(&api.url()),
        &(token + "retry = { initial = \"100ms\", max = \"1s\" }\n"),
    );
    let proxy = Proxy::start_live_in(dir, config).await;
    eventually("there is a token", || async { proxy.is_ready().await }).await;
    fs::remove_file(&secret).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &secret, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    eventually("the failure names it", || async {
        proxy.status().await.to_string().contains("is a pipe that no program writes to")
    })
    .await;
    fs::remove_file(&secret).unwrap();
    fs::write(&secret, "s3cret").unwrap();
    let before = server.seen().len();
    eventually("it is renewed", || async { server.seen().len() > before }).await;
    assert_eq!(proxy.get("/").await.status, 200);
    let (status, log) = proxy.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn sigterm_ends_a_start_that_waits_for_a_pipe_also_of_process_1() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    // A writer that never ends.
    let mut writer = Program::peer("sh", "dash");
    writer.args(["-c", "exec sleep 600 >\"$0\""]).arg(&fifo).kill_on_drop(true);
    let _writer = writer.spawn().unwrap();
    let mut command = Program::peer("unshare", "util-linux");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", env!("CARGO_BIN_EXE_cupbearer")]);
    command.args(["run", "--config"]).arg(&fifo);
    let mut program = Program::spawn("cupbearer", command, dir.path());
    let parent = program.id();
    let children =
        || fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let waits = |id: &str| {
        let stack = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        stack.into_iter().any(|open| fs::read_link(open.path()).is_ok_and(|path| path == fifo))
    };
    eventually("it waits for the pipe", || async { children().split_whitespace().any(waits) }).await;
    let first = children().split_whitespace().next().unwrap().parse::<i32>().unwrap();
    let start = cupbearer_testing::clock::now();
    rustix::process::kill_process(rustix::process::Pid::from_raw(first).unwrap(), Signal::TERM).unwrap();
    let status = program.ended(BOUND).await;
    assert_eq!(status.code(), Some(0), "{}", program.log());
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "before the pipe's time is over: {:?}",
        start.elapsed()
    );
}
