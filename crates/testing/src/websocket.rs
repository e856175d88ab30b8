//! WebSocket servers of other people's making (`tests/peers/websocket`): the package websockets, which speaks HTTP/1.1, and Node.js,
//! which speaks HTTP/2. Clients of both, too.

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::certificate::Certificates;
use super::program::Program;
use super::proxy::{Proxy, upstream_at};
use super::script::{hear, node, python, run, told};

/// A running server.
#[derive(Debug)]
pub struct WebSocketApi {
    program: Program,
    port: u64,
    at: At,
    more: String,
    _dir: TempDir,
}

/// What its URL says of the way to it.
#[derive(Clone, Copy, Debug)]
enum At {
    Clear,
    Tls,
}

impl WebSocketApi {
    /// Over HTTP/1.1.
    pub async fn http1() -> Self {
        Self::launch("websockets", python("websocket/server.py"), At::Clear, "").await
    }

    /// Over HTTP/1.1 in TLS. Its `ca_file` is in the upstream's section.
    pub async fn tls() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Certificates::for_loopback(dir.path());
        let mut command = python("websocket/server.py");
        command.arg("tls").arg(&files.certificate).arg(&files.key);
        let more = format!("ca_file = '{}'\n", files.ca.display());
        Self::launch_in(dir, "websockets", command, At::Tls, &more).await
    }

    /// Over HTTP/1.1 on a Unix socket, which the upstream's section names.
    pub async fn unix() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let mut command = python("websocket/server.py");
        command.arg("unix").arg(&socket);
        let more = format!("socket = '{}'\n", socket.display());
        Self::launch_in(dir, "websockets", command, At::Clear, &more).await
    }

    /// Over HTTP/2, with extended CONNECT.
    pub async fn http2() -> Self {
        let command = node("websocket/server.mjs", None);
        Self::launch("node", command, At::Clear, "http2 = \"prior_knowledge\"\n").await
    }

    /// Over HTTP/2, without extended CONNECT.
    pub async fn plain_http2() -> Self {
        let mut command = node("websocket/server.mjs", None);
        command.arg("plain");
        Self::launch("node", command, At::Clear, "http2 = \"prior_knowledge\"\n").await
    }

    async fn launch(name: &'static str, command: Command, at: At, more: &str) -> Self {
        Self::launch_in(tempfile::tempdir().unwrap(), name, command, at, more).await
    }

    async fn launch_in(dir: TempDir, name: &'static str, command: Command, at: At, more: &str) -> Self {
        let mut program = Program::spawn(name, command, dir.path());
        let ready = hear(&mut program, "listening", |event| event["event"] == "listening").await;
        Self { program, port: ready["port"].as_u64().unwrap(), at, more: more.to_owned(), _dir: dir }
    }

    /// The section of upstream `api`, open for more keys.
    pub fn upstream(&self) -> String {
        let url = match self.at {
            At::Tls => format!("https://localhost:{}", self.port),
            // On a Unix socket the URL says what is asked for there, and no more.
            At::Clear if self.port == 0 => "http://api.internal".to_owned(),
            At::Clear => format!("http://127.0.0.1:{}", self.port),
        };
        upstream_at(&url) + &self.more
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        u16::try_from(self.port).unwrap()
    }

    /// What it told of this kind so far: `began`, `ended`, `sent`.
    pub fn told(&self, kind: &str) -> Vec<Value> {
        told(&self.program).into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// Waits until it tells of this.
    pub async fn hear(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        hear(&mut self.program, what, is).await
    }

    /// The process itself.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The values of a field of each handshake so far.
    pub fn field(&self, name: &str) -> Vec<Vec<String>> {
        let of = |event: &Value| {
            let fields = event["fields"].as_array().unwrap();
            let values = fields.iter().filter(|field| field[0] == name);
            values.map(|field| field[1].as_str().unwrap().to_owned()).collect()
        };
        self.told("began").iter().map(of).collect()
    }
}

/// A client over HTTP/1.1, for these cases of `client.py`.
pub fn http1_client(proxy: &Proxy, cases: &[&str]) -> Command {
    let mut command = python("websocket/client.py");
    command.arg(format!("ws://{}", proxy.listen())).args(cases);
    command
}

/// A client over HTTP/2, for these cases of `client.mjs`.
pub fn http2_client(proxy: &Proxy, cases: &[&str]) -> Command {
    let mut command = node("websocket/client.mjs", None);
    command.arg(proxy.url("")).args(cases);
    command
}

/// Runs a client to its end; each of its cases has passed.
pub async fn passes(proxy: &Proxy, client: Command) {
    let output = run(client).await;
    let failed: Vec<_> = output.iter().filter(|report| report["passed"] != true).collect();
    assert!(!output.is_empty() && failed.is_empty(), "{failed:#?}\n{}", proxy.log());
}
