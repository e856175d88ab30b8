//! Refresh tokens that are good once, at a server that ends the whole login where one comes twice.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use cupbearer_testing::{Config, Login, OidcProvider, Proxy, SECRET, clock, curl, eventually, upstream_at};

const GRANT: &str = "refresh_token";

/// A person's login at a laptop, and the folder where it is kept.
struct Laptop {
    server: OidcProvider,
    dir: TempDir,
    login: Login,
}

impl Laptop {
    /// A login whose access tokens live for `lifetime` seconds.
    async fn logged_in(lifetime: u32) -> Self {
        let server = OidcProvider::with_api(lifetime).await;
        server.register(native("laptop")).await;
        let login = server.log_in("laptop").await;
        let laptop = Self { server, dir: tempfile::tempdir().unwrap(), login };
        laptop.plant(&laptop.login);
        laptop
    }

    /// Where the first refresh token stands.
    fn seed(&self) -> PathBuf {
        self.dir.path().join("refresh_token")
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Puts the refresh token of a login where the program finds it.
    fn plant(&self, login: &Login) {
        let new = self.dir.path().join("new");
        fs::write(&new, &login.refresh_token).unwrap();
        fs::rename(new, self.seed()).unwrap();
    }

    /// The token's lines.
    fn token(&self) -> String {
        format!(
            "grant = \"refresh_token\"\nclient_id = \"laptop\"\nclient_auth = \"none\"\nrefresh_token_file = '{}'\n\
             wait = \"2s\"\nretry = {{ initial = \"100ms\", max = \"1s\" }}",
            self.seed().display()
        )
    }

    fn config(&self) -> Config {
        self.server.config(&self.token()).and(&store_section(&self.store()))
    }

    async fn refreshes(&self) -> u64 {
        self.server.requests_of(GRANT).await
    }
}

fn store_section(path: &Path) -> String {
    format!("[store]\nkind = \"file\"\npath = '{}'", path.display())
}

/// A program on a person's own machine, which keeps no secret.
fn native(name: &str) -> serde_json::Value {
    json!({
        "client_id": name, "token_endpoint_auth_method": "none", "grant_types": ["refresh_token", "authorization_code"],
        "response_types": ["code"], "redirect_uris": ["http://127.0.0.1/callback"], "application_type": "native",
    })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn each_refresh_brings_the_next_refresh_token_and_none_is_spent_twice() {
    let laptop = Laptop::logged_in(2).await;
    let proxy = Proxy::start(laptop.config()).await;
    assert_eq!(proxy.accepted("/").await["claims"]["sub"], "alice");
    eventually("four were spent", || async { laptop.server.spent(&laptop.login).await >= 4 }).await;
    assert!(laptop.server.stands_by(&laptop.login).await);
    proxy.accepted("/").await;
    assert_eq!(laptop.server.most_at_a_time().await, 1);
    assert_eq!(proxy.status().await["tokens"][0]["failures"], 0);

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&laptop.store()), 0o700);
    for file in files(&laptop.store()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn an_answer_without_a_new_refresh_token_keeps_the_old_one() {
    let laptop = Laptop::logged_in(2).await;
    laptop.server.set(json!({ "rotate": false })).await;
    laptop.server.fault(r#"{"mode":"strip","members":["refresh_token"],"times":-1}"#).await;
    let proxy = Proxy::start(laptop.config()).await;
    eventually("it was used three times", || async { laptop.refreshes().await >= 3 }).await;
    let mut proxy = proxy.kill().await.start().await;
    proxy.until_ready().await;
    proxy.accepted("/").await;
    assert!(laptop.server.stands_by(&laptop.login).await);
}

#[tokio::test]
async fn a_logout_ends_the_login_at_the_server_and_stays_through_a_restart() {
    let laptop = Laptop::logged_in(600).await;
    let proxy = Proxy::start(laptop.config()).await;
    proxy.accepted("/").await;
    let said = proxy.command(&["logout"]).await;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "api: logged out\n");
    assert!(!laptop.server.stands_by(&laptop.login).await, "the server has ended it (RFC 7009)");
    assert_eq!(proxy.get("/").await.status, 503);
    let proxy = proxy.stop().await.start().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(proxy.status().await["tokens"][0]["status"], "login_required");
    assert_eq!(laptop.refreshes().await, 1, "nobody asked for another");
    assert!(!proxy.log().contains(&laptop.login.refresh_token));
}

#[tokio::test]
async fn a_logout_without_a_proxy_ends_the_login_that_is_stored() {
    let laptop = Laptop::logged_in(600).await;
    let proxy = Proxy::start(laptop.config()).await.stop().await;
    let said = proxy.command(&["logout"]).await;
    assert!(said.status.success(), "{said:?}");
    assert!(!laptop.server.stands_by(&laptop.login).await);
    let proxy = proxy.start().await;
    assert_eq!(proxy.get("/").await.status, 503);
    assert_eq!(laptop.refreshes().await, 1);
}

#[tokio::test]
async fn a_restart_uses_the_stored_token_without_a_call() {
    let laptop = Laptop::logged_in(600).await;
    let proxy = Proxy::start(laptop.config()).await;
    let token = proxy.accepted("/").await["token"].clone();
    let expiry = async |proxy: &Proxy| proxy.status().await["tokens"][0]["expires_at"].as_u64().unwrap();
    let expires = expiry(&proxy).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut proxy = proxy.stop().await.start().await;
    proxy.until_ready().await;
    assert_eq!(proxy.accepted("/").await["token"], token);
    let mut proxy = proxy.kill().await.start().await;
    proxy.until_ready().await;
    assert_eq!(proxy.accepted("/").await["token"], token);
    assert_eq!(laptop.refreshes().await, 1);
    assert!(expiry(&proxy).await.abs_diff(expires) <= 1, "its expiry is absolute");
}

#[tokio::test]
async fn a_restart_after_the_expiry_refreshes_once_with_the_stored_refresh_token() {
    let laptop = Laptop::logged_in(1).await;
    let proxy = Proxy::start(laptop.config()).await;
    let stopped = proxy.stop().await;
    let spent = laptop.refreshes().await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    laptop.server.set(json!({ "lifetime": 600 })).await;
    let mut proxy = stopped.start().await;
    proxy.until_ready().await;
    proxy.accepted("/").await;
    assert_eq!(laptop.refreshes().await, spent + 1);
    assert!(laptop.server.stands_by(&laptop.login).await, "the first refresh token was not used again");
}

#[tokio::test]
async fn a_login_that_ended_is_said_everywhere_and_nothing_more_is_asked() {
    let laptop = Laptop::logged_in(2).await;
    let mut proxy = Proxy::start(laptop.config()).await;
    proxy.accepted("/").await;
    laptop.server.end_login(&laptop.login).await;
    eventually("it is known", || async { proxy.status().await["tokens"][0]["status"] == "login_required" })
        .await;
    let asked = laptop.refreshes().await;
    assert!(proxy.readiness().await.contains("login_required") && !proxy.is_ready().await);
    let answer = proxy.get("/").await;
    answer.assert_proxy_error(503);
    let text = answer.text().to_lowercase();
    assert!(text.contains("log in") || text.contains("login"), "{text}");
    assert!(
        proxy.metrics().await.contains("state=\"login_required\",token=\"api\"} 1"),
        "{}",
        proxy.metrics().await
    );
    for _ in 0..20 {
        proxy.get("/").await.assert_proxy_error(503);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(laptop.refreshes().await, asked, "no call by itself, and none for a request");
    let renew = proxy.command(&["renew"]).await;
    assert_eq!(laptop.refreshes().await, asked, "nor for a renewal: {renew:?}\n{}", proxy.log());

    // Nor after a restart: what was refused is remembered, or is asked once more and no oftener.
    proxy = proxy.stop().await.start().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    proxy.get("/").await.assert_proxy_error(503);
    assert!(laptop.refreshes().await <= asked + 1, "{} after {asked}", laptop.refreshes().await);

    let login = laptop.server.log_in("laptop").await;
    laptop.plant(&login);
    proxy.until_ready().await;
    proxy.accepted("/").await;
}

#[tokio::test]
async fn an_answer_that_is_lost_costs_one_login_at_the_most_and_no_storm() {
    let laptop = Laptop::logged_in(2).await;
    let mut proxy = Proxy::start(laptop.config()).await;
    // The server has rotated, and nobody heard: the old refresh token is all that is left, and it is spent.
    laptop.server.fault(r#"{"mode":"lose","when":{"grant_type":"refresh_token"}}"#).await;
    eventually("the login is over", || async {
        proxy.status().await["tokens"][0]["status"] == "login_required"
    })
    .await;
    let asked = laptop.refreshes().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(laptop.refreshes().await, asked);
    laptop.plant(&laptop.server.log_in("laptop").await);
    proxy.until_ready().await;
}

#[tokio::test]
async fn two_proxies_on_one_store_refresh_once_at_each_expiry() {
    let laptop = Laptop::logged_in(8).await;
    let lines = laptop.token() + "\nrenew_at = 0.6\njitter = 0.02";
    let config = laptop.server.config(&lines).and(&store_section(&laptop.store()));
    let (one, other) = tokio::join!(Proxy::start(config.clone()), Proxy::start(config));
    assert_eq!(laptop.refreshes().await, 1, "the second found what the first had got");
    assert_eq!(one.accepted("/").await["token"], other.accepted("/").await["token"]);
    let start = clock::now();
    while start.elapsed() < Duration::from_secs(10) {
        one.accepted("/").await;
        other.accepted("/").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(laptop.server.stands_by(&laptop.login).await);
    let spent = laptop.refreshes().await;
    assert!((2..=3).contains(&spent), "{spent} refreshes for two proxies in 10 s with tokens of 8 s");
    assert_eq!(laptop.server.spent(&laptop.login).await, spent, "none failed");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_costs_no_request() {
    let laptop = Laptop::logged_in(3).await;
    let proxy = Proxy::start(laptop.config()).await;
    // Root writes everywhere, but not over a folder with something in it.
    let obstacle = laptop.store().join("api.tmp");
    fs::create_dir_all(obstacle.join("full")).unwrap();
    let spent = laptop.server.spent(&laptop.login).await;
    let start = clock::now();
    while laptop.server.spent(&laptop.login).await < spent + 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "it is refreshed all the same: {}", proxy.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    proxy.accepted("/").await;
    assert!(proxy.log().contains("a restart may lose it"), "an alarm is raised: {}", proxy.log());
    // It is mended, and what is held gets there without a restart.
    let old = fs::read(laptop.store().join("api.token")).unwrap();
    fs::remove_dir_all(obstacle).unwrap();
    eventually("the write is tried again", || async {
        fs::read(laptop.store().join("api.token")).unwrap() != old
    })
    .await;
    let mut proxy = proxy.stop().await.start().await;
    proxy.until_ready().await;
    proxy.accepted("/").await;
    assert!(laptop.server.stands_by(&laptop.login).await, "the newest refresh token was kept");
}

#[tokio::test]
async fn a_store_file_that_is_damaged_is_set_aside_and_told() {
    let laptop = Laptop::logged_in(600).await;
    let proxy = Proxy::start(laptop.config()).await;
    let stopped = proxy.stop().await;
    let damaged = b"{\"version\":1,\"trunc".to_vec();
    let mut count = 0;
    for file in files(&laptop.store()) {
        if fs::metadata(&file).unwrap().len() > 0 {
            fs::write(file, &damaged).unwrap();
            count += 1;
        }
    }
    assert_eq!(count, 1, "one token, one file");
    // The refresh token in it is lost; a new login is at hand.
    laptop.plant(&laptop.server.log_in("laptop").await);
    let mut proxy = stopped.start().await;
    proxy.until_ready().await;
    proxy.accepted("/").await;
    assert!(
        files(&laptop.store()).iter().any(|file| fs::read(file).unwrap() == damaged),
        "it is kept for whoever wants it"
    );
    assert!(proxy.log().to_lowercase().contains("set aside"), "{}", proxy.log());
}

#[tokio::test]
async fn a_stored_token_is_unreadable_without_its_encryption_key() {
    let laptop = Laptop::logged_in(600).await;
    let key = laptop.dir.path().join("key");
    fs::write(&key, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff").unwrap();
    let config = laptop.config().and(&format!("encryption_key_file = '{}'", key.display()));
    let proxy = Proxy::start(config).await;
    let token = proxy.accepted("/").await["token"].as_str().unwrap().to_owned();
    for file in files(&laptop.store()) {
        let bytes = fs::read(&file).unwrap();
        for secret in [token.as_bytes(), token.rsplit('.').next().unwrap().as_bytes(), b"refresh_token"] {
            assert!(memchr::memmem::find(&bytes, secret).is_none(), "{}", file.display());
        }
    }
    let mut proxy = proxy.kill().await.start().await;
    proxy.until_ready().await;
    assert_eq!(proxy.accepted("/").await["token"], token);
    assert_eq!(laptop.refreshes().await, 1);
}

#[tokio::test]
async fn a_confidential_clients_refresh_token_is_bound_to_nothing_but_its_secret() {
    let server = OidcProvider::with_api(2).await;
    server
        .register(json!({
            "client_id": "web", "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_basic",
            "grant_types": ["refresh_token", "authorization_code"], "response_types": ["code"],
            "redirect_uris": ["https://web.example.test/callback"],
        }))
        .await;
    let login = server.log_in("web").await;
    let lines = format!(
        "grant = \"refresh_token\"\nclient_id = \"web\"\nclient_secret = \"{SECRET}\"\nrefresh_token_file = '{}/seed'",
        server.certificates().ca.parent().unwrap().display()
    );
    fs::write(server.certificates().ca.with_file_name("seed"), &login.refresh_token).unwrap();
    // In memory alone: it works until the program ends.
    let proxy = Proxy::start(server.config(&lines)).await;
    eventually("three were spent", || async { server.spent(&login).await >= 3 }).await;
    proxy.accepted("/").await;
    assert!(server.stands_by(&login).await);
}

#[tokio::test]
async fn a_refresh_token_that_is_bound_to_a_key_is_refreshed_with_that_key_after_a_restart() {
    let laptop = Laptop::logged_in(2).await;
    // The server binds what it issues in the first refresh; from then on the key is part of the login.
    let config =
        laptop.server.config(&(laptop.token() + "\ndpop = true")).and(&store_section(&laptop.store()));
    let proxy = Proxy::start(config).await;
    let first = proxy.accepted("/").await;
    assert_eq!(first["scheme"], "DPoP");
    let mut proxy = proxy.kill().await.start().await;
    proxy.until_ready().await;
    let second = proxy.accepted("/").await;
    assert_eq!(first["claims"]["cnf"]["jkt"], second["claims"]["cnf"]["jkt"], "its key is kept beside it");
    assert!(laptop.server.stands_by(&laptop.login).await);
}

/// How many instants: the suite's own dozen, or as many as whoever runs it wants.
fn instants() -> u32 {
    std::env::var("CUPBEARER_TEST_KILLS").map_or(12, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_kill_at_any_instant_around_a_rotation_costs_one_login_at_the_most() {
    let mut laptop = Laptop::logged_in(600).await;
    // Tokens whose lifetime the proxy does not learn and takes for very short: each start refreshes at once.
    // And each answer is on its way for a while: that is when a kill hurts.
    laptop.server.fault(r#"{"mode":"strip","members":["expires_in"],"ms":60,"times":-1}"#).await;
    let again = async |laptop: &mut Laptop| {
        let order = json!({ "client_id": "laptop", "resource": "https://api.example.test/opaque" });
        laptop.login = laptop.server.log_in_with(order).await;
        laptop.plant(&laptop.login);
    };
    again(&mut laptop).await;
    let section = format!(
        "[tokens.api]\ntoken_endpoint = \"{}/token\"\n{}\ndefault_lifetime = \"300ms\"\n",
        laptop.server.issuer(),
        laptop.token(),
    );
    let config = Config::one_route(&upstream_at(&laptop.server.api_url()), &section)
        .and(&store_section(&laptop.store()));
    let mut stopped = Proxy::start(config).await.stop().await;
    let (mut rotations, mut logins) = (0, 0);
    for instant in 0..instants() {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = laptop.server.spent(&laptop.login).await;
        let proxy = stopped.spawn();
        tokio::time::sleep(Duration::from_micros(fastrand::u64(15_000..110_000))).await;
        let mut proxy = proxy.kill().await.start().await;
        let mut asked = None;
        let start = clock::now();
        loop {
            let readiness = curl(&[&proxy.health_url("/readyz")]).await;
            if readiness.status == 200 {
                break;
            }
            if readiness.text().contains("login_required") {
                asked = Some(laptop.refreshes().await);
                break;
            }
            let waited = start.elapsed();
            assert!(
                waited < Duration::from_secs(15),
                "instant {instant}: {}\n{}",
                readiness.text(),
                proxy.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Some(asked) = asked {
            logins += 1;
            assert!(
                !laptop.server.stands_by(&laptop.login).await,
                "a good login was thrown away: {}",
                proxy.log()
            );
            tokio::time::sleep(Duration::from_millis(if logins == 1 { 1500 } else { 100 })).await;
            assert_eq!(laptop.refreshes().await, asked, "it is said once, and nothing more is asked");
            again(&mut laptop).await;
            proxy.until_ready().await;
        } else {
            assert!(laptop.server.stands_by(&laptop.login).await, "instant {instant}: {}", proxy.log());
            rotations += u64::from(laptop.server.spent(&laptop.login).await > before + 1);
        }
        stopped = proxy.kill().await;
    }
    println!("{} kills, {rotations} of them after a rotation, {logins} logins lost", instants());
    let aside: Vec<_> = files(&laptop.store())
        .into_iter()
        .filter(|file| file.file_name().unwrap().to_string_lossy().contains("aside"))
        .collect();
    assert!(aside.is_empty(), "no file was ever torn: {aside:?}");
    assert!(stopped.dir().is_dir());
}
