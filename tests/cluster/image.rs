//! The image of `Dockerfile` in real containers: what is in it, and how it lives there. `tests/peers/image/build` makes it, which
//! `scripts/test` does before the tests.

mod build;
mod contents;
mod job;
mod life;
mod names;
mod resources;
mod tls;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;

use cupbearer_testing::{Config, Origin, Program, free_address, podman};

const IMAGE: &str = "localhost/cupbearer:test";

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

    /// One on this machine's network with a configuration in `dir`, which is its `/etc/cupbearer`; and where it listens.
    async fn with(config: &Config, dir: &Path, more: &[&str]) -> (Self, SocketAddr) {
        let listen = free_address();
        let file = config.render([listen, free_address(), free_address()]);
        fs::write(dir.join("config.toml"), file).unwrap();
        let volume = format!("--volume={}:/etc/cupbearer:ro", dir.display());
        (Self::start(&[&["--network=host", &volume], more].concat(), &[]).await, listen)
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

/// Makes the image `localhost/busybox:test`, where it is not there: a shell, a client and a server for a pod.
async fn busybox() {
    const NAME: &str = "localhost/busybox:test";
    if podman().args(["image", "exists", NAME]).status().await.unwrap().success() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("busybox.tar");
    let mut tar = Program::peer("tar", "tar");
    let tar = tar.args(["-C", "/", "-cf"]).arg(&archive).arg("bin/busybox").output().await.unwrap();
    assert!(tar.status.success(), "{}\nInstall busybox-static", text(&tar.stderr));
    say(&["import", archive.to_str().unwrap(), NAME]).await;
}
