//! More clients than there is room for: who requests nothing gives way to who does.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::support::{Stage, curl, eventually};

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
