//! What happens to a request and its answer on the way through.

use std::time::Duration;

use cupbearer_testing::{
    CREDENTIALS, Config, Nginx, Origin, Proxy, Reply, Stage, Wire, clock, curl, eventually, free_address,
    token_at, upstream_at,
};

#[tokio::test]
async fn the_applications_own_authorization_is_replaced_by_exactly_one() {
    let stage = Stage::plain().await;
    let requests = [
        "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer mine\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer mine\r\naUTHORIZATION: Basic eDp5\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: authorization\r\nAuthorization: Bearer mine\r\n\r\n",
    ];
    for request in requests {
        assert_eq!(stage.proxy.exchange(request).await.unwrap().status(), 200);
    }
    let sent = stage.api.authorizations();
    assert_eq!(sent.into_iter().collect::<Vec<_>>(), [(CREDENTIALS.to_owned(), requests.len())]);
}

#[tokio::test]
async fn the_applications_own_authorization_can_be_kept_or_refused() {
    let keep = Stage::with(Origin::ok().await, "", "own_authorization = \"keep\"").await;
    let own = ["--header", "Authorization: Bearer mine"];
    assert_eq!(curl(&[own[0], own[1], &keep.proxy.url("/")]).await.status, 200);
    assert_eq!(keep.proxy.get("/").await.status, 200);
    let sent: Vec<_> =
        keep.api.seen().iter().map(|request| request.all("authorization").join(" | ")).collect();
    assert_eq!(sent, ["Bearer mine", CREDENTIALS]);

    let refuse = Stage::with(Origin::ok().await, "", "own_authorization = \"refuse\"").await;
    let answer = curl(&[own[0], own[1], &refuse.proxy.url("/")]).await;
    assert!((400..500).contains(&answer.status) && answer.proxy_error().is_some(), "{answer:?}");
    assert!(refuse.api.seen().is_empty());
    assert_eq!(refuse.proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn another_header_and_scheme_carry_the_token_where_the_api_wants_them() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let section = token_at(&server.url()) + "header = \"X-Api-Key\"\nscheme = \"\"\n";
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    curl(&["--header", "X-Api-Key: mine", &proxy.url("/")]).await;
    assert_eq!(api.only().all("x-api-key"), ["token-0"]);
}

/// Signatures over the request (AWS) beside a token that a gateway takes in a field of its own.
#[tokio::test]
async fn a_token_with_a_field_of_its_own_goes_beside_the_applications_kept_authorization() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let section = token_at(&server.url()) + "header = \"X-Api-Key\"\nscheme = \"\"\n";
    let config = Config::one_route(&upstream_at(&api.url()), &section).and("own_authorization = \"keep\"");
    let proxy = Proxy::start(config).await;
    let signature = "Authorization: AWS4-HMAC-SHA256 Credential=a";
    for fields in [&[signature][..], &[], &[signature, "X-Api-Key: mine"], &["X-Api-Key: mine"]] {
        let fields = fields.iter().flat_map(|field| ["--header", field]);
        let (fields, url) = (fields.collect::<Vec<_>>(), proxy.url("/"));
        assert_eq!(curl(&[&fields[..], &[&url]].concat()).await.status, 200);
    }
    let sent: Vec<_> = api
        .seen()
        .iter()
        .map(|seen| ["authorization", "x-api-key"].map(|name| seen.all(name).join(" | ")))
        .collect();
    let signature = "AWS4-HMAC-SHA256 Credential=a";
    assert_eq!(sent, [[signature, "token-0"], ["", "token-0"], [signature, "mine"], ["", "mine"]]);
    let twice = ["--header", "Authorization: a", "--header", "Authorization: b", &proxy.url("/")];
    curl(&twice).await.assert_proxy_error(400);
}

#[tokio::test]
async fn what_is_for_one_hop_stops_at_the_proxy_both_ways() {
    let stage = Stage::answering(|_, _| {
        let fields = [
            ("connection", "x-hop, keep-alive"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("upgrade", "h2c"),
            ("x-end", "1"),
        ];
        Reply::new(200, &fields, "ok")
    })
    .await;
    let answer = stage
        .proxy
        .exchange(
            "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: x-hop, close, te\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
             Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nTE: trailers, gzip\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nX-End: 1\r\n\r\n",
        )
        .await
        .unwrap();
    let sent = stage.api.only();
    let names =
        ["x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade", "http2-settings"];
    for name in names {
        assert!(sent.all(name).is_empty(), "{name} went on: {}", String::from_utf8_lossy(&sent.head));
    }
    assert_eq!(sent.all("x-end"), ["1"]);
    assert!(sent.all("te").iter().all(|value| value == "trailers"), "{:?}", sent.all("te"));
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert!(answer.all(name).is_empty(), "{name} came back: {}", String::from_utf8_lossy(&answer.head));
    }
    assert_eq!(answer.all("x-end"), ["1"]);
}

#[tokio::test]
async fn connection_cannot_name_away_what_a_request_needs() {
    let stage = Stage::plain().await;
    let request = "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: host, content-length, authorization, via\r\n\
                   Content-Length: 5\r\n\r\nhello";
    assert_eq!(stage.proxy.exchange(request).await.unwrap().status(), 200);
    let sent = stage.api.only();
    assert_eq!((sent.all("host").len(), sent.text().as_str()), (1, "hello"));
    assert_eq!(sent.all("authorization"), [CREDENTIALS]);
}

#[tokio::test]
async fn the_api_is_called_by_its_own_name_and_via_tells_the_way() {
    let stage = Stage::answering(|_, _| Reply::new(200, &[("via", "1.1 inner")], "ok")).await;
    let answer = curl(&["--header", "Via: 1.0 outer", &stage.proxy.url("/")]).await;
    let sent = stage.api.only();
    assert_eq!(sent.all("host"), [stage.api.address.to_string()]);
    let via = sent.all("via").join(", ");
    assert!(via.starts_with("1.0 outer, 1.1 "), "RFC 9110 section 7.6.3: {via}");
    let back = answer.fields.iter().filter(|(name, _)| name == "via").map(|(_, value)| value.as_str());
    assert!(back.collect::<Vec<_>>().join(", ").starts_with("1.1 inner"), "{answer:?}");
}

#[tokio::test]
async fn a_proxy_that_calls_itself_says_so_instead_of_going_round() {
    let stage = Stage::plain().await;
    assert_eq!(stage.proxy.get("/").await.status, 200);
    let via = format!("Via: {}, 1.1 another", stage.api.only().all("via").join(", "));
    curl(&["--header", &via, &stage.proxy.url("/")]).await.assert_proxy_error(508);
    assert_eq!(stage.api.seen().len(), 1);
}

#[tokio::test]
async fn fields_keep_their_order_and_their_bytes() {
    let stage = Stage::answering(|_, _| {
        Reply::raw(
            b"HTTP/1.1 200 OK\r\nset-cookie: a=1, b\r\nset-cookie: c=2\r\nx-odd: caf\xe9\r\ncontent-length: 2\r\n\r\nok"
                .as_slice(),
        )
    })
    .await;
    let mut wire = stage.proxy.wire().await;
    let host = stage.proxy.listen();
    let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-A: 1\r\nX-A: 2, 3\r\nX-Odd: caf");
    wire.send([head.as_bytes(), b"\xe9\r\n\r\n"].concat()).await;
    let answer = wire.response("GET").await.unwrap();
    assert_eq!(answer.all("set-cookie"), ["a=1, b", "c=2"], "never joined: RFC 9110 section 5.3");
    assert!(memchr::memmem::find(&answer.head, b"caf\xe9\r\n").is_some());
    let sent = stage.api.only();
    assert_eq!(sent.all("x-a"), ["1", "2, 3"]);
    assert!(memchr::memmem::find(&sent.head, b"caf\xe9\r\n").is_some());
}

#[tokio::test]
async fn a_coded_body_passes_untouched() {
    let body: Vec<u8> = [0x1f, 0x8b, 8, 0].into_iter().chain((0..=255).cycle().take(100_000)).collect();
    let copy = body.clone();
    let stage = Stage::answering(move |_, _| {
        Reply::new(200, &[("content-encoding", "gzip"), ("etag", "\"1\"")], &copy)
    })
    .await;
    let answer = stage.proxy.get("/").await;
    assert_eq!((answer.field("content-encoding"), answer.field("etag")), (Some("gzip"), Some("\"1\"")));
    assert!(answer.body == body, "not the same bytes");
}

#[tokio::test]
async fn expect_100_continue_works_end_to_end() {
    // The API decides: it says 100 only after it has seen the head, and gets the body only then.
    let api = Origin::scripted(|mut wire| async move {
        let head = wire.head().await.unwrap();
        assert_eq!(head.field("expect").as_deref(), Some("100-continue"));
        wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        let mut body = [0; 5].to_vec();
        body.truncate(wire.swallow(5).await);
        wire.send(Reply::new(200, &[], format!("{} bytes", body.len())).into_bytes()).await;
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    let host = stage.proxy.listen();
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.head().await.unwrap().status(), 100);
    wire.send("hello").await;
    let answer = wire.response("POST").await.unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "5 bytes"));
}

#[tokio::test]
async fn a_refused_expectation_spares_the_body() {
    for status in [401, 417] {
        let api = Origin::scripted(move |mut wire| async move {
            wire.head().await;
            wire.send(Reply::new(status, &[], "no").into_bytes()).await;
            // Nothing of the body may come.
            assert_eq!(wire.swallow(1).await, 0);
        })
        .await;
        let stage = Stage::with(api, "", "").await;
        let mut wire = stage.proxy.wire().await;
        let host = stage.proxy.listen();
        wire.send(format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        ))
        .await;
        let answer = wire.head().await.unwrap();
        assert_eq!(answer.status(), status, "a final answer, and no 100 before it");
    }
}

#[tokio::test]
async fn curl_uploads_to_nginx_with_an_expectation() {
    let api = Nginx::start().await;
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("upload");
    std::fs::File::create(&file).unwrap().set_len(4 << 20).unwrap();
    let data = format!("@{}", file.display());
    let answer = curl(&["--header", "Expect: 100-continue", "--data-binary", &data, &proxy.url("/up")]).await;
    assert_eq!((answer.status, answer.interim.as_slice()), (200, &[100][..]), "{answer:?}");
    assert_eq!(answer.text(), "POST /up\n");
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection_in_step() {
    let api = Nginx::start().await;
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let mut wire = proxy.wire().await;
    let host = proxy.listen();
    for (method, path, status) in [
        ("HEAD", "/a", 200),
        ("GET", "/empty", 204),
        ("GET", "/unchanged", 304),
        ("HEAD", "/moved", 302),
        ("DELETE", "/empty", 204),
        ("GET", "/last", 200),
    ] {
        wire.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = wire.response(method).await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        if method == "HEAD" && status == 200 {
            assert_eq!(answer.field("content-length").as_deref(), Some("8"), "RFC 9110 section 9.3.2");
        }
        if path == "/last" {
            assert_eq!(answer.text(), "GET /last\n");
        }
    }
}

#[tokio::test]
async fn interim_answers_do_not_disturb_the_final_one() {
    let stage = Stage::answering(|_, _| {
        Reply::raw(
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n\
             HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        )
    })
    .await;
    for _ in 0..2 {
        let answer = stage.proxy.get("/").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let stage = Stage::answering(|request, _| Reply::new(200, &[], request.target())).await;
    let mut wire = stage.proxy.wire().await;
    let host = stage.proxy.listen();
    let all: Vec<_> = (0..10).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: {host}\r\n\r\n")).collect();
    wire.send(all.concat()).await;
    for n in 0..10 {
        assert_eq!(wire.response("GET").await.unwrap().text(), format!("/{n}"));
    }
}

#[tokio::test]
async fn a_redirect_goes_to_the_application_as_it_is() {
    let elsewhere = Origin::ok().await;
    let location = format!("{}/next?a=b", elsewhere.url());
    let copy = location.clone();
    let stage = Stage::answering(move |_, _| Reply::new(302, &[("location", &copy)], "")).await;
    let answer = stage.proxy.get("/").await;
    assert_eq!((answer.status, answer.field("location")), (302, Some(location.as_str())));
    assert_eq!(elsewhere.connections(), 0, "a token never leaves for another host");
}

#[tokio::test]
async fn what_the_api_says_is_not_taken_for_the_proxys_word() {
    let challenge = "Bearer realm=\"api\", error=\"insufficient_scope\"";
    let stage = Stage::answering(move |_, before| {
        let status = [403, 503, 502, 404][before % 4];
        Reply::new(status, &[("www-authenticate", challenge), ("cupbearer-error", "forged")], "theirs")
    })
    .await;
    for status in [403, 503, 502, 404] {
        let answer = stage.proxy.get("/").await;
        assert_eq!((answer.status, answer.text().as_str()), (status, "theirs"));
        assert_eq!(answer.field("www-authenticate"), Some(challenge));
        assert_eq!(answer.proxy_error(), None, "that header is the proxy's alone");
    }
}

#[tokio::test]
async fn methods_that_would_show_the_token_or_open_a_tunnel_are_refused() {
    let stage = Stage::plain().await;
    let trace = curl(&["--request", "TRACE", &stage.proxy.url("/")]).await;
    trace.assert_proxy_error(405);
    let connect = stage.proxy.exchange("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n").await.unwrap();
    assert!([400, 405, 501].contains(&connect.status()), "{}", connect.start());
    let last_hop =
        stage.proxy.exchange("OPTIONS / HTTP/1.1\r\nHost: {host}\r\nMax-Forwards: 0\r\n\r\n").await.unwrap();
    assert_eq!(last_hop.status(), 200, "{}", last_hop.start());
    assert_eq!(
        last_hop.field("cupbearer-response").as_deref(),
        Some("max-forwards"),
        "it is the proxy's own"
    );
    assert!(stage.api.seen().is_empty(), "none of them may reach the API");
    let one_more =
        stage.proxy.exchange("OPTIONS / HTTP/1.1\r\nHost: {host}\r\nMax-Forwards: 5\r\n\r\n").await.unwrap();
    assert_eq!(one_more.status(), 200);
    assert_eq!(stage.api.only().all("max-forwards"), ["4"], "RFC 9110 section 7.6.2");
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_502() {
    let server = Origin::issuing(300).await;
    let closed = format!("http://{}", free_address());
    let proxy = Proxy::start(Config::one_route(&upstream_at(&closed), &token_at(&server.url()))).await;
    let start = clock::now();
    proxy.get("/").await.assert_proxy_error(502);
    assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
    assert!(proxy.metric("cupbearer_proxy_errors_total", &[]).await >= 1.0);
}

#[tokio::test]
async fn an_upstream_that_is_silent_is_a_504() {
    let silent = Origin::start(|_, _| Reply::raw("").holding()).await;
    let stage = Stage::with(silent, "response_header_timeout = \"1s\"\n", "").await;
    let start = clock::now();
    stage.proxy.get("/").await.assert_proxy_error(504);
    let took = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "it took {took:?}");
    // With a body, the time runs from its end; `idle_timeout`, which is far longer, has no say any more.
    let start = clock::now();
    curl(&["--data", "x=1", &stage.proxy.url("/")]).await.assert_proxy_error(504);
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_502_and_ends_its_connection() {
    for nonsense in [
        "not HTTP at all\r\n\r\n",
        "",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: banana\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ] {
        let stage = Stage::answering(move |_, _| Reply::raw(nonsense).closing()).await;
        stage.proxy.get("/").await.assert_proxy_error(502);
    }
}

#[tokio::test]
async fn a_connection_gone_stale_is_no_failure() {
    // It ends each connection as the second request comes in, without an answer: the race, made certain.
    let api = Origin::scripted(|mut wire| async move {
        wire.request().await;
        wire.send(Reply::ok().into_bytes()).await;
        wire.request().await;
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    for _ in 0..5 {
        let answer = stage.proxy.get("/").await;
        assert_eq!(answer.status, 200, "a GET is tried again on a new connection: {answer:?}");
    }
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let stage = Stage::answering(|request, _| match request.method().as_str() {
        "GET" => Reply::ok(),
        _ => Reply::raw("").closing(),
    })
    .await;
    assert_eq!(stage.proxy.get("/").await.status, 200);
    let answer = curl(&["--data", "order=1", &stage.proxy.url("/")]).await;
    answer.assert_proxy_error(502);
    let posts = stage.api.seen().iter().filter(|request| request.method() == "POST").count();
    assert_eq!(posts, 1, "it may have been carried out");
}

#[tokio::test]
async fn idle_connections_that_nginx_closes_cost_no_request() {
    let api = Nginx::keeping_alive("1s").await;
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let mut wire = proxy.wire().await;
    for pause in [0, 300, 985, 990, 995, 1000, 1005, 1010, 1500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen())).await;
        assert_eq!(wire.response("GET").await.unwrap().status(), 200, "after {pause} ms");
    }
    let connections: Vec<_> = api.seen().iter().map(|request| request.connection).collect();
    assert_eq!(connections[0], connections[1], "and what is alive is used again: {connections:?}");
}

#[tokio::test]
async fn an_upstream_that_restarts_is_found_again() {
    let stage = Stage::plain().await;
    assert_eq!(stage.proxy.get("/").await.status, 200);
    let address = stage.api.address;
    drop(stage.api);
    eventually("the port is free", || async { tokio::net::TcpListener::bind(address).await.is_ok() }).await;
    stage.proxy.get("/").await.assert_proxy_error(502);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let _api = Origin::on(listener, |mut wire: Wire| async move {
        while wire.request().await.is_some() {
            wire.send(Reply::ok().into_bytes()).await;
        }
    });
    assert_eq!(stage.proxy.get("/").await.status, 200);
}
