//! Refresh tokens that must not be lost: in a response with a flaw, of a grant that is no login, and where the program is
//! killed between a response and the store.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use cupbearer_testing::{
    Behaviour, Config, FIRST, LoginCommand, Proxy, Reply, Rotating, curl, eventually, login_command,
};

const REFRESH: &str = "refresh_token";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

fn store(dir: &Path) -> String {
    format!("[store]\nkind = \"file\"\npath = '{}'", dir.join("store").display())
}

/// A login whose first refresh token lies in a file.
fn login(server: &Rotating, dir: &Path, lines: &str) -> Config {
    let seed = dir.join("first");
    fs::write(&seed, FIRST).unwrap();
    let lines = format!(
        "grant = \"refresh_token\"\nrefresh_token_file = '{}'\nretry = {{ initial = \"100ms\", max = \"300ms\" }}\n{lines}",
        seed.display()
    );
    server.config(&lines).and(&store(dir))
}

fn password(server: &Rotating, lines: &str) -> Config {
    server.config(&format!(
        "grant = \"password\"\nusername = \"alice\"\npassword = \"wonder\"\nretry = {{ initial = \"100ms\", max = \"300ms\" }}\n{lines}"
    ))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn status(proxy: &Proxy) -> String {
    proxy.status().await["tokens"][0]["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_refresh_whose_response_has_a_flaw_loses_no_login() {
    let dir = folder();
    let server = Rotating::start(Behaviour {
        bodies: [
            // As Slack has it.
            r#"{"ok":true,"access_token":"{access}","token_type":"bot","expires_in":43200,"refresh_token":"{refresh}"}"#,
            r#"{"access_token":"{access}","token_type":"Bearer","expires_in":"1h","refresh_token":"{refresh}"}"#,
            "{\"access_token\":\"{access} \\u00e9\",\"token_type\":\"Bearer\",\"expires_in\":60,\"refresh_token\":\"{refresh}\"}",
            r#"{"token_type":"Bearer","expires_in":60,"refresh_token":"{refresh}"}"#,
            r#"{"error":"temporarily_unavailable","refresh_token":"{refresh}"}"#,
        ]
        .into(),
        ..Behaviour::default()
    })
    .await;
    let proxy = Proxy::start(login(&server, dir.path(), "")).await;
    assert_eq!(proxy.get("/").await.text(), "access-6", "{}", proxy.log());
    assert_eq!((server.grants(REFRESH), server.logins()), (6, (1, 0)), "none came twice");
    let log = proxy.log();
    assert!(log.contains("token_type") || log.contains("Bearer"), "each flaw was reported: {log}");
    assert!(!log.contains("refresh-") && !log.contains("access-"), "{log}");
}

fn body(body: impl AsRef<[u8]>) -> Reply {
    Reply::new(200, &[("content-type", "application/json")], body)
}

/// More than is read of a response.
fn long(access: &str, refresh: &str) -> Reply {
    let filler = "x".repeat(300 * 1024);
    body(format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}","filler":"{filler}"}}"#))
}

/// A response that announces more than arrives.
fn cut(access: &str, refresh: &str) -> Reply {
    let part = format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}","sco"#);
    Reply::raw(format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{part}")).closing()
}

/// The same, of a connection that stays open.
fn stalled(access: &str, refresh: &str) -> Reply {
    let part = format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}","sco"#);
    Reply::raw(format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{part}")).holding()
}

#[tokio::test]
async fn a_refresh_whose_response_is_damaged_loses_no_login() {
    let dir = folder();
    let replies: [fn(&str, &str) -> Reply; 8] = [
        |a, r| {
            let text = format!(r#"{{"access_token":"{a}","name":"Jos?","refresh_token":"{r}"}}"#);
            body(text.bytes().map(|byte| if byte == b'?' { 0xe9 } else { byte }).collect::<Vec<u8>>())
        },
        |a, r| body(format!(r#"{{"access_token":"{a}","expires_in":1e999,"refresh_token":"{r}","#)),
        |a, r| body(format!("{{\"access_token\":\"{a}\",\"x\":\"1\n2\",\"refresh_token\":\"{r}\",}}")),
        |a, r| {
            body(format!(
                r#"<style>b{{color:red}}</style>{{"access_token":"{a}","token_type":"Bearer","refresh_token":"{r}"}}"#
            ))
        },
        |a, r| {
            let text = format!("\u{feff}{{\"access_token\":\"{a}\",\"refresh_token\":\"{r}\"}}");
            body(text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
        },
        long,
        cut,
        stalled,
    ];
    let server = Rotating::start(Behaviour { replies: replies.into(), ..Behaviour::default() }).await;
    let proxy = Proxy::start(login(&server, dir.path(), "timeout = \"10s\"")).await;
    eventually("a whole response is used", || async { proxy.get("/").await.status == 200 }).await;
    assert_eq!((server.grants(REFRESH), server.logins()), (9, (1, 0)), "none came twice: {}", proxy.log());
    let log = proxy.log();
    assert!(log.contains("malformed") && !log.contains("refresh-") && !log.contains("access-"), "{log}");
}

fn numbered(access: &str, refresh: &str) -> Reply {
    let number = refresh.trim_start_matches("refresh-");
    body(format!(r#"{{"access_token":"{access}","expires_in":2,"refresh_token":{number}}}"#))
}

fn form(access: &str, refresh: &str) -> Reply {
    let text = format!("access_token={access}&refresh_token={refresh}&expires_in=2");
    Reply::new(200, &[("content-type", "application/x-www-form-urlencoded")], text)
}

#[tokio::test]
async fn a_token_response_that_is_a_form_is_taken_with_all_that_is_in_it() {
    let dir = folder();
    let server = Rotating::start(Behaviour {
        replies: [form as fn(&str, &str) -> Reply].into(),
        ..Behaviour::default()
    })
    .await;
    let proxy = Proxy::start_live(login(&server, dir.path(), "")).await;
    eventually("its refresh token was spent", || async { server.grants(REFRESH) >= 2 }).await;
    assert_eq!(server.logins(), (1, 0), "{}", proxy.log());
    assert!(!proxy.log().contains("malformed"), "{}", proxy.log());
}

#[tokio::test]
async fn a_refresh_token_that_is_a_number_is_spent_as_it_is_written() {
    let dir = folder();
    let server = Rotating::start(Behaviour {
        replies: [numbered as fn(&str, &str) -> Reply].into(),
        ..Behaviour::default()
    })
    .await;
    let proxy = Proxy::start_live(login(&server, dir.path(), "")).await;
    eventually("the number was spent", || async { server.grants(REFRESH) >= 2 }).await;
    assert_eq!(server.spent().last().map(String::as_str), Some("1"), "{}", proxy.log());
}

#[tokio::test]
async fn a_flaw_before_a_kill_loses_no_login_either() {
    let dir = folder();
    let flaw = r#"{"access_token":"{access}","token_type":"bot","refresh_token":"{refresh}"}"#;
    let server = Rotating::start(Behaviour { bodies: [flaw; 100].into(), ..Behaviour::default() }).await;
    let proxy = Proxy::start_live(login(&server, dir.path(), "")).await;
    for _ in 0..3 {
        let before = server.grants(REFRESH);
        eventually("it was refreshed again", || async { server.grants(REFRESH) > before + 1 }).await;
    }
    let stopped = proxy.stop().await;
    server.behave(|server| server.bodies.clear());
    let mut proxy = stopped.start().await;
    proxy.until_ready().await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(server.logins(), (1, 0));
}

#[tokio::test]
async fn a_token_that_is_not_bound_although_that_was_demanded_loses_no_login() {
    let dir = folder();
    let server = Rotating::start(Behaviour::default()).await;
    let proxy = Proxy::start_live(login(&server, dir.path(), "dpop = true")).await;
    eventually("it was refreshed again", || async { server.grants(REFRESH) > 2 }).await;
    assert_eq!(server.logins(), (1, 0), "{}", proxy.log());
    // Where the demand is given up, the login is there.
    let proxy = {
        let stopped = proxy.stop().await;
        let file = stopped.dir().join("config.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace("dpop = true", "")).unwrap();
        stopped.start().await
    };
    eventually("it serves", || async { proxy.get("/").await.status == 200 }).await;
    assert_eq!(server.logins(), (1, 0));
}

#[tokio::test]
async fn the_refresh_token_of_a_password_is_used_and_the_password_once_more_where_it_is_refused() {
    let server = Rotating::start(Behaviour { lifetime: 2, ..Behaviour::default() }).await;
    let proxy = Proxy::start(password(&server, "")).await;
    eventually("four were spent", || async { server.grants(REFRESH) >= 4 }).await;
    assert_eq!((server.grants("password"), server.logins()), (1, (1 + 1, 0)));
    server.end_logins();
    eventually("the password was sent again", || async { server.grants("password") == 2 }).await;
    let refreshes = server.grants(REFRESH);
    eventually("and its refresh token used", || async { server.grants(REFRESH) > refreshes + 1 }).await;
    assert_eq!((server.grants("password"), status(&proxy).await.as_str()), (2, "valid"));
    assert_eq!(proxy.status().await["tokens"][0]["failures"], 0, "in the same attempt: {}", proxy.log());
}

#[tokio::test]
async fn the_refresh_token_of_a_password_outlives_a_restart_and_is_what_is_given_back() {
    let dir = folder();
    let server = Rotating::start(Behaviour { lifetime: 2, ..Behaviour::default() }).await;
    let config = password(&server, "revoke_on_exit = false").and(&store(dir.path()));
    let proxy = Proxy::start(config).await.kill().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut proxy = proxy.start().await;
    proxy.until_ready().await;
    assert_eq!(server.grants("password"), 1);
    let said = proxy.command(&["logout"]).await;
    assert!(said.status.success(), "{said:?}");
    assert!(server.revoked()[0].starts_with("refresh_token refresh-"), "{:?}", server.revoked());
    assert_eq!(server.logins(), (2, 1), "the session of the password has ended");
}

#[tokio::test]
async fn the_end_of_the_program_gives_back_the_refresh_token_of_a_password() {
    let server = Rotating::start(Behaviour::default()).await;
    let proxy = Proxy::start(password(&server, "revoke_on_exit = true")).await;
    assert_eq!(proxy.get("/").await.status, 200);
    proxy.stop().await;
    assert_eq!(server.revoked()[0], "refresh_token refresh-1");
    assert_eq!(server.logins(), (2, 1));
}

#[tokio::test]
async fn another_persons_password_uses_none_of_the_first_ones_refresh_tokens() {
    let dir = folder();
    let server = Rotating::start(Behaviour { lifetime: 2, ..Behaviour::default() }).await;
    let config = password(&server, "").and(&store(dir.path()));
    let stopped = Proxy::start(config).await.stop().await;
    let file = stopped.dir().join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("alice", "bob")).unwrap();
    let before = server.grants(REFRESH);
    let mut proxy = stopped.start().await;
    proxy.until_ready().await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!((server.grants("password"), server.grants(REFRESH)), (2, before));
}

#[tokio::test]
async fn client_credentials_spend_no_refresh_token_that_comes_with_them() {
    let server = Rotating::start(Behaviour { lifetime: 2, ..Behaviour::default() }).await;
    let _proxy = Proxy::start(server.config("grant = \"client_credentials\"\n")).await;
    eventually("it was renewed", || async { server.grants("client_credentials") >= 3 }).await;
    assert_eq!(server.grants(REFRESH), 0);
}

#[tokio::test]
async fn an_exchange_uses_its_refresh_token_until_the_subject_is_another_person() {
    use base64::Engine as _;
    let dir = folder();
    let subject = dir.path().join("subject");
    let jwt = |who: &str, nth: u32| {
        let claims = format!(r#"{{"iss":"https://as.example","sub":"{who}","n":{nth}}}"#);
        format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
    };
    fs::write(&subject, jwt("alice", 1)).unwrap();
    let server = Rotating::start(Behaviour {
        lifetime: 2,
        members: r#","issued_token_type":"urn:ietf:params:oauth:token-type:refresh_token""#.to_owned(),
        ..Behaviour::default()
    })
    .await;
    let _proxy = Proxy::start(server.config(&format!(
        "grant = \"token_exchange\"\nsubject_token_file = '{}'\n\
         requested_token_type = \"urn:ietf:params:oauth:token-type:refresh_token\"\n",
        subject.display()
    )))
    .await;
    eventually("it was refreshed", || async { server.grants(REFRESH) >= 2 }).await;
    assert_eq!(server.grants(EXCHANGE), 1);
    // The next token of the same person.
    fs::write(&subject, jwt("alice", 2)).unwrap();
    let refreshes = server.grants(REFRESH);
    eventually("it is refreshed still", || async { server.grants(REFRESH) >= refreshes + 2 }).await;
    assert_eq!(server.grants(EXCHANGE), 1);
    fs::write(&subject, jwt("bob", 3)).unwrap();
    eventually("it was exchanged anew", || async { server.grants(EXCHANGE) == 2 }).await;
}

#[tokio::test]
async fn a_login_whose_token_response_has_a_flaw_keeps_its_refresh_token() {
    for flow in ["authorization_code", "device_code"] {
        let dir = folder();
        // As Slack has it.
        let flawed = r#"{"ok":true,"access_token":"{access}","token_type":"bot","expires_in":43200,"refresh_token":"{refresh}"}"#;
        let server = Rotating::start(Behaviour { bodies: [flawed].into(), ..Behaviour::default() }).await;
        let url = server.url();
        let lines = format!(
            "grant = \"{flow}\"\nauthorization_endpoint = \"{url}/authorize\"\n\
             device_authorization_endpoint = \"{url}/device\"\nscope = \"read\"\n"
        );
        let proxy = Proxy::start_live(server.config(&lines).and(&store(dir.path()))).await;
        let login = format!("http://{}/tokens/api/login", proxy.control());
        let begun = curl(&["--request", "POST", "--header", "Cupbearer-Control: 1", &login]).await;
        assert_eq!(begun.status, 200, "{}", begun.text());
        if let Some(address) = begun.json()["authorization_url"].as_str() {
            let page = curl(&[&back(address)]).await.text();
            assert!(page.contains("token_type"), "the browser shows what went wrong");
            assert!(page.contains("The login is kept") && !page.contains("Not logged in"), "{page}");
        }
        eventually("the refresh token of the login is used", || async { proxy.get("/").await.status == 200 })
            .await;
        assert!(proxy.log().contains("a login has a flaw"), "the flaw is reported: {}", proxy.log());
        assert_eq!((server.grants(flow), server.grants(REFRESH)), (u64::from(flow != "device_code"), 1));
        assert_eq!(server.logins(), (2, 0));
    }
}

/// The address that a browser ends at which opens `address` and logs in.
fn back(address: &str) -> String {
    let address: url::Url = address.parse().unwrap();
    let query = |name: &str| address.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    format!("{}?code=c&state={}", query("redirect_uri"), query("state"))
}

#[tokio::test]
async fn the_command_never_says_of_a_login_that_is_kept_that_there_is_none() {
    let flawed =
        r#"{"access_token":"{access}","token_type":"bot","expires_in":600,"refresh_token":"{refresh}"}"#;
    for flow in ["authorization_code", "device_code"] {
        for by_the_proxy in [false, true] {
            let dir = folder();
            let server = Rotating::start(Behaviour { bodies: [flawed].into(), ..Behaviour::default() }).await;
            let url = server.url();
            let lines = format!(
                "grant = \"{flow}\"\nauthorization_endpoint = \"{url}/authorize\"\n\
                 device_authorization_endpoint = \"{url}/device\"\nscope = \"read\"\n"
            );
            let config = server.config(&lines).and(&store(dir.path()));
            let file = dir.path().join("config.toml");
            fs::write(&file, config.text()).unwrap();
            let running = if by_the_proxy { Some(Proxy::start_live(config.clone()).await) } else { None };
            let command = match &running {
                Some(proxy) => login_command(&proxy.config_file(), &["--no-browser"]),
                None => login_command(&file, &["--no-browser", "--control", "127.0.0.1:1"]),
            };
            let login = LoginCommand::start(command);
            if flow == "authorization_code" {
                curl(&[&back(&login.address("/authorize").await)]).await;
            }
            let (code, said) = login.ended().await;
            assert_eq!(code, 1, "no token came: {said}");
            assert!(said.contains("the login is kept, but no usable access token came with it: "), "{said}");
            assert!(
                said.contains("set `token_type = \"bot\"`") && said.contains("(kept in files in "),
                "{said}"
            );
            assert!(!said.contains("not logged in") && !said.contains("refresh-"), "{said}");
            let proxy = match running {
                Some(proxy) => proxy,
                None => Proxy::start(config).await,
            };
            eventually("the login is refreshed", || async { proxy.get("/").await.status == 200 }).await;
            assert_eq!(server.logins(), (2, 0));
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_shown_with_its_cause_until_it_can() {
    let dir = folder();
    let server = Rotating::start(Behaviour { lifetime: 2, ..Behaviour::default() }).await;
    let proxy = Proxy::start(login(&server, dir.path(), "")).await;
    let text = async || String::from_utf8(proxy.command(&["status"]).await.stdout).unwrap();
    let faults = async || proxy.status().await["store_degraded"].clone();
    assert!(faults().await.is_null());
    // A folder that cannot be replaced stands where the new file is written first.
    let blocked = dir.path().join("store/api.tmp");
    eventually("the store is blocked", || async { fs::create_dir_all(blocked.join("full")).is_ok() }).await;
    eventually("it is shown", || async { !faults().await.is_null() }).await;
    let fault = faults().await[0].clone();
    let message = fault["message"].as_str().unwrap();
    assert!(fault["token"] == "api" && message.contains("api.token cannot be written"), "{fault}");
    let shown = text().await;
    assert!(shown.contains("api: the token store has failed for ") && shown.contains(message), "{shown}");
    assert!(proxy.metric("cupbearer_store_degraded", &[]).await > 0.5);
    assert_eq!(proxy.get("/").await.status, 200, "what is held is used");
    fs::remove_dir_all(&blocked).unwrap();
    eventually("it is written again", || async { faults().await.is_null() }).await;
    let shown = text().await;
    assert!(!shown.contains("token store"), "{shown}");
}

#[tokio::test]
async fn a_login_that_the_store_would_not_take_is_said_to_be_in_memory_alone() {
    let dir = folder();
    let server = Rotating::start(Behaviour::default()).await;
    let lines =
        format!("grant = \"device_code\"\ndevice_authorization_endpoint = \"{}/device\"\n", server.url());
    let proxy = Proxy::start_live(server.config(&lines).and(&store(dir.path()))).await;
    fs::create_dir_all(dir.path().join("store/api.tmp/full")).unwrap();
    let (code, said) =
        LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"])).ended().await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("api: logged in; kept in the proxy's memory alone, until the token store takes it: "),
        "{said}"
    );
    assert!(said.contains("api.token cannot be written"), "{said}");
    assert_eq!(proxy.get("/").await.status, 200);
    let log = proxy.terminate().await.1;
    let lost =
        "the program ends, and the token store has not taken what it holds of this token: that is lost";
    let line = log.lines().find(|line| line.contains(lost)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("ERROR") && line.contains("api"), "{line}");
}

#[tokio::test]
async fn a_logout_that_the_store_refuses_is_shown_as_such_and_done_as_soon_as_it_can_be() {
    let dir = folder();
    let server = Rotating::start(Behaviour::default()).await;
    let proxy = Proxy::start(login(&server, dir.path(), "")).await;
    assert_eq!(proxy.get("/").await.status, 200);
    // Where a path leads in a circle, nothing can be done.
    let (folder, aside) = (dir.path().join("store"), dir.path().join("aside"));
    fs::rename(&folder, &aside).unwrap();
    std::os::unix::fs::symlink(&folder, &folder).unwrap();
    let out = proxy.command(&["logout"]).await;
    let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    assert!(said.contains("no longer used, but the token store still holds it"), "{said}");
    assert!(said.contains("api.token cannot be deleted") && said.contains("tried again"), "{said}");
    let fault = proxy.status().await["store_degraded"][0].clone();
    assert!(fault["token"] == "api" && fault["logged_out"] == true, "{fault}");
    let shown = String::from_utf8(proxy.command(&["status"]).await.stdout).unwrap();
    assert!(shown.contains("was logged out and is not deleted: a restart brings it back"), "{shown}");
    let log = proxy.log();
    assert!(log.contains("its deletion is tried again") && !log.contains("its server was not told"), "{log}");
    assert!(fs::read_to_string(aside.join("api.token")).unwrap().contains("access-"));
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    eventually("it is deleted", || async { proxy.status().await["store_degraded"].is_null() }).await;
    assert!(proxy.log().contains("the token store no longer holds what was logged out"));
    assert!(!fs::read_to_string(folder.join("api.token")).unwrap().contains("access-"));
    assert_eq!(proxy.get("/").await.status, 503);
}

#[tokio::test]
async fn a_response_that_came_and_could_not_be_read_is_not_said_to_be_lost() {
    let dir = folder();
    let server = Rotating::start(Behaviour { lifetime: 2, ..Behaviour::default() }).await;
    let proxy = Proxy::start(login(&server, dir.path(), "")).await;
    let damaged: fn(&str, &str) -> Reply = |_, _| body("<html>welcome</html>");
    server.behave(|server| server.replies = [damaged].into());
    eventually("the login has ended", || async { status(&proxy).await == "login_required" }).await;
    let want = "the response to the last refresh c";
    let (log, text) = (proxy.log(), proxy.get("/").await.text());
    assert!(log.contains(want) && !log.contains("interrupted"), "{log}");
    assert!(text.contains(want) && !text.contains("interrupted"), "{text}");
    // And at the next start.
    let proxy = proxy.stop().await.start().await;
    eventually("it is still so", || async { status(&proxy).await == "login_required" }).await;
    let log = proxy.log();
    assert!(log.contains(want) && !log.contains("interrupted"), "{log}");
}

/// A proxy whose refresh was interrupted by its end, started again.
async fn interrupted(server: &Rotating, folder: &Path) -> Proxy {
    let proxy = Proxy::start(login(server, folder, "")).await;
    assert_eq!(proxy.get("/").await.status, 200);
    server.behave(|server| server.takes = Duration::from_secs(20));
    let before = server.grants(REFRESH);
    eventually("a refresh is under way", || async { server.grants(REFRESH) > before }).await;
    let stopped = proxy.kill().await;
    server.behave(|server| server.takes = Duration::ZERO);
    let proxy = stopped.start().await;
    eventually("the login has ended", || async { status(&proxy).await == "login_required" }).await;
    proxy
}

#[tokio::test]
async fn what_the_server_says_of_a_user_wins_over_a_refresh_that_was_interrupted() {
    let dir = folder();
    let refusal = r#"{"error":"invalid_grant","error_description":"User disabled"}"#;
    let server = Rotating::start(Behaviour { lifetime: 2, refusal, ..Behaviour::default() }).await;
    let proxy = interrupted(&server, dir.path()).await;
    let log = proxy.log();
    assert!(log.contains("the user is disabled") && log.contains("User disabled"), "{log}");
    assert!(log.contains("the last refresh was interrupted"), "{log}");
    let text = proxy.get("/").await.text();
    assert!(text.contains("disabled, locked or deleted the user of this login"), "{text}");
    assert!(text.contains("; the last login was good until "), "{text}");
}

#[tokio::test]
async fn a_kill_between_the_response_and_the_store_is_named_at_the_next_start() {
    let dir = folder();
    let server = Rotating::start(Behaviour { lifetime: 2, ..Behaviour::default() }).await;
    let proxy = interrupted(&server, dir.path()).await;
    let says = |proxy: &Proxy| {
        let log = proxy.log();
        assert!(log.contains("the last refresh was interrupted"), "{log}");
        assert!(log.contains("without a grace period ends the login then"), "{log}");
    };
    says(&proxy);
    let text = proxy.get("/").await.text();
    assert!(text.contains("the last refresh was interrupted"), "{text}");
    // And at the start after that one, which sends no request: none has failed.
    let refreshes = server.grants(REFRESH);
    let proxy = proxy.kill().await.start().await;
    eventually("it is still so", || async { status(&proxy).await == "login_required" }).await;
    says(&proxy);
    assert_eq!(server.grants(REFRESH), refreshes);
    assert_eq!(proxy.status().await["tokens"][0]["failures"], 0);
    assert!(proxy.metric("cupbearer_token_renewals_total", &["token=\"api\""]).await < 0.5);

    // A login that ends otherwise is not said to have been interrupted.
    let dir = folder();
    let server = Rotating::start(Behaviour { lifetime: 2, ..Behaviour::default() }).await;
    let proxy = Proxy::start(login(&server, dir.path(), "")).await;
    server.end_logins();
    eventually("the login has ended", || async { status(&proxy).await == "login_required" }).await;
    assert!(!proxy.log().contains("interrupted"), "{}", proxy.log());
    let answer = curl(&[&proxy.url("/")]).await;
    answer.assert_proxy_error(503);
}
