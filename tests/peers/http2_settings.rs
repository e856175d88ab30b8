//! How an HTTP/2 API begins a connection: its SETTINGS and their limits, or another protocol altogether.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::net::TcpListener;

use cupbearer_testing::{
    Config, FrameServer, NodeApi, Origin, Proxy, Reaction, cupbearer, curl, fields,
    frames::{END_STREAM, Frame, HEADERS, SETTINGS, WINDOW_UPDATE, frame, headers},
    token_at, upstream_at,
};

async fn before(upstream: &str) -> (Origin, Proxy) {
    let server = Origin::issuing(300).await;
    let config = Config::one_route(upstream, &token_at(&server.url())).server("workers = 1");
    (server, Proxy::start(config).await)
}

fn ok(stream: u32) -> Vec<u8> {
    headers(stream, END_STREAM, &fields(&[(":status", "200")]))
}

#[tokio::test]
async fn a_burst_is_served_however_few_streams_the_api_allows() {
    for (settings, most) in [(&[(3, 1)][..], 30), (&[(3, 4)], 12), (&[], 1)] {
        // Responses take a moment, so that no stream is free before all requests are under way.
        let api = FrameServer::start(settings, |_, (): &mut (), frame: &Frame| match frame.kind {
            HEADERS => Reaction { later: ok(frame.stream), ..Reaction::default() },
            _ => Reaction::default(),
        })
        .await;
        let (_server, proxy) = before(&(api.upstream() + "connect_timeout = \"5s\"\n")).await;
        for answer in join_all((0..30).map(|_| proxy.get("/"))).await {
            assert_eq!(answer.status, 200, "{settings:?}: {answer:?}");
        }
        assert!(api.connections() <= most, "{settings:?}: {} connections", api.connections());
    }
}

#[tokio::test]
async fn an_api_that_allows_no_stream_is_waited_for_on_one_connection() {
    let shut = FrameServer::start(&[(3, 0)], |_, (): &mut (), _: &Frame| Reaction::default()).await;
    let (_server, proxy) = before(&(shut.upstream() + "connect_timeout = \"1s\"\n")).await;
    for answer in join_all((0..5).map(|_| proxy.get("/"))).await {
        answer.assert_proxy_error(504);
        assert!(answer.text().contains("allowed no request at a time within connect_timeout"), "{answer:?}");
    }
    assert_eq!(shut.connections(), 1);

    // hyper's first update of the connection's window is what this one takes for the time to open.
    let opens = FrameServer::start(&[(3, 0)], |_, (): &mut (), frame: &Frame| match frame.kind {
        WINDOW_UPDATE => {
            Reaction { later: self::frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 2]), ..Reaction::default() }
        }
        HEADERS => ok(frame.stream).into(),
        _ => Reaction::default(),
    })
    .await;
    let (_server, proxy) = before(&opens.upstream()).await;
    for answer in join_all((0..2).map(|_| proxy.get("/"))).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(opens.connections(), 1);
}

/// The text of a configuration that is tried out.
async fn check_online(upstream: &str, server: &Origin) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let route = "[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"api\"\n";
    std::fs::write(&file, [upstream, &token_at(&server.url()), route].concat()).unwrap();
    let output = cupbearer().args(["check", "--online", "--config"]).arg(&file).output().await.unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn an_api_that_does_not_speak_http_2_is_named_as_such() {
    let node = NodeApi::start().await;
    let tls = node.upstream("h1_tls") + "http2 = \"prior_knowledge\"\n";
    let plain = node.upstream("h1") + "http2 = \"prior_knowledge\"\n";
    let speaks = node.upstream("h2") + "http2 = \"prior_knowledge\"\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closes =
        upstream_at(&format!("http://{}", listener.local_addr().unwrap())) + "http2 = \"prior_knowledge\"\n";
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    for (upstream, words) in [
        (plain, "it does not speak HTTP/2 there"),
        (closes, "it closed the connection before it began HTTP/2"),
    ] {
        let (server, proxy) = before(&upstream).await;
        for method in ["GET", "POST"] {
            let answer = curl(&["--request", method, &proxy.url("/")]).await;
            answer.assert_proxy_error(502);
            assert_eq!(answer.proxy_error(), Some("upstream_unreachable"), "{answer:?}");
            assert!(answer.text().contains(words), "{answer:?}");
        }
        assert!(proxy.log().contains(words), "{}", proxy.log());
        let said = check_online(&upstream, &server).await;
        assert!(said.contains(words) && said.contains("http2 = \"never\""), "{said}");
    }
    let (server, proxy) = before(&tls).await;
    proxy.get("/").await.assert_proxy_error(502);
    assert!(!check_online(&tls, &server).await.contains("(HTTP/2)"));
    let said = check_online(&speaks, &server).await;
    assert!(said.contains("the upstream took a connection (HTTP/2)"), "{said}");
}

#[tokio::test]
async fn a_head_that_is_larger_than_the_api_takes_is_refused_before_it_is_sent() {
    let heads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heads);
    let api = FrameServer::start(&[(6, 8000)], move |_, (): &mut (), frame: &Frame| match frame.kind {
        HEADERS => {
            count.fetch_add(1, Ordering::SeqCst);
            ok(frame.stream).into()
        }
        _ => Reaction::default(),
    })
    .await;
    let (_server, proxy) = before(&api.upstream()).await;
    let large = format!("x-large: {}", "a".repeat(9_000));
    let refused = curl(&["--header", &large, &proxy.url("/")]).await;
    refused.assert_proxy_error(431);
    assert_eq!(refused.proxy_error(), Some("header_too_large"));
    assert!(
        refused.text().contains("takes no more than 8000 (its SETTINGS_MAX_HEADER_LIST_SIZE)"),
        "{refused:?}"
    );
    assert_eq!(heads.load(Ordering::SeqCst), 0);
    let many: Vec<String> = (0..90).map(|at| format!("x-{at}: {}", "a".repeat(50))).collect();
    let url = proxy.url("/");
    let mut arguments: Vec<&str> = many.iter().flat_map(|field| ["--header", field]).collect();
    arguments.push(&url);
    curl(&arguments).await.assert_proxy_error(431);
    let fits = format!("x-large: {}", "a".repeat(7_000));
    assert_eq!(curl(&["--header", &fits, &proxy.url("/")]).await.status, 200);
    assert_eq!((heads.load(Ordering::SeqCst), api.connections()), (1, 1), "the connection lives");
}

/// A response's head with one field more, as a literal.
fn head_with(stream: u32, status: &str, name: &str, value: &[u8]) -> Vec<u8> {
    let mut all = fields(&[(":status", status)]);
    all.push((name.as_bytes().to_vec(), value.to_vec()));
    headers(stream, END_STREAM, &all)
}

#[tokio::test]
async fn a_malformed_head_of_an_http_2_api_is_named_and_costs_the_connection_only_where_it_must() {
    let requests = AtomicUsize::new(0);
    let api = FrameServer::start(&[], move |_, (): &mut (), frame: &Frame| {
        let stream = frame.stream;
        if frame.kind != HEADERS {
            return Reaction::default();
        }
        match requests.fetch_add(1, Ordering::Relaxed) {
            0 => head_with(stream, "200", "X-Capital", b"1"),
            1 => head_with(stream, "200", "x-nul", b"a\0b"),
            2 => head_with(stream, "99", "x", b"1"),
            3 => ok(stream),
            // It ends the connection, so that the request is sent again, and gets the same.
            _ => self::frame(HEADERS, 5, stream, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        }
        .into()
    })
    .await;
    let (_server, proxy) = before(&api.upstream()).await;
    for (kind, why) in [
        ("upstream_malformed", "is not a token in lower case"),
        ("upstream_malformed", "has a control character"),
        ("upstream_malformed", "its :status is not a number"),
        ("", ""),
        ("upstream_broken", "what came by it breaks the rules of HTTP/2"),
    ] {
        let answer = proxy.get("/").await;
        if kind.is_empty() {
            assert_eq!(answer.status, 200, "{answer:?}");
            continue;
        }
        answer.assert_proxy_error(502);
        assert_eq!(answer.proxy_error(), Some(kind), "{}", answer.text());
        assert!(answer.text().contains(why), "{}", answer.text());
    }
}
