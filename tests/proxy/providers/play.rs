//! One provider, played through: the real program with a token for each scene, at a stub of the provider.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toml::Table;

use super::data::{ApiRefusal, Case, Expect, Provider, Response, Role, Standing, Then};
use super::signature::PublicKeys;
use super::stub::{FIRST, SECRET, Stub};
use cupbearer_testing::{Config, Key, Message, Proxy, Wire, clock, cupbearer, free_address, repository};

/// How long anything may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(2);

/// The private keys that files of providers name, and what is verified with.
#[derive(Debug)]
pub(super) struct Keys {
    rsa: Key,
    ec: Key,
    pub(super) public: Arc<PublicKeys>,
}

impl Keys {
    pub(super) async fn new() -> Self {
        let (rsa, ec) = (Key::new("RS256").await, Key::new("ES256").await);
        let public = PublicKeys { rsa: rsa.public().await, ec: ec.public().await };
        Self { rsa, ec, public: Arc::new(public) }
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        while let Some((before, rest)) = text.split_once("{repository:") {
            let (path, after) = rest.split_once('}').unwrap();
            let file = fs::read_to_string(repository().join(path)).unwrap();
            text = format!("{before}{file}{after}");
        }
        text.replace("{rsa}", &self.rsa.pem)
            .replace("{ec}", &self.ec.pem)
            .replace("{rsa_json}", &self.rsa.pem.replace('\n', "\\n"))
            .replace("{secret}", SECRET)
            .replace("{refresh}", FIRST)
    }
}

/// What is tried with one token.
#[derive(Clone, Copy, Debug)]
enum Scene<'a> {
    /// Token, API, renewal, API.
    Works,
    Api(&'a ApiRefusal),
    Fails(&'a Case),
}

impl<'a> Scene<'a> {
    fn all(provider: &'a Provider) -> Vec<Self> {
        let works = (provider.status != Standing::Cannot).then_some(Self::Works);
        let api = provider.api.refusals.iter().map(Self::Api);
        works.into_iter().chain(api).chain(provider.cases.iter().map(Self::Fails)).collect()
    }

    fn title(self) -> String {
        match self {
            Self::Works => "works".to_owned(),
            Self::Api(refusal) => format!("the API: {}", refusal.name),
            Self::Fails(case) => case.name.clone(),
        }
    }

    fn table(self, provider: &Provider) -> Table {
        match self {
            Self::Fails(case) => provider.table(&case.keys, &case.without),
            Self::Works | Self::Api(_) => provider.table("", &[]),
        }
    }
}

/// The provider on stage.
struct Stage {
    provider: Arc<Provider>,
    stub: Stub,
    proxy: Proxy,
}

/// Plays `provider`; says what was not as its file has it.
pub(super) async fn play(provider: Arc<Provider>, keys: Arc<Keys>) -> Vec<String> {
    let mut wrong = checked(&provider, &keys).await;
    let stub = Stub::start(Arc::clone(&provider), Arc::clone(&keys.public)).await;
    let scenes: Vec<(String, Scene<'_>)> =
        Scene::all(&provider).into_iter().enumerate().map(|(at, scene)| (format!("s{at}"), scene)).collect();
    let (mut upstreams, mut tokens, mut routes) = (Table::new(), Table::new(), Vec::new());
    for (name, scene) in &scenes {
        let token = prepared(&provider, &stub, name, scene.table(&provider));
        if let Scene::Fails(case) = scene
            && case.on != Role::Refresh
        {
            case.begin(&stub, name);
        }
        let upstream = stub.local(name, provider.api_origin());
        let mut route: Table = toml::from_str(&provider.route).unwrap();
        route.extend(table(&[("path", &format!("/{name}")), ("upstream", name), ("token", name)]));
        route.insert("strip_prefix".to_owned(), true.into());
        upstreams.insert(name.clone(), table(&[("url", &upstream)]).into());
        tokens.insert(name.clone(), token.into());
        routes.push(route);
    }
    let mut file = Table::new();
    file.insert("upstreams".to_owned(), upstreams.into());
    file.insert("tokens".to_owned(), tokens.into());
    file.insert("routes".to_owned(), routes.into());
    let file = toml::to_string(&file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (name, _) in &scenes {
        fs::create_dir(dir.path().join(name)).unwrap();
        lay_files(&provider, &keys, &dir.path().join(name), |text| stub.local(name, text));
    }
    let config = Config::new(file).and("[store]\nkind = \"memory\"");
    let proxy = Proxy::start_live_in(dir, config).await;
    let stage = Stage { provider: Arc::clone(&provider), stub, proxy };
    let played = scenes.iter().map(|(name, scene)| async {
        let fault = match tokio::time::timeout(PATIENCE, stage.act(name, *scene)).await {
            Ok(fault) => fault.err(),
            Err(_) => Some("it did not come to its end".to_owned()),
        };
        let complaints = stage.stub.scene(name, |scene| scene.complaints.join("\n    "));
        match (fault, complaints.as_str()) {
            (None, "") => None,
            (fault, complaints) => {
                let token = stage.token(name).await;
                Some(format!(
                    "{}: {}\n    {complaints}\n    {token}",
                    scene.title(),
                    fault.unwrap_or_default()
                ))
            }
        }
    });
    let found = futures_util::future::join_all(played).await;
    wrong.extend(found.into_iter().flatten());
    wrong.extend(stage.stub.unmet());
    wrong
}

/// A table of texts.
fn table(members: &[(&str, &str)]) -> Table {
    members.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

/// What `cupbearer check` says of the keys as a user writes them.
async fn checked(provider: &Provider, keys: &Keys) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    lay_files(provider, keys, dir.path(), str::to_owned);
    let file = dir.path().join("config.toml");
    let upstream = url::Url::parse(&provider.api.url).unwrap().origin().ascii_serialization();
    let text = format!(
        "[upstreams.api]\nurl = \"{upstream}\"\n[tokens.api]\n{}\n[[routes]]\nupstream = \"api\"\ntoken = \"api\"\n{}\n",
        provider.keys, provider.route
    );
    fs::write(&file, text).unwrap();
    let mut command = cupbearer();
    command.args(["check", "--config"]).arg(&file).env("HOME", dir.path());
    let output = command.output().await.unwrap();
    if output.status.code() == Some(0) {
        return Vec::new();
    }
    vec![format!(
        "`check` refuses the keys: {}",
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
    )]
}

/// Puts the files that the keys name into a folder.
fn lay_files(provider: &Provider, keys: &Keys, folder: &Path, change: impl Fn(&str) -> String) {
    for (name, text) in &provider.files {
        let file = folder.join(name);
        fs::write(&file, keys.fill(&change(text))).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }
}

/// The section of a token at the stub: addresses of its own, short pauses.
fn prepared(provider: &Provider, stub: &Stub, name: &str, mut table: Table) -> Table {
    let client = table.get("client_id").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    stub.add(name, &client);
    let text = stub.local(name, &toml::to_string(&table).unwrap());
    table = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", provider.id));
    for (key, value) in &mut table {
        // A scene's files are in a folder of its own.
        match value {
            toml::Value::String(file) if key.ends_with("_file") => *file = format!("{name}/{file}"),
            toml::Value::Array(words) if key == "command" => {
                for word in words.iter_mut() {
                    let text = word.as_str().unwrap_or_default();
                    let (variable, file) =
                        text.rsplit_once('=').map_or(("", text), |(name, file)| (name, file));
                    if provider.files.contains_key(file) {
                        let equals = if variable.is_empty() { "" } else { "=" };
                        *word = format!("{variable}{equals}{name}/{file}").into();
                    }
                }
            }
            _ => {}
        }
    }
    table
        .entry("retry")
        .or_insert_with(|| toml::Value::Table(toml::from_str("initial = \"100ms\"\nmax = \"1s\"").unwrap()));
    if let Some(redirect) = table.get("redirect_uri").and_then(toml::Value::as_str) {
        let mut redirect = redirect.to_owned();
        // Each scene has a listener of its own.
        let port = url::Url::parse(&redirect).ok().and_then(|url| url.port());
        if let Some(port) = port.filter(|_| redirect.starts_with("http://")) {
            redirect = redirect.replace(&port.to_string(), &free_address().port().to_string());
            table.insert("redirect_uri".to_owned(), toml::Value::String(redirect.clone()));
        }
        stub.scene(name, |scene| scene.redirect.0 = redirect);
    } else {
        stub.scene(name, |scene| "http://127.0.0.1/callback".clone_into(&mut scene.redirect.0));
    }
    table
}

impl Case {
    /// From now on its requests fail.
    fn begin(&self, stub: &Stub, scene: &str) {
        let failure = self.response.as_ref().map(|response| (self.on, response.clone()));
        stub.scene(scene, |scene| scene.failure = failure);
    }
}

impl Provider {
    /// The origin that the API is at.
    fn api_origin(&self) -> &str {
        let fits = |origin: &&String| self.api.url.starts_with(origin.as_str());
        let longest = self.origins.iter().filter(fits).max_by_key(|origin| origin.len());
        longest.unwrap_or_else(|| panic!("{}: the API is at none of the origins", self.id))
    }
}

/// How many tokens came: by a request of the renewer, or out of the store, where a login had put one.
fn obtained(token: &Value) -> u64 {
    token["renewals"].as_u64().unwrap_or(0) + token["adoptions"].as_u64().unwrap_or(0)
}

impl Stage {
    async fn act(&self, name: &str, scene: Scene<'_>) -> Result<(), String> {
        match scene {
            Scene::Works => self.works(name).await,
            Scene::Api(refusal) => self.refuses(name, refusal).await,
            Scene::Fails(case) => self.fails(name, case).await,
        }
    }

    async fn works(&self, name: &str) -> Result<(), String> {
        self.acquire(name).await?;
        self.call(name, 200).await?;
        if self.provider.api.caller.is_some() {
            return Ok(());
        }
        let token = self.token(name).await;
        if let Some(lifetime) = self.provider.lifetime {
            let left = token["expires_in_seconds"].as_u64().unwrap_or(u64::MAX);
            if !(lifetime.saturating_sub(60)..=lifetime).contains(&left) {
                return Err(format!("it is taken for good for {left} s in place of {lifetime} s"));
            }
        }
        if !self.renews() {
            return Ok(());
        }
        self.post(&format!("/tokens/{name}/renew"), "").await;
        self.until(name, "renewed", |token| obtained(token) >= 2).await?;
        self.call(name, 200).await?;
        let roles = self.stub.scene(name, |scene| scene.counts.clone());
        if self.provider.requests.contains_key(&Role::Refresh) && !roles.contains_key(&Role::Refresh) {
            return Err(format!("it was not renewed by a refresh: {roles:?}"));
        }
        Ok(())
    }

    /// Whether anything but a person gets the next token.
    fn renews(&self) -> bool {
        !self.is_login() || self.provider.requests.contains_key(&Role::Refresh)
    }

    fn is_login(&self) -> bool {
        let requests = &self.provider.requests;
        requests.contains_key(&Role::Code) || requests.contains_key(&Role::Device)
    }

    async fn refuses(&self, name: &str, refusal: &ApiRefusal) -> Result<(), String> {
        self.acquire(name).await?;
        self.call(name, 200).await?;
        self.stub.scene(name, |scene| scene.api = Some(refusal.response.clone()));
        match refusal.then {
            Then::Renewed => self.call(name, 200).await,
            Then::Passed => {
                self.call(name, refusal.response.status).await?;
                let obtained = obtained(&self.token(name).await);
                if obtained == 1 { Ok(()) } else { Err(format!("{obtained} token requests")) }
            }
            Then::Ended => {
                self.call(name, refusal.response.status).await?;
                let ended = |token: &Value| token["status"] == "login_required";
                self.until(name, "login_required", ended).await.map(drop)
            }
        }
    }

    async fn fails(&self, name: &str, case: &Case) -> Result<(), String> {
        match case.on {
            Role::Authorize | Role::Code | Role::Device | Role::Poll => {
                return self.fails_to_log_in(name, case).await;
            }
            Role::Refresh => {
                self.acquire(name).await?;
                case.begin(&self.stub, name);
                // A challenge says less: that the token is refused is plain.
                let refusal = Response { status: 401, ..Response::default() };
                self.stub.scene(name, |scene| scene.api = Some(refusal));
                self.call(name, 401).await?;
            }
            Role::Metadata | Role::Token | Role::Introspect | Role::Revoke => {}
        }
        let expect = &case.expect;
        if self.provider.api.caller.is_some() {
            let response = self.request(name).await?;
            if response.status() < 400 {
                return Err(format!("the application gets {}", response.start()));
            }
            says(&format!("{} {}", response.text(), self.proxy.log()), &expect.says)?;
            return self.failed_as(name, expect).await;
        }
        let token = self
            .until(name, &expect.state, |token| {
                token["last_error"].is_object() && token["status"] == expect.state.as_str()
            })
            .await?;
        let error = &token["last_error"];
        if error["cause"] != expect.cause.as_str() {
            return Err(format!("the cause is {} in place of {}", error["cause"], expect.cause));
        }
        says(&format!("{} {} {}", error["message"], token["help"], error["server_says"]), &expect.says)?;
        self.failed_as(name, expect).await?;
        let next = token["next_attempt_in_seconds"].as_u64();
        match expect.hold {
            Some(hold) if !next.is_some_and(|next| (hold.saturating_sub(10)..hold + 120).contains(&next)) => {
                Err(format!("the next attempt is in {next:?} s, and {hold} s were asked for"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a token request failed in the class that is expected.
    async fn failed_as(&self, name: &str, expect: &Expect) -> Result<(), String> {
        let Some(class) = &expect.class else { return Ok(()) };
        let labels = [format!("token=\"{name}\""), format!("result=\"{class}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        if self.proxy.metric("cupbearer_token_renewals_total", &labels).await < 1.0 {
            return Err(format!("no failure of the class {class}"));
        }
        Ok(())
    }

    async fn fails_to_log_in(&self, name: &str, case: &Case) -> Result<(), String> {
        let login = self.log_in(name, Some(case)).await?;
        says(&login.to_string(), &case.expect.says)?;
        if !login["cause"].is_null() && login["cause"] != case.expect.cause.as_str() {
            return Err(format!("the cause is {} in place of {}", login["cause"], case.expect.cause));
        }
        let token = self.token(name).await;
        if token["status"] != case.expect.state.as_str() {
            return Err(format!("the state is {} in place of {}", token["status"], case.expect.state));
        }
        Ok(())
    }

    /// Gets the first token, by a login where it takes one.
    async fn acquire(&self, name: &str) -> Result<(), String> {
        if self.provider.api.caller.is_some() {
            return Ok(());
        }
        if self.is_login() {
            let login = self.log_in(name, None).await?;
            if login["state"] != "done" {
                return Err(format!("the login failed: {login}"));
            }
        }
        self.until(name, "valid", |token| token["status"] == "valid").await.map(drop)
    }

    /// A login as a person makes it; how it ended. `case`: how it is to fail.
    async fn log_in(&self, name: &str, case: Option<&Case>) -> Result<Value, String> {
        let path = format!("/tokens/{name}/login");
        let begun = self.post(&path, "").await;
        let login: Value = serde_json::from_slice(&begun.body).unwrap_or_default();
        if begun.status() != 200 {
            return if case.is_some() { Ok(login) } else { Err(format!("no login: {login}")) };
        }
        if let Some(url) = login["authorization_url"].as_str() {
            let sent = self.stub.authorize(name, url);
            let denied =
                case.filter(|case| case.on == Role::Authorize).and_then(|case| case.response.as_ref());
            let usual = &self.provider.requests[&Role::Authorize].response;
            let response = denied.unwrap_or(usual);
            let body = if response.body.is_empty() { "code={code}&state={state}" } else { &response.body };
            let end =
                body.replace("{code}", &format!("code-of-{name}")).replace("{state}", &field(&sent, "state"));
            // Where no browser opens the redirect URI, the file has the whole address, or the code alone.
            let is_whole = end.starts_with("https://") || !end.contains('=');
            let end = if is_whole { end } else { format!("{}?{end}", field(&sent, "redirect_uri")) };
            self.come_back(name, &end).await?;
        }
        let mut login = login;
        let start = clock::now();
        while login["state"] == "waiting" {
            if start.elapsed() > PATIENCE {
                return Err(format!("the login still waits: {login}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            login = serde_json::from_slice(&self.control("GET", &path, "").await.body).unwrap_or_default();
        }
        Ok(login)
    }

    /// The browser goes where it is sent; an https address of elsewhere is pasted.
    async fn come_back(&self, name: &str, url: &str) -> Result<(), String> {
        if let Some(parsed) = url::Url::parse(url).ok().filter(|parsed| parsed.scheme() == "http") {
            let host = parsed.host_str().unwrap_or_default();
            let address =
                format!("{}:{}", host.replace("localhost", "127.0.0.1"), parsed.port().unwrap_or(80));
            let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
            let target = &url[url::Url::parse(url).unwrap().origin().ascii_serialization().len()..];
            let head =
                format!("GET {target} HTTP/1.1\r\nHost: {host}:{}\r\n\r\n", parsed.port().unwrap_or(80));
            let mut wire = Wire::connect(address).await;
            wire.send(head).await;
            wire.response("GET").await.ok_or("the redirect URI has no response")?;
            return Ok(());
        }
        let pasted =
            self.post(&format!("/tokens/{name}/login/callback"), &json!({ "url": url }).to_string()).await;
        if pasted.status() == 200 {
            Ok(())
        } else {
            Err(format!("the address was not taken: {}", pasted.text()))
        }
    }

    /// A request of the application, which gets `status`.
    async fn call(&self, name: &str, status: u16) -> Result<(), String> {
        let response = self.request(name).await?;
        if response.status() == status {
            return Ok(());
        }
        Err(format!("the application gets {} in place of {status}: {}", response.start(), response.text()))
    }

    async fn request(&self, name: &str) -> Result<Message, String> {
        let path = &self.provider.api.url[self.provider.api_origin().len()..];
        let listen = self.proxy.listen();
        let caller = self.provider.api.caller.as_ref();
        let own = caller.map(|own| format!("Authorization: {own}\r\n")).unwrap_or_default();
        let mut wire = Wire::connect(listen).await;
        wire.send(format!("GET /{name}{path} HTTP/1.1\r\nHost: {listen}\r\n{own}Connection: close\r\n\r\n"))
            .await;
        wire.response("GET").await.ok_or_else(|| "no response".to_owned())
    }

    async fn token(&self, name: &str) -> Value {
        let status: Value =
            serde_json::from_slice(&self.control("GET", "/status", "").await.body).unwrap_or_default();
        let tokens = status["tokens"].as_array().cloned().unwrap_or_default();
        tokens.into_iter().find(|token| token["name"] == name).unwrap_or_default()
    }

    async fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let start = clock::now();
        loop {
            let token = self.token(name).await;
            if holds(&token) {
                return Ok(token);
            }
            if start.elapsed() > PATIENCE / 2 {
                return Err(format!("it is not {what}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn post(&self, path: &str, body: &str) -> Message {
        self.control("POST", path, body).await
    }

    async fn control(&self, method: &str, path: &str, body: &str) -> Message {
        let address = self.proxy.control();
        let mut wire = Wire::connect(address).await;
        let length = body.len();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let kind = format!("Cupbearer-Control: 1\r\n{kind}");
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await;
        wire.response(method).await.unwrap_or_default()
    }
}

fn says(text: &str, pieces: &[String]) -> Result<(), String> {
    let text = text.replace("\\\"", "\"");
    match pieces.iter().find(|piece| !text.contains(piece.as_str())) {
        Some(piece) => Err(format!("`{piece}` is not in {text}")),
        None => Ok(()),
    }
}

fn field(fields: &BTreeMap<String, String>, name: &str) -> String {
    fields.get(name).cloned().unwrap_or_default()
}
