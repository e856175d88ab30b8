//! Keycloak, started once for all tests of this binary. Each test has a realm of its own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, sleep};

use super::api::Introspection;
use cupbearer_testing::{Answer, Config, clock, curl, free_address, repository, upstream_at};

/// The secret of the clients `orders` and `api`.
pub(crate) const SECRET: &str = "a-secret-of-the-client-orders";
/// The password of the user `alice`.
pub(crate) const PASSWORD: &str = "correct horse & battery=+%";

/// How long Keycloak may take to start.
const START: Duration = Duration::from_mins(5);

/// Runs a program until standard input ends, which it does with the process that holds its other end.
const UNTIL_END: &str = "\"$0\" \"$@\" </dev/null & read -r _; kill $!";

static SHARED: OnceCell<Keycloak> = OnceCell::const_new();

/// The server.
#[derive(Debug)]
pub(crate) struct Keycloak {
    address: SocketAddr,
    /// Its end of standard input keeps the server alive: it ends with this process, however that ends.
    _child: Child,
    log: PathBuf,
    /// The administrator's access token, and when it came.
    admin: Mutex<Option<(String, Instant)>>,
}

impl Keycloak {
    async fn start() -> Self {
        let program = repository().join(".peers/world/keycloak");
        assert!(
            program.is_file(),
            "Keycloak is not installed, and this test needs it. This installs it: scripts/test --world"
        );
        let address = free_address();
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keycloak.log");
        let file = File::create(&log).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_END]).arg(&program).args(["start", "--optimized", "--cache=local"]);
        command.args(["--http-enabled=true", "--hostname-strict=false", "--http-host=127.0.0.1"]);
        command.arg(format!("--http-port={}", address.port()));
        command.env("KC_BOOTSTRAP_ADMIN_USERNAME", "admin").env("KC_BOOTSTRAP_ADMIN_PASSWORD", "admin");
        command.env("JAVA_OPTS_APPEND", "-Xmx800m");
        command.stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        let keycloak = Self { address, _child: child, log, admin: Mutex::new(None) };
        let (start, url) = (clock::now(), format!("http://{address}/realms/master"));
        while curl(&[&url]).await.status != 200 {
            assert!(start.elapsed() < START, "Keycloak does not start:\n{}", keycloak.log());
            sleep(Duration::from_millis(500)).await;
        }
        keycloak
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A request to its admin API, and what it responds with; `null` where that is nothing.
    async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let token = self.admin_token().await;
        let (url, bearer) =
            (format!("http://{}/admin/realms{path}", self.address), format!("authorization: Bearer {token}"));
        let mut arguments = vec!["--max-time", "180", "--request", method, "--header", &bearer, &url];
        let body = body.map(Value::to_string);
        if let Some(body) = &body {
            arguments.extend(["--header", "content-type: application/json", "--data", body]);
        }
        let response = curl(&arguments).await;
        assert!(
            (200..300).contains(&response.status),
            "{method} {path}: {} {}\n{}",
            response.status,
            response.text(),
            self.log()
        );
        if response.body.is_empty() { Value::Null } else { response.json() }
    }

    async fn admin_token(&self) -> String {
        let mut held = self.admin.lock().await;
        if let Some((token, _)) = held.as_ref().filter(|(_, since)| since.elapsed() < Duration::from_secs(30))
        {
            return token.clone();
        }
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", "admin"),
            ("password", "admin"),
        ];
        let since = clock::now();
        let response = self.token("master", &form).await;
        let token = response.json()["access_token"].as_str().unwrap().to_owned();
        *held = Some((token.clone(), since));
        token
    }

    async fn token(&self, realm: &str, form: &[(&str, &str)]) -> Answer {
        let form: Vec<String> = form.iter().map(|(name, value)| [name, "=", value].concat()).collect();
        let url = format!("http://{}/realms/{realm}/protocol/openid-connect/token", self.address);
        let mut arguments = vec!["--max-time", "180", &url];
        for field in &form {
            arguments.extend(["--data-urlencode", field]);
        }
        curl(&arguments).await
    }
}

/// A realm with the confidential client `orders`, the public client `laptop`, the introspecting client `api`, and the
/// user `alice`. Tokens of the first two are for `api` too, and those of `laptop` for `orders`.
#[derive(Debug)]
pub(crate) struct Realm {
    keycloak: &'static Keycloak,
    name: String,
    representation: Value,
}

impl Realm {
    /// With these settings of the realm.
    pub(crate) async fn new(settings: Value) -> Self {
        let keycloak = SHARED.get_or_init(Keycloak::start).await;
        let name = format!("realm-{:08x}", fastrand::u32(..));
        let audience = |client: &str| {
            json!({
                "name": format!("for-{client}"), "protocol": "openid-connect",
                "protocolMapper": "oidc-audience-mapper",
                "config": {
                    "included.client.audience": client, "access.token.claim": "true", "introspection.token.claim": "true",
                },
            })
        };
        let mut representation = json!({
            "realm": name, "enabled": true, "sslRequired": "none", "eventsEnabled": true,
            "enabledEventTypes": ["LOGIN", "LOGIN_ERROR", "REFRESH_TOKEN", "REFRESH_TOKEN_ERROR", "TOKEN_EXCHANGE"],
            "clients": [
                {
                    "clientId": "orders", "secret": SECRET, "serviceAccountsEnabled": true,
                    "standardFlowEnabled": false, "directAccessGrantsEnabled": true, "protocolMappers": [audience("api")],
                },
                {
                    "clientId": "laptop", "publicClient": true, "redirectUris": ["*"],
                    "protocolMappers": [audience("api"), audience("orders")],
                    "directAccessGrantsEnabled": true,
                },
                { "clientId": "api", "secret": SECRET, "standardFlowEnabled": false },
            ],
            "users": [{
                "username": "alice", "enabled": true, "email": "alice@example.com", "emailVerified": true,
                "firstName": "Alice", "lastName": "Example", "realmRoles": ["offline_access"],
                "credentials": [{ "type": "password", "value": PASSWORD, "temporary": false }],
            }],
        });
        for (name, value) in settings.as_object().unwrap() {
            representation[name] = value.clone();
        }
        let realm = Self { keycloak, name, representation };
        realm.restore().await;
        realm
    }

    /// Deletes it with all that it holds.
    pub(crate) async fn delete(&self) {
        self.admin("DELETE", "", None).await;
    }

    /// Creates it again, as it was at first, with new keys and without a session.
    pub(crate) async fn restore(&self) {
        self.keycloak.admin("POST", "", Some(&self.representation)).await;
    }

    /// A request to the admin API, below this realm.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.keycloak.admin(method, &format!("/{}{path}", self.name), body).await
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://{}/realms/{}", self.keycloak.address, self.name)
    }

    /// Where the client `api` introspects tokens.
    pub(crate) fn introspection(&self) -> Introspection {
        Introspection {
            address: self.keycloak.address,
            path: format!("/realms/{}/protocol/openid-connect/token/introspect", self.name),
            client: ("api", SECRET),
        }
    }

    /// A configuration with one route to `api`, and token `api` of this realm with these lines.
    pub(crate) fn config(&self, api: &str, token: &str) -> Config {
        let token = format!("[tokens.api]\nissuer = \"{}\"\n{token}\n", self.issuer());
        Config::one_route(&upstream_at(api), &token)
    }

    /// A token request of the test itself.
    pub(crate) async fn token(&self, form: &[(&str, &str)]) -> Value {
        let response = self.keycloak.token(&self.name, form).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    async fn client(&self, client: &str) -> Value {
        self.admin("GET", &format!("/clients?clientId={client}"), None).await[0].clone()
    }

    /// Changes settings of a client.
    pub(crate) async fn change_client(&self, client: &str, changes: Value) {
        let mut now = self.client(client).await;
        for (name, value) in changes.as_object().unwrap() {
            now[name] = value.clone();
        }
        let path = format!("/clients/{}", now["id"].as_str().unwrap());
        self.admin("PUT", &path, Some(&now)).await;
    }

    /// How many sessions a client has: `user-sessions` or `offline-sessions`.
    pub(crate) async fn sessions(&self, client: &str, kind: &str) -> usize {
        let id = self.client(client).await["id"].as_str().unwrap().to_owned();
        self.admin("GET", &format!("/clients/{id}/{kind}"), None).await.as_array().unwrap().len()
    }

    /// The events of a type so far.
    pub(crate) async fn events(&self, kind: &str) -> Vec<Value> {
        self.admin("GET", &format!("/events?type={kind}&max=1000"), None).await.as_array().unwrap().clone()
    }

    /// The identifier of the user `alice`.
    pub(crate) async fn alice(&self) -> String {
        self.admin("GET", "/users?username=alice", None).await[0]["id"].as_str().unwrap().to_owned()
    }

    /// The sessions of `alice`, whatever client they are for.
    pub(crate) async fn sessions_of_alice(&self) -> usize {
        let path = format!("/users/{}/sessions", self.alice().await);
        self.admin("GET", &path, None).await.as_array().unwrap().len()
    }
}
