//! Getting a token: from a real authorization server, and from one that lies.

use std::fs;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use cupbearer_testing::{
    Config, Key, Nginx, ODD_ID, ODD_SECRET, OidcProvider, Origin, Proxy, Reply, SECRET, clock, eventually,
    free_address, token_at, upstream_at,
};

/// Attempts in quick succession: what is tested is that there is a next one, not when.
const QUICK: &str = "retry = { initial = \"50ms\", max = \"200ms\" }\n";

fn token_from(issuer: &str, id: &str, auth: &str, secret: &str) -> String {
    format!(
        "[tokens.api]\nissuer = \"{issuer}\"\ngrant = \"client_credentials\"\nclient_id = '{id}'\n\
         client_auth = \"{auth}\"\nclient_secret = '{secret}'\nscope = \"api:read\"\n"
    )
}

/// The claims of a JWT, unverified.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap_or_else(|| panic!("not a JWT: {token}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// An unsigned JWT with these claims.
fn jwt(claims: &str) -> String {
    let [head, claims] = [r#"{"alg":"none"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{head}.{claims}.c2lnbmF0dXJl")
}

fn seconds_since_1970() -> f64 {
    clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// The token that reached the API by a request through a proxy with this token's section.
async fn token_seen(section: &str) -> String {
    let api = Nginx::start().await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), section)).await;
    let answer = proxy.get("/orders/7?x=1").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /orders/7?x=1\n"), "{answer:?}");
    let seen = answer.field("saw-authorization").unwrap();
    seen.strip_prefix("Bearer ").unwrap_or_else(|| panic!("{seen:?}")).to_owned()
}

/// The token request that a section leads to.
async fn form_of(section: &str) -> (String, Vec<(String, String)>) {
    let server = Origin::issuing(300).await;
    let api = Origin::ok().await;
    let token = token_at(&format!("{}/token?tenant=a%2Fb", server.url())) + section;
    Proxy::start(Config::one_route(&upstream_at(&api.url()), &token)).await;
    let request = server.only();
    assert_eq!(request.method(), "POST");
    (request.target(), request.form())
}

fn value_of<'a>(form: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    form.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
}

#[tokio::test]
async fn a_jwt_found_by_discovery_reaches_the_api() {
    let server = OidcProvider::start(60).await;
    let token = token_seen(&token_from(&server.issuer(), "orders", "client_secret_basic", SECRET)).await;
    let claims = claims(&token);
    assert_eq!(claims["client_id"], "orders");
    assert_eq!(claims["scope"], "api:read");
    assert_eq!(claims["aud"], "https://api.example.test/");
    assert!(claims["exp"].as_f64().unwrap() > seconds_since_1970());
    assert_eq!(server.token_requests().await, 1);
}

#[tokio::test]
async fn an_opaque_token_reaches_the_api_and_is_good_at_its_server() {
    let server = OidcProvider::start(60).await;
    let section = token_from(&server.issuer(), "orders", "client_secret_basic", SECRET)
        + "resource = [\"https://api.example.test/opaque\"]\n";
    let token = token_seen(&section).await;
    assert!(!token.contains('.'), "{token}");
    assert!(server.is_active(&token).await);
}

#[tokio::test]
async fn a_secret_in_the_body_is_taken() {
    let server = OidcProvider::start(60).await;
    let token = token_seen(&token_from(&server.issuer(), "orders-post", "client_secret_post", SECRET)).await;
    assert_eq!(claims(&token)["client_id"], "orders-post");
}

#[tokio::test]
async fn odd_characters_in_id_and_secret_arrive_as_they_are() {
    let server = OidcProvider::start(60).await;
    let basic = token_seen(&token_from(&server.issuer(), ODD_ID, "client_secret_basic", ODD_SECRET)).await;
    assert_eq!(claims(&basic)["client_id"], ODD_ID);
    let post = token_seen(&token_from(&server.issuer(), "odd-post", "client_secret_post", ODD_SECRET)).await;
    assert_eq!(claims(&post)["client_id"], "odd-post");
}

#[tokio::test]
async fn a_secret_in_utf_8_arrives_byte_by_byte() {
    let server = Origin::issuing(300).await;
    let api = Origin::ok().await;
    let section = token_at(&server.url())
        .replace("client_secret_basic", "client_secret_post")
        .replace(SECRET, "pä ss+/=%&:€");
    Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    assert_eq!(value_of(&server.only().form(), "client_secret"), ["pä ss+/=%&:€"]);
}

#[tokio::test]
async fn a_server_over_tls_is_trusted_by_its_own_ca_and_not_without_it() {
    let server = OidcProvider::start_tls(60).await;
    let section = token_from(&server.issuer(), "orders", "client_secret_basic", SECRET);
    let with_ca = format!("{section}ca_file = '{}'\n", server.certificates().ca.display());
    assert_eq!(claims(&token_seen(&with_ca).await)["client_id"], "orders");

    server.recover().await;
    let api = Nginx::start().await;
    let proxy =
        Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &(section + "wait = \"500ms\"\n")))
            .await;
    proxy.get("/").await.assert_proxy_error(503);
    assert_eq!(server.token_requests().await, 0, "no secret goes to a server that is not trusted");
    let said = proxy.log().to_lowercase();
    assert!(said.contains("certificate") || said.contains("unknownissuer"), "{said}");
}

#[tokio::test]
async fn a_wrong_secret_is_named_and_not_hammered() {
    let server = OidcProvider::start(60).await;
    let api = Nginx::start().await;
    let section = token_from(&server.issuer(), "orders", "client_secret_basic", "not-the-secret");
    let start = clock::now();
    let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    let answer = proxy.get("/").await;
    answer.assert_proxy_error(503);
    assert!(answer.field("retry-after").is_some(), "{answer:?}");
    assert!(!proxy.is_ready().await);
    let log = proxy.log();
    assert!(log.contains("invalid_client") && !log.contains("not-the-secret"), "{log}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let requests = server.token_requests().await;
    // Half of `retry.initial` apart at least, and further each time.
    let most = 1 + start.elapsed().as_millis() / 250;
    assert!(
        (1..=most).contains(&u128::from(requests)),
        "{requests} token requests with a secret that is wrong"
    );
    assert!(api.seen().is_empty(), "nothing goes out without a token");
}

#[tokio::test]
async fn a_secret_file_that_comes_late_needs_no_restart() {
    let server = OidcProvider::start(60).await;
    let api = Nginx::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    let section = format!(
        "{}{QUICK}",
        token_from(&server.issuer(), "orders", "client_secret_basic", "")
            .replace("client_secret = ''", &format!("client_secret_file = '{}'", file.display()))
    );
    let mut proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!proxy.is_ready().await);
    assert_eq!(server.token_requests().await, 0, "there is nothing to ask with");
    assert!(proxy.log().contains(&file.display().to_string()), "the file is named: {}", proxy.log());

    fs::write(&file, "").unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.token_requests().await, 0, "an empty file is no secret");

    fs::write(&file, format!("{SECRET}\n")).unwrap();
    proxy.until_ready().await;
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn a_secret_that_is_replaced_counts_at_the_next_token_request() {
    let server = Origin::issuing(2).await;
    let api = Origin::ok().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, "first").unwrap();
    let section = token_at(&server.url()).replace("client_secret_basic", "client_secret_post").replace(
        &format!("client_secret = \"{SECRET}\""),
        &format!("client_secret_file = '{}'", file.display()),
    );
    let _proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    fs::write(&file, "second").unwrap();
    eventually("the new secret is used", || async {
        server.seen().iter().any(|request| value_of(&request.form(), "client_secret") == ["second"])
    })
    .await;
}

#[tokio::test]
async fn what_is_not_configured_is_not_sent() {
    let (target, form) = form_of("").await;
    assert_eq!(target, "/token?tenant=a%2Fb", "RFC 6749 section 3.2: the query is kept");
    assert_eq!(form, [("grant_type".to_owned(), "client_credentials".to_owned())]);
    let (_, form) = form_of("scope = \"\"\n").await;
    assert!(value_of(&form, "scope").is_empty(), "{form:?}");
}

#[tokio::test]
async fn what_is_configured_is_sent_once() {
    let (_, form) = form_of(
        "scope = \"orders:read orders:write\"\naudience = \"https://api.example.com\"\n\
         resource = [\"https://a.example/\", \"https://b.example/\"]\nparams = { tenant = \"blue & green\" }\n",
    )
    .await;
    assert_eq!(value_of(&form, "scope"), ["orders:read orders:write"]);
    assert_eq!(value_of(&form, "audience"), ["https://api.example.com"]);
    assert_eq!(value_of(&form, "resource"), ["https://a.example/", "https://b.example/"]);
    assert_eq!(value_of(&form, "tenant"), ["blue & green"]);
}

#[tokio::test]
async fn every_useless_answer_is_a_failed_renewal_and_the_next_attempt_counts() {
    const MARK: &str = "mark-of-the-body";
    let answers: Vec<Reply> = [
        r#"{"error":"temporarily_unavailable","note":"mark-of-the-body"}"#,
        r#"{"token_type":"Bearer","mark-of-the-body":1}"#,
        r#"{"access_token":[7],"token_type":"Bearer","note":"mark-of-the-body"}"#,
        r#"{"access_token":"","token_type":"Bearer"}"#,
        "",
        r#"{"access_token":"mark-of-the-body"#,
        r#"{"access_token":"mark-of-the-body","token_type":"mac"}"#,
        r#"{"access_token":"mark-of-the-body","token_type":"N_A"}"#,
        r#"{"access_token":"mark-of-the-body","token_type":"Bearer","expires_in":false}"#,
        r#"{"access_token":"mark-of-the-body","token_type":"Bearer","expires_in":{}}"#,
        r#"{"access_token":"mark-of-the-body","token_type":"Bearer","expires_in":"zzz"}"#,
        r#"{"access_token":"mark-of-the-body\r\nX-Injected: 1","token_type":"Bearer"}"#,
        r#"{"access_token":"mark-of-the-body\u0000","token_type":"Bearer"}"#,
        r#"{"access_token":"mark-of-the-body\u20ac","token_type":"Bearer"}"#,
    ]
    .into_iter()
    .map(|body| Reply::json(200, body))
    .chain([
        Reply::new(502, &[("content-type", "text/html")], "<html>mark-of-the-body</html>"),
        Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"access_token\":\"mark-of-the-body")
            .closing(),
        Reply::raw("mark-of-the-body is no HTTP\r\n\r\n").closing(),
        Reply::raw("").closing(),
    ])
    .collect();
    let count = answers.len();
    let server = Origin::start(move |_, before| {
        answers.get(before).cloned().unwrap_or_else(|| Reply::token("good", 300))
    })
    .await;
    let api = Origin::ok().await;
    let mut proxy =
        Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &(token_at(&server.url()) + QUICK)))
            .await;
    proxy.until_ready().await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(api.only().all("authorization"), ["Bearer good"]);
    assert_eq!(server.seen().len(), count + 1, "each answer was asked for once");
    let told = proxy.log() + &proxy.metrics().await + &proxy.status().await.to_string();
    assert!(!told.contains(MARK), "no body is ever shown: {told}");
}

#[tokio::test]
async fn a_lifetime_is_understood_in_every_form_that_servers_give_it() {
    let in_an_hour = seconds_since_1970() + 3600.0;
    let dated = jwt(&format!(r#"{{"exp":{in_an_hour:.0}}}"#));
    for (body, lifetime) in [
        (r#"{"access_token":"t","token_type":"Bearer","expires_in":"86400"}"#.to_owned(), 86400.0),
        (r#"{"access_token":"t","token_type":"beAREr","expires_in":1200.5}"#.to_owned(), 1200.0),
        (r#"{"access_token":"t","expires_in":600,"unknown":{"member":[]}}"#.to_owned(), 600.0),
        (r#"{"access_token":"t","token_type":"Bearer","expires_in":null}"#.to_owned(), 300.0),
        (r#"{"access_token":"t","token_type":"Bearer"}"#.to_owned(), 300.0),
        (format!(r#"{{"access_token":"{dated}","token_type":"Bearer"}}"#), 3600.0),
        (format!(r#"{{"access_token":"{dated}","token_type":"Bearer","expires_in":60}}"#), 60.0),
    ] {
        let reply = Reply::json(200, &body);
        let server = Origin::start(move |_, _| reply.clone()).await;
        let api = Origin::ok().await;
        let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
        let expiry = proxy.metric("cupbearer_token_expiry_timestamp_seconds", &["token=\"api\""]).await;
        let left = expiry - seconds_since_1970();
        assert!((left - lifetime).abs() < 15.0, "{body}: {left} s are left");
        proxy.get("/").await;
        let sent = api.only().field("authorization").unwrap();
        assert!(sent.starts_with("Bearer "), "{sent}");
    }
}

#[tokio::test]
async fn a_redirect_of_the_token_endpoint_is_not_followed() {
    let elsewhere = Origin::issuing(300).await;
    let location = elsewhere.url();
    let server = Origin::start(move |_, before| {
        let status = [301, 302, 303, 307, 308][before % 5];
        Reply::new(status, &[("location", &location)], "")
    })
    .await;
    let api = Origin::ok().await;
    let section = token_at(&server.url()) + QUICK + "wait = \"300ms\"\n";
    let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    eventually("all five kinds were tried", || async { server.seen().len() >= 5 }).await;
    proxy.get("/").await.assert_proxy_error(503);
    assert_eq!(elsewhere.connections(), 0, "no secret goes to another place");
}

#[tokio::test]
async fn one_method_of_authentication_is_used_and_no_other_is_tried() {
    let server = Origin::start(|_, _| Reply::json(401, r#"{"error":"invalid_client"}"#)).await;
    let api = Origin::ok().await;
    let section = token_at(&server.url()) + QUICK;
    let _proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    eventually("it was tried again", || async { server.seen().len() >= 3 }).await;
    for request in server.seen() {
        assert_eq!(request.all("authorization").len(), 1);
        assert!(value_of(&request.form(), "client_secret").is_empty());
        assert!(!request.target().contains(SECRET));
    }
}

#[tokio::test]
async fn tokens_that_differ_in_scope_or_server_are_never_mixed() {
    let server = Origin::start(|request, _| {
        Reply::token(&format!("for-{}", value_of(&request.form(), "scope").join(".")), 300)
    })
    .await;
    let other = Origin::start(|_, _| Reply::token("of-another-server", 300)).await;
    let api = Origin::ok().await;
    let named = |name: &str, url: &str, scope: &str| {
        token_at(url).replace("[tokens.api]", &format!("[tokens.{name}]")) + &format!("scope = \"{scope}\"\n")
    };
    let route =
        |name: &str| format!("[[routes]]\npath = \"/{name}\"\nupstream = \"api\"\ntoken = \"{name}\"\n");
    let config = upstream_at(&api.url())
        + &named("read", &server.url(), "read")
        + &named("write", &server.url(), "write")
        + &named("other", &other.url(), "read")
        + &route("read")
        + &route("write")
        + &route("other");
    let proxy = Proxy::start(Config::new(config)).await;
    for path in ["/read", "/write", "/other"] {
        assert_eq!(proxy.get(path).await.status, 200);
    }
    let sent: Vec<_> = api.seen().iter().map(|request| request.all("authorization").join(" | ")).collect();
    assert_eq!(sent, ["Bearer for-read", "Bearer for-write", "Bearer of-another-server"]);
}

#[tokio::test]
async fn a_server_that_hangs_delays_its_own_token_alone() {
    let good = Origin::issuing(300).await;
    let api = Origin::ok().await;
    // Silent after the request; an endless drip; a body without an end.
    let silent = Origin::start(|_, _| Reply::raw("").holding()).await;
    let drip = Origin::scripted(|mut wire| async move {
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
        while wire.try_send(b"{", Duration::from_secs(1)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let flood = Origin::scripted(|mut wire| async move {
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").await;
        let piece = vec![b' '; 64 * 1024];
        while wire.try_send(&piece, Duration::from_secs(5)).await.is_ok() {}
    })
    .await;
    let mut config = upstream_at(&api.url());
    let mut routes = String::new();
    for (name, server) in [("silent", &silent), ("drip", &drip), ("flood", &flood), ("good", &good)] {
        config += &token_at(&server.url()).replace("[tokens.api]", &format!("[tokens.{name}]"));
        config += "timeout = \"1s\"\nwait = \"2s\"\n";
        config += QUICK;
        routes +=
            &"[[routes]]\npath = \"/NAME\"\nupstream = \"api\"\ntoken = \"NAME\"\n".replace("NAME", name);
    }
    let start = clock::now();
    let proxy = Proxy::start_live(Config::new(config + &routes)).await;
    assert_eq!(proxy.get("/good").await.status, 200);
    assert!(start.elapsed() < Duration::from_secs(5), "the good one waited {:?}", start.elapsed());
    for name in ["silent", "drip", "flood"] {
        let start = clock::now();
        proxy.get(&format!("/{name}")).await.assert_proxy_error(503);
        assert!(start.elapsed() < Duration::from_secs(4), "{name} took {:?}", start.elapsed());
    }
    for (name, server) in [("silent", &silent), ("drip", &drip), ("flood", &flood)] {
        eventually(&format!("{name} is asked again"), || async { server.connections() >= 2 }).await;
    }
    assert!(proxy.program().peak_memory_kib() < 128 * 1024, "{} KiB", proxy.program().peak_memory_kib());
    assert_eq!(proxy.get("/good").await.status, 200);
}

#[tokio::test]
async fn tokens_that_are_dead_on_arrival_make_no_hot_loop() {
    for lifetime in [0, 1] {
        let server = Origin::issuing(lifetime).await;
        let api = Origin::ok().await;
        let _proxy =
            Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let requests = server.seen().len();
        assert!((2..=12).contains(&requests), "{requests} token requests in 3 s for tokens of {lifetime} s");
    }
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_refused() {
    let document =
        r#"{"issuer":"https://login.example.com/","token_endpoint":"https://login.example.com/token"}"#;
    let server = Origin::start(move |_, _| Reply::json(200, document)).await;
    let api = Origin::ok().await;
    let section = token_from(&server.url(), "orders", "client_secret_basic", SECRET) + "wait = \"1s\"\n";
    let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    proxy.get("/").await.assert_proxy_error(503);
    assert!(server.seen().iter().all(|request| request.method() == "GET"), "RFC 8414 section 3.3");
    assert!(proxy.log().contains("issuer"), "{}", proxy.log());
}

#[tokio::test]
async fn a_request_without_a_token_is_told_who_is_at_fault() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    fs::write(&key, Key::new("EdDSA").await.pem).unwrap();
    let server = Origin::start(|request, _| match request.target().as_str() {
        "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server" => {
            let issuer = format!("http://{}", request.field("host").unwrap());
            Reply::json(200, &json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") }).to_string())
        }
        "/denies" => Reply::json(401, r#"{"error":"invalid_client"}"#),
        "/fails" => Reply::new(503, &[], ""),
        _ => Reply::new(404, &[], ""),
    })
    .await;
    let (at, nobody) = (server.url(), free_address());
    let secret = "client_secret = \"sentinel-of-the-secret\"";
    let cases = [
        (
            format!(
                "token_endpoint = \"{at}/token\"\nclient_auth = \"private_key_jwt\"\nclient_key_file = '{}'",
                key.display()
            ),
            "the client's key cannot be used for signing, so no token request was sent",
        ),
        (
            format!("issuer = \"{at}\"\n{secret}"),
            "neither the configuration nor the authorization server's metadata name the token_endpoint, so no token request was sent",
        ),
        (
            format!("token_endpoint = \"{at}/denies\"\n{secret}"),
            "the authorization server does not accept the client or its secret, key or certificate (invalid_client)",
        ),
        (
            format!("token_endpoint = \"{at}/fails\"\n{secret}"),
            "the authorization server responds with the status 503",
        ),
        (
            format!("token_endpoint = \"http://{nobody}/token\"\n{secret}"),
            "the authorization server cannot be reached: it refuses the connection",
        ),
        (
            format!(
                "token_endpoint = \"{at}/token\"\nclient_secret_file = '{}'",
                dir.path().join("none").display()
            ),
            "a secret or an assertion that the configuration names cannot be read, so no token request was sent",
        ),
    ];
    let api = Origin::ok().await;
    let sections: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(number, (token, _))| {
            format!(
                "[tokens.t{number}]\nclient_id = \"orders\"\n{QUICK}{token}\n\
                 [[routes]]\npath = \"/{number}\"\nupstream = \"api\"\ntoken = \"t{number}\"\n"
            )
        })
        .collect();
    let config = upstream_at(&api.url()) + &sections.concat();
    let proxy = Proxy::start_live(Config::new(config)).await;
    fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    for (number, (_, sentence)) in cases.iter().enumerate() {
        eventually(sentence, || async {
            let answer = proxy.get(&format!("/{number}")).await;
            answer.assert_proxy_error(503);
            assert!(!answer.text().contains("sentinel") && !answer.text().contains(&at), "{}", answer.text());
            answer.json()["detail"].as_str().unwrap().ends_with(sentence)
        })
        .await;
    }
    assert!(api.seen().is_empty());
}
