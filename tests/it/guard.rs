//! Localhost is no boundary: a web page in a browser on the same machine cannot use the token.

use super::support::{Config, Origin, Proxy, Stage, curl, token_at, upstream_at};

#[tokio::test]
async fn a_host_that_is_not_ours_is_refused_before_a_token_is_attached() {
    let stage = Stage::plain().await;
    let port = stage.proxy.listen().port();
    let hosts = [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("evil-localhost:{port}"),
        "10.0.0.1".to_owned(),
    ];
    for host in &hosts {
        let answer = curl(&["--header", &format!("Host: {host}"), &stage.proxy.url("/")]).await;
        answer.assert_proxy_error(421);
    }
    let rebound = curl(&[
        "--header",
        "Host: evil.example",
        "--header",
        "Origin: http://evil.example",
        &stage.proxy.url("/"),
    ])
    .await;
    assert!([421, 403].contains(&rebound.status) && rebound.proxy_error().is_some(), "{rebound:?}");
    let absolute =
        stage.proxy.exchange("GET http://evil.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n").await.unwrap();
    assert_eq!(absolute.status(), 421, "the target's host wins (RFC 9112 section 3.2.2)");
    assert!(stage.api.seen().is_empty());
    assert!(stage.proxy.metric("cupbearer_guard_rejections_total", &[]).await >= hosts.len() as f64);
}

#[tokio::test]
async fn our_own_names_are_let_in() {
    let stage = Stage::plain().await;
    let port = stage.proxy.listen().port();
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("LOCALHOST:{port}"),
        format!("[::1]:{port}"),
    ] {
        let answer = curl(&["--header", &format!("Host: {host}"), &stage.proxy.url("/")]).await;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
    }
    let absolute =
        stage.proxy.exchange("GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n").await.unwrap();
    assert_eq!(absolute.status(), 200);
    assert_eq!(stage.api.seen().last().unwrap().target(), "/x");
}

#[tokio::test]
async fn requests_that_a_web_page_makes_are_refused() {
    let stage = Stage::plain().await;
    let url = stage.proxy.url("/");
    let post = ["--data", "x=1", "--header", "Content-Type: text/plain"];
    let requests: [&[&str]; 9] = [
        &["--header", "Origin: http://localhost.attacker.com"],
        &["--header", "Origin: https://evil.example"],
        &["--header", "Origin: null"],
        &["--header", "Sec-Fetch-Site: cross-site"],
        &["--header", "Sec-Fetch-Site: cross-site", "--header", "Sec-Fetch-Mode: no-cors"],
        &[&post[..], &["--header", "Origin: https://evil.example"]].concat(),
        &[&post[..], &["--header", "Sec-Fetch-Site: cross-site"]].concat(),
        &[
            "--request",
            "OPTIONS",
            "--header",
            "Origin: https://evil.example",
            "--header",
            "Access-Control-Request-Method: DELETE",
        ],
        &[
            "--header",
            "Origin: https://evil.example",
            "--header",
            "Connection: Upgrade",
            "--header",
            "Upgrade: websocket",
            "--header",
            "Sec-WebSocket-Version: 13",
            "--header",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ],
    ];
    for request in requests {
        let answer = curl(&[request, &[&url]].concat()).await;
        answer.assert_proxy_error(403);
        let allowed = answer.fields.iter().any(|(name, _)| name.starts_with("access-control-allow"));
        assert!(!allowed, "no page may read it: {answer:?}");
    }
    assert!(stage.api.seen().is_empty());
    let answer = curl(&["--header", "Sec-Fetch-Site: none", &url]).await;
    assert_eq!(answer.status, 200, "typed into the address bar: {answer:?}");
}

#[tokio::test]
async fn names_and_origins_can_be_let_in() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let guard =
        "[guard]\nallowed_hosts = [\"orders.local\"]\nallowed_origins = [\"https://app.example.com\"]\n";
    let section = upstream_at(&api.url()) + guard;
    let proxy = Proxy::start(Config::one_route(&section, &token_at(&server.url()))).await;
    let url = proxy.url("/");
    assert_eq!(curl(&["--header", "Host: Orders.Local:1234", &url]).await.status, 200);
    let origin = "Origin: https://app.example.com";
    let answer = curl(&["--header", origin, "--header", "Sec-Fetch-Site: cross-site", &url]).await;
    assert_eq!(
        (answer.status, answer.field("access-control-allow-origin")),
        (200, Some("https://app.example.com"))
    );
    assert!(answer.field("vary").is_some_and(|vary| vary.to_lowercase().contains("origin")), "{answer:?}");

    let before = api.seen().len();
    let preflight = [
        "--request",
        "OPTIONS",
        "--header",
        origin,
        "--header",
        "Access-Control-Request-Method: DELETE",
        "--header",
        "Access-Control-Request-Headers: x-a",
        &url,
    ];
    let answer = curl(&preflight).await;
    assert!([200, 204].contains(&answer.status), "{answer:?}");
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://app.example.com"));
    assert!(
        answer.field("access-control-allow-methods").is_some_and(|methods| methods.contains("DELETE")),
        "{answer:?}"
    );
    assert_eq!(api.seen().len(), before, "the proxy answers a preflight itself");
    assert_eq!(curl(&["--header", "Origin: https://app.example.com.evil.example", &url]).await.status, 403);
}

#[tokio::test]
async fn the_control_surface_is_guarded_too() {
    let stage = Stage::plain().await;
    let renew = format!("http://{}/tokens/api/renew", stage.proxy.control());
    for header in ["Host: evil.example", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"] {
        let answer =
            curl(&["--request", "POST", "--header", "Cupbearer-Control: 1", "--header", header, &renew])
                .await;
        assert!((400..500).contains(&answer.status), "{header}: {answer:?}");
    }
    assert_eq!(stage.server.seen().len(), 1, "no page can make it renew");
}
