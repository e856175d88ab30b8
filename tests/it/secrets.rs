//! Sentinel secrets, sent through everything at the most talkative log level: they appear nowhere.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::support::{
    Config, Nginx, OidcProvider, Origin, Proxy, Reply, cupbearer, curl, eventually, token_at, upstream_at,
};

/// What must stay hidden, each from another place.
const CLIENT_SECRET: &str = "sentinel+client/secret=7f3a";
const TOKEN: &str = "sentinel-access-token-91bc";
const APPLICATION: &str = "sentinel-own-credentials-55aa";
const COOKIE: &str = "sentinel-cookie-0d4e";
const QUERY: &str = "sentinel-query-77c1";
const BODY: &str = "sentinel-request-body-3e90";
const ANSWER: &str = "sentinel-api-answer-18fd";
const ERROR_BODY: &str = "sentinel-error-description-c0de";

/// Each sentinel as it stands, and in the forms that it takes on its way.
fn forms() -> Vec<String> {
    let plain = [CLIENT_SECRET, TOKEN, APPLICATION, COOKIE, QUERY, BODY, ANSWER, ERROR_BODY];
    let mut forms: Vec<String> = plain.iter().map(ToString::to_string).collect();
    for sentinel in plain {
        forms.push(url::form_urlencoded::byte_serialize(sentinel.as_bytes()).collect());
        forms.push(STANDARD.encode(sentinel).trim_end_matches('=').to_owned());
        forms.push(URL_SAFE_NO_PAD.encode(sentinel));
    }
    let encoded: String = url::form_urlencoded::byte_serialize(CLIENT_SECRET.as_bytes()).collect();
    forms.push(STANDARD.encode(format!("orders:{encoded}")).trim_end_matches('=').to_owned());
    forms
}

#[track_caller]
fn assert_hidden(place: &str, text: &str) {
    for form in forms() {
        if let Some(at) = text.find(&form) {
            let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
            let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
            panic!("{form} stands in {place}: {}", &text[line..end]);
        }
    }
    assert!(!text.contains("panicked"), "{place}: {text}");
}

#[tokio::test]
async fn no_secret_is_ever_shown() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, CLIENT_SECRET).unwrap();
    // A good token, then every kind of failure with a sentinel in it.
    let server = Origin::start(|_, before| {
        let error = format!(r#"{{"error":"invalid_scope","error_description":"{ERROR_BODY}"}}"#);
        match before % 7 {
            0 => Reply::token(TOKEN, 2),
            1 => Reply::json(400, &error),
            2 => Reply::json(500, ERROR_BODY),
            3 => Reply::json(200, &format!(r#"{{"access_token":"{TOKEN}","token_type":"mac"}}"#)),
            4 => Reply::json(200, &format!(r#"{{"access_token":"{TOKEN}"#)),
            5 => Reply::new(307, &[("location", &format!("http://127.0.0.1:1/{QUERY}?{QUERY}"))], ERROR_BODY),
            _ => Reply::raw(format!("{ERROR_BODY} is no HTTP\r\n\r\n")).closing(),
        }
    })
    .await;
    let api = Origin::start(|_, before| match before % 4 {
        0 | 1 => Reply::new(200, &[("set-cookie", &format!("a={COOKIE}"))], ANSWER),
        2 => Reply::new(401, &[("www-authenticate", &format!("Bearer realm=\"{ANSWER}\""))], ANSWER),
        _ => Reply::raw(format!("{ANSWER} is no HTTP\r\n\r\n")).closing(),
    })
    .await;
    let file = format!("client_secret_file = '{}'", secret.display());
    let section = token_at(&server.url())
        .replace(&format!("client_secret = \"{}\"", super::support::SECRET), &file)
        + "retry = { initial = \"20ms\", max = \"50ms\" }\nwait = \"200ms\"\n";
    let config =
        Config::one_route(&upstream_at(&api.url()), &section).and("[log]\nlevel = \"trace\"\naccess = true");
    let proxy = Proxy::start_live(config).await;

    let url = proxy.url(&format!("/orders?key={QUERY}"));
    let (own, cookie) = (format!("Authorization: Bearer {APPLICATION}"), format!("Cookie: a={COOKIE}"));
    let mut told = String::new();
    for round in 0..24 {
        let protocol = if round % 2 == 0 { "--http1.1" } else { "--http2-prior-knowledge" };
        let answer = curl(&[protocol, "--header", &own, "--header", &cookie, "--data", BODY, &url]).await;
        if answer.proxy_error().is_some() {
            told += &(format!("{:?}", answer.fields) + &answer.text());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(api.authorizations().contains_key(&format!("Bearer {TOKEN}")), "the token was really used");
    eventually("the server has lied in each way", || async { server.seen().len() >= 8 }).await;
    // What the proxy says of a malformed request.
    let mut wire = proxy.wire().await;
    wire.send(format!(
        "GET /?{QUERY} HTTP/1.1\r\nAuthorization: {APPLICATION}\r\nHost: a\r\nHost: b\r\n\r\n"
    ))
    .await;
    told += &String::from_utf8_lossy(&wire.rest().await);

    assert_hidden("an answer of the proxy's own", &told);
    assert_hidden("the metrics", &proxy.metrics().await);
    assert_hidden("/status", &proxy.status().await.to_string());
    assert_hidden("/readyz", &curl(&[&proxy.health_url("/readyz")]).await.text());
    for words in [&["status"][..], &["status", "--json"], &["renew"], &["check"], &["check", "--online"]] {
        let output = proxy.command(words).await;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_hidden(&words.join(" "), &said);
    }
    let (_, log) = proxy.terminate().await;
    assert!(log.lines().count() > 100, "trace is talkative, or nothing is proved: {log}");
    assert_hidden("the log", &log);
}

#[tokio::test]
async fn no_secret_is_shown_over_tls_and_http_2_either() {
    let server = OidcProvider::start_tls(60).await;
    let api = Nginx::start().await;
    let section = format!(
        "[tokens.api]\nissuer = \"{}\"\nclient_id = \"orders\"\nclient_secret = \"{}\"\nca_file = '{}'\n",
        server.issuer(),
        super::support::SECRET,
        server.certificates().ca.display()
    );
    let upstream = upstream_at(&api.tls_url()) + &format!("ca_file = '{}'\n", api.ca());
    let proxy = Proxy::start(Config::one_route(&upstream, &section).and("[log]\nlevel = \"trace\"")).await;
    let answer = proxy.get("/").await;
    let token = answer.field("saw-authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    assert_eq!(answer.field("saw-protocol"), Some("HTTP/2.0"));
    let (_, log) = proxy.terminate().await;
    let signature = token.rsplit('.').next().unwrap();
    for secret in [token.as_str(), signature, super::support::SECRET] {
        assert!(!log.contains(secret), "{secret} stands in the log");
    }
}

#[tokio::test]
async fn a_secret_in_the_wrong_key_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    for text in [
        format!("[tokens.api]\nclient_secret = [\"{CLIENT_SECRET}\"]\n"),
        format!("[tokens.api]\nclient_secert = \"{CLIENT_SECRET}\"\n"),
        format!("[tokens.api]\nclient_secret = \"{CLIENT_SECRET}\n"),
        format!("[tokens.api]\nclient_secret_file = \"{CLIENT_SECRET}\"\nclient_secret = {CLIENT_SECRET}\n"),
        format!("[tokens.api]\nclient_auth = \"{CLIENT_SECRET}\"\n"),
    ] {
        fs::write(&file, &text).unwrap();
        for command in ["check", "run"] {
            let output = cupbearer().args([command, "--config"]).arg(&file).output().await.unwrap();
            assert!(!output.status.success());
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            // The path of a secret file is no secret; its place in the file is enough for the others.
            assert!(
                !said.replace("client_secret_file", "").contains(CLIENT_SECRET) || text.contains("_file"),
                "{said}"
            );
        }
    }
}
