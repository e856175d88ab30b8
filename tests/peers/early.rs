//! Responses that come before the request's body was sent: the client gets them, whoever made them, and however much of the
//! body was still to come.

use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;

use cupbearer_testing::{
    Config, Nginx, Origin, Proxy, Reply, Stage, clock, curl, eventually, node, python, run, token_at,
    upstream_at,
};

const CLIENTS: [&str; 4] = ["http.client", "http.client, chunked", "fetch", "http"];

/// A client of `tests/peers/uploads` by its name.
fn client(how: &str, url: &str, mebibytes: u32, count: u32) -> Command {
    let (mut command, more) = match how {
        "http.client" => (python("uploads/client.py"), None),
        "http.client, chunked" => (python("uploads/client.py"), Some("chunked")),
        other => {
            let mut command = node("uploads/client.mjs", None);
            command.arg(other);
            (command, None)
        }
    };
    command.arg(url).arg(mebibytes.to_string()).arg(count.to_string()).args(more);
    command
}

/// Each client gets this response to each of its uploads.
async fn assert_delivered(proxy: &Proxy, path: &str, status: u16, clients: &[&str]) {
    for how in clients {
        for (mebibytes, count) in [(1, 4), (4, 4), (32, 2)] {
            let uploads = run(client(how, &proxy.url(path), mebibytes, count)).await;
            assert_eq!(uploads.len(), count as usize);
            for upload in uploads {
                assert_eq!(upload["status"], status, "{how}, {mebibytes} MiB: {upload}\n{}", proxy.log());
                assert_ne!(upload["bytes"], 0, "{how}, {mebibytes} MiB");
            }
        }
    }
}

#[tokio::test]
async fn the_proxys_own_response_to_an_upload_arrives() {
    let stage = Stage::routed(
        "",
        "[[routes]]\npath = \"/limited\"\nupstream = \"api\"\ntoken = \"api\"\nrate_limit = \"1/h\"\n\
         [[routes]]\npath = \"/read\"\nmethods = [\"GET\"]\nupstream = \"api\"\ntoken = \"api\"\n",
    )
    .await;
    assert_eq!(stage.proxy.get("/limited").await.status, 200);
    for (path, status) in [("/nowhere", 404), ("/read", 405), ("/limited", 429)] {
        assert_delivered(&stage.proxy, path, status, &CLIENTS).await;
    }
    assert_eq!(stage.api.seen().len(), 1);
    let response = stage
        .proxy
        .exchange("POST /nowhere HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\nno more")
        .await
        .unwrap();
    assert_eq!(response.all("connection"), ["close"], "the rest of the body stands before the next request");
    eventually("no connection is left", || async {
        stage.proxy.metric("cupbearer_connections", &["side=\"downstream\""]).await < 0.5
    })
    .await;
}

#[tokio::test]
async fn a_proxy_without_a_token_says_so_to_an_upload() {
    let api = Origin::ok().await;
    let server = Origin::start(|_, _| Reply::json(400, "{\"error\":\"invalid_client\"}")).await;
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
    let proxy = Proxy::start_live(config).await;
    assert_delivered(&proxy, "/", 503, &CLIENTS).await;
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_short_body_that_is_refused_does_not_cost_its_connection() {
    let stage =
        Stage::routed("", "[[routes]]\npath = \"/here\"\nupstream = \"api\"\ntoken = \"api\"\n").await;
    let host = stage.proxy.listen();
    let mut wire = stage.proxy.wire().await;
    for _ in 0..3 {
        wire.send(format!("POST /nowhere HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2000\r\n\r\n")).await;
        let response = wire.response("POST").await.unwrap();
        assert_eq!((response.status(), response.all("connection").len()), (404, 0));
        wire.send([b'x'; 2000]).await;
        wire.send(format!("GET /here HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(wire.response("GET").await.unwrap().text(), "ok", "the body is no request");
    }
    // One that never comes is not waited for, and what comes in its place is no request either.
    wire.send(format!("POST /nowhere HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2000\r\n\r\n")).await;
    assert_eq!(wire.response("POST").await.unwrap().status(), 404);
    assert!(wire.closes(Duration::from_secs(15)).await);
    assert_eq!(stage.api.seen().len(), 3);
}

#[tokio::test]
async fn a_request_behind_a_refused_upload_is_not_taken_from_its_body() {
    let stage =
        Stage::routed("", "[[routes]]\npath = \"/here\"\nupstream = \"api\"\ntoken = \"api\"\n").await;
    let host = stage.proxy.listen();
    let inner = format!("GET /here HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let body = inner.repeat(200_000 / inner.len());
    for split in [0, 1, 1000, 100_000] {
        let mut wire = stage.proxy.wire().await;
        let head =
            format!("POST /nowhere HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n", body.len());
        wire.send(head + &body[..split]).await;
        assert_eq!(wire.response("POST").await.unwrap().status(), 404);
        wire.send(&body[split..]).await;
        wire.send(&inner).await;
        wire.finish().await;
        assert!(wire.rest().await.is_empty(), "nothing else gets a response");
    }
    assert!(stage.api.seen().is_empty());
}

#[tokio::test]
async fn nginxs_early_413_arrives() {
    let (api, server) = (Nginx::start().await, Origin::issuing(300).await);
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    // nginx has no limit for chunks that it does not read.
    assert_delivered(&proxy, "/small", 413, &["http.client", "fetch", "http"]).await;
}

/// A proxy before an API that gives this response once it has read a head, and reads nothing more.
async fn before(response: String) -> Stage {
    let api = Origin::scripted(move |mut wire| {
        let response = response.clone();
        async move {
            if wire.head().await.is_none() {
                return;
            }
            wire.send(&response).await;
            if !response.contains("connection: close") {
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    Stage::with(api, "", "").await
}

#[tokio::test]
async fn an_api_that_responds_early_and_hangs_up_is_heard() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\nconnection: close\r\ncontent-length: 4\r\n\r\nno.\n";
    let stage = before(refusal.to_owned()).await;
    // Where the API's system resets the connection at once, its response may be lost on the way to the proxy: then there is a
    // 502 of the proxy's own. Never nothing.
    for how in ["http.client", "fetch", "http"] {
        for upload in run(client(how, &stage.proxy.url("/"), 4, 5)).await {
            let status = upload["status"].as_u64().unwrap_or_default();
            assert!([401, 502].contains(&status), "{how}: {upload}\n{}", stage.proxy.log());
        }
    }
}

#[tokio::test]
async fn an_api_that_responds_early_and_reads_nothing_holds_up_nobody() {
    for status in ["200 OK", "413 Content Too Large"] {
        let stage = before(format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\nearly")).await;
        let began = clock::now();
        for how in ["http.client", "fetch", "http"] {
            for upload in run(client(how, &stage.proxy.url("/"), 32, 1)).await {
                assert_eq!(
                    (&upload["status"].to_string()[..], &upload["bytes"]),
                    (&status[..3], &Value::from(5)),
                    "{how}: {upload}"
                );
            }
        }
        // The API's silence alone would be waited for for five minutes.
        assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
        eventually("nothing is left of it", || async {
            stage.proxy.metric("cupbearer_connections", &["side=\"upstream\""]).await < 0.5
        })
        .await;
    }
}

/// Node.js' client gets stuck here, before nginx and before its own server, too.
#[tokio::test]
async fn over_http_2_a_refused_upload_ends_its_stream_and_not_the_connection() {
    let stage =
        Stage::routed("", "[[routes]]\npath = \"/here\"\nupstream = \"api\"\ntoken = \"api\"\n").await;
    let stream = TcpStream::connect(stage.proxy.listen()).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    for upload in 0..30 {
        let request = http::Request::post(stage.proxy.url("/nowhere")).body(()).unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        let sending = async {
            // 32 MiB, or as much as is wanted.
            for _ in 0..512 {
                body.reserve_capacity(65_536);
                match std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
                    Some(Ok(room)) => body.send_data(vec![0; room].into(), false).unwrap(),
                    Some(Err(_)) | None => break,
                }
            }
            std::future::poll_fn(|cx| body.poll_reset(cx)).await.unwrap()
        };
        let responded = async {
            let mut response = response.await.unwrap();
            let mut length = 0;
            while let Some(part) = response.body_mut().data().await {
                length += part.unwrap().len();
            }
            (response.status(), length)
        };
        let (reset, (status, length)) = tokio::join!(sending, responded);
        // RFC 9113 section 8.1.
        assert_eq!((status.as_u16(), reset), (404, h2::Reason::NO_ERROR), "upload {upload}");
        assert!(length > 0);
    }
    let request = http::Request::get(stage.proxy.url("/here")).body(()).unwrap();
    let (response, _) = send.ready().await.unwrap().send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200, "on the same connection");
    driven.abort();
}

#[tokio::test]
async fn a_client_that_never_stops_sending_is_let_go() {
    let stage =
        Stage::routed("", "[[routes]]\npath = \"/here\"\nupstream = \"api\"\ntoken = \"api\"\n").await;
    let mut wire = stage.proxy.wire().await;
    wire.send(format!(
        "POST /nowhere HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        stage.proxy.listen()
    ))
    .await;
    assert_eq!(wire.response("POST").await.unwrap().status(), 404);
    // It sends nothing more, and does not close: silence has a bound of its own.
    eventually("its connection is closed", || async {
        stage.proxy.metric("cupbearer_connections", &["side=\"downstream\""]).await < 0.5
    })
    .await;
    assert_eq!(curl(&[&stage.proxy.url("/here")]).await.status, 200);
}
