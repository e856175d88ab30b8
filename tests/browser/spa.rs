//! Single-page apps in Debian's Chromium: on an origin of their own, and behind the proxy beside their development server.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use cupbearer_testing::{
    Chrome, Config, OidcProvider, Origin, Program, Proxy, Reply, SECRET, hear, node, repository, upstream_at,
};

/// An API that says which token it saw, as a hash, and refuses a request without one.
async fn api() -> Origin {
    Origin::start(|request, _| {
        let json = [("content-type", "application/json")];
        match request.field("authorization").filter(|value| value.starts_with("Bearer ")) {
            Some(token) => {
                let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
                Reply::new(200, &json, json!({ "token": hash }).to_string())
            }
            None => Reply::new(401, &json, "{}"),
        }
    })
    .await
}

fn token(server: &OidcProvider) -> String {
    format!(
        "[tokens.api]\nissuer = \"{}\"\nclient_id = \"orders\"\nclient_secret = \"{SECRET}\"\nscope = \"api:read\"\n",
        server.issuer()
    )
}

#[tokio::test]
async fn an_app_on_its_own_origin_calls_the_api_across_renewals() {
    let server = OidcProvider::start(3).await;
    let api = api().await;
    let html = std::fs::read_to_string(repository().join("tests/peers/spa/index.html")).unwrap();
    assert!(html.lines().count() <= 34, "an app of 30 lines");
    let page =
        Origin::start(move |_, _| Reply::new(200, &[("content-type", "text/html")], html.clone())).await;
    let app = page.url().replace("127.0.0.1", "localhost");
    let config = Config::new(format!(
        "{}{}[guard]\nallowed_origins = [\"{app}\"]\n[[routes]]\npath = \"/api\"\nstrip_prefix = true\n\
         upstream = \"api\"\ntoken = \"api\"\n",
        upstream_at(&api.url()),
        token(&server)
    ));
    let proxy = Proxy::start(config).await;
    let mut chrome = Chrome::start().await;
    let at = format!("{app}/?api=http://localhost:{}/api", proxy.listen().port());
    chrome.open("app", &at).await;
    chrome.until("app", "seen.tokens.length >= 3 || seen.failures.length > 0").await;
    let seen = chrome.order(json!({ "do": "run", "page": "app", "script": "seen" })).await["value"].clone();
    assert_eq!(seen["failures"], json!([]), "{seen}");
    assert!(seen["calls"].as_u64().unwrap() >= 10, "{seen}");
}

/// What the page of the development server does: talks to it over a WebSocket of its own origin, and to the API.
const DEV_PAGE: &str = "<!doctype html><title>dev</title><script type=\"module\">
    const told = {};
    const socket = new WebSocket(`ws://${location.host}/hmr`);
    told.socket = await new Promise((resolve) => {
        socket.onopen = () => socket.send('hello');
        socket.onmessage = ({ data }) => resolve(data);
        socket.onerror = () => resolve('refused');
    });
    const answer = await fetch('/api/orders', { method: 'POST', body: '{}' });
    told.api = [answer.status, Boolean((await answer.json()).token)];
    told.redirected = await fetch('/api/old').then((moved) => [moved.status, new URL(moved.url).pathname, moved.redirected]);
    told.cookie = document.cookie;
    window.told = told;
</script>";

#[tokio::test]
async fn app_and_api_share_one_origin_with_a_development_server_that_never_sees_a_token() {
    let server = OidcProvider::start(60).await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let heads = Arc::clone(&seen);
    let dev = Origin::start(move |request, _| {
        heads.lock().unwrap().extend(request.field("authorization"));
        Reply::new(200, &[("content-type", "text/html")], DEV_PAGE)
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let mut sockets = Program::spawn("hmr", node("spa/hmr.mjs", None), dir.path());
    let hmr = hear(&mut sockets, "ready", |event| event["event"] == "ready").await["port"].clone();
    // It redirects to itself under its own name, and sets a cookie for its own place, as applications do.
    let api = Origin::start(|request, _| {
        let json = "application/json";
        if request.target().ends_with("/old") {
            let moved = format!("http://{}/v1/new", request.field("host").unwrap());
            let cookie = "session=1; Domain=127.0.0.1; Path=/v1; Secure; SameSite=None";
            return Reply::new(302, &[("location", &moved), ("set-cookie", cookie)], "");
        }
        let good = request.field("authorization").is_some_and(|value| value.starts_with("Bearer "));
        Reply::new(if good { 200 } else { 401 }, &[("content-type", json)], "{\"token\":true}")
    })
    .await;
    let config = Config::new(format!(
        "[upstreams.api]\nurl = \"{}/v1\"\n[upstreams.dev]\nurl = \"{}\"\n[upstreams.hmr]\nurl = \"http://127.0.0.1:{hmr}\"\n{}\
         [[routes]]\npath = \"/api\"\nstrip_prefix = true\nupstream = \"api\"\ntoken = \"api\"\n\
         rewrite_cookies = true\n\
         [[routes]]\npath = \"/hmr\"\nupstream = \"hmr\"\ntoken = \"none\"\n\
         [[routes]]\nupstream = \"dev\"\ntoken = \"none\"\n",
        api.url(),
        dev.url(),
        token(&server),
    ));
    let proxy = Proxy::start(config).await;
    let mut chrome = Chrome::start().await;
    chrome.open("app", &format!("http://localhost:{}/", proxy.listen().port())).await;
    chrome.until("app", "window.told").await;
    let told = chrome.order(json!({ "do": "run", "page": "app", "script": "told" })).await["value"].clone();
    assert_eq!(told["socket"], "hello", "{told}");
    assert_eq!(told["api"], json!([200, true]), "{told}");
    assert_eq!(told["redirected"], json!([200, "/api/new", true]), "{told}");
    let cookies = chrome.order(json!({ "do": "cookies", "page": "app" })).await["cookies"].clone();
    let session: Vec<&Value> =
        cookies.as_array().unwrap().iter().filter(|cookie| cookie["name"] == "session").collect();
    assert!(
        session.len() == 1 && session[0]["domain"] == "localhost" && session[0]["path"] == "/api",
        "{cookies}"
    );
    assert!(seen.lock().unwrap().is_empty(), "the development server never sees a token");
}
