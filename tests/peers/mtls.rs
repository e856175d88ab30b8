//! Client certificates (RFC 8705): at the authorization server, and toward an API that binds tokens to them.

use serde_json::{Value, json};
use tempfile::TempDir;

use cupbearer_testing::{ClientCertificate, OidcProvider, Proxy, SECRET, eventually};

/// Lines for the token: the certificate.
fn certificate_lines(dir: &std::path::Path) -> String {
    format!("client_cert_file = '{0}/client.pem'\nclient_cert_key_file = '{0}/client.key'\n", dir.display())
}

/// Lines for the upstream: the same certificate.
fn upstream_lines(dir: &std::path::Path) -> String {
    format!("client_cert_file = '{0}/client.pem'\nclient_key_file = '{0}/client.key'\n", dir.display())
}

async fn register_subject(server: &OidcProvider) {
    server
        .register(json!({
            "client_id": "pod", "token_endpoint_auth_method": "tls_client_auth",
            "tls_client_auth_subject_dn": "CN=pod", "tls_client_certificate_bound_access_tokens": true,
            "grant_types": ["client_credentials"],
        }))
        .await;
}

/// A proxy in front of the API whose client is known by its certificate, and the folder where that is.
async fn pod() -> (OidcProvider, TempDir, Proxy) {
    let server = OidcProvider::with_api(60).await;
    register_subject(&server).await;
    let dir = tempfile::tempdir().unwrap();
    server.certificates().client("pod").write(dir.path());
    let token =
        format!("client_id = \"pod\"\nclient_auth = \"tls_client_auth\"\n{}", certificate_lines(dir.path()));
    let proxy = Proxy::start(server.config_tls(&upstream_lines(dir.path()), &token)).await;
    (server, dir, proxy)
}

/// What is bound is bound to what was shown.
fn assert_bound(seen: &Value) {
    let bound = &seen["claims"]["cnf"]["x5t#S256"];
    assert!(bound.is_string() && *bound == seen["certificate"], "{seen}");
}

#[tokio::test]
async fn a_certificate_is_the_clients_authentication_and_its_token_is_bound_to_it() {
    let (_server, _dir, proxy) = pod().await;
    let seen = proxy.accepted("/orders").await;
    assert_eq!(seen["claims"]["client_id"], "pod");
    assert_bound(&seen);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_will_do_where_the_server_knows_it() {
    let server = OidcProvider::with_api(60).await;
    let dir = tempfile::tempdir().unwrap();
    let certificate = ClientCertificate::self_signed("self");
    certificate.write(dir.path());
    server
        .register(json!({
            "client_id": "self", "token_endpoint_auth_method": "self_signed_tls_client_auth",
            "tls_client_certificate_bound_access_tokens": true, "grant_types": ["client_credentials"],
            "certificates": [certificate.certificate],
        }))
        .await;
    let token =
        format!("client_id = \"self\"\nclient_auth = \"tls_client_auth\"\n{}", certificate_lines(dir.path()));
    let proxy = Proxy::start(server.config_tls(&upstream_lines(dir.path()), &token)).await;
    assert_bound(&proxy.accepted("/").await);
}

#[tokio::test]
async fn a_certificate_beside_a_secret_binds_the_token() {
    let server = OidcProvider::with_api(60).await;
    server
        .register(json!({
            "client_id": "both", "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_basic",
            "tls_client_certificate_bound_access_tokens": true, "grant_types": ["client_credentials"],
        }))
        .await;
    let dir = tempfile::tempdir().unwrap();
    ClientCertificate::self_signed("anything").write(dir.path());
    let token =
        format!("client_id = \"both\"\nclient_secret = \"{SECRET}\"\n{}", certificate_lines(dir.path()));
    let proxy = Proxy::start(server.config_tls(&upstream_lines(dir.path()), &token)).await;
    assert_bound(&proxy.accepted("/").await);
}

#[tokio::test]
async fn another_certificate_than_the_registered_one_is_refused_and_not_hammered() {
    let server = OidcProvider::with_api(60).await;
    register_subject(&server).await;
    let dir = tempfile::tempdir().unwrap();
    server.certificates().client("somebody-else").write(dir.path());
    let token = format!(
        "client_id = \"pod\"\nclient_auth = \"tls_client_auth\"\nwait = \"1s\"\n{}",
        certificate_lines(dir.path())
    );
    let mut proxy = Proxy::start_live(server.config_tls(&upstream_lines(dir.path()), &token)).await;
    proxy.get("/").await.assert_proxy_error(503);
    eventually("the server says why", || async { proxy.log().contains("invalid_client") }).await;
    assert!(server.token_requests().await <= 2);
    assert!(server.api_seen().await.is_empty());

    // The right one comes, and counts at once.
    server.certificates().client("pod").write(dir.path());
    proxy.until_ready().await;
    assert_bound(&proxy.accepted("/").await);
}

#[tokio::test]
async fn a_certificate_that_is_replaced_brings_a_new_token_and_new_connections() {
    let (server, dir, proxy) = pod().await;
    let first = proxy.accepted("/").await;
    assert_bound(&first);

    server.certificates().client("pod").write(dir.path());
    let start = cupbearer_testing::clock::now();
    eventually("requests carry the new certificate and a token that is bound to it", || async {
        let answer = proxy.get("/").await;
        answer.status == 200 && answer.json()["certificate"] != first["certificate"]
    })
    .await;
    println!("from the change of a certificate to its use: {:?}", start.elapsed());
    for _ in 0..5 {
        let seen = proxy.accepted("/").await;
        assert_bound(&seen);
        assert_ne!(seen["token"], first["token"]);
    }
}

#[tokio::test]
async fn an_api_that_wants_a_certificate_gets_one_without_any_token_being_bound() {
    let server = OidcProvider::with_api(60).await;
    server.set(json!({ "api_certificate": true })).await;
    let dir = tempfile::tempdir().unwrap();
    server.certificates().client("sidecar").write(dir.path());
    let token = format!("client_id = \"orders\"\nclient_secret = \"{SECRET}\"\n");
    let proxy = Proxy::start(server.config_tls(&upstream_lines(dir.path()), &token)).await;
    let seen = proxy.accepted("/").await;
    assert!(seen["certificate"].is_string() && seen["claims"]["cnf"].is_null(), "{seen}");
}
