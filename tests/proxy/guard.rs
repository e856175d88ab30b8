//! Localhost is no boundary: a web page in a browser on the same machine cannot use the token.

use cupbearer_testing::{Config, Origin, Proxy, Reply, Stage, curl, token_at, upstream_at};

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
    let none = ["--header", "Sec-Fetch-Site: none", "--header", "Sec-Fetch-Mode: navigate"];
    curl(&[&none[..], &[&url]].concat()).await.assert_proxy_error(403);
    let answer = curl(&[&none[..], &["--header", "Sec-Fetch-User: ?1", &url]].concat()).await;
    assert_eq!(answer.status, 200, "typed into the address bar: {answer:?}");
}

#[tokio::test]
async fn what_a_browser_sends_ahead_of_time_is_refused_in_every_form() {
    let stage = Stage::plain().await;
    let url = stage.proxy.url("/");
    let typed =
        ["-H", "Sec-Fetch-Site: none", "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-User: ?1", "-H"];
    let forms = [
        "Sec-Purpose: prefetch",
        "Sec-Purpose: prefetch;prerender",
        "Purpose: prefetch",
        "X-Purpose: preview",
        "X-Moz: prefetch",
    ];
    for form in forms {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let answer = curl(&[&typed[..], &[form, version, &url]].concat()).await;
            answer.assert_proxy_error(403);
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("ahead of time"), "{detail}");
        }
        let control = format!("http://{}/status", stage.proxy.control());
        let answer = curl(&[&typed[..], &[form, &control]].concat()).await;
        assert_eq!(answer.status, 403, "{form} at the control surface: {answer:?}");
    }
    let speculative = ["reason=\"speculative\""];
    let counted = stage.proxy.metric("cupbearer_guard_rejections_total", &speculative).await;
    assert!((counted - 15.0).abs() < 0.5, "{counted}");
    assert!(stage.api.seen().is_empty());
    let own = curl(&["-H", "Sec-Fetch-Site: same-origin", "-H", forms[0], &url]).await;
    assert_eq!(own.status, 200, "a page of the proxy's own origin may: {own:?}");
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

/// A proxy that one web origin may use, with a shared secret in a file of two lines.
async fn with_secret() -> (Origin, Origin, Proxy) {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "the-new-secret-of-all\nthe-old-secret-of-all\n").unwrap();
    let guard = "[guard]\nallowed_origins = [\"https://app.example.com\"]\nshared_secret_file = \"secret\"\n";
    let section = upstream_at(&api.url()) + guard;
    let mut proxy = Proxy::start_live_in(dir, Config::one_route(&section, &token_at(&server.url()))).await;
    proxy.until_ready().await;
    (api, server, proxy)
}

#[tokio::test]
async fn with_a_shared_secret_only_who_knows_it_gets_a_token() {
    let (api, _server, proxy) = with_secret().await;
    let url = proxy.url("/");
    for wrong in [
        &[][..],
        &["X-Cupbearer-Secret;"],
        &["X-Cupbearer-Secret: the-new-secret-of-al"],
        &["X-Cupbearer-Secret: The-New-Secret-Of-All"],
        &["X-Cupbearer-Secret: the-new-secret-of-all", "X-Cupbearer-Secret: the-new-secret-of-all"],
        &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"],
    ] {
        let mut arguments: Vec<&str> = wrong.iter().flat_map(|field| ["--header", field]).collect();
        arguments.push(&url);
        let answer = curl(&arguments).await;
        answer.assert_proxy_error(403);
        assert_eq!(answer.proxy_error(), Some("secret_refused"), "{wrong:?}");
    }
    assert!(api.seen().is_empty());
    assert!(proxy.metric("cupbearer_guard_rejections_total", &["reason=\"secret\""]).await >= 6.0);
    for secret in ["X-Cupbearer-Secret: the-new-secret-of-all", "x-cupbearer-secret: the-old-secret-of-all"] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            assert_eq!(curl(&[version, "--header", secret, &url]).await.status, 200, "{secret}");
        }
    }
    assert!(api.seen().iter().all(|seen| seen.field("x-cupbearer-secret").is_none()));
    assert!(!proxy.log().contains("the-new-secret-of-all"));
}

#[tokio::test]
async fn a_page_may_ask_without_the_secret_and_read_why_it_was_refused() {
    let (api, _server, proxy) = with_secret().await;
    let url = proxy.url("/");
    let origin = "Origin: https://app.example.com";
    let preflight = curl(&[
        "--request",
        "OPTIONS",
        "--header",
        origin,
        "--header",
        "Access-Control-Request-Method: PUT",
        "--header",
        "Access-Control-Request-Headers: x-cupbearer-secret",
        "--header",
        "Access-Control-Request-Private-Network: true",
        &url,
    ])
    .await;
    assert_eq!(preflight.status, 204, "{preflight:?}");
    assert_eq!(preflight.field("access-control-allow-headers"), Some("x-cupbearer-secret"));
    assert_eq!(preflight.field("access-control-allow-private-network"), Some("true"));
    assert_eq!(preflight.field("access-control-allow-credentials"), None);
    let without = curl(&["--header", origin, &url]).await;
    without.assert_proxy_error(403);
    assert_eq!(without.field("access-control-allow-origin"), Some("https://app.example.com"));
    assert!(api.seen().is_empty());
    let secret = "X-Cupbearer-Secret: the-new-secret-of-all";
    assert_eq!(curl(&["--header", origin, "--header", secret, &url]).await.status, 200);
    let stranger = curl(&["--header", "Origin: https://evil.example", "--header", secret, &url]).await;
    stranger.assert_proxy_error(403);
    assert_eq!(stranger.field("access-control-allow-origin"), None);
}

#[tokio::test]
async fn an_allowed_page_reads_our_word_on_origins_and_not_the_apis() {
    let theirs = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("vary", "Accept-Encoding"),
    ];
    let api = Origin::start(move |_, _| Reply::new(200, &theirs, "ok")).await;
    let server = Origin::issuing(300).await;
    let section = upstream_at(&api.url()) + "[guard]\nallowed_origins = [\"https://app.example.com\"]\n";
    let proxy = Proxy::start(Config::one_route(&section, &token_at(&server.url()))).await;
    let answer = curl(&["--header", "Origin: https://app.example.com", &proxy.url("/")]).await;
    let said = |name: &str| {
        answer.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(said("access-control-allow-origin"), ["https://app.example.com"]);
    assert!(said("access-control-allow-credentials").is_empty());
    assert_eq!(said("vary"), ["Accept-Encoding", "Origin"]);
    let lost = curl(&["--header", "Origin: https://app.example.com", &proxy.url("/a/..;/b")]).await;
    lost.assert_proxy_error(400);
    assert_eq!(lost.field("access-control-allow-origin"), Some("https://app.example.com"));
}

#[tokio::test]
async fn a_unix_socket_is_for_the_users_on_the_list_whatever_its_mode() {
    let own = rustix::process::geteuid().as_raw();
    for (allowed, status) in [(own, 200), (own + 1, 403)] {
        let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("proxy.sock").to_str().unwrap().to_owned();
        let section = format!("{}[guard]\nallowed_uids = [{allowed}]\n", upstream_at(&api.url()));
        let config = Config::one_route(&section, &token_at(&server.url()))
            .environment("CUPBEARER__SERVER__LISTEN", &format!("unix:{socket}"));
        let mut proxy = Proxy::start_live_in(dir, config).await;
        proxy.until_ready().await;
        let answer = curl(&["--unix-socket", &socket, "http://localhost/"]).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.proxy_error(), (status == 403).then_some("peer_refused"));
        assert_eq!(api.seen().len(), usize::from(status == 200));
        let rebound = curl(&["--unix-socket", &socket, "http://evil.example/"]).await;
        rebound.assert_proxy_error(if status == 200 { 421 } else { 403 });
        let refused = proxy.metric("cupbearer_guard_rejections_total", &["reason=\"uid\""]).await;
        assert!((refused > 0.5) == (status == 403), "{refused}");
    }
}

/// A dev server's login comes back from another site, and its forms are its own affair: what is guarded is the token.
#[tokio::test]
async fn a_route_without_a_token_takes_what_leads_to_it_from_other_sites() {
    let routes = "[[routes]]\npath = \"/api\"\nupstream = \"api\"\ntoken = \"api\"\n\
                  [[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"none\"\n";
    let stage = Stage::routed("", routes).await;
    let from_elsewhere = ["-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: navigate"];
    let posted = ["-d", "a=b", "-H", "Origin: https://login.example.com"];
    for request in [&from_elsewhere[..], &posted] {
        let open = curl(&[request, &[&stage.proxy.url("/callback?code=1")]].concat()).await;
        assert_eq!(open.status, 200, "{open:?}");
        let dotted = stage.proxy.url("/api/../callback");
        assert_eq!(curl(&[request, &["--path-as-is", &dotted]].concat()).await.status, 200);
        assert_eq!(stage.api.seen().pop().unwrap().field("authorization"), None);
        curl(&[request, &[&stage.proxy.url("/api/orders")]].concat()).await.assert_proxy_error(403);
        let rebound = ["-H", "Host: evil.example"];
        curl(&[request, &rebound, &[&stage.proxy.url("/")]].concat()).await.assert_proxy_error(421);
    }
    assert_eq!(stage.api.seen().len(), 4);
}

#[tokio::test]
async fn a_route_without_a_token_asks_for_the_secret_and_guards_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("daemon.sock");
    let upstream = format!("[upstreams.api]\nurl = \"http://localhost\"\nsocket = '{}'\n", socket.display());
    let route = "[[routes]]\nupstream = \"api\"\ntoken = \"none\"\n";
    let proxy = Proxy::start(Config::new(upstream + route)).await;
    let page = ["-d", "{}", "-H", "Origin: https://evil.example"];
    curl(&[&page[..], &[&proxy.url("/containers/create")]].concat()).await.assert_proxy_error(403);

    let api = Origin::ok().await;
    let guard = "[guard]\nshared_secret = \"made-up-and-far-too-well-known\"\n";
    let proxy = Proxy::start(Config::new(upstream_at(&api.url()) + route + guard)).await;
    curl(&[&proxy.url("/")]).await.assert_proxy_error(403);
    let secret = "X-Cupbearer-Secret: made-up-and-far-too-well-known";
    assert_eq!(curl(&["-H", secret, &proxy.url("/")]).await.status, 200);
}

#[tokio::test]
async fn a_refusal_names_the_origin_that_was_seen_and_a_way_out() {
    let stage = Stage::plain().await;
    let url = stage.proxy.url("/");
    for (fields, words) in [
        (&["-H", "Origin: https://app.example.com"][..], "https://app.example.com sent this request"),
        (&["-H", "Origin: null"], "Origin: null"),
        (&["-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: no-cors"], "crossorigin"),
        (&["-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: navigate"], "address bar"),
        (&["-H", "Origin;"], "a web page of another origin"),
    ] {
        let answer = curl(&[fields, &[&url]].concat()).await;
        answer.assert_proxy_error(403);
        assert!(answer.text().contains(words), "{words}: {}", answer.text());
    }
    let lines: Vec<_> = stage
        .proxy
        .log()
        .lines()
        .filter(|line| line.contains("the guard refused a request"))
        .map(str::to_owned)
        .collect();
    // One for each reason, and the second origin within the minute has none.
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].contains("https://app.example.com"), "{lines:#?}");
    assert!(stage.api.seen().is_empty());
}

#[tokio::test]
async fn pages_of_an_allowed_origin_bring_cookies_where_the_guard_says_so() {
    let origin = "Origin: https://app.example.com";
    let guard = "[guard]\nallowed_origins = [\"https://app.example.com\"]\nallow_credentials = true\n";
    let api = Origin::start(|_, _| Reply::new(200, &[("x-total", "7")], "ok")).await;
    let stage = Stage::with(api, "", guard).await;
    let url = stage.proxy.url("/");
    let answer = curl(&["-H", origin, "-H", "Cookie: session=1", &url]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.field("access-control-allow-credentials"), Some("true"));
    let exposed = answer.field("access-control-expose-headers").unwrap();
    assert!(exposed.split(", ").any(|name| name == "x-total"), "{exposed}");
    assert_eq!(stage.api.seen().pop().unwrap().field("cookie").as_deref(), Some("session=1"));
    let asked = ["-X", "OPTIONS", "-H", origin, "-H", "Access-Control-Request-Method: PUT"];
    let preflight = curl(&[&asked[..], &[&url]].concat()).await;
    assert_eq!(preflight.field("access-control-allow-credentials"), Some("true"), "{preflight:?}");
}

/// An extension's GET names no origin; its other requests do.
#[tokio::test]
async fn an_extension_on_the_list_uses_the_proxy_and_others_do_not() {
    let guard =
        "[guard]\nallowed_origins = [\"chrome-extension://abcdefghijklmnop\", \"tauri://localhost\"]\n";
    let listed = Stage::with(Origin::ok().await, "", guard).await;
    let unlisted = Stage::plain().await;
    let get = ["-H", "Sec-Fetch-Site: none", "-H", "Sec-Fetch-Mode: cors"];
    let post = |origin| ["-d", "x", "-H", origin, "-H", "Sec-Fetch-Site: none", "-H", "Sec-Fetch-Mode: cors"];
    let sent = async |stage: &Stage, fields: &[&str]| {
        curl(&[fields, &[&stage.proxy.url("/")]].concat()).await.status
    };
    assert_eq!(sent(&listed, &get).await, 200);
    assert_eq!(sent(&listed, &post("Origin: chrome-extension://abcdefghijklmnop")).await, 200);
    assert_eq!(sent(&listed, &post("Origin: tauri://localhost")).await, 200);
    assert_eq!(sent(&listed, &post("Origin: chrome-extension://ponmlkjihgfedcba")).await, 403);
    assert_eq!(sent(&unlisted, &get).await, 403);
}
