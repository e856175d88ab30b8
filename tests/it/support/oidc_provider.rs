//! The real authorization server: npm `oidc-provider`, under `tests/peers/oidc-provider`.

use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;

use super::certificate::Certificates;
use super::curl::curl;
use super::program::{Program, free_address, repository};

/// The secret of the clients `orders` (basic) and `orders-post` (in the body).
pub(crate) const SECRET: &str = "a-test-secret-of-at-least-32-bytes-000000";
/// A client id with all that form-encoding changes; `odd-post` has the same secret.
pub(crate) const ODD_ID: &str = "odd:id +/%";
/// And its secret.
pub(crate) const ODD_SECRET: &str = "p w:+/%&=\"-of-at-least-32-bytes-0000";

/// A running authorization server.
#[derive(Debug)]
pub(crate) struct OidcProvider {
    program: Program,
    dir: TempDir,
    address: SocketAddr,
    lifetime: u32,
    certificates: Option<Certificates>,
}

impl OidcProvider {
    /// With access tokens that live for `lifetime` seconds.
    pub(crate) async fn start(lifetime: u32) -> Self {
        Self::start_at(free_address(), lifetime).await
    }

    /// At an address of the test's choice: a server that comes back comes back there.
    pub(crate) async fn start_at(address: SocketAddr, lifetime: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::launch(address, lifetime, dir, None).await
    }

    /// Over TLS, with a certificate for loopback under an authority of its own.
    pub(crate) async fn start_tls(lifetime: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::for_loopback(dir.path());
        Self::launch(free_address(), lifetime, dir, Some(certificates)).await
    }

    async fn launch(
        address: SocketAddr,
        lifetime: u32,
        dir: TempDir,
        certificates: Option<Certificates>,
    ) -> Self {
        let home = repository().join("tests/peers/oidc-provider");
        assert!(
            home.join("node_modules/oidc-provider").is_dir(),
            "oidc-provider is not installed, and this test needs it: npm ci --prefix tests/peers/oidc-provider"
        );
        let mut command = Program::peer("node", "nodejs npm");
        command.arg("server.mjs").current_dir(home);
        command.env("PORT", address.port().to_string()).env("AT_TTL", lifetime.to_string());
        if let Some(files) = &certificates {
            command.env("TLS_CERT", &files.certificate).env("TLS_KEY", &files.key);
        }
        let mut program = Program::spawn("oidc-provider", command, dir.path());
        let log = dir.path().join("oidc-provider.log");
        program
            .until("ready", || async {
                std::fs::read_to_string(&log)
                    .is_ok_and(|log| log.contains("\nready ") || log.starts_with("ready "))
            })
            .await;
        Self { program, dir, address, lifetime, certificates }
    }

    /// The issuer: what `issuer = ` in a configuration says.
    pub(crate) fn issuer(&self) -> String {
        format!("{}://{}", if self.certificates.is_some() { "https" } else { "http" }, self.address)
    }

    /// The certificates of a server over TLS.
    pub(crate) fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("started over TLS")
    }

    async fn switchboard(&self, arguments: &[&str]) -> Value {
        let url = format!("{}/_ctl", self.issuer());
        let answer = curl(&[&["--insecure", &url], arguments].concat()).await;
        assert_eq!(answer.status, 200, "the switchboard answers: {answer:?}\n{}", self.program.log());
        answer.json()
    }

    /// How many token requests came.
    pub(crate) async fn token_requests(&self) -> u64 {
        self.switchboard(&[]).await["token_requests"].as_u64().unwrap()
    }

    /// How many token requests were ever under way at a time.
    pub(crate) async fn most_at_a_time(&self) -> u64 {
        self.switchboard(&[]).await["in_flight_max"].as_u64().unwrap()
    }

    /// Meets the next token requests with a fault, as `server.mjs` describes them.
    pub(crate) async fn fault(&self, fault: &str) {
        self.switchboard(&["--data", fault]).await;
    }

    /// Faults gone, counters to zero.
    pub(crate) async fn recover(&self) {
        self.switchboard(&["--request", "DELETE"]).await;
    }

    /// Whether a token is good, in the server's own eyes (RFC 7662).
    pub(crate) async fn is_active(&self, token: &str) -> bool {
        let url = format!("{}/token/introspection", self.issuer());
        let (user, token) = (format!("orders:{SECRET}"), format!("token={token}"));
        let answer = curl(&["--insecure", "--user", &user, "--data-urlencode", &token, &url]).await;
        answer.json()["active"] == true
    }

    /// The authorization server crashes.
    pub(crate) async fn crash(self) -> Crashed {
        let Self { program, dir, address, lifetime, certificates } = self;
        drop(program);
        super::eventually("the port is free again", || async {
            std::net::TcpListener::bind(address).is_ok()
        })
        .await;
        Crashed { dir, address, lifetime, certificates }
    }
}

/// An authorization server that is down, and can come back at the same address without its memory.
#[derive(Debug)]
pub(crate) struct Crashed {
    dir: TempDir,
    address: SocketAddr,
    lifetime: u32,
    certificates: Option<Certificates>,
}

impl Crashed {
    pub(crate) async fn restart(self) -> OidcProvider {
        OidcProvider::launch(self.address, self.lifetime, self.dir, self.certificates).await
    }
}
