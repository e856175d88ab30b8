//! Names, found by a container that has a network of its own: the rules of a cluster, IPv6, and answers that change.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Container, secret, text};
use cupbearer_testing::{Program, eventually, free_address, repository};

/// A network namespace, deleted where it is dropped: with its test, however that ends.
struct Space(String);

impl Space {
    async fn new() -> Self {
        // Whoever was killed dropped nothing.
        for old in text(&ip(&["netns", "list"]).await).lines().filter_map(|line| line.split(' ').next()) {
            let owner = old.strip_prefix("cupbearer-").and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                drop(Self(old.to_owned()));
            }
        }
        let space = Self(format!("cupbearer-{}-{}", std::process::id(), free_address().port()));
        ip(&["netns", "add", &space.0]).await;
        space.run(&["ip", "link", "set", "lo", "up"]).await;
        space
    }

    /// What a program in it says; it must succeed.
    async fn run(&self, words: &[&str]) -> Vec<u8> {
        ip(&[&["netns", "exec", &self.0], words].concat()).await
    }
}

async fn ip(words: &[&str]) -> Vec<u8> {
    let output = Program::peer("ip", "iproute2").args(words).output().await.unwrap();
    assert!(output.status.success(), "ip {words:?}: {}", text(&output.stderr));
    output.stdout
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Program::peer("ip", "iproute2").as_std_mut().args(["netns", "delete", &self.0]).output();
    }
}

/// A namespace with names, an authorization server and an API in it, and the proxy in its container.
struct World {
    // What runs in the namespace goes before it does.
    container: Container,
    peers: Program,
    space: Space,
    _dir: TempDir,
}

impl World {
    /// With these names (see `world.py`), this upstream, and more words for podman.
    async fn start(names: &[&str], upstream: &str, more: &[&str]) -> Self {
        let (dir, space) = (tempfile::tempdir().unwrap(), Space::new().await);
        let mut world = Program::peer("ip", "iproute2");
        world
            .args(["netns", "exec", &space.0, "python3"])
            .arg(repository().join("tests/peers/image/world.py"));
        world.args(names).arg("login.example.com=127.0.0.1");
        let mut peers = Program::spawn("world.py", world, dir.path());
        let log = peers.log_file().to_owned();
        peers
            .until("ready", || async { fs::read_to_string(&log).unwrap_or_default().contains("ready") })
            .await;
        let secret = secret(dir.path());
        let network = format!("--network=ns:/run/netns/{}", space.0);
        let upstream = format!("--env=CUPBEARER_UPSTREAM={upstream}");
        let common = [
            network.as_str(),
            "--dns=127.0.0.1",
            &upstream,
            &secret,
            "--env=CUPBEARER_TOKEN_ENDPOINT=http://login.example.com:8000/token",
            "--env=CUPBEARER_CLIENT_ID=orders",
            "--env=CUPBEARER_CLIENT_SECRET_FILE=/run/secrets/cupbearer/client_secret",
        ];
        let words = ["run", "--insecure-plaintext"];
        let container = Container::start(&[&common[..], more].concat(), &words).await;
        container.wait().await;
        Self { container, peers, space, _dir: dir }
    }

    /// What the API saw of a request through the proxy.
    async fn get(&self) -> Value {
        let url = "http://127.0.0.1:8080/orders";
        let said = self.space.run(&["curl", "--silent", "--noproxy", "*", url]).await;
        serde_json::from_slice(&said).unwrap_or_else(|_| panic!("{}\n{}", text(&said), self.peers.log()))
    }

    async fn until_said(&self, words: &str) {
        eventually(words, || async { self.peers.log().lines().any(|line| line == words) }).await;
    }
}

#[tokio::test]
async fn names_are_found_by_the_cluster_s_rules_with_nothing_loaded() {
    let world = World::start(
        &["api.shop.svc.cluster.local=127.0.0.1"],
        "http://api.shop:8000",
        &["--dns-search=shop.svc.cluster.local", "--dns-search=svc.cluster.local", "--dns-option=ndots:5"],
    )
    .await;
    let answer = world.get().await;
    assert_eq!(
        (&answer["authorization"], &answer["host"]),
        (&"Bearer of-the-pod".into(), &"api.shop:8000".into())
    );
    // With fewer dots than five a name is looked for in the search domains first.
    world.until_said("asked api.shop.shop.svc.cluster.local A").await;
    world.until_said("asked login.example.com.shop.svc.cluster.local A").await;
    let id = world.container.inspect("{{.State.Pid}}").await;
    let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    assert!(!maps.contains(".so"), "nothing is loaded: {maps}");
}

#[tokio::test]
async fn a_name_in_the_container_s_hosts_file_needs_no_dns() {
    let host = "--add-host=files.internal:127.0.0.3";
    let world = World::start(&[], "http://files.internal:8000", &[host]).await;
    assert_eq!(world.get().await["at"], "127.0.0.3");
    assert!(!world.peers.log().contains("files.internal"), "{}", world.peers.log());
}

#[tokio::test]
async fn a_name_with_an_address_of_ipv6_alone_is_found() {
    let world = World::start(&["api.six=::1"], "http://api.six:8000", &[]).await;
    let answer = world.get().await;
    assert_eq!((&answer["at"], &answer["authorization"]), (&"::1".into(), &"Bearer of-the-pod".into()));
    world.until_said("asked api.six AAAA").await;
}

#[tokio::test]
async fn a_name_that_moves_is_followed() {
    for (name, before, after) in [
        ("api.moves=127.0.0.1,127.0.0.2", "127.0.0.1", "127.0.0.2"),
        ("api.moves=127.0.0.1,::1", "127.0.0.1", "::1"),
    ] {
        let world = World::start(&[name], "http://api.moves:8000", &[]).await;
        assert_eq!(world.get().await["at"], before);
        world.peers.signal(Signal::HUP);
        world.until_said("changed").await;
        // The result of the lookup before counts for a second, and a kept connection until it is known to lead nowhere.
        eventually("the name is followed", || async { world.get().await["at"] == after }).await;
    }
}
