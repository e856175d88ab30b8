//! Ory Hydra, with a login application on an origin of its own that accepts everyone as `alice`.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::api::{Introspection, call};
use cupbearer_testing::{
    Config, Message, Origin, PATIENCE, Program, Reply, clock, curl, free_address, repository, upstream_at,
};

/// The secret of its clients.
pub(crate) const SECRET: &str = "a-secret-of-the-client-orders";

/// A running server.
#[derive(Debug)]
pub(crate) struct Hydra {
    program: Program,
    place: Place,
}

/// What outlives the process: addresses and database.
#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
    public: SocketAddr,
    admin: SocketAddr,
    login: Origin,
    lifetime: &'static str,
}

impl Hydra {
    /// With access tokens of this lifetime (`"3s"`).
    pub(crate) async fn start(lifetime: &'static str) -> Self {
        let (public, admin) = (free_address(), free_address());
        let login = Origin::scripted(move |mut wire| async move {
            while let Some(request) = wire.request().await {
                wire.send(accept(admin, &request).await.into_bytes()).await;
            }
        })
        .await;
        let place = Place { dir: tempfile::tempdir().unwrap(), public, admin, login, lifetime };
        let migrated = place.command(&["migrate", "sql", "up", "-e", "--yes"]).output().await.unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        place.restart().await
    }

    /// Ends it as a crash does.
    pub(crate) async fn kill(mut self) -> Place {
        self.program.signal(Signal::KILL);
        self.program.ended(PATIENCE).await;
        self.place
    }

    /// A request to its admin API, which must succeed.
    async fn admin(&self, method: &str, target: &str, body: &Value) -> Value {
        let response = admin(self.place.admin, method, target, body).await;
        response.unwrap_or_else(|| panic!("{method} {target} failed\n{}", self.program.log()))
    }

    /// Registers a client; its identifier. `metadata` wins over what all of them have.
    pub(crate) async fn register(&self, metadata: Value) -> String {
        let mut client = json!({
            "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_basic",
            "grant_types": ["authorization_code", "refresh_token", "client_credentials"], "response_types": ["code"],
            "scope": "openid offline_access", "redirect_uris": [CALLBACK],
        });
        for (name, value) in metadata.as_object().unwrap() {
            client[name] = value.clone();
        }
        self.admin("POST", "/admin/clients", &client).await["client_id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://{}", self.place.public)
    }

    /// Where tokens are introspected, without credentials.
    pub(crate) fn introspection(&self) -> Introspection {
        Introspection {
            address: self.place.admin,
            path: "/admin/oauth2/introspect".to_owned(),
            client: ("", ""),
        }
    }

    /// A configuration with one route to `api`, and token `api` of this server with these lines.
    pub(crate) fn config(&self, api: &str, token: &str) -> Config {
        let token = format!("[tokens.api]\nissuer = \"{}\"\n{token}\n", self.issuer());
        Config::one_route(&upstream_at(api), &token)
    }

    /// Logs `alice` in for a client, without a browser: her refresh token.
    pub(crate) async fn log_in(&self, client: &str) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("client_id", client),
                ("response_type", "code"),
                ("scope", "openid offline_access"),
                ("redirect_uri", CALLBACK),
                ("state", "a-state-that-is-long-enough"),
            ])
            .finish();
        let url = format!("{}/oauth2/auth?{query}", self.issuer());
        // The last response is the redirect to an address at which nothing listens.
        let response = curl(&["--location", "--cookie", "", &url]).await;
        let address = response.field("location").unwrap_or_default();
        let address =
            url::Url::parse(address).unwrap_or_else(|_| panic!("{response:?}\n{}", self.program.log()));
        let code = address.query_pairs().find(|(name, _)| name == "code");
        let code = code.unwrap_or_else(|| panic!("{address}\n{}", self.program.log())).1.into_owned();
        let (user, code) = ([client, ":", SECRET].concat(), ["code=", &code].concat());
        let redirect = ["redirect_uri=", CALLBACK].concat();
        let url = format!("{}/oauth2/token", self.issuer());
        let response = curl(&[
            "--user",
            &user,
            "--data",
            "grant_type=authorization_code",
            "--data-urlencode",
            &code,
            "--data-urlencode",
            &redirect,
            &url,
        ])
        .await;
        assert_eq!(response.status, 200, "{}\n{}", response.text(), self.program.log());
        response.json()["refresh_token"].as_str().unwrap().to_owned()
    }
}

impl Place {
    fn command(&self, words: &[&str]) -> Command {
        let program = repository().join(".peers/world/hydra");
        assert!(
            program.is_file(),
            "Hydra is not installed, and this test needs it. This installs it: scripts/test --world"
        );
        let database = self.dir.path().join("hydra.sqlite");
        let mut command = Command::new(program);
        command.args(words).env_clear().kill_on_drop(true);
        command.env(
            "DSN",
            format!("sqlite://{}?_fk=true&_journal_mode=WAL&_busy_timeout=10000", database.display()),
        );
        command.env("URLS_SELF_ISSUER", format!("http://{}", self.public));
        command.env("URLS_LOGIN", format!("{}/login", self.login.url()));
        command.env("URLS_CONSENT", format!("{}/consent", self.login.url()));
        command.env("SECRETS_SYSTEM", "a-system-secret-of-32-characters");
        for (name, address) in [("PUBLIC", self.public), ("ADMIN", self.admin)] {
            command.env(format!("SERVE_{name}_HOST"), address.ip().to_string());
            command.env(format!("SERVE_{name}_PORT"), address.port().to_string());
        }
        command.env("TTL_ACCESS_TOKEN", self.lifetime).env("SQA_OPT_OUT", "true");
        command.env("LOG_LEAK_SENSITIVE_VALUES", "true").env("HOME", self.dir.path());
        command
    }

    /// Starts the server, with all that its database holds.
    pub(crate) async fn restart(self) -> Hydra {
        let mut program = Program::spawn("hydra", self.command(&["serve", "all", "--dev"]), self.dir.path());
        let url = format!("http://{}/health/ready", self.public);
        program.until("ready", || async { curl(&[&url]).await.status == 200 }).await;
        // Its keys are made when they are first needed, which takes longer than it leaves a request.
        let keys = format!("http://{}/.well-known/jwks.json", self.public);
        let start = clock::now();
        while curl(&[&keys]).await.status != 200 {
            assert!(start.elapsed() < PATIENCE * 6, "there are no keys:\n{}", program.log());
        }
        Hydra { program, place: self }
    }
}

/// The login application: who logs in is `alice`, and what is requested is granted and remembered.
async fn accept(server: SocketAddr, request: &Message) -> Reply {
    let target = request.target();
    let target = url::Url::parse(&format!("http://login{target}")).unwrap();
    let kind = target.path().trim_start_matches('/').to_owned();
    let challenge = target.query_pairs().find(|(name, _)| name.ends_with("_challenge"));
    let Some((_, challenge)) = challenge else { return Reply::new(404, &[], "") };
    let request = format!("/admin/oauth2/auth/requests/{kind}");
    let query = format!("?{kind}_challenge={challenge}");
    let mut accepted = json!({ "remember": true, "remember_for": 3600 });
    if kind == "login" {
        accepted["subject"] = "alice".into();
    } else {
        let asked =
            admin(server, "GET", &format!("{request}{query}"), &Value::Null).await.unwrap_or_default();
        accepted["grant_scope"] = asked["requested_scope"].clone();
        accepted["grant_access_token_audience"] = asked["requested_access_token_audience"].clone();
    }
    let response =
        admin(server, "PUT", &format!("{request}/accept{query}"), &accepted).await.unwrap_or_default();
    match response["redirect_to"].as_str() {
        Some(address) => Reply::new(302, &[("location", address)], ""),
        None => Reply::new(500, &[], response.to_string()),
    }
}

async fn admin(server: SocketAddr, method: &str, target: &str, body: &Value) -> Option<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = call(server, method, target, "content-type: application/json\r\n", &body).await?;
    (200..300).contains(&response.status()).then(|| serde_json::from_slice(&response.body).ok()).flatten()
}

/// Where a browser is sent after a login without one: nothing listens there.
const CALLBACK: &str = "http://127.0.0.1:1/callback";
