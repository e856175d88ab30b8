//! When the authorization server is away.

use std::time::{Duration, UNIX_EPOCH};

use cupbearer_testing::{
    Config, Nginx, OidcProvider, Origin, Proxy, Reply, SECRET, clock, eventually, free_address, token_at,
    upstream_at,
};

fn section_for(server: &OidcProvider) -> String {
    format!(
        "[tokens.api]\nissuer = \"{}\"\ngrant = \"client_credentials\"\nclient_id = \"orders\"\n\
         client_auth = \"client_secret_basic\"\nclient_secret = \"{SECRET}\"\n\
         retry = {{ initial = \"100ms\", max = \"1s\" }}\n",
        server.issuer()
    )
}

#[tokio::test]
async fn a_token_is_used_until_it_expires_and_service_comes_back_with_the_server() {
    let server = OidcProvider::start(5).await;
    let api = Nginx::start().await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section_for(&server))).await;
    assert_eq!(proxy.get("/").await.status, 200);
    let crashed = server.crash().await;

    // Renewal is due after 3.25 to 3.75 s, and fails; the token lives on.
    // Until its time is over every request is served; a tenth of the lifetime is the margin.
    let status = proxy.status().await;
    let expires = UNIX_EPOCH + Duration::from_secs(status["tokens"][0]["expires_at"].as_u64().unwrap());
    loop {
        let asked = clock::wall();
        match proxy.get("/").await.status {
            200 => assert!(asked < expires + Duration::from_secs(1), "an expired token was sent"),
            503 => {
                assert!(
                    clock::wall() > expires - Duration::from_millis(1600),
                    "refused too early:\n{}",
                    proxy.log()
                );
                break;
            }
            other => panic!("{other}:\n{}", proxy.log()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let carried = api.seen().len();
    let start = clock::now();
    let answer = proxy.get("/").await;
    answer.assert_proxy_error(503);
    assert!(start.elapsed() < Duration::from_millis(500), "a clear answer took {:?}", start.elapsed());
    assert!(answer.field("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{answer:?}");
    assert!(!proxy.is_ready().await);
    assert_eq!(api.seen().len(), carried, "nothing goes out without a token");
    assert!(api.seen().iter().all(|request| request.status == 200));

    let server = crashed.restart().await;
    let start = clock::now();
    eventually("it serves again", || async { proxy.get("/").await.status == 200 }).await;
    assert!(start.elapsed() < Duration::from_secs(4), "recovery took {:?}", start.elapsed());
    assert!(proxy.is_ready().await);
    drop(server);
}

#[tokio::test]
async fn a_failed_renewal_keeps_the_valid_token() {
    let server = OidcProvider::start(6).await;
    let api = Nginx::start().await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section_for(&server))).await;
    for fault in ["status", "reset", "partial"] {
        server.fault(&format!(r#"{{"mode":"{fault}","times":1}}"#)).await;
    }
    let start = clock::now();
    while start.elapsed() < Duration::from_secs(8) {
        assert_eq!(proxy.get("/").await.status, 200, "after {:?}:\n{}", start.elapsed(), proxy.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(server.token_requests().await >= 5, "one, three that failed, and a good one");
    let failed = proxy.metric("cupbearer_token_renewals_total", &["token=\"api\""]).await;
    assert!(failed >= 5.0, "each attempt is counted: {failed}");
}

#[tokio::test]
async fn a_start_without_the_server_listens_waits_and_recovers() {
    let address = free_address();
    let api = Nginx::start().await;
    let section = token_at(&format!("http://{address}/token"))
        + "wait = \"1s\"\nretry = { initial = \"100ms\", max = \"500ms\" }\n";
    let mut proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    assert!(!proxy.is_ready().await);
    let start = clock::now();
    let answer = proxy.get("/").await;
    answer.assert_proxy_error(503);
    assert!(answer.field("retry-after").is_some());
    assert!(start.elapsed() < Duration::from_secs(3), "`wait` bounds it: {:?}", start.elapsed());

    let _server = OidcProvider::start_at(address, 60).await;
    proxy.until_ready().await;
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn a_server_that_comes_up_within_the_wait_costs_no_request() {
    let address = free_address();
    let api = Nginx::start().await;
    let section = token_at(&format!("http://{address}/token"));
    let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    eventually("the first attempt failed", || async { proxy.log().contains("no token could be had") }).await;
    let (answer, _server) = tokio::join!(proxy.get("/"), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        OidcProvider::start_at(address, 60).await
    });
    assert_eq!(answer.status, 200, "{}", proxy.log());
    assert!(proxy.log().contains("the first token was obtained"), "{}", proxy.log());
}

#[tokio::test]
async fn one_token_that_cannot_be_had_leaves_the_others_alone_and_comes_later() {
    let good = Origin::issuing(300).await;
    let address = free_address();
    let api = Origin::ok().await;
    let config = upstream_at(&api.url())
        + &token_at(&good.url()).replace("[tokens.api]", "[tokens.good]")
        + &token_at(&format!("http://{address}/token")).replace("[tokens.api]", "[tokens.late]")
        + "wait = \"500ms\"\nretry = { initial = \"100ms\", max = \"500ms\" }\n"
        + "[[routes]]\npath = \"/good\"\nupstream = \"api\"\ntoken = \"good\"\n"
        + "[[routes]]\npath = \"/late\"\nupstream = \"api\"\ntoken = \"late\"\n";
    let mut proxy = Proxy::start_live(Config::new(config)).await;
    assert_eq!(proxy.get("/good").await.status, 200);
    proxy.get("/late").await.assert_proxy_error(503);
    assert!(!proxy.is_ready().await, "each required token counts");

    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let _late = Origin::on(listener, |mut wire| async move {
        while wire.request().await.is_some() {
            wire.send(Reply::token("late", 300).into_bytes()).await;
        }
    });
    proxy.until_ready().await;
    assert_eq!(proxy.get("/late").await.status, 200);
}

#[tokio::test]
async fn a_server_that_stalls_costs_no_request_while_a_token_is_held() {
    let server = OidcProvider::start(600).await;
    let api = Nginx::start().await;
    let section = section_for(&server) + "timeout = \"8s\"\n";
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    server.fault(r#"{"mode":"stall","times":1}"#).await;
    let before = server.token_requests().await;
    let requests = async {
        eventually("the renewal is under way", || async { server.token_requests().await > before }).await;
        let start = clock::now();
        // One that waited for the renewal would take what is left of its 8 s.
        for _ in 0..20 {
            assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
        }
        start.elapsed()
    };
    let (renewed, took) = tokio::join!(proxy.command(&["renew"]), requests);
    assert!(!renewed.status.success(), "the server stalled: {renewed:?}");
    assert!(took < Duration::from_secs(6), "requests waited for the renewal: {took:?}");
    assert_eq!(proxy.get("/").await.status, 200, "the token held is used: {}", proxy.log());
}
