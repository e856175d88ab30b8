//! The shipped units in a real systemd, which is the first process of a container: start, reload, restart under load, a program
//! that stands still, what may pass, and the journal.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use cupbearer_testing::{Origin, Reply, cupbearer, curl, eventually, free_address, podman, repository};

const IMAGE: &str = "localhost/cupbearer-systemd:test";
const UNIT: &str = "/etc/systemd/system/cupbearer.service";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A machine with systemd, the program, and its units as they are shipped. It ends where this is dropped.
struct Machine {
    name: String,
    /// Its `/etc/cupbearer`.
    dir: TempDir,
    api: Origin,
    server: Origin,
    listen: SocketAddr,
    health: SocketAddr,
    control: SocketAddr,
}

impl Machine {
    async fn boot(api: Origin, server: Origin) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let [listen, health, control] = [free_address(), free_address(), free_address()];
        let name = format!("cupbearer-test-{}-{}", std::process::id(), listen.port());
        let machine = Self { name, dir, api, server, listen, health, control };
        machine.configure("");
        machine.write_secret("first-secret");
        let deploy = repository().join("deploy/systemd");
        let program = cupbearer().as_std().get_program().to_string_lossy().into_owned();
        let volumes = [
            format!("--volume={program}:/usr/local/bin/cupbearer:ro"),
            format!("--volume={}:/etc/cupbearer:ro", machine.dir.path().display()),
            format!("--volume={}:{UNIT}:ro", deploy.join("cupbearer.service").display()),
            format!(
                "--volume={}:/etc/systemd/system/cupbearer.socket:ro",
                deploy.join("cupbearer.socket").display()
            ),
        ];
        let mut command = podman();
        command.args(["run", "--detach", "--pull=never", "--systemd=always", "--privileged"]);
        command.args(["--network=host", "--name", &machine.name]).args(volumes);
        let output = command.args([IMAGE, "/sbin/init"]).output().await.unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}\nIs the image there? tests/peers/systemd/build {IMAGE}");
        // Credentials are mounts, and reach a service where mounts propagate, as they do on a machine.
        machine.sh("mount --make-rshared /").await;
        eventually("systemd has booted", || async {
            let state = machine.try_sh("systemctl is-system-running").await;
            ["running\n", "degraded\n"].contains(&text(&state.stdout).as_str())
        })
        .await;
        machine
    }

    async fn plain() -> Self {
        Self::boot(Origin::ok().await, Origin::issuing(300).await).await
    }

    /// Writes the configuration, with `more` at its end.
    fn configure(&self, more: &str) {
        let config = format!(
            "[server]\nlisten = [\"{}\"]\n[health]\nlisten = \"{}\"\n[control]\nlisten = \"{}\"\n\
             [upstreams.api]\nurl = \"{}\"\n[tokens.api]\ntoken_endpoint = \"{}/token\"\nclient_id = \"orders\"\n\
             client_auth = \"client_secret_basic\"\n\
             client_secret_file = \"/run/credentials/cupbearer.service/client_secret\"\n\
             [[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"api\"\n{more}",
            self.listen,
            self.health,
            self.control,
            self.api.url(),
            self.server.url()
        );
        self.write("config.toml", &config, 0o644);
    }

    fn write_secret(&self, secret: &str) {
        self.write("client_secret", secret, 0o600);
    }

    fn write(&self, name: &str, content: &str, mode: u32) {
        let file = self.dir.path().join(name);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    async fn try_sh(&self, script: &str) -> Output {
        podman().args(["exec", &self.name, "sh", "-c", script]).output().await.unwrap()
    }

    /// Runs a script as root, which must succeed.
    async fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script).await;
        let journal = if output.status.success() { String::new() } else { self.journal().await };
        assert!(
            output.status.success(),
            "{script}: {}{}\n{journal}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    async fn journal(&self) -> String {
        text(&self.try_sh("journalctl --no-pager --unit cupbearer.service").await.stdout)
    }

    /// A property of the service.
    async fn property(&self, name: &str) -> String {
        self.sh(&format!("systemctl show --value --property {name} cupbearer.service"))
            .await
            .trim()
            .to_owned()
    }

    /// How often the service was started again by itself.
    async fn restarts(&self) -> u32 {
        self.property("NRestarts").await.parse().unwrap()
    }

    /// Adds lines to a unit.
    async fn drop_in(&self, unit: &str, lines: &str) {
        let folder = format!("/etc/systemd/system/{unit}.d");
        self.sh(&format!(
            "mkdir -p {folder} && printf '{lines}' >{folder}/test.conf && systemctl daemon-reload"
        ))
        .await;
    }

    async fn serves(&self) -> bool {
        curl(&[&format!("http://{}/a", self.listen)]).await.status == 200
    }

    async fn until_it_serves(&self) {
        eventually("it serves", || self.serves()).await;
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = podman().as_std_mut().args(["rm", "--force", "--time=0", &self.name]).output();
    }
}

/// One request on a connection of its own: the status, or why there is none.
async fn request(address: SocketAddr, path: String) -> Result<u16, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| format!("connecting: {error}"))?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.map_err(|error| format!("sending: {error}"))?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.map_err(|error| format!("reading: {error}"))?;
    let status = text(&response).split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| "no response".to_owned())
}

#[tokio::test]
async fn the_shipped_service_starts_with_its_credential_and_reloads_with_a_verdict() {
    let machine = Machine::plain().await;
    machine.sh("systemctl start cupbearer.service").await;
    assert!(machine.serves().await, "{}", machine.journal().await);
    // Services that are ordered after it found a token: the command found the proxy without the credential.
    let post = machine.property("ExecStartPost").await;
    assert!(post.contains("status=0"), "{post}\n{}", machine.journal().await);
    eventually("systemd shows how the tokens stand", || async {
        machine.property("StatusText").await == "ready; 1 of 1 token usable"
    })
    .await;

    // A user who may read the configuration and not the secret.
    for command in ["status", "wait", "renew", "reload"] {
        let as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
        machine.sh(&format!("{as_nobody} cupbearer {command} --config /etc/cupbearer/config.toml")).await;
    }

    machine.configure("own_authorization = \"keep\"\n");
    machine.sh("systemctl reload cupbearer.service").await;
    machine.configure("own_authorisation = \"keep\"\n");
    let refused = machine.try_sh("systemctl reload cupbearer.service").await;
    assert!(!refused.status.success(), "a configuration that is refused");
    let journal = machine.journal().await;
    assert!(journal.contains("did you mean `own_authorization`?"), "{journal}");
    assert_eq!(machine.property("ActiveState").await, "active");
    assert!(machine.serves().await, "the configuration of before stays in force");

    // A new secret counts from the next start.
    machine.configure("");
    machine.write_secret("second-secret");
    machine.sh("systemctl restart cupbearer.service").await;
    assert!(machine.serves().await, "{}", machine.journal().await);
    let secrets: Vec<String> =
        machine.server.seen().iter().map(|request| request.all("authorization").join("")).collect();
    let basic = |secret: &str| format!("Basic {}", STANDARD.encode(format!("orders:{secret}")));
    assert_eq!(secrets.first(), Some(&basic("first-secret")));
    assert_eq!(secrets.last(), Some(&basic("second-secret")));

    let lines = machine.sh("journalctl --no-pager --output json --unit cupbearer.service").await;
    let priority = |marker: &str| {
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let line =
            lines.into_iter().find(|line| line["MESSAGE"].as_str().is_some_and(|text| text.contains(marker)));
        line.unwrap_or_else(|| panic!("{marker} is not in the journal"))["PRIORITY"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(priority("\"listening\""), "6");
    assert_eq!(priority("the new configuration is refused"), "3");
    assert_eq!(priority("cupbearer: Configuration refused"), "3", "that of a command, too");

    machine.sh("systemctl stop cupbearer.service").await;
    assert_eq!(machine.property("Result").await, "success");
}

#[tokio::test]
async fn a_restart_with_the_socket_refuses_no_connection_however_long_a_request_takes() {
    let api = Origin::start(|message, _| match message.target().as_str() {
        "/slow" => Reply::ok().after(Duration::from_secs(8)),
        _ => Reply::ok(),
    });
    let machine = Machine::boot(api.await, Origin::issuing(300).await).await;
    let listen = format!("[Socket]\\nListenStream=\\nListenStream={}\\n", machine.listen);
    machine.drop_in("cupbearer.socket", &listen).await;
    machine.sh("systemctl start cupbearer.socket cupbearer.service").await;
    machine.until_it_serves().await;
    let first = machine.property("MainPID").await;

    let address = machine.listen;
    let slow = tokio::spawn(request(address, "/slow".to_owned()));
    eventually("the slow request is under way", || async {
        machine.api.seen().iter().any(|request| request.target() == "/slow")
    })
    .await;
    let restart = machine.sh("systemctl restart cupbearer.service");
    let load = async {
        let mut requests = Vec::new();
        // Before, during and after the restart.
        for number in 0..240 {
            requests.push(tokio::spawn(request(address, format!("/{number}"))));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        requests
    };
    let (_, requests) = tokio::join!(restart, load);
    assert_eq!(slow.await.unwrap(), Ok(200), "what is under way is finished");
    assert_ne!(machine.property("MainPID").await, first);
    for request in requests {
        assert_eq!(request.await.unwrap(), Ok(200), "{}", machine.journal().await);
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_so_is_a_configuration_until_it_is_right() {
    let machine = Machine::plain().await;
    // A credential that is written late: more tries than systemd's limit allows.
    let secret = machine.dir.path().join("client_secret");
    fs::remove_file(&secret).unwrap();
    assert!(!machine.try_sh("systemctl start cupbearer.service").await.status.success());
    eventually("it was tried often", || async { machine.restarts().await > 5 }).await;
    machine.write_secret("first-secret");
    machine.until_it_serves().await;
    machine.sh("systemctl stop cupbearer.service").await;

    // A port that is taken.
    let taken = TcpListener::bind(machine.listen).await.unwrap();
    let _ = machine.try_sh("systemctl start cupbearer.service").await;
    eventually("it is tried again", || async { machine.restarts().await > 1 }).await;
    let journal = machine.journal().await;
    assert!(journal.contains("status=75/"), "{journal}");
    drop(taken);
    machine.until_it_serves().await;

    // A program that stands still; one that runs reports that it is alive.
    machine.drop_in("cupbearer.service", "[Service]\\nWatchdogSec=8s\\n").await;
    machine.sh("systemctl restart cupbearer.service").await;
    let (main, before) = (machine.property("MainPID").await, machine.restarts().await);
    let alive = machine.property("WatchdogTimestampMonotonic").await;
    eventually("it reports that it is alive", || async {
        machine.property("WatchdogTimestampMonotonic").await != alive
    })
    .await;
    machine.sh(&format!("kill -STOP {main}")).await;
    eventually("it is started again", || async { machine.restarts().await > before }).await;
    machine.until_it_serves().await;

    // A configuration that is wrong, until it is right.
    machine.sh("systemctl stop cupbearer.service").await;
    machine.configure("own_authorisation = \"keep\"\n");
    assert!(!machine.try_sh("systemctl start cupbearer.service").await.status.success());
    eventually("it is tried again", || async { machine.restarts().await > 0 }).await;
    let journal = machine.journal().await;
    assert!(journal.contains("own_authorisation") && journal.contains("status=2/"), "{journal}");
    machine.configure("");
    machine.until_it_serves().await;
}

#[tokio::test]
async fn the_socket_outlives_a_wrong_configuration_and_a_connection_that_waits_meanwhile() {
    let machine = Machine::plain().await;
    let listen = format!("[Socket]\\nListenStream=\\nListenStream={}\\n", machine.listen);
    machine.drop_in("cupbearer.socket", &listen).await;
    machine.sh("systemctl start cupbearer.socket cupbearer.service").await;
    machine.until_it_serves().await;

    machine.configure("own_authorisation = \"keep\"\n");
    assert!(!machine.try_sh("systemctl restart cupbearer.service").await.status.success());
    let address = machine.listen;
    let waiting = tokio::spawn(request(address, "/waiting".to_owned()));
    eventually("it is tried again with the connection waiting", || async { machine.restarts().await > 3 })
        .await;
    assert_eq!(machine.sh("systemctl is-active cupbearer.socket").await.trim(), "active");
    machine.configure("");
    assert_eq!(waiting.await.unwrap(), Ok(200), "{}", machine.journal().await);
    assert_eq!(request(address, "/after".to_owned()).await, Ok(200));
    assert_eq!(machine.sh("systemctl is-active cupbearer.socket").await.trim(), "active");
}

#[tokio::test]
async fn a_long_drain_delay_asks_systemd_for_its_time() {
    let api = Origin::start(|message, _| match message.target().as_str() {
        "/slow" => Reply::ok().after(Duration::from_secs(9)),
        _ => Reply::ok(),
    });
    let machine = Machine::boot(api.await, Origin::issuing(300).await).await;
    // As much beyond systemd's own time as 40 s are beyond the 30 s of the unit.
    machine.drop_in("cupbearer.service", "[Service]\\nTimeoutStopSec=3s\\n").await;
    let config = fs::read_to_string(machine.dir.path().join("config.toml")).unwrap();
    machine.write(
        "config.toml",
        &config.replacen("[server]\n", "[server]\ndrain_delay = \"4s\"\n", 1),
        0o644,
    );
    machine.sh("systemctl start cupbearer.service").await;
    machine.until_it_serves().await;
    let slow = tokio::spawn(request(machine.listen, "/slow".to_owned()));
    eventually("the slow request is under way", || async {
        machine.api.seen().iter().any(|request| request.target() == "/slow")
    })
    .await;
    let stop = machine.sh("systemctl stop cupbearer.service");
    let watch = async {
        let mut shown = Vec::new();
        eventually("both stages were shown", || async {
            machine.property("StatusText").await.starts_with("ending: not ready any more")
        })
        .await;
        shown.push(machine.serves().await);
        eventually("both stages were shown", || async {
            machine.property("StatusText").await.starts_with("ending: finishing")
        })
        .await;
        shown
    };
    let (_, served) = tokio::join!(stop, watch);
    assert_eq!(served, [true], "requests are served during the delay");
    assert_eq!(slow.await.unwrap(), Ok(200), "{}", machine.journal().await);
    assert_eq!(machine.property("Result").await, "success");
}

#[tokio::test]
async fn users_of_a_socket_are_told_apart_in_the_shipped_service() {
    let machine = Machine::plain().await;
    let config = fs::read_to_string(machine.dir.path().join("config.toml")).unwrap();
    let listen = format!(
        "listen = [\"{}\", \"unix:/run/cupbearer/proxy.sock\"]\nunix_mode = \"0666\"",
        machine.listen
    );
    let config = config.replacen(&format!("listen = [\"{}\"]", machine.listen), &listen, 1);
    machine.write("config.toml", &format!("{config}[guard]\nallowed_uids = [1001]\n"), 0o644);
    machine.sh("chmod 755 /run; systemctl start cupbearer.service").await;
    let status = |uid: u32| {
        let script = format!(
            "chmod o+x /run/cupbearer; setpriv --reuid={uid} --clear-groups perl -MIO::Socket::UNIX -e '\
             $s = IO::Socket::UNIX->new(Peer => \"/run/cupbearer/proxy.sock\") or die; \
             print $s \"GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n\"; print scalar <$s>'"
        );
        let machine = &machine;
        async move { machine.sh(&script).await.split(' ').nth(1).unwrap_or_default().to_owned() }
    };
    eventually("the user in the list is served", || async { status(1001).await == "200" }).await;
    assert_eq!(status(1002).await, "403");
}
