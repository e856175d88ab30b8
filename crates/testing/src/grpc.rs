//! A gRPC API on grpcio, which demands a bearer token and tells what it saw (`tests/peers/grpc`).

use serde_json::Value;
use tempfile::TempDir;

use super::certificate::Certificates;
use super::program::Program;
use super::proxy::{Proxy, upstream_at};
use super::script::{hear, python, run, told};

/// The running API.
#[derive(Debug)]
pub struct GrpcApi {
    program: Program,
    port: u64,
    certificates: Option<Certificates>,
    _dir: TempDir,
}

impl GrpcApi {
    /// In the clear.
    pub async fn start() -> Self {
        Self::launch(tempfile::tempdir().unwrap(), None).await
    }

    /// Over TLS, where HTTP/2 is agreed by ALPN.
    pub async fn start_tls() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::for_loopback(dir.path());
        Self::launch(dir, Some(certificates)).await
    }

    async fn launch(dir: TempDir, certificates: Option<Certificates>) -> Self {
        let mut command = python("grpc/server.py");
        if let Some(files) = &certificates {
            command.arg("--certificate").arg(&files.certificate).arg("--key").arg(&files.key);
        }
        let mut program = Program::spawn("grpcio", command, dir.path());
        let ready = hear(&mut program, "ready", |event| event["event"] == "ready").await;
        let port = ready["port"].as_u64().unwrap();
        Self { program, port, certificates, _dir: dir }
    }

    /// The section of upstream `api`, open for more keys.
    pub fn upstream(&self) -> String {
        match &self.certificates {
            None => upstream_at(&format!("http://127.0.0.1:{}", self.port)) + "http2 = \"prior_knowledge\"\n",
            Some(files) => {
                let ca = files.ca.display();
                upstream_at(&format!("https://localhost:{}", self.port)) + &format!("ca_file = '{ca}'\n")
            }
        }
    }

    /// What the API told of this kind: `began`, `received`, `ended`.
    pub fn told(&self, kind: &str) -> Vec<Value> {
        told(&self.program).into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// Waits until the API tells of this.
    pub async fn hear(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        hear(&mut self.program, what, is).await
    }

    /// The process itself.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Runs cases of `client.py` through `proxy`, and fails where one does; says what each told.
    pub async fn call(&self, proxy: &Proxy, cases: &[&str]) -> Vec<Value> {
        let mut command = python("grpc/client.py");
        command.arg(proxy.listen().to_string()).args(cases);
        let reports = run(command).await;
        let bad: Vec<_> = reports.iter().filter(|report| report["ok"] != true).collect();
        assert!(!reports.is_empty() && bad.is_empty(), "{bad:#?}\n{}", proxy.log());
        reports
    }
}
