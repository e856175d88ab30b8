//! gRPC of all four kinds: grpcio calls grpcio through the proxy (<https://grpc.io>, the official interop service).

use std::collections::BTreeSet;
use std::process::Stdio;

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;

use cupbearer_testing::{Config, GrpcApi, Origin, Proxy, Reply, eventually, free_address, python, token_at};

/// All that a call can be, in the order of the cost.
const CASES: [&str; 8] = [
    "interop",
    "megabytes",
    "half_duplex",
    "many_values",
    "own_credentials",
    "every_status",
    "with_deadline",
    "at_once",
];

async fn before(api: &GrpcApi) -> (Origin, Proxy) {
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&api.upstream(), &token_at(&server.url()))).await;
    (server, proxy)
}

/// Each call came with our token and no other, which changed once: when the API called it bad, as it does with every
/// status in its turn (16, UNAUTHENTICATED).
fn assert_calls_as_sent(api: &GrpcApi) {
    let began = api.told("began");
    assert!(began.len() > 500, "{} calls", began.len());
    let mut tokens: Vec<_> = began.iter().map(|call| call["authorization"].to_string()).collect();
    tokens.dedup();
    let [first, second] = ["[\"Bearer token-0\"]", "[\"Bearer token-1\"]"];
    assert!(tokens == [first] || tokens == [first, second], "{tokens:?}");
    // grpcio rounds a deadline of 17.5 s up a little, on its way out.
    let kept =
        began.iter().any(|call| call["remaining"].as_f64().is_some_and(|left| (10.0..18.0).contains(&left)));
    assert!(kept, "grpc-timeout tells the API how long the caller waits");
}

#[tokio::test]
async fn every_kind_of_call_passes_in_the_clear() {
    let api = GrpcApi::start().await;
    let (_server, proxy) = before(&api).await;
    let reports = api.call(&proxy, &CASES).await;
    assert_eq!(reports.len(), 13 + CASES.len() - 1);
    assert_calls_as_sent(&api);
}

#[tokio::test]
async fn every_kind_of_call_passes_over_tls() {
    let api = GrpcApi::start_tls().await;
    let (_server, proxy) = before(&api).await;
    api.call(&proxy, &CASES).await;
    assert_calls_as_sent(&api);
}

#[tokio::test]
async fn uploads_that_stand_still_hold_up_no_other_call_of_their_channel() {
    let api = GrpcApi::start().await;
    let (_server, proxy) = before(&api).await;
    api.call(&proxy, &["beside_stuck_uploads"]).await;
}

#[tokio::test]
async fn a_deadline_ends_the_call_at_the_api_too() {
    let mut api = GrpcApi::start().await;
    let (_server, proxy) = before(&api).await;
    let reports = api.call(&proxy, &["sleeping"]).await;
    let took = reports[0]["seconds"].as_f64().unwrap();
    assert!(took >= 1.4, "the deadline of 1.5 s is the caller's own: {took} s");
    let ended = api.hear("told of the end", |event| event["event"] == "ended").await;
    assert_eq!(ended["whole"], false, "{ended}");
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_api() {
    let mut api = GrpcApi::start().await;
    let (_server, proxy) = before(&api).await;
    let mut command = python("grpc/client.py");
    command.arg(proxy.listen().to_string()).arg("cancelled_upload");
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    api.hear("given something of the upload", |event| event["event"] == "received").await;
    assert!(api.told("ended").is_empty(), "the call is under way");
    client.stdin.take().unwrap().write_all(b"cancel\n").await.unwrap();
    let ended = api.hear("told of the end", |event| event["event"] == "ended").await;
    assert_eq!(ended["whole"], false, "{ended}");
    let said = client.wait_with_output().await.unwrap().stdout;
    assert!(String::from_utf8_lossy(&said).contains("\"ok\": true"), "{said:?}");
    eventually("nothing is under way", || async {
        proxy.metric("cupbearer_requests_in_flight", &[]).await < 0.5
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_dies_ends_its_call_at_the_api() {
    let mut api = GrpcApi::start().await;
    let (_server, proxy) = before(&api).await;
    let mut command = python("grpc/client.py");
    command.arg(proxy.listen().to_string()).arg("cancelled_upload");
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    api.hear("given something of the upload", |event| event["event"] == "received").await;
    client.kill().await.unwrap();
    let ended = api.hear("told of the end", |event| event["event"] == "ended").await;
    assert_eq!(ended["whole"], false, "{ended}");
}

#[tokio::test]
async fn a_stream_outlives_the_token_that_it_began_with() {
    let api = GrpcApi::start().await;
    let server = Origin::issuing(2).await;
    let proxy = Proxy::start(Config::one_route(&api.upstream(), &token_at(&server.url()))).await;
    api.call(&proxy, &["long_stream", "one"]).await;
    assert!(server.seen().len() >= 3, "the token was renewed meanwhile");
    let tokens: BTreeSet<_> =
        api.told("began").iter().map(|call| call["authorization"].to_string()).collect();
    assert_eq!(tokens.len(), 2, "the later call has a later token: {tokens:?}");
    assert!(api.told("ended").iter().all(|call| call["whole"] == true));
}

#[tokio::test]
async fn an_api_that_dies_ends_its_streams_and_is_found_again() {
    let mut api = GrpcApi::start().await;
    let (_server, proxy) = before(&api).await;
    let target = proxy.listen().to_string();
    let caller = tokio::spawn(async move {
        let mut command = python("grpc/client.py");
        command.arg(target).args(["endless", "one"]);
        cupbearer_testing::run(command).await
    });
    api.hear("called", |event| event["event"] == "began").await;
    api.program().signal(Signal::KILL);
    let reports = caller.await.unwrap();
    assert_eq!((reports.len(), &reports[0]["ok"]), (2, &true.into()), "{reports:?}");
    let code = reports[0]["code"].as_str().unwrap();
    assert!(["UNAVAILABLE", "INTERNAL"].contains(&code), "a cut stream is no success: {reports:?}");
    assert_eq!(reports[1]["code"], "UNAVAILABLE", "the proxy's own word: {reports:?}");
}

#[tokio::test]
async fn the_proxys_own_errors_are_grpc_statuses() {
    let api = GrpcApi::start().await;
    let refusing = Origin::start(|_, _| Reply::json(503, "{}")).await;
    let config = Config::one_route(&api.upstream(), &(token_at(&refusing.url()) + "wait = \"300ms\"\n"));
    let proxy = Proxy::start_live(config).await;
    let reports = api.call(&proxy, &["one"]).await;
    assert_eq!(reports[0]["code"], "UNAVAILABLE", "no token, for now: {reports:?}");

    let server = Origin::issuing(300).await;
    let routes = "[[routes]]\npath = \"/elsewhere\"\nupstream = \"api\"\ntoken = \"api\"\n";
    let proxy = Proxy::start(Config::new(api.upstream() + &token_at(&server.url()) + routes)).await;
    let reports = api.call(&proxy, &["one"]).await;
    assert_eq!(reports[0]["code"], "UNIMPLEMENTED", "no route: {reports:?}");
    assert!(api.told("began").is_empty());

    let nobody =
        format!("[upstreams.api]\nurl = \"http://{}\"\nhttp2 = \"prior_knowledge\"\n", free_address());
    let proxy = Proxy::start(Config::one_route(&nobody, &token_at(&server.url()))).await;
    let reports = api.call(&proxy, &["one"]).await;
    assert_eq!(reports[0]["code"], "UNAVAILABLE", "nobody there: {reports:?}");

    let silent = Origin::start(|_, _| Reply::raw("").holding()).await;
    let upstream = format!("[upstreams.api]\nurl = \"{}\"\nresponse_header_timeout = \"1s\"\n", silent.url());
    let proxy = Proxy::start(Config::one_route(&upstream, &token_at(&server.url()))).await;
    let reports = api.call(&proxy, &["one"]).await;
    assert_eq!(reports[0]["code"], "DEADLINE_EXCEEDED", "nothing in time: {reports:?}");
    let details = reports[0]["details"].as_str().unwrap();
    assert!(details.starts_with("cupbearer: "), "and not the caller's own deadline: {reports:?}");
}
