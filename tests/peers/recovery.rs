//! What follows a 401: one renewal for all, and each request once more, with the body that it had.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpListener;

use cupbearer_testing::{
    Config, Message, OidcProvider, Origin, Proxy, Reply, SECRET, Stage, Wire, clock, curl, eventually,
    token_at, upstream_at,
};

const INVALID: (&str, &str) = ("www-authenticate", r#"Bearer realm="api", error="invalid_token""#);

/// A proxy with opaque tokens of `server` before its API, which asks the server about each.
async fn before(server: &OidcProvider, end: &str) -> Proxy {
    let token = format!(
        "grant = \"client_credentials\"\nclient_id = \"orders\"\nclient_auth = \"client_secret_basic\"\n\
         client_secret = \"{SECRET}\"\nresource = [\"https://api.example.test/opaque\"]\n"
    );
    Proxy::start(server.config(&token).and(end)).await
}

/// The server takes back the token that the proxy has.
async fn revoke(server: &OidcProvider, proxy: &Proxy) {
    let token = proxy.accepted("/").await["token"].as_str().unwrap().to_owned();
    let (url, user) = (format!("{}/token/revocation", server.issuer()), format!("orders:{SECRET}"));
    let answer = curl(&["--user", &user, "--data-urlencode", &format!("token={token}"), &url]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!server.is_active(&token).await);
}

/// An API that takes only tokens from the n-th on.
async fn api_from(n: usize) -> Origin {
    Origin::start(move |request, _| if number_of(request) >= n { Reply::ok() } else { refusal() }).await
}

/// Which token a request carries: the n of `Bearer token-n`.
fn number_of(request: &Message) -> usize {
    let [value] = &request.all("authorization")[..] else { panic!("one token: {request:?}") };
    value.strip_prefix("Bearer token-").unwrap().parse().unwrap()
}

fn refusal() -> Reply {
    Reply::new(401, &[INVALID, ("x-trace", "original")], "no such token")
}

async fn replays(proxy: &Proxy, result: &str) -> f64 {
    proxy.metric("cupbearer_replays_total", &[&format!("result=\"{result}\"")]).await
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_with_a_revoked_token_make_one_renewal_and_all_succeed() {
    let server = OidcProvider::with_api(300).await;
    let proxy = Arc::new(before(&server, "").await);
    revoke(&server, &proxy).await;
    server.recover().await;
    let requests = (0..100).map(|n| {
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let body = format!("{n}:").repeat(1 + n * 20);
            let answer = proxy.exchange(&post(&format!("/orders/{n}"), &body)).await.unwrap();
            assert_eq!(answer.status(), 200, "{}", answer.text());
            let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(said["body"], body, "to the byte");
        })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    assert_eq!(server.token_requests().await, 1);
    let seen = server.api_seen().await;
    let refused = seen.iter().filter(|seen| seen["status"] == 401).count();
    assert_eq!(seen.len() - refused, 100, "each was taken once");
    assert!((1..=100).contains(&refused), "each was replayed once at most: {refused}");
    let counted = proxy.metric("cupbearer_upstream_unauthorized_total", &[]).await;
    assert!((counted - refused as f64).abs() < 0.5, "{counted}");
    assert!((replays(&proxy, "ok").await - refused as f64).abs() < 0.5);
    let status = proxy.status().await;
    assert_eq!((&status["tokens"][0]["renewals"], &status["tokens"][0]["failures"]), (&2.into(), &0.into()));
}

#[tokio::test]
async fn a_body_over_the_limit_gets_the_401_and_the_next_request_the_new_token() {
    let server = OidcProvider::with_api(300).await;
    let proxy = before(&server, "replay_body_limit = \"1KiB\"\n").await;
    revoke(&server, &proxy).await;
    server.recover().await;
    let answer = proxy.exchange(&post("/", &"x".repeat(1025))).await.unwrap();
    assert_eq!(answer.status(), 401, "{}", answer.text());
    assert!(answer.field("www-authenticate").unwrap().contains("invalid_token"));
    eventually("the token is renewed", || async { server.token_requests().await == 1 }).await;
    assert_eq!(proxy.exchange(&post("/", &"x".repeat(1025))).await.unwrap().status(), 200);
    assert!((replays(&proxy, "body_too_large").await - 1.0).abs() < 0.1);
    assert_eq!(server.token_requests().await, 1);
}

#[tokio::test]
async fn a_body_without_a_length_is_kept_up_to_the_limit_with_its_trailers() {
    for (size, want) in [(1000, 200), (3000, 401)] {
        let stage = Stage::with(api_from(1).await, "", "replay_body_limit = \"2KiB\"\n").await;
        let mut wire = stage.proxy.wire().await;
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum\r\n\r\n",
            stage.proxy.listen()
        );
        wire.send(head).await;
        let part = "y".repeat(size / 10);
        for _ in 0..10 {
            wire.send(format!("{:x}\r\n{part}\r\n", part.len())).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        wire.send("0\r\nChecksum: sum\r\n\r\n").await;
        assert_eq!(wire.response("POST").await.unwrap().status(), want, "{size}");
        for seen in stage.api.seen() {
            assert_eq!(seen.body.len(), size);
            assert_eq!(seen.trailers, [("checksum".to_owned(), "sum".to_owned())]);
        }
    }
}

/// The 401 comes while the application is still sending; the second sending gets all of it.
#[tokio::test]
async fn a_body_that_is_still_coming_in_is_sent_again_from_its_beginning() {
    let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
    let record = Arc::clone(&bodies);
    let api = Origin::scripted(move |mut wire| {
        let record = Arc::clone(&record);
        async move {
            let Some(head) = wire.head().await else { return };
            if number_of(&head) == 0 {
                wire.swallow(5).await;
                wire.send(refusal().into_bytes()).await;
                // It goes on reading, as a decent server does, and never sees the end.
                wire.rest().await;
                return;
            }
            let body = wire.text(10).await;
            record.lock().unwrap().push(body);
            wire.send(Reply::ok().into_bytes()).await;
        }
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n\r\n", stage.proxy.listen());
    wire.send(head + "first").await;
    eventually("it is renewed", || async { stage.server.seen().len() == 2 }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    wire.send("after").await;
    assert_eq!(wire.response("POST").await.unwrap().status(), 200);
    assert_eq!(*bodies.lock().unwrap(), ["firstafter"]);
}

#[tokio::test]
async fn a_401_before_the_body_was_asked_for_leaves_the_question_open_for_the_second_sending() {
    let api = Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.head().await {
            assert_eq!(head.field("expect").as_deref(), Some("100-continue"));
            if number_of(&head) == 0 {
                wire.send(refusal().into_bytes()).await;
                continue;
            }
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            wire.swallow(5).await;
            wire.send(Reply::ok().into_bytes()).await;
        }
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        stage.proxy.listen()
    );
    wire.send(head).await;
    assert_eq!(wire.head().await.unwrap().status(), 100, "asked by the second sending alone");
    wire.send("hello").await;
    assert_eq!(wire.response("POST").await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_upload_that_was_not_asked_for_before_a_401_is_sent_whatever_its_length() {
    const LENGTH: usize = 200_000;
    let api = Origin::scripted(|mut wire| async move {
        while let Some(head) = wire.head().await {
            assert_eq!(head.field("expect").as_deref(), Some("100-continue"));
            if number_of(&head) == 0 {
                wire.send(refusal().into_bytes()).await;
                continue;
            }
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            wire.swallow(LENGTH).await;
            wire.send(Reply::ok().into_bytes()).await;
        }
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("upload");
    std::fs::write(&file, vec![b'x'; LENGTH]).unwrap();
    let data = format!("@{}", file.display());
    let answer =
        curl(&["--header", "Expect: 100-continue", "--data-binary", &data, &stage.proxy.url("/")]).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{}", stage.proxy.log());
    assert!((replays(&stage.proxy, "ok").await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_renewal_that_fails_gives_the_original_401_and_keeps_the_token() {
    let server = OidcProvider::with_api(300).await;
    let proxy = before(&server, "").await;
    revoke(&server, &proxy).await;
    server.recover().await;
    server.fault(r#"{"mode": "status", "status": 503, "times": -1}"#).await;
    let answer = curl(&["--data", "x=1", &proxy.url("/")]).await;
    assert_eq!((answer.status, answer.proxy_error()), (401, None), "{answer:?}");
    assert_eq!(answer.field("www-authenticate"), Some(r#"Bearer error="invalid_token""#));
    assert_eq!((&answer.json()["body"], &answer.json()["error"]), (&"x=1".into(), &"invalid_token".into()));
    assert_eq!(proxy.status().await["tokens"][0]["status"], "degraded", "it is held still");
    for _ in 0..20 {
        assert_eq!(proxy.get("/").await.status, 401, "and sent");
    }
    // A request that comes while the next attempt is under way waits for that.
    assert!(replays(&proxy, "renewal_failed").await >= 1.0);
    server.recover().await;
    eventually("it recovers by itself", || async { proxy.get("/").await.status == 200 }).await;
}

#[tokio::test]
async fn an_upstream_that_refuses_every_token_brings_no_storm() {
    let api = Origin::start(|_, _| refusal()).await;
    let stage = Stage::with(api, "", "").await;
    let start = clock::now();
    for _ in 0..200 {
        let answer = stage.proxy.exchange("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").await.unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (401, "no such token"));
        assert_eq!(answer.field("x-trace").as_deref(), Some("original"));
        assert_eq!(answer.field("www-authenticate").as_deref(), Some(INVALID.1));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The first token, one because of the first refusal, and one for each five seconds that this took.
    let most = 2 + start.elapsed().as_secs() / 5;
    let asked = stage.server.seen().len();
    assert!((2..=usize::try_from(most).unwrap()).contains(&asked), "{asked}");
    assert!(replays(&stage.proxy, "still_unauthorized").await >= 1.0);
    assert!(replays(&stage.proxy, "not_allowed").await >= 100.0);
    let counted = stage.proxy.metric("cupbearer_upstream_unauthorized_total", &[]).await;
    assert!((counted - stage.api.seen().len() as f64).abs() < 0.5, "{counted}");
}

#[tokio::test]
async fn what_does_not_refuse_the_token_is_passed_on_and_renews_nothing() {
    let api = Origin::start(|request, _| match request.target().as_str() {
        "/basic" => Reply::new(401, &[("www-authenticate", "Basic realm=\"api\"")], "who?"),
        "/negotiate" => Reply::new(401, &[("www-authenticate", "Negotiate")], "who?"),
        "/scope" => Reply::new(401, &[("www-authenticate", r#"Bearer error="insufficient_scope""#)], "who?"),
        _ => Reply::new(403, &[("www-authenticate", r#"Bearer error="invalid_token""#)], "who?"),
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    for (path, status) in [("/basic", 401), ("/negotiate", 401), ("/scope", 401), ("/forbidden", 403)] {
        let answer = stage.proxy.get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (status, "who?"), "{path}");
        assert!(answer.field("www-authenticate").is_some());
    }
    assert_eq!((stage.api.seen().len(), stage.server.seen().len()), (4, 1));
}

/// Challenges by which APIs refuse a token, a header field each.
const REFUSALS: [&[&str]; 12] = [
    &[],
    &[""],
    &["Bearer"],
    &["OAuth realm=\"TwitchTV\", error='invalid_token'"],
    &["OAuth2 realm=\"service\", error=\"invalid_token\""],
    &["Bearer error=\"expired_token\""],
    &["Bearer error=\"unauthorized\""],
    &["ApiKey realm=\"api\""],
    &["Basic realm=\"api\", OAuth realm=\"api\""],
    &["Negotiate", "Bearer realm=\"api\""],
    &["Bearer realm=\"never closed"],
    &["{\"error\": \"invalid_token\"}"],
];

/// An API that refuses the first token by `status` with these challenges.
async fn api_with(status: u16, challenges: &'static [&'static str]) -> Origin {
    Origin::start(move |request, _| match number_of(request) {
        0 => refused_by(status, challenges),
        _ => Reply::ok(),
    })
    .await
}

fn refused_by(status: u16, challenges: &[&str]) -> Reply {
    let fields: Vec<_> = challenges.iter().map(|challenge| ("www-authenticate", *challenge)).collect();
    Reply::new(status, &fields, "no")
}

#[tokio::test]
async fn a_refused_token_is_renewed_in_whatever_words_the_api_refuses_it() {
    for challenges in REFUSALS {
        let stage = Stage::with(api_with(401, challenges).await, "", "").await;
        assert_eq!(stage.proxy.get("/").await.status, 200, "{challenges:?}");
        assert_eq!(stage.proxy.get("/").await.status, 200, "{challenges:?}");
        assert_eq!((stage.api.seen().len(), stage.server.seen().len()), (3, 2), "{challenges:?}");
    }
}

#[tokio::test]
async fn aws_puts_its_own_field_in_place_of_a_challenge() {
    let api = Origin::start(|request, _| match number_of(request) {
        0 => Reply::new(
            401,
            &[
                ("x-amzn-remapped-www-authenticate", "Bearer scope=\"\" error=\"invalid_token\""),
                ("x-amzn-errortype", "UnauthorizedException"),
            ],
            "{\"message\":\"Unauthorized\"}",
        ),
        _ => Reply::ok(),
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    assert_eq!(stage.proxy.get("/").await.status, 200);
    assert_eq!(stage.server.seen().len(), 2);
}

#[tokio::test]
async fn a_storm_of_refusals_in_every_shape_costs_the_authorization_server_what_one_shape_does() {
    let api = Origin::start(|request, _| {
        let shape: usize = request.target().trim_start_matches('/').parse().unwrap();
        refused_by(if shape.is_multiple_of(2) { 401 } else { 498 }, REFUSALS[shape / 2])
    })
    .await;
    let stage = Stage::with(api, "", "unauthorized_status = [401, 498]\n").await;
    let start = clock::now();
    for n in 0..20 * REFUSALS.len() {
        let shape = n % (2 * REFUSALS.len());
        let status = if shape.is_multiple_of(2) { 401 } else { 498 };
        let request = format!("GET /{shape} HTTP/1.1\r\nHost: {{host}}\r\n\r\n");
        assert_eq!(stage.proxy.exchange(&request).await.unwrap().status(), status);
    }
    // The first token, one because of the first refusal, and one for each five seconds that this took.
    let most = 2 + start.elapsed().as_secs() / 5;
    let requests = stage.server.seen().len();
    assert!((2..=usize::try_from(most).unwrap()).contains(&requests), "{requests}");
}

#[tokio::test]
async fn the_statuses_that_a_route_lists_renew_the_token_and_no_others_do() {
    for status in [400, 403, 440, 498] {
        let listed = "unauthorized_status = [401, 400, 403, 440, 498]\n";
        let stage = Stage::with(api_with(status, &[]).await, "", listed).await;
        assert_eq!(stage.proxy.get("/").await.status, 200, "{status}");
        assert_eq!(stage.server.seen().len(), 2, "{status}");
        let counted = stage.proxy.metric("cupbearer_upstream_unauthorized_total", &[]).await;
        assert!((counted - 1.0).abs() < 0.1, "{counted}");

        let stage = Stage::with(api_with(status, &[]).await, "", "").await;
        assert_eq!(stage.proxy.get("/").await.status, status, "{status}");
        assert_eq!(stage.server.seen().len(), 1, "{status}");
    }
    let stage = Stage::with(api_with(401, &[]).await, "", "unauthorized_status = [498]\n").await;
    assert_eq!(stage.proxy.get("/").await.status, 401);
    let listed = "unauthorized_status = [401, 403]\n";
    let forbidden = &["Bearer error=\"insufficient_scope\""];
    let stage = Stage::with(api_with(403, forbidden).await, "", listed).await;
    assert_eq!(stage.proxy.get("/").await.status, 403, "another token does not change that");
    assert_eq!(stage.server.seen().len(), 1);
}

#[tokio::test]
async fn the_log_says_once_why_a_refusal_is_passed_on() {
    let api = Origin::start(|request, _| match request.target().as_str() {
        "/scope" => refused_by(401, &["Bearer error=\"insufficient_scope\", scope=\"sentinel\""]),
        "/named" => refused_by(403, &["Bearer error=\"invalid_token\", error_description=\"sentinel\""]),
        _ => refused_by(403, &[]),
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    for path in ["/scope", "/plain", "/scope", "/named", "/named", "/scope"] {
        stage.proxy.get(path).await;
    }
    for line in ["a reason that a new token does not change", "by a status that renews none"] {
        eventually("the line is there", || async { stage.proxy.log().contains(line) }).await;
        assert_eq!(stage.proxy.log().matches(line).count(), 1, "{}", stage.proxy.log());
    }
    let log = stage.proxy.log();
    assert!(
        log.contains("insufficient_...") && log.contains("unauthorized_status") && !log.contains("sentinel")
    );
}

#[tokio::test]
async fn the_log_names_the_key_to_set_where_an_api_takes_bound_tokens_alone() {
    for (status, challenge, tokens) in [
        (401, "DPoP algs=\"ES256\"", 1),
        (401, "DPoP error=\"use_dpop_nonce\"", 1),
        (400, "DPoP error=\"invalid_dpop_proof\"", 1),
        // It may be the token all the same.
        (401, "DPoP error=\"invalid_token\", algs=\"ES256\"", 2),
    ] {
        let api = Origin::start(move |_, _| refused_by(status, &[challenge])).await;
        let stage = Stage::with(api, "", "").await;
        for _ in 0..3 {
            assert_eq!(stage.proxy.get("/").await.status, status, "{challenge}");
        }
        eventually("the line is there", || async { stage.proxy.log().contains("dpop = true") }).await;
        let log = stage.proxy.log();
        assert_eq!(log.matches("dpop = true").count(), 1, "{challenge}: {log}");
        assert!(log.contains("bound to a key (DPoP)"), "{log}");
        assert_eq!(stage.server.seen().len(), tokens, "{challenge}");
    }
}

#[tokio::test]
async fn a_401_without_a_word_counts() {
    let api = Origin::start(|request, _| match number_of(request) {
        0 => Reply::new(401, &[], ""),
        _ => Reply::ok(),
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    assert_eq!(stage.proxy.get("/").await.status, 200);
    assert_eq!(stage.api.connections(), 1, "the refused one's connection lives on");
}

#[tokio::test]
async fn a_route_may_renew_for_the_next_request_or_do_nothing_at_all() {
    let stage = Stage::with(api_from(1).await, "", "on_unauthorized = \"renew\"\n").await;
    assert_eq!(stage.proxy.get("/").await.status, 401);
    eventually("the token is renewed", || async { stage.server.seen().len() == 2 }).await;
    eventually("and used", || async { stage.proxy.get("/").await.status == 200 }).await;

    let stage = Stage::with(api_from(1).await, "", "on_unauthorized = \"pass\"\n").await;
    for _ in 0..10 {
        assert_eq!(stage.proxy.get("/").await.status, 401);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.server.seen().len(), 1);
}

#[tokio::test]
async fn a_refusal_of_credentials_that_are_not_ours_is_none_of_ours() {
    let api = Origin::start(|_, _| refusal()).await;
    let stage = Stage::with(api, "", "own_authorization = \"keep\"\n").await;
    let answer = curl(&["--header", "Authorization: Bearer own", &stage.proxy.url("/")]).await;
    assert_eq!(answer.status, 401);
    assert_eq!((stage.api.seen().len(), stage.server.seen().len()), (1, 1));
}

/// An API that speaks HTTP/2 in the clear, and answers each request as `answer` says.
async fn http_2<F, T>(answer: F) -> (String, tokio::task::JoinHandle<()>)
where
    F: Fn(Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> T + Clone + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            open.spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond));
                }
            });
        }
    });
    (url, task)
}

/// All of a request's body.
async fn body_of(request: &mut Request<h2::RecvStream>) -> Vec<u8> {
    let body = request.body_mut();
    let mut all = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    all
}

fn grpc_answer(status: Option<&'static str>) -> Response<()> {
    let mut answer = Response::new(());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    if let Some(status) = status {
        answer.headers_mut().insert("grpc-status", HeaderValue::from_static(status));
    }
    answer
}

fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))])
}

/// One gRPC call through the proxy: the answer's `grpc-status`, and its body.
async fn call(proxy: &Proxy, body: &'static [u8]) -> (String, Vec<u8>) {
    let stream = tokio::net::TcpStream::connect(proxy.listen()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{}/orders.Orders/Get", proxy.listen()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, mut send) = client.ready().await.unwrap().send_request(request, false).unwrap();
    send.send_data(Bytes::from_static(body), true).unwrap();
    let mut answer = answer.await.unwrap();
    let mut got = Vec::new();
    while let Some(data) = answer.body_mut().data().await {
        let data = data.unwrap();
        let _ = answer.body_mut().flow_control().release_capacity(data.len());
        got.extend_from_slice(&data);
    }
    let trailers = answer.body_mut().trailers().await.unwrap().unwrap_or_default();
    let status = trailers.get("grpc-status").or_else(|| answer.headers().get("grpc-status"));
    let status = status.unwrap().to_str().unwrap().to_owned();
    connection.abort();
    (status, got)
}

async fn before_grpc(url: &str) -> (Proxy, Origin) {
    let server = Origin::issuing(300).await;
    let upstream = upstream_at(url) + "http2 = \"prior_knowledge\"\n";
    (Proxy::start(Config::one_route(&upstream, &token_at(&server.url()))).await, server)
}

#[tokio::test]
async fn unauthenticated_in_trailers_alone_is_grpcs_401() {
    let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let record = Arc::clone(&bodies);
    let (url, _api) = http_2(move |mut request, mut respond| {
        let record = Arc::clone(&record);
        async move {
            let body = body_of(&mut request).await;
            record.lock().unwrap().push(body);
            if request.headers()["authorization"] == "Bearer token-0" {
                respond.send_response(grpc_answer(Some("16")), true).unwrap();
                return;
            }
            let mut send = respond.send_response(grpc_answer(None), false).unwrap();
            send.send_data(Bytes::from_static(b"reply"), false).unwrap();
            send.send_trailers(trailers("0")).unwrap();
        }
    })
    .await;
    let (proxy, server) = before_grpc(&url).await;
    assert_eq!(call(&proxy, b"\0\0\0\0\x02hi").await, ("0".to_owned(), b"reply".to_vec()));
    assert_eq!(*bodies.lock().unwrap(), [b"\0\0\0\0\x02hi"; 2]);
    assert_eq!(server.seen().len(), 2);
    assert!((replays(&proxy, "ok").await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn unauthenticated_after_the_answer_began_comes_too_late_for_a_replay_and_renews_all_the_same() {
    let (url, _api) = http_2(|mut request, mut respond| async move {
        body_of(&mut request).await;
        let mut send = respond.send_response(grpc_answer(None), false).unwrap();
        send.send_data(Bytes::from_static(b"part"), false).unwrap();
        let old = request.headers()["authorization"] == "Bearer token-0";
        send.send_trailers(trailers(if old { "16" } else { "0" })).unwrap();
    })
    .await;
    let (proxy, server) = before_grpc(&url).await;
    assert_eq!(call(&proxy, b"x").await, ("16".to_owned(), b"part".to_vec()));
    eventually("the token is renewed", || async { server.seen().len() == 2 }).await;
    eventually("and used", || async { call(&proxy, b"x").await.0 == "0" }).await;
}

/// The upstream closes each connection after a request or two, without having said so.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_die_as_requests_go_out_cost_no_get_a_502_and_send_no_post_twice() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let record = Arc::clone(&seen);
    let count = Arc::new(AtomicUsize::new(0));
    let api = Origin::scripted(move |mut wire: Wire| {
        let (record, count) = (Arc::clone(&record), Arc::clone(&count));
        async move {
            let Some(request) = wire.request().await else { return };
            record.lock().unwrap().push(request.target());
            wire.send(Reply::ok().into_bytes()).await;
            match count.fetch_add(1, Ordering::SeqCst) % 3 {
                // At once, a little later, or with the next request in its hands.
                0 => {}
                1 => tokio::time::sleep(Duration::from_millis(1)).await,
                _ => {
                    if let Some(request) = wire.request().await {
                        record.lock().unwrap().push(request.target());
                    }
                }
            }
        }
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    let host = stage.proxy.listen();
    for n in 0..500 {
        wire.send(format!("GET /get/{n} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(wire.response("GET").await.unwrap().status(), 200, "{n}");
    }
    for n in 0..200 {
        wire.send(format!("PUT /put/{n} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\nbody")).await;
        assert_eq!(wire.response("PUT").await.unwrap().status(), 200, "its body is kept: {n}");
    }
    for n in 0..200 {
        wire.send(format!("POST /post/{n} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\nbody")).await;
        let status = wire.response("POST").await.unwrap().status();
        assert!([200, 502].contains(&status), "{n}: {status}");
    }
    let seen = seen.lock().unwrap().clone();
    for n in 0..200 {
        let times = seen.iter().filter(|target| **target == format!("/post/{n}")).count();
        assert!(times <= 1, "{n} was sent {times} times");
    }
}

#[tokio::test]
async fn a_callers_token_that_is_refused_is_traded_anew() {
    let api = Origin::start(|request, _| match request.all("authorization")[0].as_str() {
        "Bearer token-0" => refusal(),
        _ => Reply::ok(),
    })
    .await;
    let server = Origin::issuing(300).await;
    let token = token_at(&server.url()).replace("client_credentials", "token_exchange")
        + "subject_token = \"incoming\"\n";
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token)).await;
    let answer = curl(&["--header", "Authorization: Bearer alice", "--data", "x=1", &proxy.url("/")]).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    assert_eq!((api.seen().len(), server.seen().len()), (2, 2));
    assert!(api.seen().iter().all(|request| request.text().ends_with("x=1")));
}

#[tokio::test]
async fn a_replica_that_is_refused_takes_the_token_that_another_one_was_given() {
    let (api, server) = (api_from(1).await, Origin::issuing(300).await);
    let folder = tempfile::tempdir().unwrap();
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .and(&format!("[store]\nkind = \"file\"\npath = '{}'\n", folder.path().join("tokens").display()));
    let one = Proxy::start(config.clone()).await;
    let other = Proxy::start(config).await;
    assert_eq!(server.seen().len(), 1, "the second one starts with the token of the first");
    assert_eq!(one.get("/").await.status, 200);
    assert_eq!(other.get("/").await.status, 200);
    assert_eq!(server.seen().len(), 2);
}
