//! Bodies: streamed both ways, whole or visibly cut, at a memory that does not grow with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cupbearer_testing::{
    CREDENTIALS, Config, Nginx, Origin, Proxy, Reply, Stage, eventually, token_at, upstream_at,
};

const MIB: usize = 1 << 20;

/// What a proxy of the debug build may use in all, whatever goes through it.
const MEMORY_KIB: u64 = 64 * 1024;

#[tokio::test]
async fn a_download_streams_at_constant_memory() {
    let api = Nginx::start().await;
    api.add_file("big", 1024 * MIB as u64);
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let mut wire = proxy.wire().await;
    wire.send(format!("GET /files/big HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen())).await;
    let head = wire.head().await.unwrap();
    assert_eq!((head.status(), head.field("content-length")), (200, Some((1024 * MIB).to_string())));
    assert_eq!(wire.swallow(1024 * MIB).await, 1024 * MIB);
    assert!(proxy.program().peak_memory_kib() < MEMORY_KIB, "{} KiB", proxy.program().peak_memory_kib());
}

#[tokio::test]
async fn an_upload_streams_at_constant_memory() {
    const SIZE: usize = 512 * MIB;
    let api = Origin::scripted(|mut wire| async move {
        let head = wire.head().await.unwrap();
        assert_eq!(head.all("authorization"), [CREDENTIALS]);
        let count = wire.swallow(SIZE).await;
        wire.send(Reply::new(200, &[], count.to_string()).into_bytes()).await;
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    wire.send(format!("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: {SIZE}\r\n\r\n", stage.proxy.listen()))
        .await;
    let piece = vec![b'x'; MIB];
    for _ in 0..SIZE / MIB {
        wire.try_send(&piece, Duration::from_secs(20)).await.unwrap();
    }
    assert_eq!(wire.response("PUT").await.unwrap().text(), SIZE.to_string());
    let memory = stage.proxy.program().peak_memory_kib();
    assert!(memory < MEMORY_KIB, "{memory} KiB");
}

#[tokio::test]
async fn a_slow_reader_slows_the_sender_down() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let api = Origin::scripted(move |mut wire| {
        let count = Arc::clone(&count);
        async move {
            wire.head().await;
            wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1024 * MIB)).await;
            let piece = vec![b'x'; 64 * 1024];
            while wire.try_send(&piece, Duration::from_secs(20)).await.is_ok() {
                count.fetch_add(piece.len(), Ordering::Relaxed);
            }
        }
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.proxy.listen())).await;
    assert_eq!(wire.head().await.unwrap().status(), 200);
    // Nobody reads. What the kernel and the proxy hold is bounded, so the API comes to a stand.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = sent.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = sent.load(Ordering::Relaxed);
    assert_eq!(before, after, "the API still sends");
    assert!(after < 32 * MIB, "{after} bytes are under way");
    // And others are served in the meantime.
    assert!(stage.proxy.is_ready().await);
}

#[tokio::test]
async fn a_body_starts_to_arrive_before_it_is_whole() {
    let api = Origin::scripted(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for _ in 0..3 {
            wire.send("9\r\ndata: 1\n\n\r\n").await;
            // The next one comes only when the application has the one before.
            let next = wire.swallow(1).await;
            assert_eq!(next, 1, "the proxy waits for more");
        }
        wire.send("0\r\n\r\n").await;
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    wire.send(format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 3\r\n\r\n", stage.proxy.listen()))
        .await;
    assert_eq!(wire.head().await.unwrap().status(), 200);
    for _ in 0..3 {
        // An event and its chunk's size: 14 bytes, in whatever chunks they come.
        assert_eq!(wire.swallow(14).await, 14);
        wire.send("x").await;
    }
    assert_eq!(wire.swallow(5).await, 5, "the last chunk");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let stage = Stage::answering(|_, _| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n",
        )
    })
    .await;
    let mut wire = stage.proxy.wire().await;
    let host = stage.proxy.listen();
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Check\r\n\r\n5\r\nhello\r\n0\r\nX-Check: 42\r\nAuthorization: Bearer smuggled\r\n\r\n"
    ))
    .await;
    let answer = wire.response("POST").await.unwrap();
    assert_eq!(
        (answer.text().as_str(), answer.trailers.as_slice()),
        ("ok", &[("x-sum".into(), "7".into())][..])
    );
    let sent = stage.api.only();
    assert_eq!(sent.text(), "hello");
    assert_eq!(sent.trailers, [("x-check".to_owned(), "42".to_owned())], "and no credentials among them");
    assert_eq!(sent.all("te"), ["trailers"]);
}

#[tokio::test]
async fn a_cut_answer_is_not_passed_off_as_a_whole_one() {
    for cut in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let stage = Stage::answering(move |_, _| Reply::raw(cut).closing()).await;
        let answer = stage.proxy.get("/").await;
        // 18: a partial file; 56: the connection was reset; 92: an HTTP/2 stream was.
        assert!([18, 56, 92].contains(&answer.exit), "curl took it for whole: {answer:?}");
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_ends_the_request_upstream() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let api = Origin::scripted(move |mut wire| {
        let count = Arc::clone(&count);
        async move {
            wire.head().await;
            wire.rest().await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let stage = Stage::with(api, "", "").await;
    let mut wire = stage.proxy.wire().await;
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\nhalf",
        stage.proxy.listen()
    ))
    .await;
    eventually("the upload has reached the API", || async { stage.api.connections() == 1 }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    wire.reset();
    eventually("the API's connection ends", || async { ended.load(Ordering::Relaxed) == 1 }).await;
}

#[tokio::test]
async fn a_body_that_falls_silent_is_given_up() {
    let api =
        Origin::start(|_, _| Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").holding())
            .await;
    let stage = Stage::with(api, "idle_timeout = \"1s\"\n", "").await;
    let mut wire = stage.proxy.wire().await;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.proxy.listen())).await;
    assert_eq!(wire.head().await.unwrap().status(), 200);
    assert!(wire.closes(Duration::from_secs(5)).await, "`idle_timeout` bounds a silence");
}
