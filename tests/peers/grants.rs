//! Each way to a token, at a real authorization server, on to an API that verifies what reaches it.

use std::fs;
use std::time::Duration;

use serde_json::json;

use cupbearer_testing::{
    Key, OidcProvider, PASSWORD, Proxy, SECRET, cupbearer, curl, eventually, project, upstream_at,
};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// A client that may use `grants`, and needs no secret.
async fn register_public(server: &OidcProvider, name: &str, grants: &[&str]) {
    server
        .register(json!({ "client_id": name, "token_endpoint_auth_method": "none", "grant_types": grants }))
        .await;
}

#[tokio::test]
async fn a_user_name_and_password_bring_a_token_and_a_warning() {
    let server = OidcProvider::with_api(60).await;
    register_public(&server, "load-test", &["password"]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let config = server.config(&format!(
        "grant = \"password\"\nclient_id = \"load-test\"\nclient_auth = \"none\"\nusername = \"alice\"\n\
         password_file = '{}'\nscope = \"api:read\"",
        file.display()
    ));
    let proxy = Proxy::start(config).await;
    let seen = proxy.accepted("/orders").await;
    assert_eq!((&seen["claims"]["sub"], &seen["claims"]["scope"]), (&json!("alice"), &json!("api:read")));
    assert_eq!(server.requests_of("password").await, 1);
    assert!(proxy.log().contains("password"), "the start warns of the grant: {}", proxy.log());
    let check = proxy.command(&["check"]).await;
    let said = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
    assert!(check.status.success() && said.contains("password"), "so does check: {said}");
}

#[tokio::test]
async fn an_assertion_signed_with_any_kind_of_key_brings_a_token() {
    let server = OidcProvider::with_api(60).await;
    register_public(&server, "robot", &[BEARER]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut tokens = Vec::new();
    let algorithms =
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
    for algorithm in algorithms {
        let key = Key::new(algorithm).await;
        server.trust(&format!("https://{algorithm}.example.test"), &key).await;
        let file = dir.path().join(algorithm);
        fs::write(&file, &key.pem).unwrap();
        let lines = format!(
            "grant = \"jwt_bearer\"\nclient_id = \"robot\"\nclient_auth = \"none\"\nkey_file = '{}'\n\
             key_algorithm = \"{algorithm}\"\nkey_id = \"trusted\"\nissuer_claim = \"https://{algorithm}.example.test\"\n\
             subject = \"{algorithm}@example.test\"",
            file.display()
        );
        tokens.push((algorithm, lines));
    }
    let proxy = Proxy::start(server.config_of(&tokens)).await;
    for algorithm in algorithms {
        let seen = proxy.accepted(&format!("/{algorithm}")).await;
        assert_eq!(seen["claims"]["sub"], format!("{algorithm}@example.test"));
    }
    assert_eq!(server.requests_of(BEARER).await, algorithms.len() as u64);
}

#[tokio::test]
async fn each_renewal_by_an_assertion_signs_a_new_one() {
    let server = OidcProvider::with_api(2).await;
    register_public(&server, "robot", &[BEARER]).await;
    let key = Key::new("ES256").await;
    server.trust("https://robot.example.test", &key).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.jwk");
    fs::write(&file, server.jwk(&key, "trusted").await).unwrap();
    let config = server.config(&format!(
        "grant = \"jwt_bearer\"\nclient_id = \"robot\"\nclient_auth = \"none\"\nkey_file = '{}'\n\
         issuer_claim = \"https://robot.example.test\"\nsubject = \"robot\"",
        file.display()
    ));
    let proxy = Proxy::start(config).await;
    eventually("three assertions were spent", || async { server.requests_of(BEARER).await >= 3 }).await;
    let seen = proxy.accepted("/").await;
    assert_eq!(seen["claims"]["sub"], "robot");
    assert!(
        !proxy.log().contains("invalid_grant"),
        "an assertion that comes twice is refused: {}",
        proxy.log()
    );
}

#[tokio::test]
async fn a_google_service_account_key_is_all_that_it_needs() {
    let server = OidcProvider::with_api(60).await;
    register_public(&server, "google", &[BEARER]).await;
    let key = Key::new("RS256").await;
    let email = "orders@project.iam.gserviceaccount.example";
    server.trust(email, &key).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("service-account.json");
    let account = json!({
        "type": "service_account", "project_id": "project", "private_key_id": "trusted", "private_key": key.pem,
        "client_email": email, "client_id": "1234567890", "token_uri": format!("{}/token", server.issuer()),
    });
    fs::write(&file, account.to_string()).unwrap();
    let config = server.config(&format!(
        "grant = \"jwt_bearer\"\nclient_id = \"google\"\nclient_auth = \"none\"\nkey_file = '{}'\nscope = \"api:read\"",
        file.display()
    ));
    let proxy = Proxy::start(config).await;
    let seen = proxy.accepted("/").await;
    assert_eq!((&seen["claims"]["sub"], &seen["claims"]["scope"]), (&json!(email), &json!("api:read")));
}

#[tokio::test]
async fn a_projected_service_account_token_is_exchanged_and_read_again_each_time() {
    let server = OidcProvider::with_api(2).await;
    register_public(&server, "workload", &[EXCHANGE]).await;
    let cluster = Key::new("RS256").await;
    server.trust("https://cluster.example.test", &cluster).await;
    let projected =
        |subject: &str| json!({ "iss": "https://cluster.example.test", "sub": subject, "aud": "sts" });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, server.sign(&cluster, projected("system:serviceaccount:shop:first")).await).unwrap();
    let config = server.config(&format!(
        "grant = \"token_exchange\"\nclient_id = \"workload\"\nclient_auth = \"none\"\nsubject_token_file = '{}'\n\
         resource = [\"https://api2.example.test/\"]\nscope = \"api:read\"",
        file.display()
    ));
    let proxy = Proxy::start(config).await;
    let seen = proxy.accepted("/").await;
    assert_eq!(seen["claims"]["sub"], "system:serviceaccount:shop:first");
    assert_eq!(seen["claims"]["aud"], "https://api2.example.test/");

    fs::write(&file, server.sign(&cluster, projected("system:serviceaccount:shop:second")).await).unwrap();
    eventually("the next exchange trades in the new one", || async {
        proxy.accepted("/").await["claims"]["sub"] == "system:serviceaccount:shop:second"
    })
    .await;
}

#[tokio::test]
async fn a_token_is_exchanged_for_another_with_an_actor() {
    let server = OidcProvider::with_api(60).await;
    server
        .register(json!({
            "client_id": "chain", "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_basic",
            "grant_types": [EXCHANGE],
        }))
        .await;
    let cluster = Key::new("ES256").await;
    server.trust("https://cluster.example.test", &cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("actor");
    let actor = json!({ "iss": "https://cluster.example.test", "sub": "the-actor", "aud": "sts" });
    fs::write(&file, server.sign(&cluster, actor).await).unwrap();
    let first = format!(
        "grant = \"client_credentials\"\nclient_id = \"orders\"\nclient_secret = \"{SECRET}\"\nscope = \"api:read\""
    );
    let second = format!(
        "grant = \"token_exchange\"\nclient_id = \"chain\"\nclient_secret = \"{SECRET}\"\nsubject_token = \"token:first\"\n\
         actor_token_file = '{}'\nactor_token_type = \"urn:ietf:params:oauth:token-type:jwt\"\n\
         resource = [\"https://api2.example.test/\"]",
        file.display()
    );
    let mut proxy = Proxy::start_live(server.config_of(&[("first", first), ("second", second)])).await;
    proxy.until_ready().await;
    let seen = proxy.accepted("/second").await;
    assert_eq!(seen["claims"]["sub"], "orders", "the subject of the first token");
    assert_eq!(seen["claims"]["act"]["sub"], "the-actor");
    assert_eq!(seen["claims"]["client_id"], "chain");
    assert_eq!(seen["claims"]["aud"], "https://api2.example.test/");
    assert_eq!(server.requests_of(EXCHANGE).await, 1);
}

#[tokio::test]
async fn two_callers_in_parallel_each_have_a_token_of_their_own() {
    let server = OidcProvider::with_api(60).await;
    register_public(&server, "gateway", &[EXCHANGE]).await;
    let login = Key::new("ES256").await;
    server.trust("https://login.example.test", &login).await;
    let config = server.config(
        "grant = \"token_exchange\"\nclient_id = \"gateway\"\nclient_auth = \"none\"\nsubject_token = \"incoming\"\n\
         subject_token_type = \"urn:ietf:params:oauth:token-type:jwt\"\nresource = [\"https://api2.example.test/\"]",
    );
    let proxy = Proxy::start(config).await;
    // Slow enough that both are under way at once, and that each caller's second request finds the first waiting.
    server.fault(r#"{"mode":"delay","ms":300,"times":-1}"#).await;
    let url = proxy.url("/orders");
    let mut callers = Vec::new();
    for name in ["alice", "bob"] {
        let claims = json!({ "iss": "https://login.example.test", "sub": name, "aud": "gateway" });
        let header = format!("Authorization: Bearer {}", server.sign(&login, claims).await);
        for _ in 0..4 {
            let (url, header) = (url.clone(), header.clone());
            callers.push(tokio::spawn(async move { (name, curl(&["--header", &header, &url]).await) }));
        }
    }
    let mut tokens = std::collections::BTreeSet::new();
    for caller in callers {
        let (name, answer) = caller.await.unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
        assert_eq!(answer.json()["claims"]["sub"], name, "no caller is ever taken for another");
        tokens.insert(answer.json()["token"].as_str().unwrap().to_owned());
    }
    assert_eq!(tokens.len(), 2);
    assert_eq!(server.requests_of(EXCHANGE).await, 2, "one exchange per caller");
    assert_eq!(server.most_at_a_time().await, 2, "and neither waits for the other");

    let nobody = proxy.get("/orders").await;
    assert_eq!(nobody.status, 401, "{nobody:?}");
    assert!(nobody.proxy_error().is_some(), "there is nobody to act for: {nobody:?}");
    assert_eq!(server.requests_of(EXCHANGE).await, 2);
}

#[tokio::test]
async fn a_caller_whose_token_is_not_believed_gets_no_other_callers_token() {
    let server = OidcProvider::with_api(60).await;
    register_public(&server, "gateway", &[EXCHANGE]).await;
    let (login, stranger) = (Key::new("ES256").await, Key::new("ES256").await);
    server.trust("https://login.example.test", &login).await;
    let config = server.config(
        "grant = \"token_exchange\"\nclient_id = \"gateway\"\nclient_auth = \"none\"\nsubject_token = \"incoming\"",
    );
    let proxy = Proxy::start(config).await;
    let claims = json!({ "iss": "https://login.example.test", "sub": "alice", "aud": "gateway" });
    let [good, bad] = [&login, &stranger].map(|key| server.sign(key, claims.clone()));
    let (good, bad) = (good.await, bad.await);
    let ask = async |token: &str| {
        curl(&["--header", &format!("Authorization: Bearer {token}"), &proxy.url("/")]).await
    };
    assert_eq!(ask(&good).await.status, 200);
    let refused = ask(&bad).await;
    assert!(refused.proxy_error().is_some() && refused.status >= 400, "{refused:?}");
    assert_eq!(ask(&good).await.status, 200, "and the good caller is none the worse for it");
    assert!(!proxy.log().contains(&bad), "no caller's token in the log");
    assert!(server.api_seen().await.iter().all(|seen| seen["sub"] == "alice"));
}

#[tokio::test]
async fn a_helper_program_prints_the_token() {
    let server = OidcProvider::with_api(3).await;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("helper");
    let fetch = format!(
        "#!/bin/sh\nenv | sort > {dir}/environment\necho \"$1\" > {dir}/argument\necho told-on-stderr >&2\n\
         exec curl --silent --user orders:{SECRET} --data grant_type=client_credentials {}/token\n",
        server.issuer(),
        dir = dir.path().display(),
    );
    fs::write(&script, fetch).unwrap();
    executable(&script);
    let section = format!(
        "[tokens.api]\ngrant = \"command\"\ncommand = ['{}', 'an argument; $(id)']\n",
        script.display()
    );
    let config = cupbearer_testing::Config::one_route(&upstream_at(&server.api_url()), &section)
        .environment("CUPBEARER_OTHER_SECRET", "not-for-helpers");
    let proxy = Proxy::start(config).await;
    let seen = proxy.accepted("/").await;
    assert_eq!(seen["claims"]["client_id"], "orders");
    assert_eq!(
        fs::read_to_string(dir.path().join("argument")).unwrap(),
        "an argument; $(id)\n",
        "no shell reads it"
    );
    let environment = fs::read_to_string(dir.path().join("environment")).unwrap();
    assert!(!environment.contains("not-for-helpers"), "a helper inherits no secret: {environment}");
    eventually("its expires_in counts: the helper is called again", || async {
        server.token_requests().await >= 2
    })
    .await;
}

#[tokio::test]
async fn a_helper_program_that_fails_or_hangs_is_told_apart() {
    let server = OidcProvider::with_api(60).await;
    let dir = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        executable(&file);
        file.display().to_string()
    };
    let fails = script("fails", "echo half-a-token\necho vault is sealed >&2\nexit 7");
    let hangs = script("hangs", "echo half-a-token\nsleep 600");
    let section = |name: &str, program: &str| {
        format!(
            "[tokens.{name}]\ngrant = \"command\"\ncommand = ['{program}']\ncommand_timeout = \"1s\"\nwait = \"3s\"\n\
             retry = {{ initial = \"100ms\", max = \"1s\" }}\n[[routes]]\npath = \"/{name}\"\nupstream = \"api\"\ntoken = \"{name}\"\n"
        )
    };
    let config = cupbearer_testing::Config::new(
        upstream_at(&server.api_url())
            + &section("fails", &fails)
            + &section("hangs", &hangs)
            + &section("missing", "/nowhere/helper"),
    );
    let proxy = Proxy::start_live(config).await;
    for (name, word) in [("fails", "7"), ("hangs", "command_timeout"), ("missing", "/nowhere/helper")] {
        proxy.get(&format!("/{name}")).await.assert_proxy_error(503);
        let status = proxy.status().await;
        let token = status["tokens"].as_array().unwrap().iter().find(|token| token["name"] == name).unwrap();
        let message = format!("{}{}", token["last_error"]["message"], proxy.log());
        assert!(message.contains(word), "{name}: {message}");
        assert!(!message.contains("half-a-token"), "what it printed is nobody's business");
    }
    assert!(server.api_seen().await.is_empty());
}

#[tokio::test]
async fn a_token_file_is_watched_through_kubernetes_symlink_swap() {
    let server = OidcProvider::with_api(600).await;
    let fetch = async || {
        let (user, url) = (format!("orders:{SECRET}"), format!("{}/token", server.issuer()));
        let answer = curl(&["--user", &user, "--data", "grant_type=client_credentials", &url]).await;
        answer.json()["access_token"].as_str().unwrap().to_owned()
    };
    let dir = tempfile::tempdir().unwrap();
    let publish = |version: &str, token: &str| project(dir.path(), version, "token", token);
    let first = fetch().await;
    publish("..v1", &first);
    let section =
        format!("[tokens.api]\ngrant = \"file\"\ntoken_file = '{}'\n", dir.path().join("token").display());
    let config = cupbearer_testing::Config::one_route(&upstream_at(&server.api_url()), &section);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.accepted("/").await["token"], first);

    let mut slowest = Duration::ZERO;
    for version in ["..v2", "..v3", "..v4"] {
        let token = fetch().await;
        publish(version, &token);
        let start = cupbearer_testing::clock::now();
        eventually("the new token is sent", || async { proxy.accepted("/").await["token"] == token }).await;
        slowest = slowest.max(start.elapsed());
    }
    println!("from the change of a token file to its use: {slowest:?} at most");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    assert!(proxy.is_ready().await);
}

#[tokio::test]
async fn a_token_of_the_configuration_is_sent_as_it_is() {
    let server = OidcProvider::with_api(600).await;
    let (user, url) = (format!("orders:{SECRET}"), format!("{}/token", server.issuer()));
    let answer = curl(&["--user", &user, "--data", "grant_type=client_credentials", &url]).await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let section = "[tokens.api]\ngrant = \"static\"\ntoken_env = \"API_TOKEN\"\n";
    let config = cupbearer_testing::Config::one_route(&upstream_at(&server.api_url()), section)
        .environment("API_TOKEN", &token);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.accepted("/").await["token"], token);
    assert_eq!(server.token_requests().await, 1, "the test's own");
}

#[tokio::test]
async fn an_opaque_token_without_a_lifetime_is_asked_about() {
    let server = OidcProvider::with_api(40).await;
    server.fault(r#"{"mode":"strip","members":["expires_in"],"times":-1}"#).await;
    let lines = format!(
        "grant = \"client_credentials\"\nclient_id = \"orders\"\nclient_secret = \"{SECRET}\"\n\
         resource = [\"https://api.example.test/opaque\"]"
    );
    let proxy = Proxy::start(server.config(&lines)).await;
    proxy.accepted("/").await;
    assert_eq!(server.requests_at("/token/introspection").await, 1, "RFC 7662");
    let left = proxy.status().await["tokens"][0]["expires_in_seconds"].as_u64().unwrap();
    assert!((30..=40).contains(&left), "{left} s, and not default_lifetime");
}

#[tokio::test]
async fn a_token_is_given_back_at_the_end_where_that_is_asked_for() {
    let server = OidcProvider::with_api(60).await;
    let lines = format!(
        "grant = \"client_credentials\"\nclient_id = \"orders\"\nclient_secret = \"{SECRET}\"\n\
         resource = [\"https://api.example.test/opaque\"]\n"
    );
    for (keys, revoked) in [("", false), ("revoke_on_exit = true", true)] {
        server.recover().await;
        let proxy = Proxy::start(server.config(&(lines.clone() + keys))).await;
        let token = proxy.accepted("/").await["token"].as_str().unwrap().to_owned();
        assert!(server.is_active(&token).await);
        let (status, log) = proxy.terminate().await;
        assert!(status.success(), "{log}");
        assert_eq!(server.is_active(&token).await, !revoked, "{keys}: {log}");
        assert_eq!(server.requests_at("/token/revocation").await, u64::from(revoked), "RFC 7009");
    }
}

#[tokio::test]
async fn metadata_of_another_issuer_are_refused_and_no_grant_is_spent() {
    let server = OidcProvider::with_api(60).await;
    server.set(json!({ "metadata": { "issuer": format!("{}/", server.issuer()) } })).await;
    register_public(&server, "load-test", &["password"]).await;
    let lines = format!(
        "grant = \"password\"\nclient_id = \"load-test\"\nclient_auth = \"none\"\nusername = \"alice\"\n\
         password = '{PASSWORD}'\nwait = \"1s\"\nretry = {{ initial = \"100ms\", max = \"500ms\" }}"
    );
    let mut proxy = Proxy::start_live(server.config(&lines)).await;
    proxy.get("/").await.assert_proxy_error(503);
    assert_eq!(server.token_requests().await, 0, "a final slash is another issuer (RFC 8414 section 3.3)");
    assert!(proxy.log().contains("issuer"), "{}", proxy.log());

    server.set(json!({ "metadata": {} })).await;
    proxy.until_ready().await;
    proxy.accepted("/").await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let key = file("key.pem", &Key::new("EdDSA").await.pem);
    let text =
        file("text.pem", "-----BEGIN CERTIFICATE-----\nnot a certificate\n-----END CERTIFICATE-----\n");
    let rsa = file("rsa.pem", &Key::new("RS256").await.pem);
    let own = cupbearer_testing::ClientCertificate::self_signed("one");
    let other = cupbearer_testing::ClientCertificate::self_signed("another");
    let (certificate, foreign_key) = (file("one.pem", &own.certificate), file("other.key", &other.key));
    let base =
        "[tokens.api]\ntoken_endpoint = \"https://login.example.test/token\"\nclient_id = \"orders\"\n";
    for (lines, word) in [
        (
            format!(
                "client_auth = \"private_key_jwt\"\nclient_key_file = '{key}'\nclient_key_algorithm = \"RS256\"\n"
            ),
            "client_key",
        ),
        (format!("client_auth = \"private_key_jwt\"\nclient_key_file = '{text}'\n"), "client_key_file"),
        (
            format!(
                "client_auth = \"tls_client_auth\"\nclient_cert_file = '{text}'\nclient_cert_key_file = '{rsa}'\n"
            ),
            "client_cert_file",
        ),
        (
            format!(
                "client_auth = \"tls_client_auth\"\nclient_cert_file = '{certificate}'\nclient_cert_key_file = '{foreign_key}'\n"
            ),
            "client_cert",
        ),
    ] {
        let config = format!(
            "{base}{lines}[upstreams.api]\nurl = \"https://api.example.test\"\n[[routes]]\nupstream = \"api\"\ntoken = \"api\"\n"
        );
        let file = dir.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let output = cupbearer().args(["check", "--config"]).arg(&file).output().await.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{lines}: {said}");
        assert!(said.contains(word) && !said.contains("PRIVATE KEY"), "{lines}: {said}");
    }
}

fn executable(file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o700)).unwrap();
}
