//! A person logs in: at oidc-provider's own pages, in Debian's Chromium, by `cupbearer login`.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use cupbearer_testing::{
    Chrome, Config, LoginCommand, OidcProvider, Program, Proxy, curl, eventually, login_command, upstream_at,
};

/// A laptop: an authorization server with an API, and a folder where logins outlive programs.
struct Laptop {
    server: OidcProvider,
    store: TempDir,
}

impl Laptop {
    async fn new(lifetime: u32) -> Self {
        Self { server: OidcProvider::with_api(lifetime).await, store: tempfile::tempdir().unwrap() }
    }

    /// The configuration, with more lines of the token.
    fn config(&self, lines: &str) -> Config {
        Config::new(format!(
            "{}[tokens.api]\nissuer = \"{}\"\ngrant = \"authorization_code\"\nclient_id = \"laptop\"\n\
             client_auth = \"none\"\nscope = \"openid profile email offline_access api:read\"\nwait = \"20s\"\n{lines}\n\
             [[routes]]\nupstream = \"api\"\ntoken = \"api\"\n[store]\nkind = \"file\"\npath = '{}'\n",
            upstream_at(&self.server.api_url()),
            self.server.issuer(),
            self.store.path().join("tokens").display(),
        ))
    }
}

/// A configuration in a folder of its own, for commands without a proxy.
fn written(config: &Config) -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, config.text()).unwrap();
    (dir, file)
}

#[tokio::test]
async fn a_person_logs_in_once_and_the_token_outlives_renewals_and_a_restart() {
    let laptop = Laptop::new(4).await;
    let issuer = laptop.server.issuer();
    let proxy = Proxy::start_live(laptop.config("")).await;
    let refused = proxy.get("/").await;
    refused.assert_proxy_error(503);
    assert!(refused.text().contains("log in: cupbearer login"), "{}", refused.text());
    assert_eq!(proxy.status().await["tokens"][0]["status"], "login_required");

    let command = LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"]));
    let address = command.address("/auth?").await;
    for part in ["code_challenge_method=S256", "state=", "nonce=", "redirect_uri=http%3A%2F%2F127.0.0.1%3A"] {
        assert!(address.contains(part), "{address}");
    }
    let mut chrome = Chrome::start().await;
    chrome.open("person", &address).await;
    chrome.log_in("person", &issuer, "alice").await;
    let (code, said) = command.ended().await;
    assert!(
        code == 0 && said.contains("api: logged in as Alice <alice@example.test>; kept in"),
        "{code} {said}"
    );
    let shown = chrome.text("person").await;
    assert!(shown.contains("You are logged in as Alice"), "{shown}");
    let url = chrome.order(json!({ "do": "run", "page": "person", "script": "location.href" })).await;
    assert!(!url["value"].as_str().unwrap().contains("code="), "the code leaves the address bar: {url}");

    let seen = proxy.accepted("/orders").await;
    assert_eq!((&seen["claims"]["sub"], &seen["claims"]["client_id"]), (&json!("alice"), &json!("laptop")));
    eventually("it is renewed twice, by the refresh token", || async {
        proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap() >= 3
    })
    .await;
    proxy.accepted("/orders").await;
    let token = proxy.status().await["tokens"][0].clone();
    assert_eq!((&token["user"], &token["status"]), (&json!("Alice <alice@example.test>"), &json!("valid")));

    let proxy = proxy.stop().await.start().await;
    proxy.accepted("/orders").await;
    assert_eq!(proxy.status().await["tokens"][0]["user"], "Alice <alice@example.test>");
}

#[tokio::test]
async fn a_login_without_a_proxy_is_found_by_one_that_starts_later() {
    let laptop = Laptop::new(60).await;
    let (_dir, file) = written(&laptop.config(""));
    let command = LoginCommand::start(login_command(&file, &["--no-browser", "--control", "127.0.0.1:1"]));
    let address = command.address("/auth?").await;
    let mut chrome = Chrome::start().await;
    chrome.open("person", &address).await;
    chrome.log_in("person", &laptop.server.issuer(), "bob").await;
    let (code, said) = command.ended().await;
    assert!(code == 0 && said.contains("logged in as Bob") && said.contains("tokens"), "{code} {said}");
    let before = laptop.server.token_requests().await;

    let proxy = Proxy::start(laptop.config("")).await;
    assert_eq!(proxy.accepted("/").await["claims"]["sub"], "bob");
    assert_eq!(laptop.server.token_requests().await, before, "the stored token is good without a call");
}

#[tokio::test]
async fn the_browser_is_opened_and_where_there_is_none_it_says_so() {
    let laptop = Laptop::new(60).await;
    let proxy = Proxy::start_live(laptop.config("")).await;
    let dir = tempfile::tempdir().unwrap();
    let (browser, opened) = (dir.path().join("browser"), dir.path().join("opened"));
    std::fs::write(&browser, format!("#!/bin/sh\necho \"$1\" > {}\n", opened.display())).unwrap();
    std::fs::set_permissions(&browser, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = login_command(&proxy.config_file(), &[]);
    command.env("BROWSER", &browser);
    let command = LoginCommand::start(command);
    let address = command.address("/auth?").await;
    eventually("the browser has the address", || async {
        std::fs::read_to_string(&opened).is_ok_and(|text| text.trim() == address)
    })
    .await;

    let mut none = login_command(&proxy.config_file(), &[]);
    none.env("PATH", dir.path().join("nothing")).env("BROWSER", dir.path().join("gone"));
    let none = LoginCommand::start(none);
    none.address("/auth?").await;
    eventually("it says so", || async { none.said().contains("open the address yourself") }).await;
    let (code, said) = command.ended().await;
    assert!(code == 1 && said.contains("another login of this token took its place"), "{code} {said}");
}

#[tokio::test]
async fn a_device_without_a_browser_is_logged_in_from_another_one() {
    let laptop = Laptop::new(60).await;
    let issuer = laptop.server.issuer();
    let proxy = Proxy::start_live(laptop.config("")).await;
    let command = LoginCommand::start(login_command(&proxy.config_file(), &["--device"]));
    let complete = command.address("user_code=").await;
    let code = complete.split_once("user_code=").unwrap().1.to_owned();
    assert!(command.said().contains(&format!("enter the code\n\n  {code}\n")), "{}", command.said());

    let mut phone = Chrome::start().await;
    phone.open("phone", &complete).await;
    phone.click("phone", "button[type=submit]").await;
    phone.log_in("phone", &issuer, "alice").await;
    phone.until("phone", "document.body.innerText.includes('successful')").await;
    let (code, said) = command.ended().await;
    assert!(code == 0 && said.contains("logged in as Alice"), "{code} {said}");
    assert_eq!(proxy.accepted("/").await["claims"]["sub"], "alice");
}

#[tokio::test]
async fn the_device_flow_asks_no_sooner_than_it_may_and_ends_where_it_is_refused() {
    let laptop = Laptop::new(60).await;
    let proxy = Proxy::start_live(laptop.config("")).await;
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    laptop
        .server
        .fault(
            &json!({ "when": { "grant_type": grant }, "status": 400, "body": "{\"error\":\"slow_down\"}" })
                .to_string(),
        )
        .await;
    laptop
        .server
        .fault(&json!({ "when": { "grant_type": grant }, "status": 400, "body": "{\"error\":\"access_denied\"}" }).to_string())
        .await;
    let begun = cupbearer_testing::clock::now();
    let command = LoginCommand::start(login_command(&proxy.config_file(), &["--device"]));
    let (code, said) = command.ended().await;
    assert!(
        code == 1 && said.contains("access_denied") && said.contains("the person declined"),
        "{code} {said}"
    );
    // 5 s to the first question, since the server names no interval, and 5 more to the second.
    assert!(begun.elapsed() >= Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_forged_answer_is_waited_past_and_a_replayed_one_is_of_no_use() {
    let laptop = Laptop::new(60).await;
    let proxy = Proxy::start_live(laptop.config("")).await;
    let command = LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"]));
    let address: url::Url = command.address("/auth?").await.parse().unwrap();
    let query = |name: &str| address.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    let (redirect, state) = (query("redirect_uri"), query("state"));
    let before = laptop.server.token_requests().await;
    for forged in ["?code=x", "?code=x&state=wrong", "?state=&code=x", "?error=access_denied&state=wrong"] {
        let answer = curl(&[&format!("{redirect}{forged}")]).await;
        assert_eq!(answer.status, 400, "{forged}");
    }
    let rebound = curl(&["--header", "Host: evil.test", &format!("{redirect}?code=x&state={state}")]).await;
    assert_eq!(rebound.status, 421);
    let elsewhere = curl(&[&redirect.replace("/callback", "/other")]).await;
    assert_eq!(elsewhere.status, 404);
    assert_eq!(laptop.server.token_requests().await, before, "no code was redeemed");

    // The right one after all, with what a hostile server would write.
    let issuer = laptop.server.issuer();
    let refusal = format!(
        "{redirect}?error=access_denied&error_description=%3Cscript%3Ealert(1)%3C%2Fscript%3E&state={state}&iss={issuer}"
    );
    let answer = curl(&[&refusal]).await;
    let page = answer.text();
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert"), "{page}");
    assert_eq!(answer.field("referrer-policy"), Some("no-referrer"));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    let (code, said) = command.ended().await;
    assert!(code == 1 && said.contains("access_denied"), "{code} {said}");
    eventually("the listener is closed", || async { curl_fails(&refusal).await }).await;
    assert_eq!(proxy.status().await["tokens"][0]["status"], "login_required", "no half-made state");
}

async fn curl_fails(url: &str) -> bool {
    let mut command = Program::peer("curl", "curl");
    command.args(["--silent", "--max-time", "5", url]).stdout(Stdio::null());
    !command.status().await.unwrap().success()
}

#[tokio::test]
async fn the_answer_of_another_server_is_not_redeemed() {
    let laptop = Laptop::new(60).await;
    let proxy = Proxy::start_live(laptop.config("")).await;
    for (iss, part) in [
        ("", "does not say who gave it"),
        ("&iss=https://evil.example", "its `iss` is \"https://evil.example\""),
    ] {
        let command = LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"]));
        let address: url::Url = command.address("/auth?").await.parse().unwrap();
        let query = |name: &str| address.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let before = laptop.server.token_requests().await;
        curl(&[&format!("{}?code=x&state={}{iss}", query("redirect_uri"), query("state"))]).await;
        let (code, said) = command.ended().await;
        assert!(code == 1 && said.contains(part), "{code} {said}");
        assert_eq!(laptop.server.token_requests().await, before);
    }
}

#[tokio::test]
async fn a_request_is_pushed_ahead_where_the_server_demands_it() {
    let laptop = Laptop::new(60).await;
    laptop.server.set(json!({ "metadata": { "require_pushed_authorization_requests": true } })).await;
    laptop
        .server
        .register(json!({
            "client_id": "laptop", "token_endpoint_auth_method": "none", "application_type": "native",
            "redirect_uris": ["http://127.0.0.1/callback"], "response_types": ["code"],
            "grant_types": ["authorization_code", "refresh_token"], "require_pushed_authorization_requests": true,
        }))
        .await;
    let proxy = Proxy::start_live(laptop.config("dpop = true")).await;
    let command = LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"]));
    let address = command.address("/auth?").await;
    let names: Vec<_> =
        address.split_once('?').unwrap().1.split('&').map(|pair| pair.split('=').next().unwrap()).collect();
    assert_eq!(names, ["client_id", "request_uri"]);
    let mut chrome = Chrome::start().await;
    chrome.open("person", &address).await;
    chrome.log_in("person", &laptop.server.issuer(), "alice").await;
    let (code, said) = command.ended().await;
    assert_eq!(code, 0, "{said}");
    let seen = proxy.accepted("/").await;
    assert!(
        seen["claims"]["cnf"]["jkt"].is_string(),
        "the token is bound to the key that the code was: {seen}"
    );
}

/// Logs in as Alice in a browser for which the redirect URI leads nowhere; the address that it ends at.
pub(crate) async fn last_address(chrome: &mut Chrome, address: &str, issuer: &str) -> String {
    chrome.open("person", address).await;
    chrome.log_in("person", issuer, "alice").await;
    loop {
        let looked = chrome.order(json!({ "do": "look", "page": "person" })).await;
        match looked["lost"].as_str() {
            Some(lost) if lost.contains("code=") => return lost.to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
}

#[tokio::test]
async fn the_last_address_can_be_brought_by_hand() {
    let laptop = Laptop::new(60).await;
    let config =
        laptop.config("redirect_uri = \"http://localhost/callback\"").and("[log]\nlevel = \"trace\"");
    let proxy = Proxy::start_live(config).await;
    let mut command = LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"]));
    let address = command.address("/auth?").await;
    let stdin = command.child.stdin.as_mut().unwrap();
    stdin.write_all(b"http://127.0.0.1:1/callback?state=wrong&code=x\n").await.unwrap();
    eventually("a wrong one is told", || async { command.said().contains("does not answer the login") })
        .await;
    // Where the login begins has the right state, and no code.
    let stdin = command.child.stdin.as_mut().unwrap();
    stdin.write_all(format!("{address}\n").as_bytes()).await.unwrap();
    eventually("the first address is told from the last", || async {
        command.said().contains("this is the address to open, where the login begins")
    })
    .await;

    // A browser on another machine: where it is sent back to is nowhere there.
    let mut chrome = Chrome::start_with(&[("RULES", "MAP localhost ~NOTFOUND")]).await;
    let last = last_address(&mut chrome, &address, &laptop.server.issuer()).await;
    let stdin = command.child.stdin.as_mut().unwrap();
    stdin.write_all(format!("{last}\n").as_bytes()).await.unwrap();
    let (code, said) = command.ended().await;
    assert!(code == 0 && said.contains("logged in as Alice"), "{code} {said}");
    proxy.accepted("/").await;
    let late = curl(&[&last]).await;
    assert!(late.status == 200 && late.text().contains("You are logged in as Alice"), "{}", late.text());

    let spent = last.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let token = String::from_utf8(proxy.command(&["token"]).await.stdout).unwrap();
    let told = proxy.log() + &said + &proxy.status().await.to_string() + &proxy.metrics().await;
    assert!(told.contains("TRACE"), "the log says all that it can");
    for secret in [spent, token.trim()] {
        assert!(secret.len() > 20 && !told.contains(secret), "neither code nor token is told of");
    }
}

#[tokio::test]
async fn a_last_address_that_is_loaded_ahead_of_time_or_twice_is_one_login() {
    let laptop = Laptop::new(60).await;
    let proxy = Proxy::start_live(laptop.config("redirect_uri = \"http://localhost/callback\"")).await;
    let command = LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"]));
    let address = command.address("/auth?").await;
    let mut chrome = Chrome::start_with(&[("RULES", "MAP localhost ~NOTFOUND")]).await;
    let last = last_address(&mut chrome, &address, &laptop.server.issuer()).await;
    let before = laptop.server.token_requests().await;
    let ahead = curl(&["--header", "Sec-Purpose: prefetch", &last]).await;
    assert_eq!((ahead.status, laptop.server.token_requests().await), (403, before), "{}", ahead.text());
    // The state alone is no response, and ends nothing.
    let state = last.split(['?', '&']).find(|part| part.starts_with("state=")).unwrap();
    let bare = curl(&[&format!("{}?{state}", last.split_once('?').unwrap().0)]).await;
    assert!(bare.status == 400 && bare.text().contains("neither a code nor an error"), "{}", bare.text());
    for _ in 0..2 {
        let loaded = curl(&[&last]).await;
        assert!(
            loaded.status == 200 && loaded.text().contains("You are logged in as Alice"),
            "{}",
            loaded.text()
        );
    }
    assert_eq!(laptop.server.token_requests().await, before + 1, "the code is redeemed once");
    let (code, said) = command.ended().await;
    assert!(code == 0 && said.contains("logged in as Alice"), "{code} {said}");
}

#[tokio::test]
async fn a_proxy_and_a_login_beside_it_share_one_store() {
    let laptop = Laptop::new(5).await;
    let proxy = Proxy::start_live(laptop.config("")).await;
    let mut chrome = Chrome::start().await;
    for (name, words) in
        [("alice", &["--no-browser"][..]), ("bob", &["--no-browser", "--control", "127.0.0.1:1"])]
    {
        let command = LoginCommand::start(login_command(&proxy.config_file(), words));
        chrome.open(name, &command.address("/auth?").await).await;
        chrome.log_in(name, &laptop.server.issuer(), name).await;
        let (code, said) = command.ended().await;
        assert_eq!(code, 0, "{said}");
        eventually("the proxy has the newest login", || async {
            let answer = proxy.get("/").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()["claims"]["sub"] == name
        })
        .await;
    }
    eventually("it goes on being renewed", || async {
        proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap() >= 4
    })
    .await;
    assert_eq!(proxy.accepted("/").await["claims"]["sub"], "bob");
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_login_is_said_and_leaves_nothing_behind() {
    let laptop = Laptop::new(60).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let fixed = format!("redirect_uri = \"http://127.0.0.1:{port}/callback\"");
    // A browser may look for `localhost` there first, and hand the code to that program.
    let taken = TcpListener::bind("[::1]:0").await.unwrap();
    let named =
        format!("redirect_uri = \"http://localhost:{}/callback\"", taken.local_addr().unwrap().port());
    let endpoint = format!("{}/token", laptop.server.issuer());
    let bare = laptop.config("").text().replace(
        &format!("issuer = \"{}\"", laptop.server.issuer()),
        &format!("token_endpoint = \"{endpoint}\""),
    );
    for (config, words, part) in [
        (laptop.config(&fixed), &["--no-browser"][..], "another program listens on 127.0.0.1:"),
        (laptop.config(&named), &["--no-browser"][..], "another program listens on [::1]:"),
        (
            Config::new(bare.clone()),
            &["--no-browser"][..],
            "nothing says where the authorization_endpoint is",
        ),
        (Config::new(bare), &["--device"][..], "nothing says where the device_authorization_endpoint is"),
        (laptop.config(""), &["other"][..], "there is no token other"),
    ] {
        let proxy = Proxy::start_live(config).await;
        let (code, said) = LoginCommand::start(login_command(&proxy.config_file(), words)).ended().await;
        assert!(code == 1 && said.contains(part), "{code} {said}");
        let login = &proxy.status().await["tokens"][0]["login"];
        assert!(login.is_null(), "nothing is left under way: {login}");
    }

    std::fs::write(laptop.store.path().join("no-folder"), "not a folder").unwrap();
    let (_dir, file) = written(&Config::new(laptop.config("").text().replace("/tokens'", "/no-folder'")));
    let (code, said) = LoginCommand::start(login_command(&file, &["--control", "127.0.0.1:1"])).ended().await;
    assert!(code != 0 && said.contains("is not a folder"), "{code} {said}");

    let memory = laptop.config("").text().replace("kind = \"file\"", "kind = \"memory\"");
    let memory: String =
        memory.lines().filter(|line| !line.starts_with("path = '")).flat_map(|line| [line, "\n"]).collect();
    let (_dir, file) = written(&Config::new(memory));
    let (code, said) = LoginCommand::start(login_command(&file, &["--control", "127.0.0.1:1"])).ended().await;
    assert!(code == 1 && said.contains("the login would end with this command"), "{code} {said}");
}

#[tokio::test]
async fn a_logout_gives_all_back_and_says_where_the_browser_forgets() {
    let laptop = Laptop::new(60).await;
    let issuer = laptop.server.issuer();
    let proxy =
        Proxy::start_live(laptop.config("post_logout_redirect_uri = \"http://127.0.0.1:9902/\"")).await;
    let command = LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"]));
    let mut chrome = Chrome::start().await;
    chrome.open("person", &command.address("/auth?").await).await;
    chrome.log_in("person", &issuer, "alice").await;
    assert_eq!(command.ended().await.0, 0);
    proxy.accepted("/").await;

    let out = proxy.command(&["logout", "--no-browser"]).await;
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success()
            && said.contains(&format!("{issuer}/session/end?client_id=laptop&id_token_hint=ey")),
        "{said}"
    );
    assert!(!said.contains("is ended"), "what the browser does there is not known here: {said}");
    // The server knows the session by the hint, and leads back.
    let end = said.lines().map(str::trim).find(|line| line.contains("/session/end?")).unwrap();
    let back = format!("post_logout_redirect_uri={}", "http%3A%2F%2F127.0.0.1%3A9902%2F");
    assert!(end.ends_with(&back), "{end}");
    chrome.goto("person", end).await;
    let asked = chrome.text("person").await;
    assert!(asked.contains("Do you want to sign-out"), "{asked}");
    proxy.get("/").await.assert_proxy_error(503);
    let stored: Vec<Value> = std::fs::read_dir(laptop.store.path().join("tokens"))
        .unwrap()
        .filter_map(|file| serde_json::from_slice(&std::fs::read(file.ok()?.path()).ok()?).ok())
        .collect();
    assert!(stored.is_empty(), "{stored:?}");
}

#[tokio::test]
async fn a_reload_of_the_configuration_meanwhile_loses_no_login() {
    let laptop = Laptop::new(60).await;
    let memory = |wait: &str| {
        let text = laptop.config("").text().replace("kind = \"file\"", "kind = \"memory\"");
        let lines = text.lines().filter(|line| !line.starts_with("path = '"));
        Config::new(lines.flat_map(|line| [line, "\n"]).collect::<String>().replace("wait = \"20s\"", wait))
    };
    let proxy = Proxy::start_live(memory("wait = \"20s\"")).await;
    let command = LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"]));
    let address = command.address("/auth?").await;
    let reloads = proxy.metric("cupbearer_config_reloads_total", &["applied"]).await;
    proxy.rewrite(&memory("wait = \"30s\""));
    proxy.program().signal(rustix::process::Signal::HUP);
    eventually("it is reloaded", || async {
        proxy.metric("cupbearer_config_reloads_total", &["applied"]).await > reloads
    })
    .await;
    let mut chrome = Chrome::start().await;
    chrome.open("person", &address).await;
    chrome.log_in("person", &laptop.server.issuer(), "alice").await;
    let (code, said) = command.ended().await;
    assert!(code == 0 && said.contains("memory"), "{code} {said}");
    eventually("the token of now has it", || async { proxy.get("/").await.status == 200 }).await;
}

#[tokio::test]
async fn a_proxy_that_ends_takes_its_login_along_and_the_command_says_so() {
    let laptop = Laptop::new(60).await;
    let proxy = Proxy::start_live(laptop.config("")).await;
    let command = LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"]));
    let address: url::Url = command.address("/auth?").await.parse().unwrap();
    let redirect = address.query_pairs().find(|(key, _)| key == "redirect_uri").unwrap().1.into_owned();
    let _stopped = proxy.stop().await;
    let (code, said) = command.ended().await;
    assert!(code == 1 && said.contains("the login was not finished: no cupbearer runs"), "{code} {said}");
    assert!(curl_fails(&redirect).await, "the way back is closed");
}
