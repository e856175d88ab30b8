//! The access log: a line of JSON for each request, with what whoever looks into a failure asks for, and without what nobody may read there.

use serde_json::{Value, json};

use cupbearer_testing::{Origin, Reply, Stage, curl, eventually};

/// The lines of the access log, by their path.
async fn line(stage: &Stage, path: &str) -> Value {
    let find = || {
        let log = stage.proxy.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["target"] == "cupbearer::access" && line["path"] == path)
    };
    eventually("the request has its line", || async { find().is_some() }).await;
    find().unwrap()
}

/// Each field of `wanted` as it is in `line`.
fn holds(line: &Value, wanted: &Value) {
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&line[key], value, "{key} of {line}");
    }
}

#[tokio::test]
async fn each_request_has_a_line_that_says_what_went_where_and_whose_answer_it_was() {
    let api =
        Origin::start(|message, _| match message.start().split([' ', '?']).nth(1).unwrap_or_default() {
            "/broken" => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this").closing(),
            "/chunked" => {
                Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            }
            "/nothing" => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
            "/refused" => Reply::new(401, &[], "no"),
            _ => Reply::new(200, &[], "twelve bytes"),
        })
        .await;
    let stage = Stage::with(api, "", "[log]\nformat = \"json\"\naccess = true").await;
    let url = |path: &str| stage.proxy.url(path);
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (header, cookie) = (format!("traceparent: {parent}"), "cookie: session=hidden-in-a-cookie");
    curl(&[
        "--header",
        &header,
        "--header",
        cookie,
        "--data",
        "hidden-in-the-body",
        &url("/plain?key=hidden-in-the-query"),
    ])
    .await;
    let plain = line(&stage, "/plain").await;
    holds(
        &plain,
        &json!({ "method": "POST", "protocol": "HTTP/1.1", "route": "/", "upstream": "api", "token": "api", "status": 200, "upstream_status": 200,
        "answered_by": "upstream", "request_bytes": 18, "response_bytes": 12, "ended": "complete", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736" }),
    );
    assert!(plain["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{plain}");
    let seconds = |key: &str| plain[key].as_f64().unwrap();
    assert!(0.0 < seconds("head_seconds") && seconds("head_seconds") <= seconds("seconds"), "{plain}");
    assert_eq!(plain.get("error"), None);

    curl(&["--http2-prior-knowledge", &url("/h2")]).await;
    let h2 = line(&stage, "/h2").await;
    holds(
        &h2,
        &json!({ "method": "GET", "protocol": "HTTP/2.0", "status": 200, "response_bytes": 12, "ended": "complete" }),
    );
    assert_eq!(h2.get("trace_id"), None, "without a collector and a share none begins here");
    for (words, path, wanted) in [
        (
            &["--head"][..],
            "/head",
            json!({ "method": "HEAD", "status": 200, "response_bytes": 0, "ended": "complete" }),
        ),
        (&[], "/chunked", json!({ "status": 200, "response_bytes": 5, "ended": "complete" })),
        // Of a body that does not say its length.
        (
            &["--header", "transfer-encoding: chunked", "--data", "hidden-in-chunks"],
            "/upload",
            json!({ "method": "POST", "request_bytes": 16, "status": 200 }),
        ),
        (&[], "/nothing", json!({ "status": 204, "response_bytes": 0, "ended": "complete" })),
        (&[], "/broken", json!({ "status": 200, "answered_by": "upstream", "ended": "aborted" })),
        (
            &[],
            "/refused",
            json!({ "status": 401, "upstream_status": 401, "answered_by": "upstream", "ended": "complete" }),
        ),
        (
            &["--request", "TRACE"],
            "/trace",
            json!({ "status": 405, "answered_by": "proxy", "error": "method_not_allowed", "ended": "complete" }),
        ),
        (
            &["--header", "host: elsewhere.example"],
            "/host",
            json!({ "status": 421, "answered_by": "proxy", "error": "host_refused" }),
        ),
        (
            &["--head", "--header", "host: elsewhere.example"],
            "/head-of-host",
            json!({ "method": "HEAD", "status": 421, "answered_by": "proxy", "ended": "complete" }),
        ),
    ] {
        curl(&[words, &[&url(path)]].concat()).await;
        holds(&line(&stage, path).await, &wanted);
    }
    let own = line(&stage, "/host").await;
    assert_eq!((own.get("upstream"), own.get("upstream_status"), own.get("token")), (None, None, None));
    let log = stage.proxy.log();
    assert!(!log.contains("hidden-in") && !log.contains("token-0"), "{log}");
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_named_and_the_answer_is_the_proxy_s() {
    let gone = Origin::start(|_, _| Reply::raw("").closing()).await;
    let stage = Stage::with(gone, "", "[log]\nformat = \"json\"\naccess = true").await;
    assert_eq!(curl(&[&stage.proxy.url("/gone")]).await.status, 502);
    let gone = line(&stage, "/gone").await;
    holds(
        &gone,
        &json!({ "status": 502, "answered_by": "proxy", "error": "upstream_broken", "upstream": "api", "token": "api" }),
    );
    assert_eq!(gone.get("upstream_status"), None);
}
