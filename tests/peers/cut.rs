//! Messages that are broken off: whoever receives one sees that it is not whole, on either protocol, in each direction.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use cupbearer_testing::{
    Certificates, Config, Origin, Program, Proxy, curl, eventually, hear, node, run, token_at, told,
    upstream_at,
};

/// The API of `tests/peers/node/cut.mjs` behind a proxy, by one of its two protocols.
struct CutStage {
    api: Program,
    proxy: Proxy,
    _server: Origin,
    _dir: TempDir,
}

impl CutStage {
    async fn new(protocol: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut api = Program::spawn("cut-api", node("node/cut.mjs", None), dir.path());
        let ports = hear(&mut api, "ready", |event| event["event"] == "ready").await;
        let mut upstream = upstream_at(&format!("http://127.0.0.1:{}", ports[protocol]));
        if protocol == "h2" {
            upstream += "http2 = \"prior_knowledge\"\n";
        }
        let server = Origin::issuing(300).await;
        let config = Config::one_route(&upstream, &token_at(&server.url()))
            .and("[log]\nformat = \"json\"\naccess = true");
        Self { api, proxy: Proxy::start(config).await, _server: server, _dir: dir }
    }

    /// Runs a case of `cut-client.mjs`, Node's HTTP/2 client.
    async fn client(&self, case: &str) -> Value {
        let mut command = node("node/cut-client.mjs", None);
        command.arg(self.proxy.url("")).arg(case);
        run(command).await.pop().unwrap()
    }

    /// What the API saw of the upload of this name.
    async fn upload(&mut self, name: &str) -> Value {
        let of_name = |event: &Value| event["event"] == "upload" && event["name"] == name;
        hear(&mut self.api, "through with the upload", of_name).await
    }

    /// How the access log says that the last request for `path` ended.
    async fn ended(&self, path: &str) -> String {
        let last = || {
            let lines = told(self.proxy.program());
            lines.into_iter().rfind(|line| line["target"] == "cupbearer::access" && line["path"] == path)
        };
        eventually("the request has ended", || async { last().is_some() }).await;
        last().unwrap()["ended"].as_str().unwrap().to_owned()
    }

    async fn aborted(&self, cause: &str) -> f64 {
        self.proxy.metric("cupbearer_aborted_total", &[&format!("cause=\"{cause}\"")]).await
    }
}

#[tokio::test]
async fn an_upload_that_an_http_2_client_breaks_off_is_seen_as_cut_by_the_api() {
    for protocol in ["h1", "h2"] {
        let mut stage = CutStage::new(protocol).await;
        for case in ["destroy", "fail"] {
            stage.client(case).await;
            let upload = stage.upload(case).await;
            assert_eq!(
                (&upload["whole"], &upload["bytes"]),
                (&false.into(), &11.into()),
                "{protocol} {upload}"
            );
            assert_eq!(stage.ended("/upload").await, "aborted", "{protocol} {case}");
        }
        eventually("both are counted", || async { stage.aborted("application").await > 1.5 }).await;
        stage.client("whole").await;
        let upload = stage.upload("whole").await;
        assert_eq!(json!([upload["whole"], upload["bytes"]]), json!([true, 23]), "{protocol} {upload}");
    }
}

#[tokio::test]
async fn an_upload_that_an_http_1_client_breaks_off_is_seen_as_cut_by_the_api() {
    for protocol in ["h1", "h2"] {
        let mut stage = CutStage::new(protocol).await;
        let mut wire = stage.proxy.wire().await;
        wire.send(format!(
            "POST /upload?name=h1 HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhalf of it \r\n",
            stage.proxy.listen()
        ))
        .await;
        eventually("the API has received the half", || async {
            stage.proxy.get("/received?name=h1").await.text() == "11"
        })
        .await;
        drop(wire);
        let upload = stage.upload("h1").await;
        assert_eq!(json!([upload["whole"], upload["bytes"]]), json!([false, 11]), "{protocol} {upload}");
    }
}

#[tokio::test]
async fn a_response_that_the_api_breaks_off_is_an_error_to_curl_and_says_so_in_log_and_metrics() {
    for protocol in ["h1", "h2"] {
        let stage = CutStage::new(protocol).await;
        let mut cut = 0.0;
        let versions =
            [("--http1.0", [18, 56]), ("--http1.1", [18, 56]), ("--http2-prior-knowledge", [92, 18])];
        for (version, exits) in versions {
            for query in ["how=destroy", "how=close", "how=close&length=1000"] {
                let answer = curl(&[version, &stage.proxy.url(&format!("/cut?{query}"))]).await;
                assert!(exits.contains(&answer.exit), "{protocol} {version} {query}: {answer:?}");
                assert_eq!(answer.status, 200, "{protocol} {version} {query}: {answer:?}");
                assert_eq!(stage.ended("/cut").await, "aborted", "{protocol} {version} {query}");
                cut += 1.0;
                eventually("it is counted", || async { stage.aborted("upstream").await > cut - 0.5 }).await;
            }
        }
        assert!(stage.aborted("application").await < 0.5, "all of them were the API's doing");
    }
}

/// In HTTP/1.0 the end of the connection is the end of a body whose length is not known (RFC 9112 section 8).
#[tokio::test]
async fn a_response_that_breaks_off_is_an_error_to_an_http_1_0_client_whatever_broke_it() {
    let dir = tempfile::tempdir().unwrap();
    Certificates::for_loopback(dir.path());
    let [cert, key] = ["server.pem", "server.key"].map(|file| dir.path().join(file).display().to_string());
    let tls = format!("tls = {{ cert_file = '{cert}', key_file = '{key}' }}");
    for (server_lines, scheme) in [("", "http"), (tls.as_str(), "https")] {
        let api = Origin::scripted(|mut wire| async move {
            let Some(request) = wire.head().await else { return };
            let head = "HTTP/1.1 200 OK\r\n";
            match request.target().as_str() {
                "/reset" => {
                    wire.send(format!("{head}\r\nhello")).await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    wire.reset();
                }
                "/whole" => wire.send(format!("{head}\r\nhello")).await,
                path => {
                    wire.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")).await;
                    if path != "/closed" {
                        wire.closes(Duration::from_secs(20)).await;
                    }
                }
            }
        })
        .await;
        let server = Origin::issuing(300).await;
        let upstream = upstream_at(&api.url()) + "idle_timeout = \"1s\"\n";
        let old =
            "[[routes]]\npath = \"/old\"\nupstream = \"api\"\ntoken = \"api\"\nmax_stream_age = \"500ms\"";
        let config = Config::one_route(&upstream, &token_at(&server.url())).server(server_lines).and(old);
        let proxy = Proxy::start(config).await;
        for (path, exit) in [("/closed", 56), ("/reset", 56), ("/silent", 56), ("/old", 56), ("/whole", 0)] {
            let url = format!("{scheme}://{}{path}", proxy.listen());
            let answer = curl(&["--http1.0", "--insecure", &url]).await;
            assert_eq!((answer.exit, answer.status), (exit, 200), "{scheme} {path}: {answer:?}");
            assert_eq!(answer.text(), "hello", "{scheme} {path}");
        }
    }
}

#[tokio::test]
async fn a_grpc_response_without_its_trailers_is_reset_toward_the_caller() {
    for protocol in ["h1", "h2"] {
        let stage = CutStage::new(protocol).await;
        for case in ["cut_json", "cut_grpc"] {
            let seen = stage.client(case).await;
            let told = json!([seen["status"], seen["trailers"], seen["error"], seen["reset"]]);
            // INTERNAL_ERROR, which gRPC takes for a failure; NO_ERROR is none.
            let wanted = json!([200, false, "ERR_HTTP2_STREAM_ERROR", 2]);
            assert_eq!(told, wanted, "{protocol} {seen}");
        }
    }
}

/// RFC 9113 section 8.1: `RST_STREAM` behind a whole response is about the request alone.
#[tokio::test]
async fn a_whole_response_that_stops_an_upload_is_no_cut_response() {
    for protocol in ["h1", "h2"] {
        let stage = CutStage::new(protocol).await;
        let seen = stage.client("early").await;
        assert_eq!(json!([seen["status"], seen["bytes"]]), json!([413, 10]), "{protocol} {seen}");
        assert_eq!(stage.ended("/early").await, "complete", "{protocol}");
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large");
        std::fs::write(&large, vec![b'x'; 1 << 20]).unwrap();
        let body = format!("@{}", large.display());
        let answer = curl(&["--http1.1", "--data-binary", &body, &stage.proxy.url("/early")]).await;
        assert_eq!((answer.status, answer.text().as_str()), (413, "too large\n"), "{protocol} {answer:?}");
        assert!(stage.aborted("upstream").await < 0.5, "{protocol}");
    }
}
