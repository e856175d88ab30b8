//! Sentinel secrets, sent through everything at the most talkative log level: they appear nowhere.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use cupbearer_testing::{
    Config, Key, Nginx, OidcProvider, Origin, Proxy, Reply, cupbearer, curl, eventually, token_at,
    upstream_at,
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
        // A description is shown to people, but not one that repeats what was sent; nor anything else of the body.
        let error = format!(
            r#"{{"error":"invalid_scope","error_description":"not for {CLIENT_SECRET}","detail":"{ERROR_BODY}"}}"#
        );
        match before % 7 {
            0 => Reply::token(TOKEN, 2),
            1 => Reply::json(400, &error),
            2 => Reply::json(500, ERROR_BODY),
            3 => Reply::json(200, &format!(r#"{{"access_token":"{TOKEN}","token_type":"mac"}}"#)),
            4 => Reply::json(200, &format!(r#"{{"access_token":"{TOKEN}"#)),
            // Where a redirect leads is shown: it may be the final address. Its user, query and
            // fragment are not.
            5 => {
                let elsewhere = format!("http://{QUERY}:{QUERY}@127.0.0.1:1/token?{QUERY}#{QUERY}");
                Reply::new(307, &[("location", &elsewhere)], ERROR_BODY)
            }
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
        .replace(&format!("client_secret = \"{}\"", cupbearer_testing::SECRET), &file)
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
        cupbearer_testing::SECRET,
        server.certificates().ca.display()
    );
    let upstream = upstream_at(&api.tls_url()) + &format!("ca_file = '{}'\n", api.ca());
    let proxy = Proxy::start(Config::one_route(&upstream, &section).and("[log]\nlevel = \"trace\"")).await;
    let answer = proxy.get("/").await;
    let token = answer.field("saw-authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    assert_eq!(answer.field("saw-protocol"), Some("HTTP/2.0"));
    let (_, log) = proxy.terminate().await;
    let signature = token.rsplit('.').next().unwrap();
    for secret in [token.as_str(), signature, cupbearer_testing::SECRET] {
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

/// What each grant and each client authentication spends, and what it earns.
const SPENT: [&str; 8] = [
    "sentinel-password-61d0",
    "sentinel-first-refresh-token-b7a2",
    "sentinel-next-refresh-token-09fe",
    "sentinel-subject-token-4c1c",
    "sentinel-callers-token-e2d9",
    "sentinel-printed-token-8f60",
    "sentinel-token-of-a-file-d3b5",
    "sentinel-issued-token-2a7e",
];

/// An authorization server that shows back what it got, as some do, in every other answer.
async fn echoing_server() -> Origin {
    Origin::start(|request, before| {
        let form = request.form();
        let value = |name: &str| form.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value);
        let spent = ["password", "refresh_token", "assertion", "subject_token", "client_assertion"].map(value).concat();
        if before % 3 == 1 {
            return Reply::json(400, &format!(r#"{{"error":"invalid_scope","error_description":"{spent}","{spent}":1}}"#));
        }
        let scheme = if request.all("dpop").is_empty() { "Bearer" } else { "DPoP" };
        let next = if value("grant_type") == "refresh_token" {
            format!(r#","refresh_token":"{}""#, SPENT[2])
        } else {
            String::new()
        };
        Reply::json(
            200,
            &format!(
                r#"{{"access_token":"{}","token_type":"{scheme}","expires_in":2,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"{next}}}"#,
                SPENT[7]
            ),
        )
    })
    .await
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one configuration with everything in it, and one search")]
async fn nothing_that_a_grant_or_a_client_spends_is_ever_shown() {
    let (server, api, dir) = (echoing_server().await, Origin::ok().await, tempfile::tempdir().unwrap());
    let file = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let [client_key, bearer_key, dpop_key] =
        [Key::new("RS256").await, Key::new("ES256").await, Key::new("ES256").await];
    let script = file("helper", &format!("#!/bin/sh\necho {}\n", SPENT[5]));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let at_server = |lines: &str| {
        format!(
            "token_endpoint = \"{}/token\"\nclient_id = \"orders\"\nclient_auth = \"none\"\n{lines}",
            server.url()
        )
    };
    let tokens = [
        (
            "password",
            at_server(&format!(
                "grant = \"password\"\nusername = \"alice\"\npassword_file = '{}'",
                file("password", SPENT[0])
            )),
        ),
        (
            "refresh",
            at_server(&format!(
                "grant = \"refresh_token\"\nrefresh_token_file = '{}'",
                file("refresh", SPENT[1])
            )),
        ),
        (
            "exchange",
            at_server(&format!(
                "grant = \"token_exchange\"\nsubject_token_file = '{}'",
                file("subject", SPENT[3])
            )),
        ),
        ("caller", at_server("grant = \"token_exchange\"\nsubject_token = \"incoming\"\nrequired = false")),
        (
            "bearer",
            at_server(&format!(
                "grant = \"jwt_bearer\"\nkey_file = '{}'\naudience_claim = \"https://as.example.test\"",
                file("bearer.pem", &bearer_key.pem)
            )),
        ),
        (
            "assertion",
            at_server(&format!(
                "client_key_file = '{}'\nclient_assertion_audience = \"endpoint\"",
                file("client.pem", &client_key.pem)
            ))
            .replace("\"none\"", "\"private_key_jwt\""),
        ),
        (
            "dpop",
            at_server(&format!(
                "client_secret_file = '{}'\ndpop = true\ndpop_key_file = '{}'",
                file("secret", CLIENT_SECRET),
                file("dpop.pem", &dpop_key.pem)
            ))
            .replace("\"none\"", "\"client_secret_post\""),
        ),
        ("command", format!("grant = \"command\"\ncommand = ['{script}']")),
        ("file", format!("grant = \"file\"\ntoken_file = '{}'", file("token", SPENT[6]))),
    ];
    let mut text = upstream_at(&api.url());
    for (name, lines) in &tokens {
        write!(
            text,
            "[tokens.{name}]\n{lines}\nwait = \"1s\"\nretry = {{ initial = \"50ms\", max = \"200ms\" }}\n"
        )
        .unwrap();
        write!(text, "[[routes]]\npath = \"/{name}\"\nupstream = \"api\"\ntoken = \"{name}\"\n").unwrap();
    }
    write!(
        text,
        "[store]\nkind = \"file\"\npath = '{}/store'\n[log]\nlevel = \"trace\"\naccess = true\n",
        dir.path().display()
    )
    .unwrap();
    let proxy = Proxy::start_live(Config::new(text)).await;
    let own = format!("Authorization: Bearer {}", SPENT[4]);
    let mut told = String::new();
    for _ in 0..6 {
        for (name, _) in &tokens {
            let answer = curl(&["--header", &own, &proxy.url(&format!("/{name}"))]).await;
            if answer.proxy_error().is_some() {
                write!(told, "{:?}{}", answer.fields, answer.text()).unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let used = api.authorizations();
    for credentials in [
        format!("Bearer {}", SPENT[5]),
        format!("Bearer {}", SPENT[6]),
        format!("Bearer {}", SPENT[7]),
        format!("DPoP {}", SPENT[7]),
    ] {
        assert!(
            used.contains_key(&credentials),
            "each way was really gone: {:?}\n{}",
            used.keys(),
            proxy.log()
        );
    }
    told += &(proxy.metrics().await + &proxy.status().await.to_string() + &proxy.readiness().await);
    for words in [&["status", "--json"][..], &["renew"], &["check"]] {
        let output = proxy.command(words).await;
        told += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
    }
    let (_, log) = proxy.terminate().await;
    assert!(log.lines().count() > 100, "trace is talkative, or nothing is proved: {log}");
    told += &log;
    assert!(!told.contains("panicked"), "{told}");

    let mut hidden: Vec<String> = SPENT.iter().map(ToString::to_string).collect();
    for key in [&client_key, &bearer_key, &dpop_key] {
        hidden.extend(key.pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
    }
    let assertions = server.seen().into_iter().flat_map(|request| request.form());
    let assertions: Vec<String> = assertions
        .filter(|(name, _)| name == "assertion" || name == "client_assertion")
        .map(|(_, value)| value.rsplit('.').next().unwrap().to_owned())
        .collect();
    assert!(assertions.len() >= 4, "assertions were sent");
    hidden.extend(assertions);
    for secret in &hidden {
        for form in [
            secret.clone(),
            STANDARD.encode(secret).trim_end_matches('=').to_owned(),
            URL_SAFE_NO_PAD.encode(secret),
        ] {
            if let Some(at) = told.find(&form) {
                let line = told[..at].rfind('\n').map_or(0, |at| at + 1);
                panic!("{form} is shown: {}", &told[line..(at + form.len())]);
            }
        }
    }
}
