//! Each way in which a client shows who it is, at a real authorization server. Certificates are in `mtls`.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use cupbearer_testing::{ClientCertificate, Key, OidcProvider, PASSWORD, Proxy, SECRET, eventually};

/// Renewed at once where something changes, and never in a hot loop.
const QUICK: &str = "retry = { initial = \"100ms\", max = \"1h\" }\n";

async fn register_key(server: &OidcProvider, name: &str, key: &Key, id: &str) {
    server
        .register(json!({
            "client_id": name, "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": key.algorithm, "grant_types": ["client_credentials"],
            "public_keys": [key.named(id)],
        }))
        .await;
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no {member}: {value}"))
}

#[tokio::test]
async fn a_secret_signs_an_assertion_and_never_leaves() {
    let server = OidcProvider::with_api(2).await;
    server
        .register(json!({
            "client_id": "hmac", "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_jwt",
            "grant_types": ["client_credentials"],
        }))
        .await;
    let lines =
        format!("client_id = \"hmac\"\nclient_auth = \"client_secret_jwt\"\nclient_secret = \"{SECRET}\"");
    let proxy = Proxy::start(server.config(&lines)).await;
    assert_eq!(proxy.accepted("/").await["claims"]["client_id"], "hmac");
    eventually("three assertions were good", || async { server.assertions().await.len() >= 3 }).await;
    let assertions = server.assertions().await;
    for assertion in &assertions {
        assert_eq!(text(assertion, "alg"), "HS256");
        assert_eq!((text(assertion, "iss"), text(assertion, "sub")), ("hmac", "hmac"));
        assert_eq!(text(assertion, "aud"), server.issuer());
        let lifetime = assertion["exp"].as_u64().unwrap() - assertion["iat"].as_u64().unwrap();
        assert!(lifetime <= 600, "short-lived: {assertion}");
    }
    let mut names: Vec<_> = assertions.iter().map(|assertion| text(assertion, "jti")).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), assertions.len(), "no jti comes twice");
}

#[tokio::test]
async fn a_secret_signs_by_a_longer_hash_where_the_server_wants_that() {
    let server = OidcProvider::with_api(60).await;
    let secret = SECRET.repeat(2);
    for algorithm in ["HS384", "HS512"] {
        server
            .register(json!({
                "client_id": algorithm, "client_secret": secret, "grant_types": ["client_credentials"],
                "token_endpoint_auth_method": "client_secret_jwt", "token_endpoint_auth_signing_alg": algorithm,
            }))
            .await;
        let lines = format!(
            "client_id = \"{algorithm}\"\nclient_auth = \"client_secret_jwt\"\nclient_secret = \"{secret}\"\n\
             client_key_algorithm = \"{algorithm}\""
        );
        let proxy = Proxy::start(server.config(&lines)).await;
        assert_eq!(proxy.accepted("/").await["claims"]["client_id"], algorithm);
        assert_eq!(text(server.assertions().await.last().unwrap(), "alg"), algorithm);
    }
}

#[tokio::test]
async fn a_private_key_of_any_kind_signs_an_assertion() {
    let server = OidcProvider::with_api(60).await;
    let dir = tempfile::tempdir().unwrap();
    let mut tokens = Vec::new();
    let algorithms = ["RS256", "PS256", "ES256", "EdDSA"];
    for algorithm in algorithms {
        let key = Key::new(algorithm).await;
        register_key(&server, algorithm, &key, &format!("{algorithm}-key")).await;
        let file = dir.path().join(algorithm);
        // Two of them as JWK, which says itself what it is called and how it signs.
        let (text, keys) = match algorithm {
            "PS256" | "EdDSA" => (server.jwk(&key, &format!("{algorithm}-key")).await, String::new()),
            _ => (
                key.pem.clone(),
                format!("client_key_id = \"{algorithm}-key\"\nclient_key_algorithm = \"{algorithm}\"\n"),
            ),
        };
        fs::write(&file, text).unwrap();
        let lines = format!(
            "client_id = \"{algorithm}\"\nclient_auth = \"private_key_jwt\"\nclient_key_file = '{}'\n{keys}",
            file.display()
        );
        tokens.push((algorithm, lines));
    }
    let proxy = Proxy::start(server.config_of(&tokens)).await;
    for algorithm in algorithms {
        assert_eq!(proxy.accepted(&format!("/{algorithm}")).await["claims"]["client_id"], algorithm);
    }
    let assertions = server.assertions().await;
    assert_eq!(assertions.len(), 4);
    for assertion in assertions {
        assert_eq!(text(&assertion, "kid"), format!("{}-key", text(&assertion, "alg")));
        assert_eq!(text(&assertion, "aud"), server.issuer());
    }
}

#[tokio::test]
async fn an_assertion_is_for_the_endpoint_where_that_is_configured_and_names_its_certificate() {
    let server = OidcProvider::with_api(60).await;
    let dir = tempfile::tempdir().unwrap();
    // Entra asks for the thumbprint of a certificate that holds the key.
    let shown = ClientCertificate::self_signed("orders");
    let [certificate, file] = shown.write(dir.path());
    let key = Key { pem: shown.key.clone(), algorithm: "ES256" };
    register_key(&server, "entra", &key, "entra-key").await;
    let lines = format!(
        "client_id = \"entra\"\nclient_auth = \"private_key_jwt\"\nclient_key_file = '{}'\nclient_cert_file = '{}'\n\
         client_assertion_audience = \"endpoint\"",
        file.display(),
        certificate.display()
    );
    let proxy = Proxy::start(server.config(&lines)).await;
    proxy.accepted("/").await;
    let assertion = &server.assertions().await[0];
    assert_eq!(text(assertion, "aud"), format!("{}/token", server.issuer()));
    assert_eq!(URL_SAFE_NO_PAD.decode(text(assertion, "x5t#S256")).unwrap().len(), 32, "{assertion}");
    assert_eq!(text(assertion, "x5t#S256"), thumbprint(&certificate).await);
}

/// The SHA-256 of a certificate as `openssl` sees it, in base64url.
async fn thumbprint(certificate: &std::path::Path) -> String {
    let mut command = cupbearer_testing::Program::peer("openssl", "openssl");
    let output =
        command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(certificate).output().await;
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    let digits: Vec<u8> = output
        .trim()
        .split_once('=')
        .unwrap()
        .1
        .split(':')
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect();
    URL_SAFE_NO_PAD.encode(digits)
}

#[tokio::test]
async fn a_key_that_is_replaced_counts_at_the_next_assertion() {
    let server = OidcProvider::with_api(2).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    let (old, new) = (Key::new("ES256").await, Key::new("ES256").await);
    register_key(&server, "rotating", &old, "old").await;
    fs::write(&file, server.jwk(&old, "old").await).unwrap();
    let lines = format!(
        "client_id = \"rotating\"\nclient_auth = \"private_key_jwt\"\nclient_key_file = '{}'\n{QUICK}",
        file.display()
    );
    let proxy = Proxy::start(server.config(&lines)).await;
    proxy.accepted("/").await;

    fs::write(&file, server.jwk(&new, "new").await).unwrap();
    register_key(&server, "rotating", &new, "new").await;
    eventually("the new key signs", || async {
        server.assertions().await.iter().any(|assertion| assertion["kid"] == "new")
    })
    .await;
    proxy.accepted("/").await;
    assert!(proxy.is_ready().await);
}

#[tokio::test]
async fn a_key_that_the_server_knows_before_the_file_changes_counts_at_once() {
    let server = OidcProvider::with_api(60).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    let (old, new) = (Key::new("EdDSA").await, Key::new("EdDSA").await);
    register_key(&server, "rotating", &new, "key").await;
    fs::write(&file, &old.pem).unwrap();
    let lines = format!(
        "client_id = \"rotating\"\nclient_auth = \"private_key_jwt\"\nclient_key_file = '{}'\nwait = \"1s\"\n{QUICK}",
        file.display()
    );
    let mut proxy = Proxy::start_live(server.config(&lines)).await;
    proxy.get("/").await.assert_proxy_error(503);
    eventually("the old key is refused", || async { proxy.log().contains("invalid_client") }).await;
    fs::write(&file, &new.pem).unwrap();
    proxy.until_ready().await;
    proxy.accepted("/").await;
}

#[tokio::test]
async fn a_secret_that_was_refused_is_replaced_and_counts_at_once() {
    let server = OidcProvider::with_api(2).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    let register = async |secret: &str| {
        server
            .register(json!({
                "client_id": "rotating", "client_secret": secret, "token_endpoint_auth_method": "client_secret_basic",
                "grant_types": ["client_credentials"],
            }))
            .await;
    };
    register("the-first-secret-of-32-bytes-and-more").await;
    fs::write(&file, "the-first-secret-of-32-bytes-and-more").unwrap();
    let lines = format!("client_id = \"rotating\"\nclient_secret_file = '{}'\n{QUICK}", file.display());
    let mut proxy = Proxy::start(server.config(&lines)).await;
    proxy.accepted("/").await;

    register("the-second-secret-of-32-bytes-or-more").await;
    eventually("the old secret is refused", || async { proxy.log().contains("invalid_client") }).await;
    let start = cupbearer_testing::clock::now();
    fs::write(&file, "the-second-secret-of-32-bytes-or-more").unwrap();
    eventually("the new one works", || async { proxy.status().await["tokens"][0]["status"] == "valid" })
        .await;
    println!("from the change of a secret file to a token: {:?}", start.elapsed());
    proxy.until_ready().await;
    proxy.accepted("/").await;
}

#[tokio::test]
async fn an_assertion_that_somebody_else_writes_is_read_again_each_time() {
    let server = OidcProvider::with_api(2).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("azure-identity-token");
    let key = Key::new("RS256").await;
    register_key(&server, "workload", &key, "trusted").await;
    let count = std::cell::Cell::new(0);
    let write = async || {
        count.set(count.get() + 1);
        let claims = json!({ "iss": "workload", "sub": "workload", "aud": server.issuer(), "jti": count.get().to_string() });
        fs::write(&file, server.sign(&key, claims).await).unwrap();
    };
    write().await;
    let lines = format!(
        "client_id = \"workload\"\nclient_auth = \"assertion_file\"\nassertion_file = '{}'\n{QUICK}",
        file.display()
    );
    let proxy = Proxy::start(server.config(&lines)).await;
    assert_eq!(proxy.accepted("/").await["claims"]["client_id"], "workload");
    // This server takes each assertion once: a renewal needs what was written since.
    for _ in 0..3 {
        let before = server.assertions().await.len();
        write().await;
        eventually("the new assertion was taken", || async { server.assertions().await.len() > before })
            .await;
    }
    proxy.accepted("/").await;
    let names: Vec<_> =
        server.assertions().await.iter().map(|assertion| text(assertion, "jti").to_owned()).collect();
    assert!(names.contains(&"1".to_owned()) && names.contains(&"4".to_owned()), "{names:?}");
}

#[tokio::test]
async fn a_public_client_says_its_name_and_nothing_else() {
    let server = OidcProvider::with_api(60).await;
    server
        .register(json!({
            "client_id": "public", "token_endpoint_auth_method": "none", "grant_types": ["password"],
        }))
        .await;
    let lines = format!(
        "grant = \"password\"\nclient_id = \"public\"\nclient_auth = \"none\"\nusername = \"alice\"\npassword = '{PASSWORD}'"
    );
    let proxy = Proxy::start(server.config(&lines)).await;
    assert_eq!(proxy.accepted("/").await["claims"]["client_id"], "public");
}
