//! What a route lets through, and what a connection may do: each limit of the configuration, met.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use cupbearer_testing::{
    Config, Message, Origin, Proxy, Reply, Stage, clock, curl, eventually, token_at, upstream_at,
};

/// Sends a GET on each of `count` new connections at once, and reads all answers.
async fn at_once(proxy: &Proxy, count: usize) -> Vec<Message> {
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen());
    let mut wires = Vec::new();
    for _ in 0..count {
        wires.push(proxy.wire().await);
    }
    let mut under_way = JoinSet::new();
    for mut wire in wires {
        let request = request.clone();
        under_way.spawn(async move {
            wire.send(request).await;
            wire.response("GET").await.unwrap()
        });
    }
    under_way.join_all().await
}

#[tokio::test]
async fn a_runaway_application_cannot_hammer_a_rate_limited_api() {
    let limits = "rate_limit = \"50/s\"\nrate_burst = 10\nmax_queue = 100\nqueue_timeout = \"30s\"\n";
    let stage = Stage::with(Origin::ok().await, "", limits).await;
    let started = clock::now();
    let answers = at_once(&stage.proxy, 500).await;
    let took = started.elapsed();
    let passed = stage.api.seen().len();
    let most = 11.0 + 50.0 * took.as_secs_f64();
    println!("{passed} of 500 in {took:?}");
    assert!(passed as f64 <= most, "{passed} in {took:?}, where {most} may pass");
    assert!(passed >= 110, "the burst and the whole queue pass: {passed}");
    assert_eq!(answers.iter().filter(|answer| answer.status() == 200).count(), passed);
    for refused in answers.iter().filter(|answer| answer.status() != 200) {
        assert_eq!(
            (refused.status(), refused.field("cupbearer-error").as_deref()),
            (429, Some("rate_limited"))
        );
        let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=4).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn a_route_has_no_more_under_way_than_it_may() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (under_way, seen) = (Arc::clone(&now), Arc::clone(&most));
    let api = Origin::scripted(move |mut wire| {
        let (under_way, seen) = (Arc::clone(&under_way), Arc::clone(&seen));
        async move {
            while wire.request().await.is_some() {
                seen.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                // Before the answer: who reads it may send the next one at once.
                under_way.fetch_sub(1, Ordering::SeqCst);
                wire.send(Reply::ok().into_bytes()).await;
            }
        }
    })
    .await;
    let limits = "max_concurrent = 4\nmax_queue = 64\nqueue_timeout = \"30s\"\n";
    let stage = Stage::with(api, "", limits).await;
    let answers = at_once(&stage.proxy, 64).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    let most = most.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} at a time");
}

/// An API that gives half an answer, and the rest when it is told to.
async fn halting(go_on: &Arc<Notify>) -> Origin {
    let go_on = Arc::clone(go_on);
    Origin::scripted(move |mut wire| {
        let go_on = Arc::clone(&go_on);
        async move {
            while wire.request().await.is_some() {
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
                go_on.notified().await;
                wire.send("world").await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_request_is_under_way_until_its_answers_last_byte() {
    let go_on = Arc::new(Notify::new());
    let stage = Stage::with(halting(&go_on).await, "", "max_concurrent = 1\n").await;
    let mut first = stage.proxy.wire().await;
    first.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.proxy.listen())).await;
    assert_eq!(first.head().await.unwrap().status(), 200);
    let refused = stage.proxy.get("/").await;
    refused.assert_proxy_error(503);
    assert_eq!((refused.proxy_error(), refused.field("retry-after")), (Some("overloaded"), Some("1")));
    let grpc = curl(&[
        "--http2-prior-knowledge",
        "--header",
        "content-type: application/grpc",
        "--data",
        "",
        &stage.proxy.url("/"),
    ])
    .await;
    assert_eq!((grpc.status, grpc.field("grpc-status")), (200, Some("8")), "RESOURCE_EXHAUSTED");
    go_on.notify_one();
    assert_eq!(first.swallow(10).await, 10);
    go_on.notify_one();
    eventually("there is room again", || async { stage.proxy.get("/").await.status == 200 }).await;
}

#[tokio::test]
async fn who_hangs_up_in_the_queue_leaves_it() {
    let go_on = Arc::new(Notify::new());
    let limits = "max_concurrent = 1\nmax_queue = 1\nqueue_timeout = \"30s\"\n";
    let stage = Stage::with(halting(&go_on).await, "", limits).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.proxy.listen());
    let mut first = stage.proxy.wire().await;
    first.send(&request).await;
    assert_eq!(first.head().await.unwrap().status(), 200);
    let mut second = stage.proxy.wire().await;
    second.send(&request).await;
    eventually("the queue is full", || async { stage.proxy.get("/").await.status == 503 }).await;
    drop(second);
    // Whoever finds room waits in it now, so each look is a connection of its own that hangs up at its end.
    eventually("there is room in it again", || async {
        let mut third = stage.proxy.wire().await;
        third.send(&request).await;
        tokio::time::timeout(Duration::from_millis(300), third.head()).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn what_the_api_says_of_its_own_limits_is_the_applications_affair() {
    let stage = Stage::with(
        Origin::start(|_, _| Reply::new(429, &[("retry-after", "17")], "theirs")).await,
        "",
        "rate_limit = \"1000/s\"\n",
    )
    .await;
    let answer = stage.proxy.get("/").await;
    assert_eq!((answer.status, answer.field("retry-after"), answer.proxy_error()), (429, Some("17"), None));
    assert_eq!(answer.text(), "theirs");
}

/// A proxy with these lines in its section `server`.
async fn with_server(lines: &str) -> (Origin, Origin, Proxy) {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url())).server(lines);
    let proxy = Proxy::start(config).await;
    (api, server, proxy)
}

#[tokio::test]
async fn a_head_has_its_limits_in_bytes_and_in_fields() {
    let (api, _server, proxy) = with_server("max_header_size = \"8KiB\"\nmax_headers = 20\n").await;
    let with = |fields: String| {
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", proxy.listen());
        let proxy = &proxy;
        async move { proxy.exchange(&request).await.unwrap() }
    };
    assert_eq!(with(String::new()).await.status(), 200);
    assert_eq!(with("X-A: 1\r\n".repeat(15)).await.status(), 200);
    for too_much in ["X-A: 1\r\n".repeat(30), format!("X-A: {}\r\n", "x".repeat(10_000))] {
        let answer = with(too_much).await;
        assert_eq!(
            (answer.status(), answer.field("cupbearer-error").as_deref()),
            (431, Some("header_too_large"))
        );
    }
    assert_eq!(api.seen().len(), 2);
    let fields: Vec<String> = (0..30).map(|number| format!("x-{number}: 1")).collect();
    let mut arguments = vec!["--http2-prior-knowledge"];
    arguments.extend(fields.iter().flat_map(|field| ["--header", field.as_str()]));
    let url = proxy.url("/");
    arguments.push(&url);
    curl(&arguments).await.assert_proxy_error(431);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_used_one_is_not() {
    let (_api, _server, proxy) = with_server("keep_alive_timeout = \"1s\"\n").await;
    let mut wire = proxy.wire().await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen())).await;
    assert_eq!(wire.response("GET").await.unwrap().status(), 200);
    assert!(wire.closes(Duration::from_secs(15)).await);
}

#[tokio::test]
async fn an_http_2_connection_says_how_many_streams_it_takes() {
    let (_api, _server, proxy) = with_server("max_streams = 7\n").await;
    let stream = TcpStream::connect(proxy.listen()).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let request = http::Request::get(proxy.url("/")).body(()).unwrap();
    let (answer, _) = send.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(send.current_max_send_streams(), 7);
    driven.abort();
}
