//! Requests that are not what they should be: refused, closed, and never forwarded.

use std::time::Duration;

use futures_util::future::join_all;

use cupbearer_testing::Stage;

/// Heads that are wrong by themselves, each with what is wrong. `{host}` is the right one.
const HEADS: [(&str, &str); 33] = [
    ("no Host", "GET / HTTP/1.1\r\n\r\n"),
    ("two Hosts", "GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"),
    ("two Hosts that differ", "GET / HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n"),
    ("a list of hosts", "GET / HTTP/1.1\r\nHost: {host}, evil.example\r\n\r\n"),
    (
        "both framings",
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "both framings, turned",
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths",
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    ),
    ("a list of lengths", "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5, 6\r\n\r\nhello!"),
    ("a length with a plus", "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: +5\r\n\r\nhello"),
    ("a negative length", "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\nhello"),
    ("a length in words", "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: five\r\n\r\nhello"),
    ("a length in hexadecimal", "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x5\r\n\r\nhello"),
    (
        "a length beyond 64 bits",
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
    ),
    ("an unknown coding", "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a coding that does not end", "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip\r\n\r\nhello"),
    (
        "chunked is not the last",
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a vertical tab before chunked",
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("bare LF as line ends", "GET / HTTP/1.1\nHost: {host}\n\n"),
    ("one bare LF", "GET / HTTP/1.1\r\nHost: {host}\nX-A: 1\r\n\r\n"),
    ("a bare CR in a value", "GET / HTTP/1.1\r\nHost: {host}\r\nX-A: 1\rX-B: 2\r\n\r\n"),
    ("a space before the first field", "GET / HTTP/1.1\r\n Host: {host}\r\n\r\n"),
    ("a space before the colon", "GET / HTTP/1.1\r\nHost: {host}\r\nX-A : 1\r\n\r\n"),
    (
        "a space before Content-Length's colon",
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length : 5\r\n\r\nhello",
    ),
    ("a folded line", "GET / HTTP/1.1\r\nHost: {host}\r\nX-A: 1\r\n 2\r\n\r\n"),
    ("a folded line with a tab", "GET / HTTP/1.1\r\nHost: {host}\r\nX-A: 1\r\n\t2\r\n\r\n"),
    ("a NUL in a value", "GET / HTTP/1.1\r\nHost: {host}\r\nX-A: 1\x002\r\n\r\n"),
    ("a field without a name", "GET / HTTP/1.1\r\nHost: {host}\r\n: 1\r\n\r\n"),
    ("a line without a colon", "GET / HTTP/1.1\r\nHost: {host}\r\nnonsense\r\n\r\n"),
    ("an asterisk for a GET", "GET * HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ("a version to come", "GET / HTTP/3.7\r\nHost: {host}\r\n\r\n"),
];

/// Chunked bodies that are wrong: found out only after the head has been judged good.
const CHUNKS: [(&str, &str); 13] = [
    ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("a size with a plus", "+5\r\nhello\r\n0\r\n\r\n"),
    ("a size with a space after", "5 \r\nhello\r\n0\r\n\r\n"),
    ("a size with a space before", " 5\r\nhello\r\n0\r\n\r\n"),
    ("an empty extension", "5;\r\nhello\r\n0\r\n\r\n"),
    ("no size", "\r\nhello\r\n0\r\n\r\n"),
    ("a size beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("a size line that ends in LF", "5\nhello\r\n0\r\n\r\n"),
    ("a chunk that does not end", "5\r\nhello0\r\n\r\n"),
    ("a chunk longer than it says", "5\r\nhello!!\r\n0\r\n\r\n"),
    ("a last chunk with an empty extension", "5\r\nhello\r\n0;\r\n\r\n"),
    ("a last chunk whose line ends in LF", "5\r\nhello\r\n0;x\n\r\n"),
    ("a last chunk with a nameless extension", "5\r\nhello\r\n0;=\r\n\r\n"),
];

/// What a client may send behind it: it must never be run.
const SECOND: &str = "GET /second HTTP/1.1\r\nHost: {host}\r\n\r\n";

/// Sends `request` and another behind it: what came back, and whether the connection ended.
async fn sent_with_another_behind(stage: &Stage, request: &str) -> (u16, bool) {
    let mut wire = stage.proxy.wire().await;
    wire.send((request.to_owned() + SECOND).replace("{host}", &stage.proxy.listen().to_string())).await;
    let method = request.split(' ').next().unwrap_or_default();
    (wire.status(method).await, wire.closes(Duration::from_secs(5)).await)
}

#[tokio::test]
async fn a_malformed_head_is_a_400_and_the_end_of_the_connection() {
    let stage = Stage::plain().await;
    let mut wrong = Vec::new();
    let outcomes = join_all(HEADS.map(|(_, head)| sent_with_another_behind(&stage, head))).await;
    for ((what, _), (status, closed)) in HEADS.iter().zip(outcomes) {
        let expected: &[u16] = match *what {
            "a version to come" => &[400, 505],
            what if what.contains("coding") || what.contains("hunked") => &[400, 501],
            _ => &[400],
        };
        if !expected.contains(&status) {
            wrong.push(format!("{what}: {status} instead of {expected:?}"));
        }
        if !closed {
            wrong.push(format!("{what}: the connection stays open"));
        }
    }
    for request in stage.api.seen() {
        wrong.push(format!("forwarded: {:?}", String::from_utf8_lossy(&request.head)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn each_malformed_head_is_refused_by_a_sentence_of_its_own() {
    let stage = Stage::plain().await;
    for (what, head) in HEADS {
        let words = match what {
            "no Host" | "two Hosts" | "two Hosts that differ" | "a list of hosts" => "exactly one valid Host",
            what if what.starts_with("both framings") => "both Content-Length and Transfer-Encoding",
            "two lengths" => "two Content-Length values",
            "a length beyond 64 bits" => "larger than any body",
            what if what.contains("length") => "Content-Length is not a number",
            "chunked in HTTP/1.0" => "is HTTP/1.0 and has Transfer-Encoding",
            what if what.contains("coding") || what.contains("hunked") => {
                "Transfer-Encoding is not chunked, once"
            }
            what if what.contains("bare LF") => "ends in LF without CR",
            "a bare CR in a value" => "a CR that is not its end",
            what if what.contains("colon") && !what.contains("without") => "a space before its colon",
            "a space before the first field" => "lines are not folded",
            what if what.starts_with("a folded line") => "lines are not folded",
            "a NUL in a value" => "a NUL",
            "a field without a name" => "a header field has an invalid name",
            "a line without a colon" => "a header field has no colon",
            "an asterisk for a GET" => "a form that this method does not take",
            "a space in the target" => "the request's target has a space",
            "a version to come" => "neither HTTP/1.1 nor HTTP/1.0",
            other => panic!("{other} has no sentence here"),
        };
        let answer = stage.proxy.exchange(head).await.unwrap();
        assert!(answer.text().contains(words), "{what}: {words}: {}", answer.text());
    }
    // In pieces, and behind another request.
    let mut wire = stage.proxy.wire().await;
    let host = stage.proxy.listen().to_string();
    wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(wire.response("GET").await.unwrap().status(), 200);
    for piece in ["GET / HTTP/1.1\r\nHo", "st: x\r\nX-A", " : 1\r\n\r\n"] {
        wire.send(piece).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = wire.response("GET").await.unwrap();
    assert!(answer.text().contains("a space before its colon"), "{}", answer.text());
}

#[tokio::test]
async fn even_what_is_no_http_is_refused_in_the_proxys_own_words() {
    let stage = Stage::plain().await;
    let host = stage.proxy.listen();
    let large = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{}\r\n", "X: 1\r\n".repeat(150));
    let long = format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "x".repeat(70_000));
    let bare = format!("GET / HTTP/1.1\nHost: {host}\n\n");
    for (request, status, kind) in [
        ("nonsense\r\n\r\n", 400, "bad_request"),
        (&bare, 400, "bad_request"),
        (&large, 431, "header_too_large"),
        (&many, 431, "header_too_large"),
        (&long, 431, "header_too_large"),
    ] {
        let mut wire = stage.proxy.wire().await;
        // The answer may come while the rest is still being sent.
        let _ = wire.try_send(request.as_bytes(), Duration::from_secs(5)).await;
        let answer = wire.response("GET").await.unwrap();
        let start = &request[..request.len().min(20)];
        assert_eq!(answer.status(), status, "{start:?}");
        assert_eq!(answer.field("cupbearer-error").as_deref(), Some(kind), "{start:?}");
        assert!(answer.text().contains(kind), "{start:?}: {}", answer.text());
        assert!(wire.closes(Duration::from_secs(5)).await, "{start:?}");
    }
    let counted = stage.proxy.metric("cupbearer_proxy_errors_total", &["kind=\"header_too_large\""]).await;
    assert!((counted - 3.0).abs() < 0.1, "{counted}");
    assert_eq!(stage.api.connections(), 0);
}

#[tokio::test]
async fn a_malformed_chunk_is_never_forwarded_as_a_whole_request() {
    let stage = Stage::plain().await;
    let mut wrong = Vec::new();
    let requests = CHUNKS.map(|(_, body)| {
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + body
    });
    let outcomes = join_all(requests.iter().map(|request| sent_with_another_behind(&stage, request))).await;
    for ((what, _), (status, closed)) in CHUNKS.iter().zip(outcomes) {
        // 0: the connection ended without an answer, which is as clear.
        if ![400, 0].contains(&status) {
            wrong.push(format!("{what}: {status}"));
        }
        if !closed {
            wrong.push(format!("{what}: the connection stays open"));
        }
    }
    for request in stage.api.seen() {
        wrong.push(format!("forwarded: {:?} {:?}", String::from_utf8_lossy(&request.head), request.text()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn each_malformed_body_is_refused_by_a_sentence_of_its_own() {
    // It reads each body to its end before it responds.
    let stage = Stage::plain().await;
    let long = format!("5;x={}\r\nhello\r\n0\r\n\r\n", "y".repeat(20_000));
    let others = [
        ("a trailer without a colon", "5\r\nhello\r\n0\r\nnonsense\r\n\r\n"),
        ("a trailer with a space before its colon", "5\r\nhello\r\n0\r\nX : 1\r\n\r\n"),
        ("a folded trailer", "5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n"),
        ("an extension that is too long", long.as_str()),
    ];
    for (what, body) in CHUNKS.into_iter().chain(others) {
        let words = match what {
            "a size with 0x" | "a size with a space after" => "followed by something that is no extension",
            what if what.contains("ends in LF") => "ends in LF without CR",
            "a size beyond 64 bits" => "the size of a chunk is larger than any body",
            what if what.starts_with("a size") || what == "no size" => "is not a hexadecimal number",
            what if what.contains("empty extension") || what.contains("nameless") => "extension has no name",
            what if what.starts_with("a chunk") => "does not end where its size says",
            "a trailer without a colon" => "a trailer field has no colon",
            "a trailer with a space before its colon" => "a space before its colon",
            "a folded trailer" => "lines are not folded",
            "an extension that is too long" => "the extensions of its chunks are too large",
            other => panic!("{other} has no sentence here"),
        };
        let head = "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = stage.proxy.exchange(&(head.to_owned() + body)).await.unwrap();
        assert_eq!(answer.status(), 400, "{what}");
        let detail = "the request's body is not valid HTTP: ";
        assert!(answer.text().contains(detail) && answer.text().contains(words), "{what}: {}", answer.text());
    }
    assert!(stage.api.seen().is_empty(), "none came whole");
}

/// It is read as a host's name, which only CONNECT takes (RFC 9112 section 3.2.3).
#[tokio::test]
async fn a_target_that_is_no_path_is_refused() {
    let stage = Stage::plain().await;
    for (target, status) in [("orders", 400), ("{host}", 400), ("evil.example:80", 400)] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\n\r\n");
        assert_eq!(stage.proxy.exchange(&request).await.unwrap().status(), status, "{target}");
    }
    assert!(stage.api.seen().is_empty());
}

#[tokio::test]
async fn a_malformed_request_leaves_the_next_connection_in_peace() {
    let stage = Stage::plain().await;
    for _ in 0..20 {
        let mut wire = stage.proxy.wire().await;
        wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client on the wrong port").await;
        wire.finish().await;
        wire.closes(Duration::from_secs(5)).await;
        assert_eq!(stage.proxy.get("/").await.status, 200);
    }
    assert!(!stage.proxy.log().contains("panicked"), "{}", stage.proxy.log());
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused() {
    let stage = Stage::plain().await;
    let host = stage.proxy.listen().to_string();
    let long = "a".repeat(256 * 1024);
    let many = "X-A: 1\r\n".repeat(2000);
    for (what, head) in [
        ("a request line", format!("GET /{long} HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        ("a field", format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-A: {long}\r\n\r\n")),
        ("many fields", format!("GET / HTTP/1.1\r\nHost: {host}\r\n{many}\r\n")),
    ] {
        let mut wire = stage.proxy.wire().await;
        wire.send(head).await;
        let status = wire.status("GET").await;
        // The proxy reads on while this client still writes, so that no reset destroys the response.
        assert!([414, 431].contains(&status), "{what}: {status}");
        assert!(wire.closes(Duration::from_secs(5)).await, "{what}");
    }
    assert!(stage.api.seen().is_empty());
    assert_eq!(stage.proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn an_equal_length_twice_is_one_length_or_a_400() {
    let stage = Stage::plain().await;
    let request = "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello";
    let mut wire = stage.proxy.wire().await;
    wire.send(request.replace("{host}", &stage.proxy.listen().to_string())).await;
    let status = wire.status("POST").await;
    assert!([200, 400].contains(&status), "{status}");
    for request in stage.api.seen() {
        assert_eq!((request.all("content-length").len(), request.text().as_str()), (1, "hello"));
    }
}

#[tokio::test]
async fn http_1_0_is_served_and_closed() {
    let stage = Stage::plain().await;
    let mut wire = stage.proxy.wire().await;
    wire.send(format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", stage.proxy.listen())).await;
    let answer = wire.response("GET").await.unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert!(wire.closes(Duration::from_secs(5)).await);
}
