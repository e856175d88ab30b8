//! HTTP/2 APIs with limits and faults of their own: few streams, GOAWAY, large heads, responses that break off.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use cupbearer_testing::{
    Config, FrameServer, GrpcApi, Nginx, Origin, Proxy, Reaction, curl, eventually, fields,
    frames::{
        DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, WINDOW_UPDATE, frame, headers,
    },
    h2load, token_at, upstream_at,
};

async fn before(upstream: &str, end: &str) -> (Origin, Proxy) {
    let server = Origin::issuing(300).await;
    // One worker: its connections are not shared with others.
    let config = Config::one_route(upstream, &token_at(&server.url())).server("workers = 1").and(end);
    (server, Proxy::start(config).await)
}

async fn before_nginx(lines: &str) -> (Nginx, Origin, Proxy) {
    let api = Nginx::with(lines).await;
    let (server, proxy) = before(&(upstream_at(&api.h2c_url()) + "http2 = \"prior_knowledge\"\n"), "").await;
    (api, server, proxy)
}

#[tokio::test]
async fn another_connection_is_opened_where_the_streams_of_one_are_taken() {
    let (api, _server, proxy) = before_nginx("http2_max_concurrent_streams 10;").await;
    api.add_file("large", 1 << 20);
    let slow = (0..10).map(|_| {
        let url = proxy.url("/slow/large");
        tokio::spawn(async move { curl(&[&url]).await })
    });
    let slow: Vec<_> = slow.collect();
    eventually("ten downloads are under way", || async {
        proxy.metric("cupbearer_requests_in_flight", &[]).await > 9.5
    })
    .await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.exit, answer.status), (0, 200), "{answer:?}");
    assert!(slow.iter().all(|download| !download.is_finished()), "they are still under way");
    for download in slow {
        download.abort();
    }
}

#[tokio::test]
async fn a_burst_on_a_new_connection_keeps_to_a_limit_that_is_told_with_the_first_response() {
    let (_api, _server, proxy) = before_nginx("http2_max_concurrent_streams 10;").await;
    h2load(&["-n2000", "-c4", "-m50", &proxy.url("/")]).await.assert_flawless(2000);
}

/// A whole response without a body.
fn ok(stream: u32) -> Vec<u8> {
    headers(stream, END_STREAM, &fields(&[(":status", "200")]))
}

#[tokio::test]
async fn a_stream_that_is_refused_is_sent_again_on_another_connection() {
    let api = FrameServer::start(&[], |connection, (): &mut (), frame: &Frame| {
        match frame.kind {
            HEADERS if connection == 0 && frame.stream > 1 => {
                self::frame(RST_STREAM, 0, frame.stream, &7_u32.to_be_bytes())
            }
            HEADERS => ok(frame.stream),
            _ => Vec::new(),
        }
        .into()
    })
    .await;
    let (_server, proxy) = before(&api.upstream(), "").await;
    for method in ["GET", "POST", "PATCH"] {
        let answer = curl(&["--request", method, "--data", "x=1", &proxy.url("/")]).await;
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
    }
    assert!(api.connections() >= 2);
}

/// Of a connection of an API that goes away now and then: what it has begun with, and what it looks at no more.
#[derive(Debug, Default)]
struct Going {
    live: BTreeSet<u32>,
    last: u32,
    /// It has said that it goes.
    gone: bool,
}

/// An API that goes away with each `nth` request, as kube-apiserver does with `--goaway-chance`: it finishes what it has
/// begun with, and looks at nothing that came later.
async fn going_away(nth: usize) -> (FrameServer, Arc<AtomicUsize>) {
    let (seen, served) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&served);
    let api = FrameServer::start(&[], move |_, going: &mut Going, frame: &Frame| {
        let goaway = |last: u32| self::frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
        let mut reaction = Reaction::default();
        match frame.kind {
            HEADERS if going.gone => {}
            HEADERS => {
                if seen.fetch_add(1, Ordering::SeqCst) % nth == nth - 1 {
                    // This one was not looked at.
                    going.gone = true;
                    reaction.bytes = goaway(going.last);
                    reaction.closes = going.live.is_empty();
                } else {
                    going.last = frame.stream;
                    going.live.insert(frame.stream);
                }
            }
            DATA if !frame.payload.is_empty() => {
                let size = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
                reaction.bytes = self::frame(WINDOW_UPDATE, 0, 0, &size);
                if going.live.contains(&frame.stream) {
                    reaction.bytes.extend(self::frame(WINDOW_UPDATE, 0, frame.stream, &size));
                }
            }
            RST_STREAM => {
                going.live.remove(&frame.stream);
            }
            _ => {}
        }
        if matches!(frame.kind, HEADERS | DATA)
            && frame.flags & END_STREAM != 0
            && going.live.remove(&frame.stream)
        {
            count.fetch_add(1, Ordering::SeqCst);
            reaction.bytes.extend(ok(frame.stream));
        }
        reaction.closes |= going.gone && going.live.is_empty();
        reaction
    })
    .await;
    (api, served)
}

#[tokio::test]
async fn uploads_that_an_api_which_goes_away_did_not_look_at_are_sent_again() {
    let (api, served) = going_away(20).await;
    let (_server, proxy) = before(&api.upstream(), "").await;
    let dir = tempfile::tempdir().unwrap();
    let body = dir.path().join("upload");
    std::fs::write(&body, vec![b'x'; 200 * 1024]).unwrap();
    let load = h2load(&["--h1", "-n1000", "-c8", "-d", body.to_str().unwrap(), &proxy.url("/")]).await;
    load.assert_flawless(1000);
    assert_eq!(served.load(Ordering::SeqCst), 1000, "none was processed twice");
    assert!(api.connections() > 30, "{} connections", api.connections());
}

#[tokio::test]
async fn hundreds_that_wait_for_one_connection_outlive_all_that_go_away() {
    let (api, served) = going_away(10).await;
    let lines = "max_connections = 1\nconnect_timeout = \"60s\"\n";
    let (_server, proxy) = before(&(api.upstream() + lines), "").await;
    h2load(&["-n2000", "-c10", "-m30", &proxy.url("/")]).await.assert_flawless(2000);
    assert_eq!(served.load(Ordering::SeqCst), 2000, "none was processed twice");
    assert!(api.connections() > 100, "{} connections", api.connections());
}

#[tokio::test]
async fn nginx_that_closes_each_connection_after_some_requests_costs_none() {
    let api = Nginx::with("keepalive_requests 50;").await;
    let lines = "http2 = \"prior_knowledge\"\nmax_connections = 2\nconnect_timeout = \"60s\"\n";
    let (_server, proxy) = before(&(upstream_at(&api.h2c_url()) + lines), "").await;
    h2load(&["-n5000", "-c20", "-m20", &proxy.url("/")]).await.assert_flawless(5000);
}

#[tokio::test]
async fn an_api_that_processes_nothing_gets_a_bounded_number_of_attempts() {
    let api = FrameServer::start(&[], |_, (): &mut (), frame: &Frame| {
        let mut reaction = Reaction::default();
        if frame.kind == HEADERS {
            reaction.bytes = self::frame(GOAWAY, 0, 0, &[0; 8]);
            reaction.closes = true;
        }
        reaction
    })
    .await;
    let (_server, proxy) = before(&(api.upstream() + "connect_timeout = \"1s\"\n"), "").await;
    let answer = proxy.get("/").await;
    answer.assert_proxy_error(503);
    assert_eq!(answer.proxy_error(), Some("not_processed"), "{answer:?}");
    assert!((5..30).contains(&api.connections()), "{} connections", api.connections());
}

#[tokio::test]
async fn what_was_not_processed_and_cannot_be_sent_again_is_a_503_that_says_so() {
    // Room for a megabyte before the API takes anything.
    let api = FrameServer::start(&[(4, 1 << 20)], |_, received: &mut usize, frame: &Frame| {
        *received += frame.payload.len();
        let mut reaction = Reaction::default();
        if frame.kind == HEADERS {
            reaction.bytes = self::frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes());
        }
        if *received > 700 * 1024 {
            reaction.bytes = self::frame(GOAWAY, 0, 0, &[0; 8]);
            reaction.closes = true;
        }
        reaction
    })
    .await;
    let (_server, proxy) = before(&api.upstream(), "").await;
    let dir = tempfile::tempdir().unwrap();
    let body = dir.path().join("upload");
    std::fs::write(&body, vec![b'x'; 900 * 1024]).unwrap();
    let answer = curl(&["--data-binary", &format!("@{}", body.display()), &proxy.url("/")]).await;
    answer.assert_proxy_error(503);
    assert_eq!(answer.proxy_error(), Some("not_processed"), "{answer:?}");
    assert!(answer.field("retry-after").is_some(), "{answer:?}");
}

#[tokio::test]
async fn a_head_that_is_too_large_for_the_api_costs_no_other_request() {
    // nginx as it comes takes heads of 32 KiB, and ends the connection for a larger one.
    let (_api, _server, proxy) = before_nginx("").await;
    let large = format!("x-large: {}", "a".repeat(60_000));
    for round in 0..3 {
        let url = proxy.url("/");
        let arguments = ["--header", &large, &url];
        let others = join_all((0..6).map(|_| proxy.get("/")));
        let (refused, others) = tokio::join!(curl(&arguments), others);
        for other in others {
            assert_eq!(other.status, 200, "round {round}: {other:?}");
        }
        assert!(refused.status >= 400, "round {round}: {refused:?}");
        if refused.proxy_error().is_some() {
            assert!(refused.text().contains("the request's head has 60"), "{refused:?}");
        }
    }
}

/// Responses by the order of their requests on one connection, the first of which is kept open until the last.
fn heads(connection: usize, (): &mut (), frame: &Frame) -> Reaction {
    if frame.kind != HEADERS {
        return Reaction::default();
    }
    let padded = |size: usize| {
        let large = "a".repeat(size);
        headers(frame.stream, END_STREAM, &fields(&[(":status", "200"), ("x-large", &large)]))
    };
    let many: Vec<(String, String)> = (0..300).map(|at| (format!("x-{at}"), String::new())).collect();
    match (connection, frame.stream) {
        (0, 1) => headers(1, 0, &fields(&[(":status", "200")])),
        (0, 3) => padded(20 * 1024),
        (0, 5) => padded(70 * 1024),
        (0, 7) => {
            let mut all = fields(&[(":status", "200")]);
            all.extend(many.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())));
            headers(7, END_STREAM, &all)
        }
        (0, 9) => padded(200 * 1024),
        (0, 11) => {
            let trailers = fields(&[("x-sum", &"a".repeat(70 * 1024))]);
            let start = headers(11, 0, &fields(&[(":status", "200")]));
            [start, self::frame(DATA, 0, 11, b"data"), headers(11, END_STREAM, &trailers)].concat()
        }
        (_, stream) => [ok(stream), self::frame(DATA, END_STREAM, 1, b"the end")].concat(),
    }
    .into()
}

#[tokio::test]
async fn a_response_s_head_has_one_limit_and_one_that_is_over_it_costs_no_other_request() {
    let api = FrameServer::start(&[], heads).await;
    let (_server, proxy) = before(&api.upstream(), "").await;
    let url = proxy.url("/");
    let neighbour = tokio::spawn(async move { curl(&[&url]).await });
    eventually("the neighbour is under way", || async { api.connections() == 1 }).await;
    eventually("it has its head", || async {
        proxy.metric("cupbearer_requests_total", &["code=\"200\""]).await > 0.5
    })
    .await;
    let large = proxy.get("/").await;
    assert_eq!((large.status, large.field("x-large").map(str::len)), (200, Some(20 * 1024)));
    for what in ["70 KiB", "300 fields", "200 KiB", "70 KiB of trailers"] {
        let refused = proxy.get("/").await;
        refused.assert_proxy_error(502);
        if what == "200 KiB" {
            continue;
        }
        assert_eq!(refused.proxy_error(), Some("response_head_too_large"), "{what}: {refused:?}");
        assert!(refused.text().contains("max_response_header_size (65536 bytes)"), "{what}: {refused:?}");
    }
    assert_eq!(proxy.get("/").await.status, 200);
    let neighbour = neighbour.await.unwrap();
    assert_eq!((neighbour.exit, neighbour.text().as_str()), (0, "the end"), "{neighbour:?}");
    assert_eq!(api.connections(), 1, "the connection lives");
}

#[tokio::test]
async fn the_limit_of_a_response_s_head_is_a_key_in_either_protocol() {
    let api = FrameServer::start(&[], heads).await;
    let size = "max_response_header_size = \"300KiB\"\n";
    let (_server, proxy) = before(&(api.upstream() + size), "").await;
    let url = proxy.url("/");
    let first = tokio::spawn(async move { curl(&[&url]).await });
    eventually("the first has its head", || async {
        proxy.metric("cupbearer_requests_total", &["code=\"200\""]).await > 0.5
    })
    .await;
    for size in [20 * 1024, 70 * 1024] {
        assert_eq!(proxy.get("/").await.field("x-large").map(str::len), Some(size));
    }
    first.abort();

    let large =
        Origin::start(|_, _| cupbearer_testing::Reply::new(200, &[("x-large", &"a".repeat(70 * 1024))], ""))
            .await;
    let (_server, proxy) = before(&upstream_at(&large.url()), "").await;
    let refused = proxy.get("/").await;
    assert_eq!(refused.proxy_error(), Some("response_head_too_large"), "{refused:?}");
    let (_server, proxy) =
        before(&(upstream_at(&large.url()) + "max_response_header_size = \"128KiB\"\n"), "").await;
    assert_eq!(proxy.get("/").await.field("x-large").map(str::len), Some(70 * 1024));
}

#[tokio::test]
async fn a_grpc_error_with_12_kib_of_details_keeps_its_status() {
    let api = GrpcApi::start().await;
    let (_server, proxy) = before(&api.upstream(), "").await;
    api.call(&proxy, &["large_status"]).await;
}

#[tokio::test]
async fn a_response_that_breaks_off_right_behind_its_head_is_a_502_with_a_reason() {
    let api = FrameServer::start(&[], |_, requests: &mut u32, frame: &Frame| {
        if frame.kind != HEADERS {
            return Reaction::default();
        }
        let stream = frame.stream;
        *requests += 1;
        let head =
            |more: &[(&str, &str)]| headers(stream, 0, &fields(&[&[(":status", "200")], more].concat()));
        let length = head(&[("content-length", "100")]);
        let bad = headers(stream, END_STREAM, &fields(&[("connection", "close")]));
        match *requests {
            1 => [length, self::frame(DATA, END_STREAM, stream, b"short")].concat().into(),
            2 => [head(&[]), self::frame(DATA, 0, stream, b"data"), bad].concat().into(),
            3 => [head(&[]), self::frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes())].concat().into(),
            // Pseudo-header fields are none of trailers, in whatever form they come.
            4 => [head(&[]), headers(stream, END_STREAM, &fields(&[(":status", "200")]))].concat().into(),
            5 => [
                head(&[]),
                self::frame(DATA, 0, stream, b"data"),
                headers(stream, END_STREAM, &fields(&[("x-sum", "1"), (":path", "/")])),
            ]
            .concat()
            .into(),
            6 => [
                head(&[]),
                self::frame(DATA, 0, stream, b"data"),
                self::frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88]),
            ]
            .concat()
            .into(),
            // Once it has begun to go on, it is cut.
            7 => Reaction {
                bytes: [length, self::frame(DATA, 0, stream, b"short")].concat(),
                later: self::frame(DATA, END_STREAM, stream, b"and no more"),
                closes: false,
            },
            _ => ok(stream).into(),
        }
    })
    .await;
    let (_server, proxy) = before(&api.upstream(), "").await;
    for (what, kind) in [
        ("a wrong length", "upstream_malformed"),
        ("bad trailers", "upstream_malformed"),
        ("a reset", "upstream_broken"),
        ("a status in trailers", "upstream_malformed"),
        ("a path in trailers", "upstream_malformed"),
        ("a status in trailers, by its index", "upstream_malformed"),
    ] {
        let answer = curl(&["--http1.1", &proxy.url("/")]).await;
        answer.assert_proxy_error(502);
        assert_eq!(answer.proxy_error(), Some(kind), "{what}: {answer:?}");
        assert!(answer.text().contains("broke off its response behind the head"), "{what}: {answer:?}");
    }
    let cut = curl(&["--http1.1", &proxy.url("/")]).await;
    assert_eq!((cut.exit, cut.status, cut.text().as_str()), (18, 200, "short"), "{cut:?}");
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(api.connections(), 1, "the connection lives");
}

/// RFC 9113 section 8.1.1: its length is that of what another response would have.
#[tokio::test]
async fn a_304_may_name_a_length_and_end_in_a_frame_of_its_own() {
    let api = FrameServer::start(&[], |_, requests: &mut u32, frame: &Frame| {
        if frame.kind != HEADERS {
            return Reaction::default();
        }
        let stream = frame.stream;
        *requests += 1;
        let head = |flags| headers(stream, flags, &fields(&[(":status", "304"), ("content-length", "77")]));
        let end = self::frame(DATA, END_STREAM, stream, b"");
        match *requests % 3 {
            0 => head(END_STREAM).into(),
            1 => [head(0), end].concat().into(),
            _ => Reaction { bytes: head(0), later: end, closes: false },
        }
    })
    .await;
    let (_server, proxy) = before(&api.upstream(), "").await;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for _ in 0..3 {
            let answer = curl(&[version, &proxy.url("/")]).await;
            assert_eq!((answer.exit, answer.status), (0, 304), "{version} {answer:?}");
            assert_eq!(answer.field("content-length"), Some("77"), "{version} {answer:?}");
            assert!(answer.body.is_empty(), "{version} {answer:?}");
        }
    }
    assert!(proxy.metric("cupbearer_aborted_total", &["cause=\"upstream\""]).await < 0.5);
}

#[tokio::test]
async fn a_malformed_response_is_named_and_costs_its_neighbours_on_the_connection_nothing() {
    type Fields = &'static [(&'static str, &'static str)];
    const FAULTS: [(Fields, &str); 8] = [
        (&[(":status", "200"), ("x-note", "a\u{1}b")], "the value of a header field has a control character"),
        (&[(":status", "200"), ("X-Note", "ab")], "is not a token in lower case"),
        (&[(":status", "200"), (":path", "/")], "is not a token in lower case"),
        (&[(":status", "20x")], "its :status is not a number of three digits"),
        (&[("x-note", "1")], "it has no :status"),
        (&[(":status", "200"), ("connection", "close")], "a header field is about the connection"),
        (&[(":status", "200"), ("content-length", "+5")], "its Content-Length is not a number"),
        (
            &[(":status", "200"), ("content-length", "5"), ("content-length", "6")],
            "it has two Content-Length values",
        ),
    ];
    let heads = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&heads);
    // Every other request gets its response with the next one's, which is malformed.
    let api = FrameServer::start(&[], move |_, waits: &mut Option<u32>, frame: &Frame| {
        if frame.kind != HEADERS {
            return Reaction::default();
        }
        let nth = seen.fetch_add(1, Ordering::SeqCst);
        let Some(neighbour) = waits.take() else {
            *waits = Some(frame.stream);
            return Reaction::default();
        };
        let data = self::frame(DATA, END_STREAM, frame.stream, b"hello");
        let bytes = if let Some((fault, _)) = FAULTS.get(nth / 2) {
            [headers(frame.stream, 0, &fields(fault)), data].concat()
        } else {
            let head = headers(frame.stream, 0, &fields(&[(":status", "200")]));
            [head, headers(frame.stream, END_STREAM, &fields(&[("x-sum", "a\u{7f}b")]))].concat()
        };
        Reaction { bytes, later: ok(neighbour), closes: false }
    })
    .await;
    let (_server, proxy) = before(&api.upstream(), "").await;
    let trailers = (&[][..], "its body or its trailers are malformed");
    for (nth, (fault, words)) in FAULTS.into_iter().chain([trailers]).enumerate() {
        let url = proxy.url("/neighbour");
        let neighbour = tokio::spawn(async move { curl(&["--request", "POST", &url]).await });
        eventually("the neighbour waits", || async { heads.load(Ordering::SeqCst) == 2 * nth + 1 }).await;
        let answer = proxy.get("/").await;
        answer.assert_proxy_error(502);
        assert_eq!(answer.proxy_error(), Some("upstream_malformed"), "{fault:?} {answer:?}");
        assert!(answer.text().contains(words), "{fault:?} {answer:?}");
        assert_eq!(neighbour.await.unwrap().status, 200, "beside {fault:?}");
    }
    assert_eq!(api.connections(), 1);
}

/// Data on no stream is no HTTP/2, and ends the connection (RFC 9113 section 6.1).
#[tokio::test]
async fn what_a_broken_connection_had_no_response_to_is_sent_again_or_told_so() {
    for (method, status) in [("GET", 200), ("POST", 502)] {
        let heads = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&heads);
        let api = FrameServer::start(&[], move |connection, (): &mut (), frame: &Frame| {
            match frame.kind {
                HEADERS if connection > 0 => ok(frame.stream),
                HEADERS if seen.fetch_add(1, Ordering::SeqCst) == 1 => self::frame(DATA, 0, 0, b"x"),
                _ => Vec::new(),
            }
            .into()
        })
        .await;
        let (_server, proxy) = before(&api.upstream(), "").await;
        let url = proxy.url("/neighbour");
        let neighbour = tokio::spawn(async move { curl(&["--request", method, &url]).await });
        eventually("the neighbour waits", || async { heads.load(Ordering::SeqCst) == 1 }).await;
        assert_eq!(proxy.get("/").await.status, 200, "it is sent again");
        let answer = neighbour.await.unwrap();
        assert_eq!(answer.status, status, "{method}: {answer:?}");
        if status == 502 {
            assert_eq!(answer.proxy_error(), Some("upstream_broken"), "{answer:?}");
            assert!(answer.text().contains("ended before it responded to this request"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_reset_before_the_response_is_named_with_its_reason() {
    const REASONS: [(u32, &str); 6] = [
        (0xd, "HTTP_1_1_REQUIRED); set http2 = \\\"never\\\" for it"),
        (0xb, "ENHANCE_YOUR_CALM)"),
        (0xc, "INADEQUATE_SECURITY)"),
        (2, "INTERNAL_ERROR)"),
        (8, "CANCEL)"),
        (0x77, "unknown reason)"),
    ];
    let api = FrameServer::start(&[], |_, requests: &mut usize, frame: &Frame| {
        if frame.kind != HEADERS {
            return Reaction::default();
        }
        let reason = REASONS[*requests].0;
        *requests += 1;
        self::frame(RST_STREAM, 0, frame.stream, &reason.to_be_bytes()).into()
    })
    .await;
    let (_server, proxy) = before(&api.upstream(), "[log]\nformat = \"json\"\naccess = true").await;
    for (_, words) in REASONS {
        let answer = proxy.get("/").await;
        answer.assert_proxy_error(502);
        assert_eq!(answer.proxy_error(), Some("upstream_broken"), "{answer:?}");
        assert!(answer.text().contains(&format!("the upstream reset the request ({words}")), "{answer:?}");
        let reason = format!("\"reset\":\"{}\"", words.split(')').next().unwrap());
        eventually("the access log has it", || async { proxy.log().contains(&reason) }).await;
    }
}
