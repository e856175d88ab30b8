//! Request targets with characters that no URI has, and first bytes of other protocols: passed on, or refused by name.

use std::time::Duration;

use cupbearer_testing::{
    Certificates, Config, Message, Origin, Proxy, Reply, Stage, curl, eventually,
    frames::{self, END_HEADERS, END_STREAM, Frames, HEADERS, Outcome},
    python, run, token_at, upstream_at,
};

#[tokio::test]
async fn characters_that_no_uri_has_reach_the_api() {
    let stage = Stage::plain().await;
    let odd = [
        (r#"/api/v1/query?query=up{job="x"}"#, "/api/v1/query?query=up{job=%22x%22}"),
        ("/?q=<b>", "/?q=%3Cb%3E"),
        ("/a<b>c`d\"e", "/a%3Cb%3Ec%60d%22e"),
        ("/?a|b^c\\d`e'f[g]", "/?a|b^c\\d%60e'f[g]"),
        ("/?gr\u{f6}", "/?gr%C3%B6"),
    ];
    for (target, _) in odd {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let url = format!("{}{target}", stage.proxy.url(""));
            let answer = curl(&["--globoff", version, &url]).await;
            assert_eq!((answer.status, answer.proxy_error()), (200, None), "{version} {target}: {answer:?}");
        }
    }
    let reached: Vec<_> = stage.api.seen().iter().map(Message::target).collect();
    let expected: Vec<_> = odd.iter().flat_map(|(_, target)| [*target, *target]).collect();
    assert_eq!(reached, expected);

    // Bytes that are no text at all, and a target in pieces.
    let mut wire = stage.proxy.wire().await;
    for piece in [&b"GET /caf\xe9?a=\""[..], b"b\"<", b"\xff HTT", b"P/1.1\r\nHost: localhost\r\n\r\n"] {
        wire.send(piece).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(wire.response("GET").await.unwrap().status(), 200);
    assert_eq!(stage.api.seen().last().unwrap().target(), "/caf%E9?a=%22b%22%3C%FF");
}

#[tokio::test]
async fn what_is_judged_of_an_odd_target_is_what_is_sent() {
    let routes = "[[routes]]\npath = \"/gr%C3%B6\"\nupstream = \"api\"\ntoken = \"api\"\n";
    let stage = Stage::routed("", routes).await;
    let host = stage.proxy.listen().to_string();
    for (path, status) in [
        ("/gr\u{f6}/x", 200),
        ("/gr\u{f6}/\u{ff0e}\u{ff0e}/y", 400),
        ("/gr\u{f6}/<\"/../../y", 404),
        ("/gr\u{f6}/<\"/../x", 200),
        ("/other\u{ff0f}gr\u{f6}", 404),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {{host}}\r\n\r\n");
        assert_eq!(stage.proxy.exchange(&request).await.unwrap().status(), status, "{path}");
        let mut connection = Frames::connect(stage.proxy.listen(), &[]).await;
        connection.send(&frames::headers(1, END_STREAM, &frames::get(&host, path))).await;
        assert_eq!(connection.outcomes(&[1]).await, [Outcome::Status(status)], "{path} over HTTP/2");
    }
    let reached: Vec<_> = stage.api.seen().iter().map(Message::target).collect();
    assert_eq!(reached, ["/gr%C3%B6/x"; 4]);
}

#[tokio::test]
async fn a_character_that_is_refused_is_named() {
    let stage = Stage::plain().await;
    for (target, word) in [
        ("/a#b", "a fragment (#)"),
        ("/a b", "a space; percent-encode it as %20"),
        ("/a\tb", "the byte 0x09, a control character that no target has; leave it out"),
        ("/a?\x7f", "the byte 0x7F"),
        ("/a?\x01", "the byte 0x01"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\n\r\n");
        let answer = stage.proxy.exchange(&request).await.unwrap();
        assert_eq!(answer.status(), 400, "{target:?}");
        assert!(answer.text().contains(word), "{target:?}: {}", answer.text());
    }
    for (line, word) in [
        ("GET  /a HTTP/1.1", "begins or ends with a space, or has two in a row"),
        (" GET /a HTTP/1.1", "begins or ends with a space, or has two in a row"),
        ("GET /a HTTP/1.1 ", "begins or ends with a space, or has two in a row"),
        ("GET http://a@{host}/x HTTP/1.1", "names a user before its host"),
        ("TRACE / HTTP/1.1", "neither CONNECT nor TRACE is forwarded"),
        ("CONNECT {host} HTTP/1.1", "neither CONNECT nor TRACE is forwarded"),
    ] {
        let answer = stage.proxy.exchange(&format!("{line}\r\nHost: {{host}}\r\n\r\n")).await.unwrap();
        assert!(answer.text().contains(word), "{line:?}: {}", answer.text());
    }
    assert!(stage.api.seen().is_empty());
}

/// A head with the path in a literal that goes into the dynamic table.
fn indexed(stream: u32, host: &str, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x44, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend([0x01, host.len() as u8]);
    block.extend_from_slice(host.as_bytes());
    frames::frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

/// The status of a response, and its text.
async fn response(connection: &mut Frames, stream: u32) -> (Outcome, String) {
    let (mut body, mut status) = (Vec::new(), Outcome::Silence);
    while let Ok(frame) = connection.next().await {
        match frame.kind {
            HEADERS if frame.stream == stream => status = Outcome::Status(frames::status(&frame.payload)),
            frames::DATA if frame.stream == stream => body.extend_from_slice(&frame.payload),
            frames::GOAWAY => status = Outcome::Ended(None),
            _ => {}
        }
        let is_reset = frame.kind == frames::RST_STREAM && frame.stream == stream;
        let is_last = matches!(frame.kind, HEADERS | frames::DATA) && frame.flags & END_STREAM != 0;
        if is_reset || is_last || matches!(status, Outcome::Ended(_)) {
            break;
        }
    }
    (status, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn over_http_2_a_target_is_encoded_or_refused_whatever_becomes_of_its_field() {
    let stage = Stage::plain().await;
    let host = stage.proxy.listen().to_string();
    let mut connection = Frames::connect(stage.proxy.listen(), &[]).await;
    let mut stream = 1;
    for round in 0..300_u32 {
        let (bytes, status) = match round % 3 {
            0 => (frames::headers(stream, END_STREAM, &frames::get(&host, "/a#fragment")), 400),
            // As Python's and Go's clients send it.
            1 => (indexed(stream, &host, &format!("/q?a=<{round}>")), 200),
            // The one before, by its index.
            _ => {
                let mut block = vec![0x82, 0x86, 0xbe, 0x01, host.len() as u8];
                block.extend_from_slice(host.as_bytes());
                (frames::frame(HEADERS, END_HEADERS | END_STREAM, stream, &block), 200)
            }
        };
        connection.send(&bytes).await;
        connection.send(&frames::frame(frames::WINDOW_UPDATE, 0, 0, &1000_u32.to_be_bytes())).await;
        assert_eq!(connection.outcomes(&[stream]).await, [Outcome::Status(status)], "round {round}");
        stream += 2;
    }
    let reached: Vec<_> = stage.api.seen().iter().map(Message::target).collect();
    let expected: Vec<_> = (0..100).flat_map(|nth| vec![format!("/q?a=%3C{}%3E", 3 * nth + 1); 2]).collect();
    assert_eq!(reached, expected, "no fragment was cut off in silence, and none has another's target");

    connection.send(&indexed(stream, &host, "/gr\u{f6}")).await;
    assert_eq!(connection.outcomes(&[stream]).await, [Outcome::Status(200)]);
    assert_eq!(stage.api.seen().last().unwrap().target(), "/gr%C3%B6");
    connection.send(&indexed(stream + 2, &host, "/q?a=<#>")).await;
    let (_, text) = response(&mut connection, stream + 2).await;
    assert!(text.contains("a fragment (#)"), "{text}");
}

#[tokio::test]
async fn over_http_2_a_malformed_head_gets_a_sentence_and_costs_no_connection() {
    let stage = Stage::plain().await;
    let host = stage.proxy.listen().to_string();
    let mut connection = Frames::connect(stage.proxy.listen(), &[]).await;
    let with = |name: &str, value: &str| {
        let mut fields = frames::get(&host, "/");
        fields.push((name.into(), value.into()));
        fields
    };
    let with_scheme = |value: &str| {
        let mut fields = frames::get(&host, "/");
        fields
            .iter_mut()
            .filter(|(name, _)| name == b":scheme")
            .for_each(|(_, scheme)| *scheme = value.into());
        fields
    };
    let cases = [
        (with_scheme("ht tp"), "its :scheme is not a valid scheme"),
        (with_scheme("1"), "its :scheme is not a valid scheme"),
        (frames::get(&host, "foo"), "does not begin with a slash"),
        (frames::get(&host, "/x#"), "a fragment (#)"),
        (frames::get("a b", "/"), "its :authority is not a valid host"),
        (frames::get("a@localhost", "/"), "names a user before its host"),
        (with("content-length", "+3"), "its Content-Length is not a number"),
        (with("X-Upper", "1"), "not a token in lower case"),
        (with("x y", "1"), "not a token in lower case"),
        (with("connection", "close"), "about the connection"),
        (with("transfer-encoding", "chunked"), "about the connection"),
        (with("host", "elsewhere.example"), "different hosts"),
        (frames::get(&host, ""), "its :path is empty"),
        (with("x-field", "a\r\nX-Injected: 1"), "has a control character"),
        (with("x-field", "\0"), "has a control character"),
        (with("cookie", "a=\x7f"), "has a control character"),
        (with(":nobody", "1"), "not a token in lower case"),
    ];
    let mut stream = 1;
    for round in 0..30 {
        for (fields, words) in &cases {
            connection.send(&frames::headers(stream, END_STREAM, fields)).await;
            connection.send(&frames::frame(frames::WINDOW_UPDATE, 0, 0, &2000_u32.to_be_bytes())).await;
            let (status, text) = response(&mut connection, stream).await;
            // Some are stream errors all the same (RFC 9113 section 8.1.1): a reset follows.
            assert_eq!(status, Outcome::Status(400), "round {round}: {words}");
            assert!(text.contains(words), "{words}: {text}");
            stream += 2;
        }
    }
    connection.send(&frames::headers(stream, END_STREAM, &frames::get(&host, "/good"))).await;
    assert_eq!(connection.outcomes(&[stream]).await, [Outcome::Status(200)]);
    assert_eq!(stage.api.only().target(), "/good");
}

/// `~` is a character of field names, and of no mark that stands for a fault of another head.
#[tokio::test]
async fn a_field_name_with_a_tilde_passes_on_a_connection_with_a_malformed_head() {
    let stage = Stage::plain().await;
    let host = stage.proxy.listen().to_string();
    let mut connection = Frames::connect(stage.proxy.listen(), &[]).await;
    let with = |name: &str, value: &[u8]| {
        let mut fields = frames::get(&host, "/");
        fields.push((name.into(), value.into()));
        fields
    };
    for (nth, (fields, status)) in [
        (with("connection", b"close"), 400),
        (with("~n", b"1"), 200),
        (with("~custom", b"1"), 200),
        (with("x-latin", b"\xff\xff"), 200),
        (with("x-field", b"a\0b"), 400),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = 2 * nth as u32 + 1;
        connection.send(&frames::headers(stream, END_STREAM, &fields)).await;
        let (outcome, text) = response(&mut connection, stream).await;
        assert_eq!(outcome, Outcome::Status(status), "{nth}: {text}");
    }
    assert_eq!(stage.api.seen()[1].field("~custom").as_deref(), Some("1"));
}

#[tokio::test]
async fn pythons_h2_gets_the_targets_and_the_refusals_that_curl_gets() {
    let stage = Stage::plain().await;
    let address = stage.proxy.listen().to_string();
    let client = |arguments: &[&str]| {
        let mut command = python("http2/client.py");
        command.args(arguments);
        run(command)
    };
    // Each twice: h2 sends the second by its index.
    let odd = [
        ("/q?a={\"b\"}", "/q?a={%22b%22}"),
        ("/q?a=<1>", "/q?a=%3C1%3E"),
        ("/gr\u{f6}", "/gr%C3%B6"),
        ("/plain", "/plain"),
    ];
    let paths: Vec<&str> = [odd, odd].iter().flatten().map(|(path, _)| *path).collect();
    let told = client(&[&[&address[..]][..], &paths].concat()).await;
    assert_eq!(told.len(), paths.len());
    assert!(told.iter().all(|told| told["status"] == 200), "{told:?}");
    let reached: Vec<_> = stage.api.seen().iter().map(Message::target).collect();
    let expected: Vec<_> = [odd, odd].iter().flatten().map(|(_, target)| *target).collect();
    assert_eq!(reached, expected);

    let bad = ["", "/a#b", "/\tx\u{1}y", "/\tx\ny", "/good"];
    let told = client(&[&["--unchecked", &address[..]][..], &bad].concat()).await;
    let words =
        ["its :path is empty", "a fragment (#)", "has a control character", "has a control character"];
    for (told, words) in told.iter().zip(words) {
        assert_eq!(told["status"], 400, "{told}");
        assert!(told["body"].as_str().unwrap().contains(words), "{words}: {told}");
    }
    assert_eq!((told.len(), &told[4]["status"]), (5, &200.into()), "the connection lives: {told:?}");
}

#[tokio::test]
async fn a_client_whose_head_is_malformed_costs_its_neighbours_nothing() {
    let api = Origin::start(|_, _| Reply::ok().after(Duration::from_millis(500))).await;
    let stage = Stage::with(api, "", "").await;
    let host = stage.proxy.listen().to_string();
    let mut connection = Frames::connect(stage.proxy.listen(), &[]).await;
    connection.send(&frames::headers(1, END_STREAM, &frames::get(&host, "/good"))).await;
    let mut fields = frames::get(&host, "/");
    fields.push(("x-field".into(), "a\0b".into()));
    connection.send(&frames::headers(3, END_STREAM, &fields)).await;
    // And two uploads whose trailers are.
    connection.send(&frames::headers(5, 0, &frames::get(&host, "/upload"))).await;
    connection.send(&frames::headers(5, END_STREAM, &[("x-sum".into(), "a\0b".into())])).await;
    connection.send(&frames::headers(7, 0, &frames::get(&host, "/upload"))).await;
    connection.send(&frames::headers(7, END_STREAM, &[(":path".into(), "/other".into())])).await;
    let outcomes = connection.outcomes(&[1, 3, 5, 7]).await;
    assert_eq!(outcomes[0], Outcome::Status(200));
    for outcome in &outcomes[1..] {
        assert!(matches!(outcome, Outcome::Reset(_) | Outcome::Status(400)), "{outcomes:?}");
    }
    connection.send(&frames::headers(9, END_STREAM, &frames::get(&host, "/good"))).await;
    assert_eq!(connection.outcomes(&[9]).await, [Outcome::Status(200)]);
}

#[tokio::test]
async fn other_protocols_are_named_with_the_way_out() {
    let stage = Stage::plain().await;
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x01\x01\x01\x02";
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.proxy.listen());
    for (first, word) in [
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n".to_vec(), "the PROXY protocol"),
        (v2.to_vec(), "the PROXY protocol"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "plain HTTP; use http://"),
        (b"\x05\x01\x00".to_vec(), "SOCKS"),
        (b"OPTIONS / HTTP/1.0\r\n\r\n".to_vec(), "http-check send hdr Host"),
    ] {
        let mut wire = stage.proxy.wire().await;
        wire.send([&first[..], get.as_bytes()].concat()).await;
        let answer = wire.response("GET").await.unwrap();
        assert_eq!(answer.status(), 400, "{word}");
        assert!(answer.text().contains(word), "{word}: {}", answer.text());
    }
    let by_curl = curl(&["--haproxy-protocol", &stage.proxy.url("/")]).await;
    by_curl.assert_proxy_error(400);
    assert!(by_curl.text().contains("send-proxy"), "{by_curl:?}");
    assert!(stage.api.seen().is_empty());
    assert_eq!(stage.proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn the_proxy_protocol_is_named_on_a_listener_with_tls_too() {
    let dir = tempfile::tempdir().unwrap();
    Certificates::for_loopback(dir.path());
    let [cert, key] = ["server.pem", "server.key"].map(|file| dir.path().join(file).display().to_string());
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .server(&format!("tls = {{ cert_file = '{cert}', key_file = '{key}' }}"));
    let proxy = Proxy::start(config).await;
    for first in [&b"PROXY TCP6 ::1 ::1 1 2\r\n\x16\x03"[..], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\0"] {
        let mut wire = proxy.wire().await;
        wire.send(first).await;
        let answer = wire.response("GET").await.unwrap();
        assert_eq!(answer.status(), 400);
        assert!(answer.text().contains("the PROXY protocol"), "{}", answer.text());
    }
}

#[tokio::test]
async fn nothing_that_others_wrote_changes_how_the_log_is_shown() {
    let says = r"printf 'evil \342\200\256txt\342\200\250INFO all is well\357\273\277' >&2; exit 3";
    let token = format!("[tokens.api]\ngrant = \"command\"\ncommand = [\"sh\", \"-c\", {says:?}]\n");
    let api = Origin::ok().await;
    for (format, written) in [("text", r"\u{202e}"), ("json", r"\u202e")] {
        let config = Config::one_route(&upstream_at(&api.url()), &token)
            .and(&format!("[log]\nformat = \"{format}\"\n"));
        let proxy = Proxy::start_live(config).await;
        eventually("it is logged", || async { proxy.log().contains("evil") }).await;
        let log = proxy.log();
        assert!(log.contains(written), "{log:?}");
        assert!(!log.contains(['\u{202e}', '\u{2028}', '\u{feff}']), "{log:?}");
    }
}
