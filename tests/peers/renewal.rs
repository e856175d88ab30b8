//! Keeping a token fresh while requests go through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cupbearer_testing::{
    Config, Message, Nginx, OidcProvider, Origin, Proxy, Reply, SECRET, clock, curl, eventually, h2load,
    token_at, upstream_at,
};

/// The whole promise at once: 30 renewals under load, by servers that nobody here wrote.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_renewals_under_load_fail_no_request_and_cost_one_token_request_each() {
    const LIFETIME: f64 = 2.0;
    let server = OidcProvider::start(2).await;
    let api = Nginx::start().await;
    let section = format!(
        "[tokens.api]\nissuer = \"{}\"\ngrant = \"client_credentials\"\nclient_id = \"orders\"\n\
         client_auth = \"client_secret_basic\"\nclient_secret = \"{SECRET}\"\n\
         resource = [\"https://api.example.test/opaque\"]\n",
        server.issuer()
    );
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    // Renewed after 1.3 to 1.5 s each.
    let load = h2load(&["--h1", "-c16", "-D48", "--warm-up-time=0", "--rps=25", &proxy.url("/orders")]).await;
    load.assert_flawless(10_000);

    let mut first_seen: BTreeMap<String, f64> = BTreeMap::new();
    let mut last_seen: BTreeMap<String, f64> = BTreeMap::new();
    for request in api.seen() {
        assert_eq!(request.status, 200, "{request:?}");
        first_seen.entry(request.authorization.clone()).or_insert(request.at);
        last_seen.insert(request.authorization, request.at);
    }
    let renewals = first_seen.len() - 1;
    assert!(renewals >= 30, "{renewals} renewals");
    for (token, first) in &first_seen {
        let used = last_seen[token] - first;
        assert!(used < LIFETIME, "a token was sent for {used} s, longer than it lives");
    }
    // The token that is held now may be one that no request has carried yet.
    let asked = usize::try_from(server.token_requests().await).unwrap();
    assert!(
        (first_seen.len()..=first_seen.len() + 1).contains(&asked),
        "{asked} for {} tokens",
        first_seen.len()
    );
    assert_eq!(server.most_at_a_time().await, 1);
    let counted = proxy.metric("cupbearer_token_renewals_total", &["token=\"api\""]).await;
    assert!(
        (counted - server.token_requests().await as f64).abs() < 2.0,
        "{counted} renewals in the metrics"
    );
}

#[tokio::test]
async fn renewal_comes_before_expiry_within_its_window_and_with_jitter() {
    const LIFETIME: f64 = 3.0;
    let times = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&times);
    let server = Origin::start(move |_, before| {
        record.lock().unwrap().push(clock::now());
        Reply::token(&format!("token-{before}"), 3)
    })
    .await;
    let api = Origin::ok().await;
    let section = token_at(&server.url()) + "renew_at = 0.6\njitter = 0.3\n";
    let _proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    eventually("eight tokens were fetched", || async { server.seen().len() >= 8 }).await;
    let times = times.lock().unwrap().clone();
    let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    for gap in &gaps {
        assert!((0.3 * LIFETIME - 0.05..0.6 * LIFETIME + 0.4).contains(gap), "{gaps:?}");
    }
    let spread = gaps.iter().copied().fold(0.0, f64::max) - gaps.iter().copied().fold(f64::MAX, f64::min);
    assert!(spread > 0.02, "two proxies that start together would renew together: {gaps:?}");
}

#[tokio::test]
async fn a_thousand_requests_wait_for_one_first_token() {
    let server = Origin::start(|_, before| {
        Reply::token(&format!("token-{before}"), 300).after(Duration::from_secs(3))
    })
    .await;
    let api = Nginx::start().await;
    let section = token_at(&server.url()) + "wait = \"15s\"\n";
    let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    let load = h2load(&["--h1", "-n1000", "-c500", &proxy.url("/")]).await;
    load.assert_flawless(1000);
    assert_eq!(server.seen().len(), 1);
    let tokens: BTreeSet<_> = api.seen().into_iter().map(|request| request.authorization).collect();
    assert_eq!(tokens.into_iter().collect::<Vec<_>>(), ["Bearer token-0"]);
}

#[tokio::test]
async fn a_thousand_requests_without_hope_get_the_reason_and_make_no_storm() {
    let server = Origin::start(|_, _| Reply::json(401, r#"{"error":"invalid_client"}"#)).await;
    let api = Origin::ok().await;
    let section = token_at(&server.url()) + "wait = \"2s\"\n";
    let proxy = Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &section)).await;
    let load = h2load(&["--h1", "-n1000", "-c200", &proxy.url("/")]).await;
    assert_eq!((load.done, load.bad, load.errored, load.timeout), (1000, 1000, 0, 0), "{load:?}");
    assert!(server.seen().len() <= 2, "{} token requests", server.seen().len());
    assert_eq!(api.connections(), 0);
}

#[tokio::test]
async fn who_gives_up_waiting_ends_only_his_own_request() {
    let server = Origin::start(|_, _| Reply::token("token", 300).after(Duration::from_secs(2))).await;
    let api = Origin::ok().await;
    let proxy =
        Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let url = proxy.url("/");
    let (soon, late) = (["--max-time", "0.5", &url], [url.as_str()]);
    let (impatient, patient) = tokio::join!(curl(&soon), curl(&late));
    assert_eq!((impatient.exit, impatient.status), (28, 0), "curl's own time-out: {impatient:?}");
    assert_eq!(patient.status, 200);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn who_hangs_up_while_waiting_has_nothing_sent_in_his_name() {
    let api = Origin::ok().await;
    let server = Origin::start(|_, _| Reply::token("late", 300).after(Duration::from_secs(2))).await;
    let proxy =
        Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let mut wire = proxy.wire().await;
    wire.send(format!("POST /order HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", proxy.listen())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(wire);
    eventually("the token is there", || proxy.is_ready()).await;
    assert_eq!(proxy.get("/after").await.status, 200);
    let targets: Vec<_> = api.seen().iter().map(Message::target).collect();
    assert_eq!(targets, ["/after"]);
}

#[tokio::test]
async fn retry_after_is_kept_even_against_a_person_who_asks() {
    let server = Origin::start(|_, before| match before {
        0 => Reply::token("first", 4),
        1 => Reply::new(429, &[("retry-after", "2")], ""),
        _ => Reply::token("second", 300),
    })
    .await;
    let api = Origin::ok().await;
    let section = token_at(&server.url()) + "retry = { initial = \"10ms\", max = \"50ms\" }\n";
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &section)).await;
    eventually("the server said 429", || async { server.seen().len() == 2 }).await;
    let start = clock::now();
    let renew = format!("http://{}/tokens/api/renew", proxy.control());
    curl(&["--request", "POST", "--header", "Cupbearer-Control: 1", &renew, "--max-time", "1"]).await;
    assert_eq!(proxy.get("/").await.status, 200, "the token that is held goes on");
    eventually("it asks again", || async { server.seen().len() == 3 }).await;
    assert!(start.elapsed() > Duration::from_millis(1700), "after {:?}", start.elapsed());
}
