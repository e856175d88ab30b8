//! Applications that hang up while the API thinks: the request is cancelled, unless `half_close` says that they may wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use cupbearer_testing::{
    Config, Message, Origin, Proxy, Reply, WebSocketApi, eventually, token_at, upstream_at,
};

/// An API that thinks for a minute, unless the target says otherwise, and a proxy with these lines in its sections.
async fn before(server_lines: &str, route: &str) -> (Origin, Origin, Proxy) {
    let slow = |request: &Message, _| {
        let wait = if request.target() == "/soon" { 2 } else { 60 };
        Reply::ok().after(Duration::from_secs(wait))
    };
    let (api, server) = (Origin::start(slow).await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
    let proxy = Proxy::start(config.and(route).server(server_lines)).await;
    (api, server, proxy)
}

fn get(proxy: &Proxy, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen())
}

async fn under_way(proxy: &Proxy) -> f64 {
    proxy.metric("cupbearer_requests_in_flight", &["route=\"/\""]).await
}

async fn gone(proxy: &Proxy) -> f64 {
    proxy.metric("cupbearer_proxy_errors_total", &["kind=\"client_gone\""]).await
}

#[tokio::test]
async fn a_request_whose_application_hangs_up_is_cancelled_and_frees_its_place() {
    let (_api, _server, proxy) = before("", "max_concurrent = 1\n").await;
    let ends: [fn(cupbearer_testing::Wire); 2] = [drop, cupbearer_testing::Wire::reset];
    for (count, end) in ends.into_iter().enumerate() {
        let mut wire = proxy.wire().await;
        wire.send(get(&proxy, "/")).await;
        eventually("it is under way", async || under_way(&proxy).await > 0.5).await;
        assert_eq!(proxy.get("/").await.status, 503, "the only place is taken");
        end(wire);
        eventually("it has ended", async || under_way(&proxy).await < 0.5).await;
        eventually("it is counted", async || gone(&proxy).await > count as f64 + 0.5).await;
    }
    eventually("the API's connections are closed", || async {
        proxy.metric("cupbearer_connections", &["side=\"upstream\""]).await < 0.5
    })
    .await;
    assert_eq!(proxy.get("/soon").await.status, 200, "there is room again");
}

#[tokio::test]
async fn the_api_sees_its_connection_close() {
    let closed = Arc::new(Semaphore::new(0));
    let tell = Arc::clone(&closed);
    let api = Origin::scripted(move |mut wire| {
        let tell = Arc::clone(&tell);
        async move {
            if wire.head().await.is_some() {
                wire.rest().await;
                tell.add_permits(1);
            }
        }
    })
    .await;
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let upload = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\n\r\nhello", proxy.listen());
    for request in [get(&proxy, "/"), upload] {
        let mut wire = proxy.wire().await;
        wire.send(&request).await;
        eventually("it is under way", async || under_way(&proxy).await > 0.5).await;
        drop(wire);
        closed.acquire().await.unwrap().forget();
    }
}

#[tokio::test]
async fn an_application_that_closes_its_own_side_alone_is_served_where_that_is_allowed() {
    let (_api, _server, proxy) = before("half_close = true", "").await;
    let mut wire = proxy.wire().await;
    wire.send(get(&proxy, "/soon")).await;
    wire.finish().await;
    assert_eq!(wire.response("GET").await.unwrap().status(), 200);
    assert!(gone(&proxy).await < 0.5);

    let (_api, _server, proxy) = before("", "").await;
    let mut wire = proxy.wire().await;
    wire.send(get(&proxy, "/soon").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
    wire.finish().await;
    assert!(wire.rest().await.is_empty(), "it has gone");
    assert!(gone(&proxy).await > 0.5);
}

#[tokio::test]
async fn an_application_with_another_request_behind_has_not_gone() {
    let (api, _server, proxy) = before("", "").await;
    let mut wire = proxy.wire().await;
    let upload = format!("POST /soon HTTP/1.1\r\nHost: {}\r\nContent-Length: 200000\r\n\r\n", proxy.listen());
    wire.send([get(&proxy, "/soon"), get(&proxy, "/soon"), upload, "x".repeat(200_000)].concat()).await;
    for method in ["GET", "GET", "POST"] {
        assert_eq!(wire.response(method).await.unwrap().status(), 200);
    }
    assert_eq!(api.seen().len(), 3);
}

/// The page is closed while nothing is to be said.
#[tokio::test]
async fn a_stream_of_events_that_its_reader_has_left_ends() {
    let api = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        wire.send("9\r\ndata: 1\n\n\r\n").await;
        wire.rest().await;
    })
    .await;
    let server = Origin::issuing(300).await;
    for lines in ["", "half_close = true"] {
        let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url())).server(lines);
        let proxy = Proxy::start(config).await;
        let mut reader = proxy.wire().await;
        reader.send(get(&proxy, "/")).await;
        assert_eq!(reader.head().await.unwrap().status(), 200);
        reader.finish().await;
        if !lines.is_empty() {
            assert!(under_way(&proxy).await > 0.5, "it may only have half-closed");
        }
        eventually("the stream has ended", async || under_way(&proxy).await < 0.5).await;
    }
}

#[tokio::test]
async fn a_websocket_whose_application_has_gone_ends_at_the_api() {
    let mut api = WebSocketApi::http1().await;
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&api.upstream(), &token_at(&server.url()))).await;
    let mut wire = proxy.wire().await;
    wire.send(format!(
        "GET /echo HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        proxy.listen()
    ))
    .await;
    assert_eq!(wire.head().await.unwrap().status(), 101);
    drop(wire);
    api.hear("the end", |event| event["event"] == "ended").await;
    eventually("none is in flight", async || under_way(&proxy).await < 0.5).await;
}
