//! Connections to the API under load: those that were in use lately are kept, whatever their number, and each is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use cupbearer_testing::{
    Config, Origin, Program, Proxy, Reply, curl, eventually, h2load, hear, node, raise_limit, token_at,
    upstream_at,
};

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
    assert_eq!(count(&proxy, "closed").await as u64, 2000);
    assert_eq!(proxy.metric("cupbearer_connections", &["side=\"upstream\""]).await as u64, 0);
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
    assert_eq!(count(&proxy, "opened").await as u64, count(&proxy, "closed").await as u64);
}

/// An API that responds after a while, and the most connections that it had at a time.
async fn slow_api(after: Duration) -> (Origin, Arc<AtomicUsize>) {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let of_api = Arc::clone(&most);
    let api = Origin::scripted(move |mut wire| {
        let (open, most) = (Arc::clone(&open), Arc::clone(&of_api));
        async move {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            while let Some(request) = wire.request().await {
                let hold = if request.target() == "/hold" { Duration::from_secs(30) } else { after };
                tokio::time::sleep(hold).await;
                wire.send(Reply::ok().into_bytes()).await;
            }
            open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    (api, most)
}

async fn numbered(upstream: &str, lines: &str, workers: usize) -> (Origin, Proxy) {
    let server = Origin::issuing(300).await;
    let upstream = format!("{upstream}{lines}\n");
    let config = Config::one_route(&upstream, &token_at(&server.url()));
    let proxy = Proxy::start(config.server(&format!("workers = {workers}"))).await;
    (server, proxy)
}

#[tokio::test]
async fn no_more_connections_are_open_than_max_connections_allows_whatever_the_workers_do() {
    for (bound, workers) in [(5, 2), (4, 4), (1, 3)] {
        let (api, most) = slow_api(Duration::from_millis(5)).await;
        let lines = format!("max_connections = {bound}\nconnect_timeout = \"60s\"");
        let (_server, proxy) = numbered(&upstream_at(&api.url()), &lines, workers).await;
        h2load(&["--h1", "-n400", "-c40", &proxy.url("/")]).await.assert_flawless(400);
        let most = most.load(Ordering::SeqCst);
        assert!((1..=bound).contains(&most), "{most} of {bound} with {workers} workers: {}", proxy.log());
        let opened = count(&proxy, "opened").await;
        assert!(opened < 100.0, "{opened} connections for 400 requests: few were used again");
    }
}

#[tokio::test]
async fn a_request_for_which_no_connection_is_free_in_time_is_told_which_key_bounds_them() {
    let (api, _most) = slow_api(Duration::ZERO).await;
    let lines = "max_connections = 2\nconnect_timeout = \"1s\"";
    let (_server, proxy) = numbered(&upstream_at(&api.url()), lines, 2).await;
    let hold = format!("GET /hold HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen());
    let (mut first, mut second) = (proxy.wire().await, proxy.wire().await);
    first.send(&hold).await;
    second.send(&hold).await;
    eventually("both are held", || async { count(&proxy, "opened").await >= 2.0 }).await;
    let refused = proxy.get("/").await;
    assert_eq!((refused.status, refused.proxy_error()), (503, Some("overloaded")), "{refused:?}");
    assert_eq!(refused.field("retry-after"), Some("1"));
    assert!(refused.text().contains("max_connections") && refused.text().contains("nothing was sent"));
    drop(first);
    eventually("who hangs up makes room", || async { proxy.get("/").await.status == 200 }).await;
    drop(second);

    // Another bound counts from the reload on.
    let server = Origin::issuing(300).await;
    let upstream = upstream_at(&api.url()) + "max_connections = 1\nconnect_timeout = \"1s\"\n";
    proxy.rewrite(&Config::one_route(&upstream, &token_at(&server.url())).server("workers = 2"));
    eventually("it is in force", || async { proxy.log().contains("the configuration was reloaded") }).await;
    let mut third = proxy.wire().await;
    third.send(&hold).await;
    eventually("one is held", || async { proxy.get("/").await.status == 503 }).await;
}

/// Node.js with HTTP/2 in the clear: each response says by which connection it came, and how many there were.
struct Sessions {
    _program: Program,
    upstream: String,
    _dir: tempfile::TempDir,
}

impl Sessions {
    async fn start(streams: usize) -> Self {
        Self::closing(streams, 0).await
    }

    /// It closes each connection after so many requests; 0: never.
    async fn closing(streams: usize, after: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = node("sessions/server.mjs", None);
        command.env("STREAMS", streams.to_string()).env("CLOSE_AFTER", after.to_string());
        let mut program = Program::spawn("sessions", command, dir.path());
        let ready = hear(&mut program, "ready", |event| event["event"] == "ready").await;
        let upstream =
            upstream_at(&format!("http://127.0.0.1:{}", ready["port"])) + "http2 = \"prior_knowledge\"\n";
        Self { _program: program, upstream, _dir: dir }
    }
}

#[tokio::test]
async fn requests_are_spread_over_as_many_http2_connections_as_are_asked_for() {
    let api = Sessions::start(100).await;
    let (_server, proxy) = numbered(&api.upstream, "http2_connections = 6", 2).await;
    // Each worker has connections of its own once it has clients.
    eventually("all are used", || async {
        h2load(&["--h1", "-n300", "-c20", &proxy.url("/")]).await.assert_flawless(300);
        let seen = curl(&[&proxy.url("/")]).await.json();
        let requests = seen["requests"].as_array().unwrap();
        requests.len() == 6 && requests.iter().all(|count| count.as_u64().unwrap() >= 10)
    })
    .await;
    let seen = curl(&[&proxy.url("/")]).await.json();
    assert_eq!((seen["most"].as_u64(), seen["total"].as_u64()), (Some(6), Some(6)), "{seen}");
}

#[tokio::test]
async fn one_http2_connection_carries_what_its_settings_allow_and_the_rest_waits() {
    for workers in [1, 3] {
        let api = Sessions::start(4).await;
        let lines = "http2_connections = 1\nconnect_timeout = \"60s\"";
        let (_server, proxy) = numbered(&api.upstream, lines, workers).await;
        h2load(&["--h1", "-n300", "-c30", &proxy.url("/")]).await.assert_flawless(300);
        let seen = curl(&[&proxy.url("/")]).await.json();
        assert_eq!(seen["total"].as_u64(), Some(1), "{seen}");
        assert!(seen["streams"].as_u64().unwrap() <= 4, "{seen}");
    }
}

/// hyper lets go of such a connection at once, while its requests go on.
#[tokio::test]
async fn a_connection_that_the_api_closes_counts_until_its_last_request_has_ended() {
    for line in ["max_connections = 1", "http2_connections = 1"] {
        let api = Sessions::closing(100, 2).await;
        let lines = format!("{line}\nconnect_timeout = \"60s\"");
        let (_server, proxy) = numbered(&api.upstream, &lines, 1).await;
        for _ in 0..3 {
            let (slow, quick) = tokio::join!(proxy.get("/slow"), proxy.get("/"));
            assert_eq!((slow.status, quick.status), (200, 200), "{}", proxy.log());
        }
        let seen = curl(&[&proxy.url("/")]).await.json();
        assert_eq!((seen["most"].as_u64(), seen["total"].as_u64()), (Some(1), Some(4)), "{line}: {seen}");
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_opened_beside_others_holds_up_no_request() {
    let api = Sessions::start(100).await;
    let port = api.upstream.split_once("127.0.0.1:").unwrap().1.split('"').next().unwrap().to_owned();
    let first = Arc::new(AtomicUsize::new(0));
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = relay.local_addr().unwrap();
    let opened = Arc::clone(&first);
    tokio::spawn(async move {
        let mut hanging = Vec::new();
        while let Ok((mut client, _)) = relay.accept().await {
            if opened.fetch_add(1, Ordering::SeqCst) > 0 {
                // It is accepted, and nothing comes of it.
                hanging.push(client);
                continue;
            }
            let mut api = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut api).await });
        }
    });
    let upstream = upstream_at(&format!("http://{at}")) + "http2 = \"prior_knowledge\"\n";
    let lines = "http2_connections = 2\nconnect_timeout = \"3600s\"";
    let (_server, proxy) = numbered(&upstream, lines, 1).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
    }
    eventually("the other one was tried", || async { first.load(Ordering::SeqCst) == 2 }).await;
    assert!(!proxy.log().contains("cannot be reached"), "{}", proxy.log());
}

#[tokio::test]
async fn http2_opens_another_connection_only_where_the_streams_of_one_are_taken() {
    let api = Sessions::start(100).await;
    let (_server, proxy) = numbered(&api.upstream, "max_streams = 5", 1).await;
    h2load(&["--h1", "-n300", "-c20", &proxy.url("/")]).await.assert_flawless(300);
    let seen = curl(&[&proxy.url("/")]).await.json();
    assert!((2..=5).contains(&seen["most"].as_u64().unwrap()), "{seen}");
    assert!(seen["streams"].as_u64().unwrap() <= 5, "{seen}");
}
