//! What the 503, the log and `cupbearer status` say of a token that is of no use: whether there was one, whose it was, and
//! what still holds the one that the API refuses.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cupbearer_testing::{Config, Origin, Proxy, Reply, eventually, upstream_at};

async fn status(proxy: &Proxy) -> String {
    let output = proxy.command(&["status"]).await;
    String::from_utf8(output.stdout).unwrap()
}

async fn state(proxy: &Proxy) -> String {
    proxy.status().await["tokens"][0]["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_that_expired_and_cannot_be_renewed_is_told_from_one_that_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "good").unwrap();
    let is_changed = Arc::new(AtomicBool::new(false));
    let server = {
        let is_changed = Arc::clone(&is_changed);
        Origin::start(move |_, before| {
            if is_changed.load(Ordering::SeqCst) {
                Reply::json(401, r#"{"error":"invalid_client"}"#)
            } else {
                Reply::token(&format!("t-{before}"), 3)
            }
        })
        .await
    };
    let api = Origin::ok().await;
    let section = format!(
        "[tokens.api]\ntoken_endpoint = \"{}\"\ngrant = \"client_credentials\"\nclient_id = \"orders\"\n\
         client_auth = \"client_secret_basic\"\nclient_secret_file = '{}'\n\
         retry = {{ initial = \"100ms\", max = \"300ms\" }}\n",
        server.url(),
        secret.display()
    );
    let store = format!("[store]\nkind = \"file\"\npath = '{}'\n", dir.path().join("store").display());
    let config = Config::one_route(&upstream_at(&api.url()), &section).and(&store);
    let proxy = Proxy::start(config.clone()).await;
    assert_eq!(proxy.get("/").await.status, 200);
    is_changed.store(true, Ordering::SeqCst);
    fs::write(&secret, "wrong").unwrap();
    eventually("the wrong secret is reported", || async { state(&proxy).await == "misconfigured" }).await;
    let refused = proxy.get("/").await;
    refused.assert_proxy_error(503);
    let text = refused.text();
    assert!(
        text.contains("the access token expired at ") && text.contains(" and cannot be renewed: "),
        "{text}"
    );
    assert!(!text.contains("there is no access token yet"), "{text}");
    let shown = status(&proxy).await;
    assert!(
        shown.contains("api: the token expired ") && shown.contains(" ago and cannot be renewed: "),
        "{shown}"
    );
    let log = proxy.log();
    assert!(log.contains("the token expired and could not be renewed"), "{log}");
    assert!(!log.contains("no token could be had"), "{log}");

    // A restart forgets neither: the store has the token that expired.
    let proxy = proxy.stop().await.start().await;
    eventually("it fails again", || async { state(&proxy).await == "misconfigured" }).await;
    let text = proxy.get("/").await.text();
    assert!(
        text.contains("the access token expired at ") && text.contains(" and cannot be renewed: "),
        "{text}"
    );

    // With the same configuration and no store, there never was one.
    let fresh = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    eventually("it is refused", || async { state(&fresh).await == "misconfigured" }).await;
    let text = fresh.get("/").await.text();
    assert!(text.contains("there is no access token yet: "), "{text}");
    let shown = status(&fresh).await;
    assert!(shown.contains("api: there is no token yet: "), "{shown}");
    assert!(fresh.log().contains("no token could be had"), "{}", fresh.log());
}

#[tokio::test]
async fn what_still_holds_the_token_that_the_api_refuses_is_named_and_a_new_token_counts_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let api = Origin::start(|request, _| match request.field("authorization").as_deref() {
        Some("Bearer new") => Reply::ok(),
        _ => Reply::new(401, &[("www-authenticate", r#"Bearer error="invalid_token""#)], "no"),
    })
    .await;
    for (grant, want) in [
        (format!("grant = \"file\"\ntoken_file = '{}'", file.display()), "the file still holds"),
        (format!("grant = \"static\"\ntoken_file = '{}'", file.display()), "the configuration still holds"),
        (
            format!("grant = \"command\"\ncommand = [\"cat\", '{}']", file.display()),
            "the helper program still prints",
        ),
    ] {
        fs::write(&file, "old").unwrap();
        let retry =
            if grant.contains("static") { "" } else { "retry = { initial = \"100ms\", max = \"300ms\" }\n" };
        let section = format!("[tokens.api]\n{grant}\n{retry}");
        let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
        assert_eq!(state(&proxy).await, "valid");
        assert_eq!(proxy.get("/").await.status, 401);
        let want = format!("{want} the token that the API refuses");
        eventually("it is named", || async { status(&proxy).await.contains(&want) }).await;
        let log = proxy.log();
        assert!(log.contains(&want) && log.contains("still_refused"), "{log}");
        assert_eq!(state(&proxy).await, "degraded");
        assert!(proxy.is_ready().await, "the API alone is one witness");
        assert_eq!(proxy.status().await["tokens"][0]["failures"], 0, "no request was sent");
        fs::write(&file, "new").unwrap();
        eventually("the new token counts", || async { proxy.get("/").await.status == 200 }).await;
        assert_eq!(state(&proxy).await, "valid");
    }
}
