//! What an HTTP proxy on the way to an authorization server refuses in the clear, and who must never see its password.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use cupbearer_testing::{
    Config, Origin, Proxy, Reply, Tinyproxy, cupbearer, eventually, free_address, token_at, upstream_at,
};

/// What a test has the proxy do in place of passing requests on.
type Refusal = Arc<Mutex<Option<Reply>>>;

fn set(refusal: &Refusal, reply: Option<Reply>) {
    *refusal.lock().unwrap() = reply;
}

/// An HTTP proxy, and behind it an authorization server whose tokens last two seconds.
async fn way(refusal: &Refusal) -> Origin {
    let refusal = Arc::clone(refusal);
    Origin::start(move |_, before| {
        let members = format!(
            r#"{{"access_token":"t-{before}","expires_in":2,"refresh_token":"r-{before}","token_type":"Bearer"}}"#
        );
        refusal.lock().unwrap().clone().unwrap_or_else(|| Reply::json(200, &members))
    })
    .await
}

/// A token from a server that only the proxy reaches.
fn through(way: &Origin, lines: &str) -> String {
    format!(
        "[tokens.api]\ntoken_endpoint = \"http://127.0.0.1:1/token\"\nproxy = \"{}\"\nclient_id = \"laptop\"\n\
         client_auth = \"none\"\nretry = {{ initial = \"100ms\", max = \"200ms\" }}\n{lines}\n",
        way.url()
    )
}

fn by_refresh(dir: &Path) -> String {
    let seed = dir.join("refresh_token");
    fs::write(&seed, "seed").unwrap();
    format!("grant = \"refresh_token\"\nrefresh_token_file = '{}'", seed.display())
}

async fn token(proxy: &Proxy) -> Value {
    proxy.status().await["tokens"][0].clone()
}

#[tokio::test]
async fn what_a_proxy_refuses_in_the_clear_ends_no_login_and_the_server_still_can() {
    let page = "<html><head><title>ERROR</title></head><body>Access Denied.</body></html>";
    let squid = |status: u16, error: &str| {
        let fields = [
            ("server", "squid/5.7"),
            ("content-type", "text/html;charset=utf-8"),
            ("x-squid-error", error),
            ("x-cache", "MISS from proxy"),
            ("via", "1.1 proxy (squid/5.7)"),
        ];
        Reply::new(status, &fields, page)
    };
    let expired = r#"{"message":"Your session has expired, log in at the gateway"}"#;
    let refusal = Refusal::default();
    let way = way(&refusal).await;
    let api = Origin::ok().await;
    let dir = tempfile::tempdir().unwrap();
    let section = through(&way, &by_refresh(dir.path()));
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    assert!(way.seen()[0].start().starts_with("POST http://127.0.0.1:1/token "), "{:?}", way.seen()[0]);
    let unknown = "the HTTP proxy on the way may have refused the request itself";
    for (reply, cause, words) in [
        (squid(403, "ERR_ACCESS_DENIED 0"), "proxy", "does not allow this destination (status 403)"),
        (squid(503, "ERR_CONNECT_FAIL 111"), "proxy", "has no response of the destination (status 503)"),
        (
            Reply::new(407, &[("proxy-authenticate", "Basic realm=\"proxy\"")], page),
            "proxy",
            "demands other credentials (status 407)",
        ),
        (
            Reply::new(502, &[("proxy-status", "proxy; error=connection_refused")], ""),
            "proxy",
            "has no response of the destination (status 502)",
        ),
        // Nothing shows which of the two it was.
        (Reply::new(400, &[], ""), "status", unknown),
        (Reply::new(401, &[], ""), "status", unknown),
        (Reply::json(403, expired), "status", unknown),
    ] {
        set(&refusal, Some(reply));
        eventually(words, || async {
            let error = token(&proxy).await["last_error"].clone();
            error["cause"] == cause && error["message"].as_str().is_some_and(|text| text.contains(words))
        })
        .await;
        let shown = token(&proxy).await;
        assert!(["valid", "degraded", "expired"].contains(&shown["status"].as_str().unwrap()), "{shown}");
        set(&refusal, None);
        eventually("the proxy passes requests on again", || async {
            proxy.get("/").await.status == 200 && token(&proxy).await["last_error"] == Value::Null
        })
        .await;
    }
    set(&refusal, Some(Reply::json(400, r#"{"error":"invalid_grant"}"#)));
    eventually("the server ends the login", || async { token(&proxy).await["status"] == "login_required" })
        .await;
}

#[tokio::test]
async fn a_password_is_not_withheld_for_what_a_proxy_may_have_refused() {
    let refusal = Refusal::default();
    set(&refusal, Some(Reply::new(401, &[], "")));
    let way = way(&refusal).await;
    let api = Origin::ok().await;
    let section = through(&way, "grant = \"password\"\nusername = \"alice\"\npassword = \"wonder\"");
    let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    eventually("it is sent more than twice", || async { way.seen().len() > 3 }).await;
    set(&refusal, None);
    eventually("the password is accepted", || async { proxy.get("/").await.status == 200 }).await;
}

#[tokio::test]
async fn tinyproxy_is_named_for_what_it_refuses_in_the_clear_and_the_environments_proxies_stay_out() {
    let (server, api, other) = (Origin::issuing(300).await, Origin::ok().await, Origin::ok().await);
    let way = Tinyproxy::start(&[1]).await;
    let nowhere = free_address();
    let run = |token_endpoint: String, proxy: String| {
        let section = token_at(&token_endpoint) + &format!("proxy = \"{proxy}\"\n");
        let mut config = Config::one_route(&upstream_at(&api.url()), &section);
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            config = config.environment(name, &other.url());
        }
        async move { config.checked_online().await.1 }
    };
    let works = "the authorization server gave a token";
    let good = way.url("alice:wonderland");
    let said = run(format!("{}/token", server.url()), good.clone()).await;
    assert!(said.contains(works), "{said}");
    assert!(way.log().contains("POST http://127.0.0.1"), "{}", way.log());
    let said = run(format!("{}/token", server.url()), "none".to_owned()).await;
    assert!(said.contains(works), "{said}");
    let seen = server.seen().len();
    let said = run(format!("{}/token", server.url()), way.url("alice:sentinel")).await;
    assert!(said.contains("the HTTP proxy on the way demands other credentials (status 40"), "{said}");
    assert!(said.contains("http://user:password@host:port") && !said.contains("sentinel"), "{said}");
    let said = run(format!("http://{nowhere}/token"), good).await;
    assert!(
        said.contains("the HTTP proxy on the way has no response of the destination (status 50"),
        "{said}"
    );
    assert_eq!((server.seen().len(), other.seen().len()), (seen, 0));
}

#[tokio::test]
async fn a_proxy_of_the_environment_that_cannot_be_used_is_named_at_the_start_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let api = Origin::ok().await;
    // Only the token goes that way, or the upstream too.
    for upstream in [api.url(), "https://api.invalid".to_owned()] {
        let config = Config::one_route(&upstream_at(&upstream), &token_at("https://as.invalid/token"));
        fs::write(&file, config.render([free_address(), free_address(), free_address()])).unwrap();
        for (value, words, help) in [
            ("socks5h://sentinel@p:1", "ALL_PROXY names a SOCKS proxy", "an HTTP proxy at http://"),
            (
                "https://sentinel@p:1",
                "ALL_PROXY names begins with https://",
                "the port that it has for http://",
            ),
            ("http://u:12#sentinel@p:1", "the value of ALL_PROXY is not", "`#` (%23)"),
        ] {
            let mut command = cupbearer();
            command.env("ALL_PROXY", value).args(["run", "--config"]).arg(&file);
            let output = command.output().await.unwrap();
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(!output.status.success() && text.contains(words) && text.contains(help), "{text}");
            assert!(!text.contains("sentinel"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_proxys_password_is_nowhere_to_be_read() {
    let way = Tinyproxy::start(&[1]).await;
    let named = way.url("sentinel-user:sentinel-word");
    let config = |proxy: &str| {
        let upstream = upstream_at("https://api.invalid") + proxy;
        let token = token_at("https://as.invalid/token") + proxy;
        Config::one_route(&upstream, &token)
            .and("[[routes]]\npath = \"/open\"\nupstream = \"api\"\ntoken = \"none\"")
            .and("[log]\nlevel = \"trace\"\naccess = true")
    };
    let mut seen = Vec::new();
    for config in [config(&format!("proxy = \"{named}\"\n")), config("").environment("HTTPS_PROXY", &named)] {
        seen.push(config.checked_online().await.1);
        assert!(seen.last().unwrap().contains("demands other credentials"), "{seen:?}");
        let proxy = Proxy::start_live(config).await;
        eventually("it was tried", || async { token(&proxy).await["last_error"]["cause"] == "proxy" }).await;
        for path in ["/", "/open"] {
            let answer = proxy.get(path).await;
            assert!(answer.status >= 500, "{answer:?}");
            seen.push(format!("{answer:?} {}", answer.text()));
        }
        for words in [&["status"][..], &["status", "--json"], &["check"]] {
            let output = proxy.command(words).await;
            seen.push(String::from_utf8([output.stdout, output.stderr].concat()).unwrap());
        }
        seen.extend([proxy.metrics().await, proxy.readiness().await, proxy.status().await.to_string()]);
        seen.push(proxy.terminate().await.1);
    }
    // Nor where it cannot be used.
    for value in ["http://sentinel-user:12#sentinel-word@p:1", "socks5://sentinel-user:sentinel-word@p:1"] {
        let text = config("").environment("HTTPS_PROXY", value).checked_online().await.1;
        assert!(text.contains("HTTPS_PROXY"), "{text}");
        seen.push(text);
        seen.push(config(&format!("proxy = \"{value}\"\n")).checked_online().await.1);
    }
    // sentinel-user:sentinel-word, as it goes over the wire; and what a URL's parser makes of the other.
    for text in seen {
        for secret in ["sentinel", "c2VudGluZWwt", "12#"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
