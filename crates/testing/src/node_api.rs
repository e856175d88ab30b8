//! A protected API on Node.js's own HTTP servers (`tests/peers/node`), in the clear and over TLS.

use serde_json::Value;
use tempfile::TempDir;

use super::certificate::Certificates;
use super::program::Program;
use super::proxy::upstream_at;
use super::script::{hear, node};

/// The running API; it ends with this.
#[derive(Debug)]
pub struct NodeApi {
    _program: Program,
    ports: Value,
    certificates: Certificates,
    _dir: TempDir,
}

impl NodeApi {
    /// With idle connections kept for long.
    pub async fn start() -> Self {
        Self::keeping_alive(75_000).await
    }

    /// With idle connections closed after so many milliseconds.
    pub async fn keeping_alive(milliseconds: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::for_loopback(dir.path());
        let mut command = node("node/api.mjs", None);
        command.env("FOLDER", dir.path()).env("KEEP_ALIVE", milliseconds.to_string());
        command.env("CERTIFICATE", &certificates.certificate).env("KEY", &certificates.key);
        let mut program = Program::spawn("node-api", command, dir.path());
        let ports = hear(&mut program, "ready", |event| event["event"] == "ready").await;
        Self { _program: program, ports, certificates, _dir: dir }
    }

    /// Where a server listens: `h1`, `h2`, `h1_tls`, `h2_tls`.
    pub fn port(&self, server: &str) -> u64 {
        self.ports[server].as_u64().unwrap()
    }

    /// The section of upstream `api` at one of its servers, open for more keys.
    pub fn upstream(&self, server: &str) -> String {
        let port = self.port(server);
        if server.ends_with("_tls") {
            let ca = self.certificates.ca.display();
            upstream_at(&format!("https://localhost:{port}")) + &format!("ca_file = '{ca}'\n")
        } else {
            upstream_at(&format!("http://127.0.0.1:{port}"))
        }
    }
}
