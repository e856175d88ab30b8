//! `cupbearer demo`: what a newcomer starts first.

use std::fs;

use cupbearer_testing::{Program, cupbearer, curl, eventually, free_address, repository};

/// The addresses of the repository's `config.toml`, each replaced by a free one.
fn elsewhere() -> Vec<(&'static str, String)> {
    ["localhost:8080", "127.0.0.1:9901", "localhost:9902", "127.0.0.1:9411", "127.0.0.1:9412"]
        .into_iter()
        .map(|address| (address, free_address().to_string()))
        .collect()
}

#[tokio::test]
async fn the_demo_runs_and_tokens_change_under_a_loop_of_requests() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = fs::read_to_string(repository().join("config.toml")).unwrap();
    let addresses = elsewhere();
    for (theirs, ours) in &addresses {
        assert!(text.contains(theirs), "config.toml names {theirs}");
        text = text.replace(theirs, ours);
    }
    fs::write(dir.path().join("config.toml"), text).unwrap();
    let mut command = cupbearer();
    command.args(["demo", "--config", "config.toml"]).current_dir(dir.path());
    let mut program = Program::spawn("demo", command, dir.path());
    let (url, ready) = (format!("http://{}/", addresses[0].1), format!("http://{}/readyz", addresses[1].1));
    program.until("ready", || async { curl(&[&ready]).await.status == 200 }).await;

    let greeting = program.log();
    assert!(greeting.matches("curl ").count() >= 2, "it prints what to try: {greeting}");
    assert!(greeting.contains(&addresses[0].1), "at the address where it listens: {greeting}");

    assert!(
        greeting.contains(env!("CARGO_BIN_EXE_cupbearer")),
        "the program need not be on the path: {greeting}"
    );
    assert!(greeting.contains(&format!("status --control {}", addresses[2].1)), "{greeting}");
    assert!(greeting.contains(&format!("Dashboard:      http://{}/", addresses[2].1)), "{greeting}");

    let first = curl(&[&url]).await;
    assert_eq!(first.status, 200, "{first:?}\n{}", program.log());
    assert!(!first.body.is_empty(), "the API tells who called");
    // Tokens live for 20 seconds and are renewed after 13 to 15.
    eventually("another token is sent", || async {
        let answer = curl(&[&url]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        program.log().len() > greeting.len()
            && program.log()[greeting.len()..].to_lowercase().contains("renew")
    })
    .await;
    // The next renewals fail: the token that is held goes on, and that is told in words.
    let fail = format!("http://{}/demo/fail?status=503&times=6", addresses[3].1);
    assert_eq!(curl(&["-X", "POST", &fail]).await.status, 200);
    let output = cupbearer().args(["renew", "--control", &addresses[2].1]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    eventually("both sides of it are told", || async {
        let log = program.log();
        log.contains("authorization server: answered 503, as told")
            && log.contains("cupbearer: token api: the renewal failed")
    })
    .await;
    assert!(!program.log().contains("WARN") && !program.log().contains("INFO"), "{}", program.log());
    program.signal(rustix::process::Signal::INT);
    let status = program.ended(std::time::Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", program.log());
}

#[tokio::test]
async fn the_demo_says_that_its_servers_are_on_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(repository().join("config.toml")).unwrap();
    let text =
        text.replace("issuer = \"http://127.0.0.1:9411\"", "issuer = \"https://login.example.invalid\"");
    fs::write(dir.path().join("config.toml"), text).unwrap();
    let mut command = cupbearer();
    let output =
        command.args(["demo", "--config", "config.toml"]).current_dir(dir.path()).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("tokens.api.issuer") && said.contains("must be http://127.0.0.1:PORT"), "{said}");
}
