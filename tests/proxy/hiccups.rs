//! What an authorization server refuses for a while, for good or together with the API, in the shapes of Keycloak.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use cupbearer_testing::{
    Config, Origin, Proxy, Reply, clock, eventually, free_address, token_at, upstream_at,
};

/// A switch that a stub reads.
type Switch = Arc<AtomicBool>;

fn set(switch: &Switch, on: bool) {
    switch.store(on, Ordering::SeqCst);
}

fn is(switch: &Switch) -> bool {
    switch.load(Ordering::SeqCst)
}

/// Keycloak's token response: `refresh_expires_in` is there even without a refresh token, and 0 then.
fn keycloak_token(token: &str, lives: u64) -> Reply {
    Reply::json(
        200,
        &format!(
            r#"{{"access_token":"{token}","expires_in":{lives},"refresh_expires_in":0,"token_type":"Bearer","not-before-policy":0,"scope":"email profile"}}"#
        ),
    )
}

fn keycloak_error(status: u16, code: &str, description: &str) -> Reply {
    Reply::json(status, &format!(r#"{{"error":"{code}","error_description":"{description}"}}"#))
}

async fn token(proxy: &Proxy) -> Value {
    proxy.status().await["tokens"][0].clone()
}

/// A protected API that refuses tokens while `refuses` is on.
async fn api(refuses: &Switch) -> Origin {
    let refuses = Arc::clone(refuses);
    Origin::start(move |_, _| {
        if is(&refuses) {
            let challenge = r#"Bearer realm="api", error="invalid_token""#;
            Reply::new(401, &[("www-authenticate", challenge)], "no")
        } else {
            Reply::ok()
        }
    })
    .await
}

fn refresh_section(server: &Origin, dir: &Path) -> String {
    let seed = dir.join("refresh_token");
    fs::write(&seed, "seed").unwrap();
    format!(
        "[tokens.api]\ntoken_endpoint = \"{}\"\ngrant = \"refresh_token\"\nclient_id = \"laptop\"\n\
         client_auth = \"none\"\nrefresh_token_file = '{}'\n",
        server.url(),
        seed.display()
    )
}

#[tokio::test]
async fn a_client_that_is_disabled_for_a_while_is_back_within_seconds_and_not_after_a_minute() {
    let disabled = Switch::default();
    let server = {
        let disabled = Arc::clone(&disabled);
        Origin::start(move |_, before| {
            if is(&disabled) {
                keycloak_error(401, "invalid_client", "Invalid client or Invalid client credentials")
            } else {
                keycloak_token(&format!("t-{before}"), 3)
            }
        })
        .await
    };
    let api = Origin::ok().await;
    // With the pauses that are the default: half a second at first, a minute at most.
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    assert_eq!(proxy.get("/").await.status, 200);
    set(&disabled, true);
    eventually("requests are refused", || async { proxy.get("/").await.status == 503 }).await;
    let start = clock::now();
    let before = server.seen().len();
    while start.elapsed() < Duration::from_secs(12) {
        let answer = proxy.get("/").await;
        answer.assert_proxy_error(503);
        let seconds: u64 = answer.field("retry-after").unwrap().parse().unwrap();
        assert!(seconds <= 3, "{seconds}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = server.seen().len() - before;
    assert!((3..=30).contains(&refused), "some seconds apart, one for all requests: {refused}");
    let shown = token(&proxy).await;
    assert_eq!(shown["status"], "expired", "what worked a moment ago is a hiccup first: {shown}");
    let message = shown["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("it worked until ") && message.contains("with the same secret"), "{message}");
    assert!(proxy.log().contains("it worked until "), "{}", proxy.log());

    set(&disabled, false);
    let back = clock::now();
    eventually("it serves again", || async { proxy.get("/").await.status == 200 }).await;
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
}

#[tokio::test]
async fn a_server_that_is_down_is_back_within_seconds_of_its_return_while_requests_wait() {
    let address = free_address();
    let serve = || async {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        Origin::on(listener, |mut wire| async move {
            while wire.request().await.is_some() {
                wire.send(keycloak_token("t", 2).into_bytes()).await;
            }
        })
    };
    let server = serve().await;
    let api = Origin::ok().await;
    let section = token_at(&format!("http://{address}/token"));
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    drop(server);
    eventually("requests are refused", || async { proxy.get("/").await.status == 503 }).await;
    let start = clock::now();
    while start.elapsed() < Duration::from_secs(15) {
        proxy.get("/").await.assert_proxy_error(503);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let _server = serve().await;
    let back = clock::now();
    eventually("it serves again", || async { proxy.get("/").await.status == 200 }).await;
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
}

#[tokio::test]
async fn a_password_is_sent_twice_at_most_whatever_shape_the_refusal_has() {
    const REFUSALS: [(&str, u16, &str); 12] = [
        ("denied", 200, r#"{"ok":false,"error":"invalid_credentials"}"#),
        ("failed", 200, r#"{"status":"error","message":"wrong user or password"}"#),
        ("page", 200, "<html>Login failed"),
        ("mac", 200, r#"{"access_token":"a","token_type":"mac","expires_in":30}"#),
        ("redirect", 302, ""),
        ("unprocessable", 422, r#"{"message":"The user credentials were incorrect."}"#),
        ("unauthorized", 401, "<html>Unauthorized"),
        ("server", 500, r#"{"error":"invalid_grant","error_description":"Bad credentials"}"#),
        ("long", 200, "{{300 KiB}}"),
        // Auth0.
        (
            "blocked",
            429,
            r#"{"error":"too_many_attempts","error_description":"Your account has been blocked after multiple consecutive login attempts."}"#,
        ),
        ("message", 500, r#"{"error":"Internal Server Error","message":"Bad credentials"}"#),
        ("over", 200, r#"{"access_token":"a","token_type":"Bearer","expires_in":0}"#),
    ];
    // Nothing of these shows that a password was read.
    const OTHERS: [(&str, u16, &str); 3] =
        [("absent", 404, "not here"), ("gate", 403, "<html>Forbidden"), ("down", 503, "")];
    let server = Origin::start(|request, _| {
        let target = request.target();
        let (name, status, body) =
            *REFUSALS.iter().chain(&OTHERS).find(|(name, ..)| target.ends_with(name)).unwrap();
        match name {
            "redirect" => Reply::new(status, &[("location", "/login?error=bad")], ""),
            "long" => Reply::new(status, &[], "x".repeat(300 * 1024)),
            _ => Reply::json(status, body),
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let api = Origin::ok().await;
    let names = || REFUSALS.iter().chain(&OTHERS).map(|(name, ..)| *name);
    let section = |name: &str| {
        let path = if name == "api" { "down" } else { name };
        format!(
            "[tokens.{name}]\ntoken_endpoint = \"{}/{path}\"\ngrant = \"password\"\nclient_id = \"old\"\n\
             client_secret = \"s3cret-of-the-client\"\nusername = \"{name}\"\npassword = \"sentinel-password\"\n\
             retry = {{ initial = \"100ms\", max = \"200ms\" }}\n",
            server.url()
        )
    };
    let sections = std::iter::once("api").chain(names()).map(section).collect::<Vec<_>>().concat();
    let store = format!("[store]\nkind = \"file\"\npath = '{}'\n", dir.path().join("store").display());
    let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &sections).and(&store)).await;
    let sent = |name: &str| server.seen().iter().filter(|request| request.target().ends_with(name)).count();
    let all = || async {
        let status = proxy.status().await;
        let tokens = status["tokens"].as_array().unwrap().clone();
        tokens
            .into_iter()
            .map(|token| (token["name"].as_str().unwrap().to_owned(), token))
            .collect::<BTreeMap<_, _>>()
    };
    eventually("each refused password is withheld", || async {
        let all = all().await;
        REFUSALS.iter().all(|(name, ..)| all[*name]["last_error"]["cause"] == "withheld")
    })
    .await;
    eventually("the others go on", || async { OTHERS.iter().all(|(name, ..)| sent(name) > 4) }).await;
    let shown = all().await;
    for (name, ..) in REFUSALS {
        assert_eq!(sent(name), 2, "{name}");
        let message = shown[name]["last_error"]["message"].as_str().unwrap();
        assert!(message.contains("the password was sent twice"), "{name}: {message}");
    }
    for (name, word) in [
        ("mac", "of the type `mac`"),
        ("redirect", "a redirect to "),
        ("page", "an HTML page"),
        ("over", "`expires_in` 0"),
    ] {
        let message = shown[name]["last_error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{name}: {message}");
    }
    let log = proxy.log();
    assert!(log.contains("check `username` and `password`"), "{log}");
    assert!(!log.contains("sentinel-password"), "{log}");

    // Nor is it sent after a restart.
    let proxy = proxy.stop().await.start().await;
    eventually("each is withheld after a restart", || async {
        let status = proxy.status().await;
        let tokens = status["tokens"].as_array().unwrap();
        tokens.iter().filter(|token| token["last_error"]["cause"] == "withheld").count() == REFUSALS.len()
    })
    .await;
    for (name, ..) in REFUSALS {
        assert_eq!(sent(name), 2, "{name}");
    }
}

/// Whether no token of this proxy sends its password any more.
async fn withheld(proxy: &Proxy) -> bool {
    let status = proxy.status().await;
    status["tokens"].as_array().unwrap().iter().all(|token| {
        token["last_error"]["cause"] == "withheld"
            && token["status"] == "misconfigured"
            && token.get("next_attempt_in_seconds").is_none()
    })
}

#[tokio::test]
async fn a_wrong_password_is_sent_twice_and_then_not_until_it_changes_or_a_person_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "wrong").unwrap();
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = {
        let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
        Origin::start(move |request, before| {
            most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let right = request.form().contains(&("password".to_owned(), "right".to_owned()));
            under_way.fetch_sub(1, Ordering::SeqCst);
            if right {
                keycloak_token(&format!("t-{before}"), 300)
            } else {
                keycloak_error(401, "invalid_grant", "Invalid user credentials")
            }
        })
        .await
    };
    let api = Origin::ok().await;
    let one = |name: &str| {
        format!(
            "[tokens.{name}]\ntoken_endpoint = \"{}\"\ngrant = \"password\"\nclient_id = \"old\"\nclient_auth = \"none\"\n\
             username = \"alice\"\npassword_file = '{}'\nretry = {{ initial = \"100ms\", max = \"1s\" }}\n",
            server.url(),
            password.display()
        )
    };
    let section = one("api") + &one("other");
    let store = format!("[store]\nkind = \"file\"\npath = '{}'\n", dir.path().join("store").display());
    let config = Config::one_route(&upstream_at(&api.url()), &section).and(&store);
    let proxy = Proxy::start_live(config.clone()).await;
    eventually("the password is withheld", || withheld(&proxy)).await;
    for _ in 0..40 {
        proxy.get("/").await.assert_proxy_error(503);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.seen().len(), 2, "both tokens together:\n{}", proxy.log());
    assert!(proxy.log().contains("the password was sent twice"), "{}", proxy.log());

    assert!(!proxy.command(&["renew", "api"]).await.status.success());
    assert_eq!(server.seen().len(), 3, "a person wanted it");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.seen().len(), 3);

    // Neither a restart nor a replica sends it again.
    let proxy = proxy.stop().await.start().await;
    eventually("it is withheld after a restart", || withheld(&proxy)).await;
    let replica = Proxy::start_live(config).await;
    eventually("a replica withholds it", || withheld(&replica)).await;
    drop(replica);
    assert_eq!(server.seen().len(), 3, "{}", proxy.log());
    let kept: Vec<_> =
        fs::read_dir(dir.path().join("store")).unwrap().map(|entry| entry.unwrap().path()).collect();
    for file in kept.iter().filter(|path| path.is_file()) {
        assert!(!String::from_utf8_lossy(&fs::read(file).unwrap()).contains("wrong"), "{}", file.display());
    }
    assert!(!proxy.command(&["renew", "api"]).await.status.success());
    assert_eq!(server.seen().len(), 4, "a person wanted it, once more");

    fs::write(&password, "right").unwrap();
    eventually("the new password works for both", || async {
        let status = proxy.status().await;
        status["tokens"].as_array().unwrap().iter().all(|token| token["status"] == "valid")
    })
    .await;
    assert_eq!(server.seen().len(), 6);
}

/// A token of alice at `server`, whose password is wrong there.
fn of_alice(name: &str, server: &Origin, lines: &str) -> String {
    format!(
        "[tokens.{name}]\ntoken_endpoint = \"{}\"\ngrant = \"password\"\nclient_id = \"old\"\nclient_auth = \"none\"\n\
         username = \"alice\"\npassword = \"sentinel-password\"\n{lines}\n",
        server.url()
    )
}

#[tokio::test]
async fn a_reload_sends_a_refused_password_no_more_often() {
    let server = Origin::start(|_, _| keycloak_error(401, "invalid_grant", "Invalid user credentials")).await;
    let api = Origin::ok().await;
    let pace = "retry = { initial = \"100ms\", max = \"200ms\" }";
    let config = |lines: &str| {
        let sections =
            of_alice("api", &server, &format!("{pace}\n{lines}")) + &of_alice("other", &server, pace);
        Config::one_route(&upstream_at(&api.url()), &sections)
    };
    let proxy = Proxy::start_live(config("")).await;
    eventually("the password is withheld", || withheld(&proxy)).await;
    for lines in ["timeout = \"7s\"", "timeout = \"8s\"", "scope = \"orders\""] {
        let before = proxy.log().matches("the configuration was reloaded").count();
        proxy.rewrite(&config(lines));
        eventually("the configuration is reloaded", || async {
            proxy.log().matches("the configuration was reloaded").count() > before
        })
        .await;
        eventually("the password is withheld from the new token", || withheld(&proxy)).await;
        assert_eq!(server.seen().len(), 2, "{lines}:\n{}", proxy.log());
    }
    let status = proxy.status().await;
    for token in status["tokens"].as_array().unwrap() {
        let message = token["last_error"]["message"].as_str().unwrap();
        assert!(
            message.contains(&server.url()) && message.contains("the error `invalid_grant`"),
            "{message}"
        );
        assert!(
            message.contains("; correct `username` or `password`, or run `cupbearer renew`"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn starts_that_end_after_the_first_refusal_send_a_password_twice_in_all() {
    let dir = tempfile::tempdir().unwrap();
    let server = Origin::start(|_, _| keycloak_error(401, "invalid_grant", "Invalid user credentials")).await;
    let api = Origin::ok().await;
    let section = of_alice("api", &server, "retry = { initial = \"5m\", max = \"10m\" }");
    let store = format!("[store]\nkind = \"file\"\npath = '{}'\n", dir.path().join("store").display());
    let config = Config::one_route(&upstream_at(&api.url()), &section).and(&store);
    let mut proxy = Proxy::start_live(config.clone()).await;
    for sent in [1, 2, 2, 2] {
        eventually("an attempt has failed", || async {
            proxy.status().await["tokens"][0]["last_error"]["cause"].is_string()
        })
        .await;
        assert_eq!(server.seen().len(), sent, "{}", proxy.log());
        // A replica on the same store counts with it.
        if sent == 2 {
            let replica = Proxy::start_live(config.clone()).await;
            eventually("a replica withholds it", || withheld(&replica)).await;
            assert_eq!(server.seen().len(), 2, "{}", replica.log());
        }
        proxy = proxy.stop().await.start().await;
    }
    eventually("it is withheld", || withheld(&proxy)).await;
    let status = proxy.status().await;
    let message = status["tokens"][0]["last_error"]["message"].as_str().unwrap();
    assert!(message.starts_with(&server.url()), "{message}");
    assert!(message.contains("; correct `username` or `password`, or run `cupbearer renew`"), "{message}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_login_that_ends_before_its_token_is_renewed_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let issued = Arc::new(Mutex::new(clock::now()));
    let late = Switch::default();
    let server = {
        let (issued, late) = (Arc::clone(&issued), Arc::clone(&late));
        Origin::start(move |_, before| {
            let idle = std::mem::replace(&mut *issued.lock().unwrap(), clock::now()).elapsed();
            if before > 0 && idle > Duration::from_secs(8) {
                set(&late, true);
                return keycloak_error(400, "invalid_grant", "Token is not active");
            }
            Reply::json(
                200,
                &format!(
                    r#"{{"access_token":"t-{before}","expires_in":600,"refresh_expires_in":8,"refresh_token":"r-{before}","token_type":"Bearer"}}"#
                ),
            )
        })
        .await
    };
    let api = Origin::ok().await;
    let config = Config::one_route(&upstream_at(&api.url()), &refresh_section(&server, dir.path()));
    let proxy = Proxy::start(config).await;
    eventually("it was renewed twice", || async { server.seen().len() >= 3 }).await;
    assert!(!is(&late), "each refresh token was used in time");
    let shown = token(&proxy).await;
    assert_eq!(shown["status"], "valid");
    assert!(shown["login_expires_in_seconds"].as_u64().unwrap() <= 8, "{shown}");
    assert!(
        shown["login_expires_at"].as_u64().unwrap() > 0
            && shown["expires_in_seconds"].as_u64().unwrap() > 500
    );
    let log = proxy.log();
    assert_eq!(log.matches("the refresh token ends before the access token").count(), 1, "{log}");
    let table = proxy.command(&["status"]).await;
    assert!(String::from_utf8_lossy(&table.stdout).contains("the login ends in "), "{table:?}");
}

#[tokio::test]
async fn where_the_api_refuses_a_token_and_the_server_its_renewal_the_login_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let server = Origin::start(|_, before| {
        if before == 0 {
            return Reply::json(
                200,
                r#"{"access_token":"t","expires_in":3600,"refresh_token":"r","token_type":"Bearer"}"#,
            );
        }
        keycloak_error(400, "invalid_grant", "Session not active")
    })
    .await;
    let refuses = Switch::default();
    let api = api(&refuses).await;
    let config = Config::one_route(&upstream_at(&api.url()), &refresh_section(&server, dir.path()));
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.get("/").await.status, 200);

    assert!(!proxy.command(&["renew", "api"]).await.status.success());
    let shown = token(&proxy).await;
    assert_eq!(shown["status"], "degraded", "one witness: {shown}");
    assert!(shown["help"].as_str().unwrap().starts_with("log in before "), "{shown}");
    assert!(proxy.log().contains("log in before "), "{}", proxy.log());
    assert!(proxy.is_ready().await);
    assert_eq!(proxy.get("/").await.status, 200);

    set(&refuses, true);
    let answer = proxy.get("/").await;
    assert_eq!(answer.status, 401, "the API's own word");
    eventually("it is not ready", || async { !proxy.is_ready().await }).await;
    let shown = token(&proxy).await;
    assert_eq!(shown["status"], "login_required", "two witnesses: {shown}");
    let gauge = proxy.metric("cupbearer_token_state", &["state=\"login_required\""]).await;
    assert!((gauge - 1.0).abs() < f64::EPSILON);
    let failed = proxy.metric("cupbearer_token_renewals_total", &["result=\"refused\""]).await;
    assert!((failed - 1.0).abs() < f64::EPSILON, "one end is one failure: {failed}");
}

#[tokio::test]
async fn an_api_that_refuses_one_new_token_after_the_other_is_warned_about_once() {
    let server = Origin::issuing(3600).await;
    let refuses = Switch::default();
    set(&refuses, true);
    let api = api(&refuses).await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let warned = "the API refuses one new token after the other";
    eventually("it is warned about", || async {
        assert_eq!(proxy.get("/").await.status, 401);
        proxy.log().contains(warned)
    })
    .await;
    let help = || async { token(&proxy).await["help"].as_str().map(str::to_owned) };
    assert!(help().await.is_some_and(|help| help.contains("`audience`")), "{}", proxy.log());
    // The next new token is refused as well, and nothing more is logged.
    let before = server.seen().len();
    eventually("another was refused", || async {
        assert_eq!(proxy.get("/").await.status, 401);
        server.seen().len() > before
    })
    .await;
    assert_eq!(proxy.log().matches(warned).count(), 1, "{}", proxy.log());
}

#[tokio::test]
async fn waiting_for_a_first_login_is_no_failed_renewal() {
    let server = Origin::ok().await;
    let api = Origin::ok().await;
    let section = format!(
        "[tokens.api]\nauthorization_endpoint = \"{0}/authorize\"\ntoken_endpoint = \"{0}/token\"\n\
         grant = \"authorization_code\"\nclient_id = \"laptop\"\nclient_auth = \"none\"\n",
        server.url()
    );
    let config = Config::one_route(&upstream_at(&api.url()), &section).and("[store]\nkind = \"memory\"");
    let proxy = Proxy::start_live(config).await;
    eventually("it waits", || async { token(&proxy).await["status"] == "login_required" }).await;
    proxy.get("/").await.assert_proxy_error(503);
    let shown = token(&proxy).await;
    assert_eq!((&shown["failures"], &shown["last_error"]["consecutive_failures"]), (&0.into(), &0.into()));
    let counted = proxy.metric("cupbearer_token_renewals_total", &["token=\"api\""]).await;
    assert!(counted.abs() < f64::EPSILON, "{counted}");
    assert!(server.seen().is_empty());
    assert!(!String::from_utf8_lossy(&proxy.command(&["status"]).await.stdout).contains("in a row"));
}

#[tokio::test]
async fn a_lifetime_of_no_time_and_one_that_is_an_instant_are_told_as_the_server_says_them() {
    let api = Origin::ok().await;
    let server = Origin::start(|_, _| Reply::token("t", 0)).await;
    let proxy =
        Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    eventually("it failed", || async { token(&proxy).await.get("last_error").is_some() }).await;
    let shown = token(&proxy).await;
    assert!(shown["last_error"]["message"].as_str().unwrap().contains("`expires_in` 0"), "{shown}");

    let server = Origin::start(|_, _| Reply::token("t", clock::unix_seconds() + 600)).await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let left = token(&proxy).await["expires_in_seconds"].as_u64().unwrap();
    assert!((500..=600).contains(&left), "{left}");
    assert!(proxy.log().contains("`expires_in` is an instant"), "{}", proxy.log());
}
