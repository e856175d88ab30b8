//! Connections to the API under load: those that were in use lately are kept, whatever their number, and each is counted.

use std::sync::Arc;
use std::time::Duration;

use cupbearer::net::descriptors::raise_limit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use super::support::{Config, Origin, Proxy, Reply, eventually, token_at, upstream_at};

const EVENTS: &str = "cupbearer_upstream_connections_total";
const CLOSED: &str = "cupbearer_upstream_connections_closed_total";

async fn count(proxy: &Proxy, event: &str) -> f64 {
    proxy.metric(EVENTS, &["upstream=\"api\"", &format!("event=\"{event}\"")]).await
}

async fn closed(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric(CLOSED, &["upstream=\"api\"", &format!("reason=\"{reason}\"")]).await
}

/// A request on each of `clients` at the same time, and the status of each response.
async fn wave(clients: &mut [TcpStream]) -> Vec<String> {
    for client in clients.iter_mut() {
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    }
    let mut statuses = Vec::new();
    for client in clients {
        let (mut response, mut part) = (Vec::new(), [0; 4096]);
        while !response.ends_with(b"ok") {
            let read = client.read(&mut part).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&response));
            response.extend_from_slice(&part[..read]);
        }
        statuses.push(String::from_utf8_lossy(&response[9..12]).into_owned());
    }
    statuses
}

/// One worker once kept 512 idle connections to an upstream, so that the next wave opened all others anew.
#[tokio::test]
async fn a_thousand_requests_at_a_time_use_the_same_thousand_connections_again() {
    const CLIENTS: usize = 1000;
    let _raised = raise_limit();
    let together = Arc::new(Barrier::new(CLIENTS));
    let api = Origin::scripted(move |mut wire| {
        let together = Arc::clone(&together);
        async move {
            while wire.request().await.is_some() {
                together.wait().await;
                wire.send(Reply::ok().into_bytes()).await;
            }
        }
    })
    .await;
    let server = Origin::issuing(300).await;
    let upstream = upstream_at(&api.url()) + "idle_connection_timeout = \"30s\"\n";
    let mut proxy = Proxy::start(
        Config::one_route(&upstream, &token_at(&server.url())).server("workers = 1\nmemory_limit = \"none\""),
    )
    .await;
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        clients.push(TcpStream::connect(proxy.listen()).await.unwrap());
    }
    for _ in 0..3 {
        assert!(wave(&mut clients).await.iter().all(|status| status == "200"), "{}", proxy.log());
    }
    assert_eq!(api.connections(), CLIENTS, "{}", proxy.log());
    eventually("what was used again is counted", || async { count(&proxy, "reused").await >= 2000.0 }).await;
    assert_eq!(
        (count(&proxy, "opened").await, count(&proxy, "reused").await, count(&proxy, "closed").await),
        (1000.0, 2000.0, 0.0)
    );

    proxy.rewrite(
        &Config::one_route(&upstream.replace("30s", "1s"), &token_at(&server.url()))
            .server("workers = 1\nmemory_limit = \"none\""),
    );
    proxy.until_ready().await;
    eventually("a reload lets go of what was opened by other settings", || async {
        closed(&proxy, "reload").await >= 1000.0
    })
    .await;
    assert!(wave(&mut clients).await.iter().all(|status| status == "200"), "{}", proxy.log());
    eventually("what no request uses is closed", || async { closed(&proxy, "idle").await >= 1000.0 }).await;
    assert_eq!(count(&proxy, "closed").await, 2000.0);
    assert_eq!(proxy.metric("cupbearer_connections", &["side=\"upstream\""]).await, 0.0);
}

#[tokio::test]
async fn why_connections_were_closed_is_counted() {
    let api = Origin::start(|request, _| match request.target().as_str() {
        "/close" => Reply::new(200, &[("connection", "close")], "ok").closing(),
        "/cut" => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut").closing(),
        "/gone" => Reply::ok().closing(),
        "/slow" => Reply::ok().after(Duration::from_secs(30)),
        _ => Reply::ok(),
    })
    .await;
    let server = Origin::issuing(300).await;
    let upstream = upstream_at(&api.url()) + "max_connection_age = \"1s\"\n";
    let proxy = Proxy::start(Config::one_route(&upstream, &token_at(&server.url()))).await;
    for path in ["/close", "/cut", "/gone"] {
        let before = closed(&proxy, "upstream").await;
        let _cut_or_not = proxy.get(path).await;
        eventually(path, || async { closed(&proxy, "upstream").await > before }).await;
    }
    let mut gives_up = proxy.wire().await;
    gives_up.send(format!("GET /slow HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen())).await;
    eventually("the request is there", || async { api.seen().len() == 4 }).await;
    drop(gives_up);
    eventually("a request that is given up costs its connection", || async {
        closed(&proxy, "request").await >= 1.0
    })
    .await;
    assert_eq!(proxy.get("/").await.status, 200);
    eventually("no connection is used for longer than that", || async { closed(&proxy, "age").await >= 1.0 })
        .await;
    assert_eq!(count(&proxy, "opened").await, count(&proxy, "closed").await);
}
