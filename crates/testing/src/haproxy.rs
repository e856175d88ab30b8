//! HAProxy in front of the Node.js API: a second parser and a second writer on the way.

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

use super::certificate::Certificates;
use super::node_api::NodeApi;
use super::program::{Program, free_address};
use super::proxy::upstream_at;

/// The running HAProxy and what is behind it.
#[derive(Debug)]
pub struct Haproxy {
    _program: Program,
    _behind: NodeApi,
    plain: SocketAddr,
    h2c: SocketAddr,
    tls: SocketAddr,
    certificates: Certificates,
    _dir: TempDir,
}

impl Haproxy {
    /// With idle connections kept for `keep_alive`.
    pub async fn keeping_alive(keep_alive: &str) -> Self {
        let behind = NodeApi::start().await;
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::for_loopback(dir.path());
        let both = dir.path().join("both.pem");
        let [certificate, key] =
            [&certificates.certificate, &certificates.key].map(|file| fs::read_to_string(file).unwrap());
        fs::write(&both, certificate + &key).unwrap();
        let [plain, h2c, tls] = [free_address(), free_address(), free_address()];
        let configuration = format!(
            "global\n  maxconn 4000\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             \x20 timeout http-keep-alive {keep_alive}\n\
             frontend all\n  bind {plain}\n  bind {h2c} proto h2\n  bind {tls} ssl crt {both} alpn h2,http/1.1\n\
             \x20 http-request set-var(txn.version) req.ver\n\
             \x20 http-request return status 401 unless {{ req.hdr(authorization) -m reg '^Bearer token-[0-9]+$' }}\n\
             \x20 http-request return status 413 if {{ path /small }}\n\
             \x20 http-response set-header saw-protocol HTTP/%[var(txn.version)]\n\
             \x20 http-response set-header saw-connection %[src_port]\n\
             \x20 default_backend api\n\
             backend api\n  server node 127.0.0.1:{port}\n",
            both = both.display(),
            port = behind.port("h1"),
        );
        let file = dir.path().join("haproxy.cfg");
        fs::write(&file, configuration).unwrap();
        let mut command = Program::peer("haproxy", "haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let mut program = Program::spawn("haproxy", command, dir.path());
        program.until("listening", || async move { tokio::net::TcpStream::connect(tls).await.is_ok() }).await;
        Self { _program: program, _behind: behind, plain, h2c, tls, certificates, _dir: dir }
    }

    /// The section of upstream `api`, in the clear.
    pub fn upstream(&self) -> String {
        upstream_at(&format!("http://{}", self.plain))
    }

    /// The same for HTTP/2 without asking.
    pub fn upstream_h2c(&self) -> String {
        upstream_at(&format!("http://{}", self.h2c)) + "http2 = \"prior_knowledge\"\n"
    }

    /// The same over TLS.
    pub fn upstream_tls(&self) -> String {
        let ca = self.certificates.ca.display();
        upstream_at(&format!("https://localhost:{}", self.tls.port())) + &format!("ca_file = '{ca}'\n")
    }
}
