//! A container of 64 MiB under twice the load that once had the kernel kill the program: it lives, a well-behaved client is
//! served meanwhile, and the memory is given back.

use serde_json::Value;
use tempfile::TempDir;

use cupbearer_testing::{
    Cgroup, Config, Origin, Program, Proxy, curl, eventually, h2load, hear, node, python, run, token_at,
    upstream_at,
};

/// The memory of the sidecars in `deploy/`.
const CONTAINER_MIB: u64 = 64;
/// What the debug build keeps after a load, with the metrics of its routes, and idle connections of both sides.
const AFTER_MIB: u64 = 20;

/// Which protocol the API speaks.
#[derive(Clone, Copy, Debug)]
enum Api {
    Http1,
    Http2,
}

/// The proxy in its container, before an API that is slow, endless or deaf by the path (`tests/peers/memory/api.mjs`).
struct Scene {
    proxy: Proxy,
    _api: Program,
    _server: Origin,
    _dir: TempDir,
    /// Last: a cgroup can be removed only once the proxy in it has ended.
    cgroup: Cgroup,
}

impl Scene {
    async fn set(api: Api) -> Self {
        Self::with(api, "").await
    }

    /// On one worker: a load meets all of the budget.
    async fn on_one_worker(api: Api) -> Self {
        Self::with(api, "workers = 1").await
    }

    /// With these lines in its section `server`.
    async fn with(api: Api, server: &str) -> Self {
        Self::of(api, server, "").await
    }

    /// And these in that of its upstream.
    async fn of(api: Api, server: &str, upstream: &str) -> Self {
        let cgroup = Cgroup::with_memory(CONTAINER_MIB);
        let dir = tempfile::tempdir().unwrap();
        let mut program = Program::spawn("api", node("memory/api.mjs", None), dir.path());
        let ready = hear(&mut program, "ready", |event| event["event"] == "ready").await;
        let url = |key: &str| format!("http://127.0.0.1:{}", ready[key]);
        let upstream = match api {
            Api::Http1 => upstream_at(&url("one")) + upstream,
            Api::Http2 => upstream_at(&url("two")) + "http2 = \"prior_knowledge\"\n" + upstream,
        };
        let tokens = Origin::issuing(300).await;
        let config = Config::one_route(&upstream, &token_at(&tokens.url())).server(server).within(&cgroup);
        let proxy = Proxy::start(config).await;
        Self { proxy, _api: program, _server: tokens, _dir: dir, cgroup }
    }

    /// So many clients of a kind at once, for so many seconds (`tests/peers/memory/load.py`).
    async fn load(&self, kind: &str, count: usize, seconds: u32) -> Value {
        let mut command = python("memory/load.py");
        command.arg(self.proxy.listen().to_string());
        command.args([kind, &count.to_string(), &seconds.to_string()]);
        run(command).await.pop().unwrap()
    }

    /// A load under which the program lives, serves a well-behaved client, and after which it gives its memory back.
    async fn survives(&self, kind: &str, count: usize, seconds: u32) -> Value {
        let done = self.load(kind, count, seconds).await;
        assert_eq!(self.cgroup.kills(), 0, "{done}");
        assert_eq!(curl(&[&self.proxy.health_url("/livez")]).await.status, 200, "{}", self.proxy.log());
        let served = done["well_behaved"]["200"].as_u64().unwrap_or(0);
        assert!(served >= 3, "a well-behaved client is served meanwhile: {done}");
        eventually("the memory is given back", || async { self.cgroup.anonymous_mib() <= AFTER_MIB }).await;
        // A request may meet several connections to the API that ended under the load.
        eventually("everything is as before", || async { self.proxy.get("/").await.status == 200 }).await;
        done
    }

    async fn limited(&self, what: &str) -> f64 {
        self.proxy.metric("cupbearer_memory_limited_total", &[&format!("what=\"{what}\"")]).await
    }
}

#[tokio::test]
async fn responses_that_nobody_reads_do_not_fill_a_container() {
    let scene = Scene::set(Api::Http2).await;
    let done = scene.survives("stalled", 182, 12).await;
    assert!(done["load"]["200"].as_u64().unwrap() > 50, "they got their responses' heads: {done}");
}

#[tokio::test]
async fn responses_of_http1_that_nobody_reads_do_not_either() {
    let scene = Scene::set(Api::Http1).await;
    scene.survives("stalled", 700, 12).await;
}

/// Twice the load that once had every other request time out.
#[tokio::test]
async fn http2_downloads_that_stand_still_are_reset_and_all_else_on_their_connections_goes_on() {
    let scene = Scene::set(Api::Http2).await;
    let mut command = node("memory/streams.mjs", None);
    command.arg(scene.proxy.listen().to_string()).args(["20", "40", "24"]);
    let done = run(command).await.pop().unwrap();
    assert_eq!(scene.cgroup.kills(), 0, "{done}");
    let count = |of: &str, outcome: &str| done[of][outcome].as_u64().unwrap_or(0);
    let downloads: u64 = done["downloads"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    // CANCEL (RFC 9113 section 7).
    assert!(count("downloads", "200 reset 8") > downloads / 2, "{done}");
    assert_eq!(done["connections_lost"], 0, "{done}");
    let waited = count("waiting", "200") + count("waiting", "503");
    assert!(waited == 20 && count("waiting", "200") >= 10, "the other requests go on: {done}");
    assert!(count("well_behaved", "200") >= 5, "small requests to the same API are served: {done}");
    assert!(scene.limited("stalled").await > 100.0);
    let resets = scene.proxy.get("/resets").await;
    let resets: Value = serde_json::from_slice(&resets.body).unwrap();
    assert!(resets["8"].as_u64().unwrap() > downloads / 2, "the API learns of it: {resets}");
    eventually("the memory is given back", || async { scene.cgroup.anonymous_mib() <= AFTER_MIB }).await;
}

#[tokio::test]
async fn readers_that_are_slow_and_steady_are_not_taken_for_stalled_ones() {
    for api in [Api::Http1, Api::Http2] {
        let scene = Scene::with(api, "memory_limit = \"20MiB\"").await;
        let done = scene.load("slow", 100, 15).await;
        assert_eq!(done["load"]["read on"], 100, "{api:?}: {done}");
        assert!(scene.limited("stalled").await < 0.5, "{api:?}: {done}");
        assert!(scene.proxy.log().contains("memory_limit is near"), "{api:?}: it was short meanwhile");
        assert_eq!(scene.cgroup.kills(), 0, "{done}");
    }
}

#[tokio::test]
async fn uploads_that_the_api_does_not_take_do_not_fill_a_container() {
    let scene = Scene::set(Api::Http2).await;
    scene.survives("uploads", 98, 12).await;
    assert!(scene.limited("read").await > 0.0, "reading paused");
    assert!(scene.limited("stalled").await > 0.0, "what stood still was given up");
}

#[tokio::test]
async fn bodies_are_not_kept_where_their_sum_would_be_too_much() {
    let scene = Scene::set(Api::Http1).await;
    let done = scene.survives("posts", 1400, 15).await;
    assert!(done["load"]["200"].as_u64().unwrap() > 100, "{done}");
    assert!(scene.limited("replay_body").await > 0.0, "bodies were sent once");
}

#[tokio::test]
async fn requests_beyond_the_memory_get_503_that_says_when_to_come_back() {
    let scene = Scene::set(Api::Http1).await;
    let done = scene.survives("gets", 4000, 15).await;
    assert!(done["load"]["200"].as_u64().unwrap() > 100, "{done}");
    let refused = done["load"]["503 overloaded"].as_u64().unwrap_or(0);
    assert!(refused > 0, "{done}");
    let refusal = done["refusal"].as_str().unwrap();
    assert!(refusal.contains("memory_limit") && refusal.contains("retry-after: 1"), "{refusal}");
    assert!(scene.limited("request").await > 0.0);
}

#[tokio::test]
async fn connections_beyond_the_memory_wait_or_take_the_place_of_idle_ones() {
    let scene = Scene::set(Api::Http1).await;
    let done = scene.survives("idle", 9000, 10).await;
    assert!(scene.limited("connection").await > 0.0, "{done}");
}

#[tokio::test]
async fn heads_without_end_do_not_fill_a_container() {
    let scene = Scene::set(Api::Http1).await;
    scene.survives("heads", 1968, 12).await;
    assert!(scene.limited("connection").await + scene.limited("read").await > 0.0);
}

#[tokio::test]
async fn large_heads_of_responses_that_nobody_reads_do_not_fill_a_container() {
    let scene = Scene::on_one_worker(Api::Http1).await;
    scene.survives("unread_heads", 1400, 12).await;
    assert!(scene.limited("read").await > 0.0, "reading paused");
}

#[tokio::test]
async fn large_heads_for_http2_applications_do_not_either() {
    for api in [Api::Http1, Api::Http2] {
        let scene = Scene::on_one_worker(api).await;
        scene.survives("http2_heads", 16, 12).await;
        let limited = scene.limited("read").await + scene.limited("request").await;
        assert!(limited > 0.0, "{api:?}: memory was short");
    }
}

#[tokio::test]
async fn large_trailers_that_nobody_reads_do_not_fill_a_container() {
    for api in [Api::Http1, Api::Http2] {
        let scene = Scene::on_one_worker(api).await;
        scene.survives("http2_trailers", 10, 12).await;
    }
}

/// Seven kilobytes on the wire, and seven megabytes as HTTP/1.1 writes them.
#[tokio::test]
async fn requests_that_are_large_once_decoded_are_refused_beyond_the_memory() {
    let scene = Scene::on_one_worker(Api::Http1).await;
    scene.survives("http2_cookies", 16, 15).await;
    assert!(scene.limited("request").await > 0.0);
}

/// Each has 1,800 fields of one byte on the wire, in a frame of its own or behind it.
#[tokio::test]
async fn requests_of_many_small_fields_do_not_fill_a_container() {
    for kind in ["http2_fields", "http2_continued"] {
        let scene = Scene::on_one_worker(Api::Http1).await;
        scene.survives(kind, 200, 15).await;
    }
}

/// Its API has responded in time.
#[tokio::test]
async fn a_response_whose_head_has_no_memory_in_time_is_503_overloaded() {
    for api in [Api::Http1, Api::Http2] {
        let scene = Scene::of(api, "workers = 1", "response_header_timeout = \"2s\"\n").await;
        let mut late = 0;
        // Whether one has to wait for too long depends on how both loads meet.
        for _ in 0..4 {
            let (_, done) =
                tokio::join!(scene.load("http2_heads", 32, 20), scene.load("large_heads", 20, 20));
            late = done["load"]["503 overloaded in the end"].as_u64().unwrap_or(0);
            if late > 0 {
                break;
            }
        }
        assert!(late > 0, "{api:?}");
        assert!(scene.limited("request").await >= 1.0, "{api:?}");
        assert_eq!(scene.cgroup.kills(), 0, "{api:?}");
    }
}

/// All at once, and more of them than memory has room for.
#[tokio::test]
async fn readers_of_large_heads_get_each_a_response_though_memory_is_short() {
    for http in [&["--h1", "-c400"][..], &["-c5", "-m200"]] {
        let scene = Scene::on_one_worker(Api::Http1).await;
        let url = format!("http://{}/large-head", scene.proxy.listen());
        let load = h2load(&[http, &["-n2000", &url]].concat()).await;
        assert_eq!(scene.cgroup.kills(), 0, "{load:?}");
        assert_eq!((load.done, load.errored, load.timeout), (2000, 0, 0), "{load:?}");
        assert!(load.good >= 100, "{load:?}");
    }
}

#[tokio::test]
async fn check_and_the_log_say_what_auto_came_to() {
    let scene = Scene::set(Api::Http1).await;
    assert!(scene.proxy.log().contains("48 MiB of the container's limit of 64 MiB"), "{}", scene.proxy.log());
    let checked = scene.proxy.command(&["check"]).await;
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success() && text.contains("memory_limit: "), "{text}");
}
