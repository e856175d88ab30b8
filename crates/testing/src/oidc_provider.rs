//! The real authorization server: npm `oidc-provider`, under `tests/peers/oidc-provider`.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::certificate::Certificates;
use super::clock;
use super::curl::curl;
use super::key::Key;
use super::program::{Program, free_address, repository};
use super::proxy::{Config, upstream_at};

/// The secret of the clients `orders` (basic) and `orders-post` (in the body).
pub const SECRET: &str = "a-test-secret-of-at-least-32-bytes-000000";
/// A client id with all that form-encoding changes; `odd-post` has the same secret.
pub const ODD_ID: &str = "odd:id +/%";
/// And its secret.
pub const ODD_SECRET: &str = "p w:+/%&=\"-of-at-least-32-bytes-0000";

/// The password of the user `alice`.
pub const PASSWORD: &str = "correct horse & battery=+% stäple";

/// A running authorization server.
#[derive(Debug)]
pub struct OidcProvider {
    program: Program,
    stage: Stage,
}

/// What outlives a crash: where it listens, and its certificates.
#[derive(Debug)]
struct Stage {
    dir: TempDir,
    address: SocketAddr,
    lifetime: u32,
    certificates: Option<Certificates>,
    beside: Option<Beside>,
    /// What else the script is told.
    environment: &'static [(&'static str, &'static str)],
}

/// What listens beside the server itself.
#[derive(Clone, Copy, Debug)]
struct Beside {
    /// The server over TLS, asking for a client certificate.
    mtls: SocketAddr,
    /// The protected API in the clear.
    api: SocketAddr,
    /// And over TLS.
    api_tls: SocketAddr,
}

/// What a person's login ends with.
#[derive(Clone, Debug)]
pub struct Login {
    pub refresh_token: String,
    /// The name of what was granted.
    grant: String,
}

impl OidcProvider {
    /// With access tokens that live for `lifetime` seconds.
    pub async fn start(lifetime: u32) -> Self {
        Self::start_at(free_address(), lifetime).await
    }

    /// At an address of the test's choice: a server that comes back comes back there.
    pub async fn start_at(address: SocketAddr, lifetime: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::launch(Stage { dir, address, lifetime, certificates: None, beside: None, environment: &[] })
            .await
    }

    /// Over TLS, with a certificate for loopback under an authority of its own.
    pub async fn start_tls(lifetime: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Some(Certificates::for_loopback(dir.path()));
        Self::launch(Stage {
            dir,
            address: free_address(),
            lifetime,
            certificates,
            beside: None,
            environment: &[],
        })
        .await
    }

    /// With a protected API beside it that verifies each token and each proof of possession; both also over TLS,
    /// where they ask for a client certificate.
    pub async fn with_api(lifetime: u32) -> Self {
        Self::with_api_and(lifetime, &[]).await
    }

    /// The same, which may answer by a message to the window that holds a frame.
    pub async fn with_messages(lifetime: u32) -> Self {
        Self::with_api_and(lifetime, &[("WEB_MESSAGE", "1")]).await
    }

    async fn with_api_and(lifetime: u32, environment: &'static [(&'static str, &'static str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Some(Certificates::for_loopback(dir.path()));
        let [address, mtls, api, api_tls] = [0; 4].map(|_| free_address());
        let beside = Some(Beside { mtls, api, api_tls });
        Self::launch(Stage { dir, address, lifetime, certificates, beside, environment }).await
    }

    async fn launch(stage: Stage) -> Self {
        let home = repository().join("tests/peers/oidc-provider");
        assert!(
            home.join("node_modules/oidc-provider").is_dir(),
            "oidc-provider is not installed, and this test needs it: npm ci --prefix tests/peers/oidc-provider"
        );
        let mut command = Program::peer("node", "nodejs npm");
        command.arg("server.mjs").current_dir(home).envs(stage.environment.iter().copied());
        command.env("PORT", stage.address.port().to_string()).env("AT_TTL", stage.lifetime.to_string());
        if let Some(beside) = stage.beside {
            command.env("PKI", stage.dir.path()).env("MTLS_PORT", beside.mtls.port().to_string());
            command.env("API_PORT", beside.api.port().to_string());
            command.env("API_TLS_PORT", beside.api_tls.port().to_string());
        } else if let Some(files) = &stage.certificates {
            command.env("TLS_CERT", &files.certificate).env("TLS_KEY", &files.key);
        }
        let mut program = Program::spawn("oidc-provider", command, stage.dir.path());
        let log = stage.dir.path().join("oidc-provider.log");
        program
            .until("ready", || async {
                std::fs::read_to_string(&log)
                    .is_ok_and(|log| log.contains("\nready ") || log.starts_with("ready "))
            })
            .await;
        Self { program, stage }
    }

    /// The issuer: what `issuer = ` in a configuration says.
    pub fn issuer(&self) -> String {
        let secure = self.stage.certificates.is_some() && self.stage.beside.is_none();
        format!("{}://{}", if secure { "https" } else { "http" }, self.stage.address)
    }

    /// The certificates of a server over TLS.
    pub fn certificates(&self) -> &Certificates {
        self.stage.certificates.as_ref().expect("started over TLS")
    }

    fn beside(&self) -> Beside {
        self.stage.beside.expect("started with an API")
    }

    /// The protected API in the clear.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.beside().api)
    }

    /// The protected API over TLS, where it asks for a client certificate.
    pub fn api_tls_url(&self) -> String {
        format!("https://localhost:{}", self.beside().api_tls.port())
    }

    /// A configuration with one route to the API, and token `api` of this server with these lines.
    pub fn config(&self, token: &str) -> Config {
        Config::one_route(&upstream_at(&self.api_url()), &self.token("api", token))
    }

    /// The same over TLS, with more lines for the upstream.
    pub fn config_tls(&self, upstream: &str, token: &str) -> Config {
        let ca = self.certificates().ca.display();
        let upstream = format!("{}ca_file = '{ca}'\n{upstream}", upstream_at(&self.api_tls_url()));
        Config::one_route(&upstream, &(self.token("api", token) + &format!("ca_file = '{ca}'\n")))
    }

    /// The section of a token of this server.
    pub fn token(&self, name: &str, lines: &str) -> String {
        format!("[tokens.{name}]\nissuer = \"{}\"\n{lines}\n", self.issuer())
    }

    /// A configuration with a route `/NAME` for each of these tokens.
    pub fn config_of(&self, tokens: &[(&str, String)]) -> Config {
        let mut text = upstream_at(&self.api_url());
        for (name, lines) in tokens {
            text += &self.token(name, lines);
        }
        for (name, _) in tokens {
            write!(text, "[[routes]]\npath = \"/{name}\"\nupstream = \"api\"\ntoken = \"{name}\"\n").unwrap();
        }
        Config::new(text)
    }

    async fn switchboard(&self, path: &str, arguments: &[&str]) -> Value {
        let url = format!("{}/_ctl{path}", self.issuer());
        let answer = curl(&[&["--insecure", &url], arguments].concat()).await;
        assert_eq!(answer.status, 200, "the switchboard answers: {answer:?}\n{}", self.program.log());
        answer.json()
    }

    async fn order(&self, path: &str, order: &Value) -> Value {
        self.switchboard(path, &["--data", &order.to_string()]).await
    }

    /// How many token requests came.
    pub async fn token_requests(&self) -> u64 {
        self.switchboard("", &[]).await["token_requests"].as_u64().unwrap()
    }

    /// How many token requests of this `grant_type` came.
    pub async fn requests_of(&self, grant_type: &str) -> u64 {
        self.switchboard("", &[]).await["grants"][grant_type]["requests"].as_u64().unwrap_or(0)
    }

    /// How many requests came to this path.
    pub async fn requests_at(&self, path: &str) -> u64 {
        self.switchboard("", &[]).await["paths"][path].as_u64().unwrap_or(0)
    }

    /// How many token requests were ever under way at a time.
    pub async fn most_at_a_time(&self) -> u64 {
        self.switchboard("", &[]).await["in_flight_max"].as_u64().unwrap()
    }

    /// Header and claims of each client assertion that was good.
    pub async fn assertions(&self) -> Vec<Value> {
        self.switchboard("", &[]).await["assertions"].as_array().unwrap().clone()
    }

    /// What the API decided on each request.
    pub async fn api_seen(&self) -> Vec<Value> {
        self.switchboard("", &[]).await["api"].as_array().unwrap().clone()
    }

    /// Meets the next token requests with a fault, as `switchboard.mjs` describes them.
    pub async fn fault(&self, fault: &str) {
        self.switchboard("", &["--data", fault]).await;
    }

    /// Faults gone, counters to zero.
    pub async fn recover(&self) {
        self.switchboard("", &["--request", "DELETE"]).await;
    }

    /// Changes settings of the server, as `server.mjs` describes them.
    pub async fn set(&self, settings: Value) {
        self.order("/settings", &settings).await;
    }

    /// Registers a client, in place of the one of the same name.
    pub async fn register(&self, metadata: Value) {
        self.order("/clients", &metadata).await;
    }

    /// From now on believes what `issuer` signs with `key`.
    pub async fn trust(&self, issuer: &str, key: &Key) {
        self.order("/trust", &json!({ "issuer": issuer, "public_keys": [key.named("trusted")] })).await;
    }

    /// A JWT with these claims, valid for a minute, by `key`.
    pub async fn sign(&self, key: &Key, mut claims: Value) -> String {
        let now = clock::unix_seconds();
        for (name, value) in [("iat", now), ("exp", now + 60)] {
            let claims = claims.as_object_mut().unwrap();
            claims.entry(name).or_insert(value.into());
        }
        let order = json!({ "pem": key.pem, "alg": key.algorithm, "kid": "trusted", "claims": claims });
        self.order("/sign", &order).await["jwt"].as_str().unwrap().to_owned()
    }

    /// A private key as a JWK.
    pub async fn jwk(&self, key: &Key, id: &str) -> String {
        self.order("/jwk", &key.named(id)).await.to_string()
    }

    /// Logs the user `alice` in for a client, without her browser.
    pub async fn log_in(&self, client: &str) -> Login {
        self.log_in_with(json!({ "client_id": client })).await
    }

    /// The same, with more to say: `resource`, `jkt`.
    pub async fn log_in_with(&self, order: Value) -> Login {
        let answer = self.order("/login", &order).await;
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Login { refresh_token: text("refresh_token"), grant: text("grant_id") }
    }

    /// Whether the server still stands by a login; reuse of a spent refresh token ends it.
    pub async fn stands_by(&self, login: &Login) -> bool {
        self.switchboard(&format!("/grants/{}", login.grant), &[]).await["alive"] == true
    }

    /// How many refresh tokens of a login were spent.
    pub async fn spent(&self, login: &Login) -> u64 {
        self.switchboard(&format!("/grants/{}", login.grant), &[]).await["consumed"].as_u64().unwrap()
    }

    /// Ends a login at the server alone.
    pub async fn end_login(&self, login: &Login) {
        self.switchboard(&format!("/grants/{}", login.grant), &["--request", "DELETE"]).await;
    }

    /// Ends the sessions of all browsers.
    pub async fn end_sessions(&self) {
        self.order("/sessions", &json!({})).await;
    }

    /// The nonce that the API demands changes (RFC 9449 section 9).
    pub async fn turn_nonce(&self) {
        self.order("/nonce", &json!({})).await;
    }

    /// Whether a token is good, in the server's own eyes (RFC 7662).
    pub async fn is_active(&self, token: &str) -> bool {
        let url = format!("{}/token/introspection", self.issuer());
        let (user, token) = (format!("orders:{SECRET}"), format!("token={token}"));
        let answer = curl(&["--insecure", "--user", &user, "--data-urlencode", &token, &url]).await;
        answer.json()["active"] == true
    }

    /// The authorization server crashes.
    pub async fn crash(self) -> Crashed {
        let Self { program, stage } = self;
        drop(program);
        let address = stage.address;
        super::eventually("the port is free again", || async {
            std::net::TcpListener::bind(address).is_ok()
        })
        .await;
        Crashed(stage)
    }
}

/// An authorization server that is down, and can come back at the same address without its memory.
#[derive(Debug)]
pub struct Crashed(Stage);

impl Crashed {
    pub async fn restart(self) -> OidcProvider {
        OidcProvider::launch(self.0).await
    }
}
