//! Whatever restricts the proxy restricts the control surface too: other users, other containers, and each way to reach it.
//!
//! They run as root: only root can be another user.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use cupbearer_testing::{
    Config, Origin, Program, Proxy, cupbearer, curl, eventually, free_address, token_at, upstream_at,
};

/// A user that nothing here belongs to.
const OTHER: u32 = 65_534;
const HEADER: &str = "Cupbearer-Control: 1";
const SECRET: &str = "X-Cupbearer-Secret: sixteen-characters";
const GUARD: &str = "[guard]\nshared_secret = \"sixteen-characters\"";
/// Each that changes something, or hands something out.
const CHANGES: [&str; 7] =
    ["access_token", "renew", "logout", "login", "login/cancel", "login/callback", "silent"];

fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A program of another user, and what it wrote.
async fn as_user(uid: u32, mut command: Command) -> Output {
    assert!(rustix::process::geteuid().is_root(), "only root can be another user: run the tests as root");
    command.uid(uid).gid(uid).current_dir("/").output().await.unwrap()
}

/// curl of another user: the status and the body.
async fn curl_as(uid: u32, arguments: &[&str]) -> (u16, String) {
    let mut command = Program::peer("curl", "curl");
    command.args(["--silent", "--noproxy", "*", "--max-time", "30", "--write-out", "\n%{http_code}"]);
    command.args(arguments);
    let text = both(&as_user(uid, command).await);
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

/// An API and its authorization server, with a configuration of a route between them.
async fn between() -> (Origin, Origin, Config) {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
    (api, server, config)
}

/// A folder that everybody may look into, so that the mode of what is in it decides.
fn open_folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A name in the abstract namespace that no other test has.
fn name() -> String {
    format!("cupbearer-test-{}", free_address().port())
}

/// `POST`s each change to `at` as `uid`: all of them are refused with `status`, and no token is in the answers.
async fn nothing_is_changed(uid: u32, at: &[&str], base: &str, status: u16) {
    for what in CHANGES {
        let url = format!("{base}/tokens/api/{what}");
        let (got, body) =
            curl_as(uid, &[at, &["--request", "POST", "--header", HEADER, &url]].concat()).await;
        assert_eq!(got, status, "{what}: {body}");
        assert!(!body.contains("token-0"), "{what}: {body}");
    }
}

#[tokio::test]
async fn over_tcp_nothing_is_handed_out_or_changed_where_the_guard_restricts_and_a_reload_counts() {
    let (api, server, config) = between().await;
    let mut proxy = Proxy::start(config.clone().and(GUARD)).await;
    let base = format!("http://{}", proxy.control());
    for uid in [OTHER, 0] {
        nothing_is_changed(uid, &[], &base, 403).await;
    }
    let (status, body) =
        curl_as(OTHER, &["--request", "POST", "--header", HEADER, &format!("{base}/silent")]).await;
    assert_eq!(status, 403, "{body}");
    let (status, body) = curl_as(OTHER, &[&format!("{base}/silent?state=x&code=y")]).await;
    assert_eq!(status, 403, "{body}");
    let (status, body) = curl_as(OTHER, &[&format!("{base}/status")]).await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, told["tokens"][0]["status"].as_str()), (200, Some("valid")), "{body}");
    assert!(told["read_only"].as_str().unwrap().contains("guard.shared_secret"), "{body}");
    // The commands say so, and what to do.
    for words in [&["token"][..], &["renew"], &["logout"]] {
        let output = proxy.command(words).await;
        let said = both(&output);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.contains("guard.shared_secret") && said.contains("\"unix:@cupbearer\""), "{said}");
        assert!(!said.contains("token-0"), "{said}");
    }
    let output = proxy.command(&["status"]).await;
    let said = both(&output);
    assert!(output.status.success() && said.contains("valid") && said.contains("read-only: "), "{said}");
    // And all the while the proxy goes on.
    assert_eq!(curl(&["--header", SECRET, &proxy.url("/")]).await.status, 200);
    assert_eq!((server.seen().len(), api.seen().len()), (1, 1));
    assert!(proxy.metric("cupbearer_guard_rejections_total", &["reason=\"read_only\""]).await >= 16.0);

    proxy.rewrite(&config);
    proxy.program().signal(Signal::HUP);
    let token = format!("{base}/tokens/api/access_token");
    let ask = [&["--request", "POST", "--header", HEADER, &token][..]].concat();
    eventually("an open proxy hands it out", || async { curl_as(OTHER, &ask).await.0 == 200 }).await;
    assert!(curl_as(OTHER, &ask).await.1.contains("token-0"));
    proxy.rewrite(&config.and(GUARD));
    proxy.program().signal(Signal::HUP);
    eventually("a restricted one does not", || async { curl_as(OTHER, &ask).await.0 == 403 }).await;
    proxy.until_ready().await;
}

#[tokio::test]
async fn check_says_that_a_restricted_proxy_has_an_open_control_surface() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let rest = upstream_at("https://api.example.com")
        + &token_at("https://login.example.com/token")
        + "[[routes]]\nupstream = \"api\"\ntoken = \"api\"\n";
    for (head, says) in [
        ("[server]\nlisten = \"unix:proxy.sock\"\n[guard]\nallowed_uids = [7]\n", true),
        ("[server]\nlisten = \"unix:proxy.sock\"\n", true),
        ("[guard]\nshared_secret = \"sixteen-characters\"\n", true),
        ("[guard]\nshared_secret = \"sixteen-characters\"\n[control]\nlisten = \"unix:c.sock\"\n", false),
        ("[guard]\nshared_secret = \"sixteen-characters\"\n[control]\nlisten = \"unix:@c\"\n", false),
        ("[guard]\nshared_secret = \"sixteen-characters\"\n[control]\nlisten = \"none\"\n", false),
        ("", false),
    ] {
        fs::write(&file, format!("{head}{rest}")).unwrap();
        let output = cupbearer().arg("check").arg("--config").arg(&file).output().await.unwrap();
        let said = both(&output);
        assert!(output.status.success(), "{said}");
        let told = said.contains("warning: control.listen: ")
            && said.contains("no token is handed out")
            && said.contains("unix:/");
        assert_eq!(told, says, "{head}{said}");
    }
}

#[tokio::test]
async fn a_socket_with_a_path_has_a_mode_and_serves_every_command() {
    let (_api, server, config) = between().await;
    let dir = open_folder();
    let socket = dir.path().join("control.sock");
    let at = ["--unix-socket", socket.to_str().unwrap()];
    let config = config.control(&format!("listen = \"unix:{}\"", socket.display())).and(GUARD);
    let proxy = Proxy::start(config).await;
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // curl cannot connect at all: no status.
    nothing_is_changed(OTHER, &at, "http://localhost", 0).await;
    for (words, says) in [
        (&["status"][..], "valid"),
        (&["token"], "token-0"),
        (&["renew"], "renewed"),
        (&["token"], "token-1"),
    ] {
        let output = proxy.command(words).await;
        assert!(output.status.success() && both(&output).contains(says), "{words:?}: {}", both(&output));
    }
    assert_eq!(server.seen().len(), 2);
    let status = proxy.command(&["status", "--json"]).await;
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let listeners = status["listeners"].as_array().unwrap();
    let shown = format!("unix:{}", socket.display());
    assert!(
        listeners.iter().any(|one| one["name"] == "control" && one["address"] == shown.as_str()),
        "{status}"
    );
    assert_eq!(status.get("read_only"), None);
    // By the flag and by the variable, without a configuration; and no web page's Host.
    let elsewhere = tempfile::tempdir().unwrap();
    for (flag, variable) in [(Some(&shown), None), (None, Some(&shown))] {
        let mut command = cupbearer();
        command.arg("status").current_dir(elsewhere.path());
        command.args(flag.into_iter().flat_map(|address| ["--control", address]));
        command.envs(variable.map(|address| ("CUPBEARER__CONTROL__LISTEN", address)));
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", both(&output));
    }
    let page = curl(&[&at[..], &["http://evil.example/status"]].concat()).await;
    assert_eq!(page.status, 421, "{page:?}");
    // This authorization server has nothing to revoke at.
    let output = proxy.command(&["logout"]).await;
    assert!(both(&output).contains("it is forgotten here"), "{}", both(&output));
    assert_eq!(proxy.command(&["token"]).await.status.code(), Some(1));

    // What a killed one leaves is replaced, and the file goes with the program.
    let stopped = proxy.kill().await;
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    let output = stopped.command(&["status"]).await;
    assert!(
        output.status.code() == Some(1)
            && both(&output).contains("no cupbearer runs with its control listener on unix:"),
        "{}",
        both(&output)
    );
    let proxy = stopped.start().await;
    assert!(proxy.command(&["status"]).await.status.success());
    proxy.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn at_a_socket_that_all_may_connect_to_the_users_of_the_guard_count_or_nothing_is_changed() {
    let (_api, _server, config) = between().await;
    let dir = open_folder();
    let socket = dir.path().join("control.sock");
    let at = ["--unix-socket", socket.to_str().unwrap()];
    let token =
        [&at[..], &["--request", "POST", "--header", HEADER, "http://localhost/tokens/api/access_token"]]
            .concat();
    let config = config.control(&format!("listen = \"unix:{}\"\nunix_mode = \"0666\"", socket.display()));
    let proxy = Proxy::start(config.clone().and(GUARD).and(&format!("allowed_uids = [{OTHER}]"))).await;
    for uid in [OTHER, 0] {
        let (status, body) = curl_as(uid, &token).await;
        assert!(
            status == 200 && body.contains("token-0"),
            "{uid}, which is listed or the program's own: {body}"
        );
    }
    nothing_is_changed(OTHER - 1, &at, "http://localhost", 403).await;
    let (status, body) = curl_as(OTHER - 1, &[&at[..], &["http://localhost/status"]].concat()).await;
    assert!(status == 403 && body.contains("allowed_uids"), "{body}");
    drop(proxy);
    let _proxy = Proxy::start(config.and(GUARD)).await;
    nothing_is_changed(OTHER, &at, "http://localhost", 403).await;
    assert_eq!(curl_as(OTHER, &[&at[..], &["http://localhost/status"]].concat()).await.0, 200);
}

/// A command in a PID namespace of its own, as another container's is.
fn contained(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Program::peer("unshare", "util-linux");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(program);
    command
}

#[tokio::test]
async fn a_name_without_a_file_is_for_the_same_user_in_the_same_container() {
    let (_api, server, config) = between().await;
    let name = name();
    let at = ["--abstract-unix-socket", &name];
    let proxy = Proxy::start(config.control(&format!("listen = \"unix:@{name}\"")).and(GUARD)).await;
    nothing_is_changed(OTHER, &at, "http://localhost", 403).await;
    let (status, body) = curl_as(OTHER, &[&at[..], &["http://localhost/status"]].concat()).await;
    assert!(status == 403 && body.contains("is for the user that cupbearer runs as"), "{body}");
    // The same user elsewhere: a container that this program's namespace has a number for.
    let mut elsewhere = contained("curl");
    elsewhere.args(["--silent", "--request", "POST", "--header", HEADER]).args(at);
    let output = elsewhere.arg("http://localhost/tokens/api/access_token").output().await.unwrap();
    let said = both(&output);
    assert!(
        said.contains("\"status\":403") && said.contains("PID namespace") && !said.contains("token-0"),
        "{said}"
    );
    let mut elsewhere = contained(env!("CARGO_BIN_EXE_cupbearer"));
    let output = elsewhere.args(["token", "--control", &format!("unix:@{name}")]).output().await.unwrap();
    assert!(
        output.status.code() == Some(1) && both(&output).contains("another PID namespace"),
        "{}",
        both(&output)
    );
    // Whatever the command, to be refused is a no.
    for words in [&["status"][..], &["status", "--json"], &["token", "api"], &["renew", "api"], &["login"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupbearer"));
        command.args(words).args(["--control", &format!("unix:@{name}")]);
        let output = as_user(OTHER, command).await;
        assert!(
            output.status.code() == Some(1) && both(&output).contains("run this command as that user"),
            "{words:?}: {:?} {}",
            output.status,
            both(&output)
        );
    }
    assert_eq!(server.seen().len(), 1);
    assert!(proxy.metric("cupbearer_guard_rejections_total", &["reason=\"uid\""]).await >= 9.0);
    for (words, says) in [(&["status"][..], "valid"), (&["renew"], "renewed"), (&["token"], "token-1")] {
        let output = proxy.command(words).await;
        assert!(output.status.success() && both(&output).contains(says), "{words:?}: {}", both(&output));
    }
    let output = cupbearer().args(["status", "--control", &format!("unix:@{name}")]).output().await.unwrap();
    assert!(output.status.success(), "{}", both(&output));

    // A name is there once in a network namespace.
    let second = Command::new(env!("CARGO_BIN_EXE_cupbearer"))
        .args(["run", "--config"])
        .arg(proxy.config_file())
        .env("CUPBEARER__SERVER__LISTEN", "127.0.0.1:0")
        .env("CUPBEARER__HEALTH__LISTEN", "127.0.0.1:0")
        .output()
        .await
        .unwrap();
    let said = both(&second);
    assert!(!second.status.success() && said.contains(&format!("unix:@{name}")), "{said}");
    assert!(said.contains("network namespace") && said.contains("CUPBEARER__CONTROL__LISTEN"), "{said}");
    proxy.stop().await;
}

#[tokio::test]
async fn a_program_in_a_container_serves_what_is_run_in_that_container_alone() {
    let (_api, _server, config) = between().await;
    let dir = tempfile::tempdir().unwrap();
    let name = name();
    let [listen, health] = [free_address(), free_address()];
    let file = dir.path().join("config.toml");
    let config = config.control(&format!("listen = \"unix:@{name}\"")).and(GUARD);
    fs::write(&file, config.render([listen, health, listen])).unwrap();
    let mut command = contained(env!("CARGO_BIN_EXE_cupbearer"));
    command.args(["run", "--config"]).arg(&file);
    let mut program = Program::spawn("contained", command, dir.path());
    let ready = format!("http://{health}/readyz");
    program.until("ready", || async { curl(&[&ready]).await.status == 200 }).await;
    // From outside, the kernel has no number for who connects: 0.
    let at = ["--abstract-unix-socket", &name];
    nothing_is_changed(0, &at, "http://localhost", 403).await;
    let output = cupbearer().args(["token", "--config"]).arg(&file).output().await.unwrap();
    assert!(
        output.status.code() == Some(1) && both(&output).contains("another container"),
        "{}",
        both(&output)
    );
    // As `kubectl exec` does it.
    let inside = child_of(program.id());
    for (words, says) in [(&["status"][..], "valid"), (&["token"], "token-0")] {
        let mut command = Program::peer("nsenter", "util-linux");
        command.args(["--target", &inside.to_string(), "--pid", "--mount"]);
        command.arg(env!("CARGO_BIN_EXE_cupbearer")).args(words).arg("--config").arg(&file);
        let output = command.output().await.unwrap();
        assert!(output.status.success() && both(&output).contains(says), "{words:?}: {}", both(&output));
    }
}

/// The only child of a process.
fn child_of(id: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.trim().parse().unwrap()
}

#[tokio::test]
async fn a_program_of_another_user_under_the_name_gets_no_request() {
    let name = name();
    let dir = tempfile::tempdir().unwrap();
    let seen = open_folder();
    fs::set_permissions(seen.path(), Permissions::from_mode(0o777)).unwrap();
    let file = seen.path().join("seen");
    let server = format!(
        "import os, socket\nos.setgid({OTHER})\nos.setuid({OTHER})\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0{name}')\ns.listen()\nopen({file:?}, 'w').close()\n\
         while True:\n    c, _ = s.accept()\n    d = c.recv(9)\n    open({file:?}, 'ab').write(d)\n"
    );
    let mut command = Program::peer("python3", "python3");
    command.args(["-c", &server]);
    let mut impostor = Program::spawn("impostor", command, dir.path());
    impostor.until("there", || async { Path::new(&file).exists() }).await;
    for words in [&["status"][..], &["token"], &["renew"], &["logout"], &["login"]] {
        let mut command = cupbearer();
        let output =
            command.args(words).args(["--control", &format!("unix:@{name}")]).output().await.unwrap();
        let said = both(&output);
        assert!(!output.status.success() && said.contains(&format!("user {OTHER}")), "{words:?}: {said}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"");
}

#[tokio::test]
async fn without_a_control_surface_the_commands_say_so() {
    let (_api, server, config) = between().await;
    let proxy = Proxy::start(config.control("listen = \"none\"")).await;
    for (words, code, says) in [
        (&["status"][..], 1, "has no control surface"),
        (&["renew"], 1, "has no control surface"),
        (&["login"], 1, "no token needs a login"),
        (&["logout"], 0, "a proxy that runs goes on with the token that it holds"),
        (&["wait", "--timeout", "20s"], 0, ""),
    ] {
        let output = proxy.command(words).await;
        let said = both(&output);
        assert!(output.status.code() == Some(code) && said.contains(says), "{words:?}: {said}");
    }
    // As where no proxy runs: a token of its own.
    let output = proxy.command(&["token"]).await;
    assert_eq!((output.status.code(), both(&output).as_str()), (Some(0), "token-1\n"));
    assert_eq!((server.seen().len(), proxy.get("/").await.status), (2, 200));
    assert!(!proxy.log().contains("listening for the dashboard"), "{}", proxy.log());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let text = upstream_at("https://api.example.com")
        + "[tokens.me]\nissuer = \"https://login.example.com/\"\ngrant = \"authorization_code\"\nclient_id = \"me\"\n\
           client_auth = \"none\"\n[[routes]]\nupstream = \"api\"\ntoken = \"me\"\n[store]\nkind = \"memory\"\n\
           [control]\nlisten = \"none\"\n";
    fs::write(&file, text).unwrap();
    let output = cupbearer().args(["login", "--config"]).arg(&file).output().await.unwrap();
    let said = both(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("no person can log in for it") && said.contains("\"file\" or \"keyring\""),
        "{said}"
    );
}
