//! `max_stream_age`: each kind of stream ends in the way that its reader understands.

use std::time::Duration;

use bytes::Bytes;

use cupbearer_testing::{Origin, Stage, curl, eventually};

/// An API whose every answer goes on for ever, of the type that the path says.
async fn endless() -> Origin {
    Origin::scripted(|mut wire| async move {
        while let Some(request) = wire.request().await {
            let kind = request.target().trim_start_matches('/').replace('+', "/");
            wire.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
            ))
            .await;
            while wire.try_send(b"9\r\ndata: 1\n\n\r\n", Duration::from_secs(5)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    })
    .await
}

async fn stage() -> Stage {
    Stage::with(endless().await, "", "max_stream_age = \"1s\"").await
}

#[tokio::test]
async fn events_end_cleanly_so_that_their_reader_comes_back() {
    let stage = stage().await;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&[version, &stage.proxy.url("/text+event-stream")]).await;
        assert_eq!((answer.exit, answer.status), (0, 200), "{answer:?}");
        let events = answer.text().matches("data: 1").count();
        assert!((2..=21).contains(&events), "{events} in a second");
    }
}

#[tokio::test]
async fn anything_else_is_visibly_cut() {
    let stage = stage().await;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&[version, &stage.proxy.url("/application+json")]).await;
        // 18: a partial file; 92: an HTTP/2 stream was reset.
        assert!([18, 92].contains(&answer.exit) && answer.status == 200, "{answer:?}");
    }
    eventually("nothing is left of them", || async {
        stage.proxy.metric("cupbearer_requests_in_flight", &[]).await < 0.5
            && stage.proxy.metric("cupbearer_connections", &["side=\"upstream\""]).await < 0.5
    })
    .await;
}

#[tokio::test]
async fn a_grpc_call_ends_with_a_status_that_is_tried_again_and_its_connection_goes_away() {
    let stage = stage().await;
    let tcp = tokio::net::TcpStream::connect(stage.proxy.listen()).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::post(stage.proxy.url("/application+grpc"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (response, mut upload) = client.send_request(request, false).unwrap();
    upload.send_data(Bytes::new(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "14");
    assert!(trailers["grpc-message"].to_str().unwrap().contains("max_stream_age"));
    drop((body, upload, client));
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_is_not_answered_in_time_gets_an_answer_of_the_proxys() {
    let api = Origin::scripted(|mut wire| async move {
        wire.rest().await;
    })
    .await;
    let stage = Stage::with(api, "", "max_stream_age = \"1s\"").await;
    let answer = stage.proxy.get("/").await;
    answer.assert_proxy_error(504);
    assert_eq!(answer.proxy_error(), Some("stream_too_old"));
}

#[tokio::test]
async fn what_is_over_in_time_is_not_touched() {
    let stage = Stage::with(Origin::ok().await, "", "max_stream_age = \"1s\"").await;
    let mut wire = stage.proxy.wire().await;
    for _ in 0..3 {
        wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", stage.proxy.listen())).await;
        assert_eq!(wire.response("GET").await.unwrap().text(), "ok");
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
}
