//! Names, found by a container that has a network of its own.

use std::fs;

use serde_json::Value;

use super::{Container, secret, text};
use crate::support::{Program, free_address, repository};

/// A network namespace, deleted where it is dropped.
struct Space<'a>(&'a str);

impl Drop for Space<'_> {
    fn drop(&mut self) {
        let _ = Program::peer("ip", "iproute2").as_std_mut().args(["netns", "delete", self.0]).output();
    }
}

#[tokio::test]
async fn names_are_found_by_the_cluster_s_rules_with_nothing_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let space = format!("cupbearer-{}", free_address().port());
    let ip = |words: Vec<String>| async move {
        let output = Program::peer("ip", "iproute2").args(&words).output().await.unwrap();
        assert!(output.status.success(), "ip {words:?}: {}", text(&output.stderr));
        output
    };
    let words = |words: &str| words.split(' ').map(|word| word.replace("SPACE", &space)).collect::<Vec<_>>();
    ip(words("netns add SPACE")).await;
    let _space = Space(&space);
    ip(words("netns exec SPACE ip link set lo up")).await;
    let mut world = Program::peer("ip", "iproute2");
    world.args(["netns", "exec", &space, "python3"]).arg(repository().join("tests/peers/image/world.py"));
    world.args(["api.shop.svc.cluster.local=127.0.0.1", "login.example.com=127.0.0.1"]);
    let mut world = Program::spawn("world.py", world, dir.path());
    let log = world.log_file().to_owned();
    let has = |word: &'static str| {
        let log = log.clone();
        move || {
            let log = log.clone();
            async move { fs::read_to_string(&log).unwrap_or_default().contains(word) }
        }
    };
    world.until("the names are answered", has("ready")).await;
    let secret = secret(dir.path());
    let container = Container::start(
        &[
            &format!("--network=ns:/run/netns/{space}"),
            "--dns=127.0.0.1",
            "--dns-search=shop.svc.cluster.local",
            "--dns-search=svc.cluster.local",
            "--dns-option=ndots:5",
            "--add-host=files.internal:127.0.0.1",
            "--env=CUPBEARER_UPSTREAM=http://api.shop:8000",
            &secret,
            "--env=CUPBEARER_TOKEN_ENDPOINT=http://login.example.com:8000/token",
            "--env=CUPBEARER_CLIENT_ID=orders",
            "--env=CUPBEARER_CLIENT_SECRET_FILE=/run/secrets/cupbearer/client_secret",
            "--env=CUPBEARER__UPSTREAMS__FILES__URL=http://files.internal:8000",
        ],
        &["run", "--insecure-plaintext"],
    )
    .await;
    container.wait().await;
    let asked = ip(words("netns exec SPACE curl --silent --noproxy * http://127.0.0.1:8080/orders")).await;
    let answer: Value =
        serde_json::from_slice(&asked.stdout).unwrap_or_else(|_| panic!("{}", text(&asked.stdout)));
    assert_eq!(
        (&answer["authorization"], &answer["host"]),
        (&"Bearer of-the-pod".into(), &"api.shop:8000".into())
    );
    // With fewer dots than five a name is looked for in the search domains first.
    world.until("the search list was walked", has("asked api.shop.shop.svc.cluster.local")).await;
    world.until("the other name, too", has("asked login.example.com.shop.svc.cluster.local")).await;
    let id = container.inspect("{{.State.Pid}}").await;
    let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    assert!(!maps.contains(".so"), "nothing is loaded: {maps}");
}
