//! Upgrades to other protocols than WebSocket: `kubectl exec` before 1.31 (SPDY/3.1), Docker's streams (tcp).

use serde_json::Value;

use cupbearer_testing::{
    CREDENTIALS, Config, Origin, Program, Proxy, Wire, eventually, hear, node, token_at, told, upstream_at,
};

/// A Node.js server that upgrades, and a proxy before it.
struct Stage {
    api: Program,
    proxy: Proxy,
    _server: Origin,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn start(server_lines: &str, upstream: &str, route: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut api = Program::spawn("upgrade-api", node("upgrade/server.mjs", None), dir.path());
        let ready = hear(&mut api, "listening", |event| event["event"] == "listening").await;
        let server = Origin::issuing(300).await;
        let section = upstream_at(&format!("http://127.0.0.1:{}", ready["port"])) + upstream;
        let config = Config::one_route(&section, &token_at(&server.url())).and(route).server(server_lines);
        Self { api, proxy: Proxy::start(config).await, _server: server, _dir: dir }
    }

    /// Sends a request that asks for an upgrade; `more` are fields and a body.
    async fn ask(&self, start: &str, protocols: &str, more: &str) -> Wire {
        let mut wire = self.proxy.wire().await;
        let host = self.proxy.listen();
        wire.send(format!(
            "{start} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {protocols}\r\n{more}"
        ))
        .await;
        wire
    }

    fn told(&self, kind: &str) -> Vec<Value> {
        told(&self.api).into_iter().filter(|event| event["event"] == kind).collect()
    }
}

const SPDY: &str = "SPDY/3.1";

#[tokio::test]
async fn spdy_and_dockers_streams_pass_with_the_token_on_the_handshake() {
    let mut stage = Stage::start("", "", "").await;
    for (start, protocols, more, body) in [
        ("POST /exec", SPDY, "Content-Length: 0\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n", ""),
        ("GET /attach", "h2c, SPDY/3.1", "\r\n", ""),
        (
            "POST /start",
            "tcp",
            "Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"Tty\":true}",
            "{\"Tty\":true}",
        ),
    ] {
        let mut wire = stage.ask(start, protocols, more).await;
        let granted = wire.head().await.unwrap();
        assert_eq!(granted.status(), 101, "{start}: {}", stage.proxy.log());
        let protocol = protocols.trim_start_matches("h2c, ");
        assert_eq!(
            (granted.all("upgrade"), granted.all("connection")),
            (vec![protocol.to_owned()], vec!["upgrade".to_owned()])
        );
        assert_eq!(granted.field("x-stream-protocol-version").as_deref(), Some("v4.channel.k8s.io"));
        assert_eq!(wire.text(5).await, "glued");
        // Opaque, whatever it looks like: HTTP, or the frames of a WebSocket.
        for sent in ["\u{1}\u{88}\0GET / HTTP/1.1\r\n\r\n", "x".repeat(100_000).as_str()] {
            wire.send(sent).await;
            assert_eq!(wire.text(sent.len()).await, sent);
        }
        wire.finish().await;
        assert!(wire.rest().await.is_empty(), "and the API has ended, too");
        let url = start.split(' ').nth(1).unwrap();
        let began =
            hear(&mut stage.api, "began", |event| event["event"] == "began" && event["url"] == url).await;
        assert_eq!(began["fields"]["authorization"], CREDENTIALS);
        assert_eq!(began["fields"]["upgrade"], protocol, "h2c stays here");
        assert_eq!(
            (&began["method"], &began["body"]),
            (&start.split(' ').next().unwrap().into(), &body.into())
        );
        hear(&mut stage.api, "ended", |event| event["event"] == "ended" && event["url"] == url).await;
    }
    eventually("none is in flight", || async {
        stage.proxy.metric("cupbearer_requests_in_flight", &[]).await < 0.5
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_that_the_api_refuses_gets_its_response() {
    let stage = Stage::start("", "", "").await;
    let mut wire = stage.ask("POST /refuse", SPDY, "Content-Length: 0\r\n\r\n").await;
    let response = wire.response("POST").await.unwrap();
    assert_eq!((response.status(), response.text().as_str()), (403, "no\n"));
    assert_eq!(response.field("x-why").as_deref(), Some("because"));

    let mut wire = stage.ask("POST /other", SPDY, "Content-Length: 0\r\n\r\n").await;
    let response = wire.response("POST").await.unwrap();
    assert_eq!(
        (response.status(), response.field("cupbearer-error").as_deref()),
        (502, Some("upstream_malformed"))
    );

    // What a 426 demands is a field of this hop (RFC 9110 section 15.5.22).
    let host = stage.proxy.listen();
    let mut wire = stage.proxy.wire().await;
    wire.send(format!("GET /required HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let response = wire.response("GET").await.unwrap();
    assert_eq!((response.status(), response.all("upgrade")), (426, vec![SPDY.to_owned()]));
    wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(wire.response("GET").await.unwrap().status(), 200, "on the same connection");
}

#[tokio::test]
async fn what_is_no_upgrade_of_the_apis_stops_at_the_proxy() {
    let stage = Stage::start("", "", "").await;
    let host = stage.proxy.listen();
    for head in [
        "HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/2.0",
        "HTTP/1.1\r\nConnection: keep-alive\r\nUpgrade: SPDY/3.1",
        "HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1",
    ] {
        let mut wire = stage.proxy.wire().await;
        wire.send(format!("GET / {head}\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(wire.response("GET").await.unwrap().status(), 200, "{head}");
    }
    assert!(stage.told("began").is_empty());
    assert!(stage.told("plain").iter().all(|event| event["fields"]["upgrade"].is_null()));
}

#[tokio::test]
async fn the_guard_judges_an_upgrade_like_any_request() {
    let stage = Stage::start("", "", "").await;
    for field in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let mut wire = stage.ask("GET /exec", SPDY, &format!("{field}\r\n\r\n")).await;
        let response = wire.response("GET").await.unwrap();
        assert_eq!((response.status(), response.field("cupbearer-error").is_some()), (403, true), "{field}");
    }
    assert!(stage.told("began").is_empty());
}

#[tokio::test]
async fn an_upstream_that_speaks_http_2_alone_is_said_to_have_no_upgrade() {
    let stage = Stage::start("", "http2 = \"prior_knowledge\"\n", "").await;
    let mut wire = stage.ask("POST /exec", SPDY, "Content-Length: 0\r\n\r\n").await;
    let response = wire.response("POST").await.unwrap();
    assert_eq!(
        (response.status(), response.field("cupbearer-error").as_deref()),
        (502, Some("upgrade_refused"))
    );
    assert!(response.text().contains("HTTP/2"), "{}", response.text());
}

#[tokio::test]
async fn an_upgrade_ends_at_max_stream_age_without_a_frame() {
    let mut stage = Stage::start("", "", "max_stream_age = \"1s\"\n").await;
    let mut wire = stage.ask("GET /exec", SPDY, "\r\n").await;
    assert_eq!(wire.head().await.unwrap().status(), 101);
    assert_eq!(wire.rest().await, b"glued");
    hear(&mut stage.api, "ended", |event| event["event"] == "ended").await;
}

#[tokio::test]
async fn an_upgrade_ends_with_the_drain() {
    let mut stage = Stage::start("", "", "").await;
    let mut wire = stage.ask("GET /exec", SPDY, "\r\n").await;
    assert_eq!(wire.head().await.unwrap().status(), 101);
    let api = &mut stage.api;
    let (ended, _log) = stage.proxy.terminate().await;
    assert!(ended.success());
    assert_eq!(wire.rest().await, b"glued");
    hear(api, "ended", |event| event["event"] == "ended").await;
}

/// As `kubectl exec -i` has it: the command ends while its input still comes.
#[tokio::test]
async fn the_last_words_of_an_api_arrive_though_the_client_still_sends() {
    let stage = Stage::start("", "", "").await;
    for round in 0..20 {
        let mut wire = stage.ask("POST /last", SPDY, "Content-Length: 0\r\n\r\n").await;
        assert_eq!(wire.head().await.unwrap().status(), 101);
        let input = vec![b'i'; 64 * 1024];
        for _ in 0..64 {
            wire.send(&input).await;
        }
        assert_eq!(wire.text(15).await, "gluedlast words", "round {round}");
    }
}
