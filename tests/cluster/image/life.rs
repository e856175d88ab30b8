//! A container's life, from its first token to its end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;

use super::{Container, IMAGE, busybox, podman, say, text};
use cupbearer_testing::{
    Config, Origin, Reply, curl, eventually, free_address, project, repository, token_at, upstream_at,
};

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

#[tokio::test]
async fn the_health_check_follows_the_configuration_to_the_health_listener_and_tells_readiness() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    let health = async |container: &Container| {
        let output = podman().args(["healthcheck", "run", &container.0]).output().await.unwrap();
        output.status.success()
    };
    // Each container here has its health listener on a port of its own, which only its file tells.
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
    let (container, _) = Container::with(&config, dir.path(), &[]).await;
    container.wait().await;
    assert!(health(&container).await, "{}", container.log().await);

    // The same file elsewhere, once the first container has left its ports.
    drop(container);
    let volume = format!("--volume={}:/elsewhere:ro", dir.path().display());
    let named = "--env=CUPBEARER_CONFIG=/elsewhere/config.toml";
    let container = Container::start(&["--network=host", &volume, named], &[]).await;
    container.wait().await;
    assert!(health(&container).await, "{}", container.log().await);

    // Nobody is there to give it a token.
    let config =
        Config::one_route(&upstream_at(&api.url()), &token_at(&format!("http://{}", free_address())));
    let (container, listen) = Container::with(&config, dir.path(), &[]).await;
    eventually("it listens", || async { TcpStream::connect(listen).await.is_ok() }).await;
    assert!(!health(&container).await, "{}", container.log().await);
}

#[tokio::test]
async fn traces_are_refused_by_the_image_that_is_built_without_them() {
    let endpoint = "--env=CUPBEARER__TELEMETRY__OTLP_ENDPOINT=http://127.0.0.1:4318";
    let upstream = "--env=CUPBEARER_UPSTREAM=http://127.0.0.1:8000";
    let container = Container::start(&["--network=none", endpoint, upstream], &["check"]).await;
    assert_ne!(say(&["wait", &container.0]).await, "0");
    let log = container.log().await;
    assert!(log.contains("telemetry.otlp_endpoint"), "{log}");
    assert!(log.contains("built without the feature otlp"), "{log}");
}

#[tokio::test]
async fn a_swapped_config_map_is_reloaded() {
    let api = Origin::ok().await;
    let dir = tempfile::tempdir().unwrap();
    let (listen, health, control) = (free_address(), free_address(), free_address());
    let config = |path: &str| {
        let route = format!("[[routes]]\npath = \"{path}\"\nupstream = \"api\"\ntoken = \"none\"\n");
        Config::new(upstream_at(&api.url()) + &route).render([listen, health, control])
    };
    let lay = |version: &str, path: &str| project(dir.path(), version, "config.toml", &config(path));
    lay("..1", "/old");
    let volume = format!("--volume={}:/etc/cupbearer:ro", dir.path().display());
    let container = Container::start(&["--network=host", &volume], &[]).await;
    container.wait().await;
    let url = |path: &str| format!("http://{listen}{path}");
    assert_eq!(curl(&[&url("/old")]).await.status, 200);
    assert_eq!(curl(&[&url("/new")]).await.status, 404);
    lay("..2", "/new");
    let new = url("/new");
    eventually("the new route is there", || async { curl(&[&new]).await.status == 200 }).await;
    assert_eq!(curl(&[&url("/old")]).await.status, 404);
}

/// A pod that `play kube` made, ended where it is dropped.
struct Pod<'a>(&'a Path);

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let _ = podman().as_std_mut().args(["play", "kube", "--down"]).arg(self.0).output();
    }
}

#[tokio::test]
async fn a_manifest_as_inject_writes_it_runs_and_its_application_gets_answers_with_a_token() {
    let dir = tempfile::tempdir().unwrap();
    busybox().await;
    let name = format!("orders-{}", free_address().port());
    let pod = fs::read_to_string(repository().join("tests/peers/image/pod.yaml"))
        .unwrap()
        .replace("name: orders", &format!("name: {name}"));
    let file = dir.path().join("pod.yaml");
    fs::write(&file, pod).unwrap();
    // podman knows no native sidecars, which is why this one is plain, and neither service accounts nor the empty volume that
    // covers theirs.
    let mut inject = Command::new(env!("CARGO_BIN_EXE_cupbearer"));
    inject.args(["inject", "--mode", "plain", "--no-secret", "--service-account-token", "true"]);
    inject.args(["--image", IMAGE]).arg(&file);
    let output = inject.output().await.unwrap();
    let injected = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // It would map the port to one of the machine's, which a pod without a network does not have.
    let ports = "    ports:\n    - name: cb-health\n      containerPort: 4281\n";
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
    // As `kubectl exec POD -c cupbearer -- /cupbearer status`.
    let sidecar = format!("{name}-cupbearer");
    let status = podman().args(["exec", &sidecar, "/cupbearer", "status"]).output().await.unwrap();
    let said = text(&status.stdout) + &text(&status.stderr);
    assert!(status.status.success() && said.contains("valid"), "{said}");
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
    let config = Config::new(format!(
        "{}{}{}[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"workload\"\n\
         [[routes]]\npath = \"/other\"\nupstream = \"api\"\ntoken = \"shared\"\n",
        upstream_at(&api.url()),
        token(
            "workload",
            "client_auth = \"assertion_file\"\nassertion_file = \"/run/identity/cupbearer/token\""
        ),
        token(
            "shared",
            "client_auth = \"client_secret_post\"\nclient_secret_file = \"/run/secrets/cupbearer/client_secret\""
        ),
    ));
    let volume = |folder: &str, at: &str| format!("--volume={}:{at}:ro", dir.path().join(folder).display());
    let [identity, secret] =
        [volume("identity", "/run/identity/cupbearer"), volume("secret", "/run/secrets/cupbearer")];
    let config_dir = dir.path().join("config");
    let (container, _) = Container::with(&config, &config_dir, &[&identity, &secret]).await;
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
