//! The programs that people call and load APIs with: curl, h2load, nghttp and wrk.

use cupbearer_testing::{
    CREDENTIALS, Config, Nginx, Origin, Program, Proxy, curl, h2load, token_at, upstream_at,
};

async fn before(api: &Nginx) -> (Origin, Proxy) {
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    (server, proxy)
}

/// Each request came once, with the token.
fn assert_all_came(api: &Nginx, count: usize) {
    let seen = api.seen();
    assert!(seen.len() >= count, "{} of {count}", seen.len());
    assert!(seen.iter().all(|request| request.authorization == CREDENTIALS));
}

async fn output(program: &str, package: &str, arguments: &[&str]) -> String {
    let mut command = Program::peer(program, package);
    let output = command.args(arguments).kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test]
async fn h2load_gets_every_answer_whatever_the_shape_of_the_load() {
    let api = Nginx::start().await;
    api.add_file("page", 20_000);
    let (_server, proxy) = before(&api).await;
    let (small, page) = (proxy.url("/"), proxy.url("/files/page"));
    let shapes: [&[&str]; 6] = [
        &["--h1", "-n1000", "-c1", &small],
        &["--h1", "-n2000", "-c64", &small],
        &["-n2000", "-c1", "-m100", &small],
        &["-n2000", "-c32", "-m10", &small],
        &["--h1", "-n1000", "-c16", &page],
        // Windows smaller than an answer.
        &["-n1000", "-c4", "-m16", "-w13", "-W14", &page],
    ];
    let mut count = 0;
    for shape in shapes {
        let load = h2load(shape).await;
        load.assert_flawless(1000);
        count += usize::try_from(load.done).unwrap();
    }
    assert_all_came(&api, count);
}

#[tokio::test]
async fn nghttp_gets_a_thousand_answers_on_one_connection() {
    let api = Nginx::start().await;
    let (_server, proxy) = before(&api).await;
    let text = output("nghttp", "nghttp2-client", &["-n", "-s", "-m1000", &proxy.url("/page?a=b")]).await;
    // A line for each request: number, start, end, duration, status, size, path.
    let good = text.lines().filter(|line| line.split_whitespace().nth(4) == Some("200")).count();
    assert_eq!(good, 1000, "{text}");
    assert_all_came(&api, 1000);
}

#[tokio::test]
async fn nghttp_uploads_with_a_window_of_its_own() {
    let api = Nginx::start().await;
    let (_server, proxy) = before(&api).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("upload");
    std::fs::write(&file, vec![b'x'; 3_000_000]).unwrap();
    let file = file.display().to_string();
    for number in 0..5 {
        let url = proxy.url(&format!("/files/{number}"));
        let text =
            output("nghttp", "nghttp2-client", &["-n", "-s", "-H:method: PUT", "-d", &file, &url]).await;
        assert!(text.lines().any(|line| line.split_whitespace().nth(4) == Some("201")), "{text}");
        assert_eq!(curl(&[&url]).await.body.len(), 3_000_000);
    }
}

#[tokio::test]
async fn wrk_meets_no_error() {
    let api = Nginx::start().await;
    let (_server, proxy) = before(&api).await;
    let text = output("wrk", "wrk", &["-t2", "-c50", "-d3s", &proxy.url("/")]).await;
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let done: usize = text
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())
        .unwrap_or_else(|| panic!("no count: {text}"));
    assert!(done >= 500, "{text}");
    assert_all_came(&api, done);
}

#[tokio::test]
async fn curl_is_answered_in_each_version_that_it_offers() {
    let api = Nginx::start().await;
    let (_server, proxy) = before(&api).await;
    let url = proxy.url("/a");
    for version in ["--http1.0", "--http1.1", "--http2", "--http2-prior-knowledge"] {
        let answer = curl(&[version, &url]).await;
        assert_eq!((answer.exit, answer.status, answer.text().as_str()), (0, 200, "GET /a\n"), "{version}");
        // An upgrade to h2c is not accepted, which is every server's right (RFC 9113 section 3.1).
        let expected = if version == "--http2-prior-knowledge" { "HTTP/2" } else { "HTTP/1." };
        assert!(answer.version.starts_with(expected), "{version}: {answer:?}");
    }
}
