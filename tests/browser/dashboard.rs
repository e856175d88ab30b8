//! The dashboard in Debian's Chromium: what it shows, what its buttons do, how it renews in a hidden frame, and that no
//! other page gets through to it.

use serde_json::{Value, json};
use tempfile::TempDir;

use cupbearer_testing::{
    Chrome, Config, OidcProvider, Origin, Proxy, Reply, eventually, free_address, token_at, upstream_at,
};

/// A laptop with its dashboard open.
struct Desktop {
    server: OidcProvider,
    proxy: Proxy,
    chrome: Chrome,
    /// Where the browser comes back to after a login.
    callback: String,
    _store: TempDir,
}

const REFRESHED: &str = "client_id = \"laptop\"\nscope = \"openid profile email offline_access api:read\"\n";
const IN_BROWSER: &str = "client_id = \"page\"\nscope = \"openid profile api:read\"\nrenew_via = \"browser\"\n\
     audience = \"https://api.example.test/\"\n";

impl Desktop {
    async fn new(server: OidcProvider, lines: &str) -> Self {
        let store = tempfile::tempdir().unwrap();
        let callback = format!("http://{}/callback", free_address());
        let config = Config::new(format!(
            "{}[tokens.api]\nissuer = \"{}\"\ngrant = \"authorization_code\"\n\
             client_auth = \"none\"\nwait = \"20s\"\nredirect_uri = \"{callback}\"\n{lines}\n[[routes]]\nupstream = \"api\"\ntoken = \"api\"\n\
             [store]\nkind = \"file\"\npath = '{}'\n",
            upstream_at(&server.api_url()),
            server.issuer(),
            store.path().join("tokens").display(),
        ));
        let proxy = Proxy::start_live(config).await;
        // As a single-page app is registered: each address to the letter.
        server
            .register(json!({
                "client_id": "page", "token_endpoint_auth_method": "none", "application_type": "web",
                "redirect_uris": [callback, format!("{}silent", url(&proxy)), format!("{}silent", by_name(&proxy))],
                "response_types": ["code"],
                "grant_types": ["authorization_code"],
            }))
            .await;
        let mut chrome = Chrome::start().await;
        chrome.open("desk", &url(&proxy)).await;
        Self { server, proxy, chrome, callback, _store: store }
    }

    /// By the dashboard's button and the server's own pages.
    async fn log_in(&mut self, name: &str) {
        self.chrome.wait("desk", "button:text-is('Log in')").await;
        self.chrome.click("desk", "button:text-is('Log in')").await;
        self.chrome.log_in("desk-tab", &self.server.issuer(), name).await;
        self.chrome.until("desk-tab", "document.body.innerText.includes('You are logged in')").await;
        self.shows("valid").await;
    }

    /// Waits for a word on the token's badge.
    async fn shows(&mut self, word: &str) {
        let script = format!("document.querySelector('.badge').textContent.includes('{word}')");
        self.chrome.until("desk", &script).await;
    }

    async fn token(&self) -> Value {
        self.proxy.status().await["tokens"][0].clone()
    }

    /// What went wrong in the page: what its policy refused, and what its script threw.
    async fn wrong(&mut self) -> Vec<Value> {
        let looked = self.chrome.order(json!({ "do": "look", "page": "desk" })).await;
        let own = url(&self.proxy);
        let wrong = looked["wrong"].as_array().unwrap().iter();
        // What the frame's own pages complain of is the authorization server's.
        wrong.filter(|line| line.as_str().unwrap().contains(&own)).cloned().collect()
    }
}

/// Like [`eventually`], for what takes the life of a token and the time that a frame has.
async fn in_time<F: Future<Output = bool>>(what: &str, is: impl Fn() -> F) {
    let start = cupbearer_testing::clock::now();
    while !is().await {
        assert!(start.elapsed().as_secs() < 120, "still not so: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The same machine, and another site.
fn by_name(proxy: &Proxy) -> String {
    format!("http://localhost:{}/", proxy.control().port())
}

fn url(proxy: &Proxy) -> String {
    format!("http://{}/", proxy.control())
}

#[tokio::test]
async fn a_person_logs_in_watches_the_token_being_renewed_and_logs_out() {
    let mut desktop = Desktop::new(OidcProvider::with_api(6).await, REFRESHED).await;
    desktop.shows("login required").await;
    desktop.log_in("alice").await;
    let shown = desktop.chrome.text("desk").await;
    assert!(shown.contains("Alice <alice@example.test>") && shown.contains("api:read"), "{shown}");
    let listen = desktop.proxy.listen();
    assert!(shown.contains(&format!("curl -i http://{listen}/")), "{shown}");
    assert_eq!(desktop.proxy.accepted("/").await["claims"]["sub"], "alice");

    // The countdown moves, and a renewal is seen without anybody's doing.
    let count = "document.querySelector('.left span').textContent";
    let before =
        desktop.chrome.order(json!({ "do": "run", "page": "desk", "script": count })).await["value"].clone();
    desktop.chrome.until("desk", &format!("{count} !== {before}")).await;
    desktop.chrome.until("desk", "/[3-9] done/.test(document.querySelector('.card dl').textContent)").await;
    desktop.chrome.until("desk", "document.querySelector('#plots b').textContent !== '-'").await;
    assert_eq!(desktop.proxy.get("/").await.status, 200);
    let own = "/of that the proxy's own share: p50 [0-9.]+ m?s, p99/.test(document.querySelector('#plots').textContent)";
    desktop.chrome.until("desk", own).await;
    let status = desktop.proxy.command(&["status"]).await;
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("; the proxy's own share is p50 "), "{status}");

    // By the keyboard alone.
    let renewals = desktop.token().await["renewals"].as_u64().unwrap();
    let focus = "[...document.querySelectorAll('button')].find((b) => b.textContent === 'Renew now').focus()";
    desktop.chrome.order(json!({ "do": "run", "page": "desk", "script": focus })).await;
    desktop.chrome.order(json!({ "do": "press", "page": "desk", "text": "Enter" })).await;
    eventually("it is renewed", || async { desktop.token().await["renewals"].as_u64().unwrap() > renewals })
        .await;

    let token = desktop.proxy.command(&["token"]).await;
    let token = String::from_utf8(token.stdout).unwrap().trim().to_owned();
    let held = format!("document.documentElement.outerHTML.includes({})", json!(token));
    let held = desktop.chrome.order(json!({ "do": "run", "page": "desk", "script": held })).await;
    assert!(token.len() > 40 && held["value"] == false, "no token is anywhere in the page");

    desktop.chrome.click("desk", "button:text-is('Log out')").await;
    desktop.chrome.click("desk", "button:text-is('Log out, and give the token back')").await;
    desktop.shows("logged out").await;
    let shown = desktop.chrome.text("desk").await;
    assert!(shown.contains("gets 503 now (api: logged out)"), "{shown}");
    assert!(!shown.contains("Alice"), "who was logged in is not: {shown}");
    let red = "document.querySelectorAll('.card .bad').length";
    let red = desktop.chrome.order(json!({ "do": "run", "page": "desk", "script": red })).await;
    assert_eq!(red["value"], 0, "a logout that was wanted is no failure");
    desktop.chrome.wait("desk", "a:text-is('end that session, too')").await;
    assert!(desktop.server.requests_at("/token/revocation").await >= 1);
    desktop.proxy.get("/").await.assert_proxy_error(503);
    assert_eq!(desktop.wrong().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_login_without_a_refresh_token_is_marked_as_long_as_it_lasts() {
    let lines = "client_id = \"page\"\nscope = \"openid profile api:read\"\naudience = \"https://api.example.test/\"\n";
    let mut desktop = Desktop::new(OidcProvider::with_api(600).await, lines).await;
    desktop.shows("login required").await;
    desktop.log_in("alice").await;
    let advice = "this login ends when its access token expires, as the server gave no refresh token; add";
    let banner = "document.querySelector('.card .banner')";
    desktop
        .chrome
        .until("desk", &format!("!{banner}.hidden && {banner}.textContent.includes('{advice}')"))
        .await;
    // Waiting for a login sent no request, and what the login put into the store is no renewal.
    let timeline = "document.querySelector('.card ol').textContent";
    desktop.chrome.until("desk", &format!("{timeline}.includes('taken from the store')")).await;
    desktop
        .chrome
        .until(
            "desk",
            &format!("{timeline}.includes('no request was sent') && !{timeline}.includes('failed')"),
        )
        .await;
    let token = desktop.token().await;
    assert_eq!((&token["renewals"], &token["adoptions"]), (&json!(0), &json!(1)), "{token}");
    assert_eq!(desktop.wrong().await, Vec::<Value>::new());

    let Desktop { proxy, server: _server, _store, .. } = desktop;
    let proxy = proxy.stop().await.start().await;
    eventually("the token is there", || async { proxy.status().await["tokens"][0]["status"] == "valid" })
        .await;
    let shown = String::from_utf8(proxy.command(&["status"]).await.stdout).unwrap();
    assert!(shown.contains(&format!("api: help: {advice}")), "after a restart, too: {shown}");
}

#[tokio::test]
async fn a_hidden_frame_renews_three_times_until_the_session_ends_and_a_login_goes_on() {
    in_browser(OidcProvider::with_api(15).await, 4).await;
}

#[tokio::test]
async fn a_server_that_answers_by_message_is_listened_to() {
    in_browser(OidcProvider::with_messages(10).await, 3).await;
}

/// `renewals`: how many tokens to see, the login's included.
async fn in_browser(server: OidcProvider, renewals: u64) {
    let mut desktop = Desktop::new(server, IN_BROWSER).await;
    // Nobody is logged in at the server, and the frame finds that out.
    desktop.shows("login required").await;
    let shown = desktop.chrome.text("desk").await;
    assert!(shown.contains("login_required") && shown.contains("log in again"), "{shown}");
    desktop.log_in("alice").await;
    assert_eq!(desktop.proxy.accepted("/").await["claims"]["sub"], "alice");

    // A second tab, and a page that is loaded anew: still one renewal at a time.
    desktop.chrome.open_beside("desk", "second", &url(&desktop.proxy)).await;
    desktop.chrome.goto("desk", &url(&desktop.proxy)).await;
    let asked = desktop.server.requests_at("/auth").await;
    let token = desktop.token().await;
    let [before, failures] = ["renewals", "failures"].map(|name| token[name].as_u64().unwrap());
    let start = cupbearer_testing::clock::now();
    while desktop.token().await["renewals"].as_u64().unwrap() < before + renewals - 1 {
        let answer = desktop.proxy.get("/").await;
        let (token, text) = (desktop.token().await, answer.text());
        assert_eq!(
            answer.status,
            200,
            "{text}\n{token}\n{:?}\n{}",
            desktop.wrong().await,
            desktop.proxy.log()
        );
        assert!(start.elapsed().as_secs() < 120, "{}\n{}", desktop.token().await, desktop.proxy.log());
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let frames = desktop.server.requests_at("/auth").await - asked;
    assert!((renewals - 1..=renewals).contains(&frames), "{frames} frames for {} renewals", renewals - 1);
    assert_eq!(desktop.token().await["failures"], failures, "{}", desktop.token().await);
    desktop.chrome.order(json!({ "do": "close", "page": "second" })).await;

    desktop.server.end_sessions().await;
    desktop.shows("login required").await;
    let shown = desktop.chrome.text("desk").await;
    assert!(shown.contains("log in again"), "{shown}");
    desktop.log_in("bob").await;
    assert_eq!(desktop.proxy.accepted("/").await["claims"]["sub"], "bob");
    assert_eq!(desktop.wrong().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_browser_without_a_session_does_not_end_the_login_of_another() {
    let mut desktop = Desktop::new(OidcProvider::with_api(20).await, IN_BROWSER).await;
    desktop.shows("login required").await;
    desktop.log_in("alice").await;
    let before = desktop.token().await["renewals"].as_u64().unwrap();
    // The browser that logged in is closed, so that the other one is the first to hear the call.
    desktop.chrome.goto("desk", "about:blank").await;
    desktop.chrome.open("second", &url(&desktop.proxy)).await;
    desktop
        .chrome
        .until("second", "document.body.innerText.includes('this browser does not renew the token')")
        .await;
    let token = desktop.token().await;
    assert_eq!((&token["browser_wanted"], &token["renewals"]), (&json!(true), &json!(before)), "{token}");
    assert_ne!(token["last_error"]["cause"], "login_required", "{token}");
    // It comes back while the other one is open, and renews.
    desktop.chrome.goto("desk", &url(&desktop.proxy)).await;
    in_time("it is renewed", || async { desktop.token().await["renewals"].as_u64().unwrap() > before }).await;
    desktop.shows("valid").await;
    assert_eq!(desktop.proxy.accepted("/").await["claims"]["sub"], "alice");
}

#[tokio::test]
async fn a_browser_that_withholds_the_servers_cookies_is_told_so_and_not_to_log_in_again() {
    let mut desktop = Desktop::new(OidcProvider::with_api(15).await, IN_BROWSER).await;
    desktop.chrome.goto("desk", &by_name(&desktop.proxy)).await;
    desktop.shows("login required").await;
    desktop.log_in("alice").await;
    let cause = |token: &Value| token["last_error"]["cause"] == "cookies_withheld";
    in_time("the frame was refused", || async { cause(&desktop.token().await) }).await;
    desktop.chrome.until("desk", "document.body.innerText.includes('third-party cookies')").await;
    let shown = desktop.chrome.text("desk").await;
    for words in
        ["third-party cookies", "http://localhost:", "http://127.0.0.1:", "renew_via = \"refresh_token\""]
    {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    assert!(!shown.contains("Log in with the button below"), "{shown}");
}

#[tokio::test]
async fn a_frame_passes_through_another_origin_and_one_that_does_not_come_back_is_a_failure() {
    let server = OidcProvider::with_api(12).await;
    let (issuer, waits) = (server.issuer(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let (real, stays) = (issuer.clone(), std::sync::Arc::clone(&waits));
    let login_page = Origin::start(move |request, _| {
        if stays.load(std::sync::atomic::Ordering::Relaxed) && request.target().contains("prompt=none") {
            return Reply::new(200, &[("content-type", "text/html")], "<!doctype html>a page for a person");
        }
        let location = format!("{real}{}", request.target());
        Reply::new(302, &[("location", location.as_str())], "")
    })
    .await;
    server
        .set(json!({ "metadata": { "authorization_endpoint": format!("{}/auth", login_page.url()) } }))
        .await;
    let mut desktop = Desktop::new(server, IN_BROWSER).await;
    desktop.shows("login required").await;
    desktop.log_in("alice").await;
    let renewals = desktop.token().await["renewals"].as_u64().unwrap();
    in_time("a frame renews it", || async { desktop.token().await["renewals"].as_u64().unwrap() > renewals })
        .await;
    assert_eq!(desktop.wrong().await, Vec::<Value>::new(), "the policy lets the frame pass");

    waits.store(true, std::sync::atomic::Ordering::Relaxed);
    let lost = |token: &Value| token["last_error"]["cause"] == "frame_lost";
    in_time("the frame is given up", || async { lost(&desktop.token().await) }).await;
    let error = desktop.token().await["last_error"].clone();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&login_page.url()) && message.contains("did not come back"), "{error}");
    waits.store(false, std::sync::atomic::Ordering::Relaxed);
    let renewals = desktop.token().await["renewals"].as_u64().unwrap();
    in_time("it goes on", || async { desktop.token().await["renewals"].as_u64().unwrap() > renewals }).await;
}

#[tokio::test]
async fn a_frame_that_comes_back_as_somebody_else_renews_nothing() {
    let mut desktop = Desktop::new(OidcProvider::with_api(20).await, IN_BROWSER).await;
    desktop.shows("login required").await;
    desktop.log_in("alice").await;
    // Another tab of the same browser logs in at the server as another user, while no dashboard is open.
    desktop.chrome.goto("desk", "about:blank").await;
    let issuer = desktop.server.issuer();
    let elsewhere = format!(
        "{issuer}/auth?response_type=code&client_id=page&redirect_uri={}&scope=openid+profile+api%3Aread&prompt=login\
         &code_challenge=AYiKMXLE_8OjTCPk0veawYPjT5r6o4P2CYT7QXmWL0g&code_challenge_method=S256",
        desktop.callback
    );
    desktop.chrome.open_beside("desk", "other", &elsewhere).await;
    desktop.chrome.log_in("other", &issuer, "bob").await;
    desktop.chrome.goto("desk", &url(&desktop.proxy)).await;
    desktop.shows("not renewed").await;
    let shown = desktop.chrome.text("desk").await;
    assert!(shown.contains("as another user, Bob") && shown.contains("Alice"), "{shown}");
    assert_eq!(
        desktop.proxy.accepted("/").await["claims"]["sub"],
        "alice",
        "what is held is used while it is good"
    );
}

#[tokio::test]
async fn the_page_fits_a_phone_and_says_when_the_proxy_is_gone() {
    let server = Origin::issuing(300).await;
    let config = Config::one_route(&upstream_at(&server.url()), &token_at(&server.url()));
    let proxy = Proxy::start(config).await;
    let mut chrome = Chrome::start_with(&[("WIDTH", "360")]).await;
    chrome.open("desk", &url(&proxy)).await;
    chrome.until("desk", "document.querySelector('.badge')?.textContent.includes('valid')").await;
    let wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    assert_eq!(chrome.order(json!({ "do": "run", "page": "desk", "script": wide })).await["value"], false);
    // The button is reached by the Tab key, and shows it.
    let reached = "document.activeElement.textContent === 'Renew now' && document.activeElement.matches(':focus-visible')";
    for presses in 0.. {
        assert!(presses < 12, "the button is not reached");
        chrome.order(json!({ "do": "press", "page": "desk", "text": "Tab" })).await;
        if chrome.order(json!({ "do": "run", "page": "desk", "script": reached })).await["value"] == true {
            break;
        }
    }
    let stopped = proxy.stop().await;
    chrome.wait("desk", "#lost:visible").await;
    let proxy = stopped.start().await;
    chrome.until("desk", "document.getElementById('lost').hidden").await;
    // The page of before the restart has been loaded anew, or its button would be refused.
    let renewals = proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap();
    chrome.until("desk", "document.querySelector('.badge')?.textContent.includes('valid')").await;
    chrome.click("desk", "button:text-is('Renew now')").await;
    eventually("it is renewed", || async {
        proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap() > renewals
    })
    .await;
}

/// What a page of another origin tries; each returns what it got.
const ATTEMPTS: &str = "(async () => {
    const at = `http://127.0.0.1:${PORT}`;
    const tried = async (work) => { try { return await work(); } catch (error) { return 'refused'; } };
    const loads = (node, set) => new Promise((resolve) => {
        node.onload = () => resolve('loaded');
        node.onerror = () => resolve('refused');
        set(node);
        document.body.append(node);
    });
    const result = {};
    result.read = await tried(async () => (await fetch(`${at}/status`)).text());
    result.opaque = await tried(async () => (await (await fetch(`${at}/status`, { mode: 'no-cors' })).text()) || 'refused');
    result.post = await tried(async () => (await fetch(`${at}/tokens/api/renew`, { method: 'POST', headers: { 'cupbearer-control': '1' } })).text());
    result.simple = await tried(async () => (await (await fetch(`${at}/tokens/api/logout`, { method: 'POST', mode: 'no-cors', body: 'x' })).text()) || 'refused');
    result.image = await loads(new Image(), (image) => { image.src = `${at}/`; });
    result.script = await loads(document.createElement('script'), (script) => { script.src = `${at}/`; });
    result.socket = await new Promise((resolve) => {
        const socket = new WebSocket(`ws://127.0.0.1:${PORT}/events`);
        socket.onopen = () => resolve('open');
        socket.onerror = () => resolve('refused');
    });
    result.events = await new Promise((resolve) => {
        const source = new EventSource(`${at}/events`);
        source.onopen = () => resolve('open');
        source.onerror = () => { source.close(); resolve('refused'); };
    });
    const form = document.createElement('form');
    Object.assign(form, { method: 'POST', action: `${at}/tokens/api/logout`, target: 'sink' });
    const frame = document.createElement('iframe');
    frame.name = 'sink';
    document.body.append(frame, form);
    await new Promise((resolve) => { frame.onload = resolve; form.submit(); });
    const page = document.createElement('iframe');
    page.src = `${at}/`;
    document.body.append(page);
    await new Promise((resolve) => { page.onload = resolve; });
    result.framed = await tried(async () => page.contentDocument?.body?.innerText ?? 'refused');
    return result;
})()";

#[tokio::test]
async fn no_page_of_another_origin_gets_through_and_each_attempt_is_counted() {
    let server = Origin::issuing(300).await;
    let config = Config::one_route(&upstream_at(&server.url()), &token_at(&server.url()));
    let proxy = Proxy::start(config).await;
    let page = Origin::start(|_, _| {
        Reply::new(200, &[("content-type", "text/html")], "<!doctype html><title>a page</title><body></body>")
    })
    .await;
    let port = proxy.control().port();
    let mut chrome = Chrome::start_with(&[("RULES", "MAP *.test 127.0.0.1")]).await;
    let beside = page.url();
    let foreign = beside.replace("127.0.0.1", "evil.test");
    for (name, at) in [("same-site", beside.as_str()), ("cross-site", foreign.as_str())] {
        let before = proxy.metric("cupbearer_guard_rejections_total", &[]).await;
        chrome.open(name, at).await;
        let script = ATTEMPTS.replace("${PORT}", &port.to_string());
        let told = chrome.order(json!({ "do": "run", "page": name, "script": script })).await;
        for (attempt, outcome) in told["value"].as_object().unwrap() {
            assert_eq!(outcome, "refused", "{name} {attempt}");
        }
        // Preflights and the answers to them are one each; the rest is one attempt, one refusal.
        let counted = proxy.metric("cupbearer_guard_rejections_total", &[]).await - before;
        assert!(counted >= 9.0, "{name}: {counted} were counted");
    }
    // A name of the attacker's that leads here by now.
    let before = proxy.metric("cupbearer_guard_rejections_total", &["reason=\"host\""]).await;
    chrome.open("rebound", &format!("http://evil.test:{port}/")).await;
    let shown = chrome.text("rebound").await;
    assert!(shown.contains("Not our Host"), "{shown}");
    assert!(proxy.metric("cupbearer_guard_rejections_total", &["reason=\"host\""]).await > before);
    let token = &proxy.status().await["tokens"][0];
    assert_eq!((&token["status"], &token["renewals"]), (&json!("valid"), &json!(1)), "nothing was pressed");
}

#[tokio::test]
async fn another_device_logs_in_by_the_code_that_the_page_shows() {
    let mut desktop = Desktop::new(OidcProvider::with_api(60).await, REFRESHED).await;
    desktop.shows("login required").await;
    desktop.chrome.click("desk", "button:text-is('Log in on another device')").await;
    desktop.chrome.wait("desk", ".code").await;
    let code = "document.querySelector('.code').textContent";
    let code =
        desktop.chrome.order(json!({ "do": "run", "page": "desk", "script": code })).await["value"].clone();
    let issuer = desktop.server.issuer();
    desktop.chrome.open("phone", &format!("{issuer}/device?user_code={}", code.as_str().unwrap())).await;
    desktop.chrome.click("phone", "button[type=submit]").await;
    desktop.chrome.log_in("phone", &issuer, "alice").await;
    desktop.shows("valid").await;
    assert_eq!(desktop.proxy.accepted("/").await["claims"]["sub"], "alice");
    assert_eq!(desktop.wrong().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_token_store_that_cannot_be_written_is_a_banner_with_the_cause_until_it_can() {
    let (dir, api, server) = (tempfile::tempdir().unwrap(), Origin::ok().await, Origin::issuing(2).await);
    let store = format!("[store]\nkind = \"file\"\npath = '{}'\n", dir.path().join("store").display());
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url())).and(&store);
    let proxy = Proxy::start(config).await;
    let mut chrome = Chrome::start().await;
    chrome.open("desk", &url(&proxy)).await;
    chrome.until("desk", "document.querySelector('.badge')?.textContent.includes('valid')").await;
    let banner = "document.getElementById('store-degraded')";
    chrome.until("desk", &format!("!{banner}.checkVisibility()")).await;
    let blocked = dir.path().join("store/api.tmp");
    eventually("the store is blocked", || async { std::fs::create_dir_all(blocked.join("full")).is_ok() })
        .await;
    let cause = format!("{banner}.textContent.includes('api.token cannot be written')");
    chrome.until("desk", &format!("{banner}.checkVisibility() && {cause}")).await;
    std::fs::remove_dir_all(&blocked).unwrap();
    chrome.until("desk", &format!("!{banner}.checkVisibility()")).await;
}

#[tokio::test]
async fn where_the_proxy_is_restricted_the_dashboard_shows_and_changes_nothing_and_says_so() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let guard = "[guard]\nshared_secret = \"sixteen-characters\"";
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
    let proxy = Proxy::start(config.clone().and(guard)).await;
    let mut chrome = Chrome::start().await;
    chrome.open("desk", &url(&proxy)).await;
    chrome.until("desk", "document.querySelector('.badge')?.textContent.includes('valid')").await;
    chrome.until("desk", "document.getElementById('read-only').checkVisibility()").await;
    let shown = chrome.text("desk").await;
    assert!(shown.contains("read-only") && shown.contains("guard.shared_secret"), "{shown}");
    for button in ["Renew now", "Log out", "Log in"] {
        assert!(!shown.contains(button), "{button} in {shown}");
    }
    // A reload without the guard shows on the page that is open.
    proxy.rewrite(&config);
    chrome.until("desk", "!document.getElementById('read-only').checkVisibility()").await;
    chrome.click("desk", "button:text-is('Renew now')").await;
    eventually("it is renewed", || async { server.seen().len() == 2 }).await;
}
