//! An HTTP proxy on the way out, as companies have them: tinyproxy, which asks for a password.

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

use super::program::{Program, free_address};

/// A running tinyproxy that tunnels to some ports alone.
#[derive(Debug)]
pub struct Tinyproxy {
    program: Program,
    _dir: TempDir,
    address: SocketAddr,
}

impl Tinyproxy {
    /// For `alice` with her password `wonderland`, to `ports`.
    pub async fn start(ports: &[u16]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut lines = format!(
            "Port {}\nListen 127.0.0.1\nTimeout 600\nAllow 127.0.0.1\nMaxClients 200\nLogLevel Connect\n\
             PidFile \"{}\"\nBasicAuth alice wonderland\n",
            address.port(),
            dir.path().join("pid").display()
        );
        for port in ports {
            lines += &["ConnectPort ", &port.to_string(), "\n"].concat();
        }
        let file = dir.path().join("tinyproxy.conf");
        fs::write(&file, lines).unwrap();
        let mut command = Program::peer("tinyproxy", "tinyproxy");
        command.arg("-d").arg("-c").arg(&file);
        let mut program = Program::spawn("tinyproxy", command, dir.path());
        program
            .until("listening", || async move { tokio::net::TcpStream::connect(address).await.is_ok() })
            .await;
        Self { program, _dir: dir, address }
    }

    /// Its address with this user and password.
    pub fn url(&self, credentials: &str) -> String {
        format!("http://{credentials}@{}", self.address)
    }

    /// All that it has written so far: a line for each request that it was sent.
    pub fn log(&self) -> String {
        self.program.log()
    }
}
