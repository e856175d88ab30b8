//! Server-sent events, by the `EventSource` that Node.js programs use (npm `eventsource`).

use serde_json::{Value, json};
use tokio::process::Command;

use cupbearer_testing::{Config, Origin, Program, Proxy, hear, node, run, token_at, told, upstream_at};

/// An API that sends an event once the one before has arrived, and a proxy before it.
struct Stage {
    api: Program,
    url: String,
    proxy: Proxy,
    _server: Origin,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut api = Program::spawn("sse-api", node("sse/api.mjs", None), dir.path());
        let ready = hear(&mut api, "ready", |event| event["event"] == "ready").await;
        let url = format!("http://127.0.0.1:{}", ready["port"]);
        let server = Origin::issuing(300).await;
        let proxy = Proxy::start(Config::one_route(&upstream_at(&url), &token_at(&server.url()))).await;
        Self { api, url, proxy, _server: server, _dir: dir }
    }

    fn client(&self) -> Command {
        let mut client = node("sse/client.mjs", Some("eventsource"));
        client.arg(self.proxy.url("/events")).arg(&self.url);
        client
    }
}

#[tokio::test]
async fn each_event_arrives_before_the_next_is_sent_and_a_break_is_made_good() {
    let stage = Stage::start().await;
    let report = run(stage.client()).await.remove(0);
    assert_eq!(report["ids"], json!((0..20).collect::<Vec<_>>()), "{report}");
    println!("events were {} ms on their way, the slowest {} ms", report["typical"], report["worst"]);
    let opened: Vec<_> = told(&stage.api).into_iter().filter(|event| event["event"] == "opened").collect();
    let last: Vec<_> = opened.iter().map(|event| event["last"].clone()).collect();
    assert_eq!(last, [Value::Null, "9".into()], "the API hung up once, and Last-Event-ID came after that");
    assert!(opened.iter().all(|event| event["accept"] == "text/event-stream"), "{opened:?}");
}

#[tokio::test]
async fn an_event_source_that_closes_ends_the_request_at_the_api() {
    let mut stage = Stage::start().await;
    let mut client = stage.client();
    client.env("LINGER", "60000");
    let client = tokio::spawn(run(client));
    hear(&mut stage.api, "hung up on", |event| event["event"] == "closed" && event["whole"] == false).await;
    assert!(!client.is_finished(), "the program is there still: its EventSource alone has ended");
    client.abort();
}
