//! What an adversary tried, and what a careless peer does: each was found by somebody who wanted to break it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use cupbearer_testing::{
    Certificates, Config, Message, Origin, Proxy, Reply, Stage, curl, eventually,
    frames::{END_STREAM, Frames, Outcome, get as get_of, headers},
    token_at, upstream_at,
};

const BIG: usize = 8 << 20;

#[tokio::test]
async fn who_asks_at_once_and_never_reads_is_cut_off() {
    let api = Origin::start(|_, _| Reply::new(200, &[], vec![b'x'; BIG])).await;
    let server = Origin::issuing(300).await;
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .server("send_timeout = \"1s\"\nworkers = 1");
    let proxy = Proxy::start(config).await;
    let mut wire = proxy.wire().await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen())).await;
    eventually("it is under way", || async { in_flight(&proxy).await > 0.5 }).await;
    eventually("it is cut off", || async { in_flight(&proxy).await < 0.5 }).await;
}

async fn in_flight(proxy: &Proxy) -> f64 {
    proxy.metric("cupbearer_requests_in_flight", &["route=\"/\""]).await
}

#[tokio::test]
async fn half_a_head_behind_a_slow_request_does_not_cost_its_answer() {
    let slow = |_: &Message, before: usize| {
        let reply = Reply::new(200, &[], before.to_string());
        if before == 0 { reply.after(Duration::from_secs(3)) } else { reply }
    };
    let api = Origin::start(slow).await;
    let server = Origin::issuing(300).await;
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .server("header_timeout = \"1s\"\nworkers = 1");
    let proxy = Proxy::start(config).await;
    let host = proxy.listen();
    let mut wire = proxy.wire().await;
    wire.send(format!("GET /slow HTTP/1.1\r\nHost: {host}\r\n\r\nGET /second HT")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    wire.send(format!("TP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(wire.response("GET").await.unwrap().text(), "0");
    assert_eq!(wire.response("GET").await.unwrap().text(), "1");
}

#[tokio::test]
async fn a_head_that_never_ends_is_answered_and_a_connection_that_never_asked_is_not() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .server("header_timeout = \"1s\"\nkeep_alive_timeout = \"2s\"");
    let proxy = Proxy::start(config).await;
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen());
    let late = ["G", "P", "GET / HTTP/1.1\r\nHost: local", "\r\nGET / HTTP/1.1\r\n"];
    let cases = ["", get.as_str()].into_iter().flat_map(|before| late.map(|begun| (before, begun)));
    join_all(cases.map(async |(before, begun)| {
        let mut wire = proxy.wire().await;
        wire.send(before).await;
        if !before.is_empty() {
            assert_eq!(wire.response("GET").await.unwrap().status(), 200);
        }
        wire.send(begun).await;
        let answer = wire.response("GET").await.unwrap_or_else(|| panic!("nothing came to {begun:?}"));
        assert_eq!(answer.status(), 408, "{begun:?}");
        assert_eq!(answer.field("connection").as_deref(), Some("close"));
        assert_eq!(answer.field("content-type").as_deref(), Some("application/problem+json"));
        assert_eq!(answer.field("cupbearer-error").as_deref(), Some("request_timeout"));
        assert!(answer.text().contains("header_timeout"), "{}", answer.text());
        assert!(wire.rest().await.is_empty(), "and that was its last word");
    }))
    .await;
    for silent in ["", "\r\n"] {
        let mut wire = proxy.wire().await;
        wire.send(silent).await;
        assert_eq!(wire.rest().await, b"", "to {silent:?}");
    }
    // HTTP/2 has no such answer, and its streams have limits of their own.
    let mut connection = Frames::connect(proxy.listen(), &[]).await;
    let head = headers(1, END_STREAM, &get_of(&proxy.listen().to_string(), "/"));
    connection.send(&head[..10]).await;
    tokio::time::sleep(Duration::from_millis(1600)).await;
    connection.send(&head[10..]).await;
    assert_eq!(connection.outcomes(&[1]).await, [Outcome::Status(200)]);
    let counted = proxy.metric("cupbearer_proxy_errors_total", &["kind=\"request_timeout\""]).await;
    assert!((counted - 8.0).abs() < 0.1, "{counted}");
    assert_eq!(api.seen().len(), 5);
}

#[tokio::test]
async fn blank_lines_on_an_idle_connection_hold_up_nobody() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url())).server("workers = 1");
    let proxy = Proxy::start(config).await;
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen());
    for before in ["", get.as_str()] {
        let mut wire = proxy.wire().await;
        wire.send(before).await;
        if !before.is_empty() {
            assert_eq!(wire.response("GET").await.unwrap().status(), 200);
        }
        for _ in 0..2 {
            wire.send("\r\n").await;
            // Longer than it takes an idle connection to come to rest.
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert_eq!(proxy.get("/").await.status, 200, "another application's");
        }
        wire.send(&get).await;
        assert_eq!(wire.response("GET").await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_http_2_under_a_request_gets_it_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    let upstream = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(break_http2(stream, Arc::clone(&seen)));
        }
    });
    let server = Origin::issuing(300).await;
    let section = upstream_at(&url) + "http2 = \"prior_knowledge\"\n";
    let proxy = Proxy::start(Config::one_route(&section, &token_at(&server.url()))).await;
    assert_eq!(curl(&["--request", "POST", &proxy.url("/")]).await.status, 502);
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    upstream.abort();
}

/// Counts requests, and says to each what is no HTTP/2: data on no stream at all (RFC 9113 section 6.1).
async fn break_http2(mut stream: TcpStream, requests: Arc<AtomicUsize>) {
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).await.is_err() {
        return;
    }
    let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        if head[3] == HEADERS {
            requests.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(&[0, 0, 1, 0, 0, 0, 0, 0, 0, b'x']).await;
        }
    }
}

#[tokio::test]
async fn an_upstream_that_takes_connections_and_says_nothing_fails_all_who_wait_together() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let ca = Certificates::for_loopback(dir.path()).ca;
    let server = Origin::issuing(300).await;
    let upstream = format!(
        "[upstreams.api]\nurl = \"https://{address}\"\nca_file = {:?}\nconnect_timeout = \"1s\"\n",
        ca.display().to_string()
    );
    let config = Config::one_route(&upstream, &token_at(&server.url())).server("workers = 1");
    let proxy = Proxy::start(config).await;
    let url = proxy.url("/");
    let began = cupbearer_testing::clock::now();
    let arguments = [url.as_str()];
    let answers = join_all((0..8).map(|_| curl(&arguments))).await;
    let took = cupbearer_testing::clock::now() - began;
    for answer in answers {
        answer.assert_proxy_error(504);
    }
    assert!(took < Duration::from_secs(6), "one after the other they would take 8 s: {took:?}");
    holding.abort();
}

#[tokio::test]
async fn an_answer_that_ends_in_two_places_is_no_answer() {
    for head in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let raw = format!("HTTP/1.1 200 OK\r\n{head}");
        let stage = Stage::answering(move |_, _| Reply::raw(raw.clone())).await;
        stage.proxy.get("/").await.assert_proxy_error(502);
    }
}

#[tokio::test]
async fn own_credentials_are_one_or_none_whatever_is_tried() {
    let routes = "own_authorization = \"keep\"\n";
    let stage = Stage::with(Origin::ok().await, "", routes).await;
    let host = stage.proxy.listen();
    let ask = |fields: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    let seen = |fields: &'static str| {
        let request = ask(fields);
        let stage = &stage;
        async move {
            let status = stage.proxy.exchange(&request).await.unwrap().status();
            (status, stage.api.seen().last().map(|seen| seen.all("authorization")))
        }
    };
    let (status, sent) = seen("Authorization: Basic own\r\n").await;
    assert_eq!((status, sent.unwrap()), (200, vec!["Basic own".to_owned()]));
    let (status, sent) = seen("Authorization: Basic own\r\nConnection: Authorization\r\n").await;
    assert!(status == 200 && sent.as_ref().unwrap()[0].starts_with("Bearer "), "{sent:?}");
    let (status, sent) = seen("Authorization:\r\n").await;
    assert!(status == 200 && sent.as_ref().unwrap()[0].starts_with("Bearer "), "{sent:?}");
    let before = stage.api.seen().len();
    let (status, _) = seen("Authorization: Basic own\r\nAuthorization: Basic other\r\n").await;
    assert_eq!((status, stage.api.seen().len()), (400, before));
}

#[tokio::test]
async fn an_expectation_that_nobody_defined_is_refused_at_once() {
    let stage = Stage::plain().await;
    let host = stage.proxy.listen();
    for expect in ["banana", "100-continue, x", "100-continue\r\nExpect: x"] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: {host}\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\n");
        let answer = stage.proxy.exchange(&request).await.unwrap();
        assert_eq!(answer.status(), 417, "{expect:?}");
    }
    assert!(stage.api.seen().is_empty());
}

#[tokio::test]
async fn a_full_house_makes_room_for_who_has_something_to_ask() {
    let api = Origin::ok().await;
    let server = Origin::issuing(300).await;
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .server("max_connections = 20\nworkers = 1");
    let proxy = Proxy::start(config).await;
    let mut idle = Vec::new();
    for _ in 0..25 {
        idle.push(proxy.wire().await);
    }
    assert_eq!(proxy.get("/").await.status, 200);
    drop(idle);
    let (status, log) = proxy.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn http_2_keeps_the_limits_of_heads_too() {
    let stage = Stage::plain().await;
    let url = stage.proxy.url("/");
    let fields: Vec<String> = (0..150).map(|n| format!("X-{n}: 1")).collect();
    let mut arguments = vec!["--http2-prior-knowledge"];
    for field in &fields {
        arguments.extend(["--header", field]);
    }
    arguments.push(&url);
    curl(&arguments).await.assert_proxy_error(431);
    assert!(stage.api.seen().is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_malformed_response_is_in_the_answer_and_in_the_log() {
    for (bytes, words) in [
        ("nothing of the kind\r\n\r\n", "its first line is not a status line of HTTP/1.1"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "it has two Content-Length values",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "its Content-Length is not a number"),
        ("HTTP/1.1 200 OK\r\nsentinel field: 1\r\n\r\n", "a header field has an invalid name"),
        (
            "HTTP/1.1 200 OK\r\nX-A: 1\r\n sentinel\r\n\r\n",
            "a line begins with a space; lines are not folded (RFC 9112 section 5.2)",
        ),
        (
            "\x15\x03\x01\0\x02\x02\x28",
            "it is TLS; use https in the upstream's url, or the port where it speaks plain HTTP",
        ),
        ("SSH-2.0-sentinel\r\n", "it is SSH; use the port where the upstream speaks HTTP"),
        ("ICY 200 OK\r\n\r\n", "its first line is that of SHOUTcast (ICY), and no status line of HTTP/1.1"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsentinel\r\n",
            "the size of a chunk is not a hexadecimal number (RFC 9112 section 7.1)",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x8\r\nsentinel\r\n",
            "the size of a chunk is followed by something that is no extension (RFC 9112 section 7.1)",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nsentinel\r\n",
            "a chunk does not end where its size says",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nsentinel\r\n\r\n",
            "a trailer field has no colon",
        ),
    ] {
        let bytes = bytes.to_owned();
        let stage = Stage::answering(move |_, _| Reply::raw(bytes.clone()).closing()).await;
        for _ in 0..2 {
            let answer = stage.proxy.get("/").await;
            answer.assert_proxy_error(502);
            assert_eq!(answer.proxy_error(), Some("upstream_malformed"));
            let detail = format!("the upstream's response is not valid HTTP: {words}");
            assert_eq!(answer.json()["detail"], detail.as_str(), "{answer:?}");
        }
        let log = stage.proxy.log();
        assert_eq!(log.lines().filter(|line| line.contains(words)).count(), 1, "{log}");
        assert!(!log.contains("sentinel"), "nothing of the response is in it: {log}");
    }
}

#[tokio::test]
async fn a_response_that_turns_out_malformed_in_its_middle_is_named_in_the_log() {
    let api = Origin::scripted(|mut wire| async move {
        while wire.head().await.is_some() {
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            wire.send("5\r\nsentinel\r\n").await;
        }
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.proxy.listen())).await;
    assert!(wire.rest().await.ends_with(b"5\r\nhello\r\n"), "it is cut");
    let words = "the upstream's response is not valid HTTP: a chunk does not end where its size says";
    eventually("it is named", || async { stage.proxy.log().contains(words) }).await;
    assert!(!stage.proxy.log().contains("sentinel"), "{}", stage.proxy.log());
}

#[tokio::test]
async fn each_kind_of_malformed_response_is_logged_once_wherever_it_is_found() {
    let api = Origin::start(|request, _| match request.target().as_str() {
        "/name" => Reply::raw("HTTP/1.1 200 OK\r\na field: 1\r\n\r\n").closing(),
        "/length" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").closing(),
        // What the handler finds, once the head has been read as one.
        "/long" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n").closing(),
        _ => Reply::ok(),
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    for _ in 0..2 {
        for path in ["/name", "/length", "/long"] {
            stage.proxy.get(path).await.assert_proxy_error(502);
        }
    }
    let log = stage.proxy.log();
    for words in ["has an invalid name", "is not a number", "is larger than any body"] {
        assert_eq!(log.lines().filter(|line| line.contains(words)).count(), 1, "{words}: {log}");
    }
    assert!(!log.contains("answers again"), "{log}");
    assert_eq!(stage.proxy.get("/").await.status, 200);
    eventually("it answers again", || async { stage.proxy.log().contains("answers again") }).await;
}

#[tokio::test]
async fn an_upstream_that_fails_is_told_of_when_it_begins_and_when_it_ends() {
    let failures = [
        (Reply::raw("").closing(), 502, "upstream_broken", "broke before it answered"),
        (Reply::raw("nothing of the kind\r\n\r\n").closing(), 502, "upstream_malformed", "not valid HTTP"),
        (Reply::raw("").holding(), 504, "response_timeout", "did not answer within"),
    ];
    for (reply, status, kind, words) in failures {
        let api = Origin::start(move |request, _| {
            if request.target() == "/well" { Reply::new(503, &[], "busy") } else { reply.clone() }
        })
        .await;
        let server = Origin::issuing(300).await;
        let upstream = upstream_at(&api.url()) + "response_header_timeout = \"500ms\"\n";
        let config = Config::one_route(&upstream, &token_at(&server.url())).server("workers = 3");
        let proxy = Proxy::start(config).await;
        let lines = |words: &str, level: &str| {
            let log = proxy.log();
            log.lines().filter(|line| line.contains(words) && line.contains(level)).count()
        };
        assert_eq!(proxy.get("/well").await.status, 503);
        for _ in 0..6 {
            let answer = proxy.get("/ill").await;
            answer.assert_proxy_error(status);
            assert_eq!(answer.proxy_error(), Some(kind), "{answer:?}");
        }
        assert_eq!(lines(words, "WARN"), 1, "{}", proxy.log());
        assert_eq!(lines("the upstream answers again", ""), 0);
        // Its own errors are answers, too. What goes back and forth is told of once a minute.
        for _ in 0..3 {
            assert_eq!(proxy.get("/well").await.status, 503);
            proxy.get("/ill").await.assert_proxy_error(status);
        }
        assert_eq!((lines(words, "WARN"), lines("the upstream answers again", "INFO")), (1, 1));
        assert_eq!(lines(kind, "WARN"), 1, "the line says what metrics and answers call it");
    }
}
