//! Counters that should add up do: each request is in one class of `cupbearer_requests_total`, timed once, in the access log
//! once, and no longer in flight, whoever ended it and when. The tool, the API and `/metrics` count the same.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use cupbearer_testing::{
    Config, Message, Origin, Program, Proxy, Reply, WebSocketApi, curl, eventually, h2load, hear,
    http1_client, node, passes, token_at, told, upstream_at,
};

/// With an access log in JSON.
const LOG: &str = "[log]\nformat = \"json\"\naccess = true\n";

/// What the program counted, once nothing is in flight.
#[derive(Debug)]
struct Counts {
    by_code: BTreeMap<String, u64>,
    requests: u64,
    gone: u64,
    aborted: u64,
    lines: Vec<Value>,
}

impl Counts {
    /// Waits until nothing is in flight, and fails unless everything adds up.
    async fn of(proxy: &Proxy) -> Self {
        eventually("nothing is in flight", async || {
            let in_flight = proxy.metric("cupbearer_requests_in_flight", &[]).await;
            let timed = proxy.metric("cupbearer_request_duration_seconds_count", &[]).await;
            in_flight < 0.5 && lines(proxy).len() as f64 > timed - 0.5
        })
        .await;
        let (metrics, lines) = (proxy.metrics().await, lines(proxy));
        let mut by_code = BTreeMap::new();
        for line in metrics.lines().filter(|line| line.starts_with("cupbearer_requests_total{")) {
            let code = line.split("code=\"").nth(1).unwrap().split('"').next().unwrap();
            *by_code.entry(code.to_owned()).or_default() += last(line);
        }
        let counts = Self {
            requests: by_code.values().sum(),
            gone: sum(&metrics, "cupbearer_proxy_errors_total{", "kind=\"client_gone\""),
            aborted: sum(&metrics, "cupbearer_aborted_total{", "cause=\"application\""),
            by_code,
            lines,
        };
        let timed = sum(&metrics, "cupbearer_request_duration_seconds_count{", "");
        assert_eq!(counts.requests, timed, "{metrics}");
        assert_eq!(counts.requests, counts.lines.len() as u64, "{counts:?}");
        for (code, count) in &counts.by_code {
            let code: u16 = code.parse().unwrap();
            let logged = counts.lines.iter().filter(|line| line["status"] == code).count();
            assert_eq!(*count, logged as u64, "{code}: {counts:?}");
        }
        let aborted = counts.lines.iter().filter(|line| line["ended"] == "aborted").count() as u64;
        assert_eq!(sum(&metrics, "cupbearer_aborted_total{", ""), aborted, "{metrics}");
        counts
    }

    fn code(&self, code: u16) -> u64 {
        self.by_code.get(&code.to_string()).copied().unwrap_or(0)
    }
}

fn last(line: &str) -> u64 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn sum(metrics: &str, family: &str, label: &str) -> u64 {
    metrics.lines().filter(|line| line.starts_with(family) && line.contains(label)).map(last).sum()
}

/// The lines of the access log so far.
fn lines(proxy: &Proxy) -> Vec<Value> {
    told(proxy.program()).into_iter().filter(|line| line["target"] == "cupbearer::access").collect()
}

/// Requests of Node's HTTP/2 client that are under way.
struct Pending {
    client: Program,
    _dir: TempDir,
}

impl Pending {
    /// Begins `count` requests, and waits until the proxy has them all.
    async fn begin(proxy: &Proxy, method: &str, path: &str, count: usize) -> Self {
        let before = proxy.metric("cupbearer_requests_in_flight", &[]).await;
        let mut command = node("node/give-up.mjs", None);
        command.arg(proxy.url("")).args([method, path, &count.to_string()]);
        let dir = tempfile::tempdir().unwrap();
        let client = Program::spawn("give-up", command, dir.path());
        eventually("all are under way", async || {
            proxy.metric("cupbearer_requests_in_flight", &[]).await > before + count as f64 - 0.5
        })
        .await;
        Self { client, _dir: dir }
    }

    /// Waits until that many responses' heads or bodies have begun.
    async fn until(&mut self, what: &str, count: u64) {
        hear(&mut self.client, what, |event| event[what] == count).await;
    }

    /// Resets the streams.
    async fn reset(mut self) {
        self.client.signal(Signal::USR2);
        hear(&mut self.client, "all are reset", |event| event["event"] == "gone").await;
    }
}

/// An API that never responds, but for `/whole`; `/endless` has a body that never ends.
async fn silent_api() -> Origin {
    Origin::start(|request: &Message, _| match request.target().as_str() {
        "/whole" => Reply::ok(),
        "/endless" => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthe first part").holding(),
        _ => Reply::ok().after(Duration::from_mins(10)),
    })
    .await
}

async fn before_silence(route: &str) -> (Origin, Origin, Proxy) {
    let (api, server) = (silent_api().await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
    let proxy = Proxy::start(config.and(route).and(LOG)).await;
    (api, server, proxy)
}

#[tokio::test]
async fn a_request_that_an_http2_application_resets_is_in_one_class_whatever_it_waited_for() {
    let (_api, _server, proxy) = before_silence("").await;
    Pending::begin(&proxy, "GET", "/silent", 20).await.reset().await;
    let waiting = Counts::of(&proxy).await;
    assert_eq!((waiting.requests, waiting.code(499), waiting.gone, waiting.aborted), (20, 20, 20, 20));

    Pending::begin(&proxy, "POST", "/upload", 5).await.reset().await;
    let uploading = Counts::of(&proxy).await;
    assert_eq!((uploading.code(499), uploading.gone, uploading.aborted), (25, 25, 25), "in the upload");

    // The response has begun, so it is in the class of its status.
    let mut reading = Pending::begin(&proxy, "GET", "/endless", 7).await;
    reading.until("bodies", 7).await;
    reading.reset().await;
    let reading = Counts::of(&proxy).await;
    assert_eq!((reading.code(200), reading.code(499), reading.gone, reading.aborted), (7, 25, 25, 32));

    let closing = Pending::begin(&proxy, "GET", "/silent", 4).await;
    closing.client.signal(Signal::KILL);
    let closed = Counts::of(&proxy).await;
    assert_eq!((closed.code(499), closed.gone, closed.aborted), (29, 29, 36), "with the connection");
    assert!(
        closed.lines.iter().filter(|line| line["status"] == 499).all(|line| line["error"] == "client_gone")
    );
}

#[tokio::test]
async fn a_request_that_is_given_up_in_a_queue_is_in_one_class() {
    let (_api, _server, proxy) =
        before_silence("max_concurrent = 1\nmax_queue = 50\nqueue_timeout = \"10m\"\n").await;
    Pending::begin(&proxy, "GET", "/silent", 8).await.reset().await;
    let counts = Counts::of(&proxy).await;
    assert_eq!((counts.requests, counts.code(499), counts.gone), (8, 8, 8));
}

#[tokio::test]
async fn a_request_that_is_given_up_while_it_waits_for_a_token_or_a_connection_is_in_one_class() {
    let api = silent_api().await;
    let server = Origin::start(|_, _| Reply::token("late", 300).after(Duration::from_mins(10))).await;
    let token = token_at(&server.url()) + "wait = \"10m\"\n";
    let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &token).and(LOG)).await;
    Pending::begin(&proxy, "GET", "/silent", 6).await.reset().await;
    let counts = Counts::of(&proxy).await;
    assert_eq!((counts.requests, counts.code(499), counts.gone), (6, 6, 6), "no token came");

    // The API accepts connections, and never begins its TLS handshake.
    let mute = Origin::scripted(|mut wire| async move { drop(wire.rest().await) }).await;
    let server = Origin::issuing(300).await;
    let upstream = upstream_at(&mute.url().replace("http:", "https:")) + "connect_timeout = \"10m\"\n";
    let proxy = Proxy::start(Config::one_route(&upstream, &token_at(&server.url())).and(LOG)).await;
    Pending::begin(&proxy, "GET", "/silent", 6).await.reset().await;
    let counts = Counts::of(&proxy).await;
    assert_eq!((counts.requests, counts.code(499), counts.gone), (6, 6, 6), "no connection came");
    assert!(counts.lines.iter().all(|line| line["upstream_seconds"].is_null()), "{counts:?}");
    assert!(counts.lines.iter().all(|line| line["connect_seconds"].is_number()), "{counts:?}");
}

#[tokio::test]
async fn a_request_that_an_http1_application_gives_up_is_in_the_same_classes() {
    let (_api, _server, proxy) = before_silence("").await;
    let host = proxy.listen();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let half = format!("POST /upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 22\r\n\r\nhalf of it ");
    for request in [get("/silent"), half] {
        let mut wire = proxy.wire().await;
        wire.send(&request).await;
        eventually("it is under way", async || {
            proxy.metric("cupbearer_requests_in_flight", &["route=\"/\""]).await > 0.5
        })
        .await;
        drop(wire);
        Counts::of(&proxy).await;
    }
    let mut wire = proxy.wire().await;
    wire.send(get("/endless")).await;
    assert_eq!(wire.head().await.unwrap().status(), 200);
    wire.reset();
    let counts = Counts::of(&proxy).await;
    assert_eq!((counts.code(200), counts.code(499), counts.gone, counts.aborted), (1, 2, 2, 3), "{counts:?}");
}

#[tokio::test]
async fn what_never_reaches_a_route_is_in_all_counters_too() {
    let (_api, _server, proxy) = before_silence("").await;
    let host = proxy.listen();
    let mut statuses = Vec::new();
    for request in [
        format!("GET /whole HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET /whole HTTP/1.1\r\nHost: {host}\r\nno colon\r\n\r\n"),
        "no request at all\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "long".repeat(30_000)),
        "GET /whole HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n".to_owned(),
        format!("TRACE /whole HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET /whole%2f..%2fx HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("OPTIONS /whole HTTP/1.1\r\nHost: {host}\r\nMax-Forwards: 0\r\n\r\n"),
    ] {
        let mut wire = proxy.wire().await;
        wire.send(&request).await;
        statuses.push(wire.response("GET").await.unwrap().status());
    }
    let mut expected = BTreeMap::new();
    for status in &statuses {
        *expected.entry(status.to_string()).or_default() += 1;
    }
    let counts = Counts::of(&proxy).await;
    assert_eq!(counts.by_code, expected, "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status >= 400).count() >= 6, "{statuses:?}");
}

#[tokio::test]
async fn a_head_that_is_late_is_in_all_counters() {
    let (api, server) = (silent_api().await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
    let proxy = Proxy::start(config.server("header_timeout = \"500ms\"").and(LOG)).await;
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: half").await;
    assert_eq!(wire.response("GET").await.unwrap().status(), 408);
    let counts = Counts::of(&proxy).await;
    assert_eq!((counts.requests, counts.code(408)), (1, 1));
    assert_eq!(counts.lines[0]["error"], "request_timeout");
}

#[tokio::test]
async fn tool_api_and_metrics_count_the_same_while_tokens_are_renewed_and_the_configuration_is_reloaded() {
    let (api, server) = (Origin::ok().await, Origin::issuing(2).await);
    let config =
        Config::one_route(&upstream_at(&api.url()), &token_at(&server.url())).and("methods = []\n").and(LOG);
    let proxy = Proxy::start(config).await;
    let url = proxy.url("/");
    let mut sent = 0;
    for arguments in [
        &["--h1", "-n3000", "-c30", "-t1"][..],
        &["-n3000", "-c3", "-m20", "-t1"],
        &["-n2000", "-c2", "-m5", "-t1", "-d", "Cargo.toml"],
    ] {
        let load = h2load(&[arguments, &[&url]].concat()).await;
        load.assert_flawless(2000);
        sent += load.good;
        proxy.program().signal(Signal::HUP);
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    eventually("a token was renewed", async || server.seen().len() >= 2).await;
    let counts = Counts::of(&proxy).await;
    let tried = proxy.metric("cupbearer_replays_total", &[]).await;
    assert_eq!((counts.requests, counts.code(200)), (sent, sent));
    assert_eq!(api.seen().len() as u64, sent + tried as u64);
    let body = std::fs::metadata("Cargo.toml").unwrap().len();
    assert_eq!(proxy.metric("cupbearer_request_bytes_total", &[]).await as u64, 2000 * body);
    assert_eq!(proxy.metric("cupbearer_response_bytes_total", &[]).await as u64, 2 * sent);
    for family in ["cupbearer_upstream_duration_seconds_count", "cupbearer_overhead_seconds_count"] {
        assert_eq!(proxy.metric(family, &["route=\"/\""]).await as u64, sent, "{family}");
    }
}

/// An API that takes its time, for the head or in the middle of the body, and an application that takes its time to upload.
#[tokio::test]
async fn the_time_of_the_api_and_of_the_application_is_not_the_proxys_own() {
    const WAIT: Duration = Duration::from_secs(2);
    let api = Origin::scripted(|mut wire| async move {
        while let Some(request) = wire.request().await {
            let in_body = request.target() == "/body";
            let (first, rest) = if in_body { ("o", "k") } else { ("", "ok") };
            if request.method() == "GET" && !in_body {
                tokio::time::sleep(WAIT).await;
            }
            wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{first}")).await;
            if in_body {
                tokio::time::sleep(WAIT).await;
            }
            wire.send(rest).await;
        }
    })
    .await;
    let server = Origin::issuing(300).await;
    let proxy =
        Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url())).and(LOG)).await;
    for path in ["/head", "/body"] {
        assert_eq!(proxy.get(path).await.status, 200);
    }
    let mut wire = proxy.wire().await;
    let host = proxy.listen();
    wire.send(format!("POST /upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 8\r\n\r\nhalf")).await;
    tokio::time::sleep(WAIT).await;
    wire.send("half").await;
    assert_eq!(wire.response("POST").await.unwrap().status(), 200);
    let counts = Counts::of(&proxy).await;
    let seconds = |name: &str, line: &Value| line[name].as_f64().unwrap_or_default();
    let wait = WAIT.as_secs_f64();
    for line in &counts.lines {
        assert!(seconds("seconds", line) >= wait, "{line}");
        let is_upload = line["path"] == "/upload";
        assert_eq!(seconds("upstream_seconds", line) >= wait, !is_upload, "{line}");
    }
    let opened = counts.lines.iter().filter(|line| line["connect_seconds"].is_number()).count();
    assert!(opened >= 1, "the first opened a connection: {counts:?}");
    let total = proxy.metric("cupbearer_request_duration_seconds_sum", &["route=\"/\""]).await;
    let upstream = proxy.metric("cupbearer_upstream_duration_seconds_sum", &["route=\"/\""]).await;
    let overhead = proxy.metric("cupbearer_overhead_seconds_sum", &["route=\"/\""]).await;
    assert!(total >= 3.0 * wait && upstream >= 2.0 * wait, "{total} {upstream}");
    assert!(overhead < wait / 2.0 && upstream + overhead < total, "{total} {upstream} {overhead}");
    assert_eq!(proxy.metric("cupbearer_request_bytes_total", &["route=\"/\""]).await as u64, 8);
    assert_eq!(proxy.metric("cupbearer_response_bytes_total", &["route=\"/\""]).await as u64, 6);
}

#[tokio::test]
async fn the_bytes_of_a_websocket_are_counted_both_ways() {
    let api = WebSocketApi::http1().await;
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&api.upstream(), &token_at(&server.url())).and(LOG)).await;
    passes(&proxy, http1_client(&proxy, &["messages"])).await;
    let counts = Counts::of(&proxy).await;
    let bytes = |name: &str| counts.lines.iter().map(|line| line[name].as_u64().unwrap()).sum::<u64>();
    assert!(bytes("request_bytes") > 0 && bytes("response_bytes") > 0, "{counts:?}");
    for (family, name) in [
        ("cupbearer_request_bytes_total", "request_bytes"),
        ("cupbearer_response_bytes_total", "response_bytes"),
    ] {
        assert_eq!(proxy.metric(family, &["route=\"/\""]).await as u64, bytes(name), "{family}");
    }
}

#[tokio::test]
async fn a_burst_of_refusals_has_a_line_with_its_bound_and_one_with_its_number() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let route = "rate_limit = \"1/s\"\nrate_burst = 3\n";
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
    let proxy = Proxy::start(config.and(route).and("[log]\nformat = \"json\"\n")).await;
    let load = h2load(&["--h1", "-n5000", "-c20", "-t1", &proxy.url("/")]).await;
    assert_eq!(load.done, 5000);
    let limited = || -> Vec<Value> {
        told(proxy.program()).into_iter().filter(|line| line["kind"] == "rate_limited").collect()
    };
    eventually("the burst has ended", async || limited().len() > 1).await;
    let logged = limited();
    assert_eq!(logged.len(), 2, "{logged:?}");
    let first = &logged[0];
    assert_eq!(
        (&first["level"], &first["route"], &first["key"]),
        (&"WARN".into(), &"/".into(), &"rate_limit".into())
    );
    assert!(first["value"].as_str().unwrap().starts_with("1/s"), "{first}");
    assert!(first["help"].as_str().unwrap().contains("max_queue"), "{first}");
    assert_eq!(logged[1]["count"], load.bad, "{logged:?}");
    let labels = ["kind=\"rate_limited\"", "route=\"/\""];
    assert_eq!(proxy.metric("cupbearer_proxy_errors_total", &labels).await as u64, load.bad);
    // One that no route takes is counted under no route.
    assert_eq!(curl(&[&proxy.url("/"), "-H", "Host: elsewhere.example"]).await.status, 421);
    let labels = ["kind=\"host_refused\"", "route=\"none\""];
    assert_eq!(proxy.metric("cupbearer_proxy_errors_total", &labels).await as u64, 1);
}
