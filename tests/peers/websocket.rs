//! WebSocket connections through the proxy: real peers on both sides, over HTTP/1.1 and HTTP/2 in each of the four ways.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;

use cupbearer_testing::{
    Certificates, Config, Origin, Program, Proxy, Reply, Stage, Tinyproxy, WebSocketApi, curl, eventually,
    free_address, hear, http1_client, http2_client, passes, run_nginx, token_at, told, upstream_at,
};

const HTTP1_CASES: [&str; 11] = [
    "messages",
    "megabytes",
    "both_ways_at_once",
    "fragments",
    "pings",
    "compression",
    "subprotocol",
    "own_close",
    "their_close",
    "refusals",
    "many",
];

const HTTP2_CASES: [&str; 10] = [
    "messages",
    "fragments",
    "pings",
    "own_close",
    "their_close",
    "subprotocol",
    "refusals",
    "resets",
    "other_protocols",
    "another_origin",
];

async fn before(api: &WebSocketApi, route: &str, lifetime: u64) -> (Origin, Proxy) {
    let server = Origin::issuing(lifetime).await;
    let config = Config::one_route(&api.upstream(), &token_at(&server.url())).and(route);
    (server, Proxy::start(config).await)
}

/// A client that goes on while the test does something else.
fn spawn(client: tokio::process::Command) -> (Program, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Program::spawn("client", client, dir.path()), dir)
}

fn handshake(proxy: &Proxy, path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
        proxy.listen()
    )
}

/// Each handshake came with one token of ours; a refused one brings a new one.
fn assert_one_token(api: &WebSocketApi) {
    let handshakes = api.field("authorization");
    assert!(!handshakes.is_empty());
    for values in handshakes {
        assert!(values.len() == 1 && values[0].starts_with("Bearer token-"), "{values:?}");
    }
}

const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn http_1_to_http_1_passes_everything() {
    let api = WebSocketApi::http1().await;
    let (_server, proxy) = before(&api, "", 300).await;
    passes(&proxy, http1_client(&proxy, &HTTP1_CASES)).await;
    assert_one_token(&api);
    let keys: BTreeSet<_> = api.field("sec-websocket-key").concat().into_iter().collect();
    assert_eq!(keys.len(), api.told("began").len(), "each handshake has the client's own key");
    assert!(proxy.metric("cupbearer_requests_total", &["code=\"101\""]).await >= 50.0);
    eventually("none is in flight", || async {
        proxy.metric("cupbearer_requests_in_flight", &[]).await < 0.5
            && proxy.metric("cupbearer_connections", &[]).await < 5.5
    })
    .await;
}

#[tokio::test]
async fn http_2_to_http_1_is_bridged() {
    let mut api = WebSocketApi::http1().await;
    let (_server, proxy) = before(&api, "", 300).await;
    // What the package's server agrees on is its own first choice.
    passes(&proxy, http2_client(&proxy, &HTTP2_CASES)).await;
    assert_one_token(&api);
    assert!(api.field("sec-websocket-key").iter().all(|values| values.len() == 1));
    // RFC 8441 section 5: a reset stream is a closed connection.
    api.hear("the reset", |event| event["event"] == "ended" && event["said"] == false).await;
    assert!(proxy.metric("cupbearer_requests_total", &["code=\"200\""]).await >= 10.0);
}

#[tokio::test]
async fn http_1_to_http_2_is_bridged() {
    let api = WebSocketApi::http2().await;
    let (_server, proxy) = before(&api, "", 300).await;
    let cases = HTTP1_CASES.iter().copied().filter(|case| *case != "compression").collect::<Vec<_>>();
    passes(&proxy, http1_client(&proxy, &cases)).await;
    assert_one_token(&api);
    assert!(api.field("sec-websocket-key").concat().is_empty(), "RFC 8441 section 5 has no use for it");
    assert!(api.field("sec-websocket-version").iter().all(|values| values == &["13"]));
}

#[tokio::test]
async fn http_2_to_http_2_passes_everything() {
    let api = WebSocketApi::http2().await;
    let (_server, proxy) = before(&api, "", 300).await;
    passes(&proxy, http2_client(&proxy, &HTTP2_CASES)).await;
    assert_one_token(&api);
}

/// The whole set of cases, from HTTP/1.1 and from HTTP/2, to an API that is reached as `more` says.
async fn passes_by(api: &WebSocketApi, more: &str) -> Proxy {
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&(api.upstream() + more), &token_at(&server.url()))).await;
    passes(&proxy, http1_client(&proxy, &HTTP1_CASES)).await;
    passes(&proxy, http2_client(&proxy, &HTTP2_CASES)).await;
    assert_one_token(api);
    proxy
}

#[tokio::test]
async fn a_websocket_goes_to_an_api_in_tls() {
    passes_by(&WebSocketApi::tls().await, "").await;
}

/// An nginx in TLS that speaks HTTP/2 to whoever can, and passes everything on to this API: as most are deployed.
async fn nginx_before(api: &WebSocketApi) -> (Program, tempfile::TempDir, String) {
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let files = Certificates::for_loopback(dir.path());
    let (at, certificate, key) = (dir.path().display(), files.certificate.display(), files.key.display());
    let configuration = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log; events {{ worker_connections 512; }} \
         http {{ access_log off; client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; \
         uwsgi_temp_path {at}/d; scgi_temp_path {at}/e; map $http_upgrade $wants {{ default upgrade; '' close; }} \
         server {{ listen {address} ssl http2; ssl_certificate {certificate}; ssl_certificate_key {key}; \
         location = /plain {{ return 200 $server_protocol; }} location / {{ proxy_pass http://127.0.0.1:{}; \
         proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $wants; }} }} }}",
        api.port()
    );
    let nginx = run_nginx(dir.path(), &configuration, &[address]).await;
    let ca = format!("ca_file = '{}'\n", files.ca.display());
    (nginx, dir, upstream_at(&format!("https://localhost:{}", address.port())) + &ca)
}

/// What agrees on HTTP/2 may know nothing of RFC 8441: a WebSocket gets a connection of its own.
#[tokio::test]
async fn a_websocket_goes_in_http_1_where_other_requests_go_in_http_2() {
    let api = WebSocketApi::http1().await;
    let (_nginx, _dir, upstream) = nginx_before(&api).await;
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&upstream, &token_at(&server.url()))).await;
    for _ in 0..2 {
        assert_eq!(proxy.get("/plain").await.text(), "HTTP/2.0", "{}", proxy.log());
        passes(&proxy, http1_client(&proxy, &HTTP1_CASES)).await;
        passes(&proxy, http2_client(&proxy, &HTTP2_CASES)).await;
    }
    assert_one_token(&api);
}

#[tokio::test]
async fn a_websocket_goes_to_an_api_on_a_unix_socket() {
    let api = WebSocketApi::unix().await;
    passes_by(&api, "").await;
    assert!(api.field("host").iter().all(|host| host == &["api.internal"]));
}

#[tokio::test]
async fn a_websocket_goes_through_an_http_proxy_in_a_tunnel_of_its_own() {
    for api in [WebSocketApi::http1().await, WebSocketApi::tls().await] {
        let way = Tinyproxy::start(&[api.port()]).await;
        let proxy = passes_by(&api, &format!("proxy = \"{}\"\n", way.url("alice:wonderland"))).await;
        let tunnels = way.log().matches("CONNECT ").count();
        assert!(tunnels >= 20 && !way.log().contains("GET"), "{tunnels}: {}", way.log());
        assert!(api.field("proxy-authorization").concat().is_empty());
        // The end of the way is the end of the WebSocket.
        let (mut client, _dir) = spawn(http1_client(&proxy, &["hold"]));
        hear(&mut client, "open", |event| event["open"] == true).await;
        drop(way);
        let end = hear(&mut client, "the end", |event| !event["count"].is_null()).await;
        assert!(end["code"].is_null(), "no close frame was made up: {end}");
    }
}

#[tokio::test]
async fn an_upstream_without_extended_connect_is_not_asked() {
    let api = WebSocketApi::plain_http2().await;
    let (_server, proxy) = before(&api, "", 300).await;
    for _ in 0..2 {
        let answer = proxy.exchange(&handshake(&proxy, "/echo", "")).await.unwrap();
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.field("cupbearer-error").as_deref(), Some("websocket_refused"));
        assert_eq!(proxy.get("/").await.status, 200, "other requests pass");
    }
    assert_eq!(api.told("began").len(), 2, "and those alone");
}

#[tokio::test]
async fn a_handshake_that_may_not_be_is_refused_before_the_api_hears_of_it() {
    let api = WebSocketApi::http1().await;
    let (_server, proxy) = before(&api, "methods = [\"GET\"]", 300).await;
    let own = handshake(&proxy, "/echo", "");
    for (request, status) in [
        (handshake(&proxy, "/echo", "Origin: http://evil.example\r\n"), 403),
        (handshake(&proxy, "/echo", "Origin: null\r\n"), 403),
        (handshake(&proxy, "/echo", "Sec-Fetch-Site: cross-site\r\n"), 403),
        (own.replace(&proxy.listen().to_string(), "evil.example"), 421),
        (own.replacen("GET", "POST", 1), 405),
    ] {
        let answer = proxy.exchange(&request).await.unwrap();
        assert_eq!(answer.status(), status, "{request}");
        assert!(answer.field("cupbearer-error").is_some());
    }
    assert!(api.told("began").is_empty());
    // And one of the proxy's own page passes.
    let origin = format!("Origin: http://{}\r\n", proxy.listen());
    let mut wire = proxy.wire().await;
    wire.send(handshake(&proxy, "/echo", &origin)).await;
    assert_eq!(wire.head().await.unwrap().status(), 101);
    eventually("the API tells of it", async || !api.told("began").is_empty()).await;
    assert_eq!(api.field("origin"), [[format!("http://127.0.0.1:{}", api.port())]], "as its Host has it");
}

#[tokio::test]
async fn what_is_no_handshake_of_a_websocket_is_an_ordinary_request() {
    let stage = Stage::plain().await;
    let own = handshake(&stage.proxy, "/", "");
    for request in [
        own.replace("Upgrade: websocket", "Upgrade: h2c"),
        own.replace("Connection: Upgrade", "Connection: keep-alive"),
        own.replacen("GET", "POST", 1),
        own.replace("HTTP/1.1", "HTTP/1.0"),
        own.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi"),
    ] {
        assert_eq!(stage.proxy.exchange(&request).await.unwrap().status(), 200, "{request}");
    }
    assert_eq!(stage.api.seen().len(), 5);
    for sent in stage.api.seen() {
        assert!(sent.all("upgrade").is_empty(), "{}", String::from_utf8_lossy(&sent.head));
        assert!(sent.all("connection").iter().all(|value| !value.contains("pgrade")));
    }
}

#[tokio::test]
async fn what_is_glued_to_the_grant_arrives_and_an_end_passes_each_way() {
    let api = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.send(format!("{GRANT}\u{1}\u{2}glued")).await;
        assert_eq!(wire.rest().await, b"from the application");
        wire.send("after your end").await;
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    wire.send(handshake(&stage.proxy, "/", "")).await;
    let head = wire.head().await.unwrap();
    assert_eq!(head.status(), 101);
    assert_eq!(head.all("sec-websocket-accept"), ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    assert_eq!((head.all("upgrade").len(), head.all("connection").len()), (1, 1));
    wire.send("from the application").await;
    wire.finish().await;
    assert_eq!(wire.rest().await, b"\x01\x02gluedafter your end");
}

#[tokio::test]
async fn a_refusal_is_an_answer_like_any_other() {
    let stage =
        Stage::answering(|_, before| Reply::new(if before == 0 { 426 } else { 200 }, &[], "plain")).await;
    let mut wire = stage.proxy.wire().await;
    for status in [426, 200, 200] {
        wire.send(handshake(&stage.proxy, "/", "")).await;
        let answer = wire.response("GET").await.unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (status, "plain"), "on the same connection");
    }
    assert_eq!(stage.api.connections(), 1, "and the API's, too");
}

#[tokio::test]
async fn an_api_that_grants_what_it_cannot_or_did_not_is_a_bad_gateway() {
    let wrong = GRANT.replace("s3pP", "AAAA");
    let without = GRANT.replace("Upgrade: websocket", "Upgrade: something");
    for (grant, from_http1) in [(wrong, 101), (without, 502)] {
        let stage = Stage::answering(move |_, _| Reply::raw(grant.clone()).holding()).await;
        let mut wire = stage.proxy.wire().await;
        wire.send(handshake(&stage.proxy, "/", "")).await;
        let status = wire.head().await.unwrap().status();
        assert_eq!(status, from_http1, "an application checks its own key");
        let (answer, error) = extended_connect(&stage.proxy).await;
        assert_eq!((answer, error.as_deref()), (502, Some("upstream_malformed")));
    }
    // To HTTP/2, a 200 would be a grant.
    let stage = Stage::plain().await;
    assert_eq!(extended_connect(&stage.proxy).await, (502, Some("websocket_refused".to_owned())));
}

/// What comes of an extended CONNECT: the status, and the kind of the proxy's own error.
async fn extended_connect(proxy: &Proxy) -> (u16, Option<String>) {
    let tcp = tokio::net::TcpStream::connect(proxy.listen()).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    while !client.is_extended_connect_protocol_enabled() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut request = http::Request::builder().method("CONNECT").uri(proxy.url("/")).body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (response, _stream) = client.send_request(request, false).unwrap();
    let response = response.await.unwrap();
    connection.abort();
    let error = response.headers().get("cupbearer-error").map(|kind| kind.to_str().unwrap().to_owned());
    (response.status().as_u16(), error)
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_and_the_handshake_repeated() {
    let api = Origin::scripted(|mut wire| async move {
        while let Some(request) = wire.request().await {
            if request.all("authorization") == ["Bearer token-0"] {
                wire.send(
                    Reply::new(401, &[("www-authenticate", "Bearer error=\"invalid_token\"")], "")
                        .into_bytes(),
                )
                .await;
                continue;
            }
            assert_eq!(
                (request.all("upgrade"), request.all("sec-websocket-key").len()),
                (vec!["websocket".to_owned()], 1)
            );
            wire.send(GRANT).await;
            wire.send("welcome").await;
            wire.rest().await;
        }
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    wire.send(handshake(&stage.proxy, "/", "")).await;
    assert_eq!(wire.head().await.unwrap().status(), 101);
    assert_eq!(wire.swallow(7).await, 7);
    assert_eq!(stage.server.seen().len(), 2);
}

#[tokio::test]
async fn a_renewal_leaves_a_websocket_alone() {
    let mut api = WebSocketApi::http1().await;
    let (server, proxy) = before(&api, "", 12).await;
    let (mut client, _dir) = spawn(http1_client(&proxy, &["hold"]));
    hear(&mut client, "open", |event| event["open"] == true).await;
    assert!(proxy.metric("cupbearer_requests_in_flight", &[]).await > 0.5);
    assert!(proxy.metric("cupbearer_connections", &["side=\"upstream\""]).await > 0.5);
    eventually("two renewals", || async { server.seen().len() >= 3 }).await;
    assert_eq!(api.field("authorization"), [["Bearer token-0"]]);
    passes(&proxy, http1_client(&proxy, &["fragments"])).await;
    assert_ne!(api.field("authorization")[1], ["Bearer token-0"]);
    // The end of the application is the end of the API's side.
    client.signal(Signal::KILL);
    let ended = api.hear("the end", |event| event["event"] == "ended" && event["path"] == "/ticks").await;
    assert_eq!(ended["said"], false);
}

#[tokio::test]
async fn the_death_of_an_api_reaches_the_application() {
    let api = WebSocketApi::http1().await;
    let (_server, proxy) = before(&api, "", 300).await;
    let (mut client, _dir) = spawn(http1_client(&proxy, &["hold"]));
    hear(&mut client, "open", |event| event["open"] == true).await;
    api.program().signal(Signal::KILL);
    let end = hear(&mut client, "the end", |event| !event["count"].is_null()).await;
    assert!(end["code"].is_null(), "no close frame was made up: {end}");
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_the_sender_up() {
    let mut api = WebSocketApi::http1().await;
    let (_server, proxy) = before(&api, "", 300).await;
    let before = proxy.program().peak_memory_kib();
    let mut wires = Vec::new();
    for _ in 0..8 {
        let mut wire = proxy.wire().await;
        wire.send(handshake(&proxy, "/flood", "")).await;
        assert_eq!(wire.head().await.unwrap().status(), 101);
        wires.push(wire);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = |api: &WebSocketApi| api.told("sent").len();
    let stands = sent(&api);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(sent(&api), stands, "the API still sends");
    let grown = proxy.program().peak_memory_kib() - before;
    assert!(grown < 8 * 1024, "{grown} KiB for eight tunnels");
    passes(&proxy, http1_client(&proxy, &["messages"])).await;
    wires.into_iter().for_each(cupbearer_testing::Wire::reset);
    api.hear("the end", |event| event["event"] == "ended" && event["path"] == "/flood").await;
}

#[tokio::test]
async fn the_end_of_the_proxy_says_going_away_to_both_sides() {
    let mut api = WebSocketApi::http1().await;
    let server = Origin::issuing(300).await;
    let config = Config::one_route(&api.upstream(), &token_at(&server.url())).server("workers = 1");
    let proxy = Proxy::start(config).await;
    let (mut first, _dir) = spawn(http1_client(&proxy, &["hold"]));
    let (mut second, _other_dir) = spawn(http2_client(&proxy, &["until_the_end"]));
    hear(&mut first, "open", |event| event["open"] == true).await;
    hear(&mut second, "open", |event| event["open"] == true).await;
    let began = cupbearer_testing::clock::now();
    let (status, log) = proxy.terminate().await;
    assert!(status.success(), "{log}");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(4), "as long as it may take: {took:?}");
    assert!(!log.contains("were cut"), "{log}");
    for (client, done) in [(&mut first, "hold"), (&mut second, "until_the_end")] {
        let end = hear(client, "the end", |event| event["case"] == done && !event["code"].is_null()).await;
        assert_eq!(
            (&end["code"], end["reason"].as_str().unwrap().contains("shutting down")),
            (&1001.into(), true)
        );
    }
    for path in ["/ticks", "/echo"] {
        let ended = api.hear("the end", |event| event["event"] == "ended" && event["path"] == path).await;
        assert_eq!(ended["code"], 1001, "{ended}");
    }
    assert!(told(&second).iter().any(|event| event["passed"] == true));
}

#[tokio::test]
async fn a_websocket_ends_at_max_stream_age() {
    let mut api = WebSocketApi::http1().await;
    let (_server, proxy) = before(&api, "max_stream_age = \"2s\"", 300).await;
    let (mut client, _dir) = spawn(http1_client(&proxy, &["hold"]));
    let end = hear(&mut client, "the end", |event| !event["count"].is_null()).await;
    assert_eq!(
        (&end["code"], end["reason"].as_str().unwrap().contains("max_stream_age")),
        (&1001.into(), true)
    );
    assert!(end["count"].as_u64().unwrap() > 10, "{end}");
    let ended = api.hear("the end", |event| event["event"] == "ended").await;
    assert_eq!(ended["code"], 1001);
    assert_eq!(curl(&[&proxy.url("/refuse/200")]).await.proxy_error(), None);
}

#[tokio::test]
async fn a_silent_websocket_ends_at_idle_timeout() {
    let api = WebSocketApi::http1().await;
    let server = Origin::issuing(300).await;
    let upstream = api.upstream() + "idle_timeout = \"2s\"\n";
    let proxy = Proxy::start(Config::one_route(&upstream, &token_at(&server.url()))).await;
    let (mut client, _dir) = spawn(http2_client(&proxy, &["until_the_end"]));
    let end = hear(&mut client, "the end", |event| !event["code"].is_null()).await;
    assert_eq!(
        (&end["code"], end["reason"].as_str().unwrap().contains("idle_timeout")),
        (&1001.into(), true)
    );
}
