//! Front ends in Debian's Chromium, by the recipes of `docs/front-ends.md`: an application's own login, servers that compare
//! Origin with Host, cookies that a page reads, elements of pages on allowed origins, extensions, and Vite on either side.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use cupbearer_testing::{
    CREDENTIALS, Chrome, Config, Message, Origin, Program, Proxy, Reply, Stage, chromium, eventually,
    free_address, hear, node, python, repository, token_at, told, upstream_at,
};

const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

/// What servers of development are given by the recipe, and what they may be left with.
const HOSTS: [&str; 2] = ["host = \"client\"\nforwarded = \"x_forwarded\"\n", ""];

/// The recipe: `/` leads to a server of development without a token, `/api` to an API with one.
async fn recipe(dev: &str, keys: &str, api: &str) -> (Origin, Proxy) {
    let server = Origin::issuing(300).await;
    let config = format!(
        "{}{}[upstreams.dev]\nurl = \"{dev}\"\n{keys}\
         [[routes]]\npath = \"/api\"\nstrip_prefix = true\nupstream = \"api\"\ntoken = \"api\"\nrewrite_cookies = true\n\
         [[routes]]\npath = \"/\"\nupstream = \"dev\"\ntoken = \"none\"\n",
        upstream_at(api),
        token_at(&server.url()),
    );
    (server, Proxy::start(Config::new(config)).await)
}

/// The proxy's address as a person types it.
fn address(proxy: &Proxy, path: &str) -> String {
    format!("http://localhost:{}{path}", proxy.listen().port())
}

/// A page with nothing but this in it.
fn page(body: &str) -> Reply {
    Reply::new(200, &[HTML], format!("<!doctype html><link rel=\"icon\" href=\"data:,\"><body>{body}</body>"))
}

/// An API that takes requests with the token alone.
fn guarded(request: &Message) -> Reply {
    if !request.field("authorization").is_some_and(|value| value.starts_with("Bearer token-")) {
        return Reply::new(401, &[], "no token");
    }
    Reply::json(200, &json!({ "took": request.method() }).to_string())
}

/// An expression's value in a page.
async fn value(chrome: &mut Chrome, page: &str, script: &str) -> Value {
    chrome.order(json!({ "do": "run", "page": page, "script": script })).await["value"].clone()
}

#[tokio::test]
async fn an_applications_own_login_comes_back_from_another_site() {
    let login = Origin::start(|request, _| {
        let target = request.target();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let back = query.trim_start_matches("back=");
        match path {
            "/authorize" => page(&format!("<form method=\"post\" action=\"/login?{query}\"><button>log in</button></form>")),
            "/login" => Reply::new(303, &[("location", &format!("{back}?code=abc"))], ""),
            // OAuth 2.0 Form Post Response Mode.
            "/form-post" => page(&format!(
                "<form method=\"post\" action=\"{back}\"><input name=\"code\" value=\"abc\"></form><script>document.forms[0].submit()</script>"
            )),
            _ => Reply::new(404, &[], ""),
        }
    })
    .await;
    let dev = Origin::start(|request, _| {
        let target = request.target();
        if !target.starts_with("/callback") {
            return page("home");
        }
        let done = target.contains("code=abc") || request.text().contains("code=abc");
        let script = "fetch('/api/orders', { method: 'POST', body: '{}' }).then((seen) => { window.seen = seen.status; })";
        let body = format!("<!doctype html><p>{}</p><script>{script}</script>", if done { "welcome back" } else { "lost" });
        Reply::new(200, &[HTML, ("set-cookie", "session=1; Path=/; SameSite=Lax; HttpOnly")], body)
    })
    .await;
    let api = Origin::start(|request, _| guarded(request)).await;
    let (_server, proxy) = recipe(&dev.url(), HOSTS[0], &api.url()).await;
    let mut chrome = Chrome::start().await;
    let back = address(&proxy, "/callback");
    chrome.open("app", &address(&proxy, "/")).await;
    chrome.goto("app", &format!("{}/authorize?back={back}", login.url())).await;
    chrome.click("app", "button").await;
    assert_eq!(chrome.until("app", "window.seen").await["value"], 200, "{}", proxy.log());
    assert!(chrome.text("app").await.contains("welcome back"));
    chrome.goto("app", &address(&proxy, "/")).await;
    assert_eq!(dev.seen().last().unwrap().field("cookie").as_deref(), Some("session=1"));
    chrome.open("posted", &format!("{}/form-post?back={back}", login.url())).await;
    assert_eq!(chrome.until("posted", "window.seen").await["value"], 200, "{}", proxy.log());
    assert!(chrome.text("posted").await.contains("welcome back"));
}

#[tokio::test]
async fn a_form_whose_server_compares_origin_with_its_host_is_taken() {
    let api = Origin::ok().await;
    let x_forwarded = "forwarded = \"x_forwarded\"\n";
    for (keys, reads_forwarded) in
        [(HOSTS[0], false), (HOSTS[0], true), (HOSTS[1], false), (x_forwarded, true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut command = python("frontends/django_app.py");
        command.env("FORWARDED", reads_forwarded.to_string());
        let mut django = Program::spawn("django", command, dir.path());
        let port = hear(&mut django, "ready", |event| event["event"] == "ready").await["port"].clone();
        let (_server, proxy) = recipe(&format!("http://127.0.0.1:{port}"), keys, &api.url()).await;
        let mut chrome = Chrome::start().await;
        chrome.open("form", &address(&proxy, "/form")).await;
        chrome.click("form", "button").await;
        chrome.until("form", "!document.querySelector('form')").await;
        let text = chrome.text("form").await;
        assert_eq!(text, "taken: tea", "{keys:?} {reads_forwarded}\n{}", django.log());
    }
}

/// What a page learns of a WebSocket at a path of its own origin.
fn echo_at(path: &str) -> String {
    format!(
        "new Promise((resolve) => {{
            const socket = new WebSocket(`ws://${{location.host}}{path}`);
            socket.onopen = () => socket.send('größer ☺');
            socket.onmessage = ({{ data }}) => resolve(data);
            socket.onerror = () => resolve('refused');
        }})"
    )
}

#[tokio::test]
async fn a_websocket_whose_server_compares_origin_with_host_opens_with_and_without_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let mut tornado = Program::spawn("tornado", python("frontends/tornado_app.py"), dir.path());
    let ready = hear(&mut tornado, "ready", |event| event["event"] == "ready").await;
    let url = format!("http://127.0.0.1:{}", ready["port"]);
    for keys in HOSTS {
        // It is the server of development and, at its own Host, the API.
        let (_server, proxy) = recipe(&url, keys, &url).await;
        let mut chrome = Chrome::start().await;
        chrome.open("app", &address(&proxy, "/")).await;
        for (path, credentials) in [("/ws", Value::Null), ("/api/ws", json!(CREDENTIALS))] {
            assert_eq!(
                value(&mut chrome, "app", &echo_at(path)).await,
                "größer ☺",
                "{path} {keys:?}\n{}",
                tornado.log()
            );
            assert_eq!(told(&tornado).last().unwrap()["authorization"], credentials, "{path}");
        }
    }
}

#[tokio::test]
async fn socket_io_goes_from_polling_to_a_websocket_with_and_without_a_token() {
    for (prefix, credentials) in [("", Value::Null), ("/api", json!(CREDENTIALS))] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = node("frontends/socketio.mjs", Some("socket.io"));
        command.env("PREFIX", prefix);
        let mut server = Program::spawn("socketio", command, dir.path());
        let ready = hear(&mut server, "ready", |event| event["event"] == "ready").await;
        let url = format!("http://127.0.0.1:{}", ready["port"]);
        let (_server, proxy) = recipe(&url, HOSTS[0], &url).await;
        let mut chrome = Chrome::start().await;
        chrome.open("app", &address(&proxy, "/")).await;
        let seen = chrome.until("app", "window.seen").await["value"].clone();
        assert_eq!(seen, json!({ "transport": "websocket", "echo": "größer ☺" }));
        let connected = hear(&mut server, "connected", |event| event["event"] == "connected").await;
        assert_eq!(connected["authorization"], credentials, "{prefix}");
    }
}

/// What Angular, axios and others do: the page reads a cookie of the API's, and sends it back as a field.
#[tokio::test]
async fn a_page_reads_the_xsrf_cookie_of_an_api_behind_a_prefix() {
    let dev = Origin::start(|_, _| page("home")).await;
    let api = Origin::start(|request, _| {
        if request.target() == "/v1/session" {
            let cookies = [
                ("set-cookie", "XSRF-TOKEN=made-up; Path=/; Secure; SameSite=None"),
                ("set-cookie", "session=1; Path=/v1; HttpOnly; Domain=127.0.0.1"),
            ];
            return Reply::new(200, &cookies, "");
        }
        let cookie = request.field("cookie").unwrap_or_default();
        let is_good = request.field("x-xsrf-token").as_deref() == Some("made-up")
            && cookie.contains("session=1")
            && cookie.contains("XSRF-TOKEN=made-up");
        if is_good { guarded(request) } else { Reply::new(403, &[], cookie) }
    })
    .await;
    let (_server, proxy) = recipe(&dev.url(), HOSTS[0], &(api.url() + "/v1")).await;
    let mut chrome = Chrome::start().await;
    chrome.open("app", &address(&proxy, "/")).await;
    let script = "(async () => {
        await fetch('/api/session');
        const token = /XSRF-TOKEN=([^;]+)/.exec(document.cookie)?.[1];
        const post = (at) => fetch(at, { method: 'POST', body: '{}', headers: { 'X-XSRF-TOKEN': token } });
        return { token, cookie: document.cookie, at: [(await post('/api')).status, (await post('/api/orders')).status] };
    })()";
    let seen = value(&mut chrome, "app", script).await;
    assert_eq!(seen, json!({ "token": "made-up", "cookie": "XSRF-TOKEN=made-up", "at": [200, 200] }));
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_sends_cookies_where_the_guard_allows_credentials() {
    let app = Origin::start(|_, _| page("<script>document.cookie = 'session=1'</script>")).await;
    let origin = app.url().replace("127.0.0.1", "localhost");
    for allowed in [true, false] {
        let api = Origin::start(|request, _| {
            Reply::new(200, &[("x-total", "7")], request.field("cookie").unwrap_or_default())
        })
        .await;
        let guard = format!("[guard]\nallowed_origins = [\"{origin}\"]\nallow_credentials = {allowed}\n");
        let stage = Stage::with(api, "", &guard).await;
        let mut chrome = Chrome::start().await;
        chrome.open("app", &origin).await;
        let at = address(&stage.proxy, "");
        let script = format!(
            "(async () => {{
                const told = {{}};
                const headers = {{ 'content-type': 'application/json' }};
                told.fetch = await fetch('{at}/fetch', {{ credentials: 'include', method: 'PUT', headers, body: '{{}}' }})
                    .then(async (seen) => [await seen.text(), seen.headers.get('x-total')], (error) => error.name);
                told.xhr = await new Promise((resolve) => {{
                    const request = new XMLHttpRequest();
                    request.open('GET', '{at}/xhr');
                    request.withCredentials = true;
                    request.onload = () => resolve(request.responseText);
                    request.onerror = () => resolve('failed');
                    request.send();
                }});
                navigator.sendBeacon('{at}/beacon', new Blob(['{{}}'], {{ type: 'application/json' }}));
                return told;
            }})()"
        );
        let seen = value(&mut chrome, "app", &script).await;
        let want = if allowed {
            json!({ "fetch": ["session=1", "7"], "xhr": "session=1" })
        } else {
            json!({ "fetch": "TypeError", "xhr": "failed" })
        };
        assert_eq!(seen, want);
        // What is sent behind the beacon came behind it.
        value(&mut chrome, "app", &format!("fetch('{at}/last').then(() => true)")).await;
        if allowed {
            eventually("the beacon arrives", || async {
                stage
                    .api
                    .seen()
                    .iter()
                    .any(|request| request.target() == "/beacon" && request.method() == "POST")
            })
            .await;
        } else {
            assert!(
                stage.api.seen().iter().all(|request| request.target() != "/beacon"),
                "{:?}",
                stage.api.seen()
            );
        }
    }
}

/// Browsers send no Origin with those: they are refused with what to do about it, and what has `crossorigin` is not.
#[tokio::test]
async fn elements_of_an_allowed_origin_need_crossorigin_or_fetch() {
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"/>";
    let stage_api =
        Origin::start(move |_, _| Reply::new(200, &[("content-type", "image/svg+xml")], svg)).await;
    let app = Origin::start(|request, _| {
        let query = request.target();
        let at = query.split_once("?at=").map(|(_, at)| at.to_owned()).unwrap_or_default();
        page(&format!(
            "<img id=\"plain\" src=\"{at}/plain\"><img id=\"marked\" crossorigin src=\"{at}/marked\"><iframe src=\"{at}/frame\"></iframe>
             <a id=\"download\" download href=\"{at}/download\">download</a>
             <form action=\"{at}/form\"><input name=\"q\" value=\"1\"><button>search</button></form>"
        ))
    })
    .await;
    let origin = app.url().replace("127.0.0.1", "localhost");
    let stage = Stage::with(stage_api, "", &format!("[guard]\nallowed_origins = [\"{origin}\"]\n")).await;
    let at = address(&stage.proxy, "");
    let home = format!("{origin}/?at={at}");
    let mut chrome = Chrome::start().await;
    chrome.open("app", &home).await;
    let widths = "[...document.images].map((image) => image.complete && image.naturalWidth)";
    assert_eq!(value(&mut chrome, "app", widths).await, json!([0, 9]), "{}", stage.proxy.log());
    let blob = format!("fetch('{at}/fetched').then((seen) => seen.blob()).then((blob) => blob.type)");
    assert_eq!(value(&mut chrome, "app", &blob).await, "image/svg+xml");
    for element in ["#download", "button"] {
        chrome.goto("app", &home).await;
        chrome.click("app", element).await;
        chrome.until("app", "document.body.innerText.includes('origin_refused')").await;
        let text = chrome.text("app").await;
        for words in ["by fetch()", "a route that adds none of these"] {
            assert!(text.contains(words), "{element}: {text}");
        }
    }
    let log = stage.proxy.log();
    let refusal = |reason: &str| {
        log.lines().any(|line| line.contains("the guard refused a request") && line.contains(reason))
    };
    assert!(refusal("fetch_site") && log.contains("crossorigin"), "{log}");
    assert!(refusal("navigation"), "{log}");
    let mut reached: Vec<_> = stage.api.seen().iter().map(Message::target).collect();
    // The page of a refusal is the proxy's own, and its icon with it.
    reached.retain(|target| target != "/favicon.ico");
    reached.sort();
    reached.dedup();
    assert_eq!(reached, ["/fetched", "/marked"]);
}

#[tokio::test]
async fn a_browser_extension_uses_the_proxy_where_its_origin_is_listed() {
    let home = tempfile::tempdir().unwrap();
    let mut command = node("browser/extension.mjs", Some("playwright-core"));
    command.env("CHROMIUM", chromium()).env("HOME", home.path()).env("TMPDIR", home.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut orders = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async move |order: Option<Value>| {
        if let Some(order) = order {
            orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        }
        let line = answers.next_line().await.unwrap().expect("the browser has ended");
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let origin = next(None).await["origin"].as_str().unwrap().to_owned();
    assert!(origin.starts_with("chrome-extension://"), "{origin}");
    let listed =
        Stage::with(Origin::ok().await, "", &format!("[guard]\nallowed_origins = [\"{origin}\"]\n")).await;
    let unlisted = Stage::plain().await;
    for method in ["GET", "POST"] {
        let seen = next(Some(json!({ "url": address(&listed.proxy, "/x"), "method": method }))).await;
        assert_eq!(seen, json!({ "status": 200, "text": "ok" }), "{method}");
        let seen = next(Some(json!({ "url": address(&unlisted.proxy, "/x"), "method": method }))).await;
        assert_eq!(seen["status"], 403, "{method}: {seen}");
        let text = seen["text"].as_str().unwrap();
        let words = if method == "GET" { "one of its extensions" } else { &origin };
        assert!(text.contains(words) && text.contains("guard.allowed_origins"), "{text}");
    }
    assert_eq!(listed.api.seen().len(), 2);
    assert!(unlisted.api.seen().is_empty());
}

/// Vite's development server for a copy of the application, which a test may change.
struct Vite {
    _program: Program,
    dir: tempfile::TempDir,
}

impl Vite {
    async fn start(port: u16, environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in ["index.html", "main.js", "word.js", "icon.svg"] {
            let from = repository().join("tests/peers/frontends/app").join(file);
            std::fs::copy(from, dir.path().join(file)).unwrap();
        }
        let mut command = node("frontends/vite.mjs", Some("vite"));
        command.env("ROOT", dir.path()).env("PORT", port.to_string()).env("HOME", dir.path());
        command.envs(environment.iter().copied());
        let mut program = Program::spawn("vite", command, dir.path());
        hear(&mut program, "ready", |event| event["event"] == "ready").await;
        Self { _program: program, dir }
    }

    fn word(&self, word: &str) {
        let file: &Path = &self.dir.path().join("word.js");
        std::fs::write(file, format!("export const word = '{word}';\n")).unwrap();
    }

    /// Changes a module until the page shows one of the changes. The page is not loaded again.
    async fn assert_hot(&self, chrome: &mut Chrome) {
        value(chrome, "app", "window.mark = 1").await;
        let before = value(chrome, "app", WORD).await;
        for round in 0..200 {
            self.word(&format!("word {round}"));
            tokio::time::sleep(Duration::from_millis(200)).await;
            if value(chrome, "app", WORD).await != before {
                assert_eq!(value(chrome, "app", "window.mark").await, 1);
                return;
            }
        }
        panic!("the page never shows what changed: {}", chrome.text("app").await);
    }
}

/// What the page shows of the module that changes.
const WORD: &str = "document.querySelector('#word')?.textContent";

/// An API by HTTP, another by WebSocket, and the routes to them.
async fn apis(dir: &Path) -> (Program, Origin, Origin, String) {
    let mut sockets = Program::spawn("websockets", python("websocket/echo.py"), dir);
    let ready = hear(&mut sockets, "ready", |event| event["event"] == "ready").await;
    let api = Origin::start(|request, _| guarded(request)).await;
    let server = Origin::issuing(300).await;
    let config = format!(
        "{}[upstreams.sockets]\nurl = \"http://127.0.0.1:{}\"\n{}\
         [[routes]]\npath = \"/api\"\nstrip_prefix = true\nupstream = \"api\"\ntoken = \"api\"\n\
         [[routes]]\npath = \"/socket\"\nupstream = \"sockets\"\ntoken = \"api\"\n",
        upstream_at(&api.url()),
        ready["port"],
        token_at(&server.url()),
    );
    (sockets, api, server, config)
}

#[tokio::test]
async fn vites_development_server_sits_behind_the_proxy_with_hot_modules() {
    let dir = tempfile::tempdir().unwrap();
    let (_sockets, _api, _server, config) = apis(dir.path()).await;
    let port = free_address().port();
    let vite = Vite::start(port, &[]).await;
    for keys in HOSTS {
        let dev = format!(
            "[upstreams.dev]\nurl = \"http://127.0.0.1:{port}\"\n{keys}[[routes]]\nupstream = \"dev\"\ntoken = \"none\"\n"
        );
        let proxy = Proxy::start(Config::new(config.clone() + &dev)).await;
        let mut chrome = Chrome::start().await;
        chrome.open("app", &address(&proxy, "/")).await;
        let seen = value(&mut chrome, "app", "window.use()").await;
        assert_eq!(
            seen,
            json!({ "status": 200, "text": "{\"took\":\"POST\"}", "echo": "hello", "icon": 16 })
        );
        vite.assert_hot(&mut chrome).await;
    }
}

#[tokio::test]
async fn vites_own_proxy_leads_to_this_one_where_it_keeps_the_host_or_its_origin_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (_sockets, _api, _server, config) = apis(dir.path()).await;
    for (change_origin, is_listed) in [("false", false), ("true", true), ("true", false)] {
        let port = free_address().port();
        let guard = format!("[guard]\nallowed_origins = [\"http://localhost:{port}\"]\n");
        let config = config.clone() + if is_listed { &guard } else { "" };
        let proxy = Proxy::start(Config::new(config)).await;
        let vite =
            Vite::start(port, &[("API", &address(&proxy, "")), ("CHANGE_ORIGIN", change_origin)]).await;
        let mut chrome = Chrome::start().await;
        chrome.open("app", &format!("http://localhost:{port}/")).await;
        let seen = value(&mut chrome, "app", "window.use()").await;
        if is_listed || change_origin == "false" {
            assert_eq!(
                seen,
                json!({ "status": 200, "text": "{\"took\":\"POST\"}", "echo": "hello", "icon": 16 })
            );
        } else {
            assert_eq!((&seen["status"], &seen["echo"]), (&json!(403), &json!("refused")), "{seen}");
            let text = seen["text"].as_str().unwrap();
            assert!(text.contains(&format!("http://localhost:{port} sent this request")), "{text}");
        }
        vite.assert_hot(&mut chrome).await;
    }
}
