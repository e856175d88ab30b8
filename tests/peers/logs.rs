//! The log and what reads it: a pipe that nothing reads, one that is closed, a full disk, a terminal that was stopped. No
//! request, renewal or end waits for it, and what is lost is counted.

use std::fs;
use std::io::{BufRead as _, BufReader, PipeReader, pipe};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use cupbearer_testing::{
    Config, Origin, PATIENCE, Program, Proxy, Reply, cupbearer, curl, eventually, free_address, python, run,
    token_at, upstream_at,
};

/// The program with outputs of the test's own.
struct Running {
    child: Child,
    listen: SocketAddr,
    health: SocketAddr,
    _dir: TempDir,
}

impl Running {
    async fn start(config: &Config, output: impl Fn() -> Stdio) -> Self {
        Self::start_by(cupbearer(), config, output).await
    }

    async fn start_by(mut command: Command, config: &Config, output: impl Fn() -> Stdio) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [listen, health, control] = [free_address(), free_address(), free_address()];
        let file = dir.path().join("config.toml");
        fs::write(&file, config.render([listen, health, control])).unwrap();
        command.arg("run").arg("--config").arg(&file);
        command.stdin(Stdio::null()).stdout(output()).stderr(output()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        drop(command);
        let live = format!("http://{health}/livez");
        eventually("it is live", || async { curl(&[&live]).await.status == 200 }).await;
        Self { child, listen, health, _dir: dir }
    }

    /// Sends `count` requests one after the other, to /NAME/0 and so on; how many were successful.
    async fn requests(&self, name: &str, count: usize) -> usize {
        let mut command = Program::peer("curl", "curl");
        let url = format!("http://{}/{name}/[0-{}]/{}", self.listen, count - 1, "x".repeat(300));
        command.args(["--silent", "--noproxy", "*", "--write-out", "\n%{http_code}\n"]).arg(url);
        let output = command.kill_on_drop(true).output().await.unwrap();
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| *line == "200").count()
    }

    async fn dropped(&self) -> u64 {
        let text = curl(&[&format!("http://{}/metrics", self.health)]).await.text();
        let line = text.lines().find_map(|line| line.strip_prefix("cupbearer_log_lines_dropped_total "));
        line.expect("the metric is there").parse().unwrap()
    }

    async fn ends(mut self) {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).unwrap();
        kill_process(id, Signal::TERM).unwrap();
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

/// An API without a token, so that requests alone are logged.
fn logged(api: &Origin) -> Config {
    let route = "[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"none\"\n[log]\naccess = true\n";
    Config::new(upstream_at(&api.url()) + route)
}

/// Reads lines as they come.
fn read(pipe: PipeReader) -> Arc<Mutex<Vec<String>>> {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let all = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            all.lock().unwrap().push(line.unwrap());
        }
    });
    lines
}

fn objects(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("torn: {line}"))).collect()
}

/// The numbers of the requests to /NAME/, in the order of their lines.
fn numbers(lines: &[Value], name: &str) -> Vec<usize> {
    let start = format!("/{name}/");
    let paths = lines.iter().filter_map(|line| line["path"].as_str()?.strip_prefix(&start));
    paths.map(|rest| rest.split('/').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn a_log_that_nothing_reads_holds_up_no_request_no_renewal_and_no_end() {
    for level in ["info", "debug"] {
        let (api, server) = (Origin::ok().await, Origin::issuing(3).await);
        let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
        let config = config.and(&format!("[log]\naccess = true\nlevel = \"{level}\"\n"));
        let (_reader, writer) = pipe().unwrap();
        let proxy = Running::start(&config, || writer.try_clone().unwrap().into()).await;
        let ready = format!("http://{}/readyz", proxy.health);
        eventually("it is ready", || async { curl(&[&ready]).await.status == 200 }).await;
        assert_eq!(proxy.requests("r", 3_000).await, 3_000, "{level}");
        assert!(proxy.dropped().await > 0, "the pipe and the queue are full");
        let tokens = server.seen().len();
        eventually("the token is renewed", || async { server.seen().len() > tokens + 1 }).await;
        assert_eq!(proxy.requests("r", 10).await, 10);
        proxy.ends().await;
    }
}

#[tokio::test]
async fn the_lines_that_are_read_and_those_reported_as_dropped_are_all_there_were() {
    for flags in [OFlags::empty(), OFlags::NONBLOCK] {
        let api = Origin::ok().await;
        let (reader, writer) = pipe().unwrap();
        fcntl_setfl(&writer, flags).unwrap();
        let proxy = Running::start(&logged(&api), || writer.try_clone().unwrap().into()).await;
        drop(writer);
        assert_eq!(proxy.dropped().await, 0);
        assert_eq!(proxy.requests("stalled", 4_000).await, 4_000);
        let dropped = proxy.dropped().await;
        assert!(dropped > 0);
        let lines = read(reader);
        let reported = || lines.lock().unwrap().iter().any(|line| line.contains("log lines were dropped"));
        eventually("the loss is reported", || async { reported() }).await;
        assert_eq!(proxy.requests("flowing", 100).await, 100);
        assert_eq!(proxy.dropped().await, dropped, "nothing more is lost");
        proxy.ends().await;
        let ended = || lines.lock().unwrap().last().is_some_and(|line| line.contains("\"ended\""));
        eventually("the last line is there", || async { ended() }).await;
        let lines = objects(&lines.lock().unwrap());
        let reports: Vec<_> = lines.iter().enumerate().filter(|(_, line)| line["dropped"].is_u64()).collect();
        let [(place, report)] = reports[..] else { panic!("{reports:?}") };
        assert_eq!((&report["level"], report["dropped"].as_u64()), (&"WARN".into(), Some(dropped)));
        let (before, after) = lines.split_at(place);
        let kept = numbers(before, "stalled");
        assert_eq!(kept, (0..kept.len()).collect::<Vec<_>>(), "in order, up to the gap");
        assert_eq!(kept.len() as u64 + dropped, 4_000);
        assert_eq!(numbers(after, "flowing"), (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_full_device_and_a_closed_pipe_cost_lines_and_nothing_else() {
    let api = Origin::ok().await;
    let (reader, closed) = pipe().unwrap();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let outputs: [Box<dyn Fn() -> Stdio>; 2] =
        [Box::new(|| full.try_clone().unwrap().into()), Box::new(|| closed.try_clone().unwrap().into())];
    // As `head -1` does.
    std::thread::spawn(move || BufReader::new(reader).lines().next());
    for output in outputs {
        let proxy = Running::start(&logged(&api), &output).await;
        assert_eq!(proxy.requests("r", 3_000).await, 3_000);
        assert!(proxy.dropped().await > 0);
        assert_eq!(proxy.requests("r", 100).await, 100, "and the connections after that are served");
        proxy.ends().await;
    }
}

#[tokio::test]
async fn a_full_disk_that_gets_room_again_gets_every_line() {
    let api = Origin::ok().await;
    let disk = tempfile::tempdir().unwrap();
    // A file system of the program's own, which ends with it.
    let mut command = Program::peer("unshare", "util-linux");
    let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\" 2>\"$0/log\"";
    command.args(["--mount", "sh", "-c", script]).arg(disk.path()).arg(env!("CARGO_BIN_EXE_cupbearer"));
    let proxy = Running::start_by(command, &logged(&api), Stdio::null).await;
    let root = format!("/proc/{}/root{}", proxy.child.id().unwrap(), disk.path().display());
    let (ballast, log) = (format!("{root}/ballast"), format!("{root}/log"));
    assert!(fs::write(&ballast, vec![0; 5 << 20]).is_err(), "the disk is full");
    assert_eq!(proxy.requests("r", 1_000).await, 1_000);
    let read = || fs::read_to_string(&log).unwrap();
    assert!(!read().contains("/r/900/"), "it holds the first lines at most");
    fs::remove_file(&ballast).unwrap();
    eventually("every line is there", || async { read().contains("/r/999/") }).await;
    let lines: Vec<_> = read().lines().map(str::to_owned).collect();
    assert_eq!(numbers(&objects(&lines), "r"), (0..1_000).collect::<Vec<_>>());
    assert_eq!(proxy.dropped().await, 0);
    proxy.ends().await;
}

#[tokio::test]
async fn a_terminal_that_was_stopped_by_ctrl_s_stops_no_request() {
    let api = Origin::ok().await;
    let dir = tempfile::tempdir().unwrap();
    let [listen, health, control] = [free_address(), free_address(), free_address()];
    let file = dir.path().join("config.toml");
    fs::write(&file, logged(&api).render([listen, health, control])).unwrap();
    let mut command = python("terminal.py");
    command.arg(listen.to_string()).arg(health.to_string()).arg(env!("CARGO_BIN_EXE_cupbearer"));
    command.args(["run", "--config"]).arg(&file);
    let told = run(command).await;
    assert_eq!(told[0]["answered"], 4_000, "{told:?}");
    assert_eq!(told[0]["dropped"], told[0]["reported"], "{told:?}");
    assert_ne!(told[0]["dropped"], 0, "{told:?}");
    assert_eq!(told[0]["exit"], 0, "{told:?}");
}

#[tokio::test]
async fn the_last_line_of_a_start_that_fails_is_the_reason() {
    let api = Origin::ok().await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let config = logged(&api).and("level = \"debug\"");
    fs::write(&file, config.render([free_address(), taken.local_addr().unwrap(), free_address()])).unwrap();
    let output = cupbearer().arg("run").arg("--config").arg(&file).output().await.unwrap();
    assert_eq!(output.status.code(), Some(75));
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let last = objects(&lines).pop().expect(&text);
    assert_eq!((last["level"].as_str(), last["message"].as_str()), (Some("ERROR"), Some("the program ends")));
    let reason = last["error"].as_str().unwrap();
    assert!(
        reason.starts_with("health.listen: cannot listen on ")
            && reason.ends_with("CUPBEARER__HEALTH__LISTEN")
    );
}

#[tokio::test]
async fn a_sample_of_the_access_log_has_what_failed_and_what_was_slow() {
    let answer = |message: &cupbearer_testing::Message, _| match message.target().split('/').nth(1) {
        Some("absent") => Reply::new(404, &[], ""),
        Some("slow") => Reply::ok().after(Duration::from_millis(60)),
        Some("broken") => Reply::raw("nonsense\r\n\r\n").closing(),
        _ => Reply::ok(),
    };
    let api = Origin::start(answer).await;
    let none = logged(&api).and("access_sample = 0.0\naccess_slow = \"50ms\"");
    let proxy = Proxy::start(none).await;
    for path in ["/absent/1", "/slow/2", "/broken/3"] {
        proxy.get(path).await;
    }
    let lines: Vec<_> = proxy.log().lines().map(str::to_owned).collect();
    let kept: Vec<_> = objects(&lines).into_iter().filter(|line| line["path"].is_string()).collect();
    let paths: Vec<_> = kept.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/absent/1", "/slow/2", "/broken/3"]);
    assert!(kept.iter().all(|line| line["sample"] == 1.0), "{kept:?}");

    let some = logged(&api).and("access_sample = 0.25\naccess_slow = \"1h\"").server("workers = 2");
    let (reader, writer) = pipe().unwrap();
    let lines = read(reader);
    let proxy = Running::start(&some, || writer.try_clone().unwrap().into()).await;
    assert_eq!(proxy.requests("r", 2_000).await, 2_000);
    proxy.ends().await;
    eventually("the last line is there", || async {
        lines.lock().unwrap().last().is_some_and(|line| line.contains("\"ended\""))
    })
    .await;
    let lines = objects(&lines.lock().unwrap());
    let kept: Vec<_> = lines.iter().filter(|line| line["path"].is_string()).collect();
    assert!(kept.iter().all(|line| line["sample"] == 0.25), "{kept:?}");
    // Ten standard deviations to each side.
    assert!((300..700).contains(&kept.len()), "{}", kept.len());
}
