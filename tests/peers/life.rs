//! From start to end: readiness, reloads under load, SIGTERM under load, and what stops it from starting.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use cupbearer_testing::{
    Config, Nginx, Origin, Program, Proxy, Reply, Stage, Wire, clock, cupbearer, curl, eventually,
    free_address, h2load, project, token_at, upstream_at,
};

const RELOADS: &str = "cupbearer_config_reloads_total";
const LAST_RELOAD: &str = "cupbearer_config_last_reload_successful";

fn slow(delay: Duration) -> impl Fn(&cupbearer_testing::Message, usize) -> Reply + Send + Sync + 'static {
    move |_, _| Reply::ok().after(delay)
}

#[tokio::test]
async fn live_at_once_and_ready_with_a_usable_token() {
    let server = Origin::start(|_, _| Reply::token("token", 300).after(Duration::from_secs(1))).await;
    let api = Origin::ok().await;
    let mut proxy =
        Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let answer = curl(&[&proxy.health_url("/readyz")]).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("api"), "it names the token that is missing: {answer:?}");
    proxy.until_ready().await;
    assert_eq!(curl(&[&proxy.health_url("/livez")]).await.status, 200);
}

#[tokio::test]
async fn a_token_that_is_not_required_does_not_hold_up_readiness() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let config = upstream_at(&api.url())
        + &token_at(&server.url())
        + &token_at(&format!("http://{}/token", free_address())).replace("[tokens.api]", "[tokens.extra]")
        + "required = false\n[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"api\"\n";
    let proxy = Proxy::start(Config::new(config)).await;
    let ready: Value = curl(&[&proxy.health_url("/readyz")]).await.json();
    assert_eq!(ready["missing"], json!([]), "{ready}");
    let required: Vec<_> =
        ready["tokens"].as_array().unwrap().iter().map(|token| &token["required"]).collect();
    assert_eq!(required, [true, false], "both are told of: {ready}");
}

#[tokio::test]
async fn the_first_answer_with_a_token_comes_soon_after_the_start() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let start = clock::now();
    let proxy =
        Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    assert_eq!(proxy.get("/").await.status, 200);
    // A debug build on a busy machine, curl's own start included.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn sigterm_lets_every_request_that_was_accepted_finish() {
    let api = Origin::start(slow(Duration::from_millis(1500))).await;
    let stage = Stage::with(api, "", "").await;
    let address = stage.proxy.listen();
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(tokio::spawn(async move {
            let mut wire = Wire::connect(address).await;
            wire.send(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
            wire.response("GET").await.map(|answer| (answer.status(), answer.text()))
        }));
    }
    let url = stage.proxy.url("/");
    let h2 = tokio::spawn(async move { curl(&["--http2-prior-knowledge", &url]).await });
    eventually("all of them are under way", || async { stage.api.seen().len() == 51 }).await;
    let start = clock::now();
    let (status, log) = stage.proxy.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(start.elapsed() < Duration::from_secs(5), "it ends with the last request: {:?}", start.elapsed());
    for client in clients {
        assert_eq!(client.await.unwrap(), Some((200, "ok".to_owned())));
    }
    let answer = h2.await.unwrap();
    assert_eq!((answer.exit, answer.status), (0, 200), "{answer:?}");
}

#[tokio::test]
async fn sigterm_under_load_cuts_nobody_off() {
    let stage = Stage::plain().await;
    let address = stage.proxy.listen();
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(tokio::spawn(async move {
            let mut served = 0;
            // Each client goes on until it is told that this connection ends, or cannot connect any more.
            while let Ok(stream) = tokio::net::TcpStream::connect(address).await {
                let mut wire = Wire::new(stream);
                loop {
                    wire.send(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
                    let Some(answer) = wire.response("GET").await else {
                        // An idle connection may end between two requests; a client tries again (RFC 9112 s. 9.3.1).
                        break;
                    };
                    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "{}", answer.start());
                    served += 1;
                    if answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                        break;
                    }
                }
            }
            served
        }));
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (status, log) = stage.proxy.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let mut served = 0;
    for client in clients {
        served += client.await.unwrap();
    }
    assert!(served > 100, "{served} requests prove nothing");
    // What reached the API was answered to somebody, but for a request whose connection ended before its head was read.
    assert_eq!(stage.api.seen().len(), served);
}

#[tokio::test]
async fn while_it_drains_it_says_so_and_takes_nothing_new() {
    let api = Origin::start(slow(Duration::from_secs(2))).await;
    let stage = Stage::with(api, "", "").await;
    let address = stage.proxy.listen();
    let url = stage.proxy.url("/");
    let under_way = tokio::spawn(async move { curl(&[&url]).await });
    eventually("it is under way", || async { stage.api.seen().len() == 1 }).await;
    stage.proxy.program().signal(Signal::TERM);
    eventually("it is not ready any more", || async { !stage.proxy.is_ready().await }).await;
    assert_eq!(curl(&[&stage.proxy.health_url("/livez")]).await.status, 200, "live as long as it runs");
    eventually("it accepts nothing", || async { tokio::net::TcpStream::connect(address).await.is_err() })
        .await;
    assert_eq!(under_way.await.unwrap().status, 200);
    let (status, log) = stage.proxy.end().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn a_request_without_end_ends_with_drain_timeout() {
    let (api, server) = (Origin::start(|_, _| Reply::raw("").holding()).await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .environment("CUPBEARER__SERVER__DRAIN_TIMEOUT", "1s");
    let proxy = Proxy::start(config).await;
    let url = proxy.url("/");
    let _endless = tokio::spawn(async move { curl(&[&url]).await });
    eventually("it is under way", || async { api.seen().len() == 1 }).await;
    let start = clock::now();
    let (status, log) = proxy.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let took = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_name_that_is_still_looked_up_does_not_hold_up_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (source, library) = (dir.path().join("slow.c"), dir.path().join("slow.so"));
    fs::write(&source, "unsigned sleep(unsigned);\nint getaddrinfo(void) { sleep(60); return -3; }\n")
        .unwrap();
    let mut cc = Program::peer("cc", "build-essential");
    let built = cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().await.unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let server = Origin::issuing(300).await;
    let config = Config::one_route(&upstream_at("https://api.example:8000"), &token_at(&server.url()))
        .environment("CUPBEARER__SERVER__DRAIN_TIMEOUT", "1s")
        .environment("LD_PRELOAD", library.to_str().unwrap());
    let proxy = Proxy::start(config).await;
    let url = proxy.url("/");
    let asked = tokio::spawn(async move { curl(&[&url]).await });
    eventually("it is under way", || async {
        proxy.metric("cupbearer_requests_in_flight", &["route=\"/\""]).await > 0.0
    })
    .await;
    // Far less than the look-up takes.
    let (status, log) = proxy.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
    asked.await.unwrap();
}

/// Two APIs and one token: what a reload may change, and what it must leave alone.
struct Reloading {
    first: Nginx,
    second: Nginx,
    server: Origin,
}

impl Reloading {
    async fn new() -> Self {
        Self { first: Nginx::start().await, second: Nginx::start().await, server: Origin::issuing(300).await }
    }

    fn to(&self, api: &Nginx) -> Config {
        Config::one_route(&upstream_at(&api.url()), &token_at(&self.server.url()))
    }
}

#[tokio::test]
async fn a_reload_under_load_fails_no_request_and_leaves_the_token_alone() {
    let reloading = Reloading::new().await;
    let proxy = Proxy::start(reloading.to(&reloading.first)).await;
    let url = proxy.url("/");
    let load = tokio::spawn(async move { h2load(&["--h1", "-c8", "-D4", "--rps=50", &url]).await });
    for round in 1..=6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let api = if round % 2 == 1 { &reloading.second } else { &reloading.first };
        proxy.rewrite(&reloading.to(api));
        proxy.program().signal(Signal::HUP);
    }
    load.await.unwrap().assert_flawless(1000);
    assert!(reloading.first.seen().len() > 100 && reloading.second.seen().len() > 100);
    assert_eq!(reloading.server.seen().len(), 1, "the token did not change, so nobody asked for another");
    assert!(proxy.metric(RELOADS, &["result=\"applied\""]).await >= 1.0);
    assert!(proxy.metric(RELOADS, &["result=\"refused\""]).await == 0.0, "{}", proxy.log());
}

#[tokio::test]
async fn a_changed_file_is_noticed_without_a_signal() {
    let reloading = Reloading::new().await;
    let proxy = Proxy::start(reloading.to(&reloading.first)).await;
    proxy.rewrite(&reloading.to(&reloading.second));
    eventually("requests go to the second API", || async {
        assert_eq!(proxy.get("/").await.status, 200);
        !reloading.second.seen().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_symlink_swap_as_kubernetes_does_it_is_noticed() {
    let reloading = Reloading::new().await;
    let proxy = Proxy::start_laid_out(reloading.to(&reloading.first), |dir, text| {
        project(dir, "..first", "config.toml", text);
        dir.join("config.toml")
    })
    .await;
    let dir = proxy.dir();
    project(dir, "..second", "config.toml", &proxy.rendered(&reloading.to(&reloading.second)));
    fs::remove_dir_all(dir.join("..first")).unwrap();
    eventually("requests go to the second API", || async {
        assert_eq!(proxy.get("/").await.status, 200);
        !reloading.second.seen().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_reported_with_line_and_key() {
    let reloading = Reloading::new().await;
    let proxy = Proxy::start(reloading.to(&reloading.first)).await;
    assert!(proxy.metric(LAST_RELOAD, &[]).await >= 1.0);
    let broken = reloading.to(&reloading.second).and("own_authorisation = \"replace\"");
    proxy.rewrite(&broken);
    proxy.program().signal(Signal::HUP);
    eventually("it is refused", || async { proxy.metric(RELOADS, &["result=\"refused\""]).await >= 1.0 })
        .await;
    assert!(proxy.metric(LAST_RELOAD, &[]).await == 0.0);
    let log = proxy.log();
    let line =
        proxy.rendered(&broken).lines().position(|line| line.contains("own_authorisation")).unwrap() + 1;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_the_key = lines.iter().find(|line| line["key"] == "routes[0].own_authorisation");
    let told = of_the_key.unwrap_or_else(|| panic!("the key is named: {log}"));
    let origin = told["origin"].as_str().unwrap();
    assert!(origin.contains(&format!("config.toml:{line}:")), "and line {line}: {told}");
    assert_eq!(told["help"], "did you mean `own_authorization`?", "{told}");
    for sentence in ["SIGHUP: reloading", "is refused; the old one stays in force"] {
        assert!(log.contains(sentence), "{log}");
    }
    for address in [proxy.health_address(), proxy.control()] {
        assert!(lines.iter().any(|line| line["address"] == address.to_string()), "{address}: {log}");
    }
    assert_eq!(proxy.get("/").await.status, 200);
    assert!(reloading.second.seen().is_empty(), "the old one stays in force");
    assert!(proxy.is_ready().await);

    fs::write(proxy.dir().join("config.toml"), "this is [not TOML").unwrap();
    proxy.program().signal(Signal::HUP);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(proxy.get("/").await.status, 200);

    proxy.rewrite(&reloading.to(&reloading.second));
    proxy.program().signal(Signal::HUP);
    eventually("a good one is taken", || async {
        proxy.get("/").await;
        !reloading.second.seen().is_empty()
    })
    .await;
    eventually("the metric says so", || async { proxy.metric(LAST_RELOAD, &[]).await >= 1.0 }).await;
}

#[tokio::test]
async fn a_reload_brings_a_new_token_and_forgets_an_old_one() {
    let reloading = Reloading::new().await;
    let other = Origin::start(|_, _| Reply::token("other", 300)).await;
    let proxy = Proxy::start(reloading.to(&reloading.first)).await;
    let renamed = Config::new(
        upstream_at(&reloading.first.url())
            + &token_at(&other.url()).replace("[tokens.api]", "[tokens.other]")
            + "[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"other\"\n",
    );
    proxy.rewrite(&renamed);
    proxy.program().signal(Signal::HUP);
    eventually("the new token is sent", || async {
        proxy.get("/").await.field("saw-authorization") == Some("Bearer other")
    })
    .await;
    eventually("the old one is in no metric", || async { !proxy.metrics().await.contains("token=\"api\"") })
        .await;
}

#[tokio::test]
async fn a_port_in_use_is_named_and_ends_the_start() {
    let stage = Stage::plain().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let config = Config::one_route(&upstream_at(&stage.api.url()), &token_at(&stage.server.url()));
    // The same proxy address, other addresses beside it.
    let text = stage
        .proxy
        .rendered(&config)
        .replace(&stage.proxy.control().to_string(), &free_address().to_string())
        .replace(&stage.proxy.health_address().to_string(), &free_address().to_string());
    fs::write(&file, text).unwrap();
    let output = cupbearer().arg("run").arg("--config").arg(&file).output().await.unwrap();
    assert_eq!(output.status.code(), Some(75), "a port may be given back");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&stage.proxy.listen().to_string()), "the address is named: {said}");
    assert!(said.to_lowercase().contains("in use"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(said.matches("cannot listen").count(), 1, "it is said once: {said}");
    assert_eq!(said.to_lowercase().matches("in use").count(), 1, "it is said once: {said}");
    assert!(said.contains("server.listen: ") && said.contains("CUPBEARER__SERVER__LISTEN"), "{said}");

    // Its health listener's address, from flags alone: what moves it has no flag.
    let mut command = cupbearer();
    command.args(["run", "--upstream", &stage.api.url(), "--token-endpoint", &stage.server.url()]);
    let secret = dir.path().join("secret");
    fs::write(&secret, "s3cret").unwrap();
    command.args(["--client-id", "x", "--client-secret-file"]).arg(&secret);
    command.args(["--listen", &free_address().to_string()]).current_dir(dir.path());
    command.env("CUPBEARER__HEALTH__LISTEN", stage.proxy.health_address().to_string());
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(75));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("health.listen: ") && said.contains("CUPBEARER__HEALTH__LISTEN"), "{said}");
}

#[tokio::test]
async fn sigint_ends_it_as_sigterm_does() {
    let stage = Stage::plain().await;
    stage.proxy.program().signal(Signal::INT);
    let (status, log) = stage.proxy.end().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

/// What the tests of the delay have: a program that is told to end after its delay of `delay`.
async fn with_delay(delay: &str) -> (Origin, Origin, Proxy) {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .server(&format!("drain_delay = \"{delay}\""));
    let proxy = Proxy::start(config).await;
    (api, server, proxy)
}

#[tokio::test]
async fn after_sigterm_the_proxy_is_not_ready_and_serves_new_connections_until_its_delay_is_over() {
    let (api, _server, proxy) = with_delay("4s").await;
    let start = clock::now();
    proxy.program().signal(Signal::TERM);
    eventually("it is not ready", || async { !proxy.is_ready().await }).await;
    let ready: Value = serde_json::from_str(&proxy.readiness().await).unwrap();
    assert_eq!((&ready["ready"], &ready["draining"]), (&json!(false), &json!(true)), "{ready}");
    // As an application does that drains itself: new connections, each served.
    assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
    assert_eq!(proxy.status().await["draining"], true);
    let shown = String::from_utf8(proxy.command(&["status"]).await.stdout).unwrap();
    assert!(shown.contains("ending: not ready any more"), "{shown}");
    assert_eq!(proxy.get("/").await.status, 200);
    let (status, log) = proxy.end().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(start.elapsed() >= Duration::from_secs(4), "it ended after {:?}: {log}", start.elapsed());
    assert!(api.seen().len() >= 2 && log.contains("until the delay is over"), "{log}");
}

#[tokio::test]
async fn a_second_signal_ends_the_delay_and_requests_under_way_still_finish() {
    for second in [Signal::TERM, Signal::INT] {
        let api = Origin::start(slow(Duration::from_secs(2))).await;
        let server = Origin::issuing(300).await;
        let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
            .server("drain_delay = \"10m\"");
        let proxy = Proxy::start(config).await;
        let url = proxy.url("/");
        let under_way = tokio::spawn(async move { curl(&[&url]).await });
        eventually("it is under way", || async { api.seen().len() == 1 }).await;
        proxy.program().signal(Signal::TERM);
        eventually("it is not ready", || async { !proxy.is_ready().await }).await;
        proxy.program().signal(second);
        let (status, log) = proxy.end().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert_eq!(under_way.await.unwrap().status, 200, "{log}");
    }
}

#[tokio::test]
async fn readiness_by_started_outlives_the_token_in_an_outage_and_by_token_it_does_not() {
    for (ready, stays) in [("started", true), ("token", false)] {
        let api = Origin::ok().await;
        // One token, and then nothing but failures.
        let server = Origin::start(|_, earlier| match earlier {
            0 => Reply::token("token-0", 2),
            _ => Reply::json(503, "{}"),
        })
        .await;
        let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
            .environment("CUPBEARER__HEALTH__READY", ready);
        let proxy = Proxy::start(config).await;
        eventually("the token has expired", || async { proxy.get("/").await.status == 503 }).await;
        let shown = proxy.readiness().await;
        assert_eq!(proxy.is_ready().await, stays, "{ready}: {shown}");
        assert!(shown.contains("\"missing\":[\"api\"]"), "what is missing is named either way: {shown}");
        proxy.program().signal(Signal::TERM);
        let (status, log) = proxy.end().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[tokio::test]
async fn readiness_by_started_waits_for_the_first_token() {
    let (api, server) = (Origin::ok().await, Origin::start(|_, _| Reply::json(503, "{}")).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))
        .environment("CUPBEARER__HEALTH__READY", "started");
    let proxy = Proxy::start_live(config).await;
    eventually("it was refused twice", || async { server.seen().len() >= 2 }).await;
    assert!(!proxy.is_ready().await, "{}", proxy.readiness().await);
}

#[tokio::test]
async fn a_program_that_restarts_again_and_again_shows_when_a_token_request_last_succeeded() {
    const SUCCESSES: (&str, &[&str]) = ("cupbearer_token_renewals_total", &["result=\"success\""]);
    const LAST: (&str, &[&str]) = ("cupbearer_token_last_success_timestamp_seconds", &["token=\"api\""]);
    let (api, server, store) = (Origin::ok().await, Origin::issuing(300).await, tempfile::tempdir().unwrap());
    let section = format!("[store]\nkind = \"file\"\npath = {:?}\n", store.path().to_str().unwrap());
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url())).and(&section);
    let mut proxy = Proxy::start(config).await;
    let (requested, shown) = (proxy.metric(LAST.0, LAST.1).await, proxy.status().await);
    assert!(proxy.metric(SUCCESSES.0, SUCCESSES.1).await >= 1.0 && requested > 0.0);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        proxy = proxy.kill().await.start().await;
        proxy.until_ready().await;
        assert!(proxy.metric(SUCCESSES.0, SUCCESSES.1).await < 0.5, "nothing was requested");
        let adopted = proxy.metric("cupbearer_token_adoptions_total", LAST.1).await;
        assert!((adopted - 1.0).abs() < 0.5, "{adopted}");
        let last = proxy.metric(LAST.0, LAST.1).await;
        assert!((last - requested).abs() <= 1.0, "{last} is not when it was requested, {requested}");
        let now = proxy.status().await;
        let at = |status: &Value| status["tokens"][0]["last_renewal"].as_u64().unwrap();
        assert!(at(&now).abs_diff(at(&shown)) <= 1, "{now} {shown}");
    }
    assert_eq!(server.seen().len(), 1);
}
