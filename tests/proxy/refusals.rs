//! Whose refusal it is: the API's own bare 400, 414 and 431, and the proxy's, which are marked.

use std::time::Duration;

use rustix::process::Signal;

use cupbearer_testing::{Message, Origin, Reply, Stage, eventually};

/// An API that responds to `/STATUS` with that status and nothing else, as hyper's own refusals look.
async fn stage() -> Stage {
    let bare = |request: &Message, _| {
        let status = request.target().trim_start_matches('/').to_owned();
        let reply = Reply::raw(format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n\r\n"));
        if request.field("x-slow").is_some() { reply.after(Duration::from_secs(1)) } else { reply }
    };
    Stage::with(Origin::start(bare).await, "", "").await
}

fn assert_the_apis(response: &Message, status: u16) {
    assert_eq!(response.status(), status, "{}", String::from_utf8_lossy(&response.head));
    assert!(response.field("cupbearer-error").is_none(), "{}", String::from_utf8_lossy(&response.head));
    assert_eq!(response.all("content-length"), ["0"]);
}

async fn refused(stage: &Stage) -> f64 {
    let mut count = 0.0;
    for kind in ["kind=\"bad_request\"", "kind=\"header_too_large\""] {
        count += stage.proxy.metric("cupbearer_proxy_errors_total", &[kind]).await;
    }
    count
}

#[tokio::test]
async fn an_apis_own_bare_refusal_reaches_the_application_as_it_is() {
    let stage = stage().await;
    let host = stage.proxy.listen();
    for status in [400, 414, 431] {
        for (version, connection) in [("1.1", "keep-alive"), ("1.1", "close"), ("1.0", "close")] {
            let mut wire = stage.proxy.wire().await;
            let one =
                format!("GET /{status} HTTP/{version}\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n");
            wire.send(&one).await;
            assert_the_apis(&wire.response("GET").await.unwrap(), status);
        }
        // Pipelined, the last one closes.
        let mut wire = stage.proxy.wire().await;
        let next = format!("GET /{status} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let last = format!("GET /{status} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        wire.send([next.as_str(), &next, &last].concat()).await;
        for _ in 0..3 {
            assert_the_apis(&wire.response("GET").await.unwrap(), status);
        }
        // With a body, too.
        let mut wire = stage.proxy.wire().await;
        let post = format!(
            "POST /{status} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 5\r\n\r\n"
        );
        wire.send(post + "hello").await;
        assert_the_apis(&wire.response("POST").await.unwrap(), status);
    }
    assert!(refused(&stage).await < 0.5, "none is the proxy's");
}

#[tokio::test]
async fn an_apis_own_bare_refusal_in_a_drain_is_the_apis() {
    let stage = stage().await;
    let mut wire = stage.proxy.wire().await;
    wire.send(format!("GET /400 HTTP/1.1\r\nHost: {}\r\nX-Slow: 1\r\n\r\n", stage.proxy.listen())).await;
    eventually("it is under way", || async {
        stage.proxy.metric("cupbearer_requests_in_flight", &["route=\"/\""]).await > 0.5
    })
    .await;
    stage.proxy.program().signal(Signal::TERM);
    let response = wire.response("GET").await.unwrap();
    assert_the_apis(&response, 400);
    assert_eq!(response.all("connection"), ["close"]);
}

#[tokio::test]
async fn a_head_that_hyper_refuses_gets_the_proxys_own_response_whatever_came_before() {
    let stage = stage().await;
    let host = stage.proxy.listen();
    let many = "X-A: 1\r\n".repeat(200);
    let mut count = 0.0;
    for before in ["", "200", "400", "431"] {
        for (head, status, kind) in [
            (format!("G@T / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400, "bad_request"),
            (format!("GET / HTTP/1.1\r\nHost: {host}\r\n{many}\r\n"), 431, "header_too_large"),
            (format!("GET / HTTP/1.1\nHost: {host}\n\n"), 400, "bad_request"),
        ] {
            for version in ["1.1\r\n", "1.0\r\nConnection: keep-alive\r\n"] {
                let mut wire = stage.proxy.wire().await;
                if !before.is_empty() {
                    wire.send(format!("GET /{before} HTTP/{version}Host: {host}\r\n\r\n")).await;
                    assert_the_apis(&wire.response("GET").await.unwrap(), before.parse().unwrap());
                }
                wire.send(&head).await;
                let response = wire.response("GET").await.unwrap();
                assert_eq!(response.status(), status, "behind {before:?}: {head}");
                assert_eq!(response.field("cupbearer-error").as_deref(), Some(kind));
                assert!(wire.rest().await.is_empty());
                count += 1.0;
            }
        }
    }
    let refused = refused(&stage).await;
    assert!((refused - count).abs() < 0.1, "{refused} of {count}");
}
