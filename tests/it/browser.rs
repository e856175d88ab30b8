//! Web pages in Debian's Chromium: one that may use the proxy, and others that try.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::support::{
    Config, Message, Origin, Program, Proxy, Reply, chromium, free_address, hear, node, python, run,
    token_at, told, upstream_at,
};

/// What everything else than events gets: JSON, and a header that a page may want.
fn answer(events: bool) -> Reply {
    if events {
        let body = "data: 0\n\ndata: 1\n\ndata: 2\n\n";
        return Reply::new(200, &[("content-type", "text/event-stream")], body);
    }
    Reply::new(200, &[("content-type", "application/json"), ("x-shown", "yes")], "{\"ok\":true}")
}

#[tokio::test]
async fn pages_of_allowed_origins_use_the_proxy_and_no_other_page_reaches_the_api() {
    let dir = tempfile::tempdir().unwrap();
    let api = Origin::start(|request, _| answer(request.target().starts_with("/events/"))).await;
    let mut sockets = Program::spawn("websockets", python("websocket/echo.py"), dir.path());
    let ready = hear(&mut sockets, "ready", |event| event["event"] == "ready").await;
    let server = Origin::issuing(300).await;
    let [allowed, other] = [free_address().port(), free_address().port()];
    let config = format!(
        "{}[upstreams.sockets]\nurl = \"http://127.0.0.1:{}\"\n{}\
         [guard]\nallowed_origins = [\"http://localhost:{allowed}\"]\n",
        upstream_at(&api.url()),
        ready["port"],
        token_at(&server.url()),
    ) + &[("/api", "api"), ("/events", "api"), ("/socket", "sockets")]
        .map(|(path, upstream)| {
            format!("[[routes]]\npath = \"{path}\"\nupstream = \"{upstream}\"\ntoken = \"api\"\n")
        })
        .concat();
    let proxy = Proxy::start(Config::new(config)).await;

    let mut browser = node("browser/run.mjs", Some("playwright-core"));
    browser
        .env("CHROMIUM", chromium())
        .env("HOME", dir.path())
        .env("PROXY", proxy.listen().port().to_string());
    browser.env("ALLOWED", allowed.to_string()).env("OTHER", other.to_string());
    let told_by_pages: BTreeMap<String, Value> = run(browser)
        .await
        .into_iter()
        .map(|mut told| (told["attempt"].take().as_str().unwrap().to_owned(), told))
        .collect();
    let mut wrong = Vec::new();
    let mut expect = |attempt: &str, what: &[(&str, Value)]| {
        let told = &told_by_pages[attempt];
        if what.iter().any(|(name, value)| &told[*name] != value) {
            wrong.push(format!("{attempt} should say {what:?}, and says {told}"));
        }
    };

    let ok = [("status", json!(200)), ("body", json!("{\"ok\":true}"))];
    expect("allowed get", &ok);
    expect("allowed post_json", &ok);
    expect("allowed custom_header", &ok[..1]);
    expect("allowed simple_post", &ok[..1]);
    expect("allowed error", &[("status", json!(404)), ("error", json!("no_route"))]);
    expect("allowed events", &[("events", json!(["0", "1", "2"]))]);
    expect("allowed websocket", &[("open", json!(true)), ("echo", json!("größer ☺")), ("code", json!(1000))]);
    for page in ["other", "address", "evil"] {
        for way in ["get", "post_json", "custom_header", "error", "simple_post"] {
            expect(&format!("{page} {way}"), &[("failed", json!("TypeError"))]);
        }
        expect(&format!("{page} no_cors"), &[("type", json!("opaque"))]);
        expect(&format!("{page} image"), &[("loaded", json!(false))]);
        expect(&format!("{page} events"), &[("events", json!([]))]);
        expect(&format!("{page} websocket"), &[("open", json!(false))]);
    }
    for way in ["navigation", "get", "post"] {
        expect(&format!("rebound {way}"), &[("status", json!(421))]);
    }
    expect("rebound websocket", &[("open", json!(false))]);

    let mut reached: Vec<_> = api.seen().iter().map(Message::target).collect();
    reached.extend(told(&sockets).iter().filter_map(|event| event["path"].as_str().map(str::to_owned)));
    let strangers: Vec<_> = reached.iter().filter(|target| !target.contains("allowed")).collect();
    assert!(strangers.is_empty(), "these reached the API: {strangers:?}");
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), proxy.log());
    assert!(reached.len() >= 6, "{reached:?}");
}
