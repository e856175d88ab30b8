//! What a service manager and a person at the machine need of the program: a reload with a verdict, commands that find the proxy
//! without its secrets, exit codes that tell what passes, and sockets that are passed.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Output;
use std::time::Duration;

use tokio::net::TcpListener;

use cupbearer_testing::{
    Config, Origin, Program, Proxy, cupbearer, curl, eventually, free_address, token_at, upstream_at,
};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

struct Stage {
    api: Origin,
    server: Origin,
}

impl Stage {
    async fn new() -> Self {
        Self { api: Origin::ok().await, server: Origin::issuing(300).await }
    }

    fn config(&self) -> Config {
        Config::one_route(&upstream_at(&self.api.url()), &token_at(&self.server.url()))
    }
}

/// The exit code of `run` with this configuration, and what it says.
async fn run(text: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let output = cupbearer().arg("run").arg("--config").arg(&file).output().await.unwrap();
    (output.status.code(), said(&output))
}

#[tokio::test]
async fn reload_reports_the_verdict() {
    let stage = Stage::new().await;
    let proxy = Proxy::start(stage.config()).await;
    let output = proxy.command(&["reload"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the configuration was reloaded\n");

    proxy.rewrite(&stage.config().and("own_authorisation = \"keep\""));
    let output = proxy.command(&["reload"]).await;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for words in
        ["Configuration refused", "config.toml:", "routes[0].own_authorisation", "`own_authorization`?"]
    {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert_eq!(proxy.get("/").await.status, 200, "the configuration of before stays in force");
    let shown = said(&proxy.command(&["status"]).await);
    for words in
        ["the configuration was refused", "(1 problem)", "routes[0].own_authorisation", "`cupbearer check`"]
    {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    let reload = proxy.status().await["last_reload"].clone();
    assert_eq!((&reload["applied"], &reload["problems"]), (&false.into(), &1.into()), "{reload}");

    proxy.rewrite(&stage.config().server("workers = 3"));
    let output = proxy.command(&["reload"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains("[server] has changed; that counts from the next start"),
        "{}",
        said(&output)
    );
    let shown = said(&proxy.command(&["status"]).await);
    assert!(shown.contains("[server] has changed since the start; help: restart the program"), "{shown}");
    assert_eq!(proxy.status().await["last_reload"]["restart_needed"][0], "server");

    // Where its own control listener has moved in the file, the running proxy is still at the old address.
    proxy.rewrite(&stage.config().control(&format!("listen = \"{}\"", free_address())));
    let text = said(&proxy.command(&["reload"]).await);
    assert!(text.contains("no cupbearer runs") && text.contains("--control with the old address"), "{text}");

    fs::write(proxy.config_file(), "this is [not TOML").unwrap();
    let output = proxy.command(&["reload"]).await;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the configuration was refused") && text.contains("config.toml:1:"), "{text}");
    let file = proxy.config_file();
    let output = cupbearer().arg("reload").current_dir(file.parent().unwrap()).output().await.unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("config.toml:1:") && !text.contains("9902"), "{text}");
    let control = proxy.control().to_string();
    let output = cupbearer().args(["reload", "--control", &control]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[tokio::test]
async fn reload_obeys_the_rules_of_the_control_surface() {
    let stage = Stage::new().await;
    let restricted = stage.config().and("[guard]\nshared_secret = \"made-up-and-far-too-well-known\"");
    let proxy = Proxy::start(restricted).await;
    let output = proxy.command(&["reload"]).await;
    let text = said(&output);
    assert!(
        output.status.code() == Some(1) && text.contains("Read-only") && text.contains("unix:"),
        "{text}"
    );
    let page = curl(&["-X", "POST", &format!("http://{}/reload", proxy.control())]).await;
    assert_eq!(page.status, 403, "{}", page.text());
    assert!(!proxy.log().contains("requests a reload"), "{}", proxy.log());
}

#[tokio::test]
async fn commands_find_the_proxy_without_its_secrets_and_authorities() {
    let stage = Stage::new().await;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    let shared = dir.path().join("shared");
    fs::write(&secret, "the-secret").unwrap();
    fs::write(&shared, "made-up-and-far-too-well-known").unwrap();
    let token = format!(
        "[tokens.api]\ntoken_endpoint = \"{}/token\"\nclient_id = \"orders\"\nclient_secret_file = \"{}\"\n",
        stage.server.url(),
        secret.display()
    );
    let socket = dir.path().join("control.sock");
    let config = Config::one_route(&upstream_at(&stage.api.url()), &token)
        .and(&format!("[guard]\nshared_secret_file = \"{}\"", shared.display()))
        .control(&format!("listen = \"unix:{}\"", socket.display()));
    let proxy = Proxy::start(config).await;
    fs::remove_file(&secret).unwrap();
    fs::remove_file(&shared).unwrap();
    for words in [&["status"][..], &["wait"], &["token"]] {
        let output = proxy.command(words).await;
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", said(&output));
    }
    // These reach it, and it says why not.
    for (words, says) in [("renew", "the secret file"), ("reload", "guard.shared_secret_file")] {
        let output = proxy.command(&[words]).await;
        assert_eq!(output.status.code(), Some(1), "{words}: {}", said(&output));
        assert!(said(&output).contains(says), "{words}: {}", said(&output));
    }
}

#[tokio::test]
async fn the_exit_code_tells_what_may_pass_from_a_wrong_configuration() {
    let stage = Stage::new().await;
    let addresses = || [free_address(), free_address(), free_address()];
    let text = |config: &Config| config.render(addresses());
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let [listen, health, _] = addresses();
    let absent_address = "192.0.2.1:8080";
    let guard = |file: &str| stage.config().and(&format!("[guard]\nshared_secret_file = \"{file}\""));
    let wrong = stage.config().and("own_authorisation = \"keep\"");
    for (text, code, says) in [
        (stage.config().render([taken.local_addr().unwrap(), listen, health]), 75, "in use"),
        (stage.config().render([listen, health, taken.local_addr().unwrap()]), 75, "in use"),
        (text(&stage.config().server("allow_remote = true").listen(absent_address)), 75, absent_address),
        (text(&stage.config().listen("unix:/nowhere/proxy.sock")), 75, "/nowhere/proxy.sock"),
        (text(&guard("/nowhere/shared")), 75, "/nowhere/shared"),
        (
            text(
                &stage
                    .config()
                    .server("tls = { cert_file = \"/nowhere/c.pem\", key_file = \"/nowhere/k.pem\" }"),
            ),
            75,
            "/nowhere/c.pem",
        ),
        (text(&wrong), 2, "own_authorisation"),
        (text(&guard("/nowhere/shared")) + "unknown = 1\n", 2, "unknown"),
        ("this is [not TOML".to_owned(), 2, "config.toml:1:"),
    ] {
        let (ended, output) = run(&text).await;
        assert!(ended == Some(code) && output.contains(says), "{code} for {text}\n{ended:?}: {output}");
    }
}

/// `systemd-socket-activate` listens at `address` and starts the program with the first connection.
fn activated(more: &[&str], address: &str, words: &[&str]) -> tokio::process::Command {
    let mut command = Program::peer("systemd-socket-activate", "systemd");
    command.arg(format!("--listen={address}")).args(more);
    command.arg(cupbearer().as_std().get_program()).args(words);
    command
}

#[tokio::test]
async fn a_socket_that_is_passed_is_served_and_left_open_at_the_end() {
    let stage = Stage::new().await;
    let dir = tempfile::tempdir().unwrap();
    let [listen, health, control] = [free_address(), free_address(), free_address()];
    let other = free_address();
    let file = dir.path().join("config.toml");
    fs::write(&file, stage.config().render([listen, health, control])).unwrap();
    let path = file.to_str().unwrap();
    // By its name it is the proxy's, whatever the configuration has.
    for (more, address) in [(&[][..], listen), (&["--fdname=proxy"][..], other)] {
        let name = dir.path().join(format!("notify-{}", address.port()));
        let notify = UnixDatagram::bind(&name).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let socket = format!("NOTIFY_SOCKET={}", name.display());
        let more = [more, &["--setenv", &socket]].concat();
        let command = activated(&more, &address.to_string(), &["run", "--config", path]);
        let mut program = Program::spawn("cupbearer", command, dir.path());
        program
            .until("serving", || async { curl(&[&format!("http://{address}/a")]).await.status == 200 })
            .await;
        if address == other {
            assert_eq!(curl(&[&format!("http://{listen}/a")]).await.status, 0, "nothing listens there");
        }
        let wait = cupbearer().args(["wait", "--config", path]).output().await.unwrap();
        assert!(wait.status.success(), "{}", said(&wait));
        program.signal(rustix::process::Signal::TERM);
        assert!(program.ended(cupbearer_testing::PATIENCE).await.success(), "{}", program.log());
        let mut told = String::new();
        while !told.contains("STOPPING=1") {
            let mut message = [0; 1024];
            let length = notify.recv(&mut message).unwrap();
            told += &String::from_utf8_lossy(&message[..length]);
            told.push('\n');
        }
        assert!(told.starts_with("READY=1\nSTATUS="), "{told}");
    }
}

#[tokio::test]
async fn a_socket_that_no_listener_wants_is_an_error_that_names_it() {
    let stage = Stage::new().await;
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let file = dir.path().join("config.toml");
    fs::write(&file, stage.config().render([free_address(), free_address(), free_address()])).unwrap();
    let path = file.to_str().unwrap();
    for (more, says) in [
        (&[][..], "where the configuration listens on nothing"),
        (&["--datagram"][..], "is not a listening TCP socket"),
    ] {
        let command = activated(more, &address.to_string(), &["run", "--config", path]);
        let mut program = Program::spawn("cupbearer", command, dir.path());
        let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        eventually("it was started", || async {
            let _ = tokio::net::TcpStream::connect(address).await;
            let _ = datagram.send_to(b"x", address);
            program.log().contains(says)
        })
        .await;
        let status = program.ended(cupbearer_testing::PATIENCE).await;
        assert_eq!(status.code(), Some(2), "{}", program.log());
    }
}
