//! Header fields that are not as their grammar has them: they go on in that form, or not at all.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use cupbearer_testing::{
    Config, Origin, Proxy, Reply, Stage, curl,
    frames::{self, END_STREAM, Field, Frames, HEADERS, Outcome},
    token_at, upstream_at,
};

fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
    fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// An API that gives each HTTP/2 request a response of these fields, and trailers, as they are written here.
async fn http2_api(head: &[(&str, &str)], trailers: &[(&str, &str)]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (head, trailers) = (fields(head), fields(trailers));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (head, trailers) = (head.clone(), trailers.clone());
            tokio::spawn(async move {
                let mut connection = Frames::accept(stream, &[]).await.unwrap();
                while let Ok(frame) = connection.next().await {
                    if frame.kind == HEADERS {
                        let status: Field = (b":status".to_vec(), b"200".to_vec());
                        let head = [&[status][..], &head].concat();
                        let mut bytes = frames::headers(frame.stream, 0, &head);
                        bytes.extend(frames::frame(frames::DATA, 0, frame.stream, b"ok"));
                        bytes.extend(frames::headers(frame.stream, END_STREAM, &trailers));
                        connection.send(&bytes).await;
                    }
                }
            });
        }
    });
    address
}

async fn before(api: SocketAddr) -> (Origin, Proxy) {
    let server = Origin::issuing(300).await;
    let upstream = upstream_at(&format!("http://{api}")) + "http2 = \"prior_knowledge\"\n";
    let proxy = Proxy::start(Config::one_route(&upstream, &token_at(&server.url()))).await;
    (server, proxy)
}

#[tokio::test]
async fn a_name_that_is_no_token_makes_a_response_malformed() {
    let (_server, proxy) = before(http2_api(&[("x-\"a\"", "1")], &[("x-t", "1")]).await).await;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&[version, &proxy.url("/")]).await;
        answer.assert_proxy_error(502);
        assert_eq!(answer.proxy_error(), Some("upstream_malformed"));
    }
    let (_server, proxy) =
        before(http2_api(&[("trailer", "x-u")], &[("x-\"t\"", "1"), ("x-u", "2")]).await).await;
    let answer = proxy.exchange("GET / HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\n\r\n").await.unwrap();
    assert_eq!(answer.status(), 502, "{:?}", answer.trailers);
}

#[tokio::test]
async fn spaces_around_a_value_stop_here_in_both_directions() {
    let (_server, proxy) =
        before(http2_api(&[("x-a", " b\t"), ("x-empty", "  "), ("trailer", "x-t")], &[("x-t", " c ")]).await)
            .await;
    let mut wire = proxy.wire().await;
    wire.send(format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\nConnection: close\r\n\r\n",
        proxy.listen()
    ))
    .await;
    let answer = String::from_utf8_lossy(&wire.rest().await).to_lowercase();
    for field in ["\r\nx-a: b\r\n", "\r\nx-empty: \r\n", "\r\nx-t: c\r\n"] {
        assert!(answer.contains(field), "{field:?} in {answer:?}");
    }

    let stage = Stage::plain().await;
    let mut connection = Frames::connect(stage.proxy.listen(), &[]).await;
    let mut head = frames::get(&stage.proxy.listen().to_string(), "/");
    head.extend(fields(&[("x-in", " d e "), ("x-tab", "\tf")]));
    connection.send(&frames::headers(1, END_STREAM, &head)).await;
    assert_eq!(connection.outcomes(&[1]).await, [Outcome::Status(200)]);
    let seen = String::from_utf8_lossy(&stage.api.only().head).to_lowercase();
    assert!(seen.contains("x-in: d e\r\n") && seen.contains("x-tab: f\r\n"), "{seen:?}");
}

#[tokio::test]
async fn a_length_goes_on_in_its_shortest_form_or_not_at_all() {
    for (length, passed) in [
        ("0002", Some("2")),
        ("00000000000000000000000002", Some("2")),
        ("18446744073709551615", None),
        ("9223372036854775808", None),
        ("99999999999999999999", None),
    ] {
        let stage = Stage::answering(move |_, _| {
            Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok")).closing()
        })
        .await;
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let answer = curl(&[version, &stage.proxy.url("/")]).await;
            if let Some(passed) = passed {
                assert_eq!((answer.status, answer.field("content-length")), (200, Some(passed)), "{length}");
            } else {
                answer.assert_proxy_error(502);
            }
        }
    }
    let (_server, proxy) = before(http2_api(&[("content-length", "0002")], &[("x-t", "1")]).await).await;
    let answer = curl(&["--http2-prior-knowledge", &proxy.url("/")]).await;
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("2")));
}

#[tokio::test]
async fn a_requests_length_reaches_an_http_2_api_in_its_shortest_form() {
    let (_server, proxy) = before(http2_api(&[("x-a", "1")], &[("x-t", "1")]).await).await;
    let request = "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0002\r\n\r\nok";
    assert_eq!(proxy.exchange(request).await.unwrap().status(), 200);
    let mut connection = Frames::connect(proxy.listen(), &[]).await;
    let mut head = frames::get(&proxy.listen().to_string(), "/");
    head[0].1 = b"POST".to_vec();
    head.extend(fields(&[("content-length", "2"), ("content-length", "3")]));
    connection.send(&frames::headers(1, 0, &head)).await;
    connection.send(&frames::frame(frames::DATA, END_STREAM, 1, b"ok")).await;
    let outcome = connection.outcomes(&[1]).await;
    assert!(
        [Outcome::Status(400), Outcome::Reset(1)].contains(&outcome[0]),
        "two lengths are none: {outcome:?}"
    );
}

#[tokio::test]
async fn a_reason_phrase_passes_as_it_came() {
    for phrase in ["Very Odd", "Very Odd \u{e9} Reason", ""] {
        let head = format!("HTTP/1.1 299 {phrase}\r\n");
        let reply = head.clone() + "Content-Length: 0\r\n\r\n";
        let stage = Stage::answering(move |_, _| Reply::raw(reply.clone())).await;
        let mut wire = stage.proxy.wire().await;
        wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", stage.proxy.listen()))
            .await;
        let rest = wire.rest().await;
        assert!(rest.starts_with(head.as_bytes()), "{}", String::from_utf8_lossy(&rest));
    }
}
