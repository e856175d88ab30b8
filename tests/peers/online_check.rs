//! `cupbearer check --online` with an authorization server that others wrote.

use std::fs;

use cupbearer_testing::{OidcProvider, Origin, SECRET, cupbearer, free_address, token_at, upstream_at};

/// The exit code of `check --online` on a configuration, and what it printed.
async fn check(api: &str, token: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let route = "[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"api\"\n";
    fs::write(&file, upstream_at(api) + token + route).unwrap();
    let output = cupbearer().args(["check", "--online", "--config"]).arg(&file).output().await.unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).unwrap())
}

#[tokio::test]
async fn check_online_asks_for_a_token_and_a_connection() {
    let server = OidcProvider::start(60).await;
    let api = Origin::ok().await;
    let token = token_at(&format!("{}/token", server.issuer()));
    let (code, said) = check(&api.url(), &token).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(server.token_requests().await, 1);
    assert!(api.connections() >= 1);

    let (code, said) = check(&api.url(), &token.replace(SECRET, "wrong-secret")).await;
    assert!(code == Some(1) && said.contains("invalid_client") && !said.contains("wrong-secret"), "{said}");
    for told in [
        "config.toml: tokens.api: ",
        "help: check `client_id` and `client_secret`",
        "\n1 problem and 1 warning found",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let (code, said) = check(&format!("http://{}", free_address()), &token).await;
    assert!(code == Some(1) && said.contains("config.toml: upstreams.api: "), "{said}");
    assert!(said.contains("help: check host and port"), "{said}");
}
