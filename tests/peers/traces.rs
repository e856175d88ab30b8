//! Traces as a collector gets them: it reads the official messages of OpenTelemetry, and knows nothing of this program.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use cupbearer_testing::{
    Certificates, Config, Message, Origin, Program, Proxy, Reply, Stage, curl, eventually, free_address,
    h2load, hear, python, token_at, told, upstream_at,
};

/// A collector of traces, and what it was told.
struct Collector {
    program: Program,
    port: u64,
    _dir: TempDir,
}

impl Collector {
    async fn start() -> Self {
        Self::launch(python("otlp/collector.py")).await
    }

    async fn launch(command: tokio::process::Command) -> Self {
        let dir = TempDir::new().unwrap();
        let mut program = Program::spawn("collector", command, dir.path());
        let ready = hear(&mut program, "ready", |event| event["event"] == "ready").await;
        Self { program, port: ready["port"].as_u64().unwrap(), _dir: dir }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/base/", self.port)
    }

    /// The section of a configuration that sends traces here.
    fn section(&self) -> String {
        format!("[telemetry]\notlp_endpoint = \"{}\"\n", self.url())
    }

    /// What it answers from now on; the last one stays.
    async fn answer(&self, statuses: Value) {
        let url = format!("http://127.0.0.1:{}/status", self.port);
        assert_eq!(curl(&["--data", &statuses.to_string(), &url]).await.status, 200);
    }

    fn spans(&self) -> Vec<Value> {
        told(&self.program).into_iter().filter(|event| event["event"] == "span").collect()
    }

    /// Waits for spans that `is` is true of.
    async fn wait(&self, count: usize, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        let find = || self.spans().into_iter().filter(|span| is(span)).collect::<Vec<_>>();
        eventually("the spans have come", || async { find().len() >= count }).await;
        let found = find();
        assert_eq!(found.len(), count, "{found:#?}");
        found
    }

    /// The spans of a request for `path`: the server's, and those of its sendings in their order.
    async fn request(&self, path: &str, sendings: usize) -> (Value, Vec<Value>) {
        let is_server = |span: &Value| span["attributes"]["url.path"] == path;
        let server = self.wait(1, is_server).await.remove(0);
        assert_eq!(server["kind"], "SPAN_KIND_SERVER");
        let of_it = |span: &Value| {
            span["parent"] == server["span"]
                && span["trace"] == server["trace"]
                && span["name"] != "wait for token"
        };
        let mut sent = self.wait(sendings, of_it).await;
        sent.sort_by(|a, b| a["began"].as_f64().unwrap().total_cmp(&b["began"].as_f64().unwrap()));
        assert!(sent.iter().all(|span| span["kind"] == "SPAN_KIND_CLIENT"), "{sent:?}");
        (server, sent)
    }
}

/// Each attribute of `wanted` as it is in `span`.
fn holds(span: &Value, wanted: &Value) {
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&span["attributes"][key], value, "{key} of {span:#}");
    }
}

async fn proxy_with(api: &str, server: &Origin, end: &str) -> Proxy {
    Proxy::start(Config::one_route(&upstream_at(api), &token_at(&server.url())).and(end)).await
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn a_request_is_a_span_and_its_sending_is_another_that_the_api_gets_as_its_parent() {
    let collector = Collector::start().await;
    let end =
        collector.section() + "service_name = \"orders-proxy\"\n[log]\nformat = \"json\"\naccess = true\n";
    let stage = Stage::with(Origin::ok().await, "", &end).await;
    let parent = format!("traceparent: 00-{TRACE}-{CALLER}-01");
    let fields =
        ["--header", &parent, "--header", "tracestate: vendor=1", "--header", "cookie: hidden-in-a-cookie"];
    let url = stage.proxy.url("/orders?key=hidden-in-the-query");
    let asked = [&fields[..], &["--data", "hidden-in-the-body", &url]].concat();
    assert_eq!(curl(&asked).await.status, 200);

    let (server, sent) = collector.request("/orders", 1).await;
    assert_eq!((&server["trace"], &server["parent"]), (&json!(TRACE), &json!(CALLER)));
    assert_eq!((&server["name"], &server["status"]), (&json!("POST /"), &json!("STATUS_CODE_UNSET")));
    holds(
        &server,
        &json!({ "http.request.method": "POST", "http.route": "/", "url.scheme": "http", "http.response.status_code": 200,
        "network.protocol.version": "1.1", "client.address": "127.0.0.1", "cupbearer.answered_by": "upstream", "error.type": null }),
    );
    assert_eq!(server["resource"]["service.name"], "orders-proxy");
    assert_eq!(server["resource"]["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(server["scope"], "cupbearer");

    let sent = &sent[0];
    assert_eq!((&sent["name"], &sent["status"]), (&json!("POST"), &json!("STATUS_CODE_UNSET")));
    let port: u16 = stage.api.url().rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    holds(
        sent,
        &json!({ "http.request.method": "POST", "server.address": "127.0.0.1", "server.port": port, "url.scheme": "http",
        "url.full": format!("http://127.0.0.1:{port}/orders"), "http.response.status_code": 200, "cupbearer.upstream": "api",
        "cupbearer.token.name": "api", "cupbearer.token.generation": 1, "network.protocol.version": "1.1" }),
    );
    let seconds = |span: &Value| span["seconds"].as_f64().unwrap();
    assert!(0.0 < seconds(sent) && seconds(sent) <= seconds(&server), "{sent}\n{server}");

    let seen = stage.api.only();
    let span = sent["span"].as_str().unwrap();
    assert_eq!(seen.all("traceparent"), [format!("00-{TRACE}-{span}-01")]);
    assert_eq!(seen.all("tracestate"), ["vendor=1"]);
    assert!(stage.proxy.log().contains(&format!("\"trace_id\":\"{TRACE}\"")), "{}", stage.proxy.log());

    let all = collector.program.log();
    for hidden in ["hidden", "token-0", "made-up", "Bearer"] {
        assert!(!all.contains(hidden), "{hidden} is in {all}");
    }
}

#[tokio::test]
async fn a_replay_is_one_request_sent_twice_with_two_generations_of_the_token() {
    let collector = Collector::start().await;
    let api = Origin::start(|request, _| match &request.all("authorization")[..] {
        [token] if token != "Bearer token-0" => Reply::ok(),
        _ => Reply::new(401, &[("www-authenticate", r#"Bearer error="invalid_token""#)], "no such token"),
    })
    .await;
    let stage = Stage::with(api, "", &collector.section()).await;
    assert_eq!(curl(&["--http2-prior-knowledge", &stage.proxy.url("/twice")]).await.status, 200);
    let (server, sent) = collector.request("/twice", 2).await;
    assert_eq!(server["parent"], "");
    holds(
        &server,
        &json!({ "http.response.status_code": 200, "network.protocol.version": "2", "error.type": null }),
    );
    holds(
        &sent[0],
        &json!({ "http.response.status_code": 401, "cupbearer.token.generation": 1, "error.type": "401" }),
    );
    holds(
        &sent[1],
        &json!({ "http.response.status_code": 200, "cupbearer.token.generation": 2, "error.type": null,
        "http.request.resend_count": 1 }),
    );
    assert_eq!(sent[0]["status"], "STATUS_CODE_ERROR");
    let parents: Vec<String> =
        stage.api.seen().iter().flat_map(|message| message.all("traceparent")).collect();
    let trace = server["trace"].as_str().unwrap();
    // Begun here, so all of its id is random, and it is sampled.
    let expected: Vec<String> =
        sent.iter().map(|span| format!("00-{trace}-{}-03", span["span"].as_str().unwrap())).collect();
    assert_eq!(parents, expected);

    // Two token requests, each in a trace of its own.
    let renewals = collector.wait(2, |span| span["name"] == "renew token").await;
    let traces: BTreeSet<_> = renewals.iter().map(|span| span["trace"].as_str().unwrap()).collect();
    assert!(traces.len() == 2 && !traces.contains(trace), "{renewals:?}");
    let generations: Vec<_> =
        renewals.iter().map(|span| &span["attributes"]["cupbearer.token.generation"]).collect();
    assert_eq!(generations, [1, 2]);
}

#[tokio::test]
async fn whoever_began_a_trace_has_decided_whether_it_is_recorded() {
    let collector = Collector::start().await;
    let stage = Stage::with(Origin::ok().await, "", &(collector.section() + "sample_ratio = 0.0\n")).await;
    let parent = format!("00-{TRACE}-{CALLER}");
    let ask = async |path: &str, fields: &[&str]| {
        assert_eq!(curl(&[fields, &[&stage.proxy.url(path)]].concat()).await.status, 200);
    };
    ask("/not-sampled", &["--header", &format!("traceparent: {parent}-00")]).await;
    ask("/begun-here", &[]).await;
    // A later version, with flags that are not known yet.
    let later = format!("traceparent: 01-{TRACE}-{CALLER}-ff-more");
    ask("/sampled", &["--header", &later]).await;
    let (_, sent) = collector.request("/sampled", 1).await;
    let seen = stage.api.seen();
    assert_eq!(seen[0].all("traceparent"), [format!("{parent}-00")]);
    assert!(seen[1].all("traceparent")[0].ends_with("-02"));
    assert_eq!(seen[2].all("traceparent"), [format!("00-{TRACE}-{}-03", sent[0]["span"].as_str().unwrap())]);
    // Of one connection and one queue: what came before would be here by now.
    assert_eq!(collector.spans().len(), 2, "{:?}", collector.spans());
}

#[tokio::test]
async fn without_a_collector_and_a_share_the_api_begins_its_own_traces() {
    let stage = Stage::plain().await;
    let parent = format!("00-{TRACE}-{CALLER}-00");
    for fields in [
        &[][..],
        &["--header", "traceparent: broken", "--header", "tracestate: a=1"],
        &["--header", &format!("traceparent: {parent}"), "--header", "tracestate: a=1"],
    ] {
        assert_eq!(curl(&[fields, &[&stage.proxy.url("/")]].concat()).await.status, 200);
    }
    let seen = stage.api.seen();
    for request in &seen[..2] {
        assert!(request.all("traceparent").is_empty() && request.all("tracestate").is_empty(), "{request:?}");
    }
    assert_eq!(
        (seen[2].all("traceparent"), seen[2].all("tracestate")),
        (vec![parent], vec!["a=1".to_owned()])
    );
}

#[tokio::test]
async fn without_a_collector_a_share_of_the_traces_that_begin_here_is_marked_for_the_api() {
    for (ratio, flags) in [("1.0", "03"), ("0.0", "02")] {
        let stage =
            Stage::with(Origin::ok().await, "", &format!("[telemetry]\nsample_ratio = {ratio}\n")).await;
        stage.proxy.get("/").await;
        let parents = stage.api.only().all("traceparent");
        assert!(parents[0].ends_with(&format!("-{flags}")), "{parents:?}");
        assert!(!stage.proxy.metrics().await.contains("cupbearer_spans_total"));
    }
}

#[tokio::test]
async fn what_goes_wrong_is_in_the_spans() {
    let collector = Collector::start().await;
    let server = Origin::issuing(300).await;
    let gone = free_address();
    let proxy = proxy_with(&format!("http://{gone}"), &server, &collector.section()).await;
    assert_eq!(proxy.get("/gone").await.status, 502);
    let (request, sent) = collector.request("/gone", 1).await;
    holds(
        &request,
        &json!({ "http.response.status_code": 502, "cupbearer.answered_by": "proxy", "error.type": "upstream_unreachable" }),
    );
    holds(&sent[0], &json!({ "error.type": "upstream_unreachable", "http.response.status_code": null }));
    assert_eq!(
        (&request["status"], &sent[0]["status"]),
        (&json!("STATUS_CODE_ERROR"), &json!("STATUS_CODE_ERROR"))
    );

    // Refused before it has a route: what the caller did wrong is no failure of ours.
    assert_eq!(curl(&["--header", "host: elsewhere.example", &proxy.url("/elsewhere")]).await.status, 421);
    let (request, _) = collector.request("/elsewhere", 0).await;
    assert_eq!((&request["name"], &request["status"]), (&json!("GET"), &json!("STATUS_CODE_UNSET")));
    holds(
        &request,
        &json!({ "http.response.status_code": 421, "error.type": "host_refused", "http.route": null }),
    );

    // The same by HEAD: that there is no body is no failure.
    let head = ["--head", "--header", "host: elsewhere.example", &proxy.url("/head")];
    assert_eq!(curl(&head).await.status, 421);
    let (request, _) = collector.request("/head", 0).await;
    assert_eq!(request["status"], "STATUS_CODE_UNSET");

    assert_eq!(curl(&["--request", "BREW", &proxy.url("/tea")]).await.status, 502);
    let (request, _) = collector.request("/tea", 1).await;
    assert_eq!(request["name"], "_OTHER /");
    holds(&request, &json!({ "http.request.method": "_OTHER", "http.request.method_original": "BREW" }));
}

#[tokio::test]
async fn an_application_that_hangs_up_is_in_the_spans() {
    let collector = Collector::start().await;
    let api = Origin::start(|_: &Message, _| Reply::ok().after(Duration::from_mins(10))).await;
    let stage = Stage::with(api, "", &collector.section()).await;
    let mut wire = stage.proxy.wire().await;
    let request = format!("GET /left HTTP/1.1\r\nHost: {}\r\n\r\n", stage.proxy.listen());
    wire.send(request).await;
    eventually("the API has the request", || async { !stage.api.seen().is_empty() }).await;
    wire.reset();
    let (request, sent) = collector.request("/left", 1).await;
    holds(&request, &json!({ "error.type": "aborted", "http.response.status_code": null }));
    holds(&sent[0], &json!({ "error.type": "aborted" }));
}

#[tokio::test]
async fn an_api_that_breaks_off_is_in_the_spans() {
    let collector = Collector::start().await;
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this";
    let stage =
        Stage::with(Origin::start(move |_, _| Reply::raw(half).closing()).await, "", &collector.section())
            .await;
    curl(&[&stage.proxy.url("/half")]).await;
    let (request, sent) = collector.request("/half", 1).await;
    holds(&request, &json!({ "error.type": "upstream_broken", "http.response.status_code": 200 }));
    assert_eq!(
        (&request["status"], &sent[0]["status"]),
        (&json!("STATUS_CODE_ERROR"), &json!("STATUS_CODE_UNSET"))
    );
}

#[tokio::test]
async fn a_token_request_that_fails_is_a_span_that_says_how() {
    let collector = Collector::start().await;
    let server = Origin::start(|_, _| Reply::json(400, r#"{"error":"invalid_scope"}"#)).await;
    let api = Origin::ok().await;
    let config =
        Config::one_route(&upstream_at(&api.url()), &token_at(&server.url())).and(&collector.section());
    let _proxy = Proxy::start_live(config).await;
    eventually("a span has come", || async { !collector.spans().is_empty() }).await;
    let span = collector.spans().remove(0);
    assert_eq!((&span["name"], &span["status"]), (&json!("renew token"), &json!("STATUS_CODE_ERROR")));
    holds(
        &span,
        &json!({ "cupbearer.token.name": "api", "error.type": "misconfigured", "cupbearer.token.generation": null }),
    );
}

#[tokio::test]
async fn a_collector_that_fails_costs_spans_and_nothing_else() {
    let collector = Collector::start().await;
    // Refused for good; this is not tried again.
    collector.answer(json!([400])).await;
    let stage = Stage::with(Origin::ok().await, "", &collector.section()).await;
    let lost = async || stage.proxy.metric("cupbearer_spans_total", &["result=\"failed\""]).await;
    for path in ["/a", "/b"] {
        let before = lost().await;
        assert_eq!(stage.proxy.get(path).await.status, 200);
        eventually("the spans are lost", || async { lost().await > before }).await;
    }
    let log = stage.proxy.log();
    assert_eq!(log.matches("the collector does not take traces").count(), 1, "{log}");
    assert!(log.contains("it answered 400 Bad Request") && !log.contains("a-word-of-the-collector"), "{log}");

    // Overloaded once: the same spans come again.
    collector.answer(json!([503, 200])).await;
    assert_eq!(stage.proxy.get("/c").await.status, 200);
    collector.request("/c", 1).await;
    eventually("it says so", || async { stage.proxy.log().contains("takes traces again") }).await;
    let paths: Vec<_> = collector.spans().iter().map(|span| span["attributes"]["url.path"].clone()).collect();
    assert!(!paths.contains(&json!("/a")) && !paths.contains(&json!("/b")), "{paths:?}");
    assert!(stage.proxy.metric("cupbearer_spans_total", &["result=\"sent\""]).await >= 2.0);
}

#[tokio::test]
async fn a_collector_may_ask_for_a_while_and_neither_for_none_nor_for_ever() {
    let collector = Collector::start().await;
    collector.answer(json!([[503, "0"], [429, "0"], 200])).await;
    let stage = Stage::with(Origin::ok().await, "", &collector.section()).await;
    assert_eq!(stage.proxy.get("/a-while").await.status, 200);
    collector.request("/a-while", 1).await;
    let messages = told(&collector.program).into_iter().filter(|event| event["event"] == "message");
    assert_eq!(
        messages.map(|message| message["status"].clone()).take(3).collect::<Vec<_>>(),
        [503, 429, 200]
    );

    collector.answer(json!([[503, u64::MAX.to_string()]])).await;
    let lost = || stage.proxy.metric("cupbearer_spans_total", &["result=\"failed\""]);
    assert_eq!(stage.proxy.get("/for-ever").await.status, 200);
    eventually("the spans are lost", || async { lost().await > 0.0 }).await;
    let (status, log) = stage.proxy.terminate().await;
    assert!(status.success() && !log.contains("panicked") && !log.contains("had ended before"), "{log}");
}

#[tokio::test]
async fn what_a_collector_refuses_of_a_message_and_what_is_no_collector_is_counted_as_lost() {
    for (answer, says) in [("partial", "over quota"), ("html", "not in OTLP")] {
        let collector = Collector::start().await;
        collector.answer(json!([answer])).await;
        let stage = Stage::with(Origin::ok().await, "", &collector.section()).await;
        assert_eq!(stage.proxy.get("/").await.status, 200);
        let lost = || stage.proxy.metric("cupbearer_spans_total", &["result=\"failed\""]);
        eventually("it is counted", || async { lost().await > 0.0 }).await;
        assert!(stage.proxy.log().contains(says), "{}", stage.proxy.log());
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_said_with_its_reason_by_the_log_and_by_check() {
    // Nobody has this port: it is below those that are given to whoever asks for any.
    let end = "[telemetry]\notlp_endpoint = \"http://127.0.0.1:1\"\n";
    let stage = Stage::with(Origin::ok().await, "", end).await;
    assert_eq!(stage.proxy.get("/").await.status, 200);
    let check = stage.proxy.command(&["check", "--online"]).await;
    let said = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.contains("telemetry") && said.contains("connection refused"), "{said}");
    eventually("the log says why", || async { stage.proxy.log().contains("connection refused") }).await;

    let collector = Collector::start().await;
    let stage = Stage::with(Origin::ok().await, "", &collector.section()).await;
    let check = stage.proxy.command(&["check", "--online"]).await;
    let said = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
    assert!(check.status.success() && said.contains("the collector took a message without spans"), "{said}");
}

#[tokio::test]
async fn long_paths_and_a_silent_collector_leave_the_memory_within_a_pod_s_limit() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let end = format!("[telemetry]\notlp_endpoint = \"http://{}\"\n", silent.local_addr().unwrap());
    let stage = Stage::with(Origin::ok().await, "", &end).await;
    let url = stage.proxy.url(&format!("/{}", "long".repeat(10_000)));
    let load = h2load(&["-n", "3000", "-c", "4", "--h1", &url]).await;
    assert_eq!(load.good, 3000, "{load:?}");
    assert!(stage.proxy.metric("cupbearer_spans_total", &["result=\"dropped\""]).await > 0.0);
    let peak = stage.proxy.program().peak_memory_kib();
    // In full, the paths of the spans that wait are 160 MiB.
    assert!(peak < 64 * 1024, "{peak} KiB");
}

#[tokio::test]
async fn a_request_that_the_drain_cuts_has_its_span_and_its_line_before_the_end() {
    let collector = Collector::start().await;
    let api = Origin::start(|_: &Message, _| Reply::ok().after(Duration::from_mins(10))).await;
    let server = Origin::issuing(300).await;
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .and(&(collector.section() + "[log]\nformat = \"json\"\naccess = true\n"))
        .environment("CUPBEARER__SERVER__DRAIN_TIMEOUT", "1s");
    let proxy = Proxy::start(config).await;
    let url = proxy.url("/cut");
    let asked = tokio::spawn(async move { curl(&[&url]).await });
    eventually("the API has the request", || async { !api.seen().is_empty() }).await;
    let (status, log) = proxy.terminate().await;
    assert!(status.success(), "{log}");
    asked.await.unwrap();
    let cut = collector.spans().into_iter().find(|span| span["attributes"]["url.path"] == "/cut");
    holds(&cut.unwrap_or_else(|| panic!("{:?}", collector.spans())), &json!({ "error.type": "aborted" }));
    let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("{words} is not in {log}"));
    assert!(at("\"path\":\"/cut\"") < at("\"message\":\"ended\""), "{log}");
}

#[tokio::test]
async fn a_request_that_waits_for_a_token_says_so_and_a_failed_grpc_call_is_a_failure() {
    let collector = Collector::start().await;
    let server = Origin::start(|_, n| {
        let token = Reply::token(&format!("token-{n}"), 300);
        if n == 0 { token.after(Duration::from_millis(700)) } else { token }
    })
    .await;
    let config =
        Config::one_route(&upstream_at(&format!("http://{}", free_address())), &token_at(&server.url()))
            .and(&collector.section());
    let proxy = Proxy::start_live(config).await;
    let url = proxy.url("/orders.Orders/Get");
    let call = ["--http2-prior-knowledge", "--header", "content-type: application/grpc", "--data", "", &url];
    assert_eq!(curl(&call).await.status, 200);
    let is_call = |span: &Value| span["attributes"]["url.path"] == "/orders.Orders/Get";
    let request = collector.wait(1, is_call).await.remove(0);
    assert_eq!(request["status"], "STATUS_CODE_ERROR");
    holds(&request, &json!({ "error.type": "upstream_unreachable", "http.response.status_code": 200 }));
    let waited = collector.wait(1, |span| span["name"] == "wait for token").await.remove(0);
    assert_eq!((&waited["parent"], &waited["kind"]), (&request["span"], &json!("SPAN_KIND_INTERNAL")));
    assert!(waited["seconds"].as_f64().unwrap() > 0.2, "{waited}");
}

#[tokio::test]
async fn the_last_spans_are_sent_when_the_proxy_ends() {
    let collector = Collector::start().await;
    let stage = Stage::with(Origin::ok().await, "", &collector.section()).await;
    assert_eq!(stage.proxy.get("/last").await.status, 200);
    let (status, log) = stage.proxy.terminate().await;
    assert!(status.success(), "{log}");
    // Nothing is waited for: by now they are there.
    let server = collector.spans().into_iter().find(|span| span["attributes"]["url.path"] == "/last");
    assert!(server.is_some(), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_collector_that_says_nothing_holds_up_neither_requests_nor_the_end() {
    // It takes connections, and that is all.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let end = format!("[telemetry]\notlp_endpoint = \"http://{}\"\n", silent.local_addr().unwrap());
    let stage = Stage::with(Origin::ok().await, "", &end).await;
    // More than wait to be sent.
    let (url, requests) = (stage.proxy.url("/many"), 2000_u64);
    let load = h2load(&["-n", &requests.to_string(), "-c", "8", "--h1", &url]).await;
    assert_eq!(load.good, requests, "{load:?}");
    assert!(stage.proxy.metric("cupbearer_spans_total", &["result=\"dropped\""]).await > 0.0);
    let (status, log) = stage.proxy.terminate().await;
    assert!(status.success() && log.contains("the last spans were not taken"), "{log}");
}

#[tokio::test]
async fn a_collector_may_have_tls_a_key_and_another_name_for_us() {
    let dir = TempDir::new().unwrap();
    let certificates = Certificates::for_loopback(dir.path());
    let mut command = python("otlp/collector.py");
    command.args([&certificates.certificate, &certificates.key]);
    let collector = Collector::launch(command).await;
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let section = |ca: Option<&Path>| {
        let ca = ca.map(|file| format!("otlp_ca_file = {file:?}\n")).unwrap_or_default();
        let ca = ca + "otlp_headers_env = \"THE_HEADERS\"\n";
        format!("[telemetry]\notlp_endpoint = \"https://127.0.0.1:{}/base\"\n{ca}", collector.port)
    };
    let config = |ca| {
        Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
            .and(&section(ca))
            .environment("THE_HEADERS", "x-key=a%20key")
            .environment("OTEL_SERVICE_NAME", "named-by-a-variable")
            .environment("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=orders-7d4f")
    };
    let proxy = Proxy::start(config(Some(&certificates.ca))).await;
    assert_eq!(proxy.get("/tls").await.status, 200);
    let (request, _) = collector.request("/tls", 1).await;
    assert_eq!(request["resource"]["service.name"], "named-by-a-variable");
    assert_eq!(request["resource"]["k8s.pod.name"], "orders-7d4f");
    let message = told(&collector.program).into_iter().find(|event| event["event"] == "message").unwrap();
    assert_eq!(message["key"], "a key");

    // Of an authority that the system does not know.
    let proxy = Proxy::start(config(None)).await;
    assert_eq!(proxy.get("/untrusted").await.status, 200);
    eventually("it says so", || async { proxy.log().contains("does not take traces") }).await;
    assert!(collector.spans().iter().all(|span| span["attributes"]["url.path"] != "/untrusted"));
}
