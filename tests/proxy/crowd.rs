//! More clients than there is room for: who requests nothing gives way to who does.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use cupbearer_testing::{
    Certificates, Config, Origin, Program, Proxy, Reply, Stage, curl, eventually, raise_limit, token_at,
    upstream_at,
};

const EVICTIONS: &str = "cupbearer_idle_connections_closed_total";

/// Many clients that each hold a connection by sending `bytes` now and then, and come back where it is closed.
fn crowd(address: SocketAddr, bytes: &'static str, count: usize) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(address).await {
                    hold(&mut stream, bytes).await;
                }
                sleep(Duration::from_millis(500)).await;
            }
        });
    }
    clients
}

/// Until the server closes.
async fn hold(stream: &mut TcpStream, bytes: &str) {
    let mut read = [0; 4096];
    while stream.write_all(bytes.as_bytes()).await.is_ok() {
        match timeout(Duration::from_secs(1), stream.read(&mut read)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => sleep(Duration::from_secs(1)).await,
            Err(_nothing_came) => {}
        }
    }
}

/// What a probe has: a connection of its own, and a few seconds.
async fn probes(url: &str) {
    for _ in 0..5 {
        let answer = curl(&["--max-time", "10", url]).await;
        assert_eq!((answer.exit, answer.status), (0, 200), "{url}");
    }
}

#[tokio::test]
async fn probes_are_answered_while_others_hold_every_connection_of_the_health_listener() {
    let stage = Stage::plain().await;
    // An unfinished head: a whole request is answered, and its connection closed.
    let _crowd = crowd(stage.proxy.health_address(), "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ", 300);
    eventually("connections give way", || async {
        stage.proxy.metric(EVICTIONS, &["server=\"health\""]).await > 0.0
    })
    .await;
    probes(&stage.proxy.health_url("/livez")).await;
    probes(&stage.proxy.health_url("/readyz")).await;
    let log = stage.proxy.log();
    let lines = log.lines().filter(|line| line.contains("all connections are taken")).count();
    assert_eq!(lines, 1, "one line for the spell: {log}");
    assert!(log.contains("health"), "{log}");
}

#[tokio::test]
async fn commands_are_answered_while_others_hold_every_connection_of_the_control_listener() {
    let stage = Stage::plain().await;
    let _crowd = crowd(stage.proxy.control(), "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n", 300);
    eventually("connections give way", || async {
        stage.proxy.metric(EVICTIONS, &["server=\"control\""]).await > 0.0
    })
    .await;
    probes(&format!("http://{}/status", stage.proxy.control())).await;
}

#[tokio::test]
async fn a_probe_s_connection_is_closed_behind_its_answer() {
    let stage = Stage::plain().await;
    for path in ["/livez", "/readyz", "/metrics", "/other"] {
        let answer = curl(&[&stage.proxy.health_url(path)]).await;
        assert_eq!(answer.field("connection"), Some("close"), "{path}");
    }
}

/// Connections that say nothing.
async fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(TcpStream::connect(address).await.unwrap());
    }
    connections
}

/// The numbers of the descriptors that a program has open.
fn descriptors(program: &Program) -> BTreeSet<u64> {
    let listed = fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap();
    listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[tokio::test]
async fn three_thousand_idle_clients_leave_descriptors_for_requests_probes_secrets_and_tokens() {
    let _raised = raise_limit();
    let api = Origin::ok().await;
    let server = Origin::start(|_, number| Reply::token(&format!("token-{number}"), 3)).await;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "first").unwrap();
    let token = token_at(&server.url())
        .replace("client_secret = ", &format!("client_secret_file = '{}' # ", secret.display()));
    let config = Config::one_route(&upstream_at(&api.url()), &token).open_files(1024);
    let mut proxy = Proxy::start_live_in(dir, config).await;
    proxy.until_ready().await;
    let _idle = silent(proxy.listen(), 3000).await;
    let _half: Vec<_> = {
        let mut half = silent(proxy.listen(), 500).await;
        for stream in &mut half {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localh").await;
        }
        half
    };
    fs::write(&secret, "second").unwrap();
    let renewed = STANDARD.encode("orders:second");
    let begun = server.seen().len();
    eventually("the token is renewed again and again, with what the file holds now", || async {
        assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
        assert!(proxy.is_ready().await, "{}", proxy.log());
        let seen = server.seen();
        let with_new =
            |request: &cupbearer_testing::Message| request.all("authorization")[0].ends_with(&renewed);
        seen.len() >= begun + 3 && seen.iter().any(with_new)
    })
    .await;
    assert!(descriptors(proxy.program()).len() < 1024);
    assert!(proxy.metric(EVICTIONS, &["server=\"proxy\""]).await > 2000.0);
    let log = proxy.log();
    for line in ["the limit of open files bounds connections", "all connections are taken"] {
        assert_eq!(log.lines().filter(|logged| logged.contains(line)).count(), 1, "{line}: {log}");
    }
    assert!(!log.contains("cannot be accepted"), "it never came to that: {log}");
    let mut check = tokio::process::Command::new("sh");
    check.args(["-c", "ulimit -n 1024; exec \"$0\" check --config \"$1\"", env!("CARGO_BIN_EXE_cupbearer")]);
    let checked = check.arg(proxy.config_file()).output().await.unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("the limit of 1024 open files has room for"), "{said}");
}

/// Each of them once kept its place for a quarter of a second at least: here that comes to more than a minute, and with TLS to
/// five.
#[tokio::test]
async fn clients_that_send_nothing_give_way_at_once_where_all_places_are_taken() {
    let _raised = raise_limit();
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::for_loopback(dir.path());
    let at = |file: &str| dir.path().join(file).display().to_string();
    let tls = format!("tls = {{ cert_file = '{}', key_file = '{}' }}", at("server.pem"), at("server.key"));
    for (scheme, lines) in [("http", ""), ("https", &tls)] {
        let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
        // Room for nine.
        let proxy = Proxy::start(config.server(lines).open_files(220)).await;
        let _silent = silent(proxy.listen(), 3000).await;
        let url = format!("{scheme}://{}/", proxy.listen());
        let ca = certificates.ca.display().to_string();
        let answer = timeout(Duration::from_secs(30), curl(&["--cacert", &ca, &url])).await;
        assert_eq!(answer.expect("it is served soon").status, 200, "{}", proxy.log());
    }
}

#[tokio::test]
async fn more_clients_at_once_than_there_are_descriptors_for_are_served_one_after_another() {
    let api = Origin::start(|_, _| Reply::ok().after(Duration::from_millis(20))).await;
    let server = Origin::issuing(300).await;
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url())).open_files(300);
    let proxy = Proxy::start(config).await;
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        let address = proxy.listen();
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        });
    }
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}\n{}", proxy.log());
    }
}

#[tokio::test]
async fn a_descriptor_that_is_lacking_is_said_as_what_this_machine_lacks() {
    let stage = Stage::answering(|_, _| Reply::ok().closing()).await;
    let mut wire = stage.proxy.wire().await;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.proxy.listen());
    let program = stage.proxy.program();
    let pid = i32::try_from(program.id()).ok().and_then(Pid::from_raw);
    let limit = |soft: u64| {
        let new = Rlimit { current: Some(soft), maximum: Some(20_000) };
        prlimit(pid, Resource::Nofile, new).unwrap();
    };
    let mut answer = None;
    for _ in 0..50 {
        // No number below the limit is free, unless a descriptor is closed meanwhile.
        let open = descriptors(program);
        limit((0..20_000).find(|number| !open.contains(number)).unwrap());
        wire.send(&request).await;
        let found = wire.response("GET").await.unwrap();
        if found.status() == 503 {
            answer = Some(found);
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    limit(20_000);
    let answer = answer.expect("no connection to the API could be opened");
    assert_eq!(answer.field("cupbearer-error").as_deref(), Some("overloaded"));
    assert_eq!(answer.field("retry-after").as_deref(), Some("1"));
    let body = String::from_utf8(answer.body).unwrap();
    assert!(body.contains("this machine has no descriptor"), "{body}");
    let log = stage.proxy.log();
    assert!(log.contains("no descriptor left") && log.contains("ulimit -n"), "{log}");
    assert!(!log.contains("cannot be reached"), "it is not the upstream's fault: {log}");
    wire.send(&request).await;
    assert_eq!(wire.response("GET").await.unwrap().status(), 200);
}
