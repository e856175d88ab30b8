//! Request bodies: when they are sent, and how they end.

use super::*;

#[tokio::test]
async fn a_body_that_was_not_sent_comes_back_whole() {
    local(async {
        let (mut client, body) = client("content-length: 5").await;
        let (connection, server) = pair();
        drop(server);
        client.write_all(b"hello").await.unwrap();
        let kept = Rc::new(Kept::default());
        let failed = send(connection, &kept, &head(Method::POST), body).await.unwrap_err();
        let SendError::Unsent(body) = failed else { panic!("{failed:?}") };

        let (connection, mut server) = pair();
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        send(connection, &kept, &head(Method::POST), body).await.unwrap();
        let sent = read_until(&mut server, "hello").await;
        assert!(sent.contains("content-length: 5\r\n"), "{sent}");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_at_hand_goes_with_its_head_in_one_write() {
    local(async {
        let (mut client, accepted) = UnixStream::pair().unwrap();
        let (connection, mut server) = pair();
        let connection = RefCell::new(Some(connection));
        // As the proxy does it: the request goes out from the connection's own task.
        let service = service_fn(move |request: Request<Incoming>| {
            let connection = connection.borrow_mut().take().unwrap();
            async move {
                let body = TestBody::Incoming { unread: None, rest: request.into_body() };
                let kept = Rc::new(Kept::default());
                let _ = send(connection, &kept, &head(Method::POST), body).await;
                Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
            }
        });
        let serving =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(accepted), service);
        tokio::task::spawn_local(async move { serving.await.is_ok() });
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await
            .unwrap();
        let mut first = vec![0; 4096];
        let read = timeout(LIMIT, server.read(&mut first)).await.unwrap().unwrap();
        let first = String::from_utf8_lossy(&first[..read]);
        assert!(first.ends_with("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"), "{first}");
        client.write_all(b"2\r\n, \r\n").await.unwrap();
        assert_eq!(read_until(&mut server, "\r\n, \r\n").await, "2\r\n, \r\n");
        client.write_all(b"0\r\nx-sum: 1\r\n\r\n").await.unwrap();
        assert_eq!(read_until(&mut server, "\r\n\r\n").await, "0\r\nx-sum: 1\r\n\r\n");
    })
    .await;
}

#[tokio::test]
async fn a_head_does_not_wait_for_a_body_that_is_late() {
    local(async {
        let (_app, body) = client("content-length: 5").await;
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        tokio::task::spawn_local(async move {
            let _ = send(connection, &kept, &head(Method::POST), body).await;
        });
        read_until(&mut server, "content-length: 5\r\n\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn a_response_before_the_bodys_end_is_read_while_the_body_goes_on() {
    local(async {
        let (mut client, body) = client("transfer-encoding: chunked").await;
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        server.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let response = send(connection, &kept, &head(Method::POST), body).await.unwrap();
        let mut body = response.body;
        // Both ways at once, a word at a time.
        read_until(&mut server, "\r\n\r\n").await;
        for word in ["one", "two"] {
            client.write_all(format!("3\r\n{word}\r\n").as_bytes()).await.unwrap();
            assert_eq!(read_until(&mut server, &format!("{word}\r\n")).await, format!("3\r\n{word}\r\n"));
            server.write_all(format!("3\r\n{word}\r\n").as_bytes()).await.unwrap();
            let frame = timeout(LIMIT, poll_fn(|cx| body.poll_frame(cx))).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        // The reply ends first; the server still gets the rest of the body, and the connection lives on.
        server.write_all(b"0\r\n\r\n").await.unwrap();
        assert!(collect(&mut body).await.unwrap().0.is_empty());
        drop(body);
        assert_eq!(kept.count(), 0);
        client.write_all(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
        assert_eq!(read_until(&mut server, "0\r\n\r\n").await, "4\r\nlast\r\n0\r\n\r\n");
        until(|| kept.count() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_body_ends_with_a_response_that_closes_or_is_not_wanted() {
    for reply in [
        "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
    ] {
        local(async {
            let (mut client, body) = client("transfer-encoding: chunked").await;
            client.write_all(b"5\r\nhello\r\n").await.unwrap();
            let (connection, mut server) = pair();
            let kept = Rc::new(Kept::default());
            server.write_all(reply.as_bytes()).await.unwrap();
            drop(send(connection, &kept, &head(Method::POST), body).await.unwrap());
            closed(&mut server).await;
            assert_eq!(kept.count(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn an_upload_does_not_wait_for_a_slow_reader_of_its_response() {
    local(async {
        let (mut client, body) = client("transfer-encoding: chunked").await;
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        let _unread = send(connection, &kept, &head(Method::POST), body).await.unwrap();
        let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024));
        tokio::task::spawn_local(async move {
            for _ in 0..64 {
                client.write_all(chunk.as_bytes()).await.unwrap();
            }
            client.write_all(b"0\r\n\r\n").await.unwrap();
            pending::<()>().await;
        });
        assert!(read_until(&mut server, "\r\n0\r\n\r\n").await.len() > 64 * 64 * 1024);
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_closes_the_connection() {
    local(async {
        let (mut client, body) = client("content-length: 50").await;
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        let mut response = send(connection, &kept, &head(Method::POST), body).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        drop(client);
        assert!(matches!(collect(&mut response.body).await, Err(BodyError::RequestBody)));
        closed(&mut server).await;
    })
    .await;
}

#[tokio::test]
async fn a_response_counts_although_the_server_reads_no_further() {
    local(async {
        let (mut client, body) = client("transfer-encoding: chunked").await;
        client.write_all(b"5\r\nhello\r\n").await.unwrap();
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024));
        tokio::task::spawn_local(async move { while client.write_all(chunk.as_bytes()).await.is_ok() {} });
        let request = head(Method::POST);
        let (response, ()) = tokio::join!(send(connection, &kept, &request, body), async {
            read_until_any(&mut server).await;
            server.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge").await.unwrap();
            drop(server);
        });
        let mut response = response.unwrap();
        assert_eq!(response.status, 413);
        assert_eq!(collect(&mut response.body).await.unwrap().0, b"large");
        assert_eq!(kept.count(), 0);
    })
    .await;
}

async fn read_until_any(stream: &mut UnixStream) {
    assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
}
