//! Web pages in Debian's Chromium: one that may use the proxy, and others that try.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use cupbearer_testing::{
    Chrome, Config, Message, Origin, Program, Proxy, Reply, Stage, chromium, curl, eventually, free_address,
    hear, node, python, run, token_at, told, upstream_at,
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

/// A page that anybody may have put up, at `evil.test`, and a browser that finds every `.test` on this machine.
async fn a_page_of(script: String) -> (Origin, Chrome, String) {
    let html = format!("<!doctype html><link rel=\"icon\" href=\"data:,\"><body>{script}</body>");
    let page =
        Origin::start(move |_, _| Reply::new(200, &[("content-type", "text/html")], html.clone())).await;
    let chrome = Chrome::start_with(&[("RULES", "MAP *.test 127.0.0.1")]).await;
    let url = page.url().replace("127.0.0.1", "evil.test");
    (page, chrome, url)
}

#[tokio::test]
async fn speculation_rules_of_a_page_reach_neither_the_api_nor_the_control_surface() {
    let stage = Stage::plain().await;
    let proxy = format!("http://localhost:{}", stage.proxy.listen().port());
    let control = format!("http://localhost:{}", stage.proxy.control().port());
    let rules = json!({
        "prefetch": [{ "source": "list", "urls": [format!("{proxy}/delete/1"), format!("{control}/status")] }],
        "prerender": [{ "source": "list", "urls": [format!("{proxy}/delete/2")] }],
    });
    let (_page, mut chrome, evil) =
        a_page_of(format!("<script type=\"speculationrules\">{rules}</script>")).await;
    chrome.open("evil", &evil).await;
    eventually("the browser speculates", || async {
        let speculative = ["reason=\"speculative\""];
        stage.proxy.metric("cupbearer_guard_rejections_total", &speculative).await > 2.5
    })
    .await;
    assert!(stage.api.seen().is_empty(), "{:?}", stage.api.seen());
    // The page goes where its rules pointed to, and finds nothing that was fetched before.
    let go = format!("setTimeout(() => {{ location.href = '{proxy}/delete/1'; }}) > 0");
    chrome.order(json!({ "do": "run", "page": "evil", "script": go })).await;
    chrome.order(json!({ "do": "settle", "page": "evil", "url": format!("{proxy}/delete/1") })).await;
    chrome.until("evil", "document.body.innerText.includes('origin_refused')").await;
    let reached: Vec<_> = stage.api.seen().iter().map(Message::target).collect();
    assert!(!reached.iter().any(|target| target.starts_with("/delete")), "{reached:?}");

    // A person types the address, and loads it again.
    chrome.open("person", &format!("{proxy}/orders")).await;
    chrome.order(json!({ "do": "reload", "page": "person" })).await;
    let reached: Vec<_> = stage.api.seen().iter().map(Message::target).collect();
    assert_eq!(reached.iter().filter(|target| *target == "/orders").count(), 2, "{reached:?}");
}

/// What a page can have a browser send to another host, without anyone's doing: `AT` stands for the host.
const SENT_BY_A_PAGE: &str = r#"
<meta name="referrer" content="no-referrer">
<img src="AT/img"><script src="AT/script"></script><iframe src="AT/iframe"></iframe>
<link rel="stylesheet" href="AT/stylesheet"><link rel="prefetch" href="AT/prefetch"><link rel="preload" as="image" href="AT/preload">
<link rel="modulepreload" href="AT/module"><video src="AT/video"></video><audio src="AT/audio"></audio>
<object data="AT/object"></object><embed src="AT/embed"><svg><image href="AT/svg"/></svg>
<form id="get" action="AT/form" target="one"><input name="q" value="1"></form><iframe name="one"></iframe>
<form id="post" action="AT/post" method="post" target="two"><input name="q" value="1"></form><iframe name="two"></iframe>
<a id="a" href="AT/link" rel="noreferrer" target="three">x</a><iframe name="three"></iframe>
<script>
    for (const form of document.forms) form.submit();
    document.getElementById('a').click();
    const sent = [];
    const headers = { 'accept': 'application/json', 'accept-language': 'x' };
    for (const mode of ['no-cors', 'cors']) sent.push(fetch('AT/fetch-' + mode, { mode, headers, referrerPolicy: 'no-referrer' }));
    sent.push(fetch('AT/fetch-agent', { headers: { 'user-agent': 'curl/8.5.0' } }));
    sent.push(fetch('AT/fetch-post', { mode: 'no-cors', method: 'POST', body: 'x' }));
    navigator.sendBeacon('AT/beacon', 'x');
    new EventSource('AT/events');
    new WebSocket('AT/websocket'.replace('http', 'ws'));
    new Worker(URL.createObjectURL(new Blob(["importScripts('AT/worker')"])));
    document.body.style.background = 'url(AT/background)';
    Promise.allSettled(sent).then(() => { window.settled = true; });
</script>"#;

#[tokio::test]
async fn a_page_does_not_reach_the_api_by_a_plain_host_where_browsers_say_nothing_of_pages() {
    let api = Origin::ok().await;
    let server = Origin::issuing(300).await;
    let section = upstream_at(&api.url()) + "[guard]\nallowed_hosts = [\"orders.test\"]\n";
    let proxy = Proxy::start(Config::one_route(&section, &token_at(&server.url()))).await;
    let host = format!("http://orders.test:{}", proxy.listen().port());
    let (_page, mut chrome, evil) = a_page_of(SENT_BY_A_PAGE.replace("AT/", &format!("{host}/"))).await;
    chrome.open("evil", &evil).await;
    chrome.until("evil", "window.settled").await;
    let rejections = "cupbearer_guard_rejections_total";
    eventually("the browser has sent it all", || async {
        // What carries an Origin is refused for that.
        proxy.metric(rejections, &["reason=\"insecure_host\""]).await >= 14.0
            && proxy.metric(rejections, &["reason=\"origin\""]).await >= 4.0
    })
    .await;
    let reached: Vec<_> = api.seen().iter().map(Message::target).collect();
    assert!(reached.is_empty(), "{reached:?}");

    let named = format!("Host: orders.test:{}", proxy.listen().port());
    let fields = ["-H", &named, "-H", "Accept-Language: en", "-H", "Referer: http://elsewhere.test/"];
    assert_eq!(curl(&[&fields[..], &[&proxy.url("/curl")]].concat()).await.status, 200);
    let probe = ["-H", &named, "-A", "kube-probe/1.31"];
    assert_eq!(curl(&[&probe[..], &[&proxy.url("/probe")]].concat()).await.status, 200);
    let mut fetch = node("clients/fetch.mjs", None);
    fetch.arg(format!("{host}/node"));
    assert_eq!(run(fetch).await, [json!({ "status": 200 })]);
}
