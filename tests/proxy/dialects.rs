//! What authorization servers send that speak OAuth in a dialect of their own, in the exact shapes of hosted providers:
//! errors in other members, ends of logins in other words, limits in other fields.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use cupbearer_testing::{Config, Origin, Proxy, Reply, clock, cupbearer, eventually, token_at, upstream_at};

/// A token that a refresh token renews, with short pauses after failures.
fn refreshed(server: &Origin, dir: &Path, lines: &str) -> String {
    let seed = dir.join("refresh_token");
    std::fs::write(&seed, "seed").unwrap();
    format!(
        "[tokens.api]\ntoken_endpoint = \"{}\"\ngrant = \"refresh_token\"\nclient_id = \"laptop\"\n\
         client_auth = \"none\"\nrefresh_token_file = '{}'\nretry = {{ initial = \"100ms\", max = \"200ms\" }}\n{lines}\n",
        server.url(),
        seed.display()
    )
}

/// A login on another device at `server`, whose path `/device` begins one.
fn by_device(server: &Origin, lines: &str) -> String {
    format!(
        "[tokens.api]\ntoken_endpoint = \"{0}/token\"\ndevice_authorization_endpoint = \"{0}/device\"\n\
         grant = \"device_code\"\nclient_id = \"laptop\"\nclient_auth = \"none\"\n{lines}\n",
        server.url()
    )
}

fn device_code() -> Reply {
    let members = r#"{"device_code":"d","user_code":"WDJB-MJHT","verification_uri":"http://127.0.0.1/device","expires_in":600,"interval":1}"#;
    Reply::json(200, members)
}

async fn token(proxy: &Proxy) -> Value {
    proxy.status().await["tokens"][0].clone()
}

async fn status_is(proxy: &Proxy, status: &str) {
    eventually(status, || async { token(proxy).await["status"] == status }).await;
}

/// The exit code of `cupbearer login`, and all that it says.
async fn log_in(proxy: &Proxy) -> (Option<i32>, String) {
    let mut command = cupbearer();
    command.args(["login", "--device", "--config"]).arg(proxy.config_file()).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn scope_of(request: &cupbearer_testing::Message) -> Option<String> {
    request.form().into_iter().find(|(name, _)| name == "scope").map(|(_, scope)| scope)
}

#[tokio::test]
async fn the_code_and_the_text_of_an_error_are_shown_wherever_a_provider_puts_them() {
    let html = "text/html; charset=utf-8";
    for (status, content_type, body, parts) in [
        // Okta, Fitbit, Reddit.
        (
            400,
            "application/json",
            r#"{"errorCode":"E0000021","errorSummary":"Bad request. Accept and/or Content-Type headers are wrong.","errorLink":"E0000021","errorId":"oae1"}"#,
            &["the error `E0000021`", "Accept and/or Content-Type headers are wrong"][..],
        ),
        (
            400,
            "application/json",
            r#"{"errors":[{"errorType":"invalid_client","message":"Invalid authorization header format."}],"success":false}"#,
            &["client authentication failed", "Invalid authorization header format."],
        ),
        (400, "application/json", r#"{"message":"No such app","error":400}"#, &["`400`", "No such app"]),
        // JSON that is said to be something else; a form, as of GitHub; Feishu and Slack within a success.
        (
            401,
            html,
            r#"{"error":{"code":"bad_app","message":"Who are you?"}}"#,
            &["`bad_app`", "Who are you?"],
        ),
        (
            200,
            "application/x-www-form-urlencoded; charset=utf-8",
            "error=incorrect_client_credentials&error_description=The+client_id+and%2For+client_secret+passed+are+incorrect.",
            &["`incorrect_client_credentials`", "client_id and/or client_secret passed are incorrect"],
        ),
        (200, html, r#"{"code":10003,"msg":"invalid param"}"#, &["the error `10003`", "invalid param"]),
        (200, "application/json", r#"{"ok":false,"error":"invalid_client_id"}"#, &["`invalid_client_id`"]),
        (400, "text/plain", "No tenant of this name", &["the server says: \"No tenant of this name\""]),
        // A firewall's page.
        (
            403,
            html,
            "<!DOCTYPE html>\n<html><head><title>Access denied</title></head></html>",
            &["an HTML page: something in front of the server refused the request"],
        ),
    ] {
        let server =
            Origin::start(move |_, _| Reply::new(status, &[("content-type", content_type)], body)).await;
        let api = Origin::ok().await;
        let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
        let (code, said) = config.checked_online().await;
        assert_eq!(code, Some(1), "{body}: {said}");
        for part in parts {
            assert!(said.contains(part), "{body}: {said}");
        }
        assert!(!said.contains("without a reason"), "{body}: {said}");
    }
}

#[tokio::test]
async fn a_device_login_waits_while_its_provider_says_in_its_own_words_that_it_is_pending() {
    let server = Origin::start(|request, before| match (request.target().as_str(), before) {
        ("/device", _) => device_code(),
        // Twitch, then words that say nothing.
        (_, 1 | 2) => Reply::json(400, r#"{"status":400,"message":"authorization_pending"}"#),
        (_, 3) => Reply::json(400, "{}"),
        _ => Reply::json(200, r#"{"access_token":"t","expires_in":600,"refresh_token":"r","scope":["a"],"token_type":"bearer"}"#),
    })
    .await;
    let api = Origin::ok().await;
    let config = Config::one_route(&upstream_at(&api.url()), &by_device(&server, ""));
    let proxy = Proxy::start_live(config.and("[store]\nkind = \"memory\"")).await;
    let (code, said) = log_in(&proxy).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn a_device_login_ends_where_its_provider_declines_it_in_its_own_words() {
    for (body, part) in [
        (r#"{"status":400,"message":"invalid device code"}"#, "the time to log in is over"),
        (r#"{"errorCode":"authorization_declined"}"#, "the person declined"),
    ] {
        let server = Origin::start(move |request, _| match request.target().as_str() {
            "/device" => device_code(),
            _ => Reply::json(400, body),
        })
        .await;
        let api = Origin::ok().await;
        let config = Config::one_route(&upstream_at(&api.url()), &by_device(&server, ""));
        let proxy = Proxy::start_live(config.and("[store]\nkind = \"memory\"")).await;
        let (code, said) = log_in(&proxy).await;
        assert!(code == Some(1) && said.contains(part), "{code:?} {said}");
    }
}

#[tokio::test]
async fn the_end_of_a_login_in_words_that_nobody_knows_is_tried_a_few_times_and_then_left() {
    let dir = tempfile::tempdir().unwrap();
    let server = Origin::start(|_, before| match before {
        0 => Reply::json(
            200,
            r#"{"access_token":"t","expires_in":1,"refresh_token":"r","token_type":"Bearer"}"#,
        ),
        // Feishu.
        _ => Reply::json(200, r#"{"code":20037,"error_description":"no further details"}"#),
    })
    .await;
    let api = Origin::ok().await;
    let config = Config::one_route(&upstream_at(&api.url()), &refreshed(&server, dir.path(), ""));
    let proxy = Proxy::start(config).await;
    let refused = || async {
        proxy.get("/").await;
        token(&proxy).await["status"] == "login_required"
    };
    eventually("a login is required", refused).await;
    let asked = server.seen().len();
    assert!((9..=10).contains(&asked), "once, and eight times more: {asked}");
    let shown = token(&proxy).await;
    assert_eq!(shown["last_error"]["cause"], "login_doubtful", "{shown}");
    let message = shown["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("or the login has ended: cupbearer login"), "{message}");
    assert!(message.contains("20037"), "{message}");
    assert!(shown["next_attempt_in_seconds"].as_u64().unwrap() > 3000, "{shown}");
    for _ in 0..40 {
        proxy.get("/").await.assert_proxy_error(503);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(server.seen().len(), asked, "nobody who waits makes it try again");
}

#[tokio::test]
async fn the_end_of_a_login_in_a_providers_own_words_is_known_at_once() {
    for (status, body) in [
        // Atlassian, HubSpot, Twitch, X, Strava.
        (403, r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#),
        (
            400,
            r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token","correlationId":"1"}"#,
        ),
        (400, r#"{"status":400,"message":"Invalid refresh token"}"#),
        (400, r#"{"error":"invalid_request","error_description":"Value passed for the token was invalid."}"#),
        (
            400,
            r#"{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}"#,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = Origin::start(move |_, _| Reply::json(status, body)).await;
        let api = Origin::ok().await;
        let config = Config::one_route(&upstream_at(&api.url()), &refreshed(&server, dir.path(), ""));
        let proxy = Proxy::start_live(config).await;
        status_is(&proxy, "login_required").await;
        let shown = token(&proxy).await;
        assert_eq!(shown["last_error"]["cause"], "login_required", "{body}: {shown}");
        assert_eq!(server.seen().len(), 1, "{body}");
    }
}

#[tokio::test]
async fn a_realm_that_is_switched_off_for_some_seconds_costs_no_login() {
    let dir = tempfile::tempdir().unwrap();
    let off = Arc::new(AtomicBool::new(false));
    let server = {
        let off = Arc::clone(&off);
        Origin::start(move |_, before| match (off.load(Ordering::SeqCst), before % 2) {
            (false, _) => Reply::json(
                200,
                r#"{"access_token":"t","expires_in":2,"refresh_token":"r","token_type":"Bearer"}"#,
            ),
            // Keycloak: switched off, and deleted.
            (true, 0) => {
                Reply::json(403, r#"{"error":"access_denied","error_description":"Realm not enabled"}"#)
            }
            (true, _) => Reply::json(404, r#"{"error":"Realm does not exist"}"#),
        })
        .await
    };
    let api = Origin::ok().await;
    // With the pauses that are the default.
    let section = refreshed(&server, dir.path(), "").replace("initial = \"100ms\", max = \"200ms\"", "");
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    assert_eq!(proxy.get("/").await.status, 200);
    off.store(true, Ordering::SeqCst);
    eventually("requests are refused", || async { proxy.get("/").await.status == 503 }).await;
    let start = clock::now();
    while start.elapsed() < Duration::from_secs(10) {
        assert_ne!(token(&proxy).await["status"], "login_required", "{}", proxy.log());
        proxy.get("/").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    off.store(false, Ordering::SeqCst);
    eventually("it serves again", || async { proxy.get("/").await.status == 200 }).await;
}

#[tokio::test]
async fn a_refresh_that_is_refused_for_its_scope_is_sent_without_and_that_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Origin::start(|request, before| match scope_of(request) {
        // Salesforce.
        Some(_) => Reply::json(400, r#"{"error":"invalid_request","error_description":"scope parameter not supported"}"#),
        None => Reply::json(
            200,
            &format!(r#"{{"access_token":"t-{before}","expires_in":2,"token_type":"Bearer","scope":"api refresh_token"}}"#),
        ),
    })
    .await;
    let api = Origin::ok().await;
    let store = dir.path().join("store");
    let config = |lines: &str| {
        let section = refreshed(&server, dir.path(), &format!("scope = \"api refresh_token\"\n{lines}"));
        Config::one_route(&upstream_at(&api.url()), &section)
            .and(&format!("[store]\nkind = \"file\"\npath = '{}'", store.display()))
    };
    let proxy = Proxy::start(config("")).await;
    assert_eq!(proxy.get("/").await.status, 200);
    eventually("it was renewed", || async { server.seen().len() >= 4 }).await;
    let scopes = || server.seen().iter().map(scope_of).collect::<Vec<_>>();
    assert_eq!(scopes()[..4], [Some("api refresh_token".to_owned()), None, None, None]);
    assert_eq!(proxy.log().matches("refuses `scope` on a refresh").count(), 1, "{}", proxy.log());
    proxy.terminate().await;

    let before = server.seen().len();
    let proxy = Proxy::start(config("")).await;
    eventually("another process renewed it", || async { server.seen().len() > before }).await;
    assert!(scopes()[before..].iter().all(Option::is_none), "{:?}", scopes());
    proxy.terminate().await;

    std::fs::remove_dir_all(&store).unwrap();
    let before = server.seen().len();
    let proxy = Proxy::start(config("refresh_scope = false\n")).await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert!(scopes()[before..].iter().all(Option::is_none), "{:?}", scopes());
}

#[tokio::test]
async fn a_scope_that_is_refused_with_and_without_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Origin::start(|_, _| {
        Reply::json(400, r#"{"error":"invalid_scope","error_description":"The scope is not one of ours"}"#)
    })
    .await;
    let api = Origin::ok().await;
    for section in [
        refreshed(&server, dir.path(), "scope = \"nonsense\""),
        token_at(&server.url()) + "scope = \"nonsense\"\n",
    ] {
        let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
        status_is(&proxy, "misconfigured").await;
        let shown = token(&proxy).await;
        assert!(shown["last_error"]["message"].as_str().unwrap().contains("check `scope`"), "{shown}");
    }
}

#[tokio::test]
async fn a_login_that_nothing_renews_and_that_names_no_end_counts_until_the_api_refuses_it() {
    let server = Origin::start(|request, _| match request.target().as_str() {
        "/device" => device_code(),
        // An OAuth app of GitHub.
        _ => Reply::json(200, r#"{"access_token":"gho_1","scope":"repo","token_type":"bearer"}"#),
    })
    .await;
    let revoked = Arc::new(AtomicBool::new(false));
    let api = {
        let revoked = Arc::clone(&revoked);
        Origin::start(move |_, _| {
            if revoked.load(Ordering::SeqCst) {
                Reply::json(401, r#"{"message":"Bad credentials","status":"401"}"#)
            } else {
                Reply::ok()
            }
        })
        .await
    };
    let dir = tempfile::tempdir().unwrap();
    let config = || {
        let section = by_device(&server, "default_lifetime = \"1s\"");
        let store = format!("[store]\nkind = \"file\"\npath = '{}'", dir.path().join("store").display());
        Config::one_route(&upstream_at(&api.url()), &section).and(&store)
    };
    let proxy = Proxy::start_live(config()).await;
    let (code, said) = log_in(&proxy).await;
    assert!(code == Some(0) && said.contains("until an API refuses it"), "{code:?} {said}");
    status_is(&proxy, "valid").await;
    let asked = server.seen().len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(proxy.get("/").await.status, 200);
    let shown = token(&proxy).await;
    assert_eq!((&shown["status"], &shown["until_refused"]), (&"valid".into(), &true.into()), "{shown}");
    assert!(
        shown.get("expires_in_seconds").is_none() && shown.get("next_attempt_in_seconds").is_none(),
        "{shown}"
    );
    let table = proxy.command(&["status"]).await;
    assert!(String::from_utf8_lossy(&table.stdout).contains("until an API refuses it"), "{table:?}");
    proxy.terminate().await;

    let proxy = Proxy::start(config()).await;
    assert_eq!(proxy.get("/").await.status, 200, "a restart changes nothing");
    revoked.store(true, Ordering::SeqCst);
    assert_eq!(proxy.get("/").await.status, 401, "the API's own word");
    status_is(&proxy, "login_required").await;
    let shown = token(&proxy).await;
    let message = shown["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("nothing renews its access token"), "{message}");
    assert_eq!(shown["failures"], 0, "{shown}");
    assert_eq!(server.seen().len(), asked, "there is nothing to ask with");
}

#[tokio::test]
async fn an_unlimited_default_lifetime_renews_a_token_when_an_api_refuses_it() {
    let server = Origin::start(|_, before| {
        Reply::json(200, &format!(r#"{{"access_token":"t-{before}","token_type":"Bearer"}}"#))
    })
    .await;
    let api = Origin::start(|request, _| match request.field("authorization").as_deref() {
        Some("Bearer t-0") => Reply::new(401, &[("www-authenticate", "Bearer error=\"invalid_token\"")], ""),
        _ => Reply::ok(),
    })
    .await;
    let section = token_at(&server.url()) + "default_lifetime = \"unlimited\"\n";
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    assert_eq!(token(&proxy).await["until_refused"], true);
    assert!(proxy.log().contains("it is used until an API refuses it"), "{}", proxy.log());
    assert_eq!(proxy.get("/").await.status, 200, "renewed, and sent once more");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_server_that_demands_dpop_is_met_with_the_key_to_set() {
    for body in [
        // Okta, for applications made since February 2024.
        r#"{"error":"invalid_dpop_proof","error_description":"The DPoP proof JWT header is missing."}"#,
        r#"{"error":"invalid_dpop_proof"}"#,
        r#"{"error":"use_dpop_nonce","error_description":"Authorization server requires nonce in DPoP proof."}"#,
    ] {
        let server = Origin::start(move |_, _| Reply::json(400, body)).await;
        let api = Origin::ok().await;
        let proxy =
            Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
        status_is(&proxy, "misconfigured").await;
        let shown = token(&proxy).await;
        let message = shown["last_error"]["message"].as_str().unwrap();
        assert!(message.contains("set `dpop = true`, or turn it off for this client"), "{message}");
        assert!(!message.contains("clock"), "{message}");
    }
}

#[tokio::test]
async fn a_server_that_throttles_is_left_alone_for_as_long_as_its_own_fields_say() {
    let soon = |seconds: u64| (clock::unix_seconds() + seconds).to_string();
    for (status, fields, body) in [
        // Okta, Auth0, the drafts, GitHub and Zoho.
        (
            429,
            vec![
                ("x-rate-limit-limit", "4".to_owned()),
                ("x-rate-limit-remaining", "0".to_owned()),
                ("x-rate-limit-reset", soon(40)),
            ],
            r#"{"errorCode":"E0000047","errorSummary":"API call exceeded rate limit due to too many requests."}"#,
        ),
        (429, vec![("x-ratelimit-reset", soon(40) + "000")], r#"{"error":"too_many_requests"}"#),
        (429, vec![("ratelimit", r#""default";r=0;t=40"#.to_owned())], ""),
        (
            403,
            vec![("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", soon(40))],
            r#"{"message":"API rate limit exceeded for 127.0.0.1."}"#,
        ),
        (
            400,
            vec![("ratelimit-remaining", "0".to_owned()), ("ratelimit-reset", "40".to_owned())],
            r#"{"error":"Access Denied"}"#,
        ),
    ] {
        let server = {
            let fields = fields.clone();
            Origin::start(move |_, _| {
                let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                Reply::new(status, &fields, body)
            })
            .await
        };
        let api = Origin::ok().await;
        let section =
            token_at(&server.url()) + "retry = { initial = \"100ms\", max = \"200ms\" }\nwait = \"100ms\"\n";
        let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
        eventually("it was refused", || async { token(&proxy).await.get("last_error").is_some() }).await;
        for _ in 0..10 {
            proxy.get("/").await.assert_proxy_error(503);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(server.seen().len(), 1, "{status} {fields:?}");
        let shown = token(&proxy).await;
        assert_eq!(shown["status"], "pending", "it passes by itself: {shown}");
        let next = shown["next_attempt_in_seconds"].as_u64().unwrap();
        assert!((20..=42).contains(&next), "{fields:?}: {shown}");
        assert!(shown["last_error"]["message"].as_str().unwrap().contains("too many requests"), "{shown}");
    }
}
