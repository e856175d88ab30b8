//! What this machine lacks for a moment is reported as that, is nobody else's fault, and is over when the machine has it again.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use cupbearer_testing::{
    Certificates, Config, Origin, Program, Proxy, Reply, eventually, free_address, limited, repository,
    token_at, upstream_at,
};

/// A few ports lead to the API, and requests hold all of them.
const PORTS: &str = r#"
set -eu
PATH="$PATH:/usr/sbin:/sbin"
ip link set lo up
echo "40000 40003" > /proc/sys/net/ipv4/ip_local_port_range
node "$PEER" & server=$!
"$CUPBEARER" run --config config.toml > run.log 2>&1 & proxy=$!
trap 'kill $server $proxy' EXIT
until curl -sf http://127.0.0.1:9090/readyz > /dev/null; do sleep 0.3; done
for i in 1 2 3 4 5 6 7 8; do curl -s --unix-socket proxy.sock http://localhost/held > held-$i & done
until grep -qs overloaded held-*; do sleep 0.1; done
curl -s -i --unix-socket proxy.sock http://localhost/
echo
curl -s http://127.0.0.1:9402/
until curl -sf --unix-socket proxy.sock http://localhost/ > /dev/null; do sleep 0.05; done
echo recovered
"#;

#[tokio::test]
async fn ports_that_have_run_out_are_what_this_machine_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[server]\nlisten = [\"unix:proxy.sock\"]\n[health]\nlisten = \"127.0.0.1:9090\"\n\
        [upstreams.api]\nurl = \"http://127.0.0.1:9401\"\n\
        [tokens.api]\ntoken_endpoint = \"http://127.0.0.1:9400/token\"\nclient_id = \"a\"\nclient_secret = \"b\"\n\
        [[routes]]\nupstream = \"api\"\ntoken = \"api\"\n";
    fs::write(dir.path().join("config.toml"), config).unwrap();
    fs::write(dir.path().join("script.sh"), PORTS).unwrap();
    let mut command = Program::peer("bash", "bash");
    // As whoever may make a namespace here: any user, or root alone.
    let inside = "own='unshare --user --map-root-user --net'; $own true 2>/dev/null || own='unshare --net'; exec $own bash script.sh";
    command.args(["-c", inside]).current_dir(dir.path());
    command.env("PEER", repository().join("tests/peers/ports/server.mjs"));
    command.env("CUPBEARER", env!("CARGO_BIN_EXE_cupbearer")).env("HOME", dir.path());
    let output = timeout(Duration::from_mins(1), command.kill_on_drop(true).output()).await;
    let log = || fs::read_to_string(dir.path().join("run.log")).unwrap_or_default();
    let output = output.unwrap_or_else(|_| panic!("it never ended:\n{}", log())).unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("recovered"), "{said}\n{}", log());
    for words in
        ["HTTP/1.1 503", "cupbearer-error: overloaded", "retry-after: 1", "no port left", "nothing was sent"]
    {
        assert!(said.to_lowercase().contains(&words.to_lowercase()), "{words}: {said}");
    }
    let log = log();
    assert!(log.contains("no port left") && log.contains("ip_local_port_range"), "{log}");
    assert!(!log.contains("cannot be reached"), "it is not the upstream's fault: {log}");
}

/// Lets a program open no descriptor more, or as many as it likes.
fn limit(proxy: &Proxy, limit: Option<u64>) {
    let pid = i32::try_from(proxy.program().id()).ok().and_then(Pid::from_raw);
    let new = Rlimit { current: Some(limit.unwrap_or(20_000)), maximum: Some(20_000) };
    prlimit(pid, Resource::Nofile, new).unwrap();
}

#[tokio::test]
async fn a_secret_and_a_certificate_that_no_descriptor_is_left_for_are_read_soon() {
    let (api, server) = (Origin::ok().await, Origin::issuing(3).await);
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::for_loopback(dir.path());
    let (secret, ca) = (dir.path().join("secret"), dir.path().join("copy.pem"));
    fs::write(&secret, "first").unwrap();
    fs::copy(&certificates.ca, &ca).unwrap();
    let token = token_at(&server.url())
        .replace("client_secret = ", &format!("client_secret_file = '{}' # ", secret.display()));
    let other = format!("[upstreams.other]\nurl = \"https://localhost\"\nca_file = '{}'\n", ca.display());
    let config = Config::one_route(&upstream_at(&api.url()), &(token + &other));
    let proxy = Proxy::start(config).await;
    limit(&proxy, Some(0));
    let again = fs::read(&ca).unwrap();
    fs::write(&ca, [again.as_slice(), b"\n"].concat()).unwrap();
    fs::write(&secret, "second").unwrap();
    eventually("both are lacking", || async {
        let log = proxy.log();
        log.contains("no descriptor left") && log.contains("it is read later")
    })
    .await;
    limit(&proxy, None);
    let before = server.seen().len();
    eventually("the token is renewed, and the configuration is in force", || async {
        server.seen().len() > before && proxy.log().contains("the configuration was reloaded")
    })
    .await;
    assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
    let log = proxy.log();
    assert!(!log.contains("is refused") && !log.contains("misconfigured"), "{log}");
    assert_eq!(log.matches("it is read later").count(), 1, "{log}");
}

#[tokio::test]
async fn a_start_that_no_descriptor_is_left_for_reports_that_and_what_helps() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::for_loopback(dir.path());
    let tls = format!(
        "workers = 2\ntls = {{ cert_file = '{}', key_file = '{}' }}",
        certificates.certificate.display(),
        certificates.key.display()
    );
    let file = dir.path().join("config.toml");
    let route = "[[routes]]\nupstream = \"api\"\ntoken = \"none\"\n";
    let config = Config::new(upstream_at("http://localhost") + route).server(&tls);
    fs::write(&file, config.render([free_address(), free_address(), free_address()])).unwrap();
    let mut failed = 0;
    for limit in 7..24 {
        let mut program = limited(limit);
        program.arg("run").arg("--config").arg(&file).kill_on_drop(true);
        let mut program = program.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(program.stderr.take().unwrap()).lines();
        let mut text = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            text.extend([line.as_str(), "\n"]);
            if line.contains("listening for the dashboard") {
                break;
            }
        }
        if text.contains("listening for the dashboard") {
            continue;
        }
        failed += 1;
        assert_eq!(program.wait().await.unwrap().code(), Some(75), "{limit}: {text}");
        assert!(text.contains("raise the limit of open files (ulimit -n)"), "{limit}: {text}");
        for wrong in ["panicked", "choose another", "make it readable", "uncategorized", "name a PEM file"] {
            assert!(!text.contains(wrong), "{limit}: {text}");
        }
    }
    assert!(failed > 10, "{failed}");
}

/// A listener whose queue is full, and what fills it.
async fn full(listener: &UnixListener) -> Vec<UnixStream> {
    let path = listener.local_addr().unwrap().as_pathname().unwrap().to_owned();
    rustix::net::listen(listener, 0).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = UnixStream::connect(&path).await {
        waiting.push(stream);
    }
    waiting
}

#[tokio::test]
async fn a_unix_socket_whose_queue_is_full_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let waiting = full(&listener).await;
    let server = Origin::issuing(300).await;
    let upstream = upstream_at("http://api.internal")
        + &format!("socket = '{}'\nconnect_timeout = \"2s\"\n", path.display());
    let proxy = Proxy::start(Config::one_route(&upstream, &token_at(&server.url()))).await;
    let refused = proxy.get("/").await;
    assert_eq!((refused.status, refused.proxy_error()), (503, Some("overloaded")), "{refused:?}");
    assert_eq!(refused.field("retry-after"), Some("1"));
    assert!(refused.text().contains("Unix socket") && refused.text().contains("nothing was sent"));

    let accepting = tokio::spawn(async move {
        sleep(Duration::from_millis(300)).await;
        drop(waiting);
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(&Reply::ok().into_bytes()).await;
                }
            });
        }
    });
    assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
    accepting.abort();
}
