//! `cupbearer demo`: what a newcomer starts first.

use std::fs;

use super::support::{Program, cupbearer, curl, eventually, free_address, repository};

/// The addresses of the repository's `config.toml`, each replaced by a free one.
fn elsewhere() -> Vec<(&'static str, String)> {
    ["127.0.0.1:8080", "127.0.0.1:9901", "127.0.0.1:9902", "127.0.0.1:9411", "127.0.0.1:9412"]
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
    program.signal(rustix::process::Signal::INT);
    let status = program.ended(std::time::Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", program.log());
}
