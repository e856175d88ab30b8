//! The image of `Dockerfile` in real containers: what is in it, and how it lives there. `tests/peers/image/build` makes it, which
//! `scripts/test` does before the tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::support::{Origin, Program, Reply, curl, eventually, free_address, project, repository};

pub(super) const IMAGE: &str = "localhost/cupbearer:test";

pub(super) fn podman() -> Command {
    let mut podman = Program::peer(
        "podman",
        "podman buildah runc catatonit netavark aardvark-dns fuse-overlayfs debootstrap",
    );
    podman
        .env("CONTAINERS_CONF", repository().join("tests/peers/image/containers.conf"))
        .args(["--runtime", "runc"]);
    podman
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// What podman says; it must succeed.
async fn say(words: &[&str]) -> String {
    let output = podman().args(words).output().await.unwrap();
    let said = text(&output.stderr);
    assert!(
        output.status.success(),
        "podman {words:?}: {said}\nIs the image there? tests/peers/image/build {IMAGE}"
    );
    text(&output.stdout)
}

/// A container, removed where it is dropped.
struct Container(String);

impl Container {
    /// One that runs the program confined as in a pod, with `more` before the image's name and `words` behind it.
    async fn start(more: &[&str], words: &[&str]) -> Self {
        let name = format!("cupbearer-test-{}-{}", std::process::id(), free_address().port());
        let confined = [
            "run",
            "--detach",
            "--pull=never",
            "--read-only",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
            "--memory=64m",
            "--name",
            &name,
        ];
        let container = Self(name.clone());
        say(&[&confined, more, &[IMAGE], words].concat()).await;
        container
    }

    /// One on this machine's network that is ready to take requests at the address, with an environment that takes the place of a file.
    async fn between(api: &Origin, server: &Origin, dir: &Path) -> (Self, String) {
        let listen = free_address().to_string();
        let environment = [
            ("CUPBEARER_LISTEN", listen.clone()),
            ("CUPBEARER__HEALTH__LISTEN", free_address().to_string()),
            ("CUPBEARER__CONTROL__LISTEN", free_address().to_string()),
            ("CUPBEARER_UPSTREAM", api.url()),
            ("CUPBEARER_TOKEN_ENDPOINT", server.url() + "/token"),
            ("CUPBEARER_CLIENT_ID", "orders".to_owned()),
            ("CUPBEARER_CLIENT_SECRET_FILE", "/run/secrets/cupbearer/client_secret".to_owned()),
        ];
        let mut more = environment.map(|(name, value)| format!("--env={name}={value}")).to_vec();
        more.extend(["--network=host".to_owned(), secret(dir)]);
        let container = Self::start(&more.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await;
        container.wait().await;
        (container, listen)
    }

    async fn exec(&self, words: &[&str]) -> Output {
        podman().args(["exec", &self.0]).args(words).output().await.unwrap()
    }

    async fn wait(&self) {
        let output = self.exec(&["/cupbearer", "wait", "--timeout", "20s"]).await;
        assert!(output.status.success(), "{}\n{}", text(&output.stderr), self.log().await);
    }

    async fn log(&self) -> String {
        let output = podman().args(["logs", &self.0]).output().await.unwrap();
        text(&output.stdout) + &text(&output.stderr)
    }

    async fn inspect(&self, format: &str) -> String {
        say(&["inspect", "--format", format, &self.0]).await
    }

    /// A field of its process's status(5).
    async fn status(&self, field: &str) -> String {
        let id = self.inspect("{{.State.Pid}}").await;
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        line.unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Nothing can be waited for here but by the thread.
        let _ = podman().as_std_mut().args(["rm", "--force", "--time=0", &self.0]).output();
    }
}

fn secret(dir: &Path) -> String {
    fs::write(dir.join("client_secret"), "the-secret-of-the-tests").unwrap();
    format!("--volume={}:/run/secrets/cupbearer:ro", dir.display())
}

#[tokio::test]
async fn the_image_is_small_and_holds_the_program_alone() {
    let size: u64 = say(&["image", "inspect", "--format", "{{.Size}}", IMAGE]).await.parse().unwrap();
    assert!(size <= 15_000_000, "{size} bytes");
    let config: Value = serde_json::from_str(&say(&["image", "inspect", IMAGE]).await).unwrap();
    let config = &config[0];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Config"]["Entrypoint"][0], "/cupbearer");
    assert_eq!(config["Config"]["WorkingDir"], "/etc/cupbearer");
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(config["Labels"]["org.opencontainers.image.licenses"], "MIT OR Apache-2.0");
    // Of sources that are no checkout nobody knows it.
    let revision = config["Labels"]["org.opencontainers.image.revision"].as_str().map(str::len);
    assert!(matches!(revision, Some(0 | 40)), "{revision:?}");

    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("root.tar");
    let container = Container(say(&["create", "--pull=never", IMAGE]).await);
    say(&["export", "--output", archive.to_str().unwrap(), &container.0]).await;
    let list = Program::peer("tar", "tar").arg("-tf").arg(&archive).output().await.unwrap();
    let list = text(&list.stdout);
    let files: BTreeSet<&str> = list.lines().filter(|name| !name.ends_with('/')).collect();
    // What the runtime puts there itself is empty.
    let ours: BTreeSet<&str> = files
        .iter()
        .copied()
        .filter(|name| {
            !["dev/", "proc/", "sys/", "run/", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"]
                .iter()
                .any(|of| name.starts_with(of))
        })
        .collect();
    assert_eq!(
        ours.into_iter().collect::<Vec<_>>(),
        ["cupbearer", "etc/ssl/certs/ca-certificates.crt", "usr/share/cupbearer/sbom.cdx.json"]
    );

    let bill = Program::peer("tar", "tar")
        .args(["-xOf", archive.to_str().unwrap(), "usr/share/cupbearer/sbom.cdx.json"])
        .output()
        .await
        .unwrap();
    let bill: Value = serde_json::from_slice(&bill.stdout).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let components = bill["components"].as_array().unwrap();
    assert!(components.len() > 100, "{}", components.len());
    let mut names = BTreeSet::new();
    for component in components {
        let (name, version) = (component["name"].as_str().unwrap(), component["version"].as_str().unwrap());
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{name} {version}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64));
        names.insert(name);
    }
    assert!(names.contains("hyper") && names.contains("rustls") && !names.contains("criterion"));
}

#[tokio::test]
async fn confined_it_serves_is_healthy_and_finishes_what_is_under_way() {
    let (api, server) =
        (Origin::start(|_, _| Reply::ok().after(Duration::from_secs(2))).await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    let (container, listen) = Container::between(&api, &server, dir.path()).await;
    say(&["healthcheck", "run", &container.0]).await;
    assert_eq!(container.status("Uid").await.split_whitespace().next(), Some("65532"));
    assert_eq!(container.status("CapEff").await, "0000000000000000");
    assert_eq!(container.status("NoNewPrivs").await, "1");
    assert!(!container.exec(&["/bin/sh", "-c", "true"]).await.status.success(), "there is no shell");

    let url = format!("http://{listen}/slow");
    let under_way = tokio::spawn(async move { curl(&[&url]).await });
    eventually("the request has come to the API", || async { !api.seen().is_empty() }).await;
    say(&["stop", "--time=30", &container.0]).await;
    assert_eq!(under_way.await.unwrap().status, 200, "{}", container.log().await);
    assert_eq!(container.inspect("{{.State.ExitCode}} {{.State.OOMKilled}}").await, "0 false");
    assert!(!container.log().await.contains("the-secret-of-the-tests"));
}

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

#[tokio::test]
async fn a_swapped_config_map_is_reloaded_and_workers_follow_the_quota() {
    let api = Origin::ok().await;
    let dir = tempfile::tempdir().unwrap();
    let (listen, health, control) = (free_address(), free_address(), free_address());
    let config = |path: &str| {
        format!(
            "[server]\nlisten = \"{listen}\"\n[health]\nlisten = \"{health}\"\n[control]\nlisten = \"{control}\"\n[upstreams.api]\nurl = \"{}\"\n\
             [[routes]]\npath = \"{path}\"\nupstream = \"api\"\ntoken = \"none\"\n",
            api.url()
        )
    };
    let lay = |version: &str, path: &str| project(dir.path(), version, "config.toml", &config(path));
    lay("..1", "/old");
    let volume = format!("--volume={}:/etc/cupbearer:ro", dir.path().display());
    let container = Container::start(&["--network=host", "--cpus=1", &volume], &[]).await;
    container.wait().await;
    let url = |path: &str| format!("http://{listen}{path}");
    assert_eq!(curl(&[&url("/old")]).await.status, 200);
    assert_eq!(curl(&[&url("/new")]).await.status, 404);
    lay("..2", "/new");
    let new = url("/new");
    eventually("the new route is there", || async { curl(&[&new]).await.status == 200 }).await;
    assert_eq!(curl(&[&url("/old")]).await.status, 404);

    // One worker beside the thread of everything else: this machine has more cores.
    let threads = |id: &str| {
        fs::read_dir(format!("/proc/{id}/task"))
            .unwrap()
            .flatten()
            .filter(|task| {
                fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("worker"))
            })
            .count()
    };
    assert_eq!(threads(&container.inspect("{{.State.Pid}}").await), 1);
}

#[tokio::test]
async fn under_load_it_stays_within_its_memory() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    let (container, listen) = Container::between(&api, &server, dir.path()).await;
    let url = format!("http://{listen}/");
    let output = Program::peer("wrk", "wrk")
        .args(["-t1", "-c200", "-d4s", "--timeout=10s", &url])
        .output()
        .await
        .unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("Requests/sec") && !said.contains("Non-2xx"), "{said}");
    assert_eq!(container.inspect("{{.State.Running}} {{.State.OOMKilled}}").await, "true false");
    let peak: u64 = container.status("VmHWM").await.trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 64 * 1024, "{peak} KiB");
}

/// A pod that `play kube` made, ended where it is dropped.
/// Makes the image `localhost/busybox:test`: a shell, a client and a server for a pod.
pub(super) async fn busybox() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("busybox.tar");
    let mut tar = Program::peer("tar", "tar");
    tar.args(["-C", "/", "-cf"]).arg(&archive).arg("bin/busybox");
    let tar = tar.output().await.unwrap();
    assert!(tar.status.success(), "{}\nInstall busybox-static", text(&tar.stderr));
    say(&["import", archive.to_str().unwrap(), "localhost/busybox:test"]).await;
}

struct Pod<'a>(&'a Path);

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let _ = podman().as_std_mut().args(["play", "kube", "--down"]).arg(self.0).output();
    }
}

#[tokio::test]
async fn a_manifest_as_inject_writes_it_runs_and_its_application_gets_answers_with_a_token() {
    busybox().await;
    let dir = tempfile::tempdir().unwrap();
    let name = format!("orders-{}", free_address().port());
    let pod = fs::read_to_string(repository().join("tests/peers/image/pod.yaml"))
        .unwrap()
        .replace("name: orders", &format!("name: {name}"));
    let file = dir.path().join("pod.yaml");
    fs::write(&file, pod).unwrap();
    // podman knows no native sidecars, which is why this one is plain.
    let mut inject = Command::new(env!("CARGO_BIN_EXE_cupbearer"));
    inject.args(["inject", "--mode", "plain", "--no-secret", "--image", IMAGE]).arg(&file);
    let output = inject.output().await.unwrap();
    let injected = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // It would map the port to one of the machine's, which a pod without a network does not have.
    let ports = "    ports:\n    - name: cb-health\n      containerPort: 9901\n";
    assert!(injected.contains(ports), "{injected}");
    fs::write(&file, injected.replace(ports, "") + "\n").unwrap();
    let _pod = Pod(&file);
    say(&["play", "kube", "--network=none", file.to_str().unwrap()]).await;
    let log = |container: &str| {
        let container = format!("{name}-{container}");
        async move {
            let output = podman().args(["logs", &container]).output().await.unwrap();
            text(&output.stdout) + &text(&output.stderr)
        }
    };
    eventually("the application has its answer", || async { log("app").await.contains("Bearer of-the-pod") })
        .await;
    assert!(log("cupbearer").await.contains("the first token was obtained"));
}

#[tokio::test]
async fn a_rotated_projected_token_and_a_rotated_secret_count_at_the_next_renewal() {
    let (api, server) = (Origin::ok().await, Origin::issuing(4).await);
    let dir = tempfile::tempdir().unwrap();
    let lay = |folder: &str, version: &str, file: &str, content: &str| {
        project(&dir.path().join(folder), version, file, content);
    };
    lay("identity", "..1", "token", "first-assertion");
    lay("secret", "..1", "client_secret", "first-secret");
    fs::create_dir(dir.path().join("config")).unwrap();
    let token = |name: &str, auth: &str| {
        format!(
            "[tokens.{name}]\ntoken_endpoint = \"{}/token\"\nclient_id = \"{name}\"\nexpiry_margin = \"0s\"\n{auth}\n",
            server.url()
        )
    };
    let config = format!(
        "[server]\nlisten = \"{}\"\n[health]\nlisten = \"{}\"\n[control]\nlisten = \"{}\"\n[upstreams.api]\nurl = \"{}\"\n{}{}[[routes]]\npath = \"/\"\n\
         upstream = \"api\"\ntoken = \"workload\"\n[[routes]]\npath = \"/other\"\nupstream = \"api\"\ntoken = \"shared\"\n",
        free_address(),
        free_address(),
        free_address(),
        api.url(),
        token(
            "workload",
            "client_auth = \"assertion_file\"\nassertion_file = \"/run/identity/cupbearer/token\""
        ),
        token(
            "shared",
            "client_auth = \"client_secret_post\"\nclient_secret_file = \"/run/secrets/cupbearer/client_secret\""
        ),
    );
    fs::write(dir.path().join("config/config.toml"), config).unwrap();
    let volume = |folder: &str, at: &str| format!("--volume={}:{at}:ro", dir.path().join(folder).display());
    let volumes = [
        volume("config", "/etc/cupbearer"),
        volume("identity", "/run/identity/cupbearer"),
        volume("secret", "/run/secrets/cupbearer"),
    ];
    let container = Container::start(&["--network=host", &volumes[0], &volumes[1], &volumes[2]], &[]).await;
    container.wait().await;
    let sent = |word: &'static str| {
        let bodies: Vec<String> = server.seen().iter().map(|message| text(&message.body)).collect();
        async move { bodies.iter().any(|body| body.contains(word)) }
    };
    eventually("the first token was shown", || sent("first-assertion")).await;
    eventually("the first secret was shown", || sent("first-secret")).await;
    lay("identity", "..2", "token", "second-assertion");
    lay("secret", "..2", "client_secret", "second-secret");
    eventually("the next renewal shows the new token", || sent("second-assertion")).await;
    eventually("the next renewal shows the new secret", || sent("second-secret")).await;
    assert!(!container.log().await.contains("-assertion") && !container.log().await.contains("first-secret"));
}
