//! WebSocket servers of other people's making (`tests/peers/websocket`): the package websockets, which speaks HTTP/1.1, and Node.js,
//! which speaks HTTP/2. Clients of both, too.

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::program::Program;
use super::proxy::{Proxy, upstream_at};
use super::script::{hear, node, python, run, told};

/// A running server.
#[derive(Debug)]
pub(crate) struct WebSocketApi {
    program: Program,
    port: u64,
    more: &'static str,
    _dir: TempDir,
}

impl WebSocketApi {
    /// Over HTTP/1.1.
    pub(crate) async fn http1() -> Self {
        Self::launch("websockets", python("websocket/server.py"), "").await
    }

    /// Over HTTP/2, with extended CONNECT.
    pub(crate) async fn http2() -> Self {
        let command = node("websocket/server.mjs", None);
        Self::launch("node", command, "http2 = \"prior_knowledge\"\n").await
    }

    /// Over HTTP/2, without extended CONNECT.
    pub(crate) async fn plain_http2() -> Self {
        let mut command = node("websocket/server.mjs", None);
        command.arg("plain");
        Self::launch("node", command, "http2 = \"prior_knowledge\"\n").await
    }

    async fn launch(name: &'static str, command: Command, more: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut program = Program::spawn(name, command, dir.path());
        let ready = hear(&mut program, "listening", |event| event["event"] == "listening").await;
        Self { program, port: ready["port"].as_u64().unwrap(), more, _dir: dir }
    }

    /// The section of upstream `api`, open for more keys.
    pub(crate) fn upstream(&self) -> String {
        upstream_at(&format!("http://127.0.0.1:{}", self.port)) + self.more
    }

    /// What it told of this kind so far: `began`, `ended`, `sent`.
    pub(crate) fn told(&self, kind: &str) -> Vec<Value> {
        told(&self.program).into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// Waits until it tells of this.
    pub(crate) async fn hear(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        hear(&mut self.program, what, is).await
    }

    /// The process itself.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// The values of a field of each handshake so far.
    pub(crate) fn field(&self, name: &str) -> Vec<Vec<String>> {
        let of = |event: &Value| {
            let fields = event["fields"].as_array().unwrap();
            let values = fields.iter().filter(|field| field[0] == name);
            values.map(|field| field[1].as_str().unwrap().to_owned()).collect()
        };
        self.told("began").iter().map(of).collect()
    }
}

/// A client over HTTP/1.1, for these cases of `client.py`.
pub(crate) fn http1_client(proxy: &Proxy, cases: &[&str]) -> Command {
    let mut command = python("websocket/client.py");
    command.arg(format!("ws://{}", proxy.listen())).args(cases);
    command
}

/// A client over HTTP/2, for these cases of `client.mjs`.
pub(crate) fn http2_client(proxy: &Proxy, cases: &[&str]) -> Command {
    let mut command = node("websocket/client.mjs", None);
    command.arg(proxy.url("")).args(cases);
    command
}

/// Runs a client to its end; each of its cases has passed.
pub(crate) async fn passes(proxy: &Proxy, client: Command) {
    let output = run(client).await;
    let failed: Vec<_> = output.iter().filter(|report| report["passed"] != true).collect();
    assert!(!output.is_empty() && failed.is_empty(), "{failed:#?}\n{}", proxy.log());
}
