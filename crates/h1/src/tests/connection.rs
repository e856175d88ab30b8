//! What a connection is worth after a request: free, broken, ended or handed over.

use super::*;

#[tokio::test]
async fn what_was_not_requested_costs_the_connection() {
    for reply in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n"[..],
        b"HTTP/1.1 204 No Content\r\n\r\nhello",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\r\n",
    ] {
        let (response, kept, _server) = get(reply).await;
        assert!(collect(&mut response.unwrap().body).await.is_ok());
        assert_eq!(kept.count(), 0);
    }
    let (connection, mut server) = pair();
    let kept = Rc::new(Kept::default());
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    let response = send(connection, &kept, &head(Method::HEAD), TestBody::Empty).await.unwrap();
    assert_eq!((response.body.is_end_stream(), kept.count()), (true, 1));
    server.write_all(b"hello").await.unwrap();
    until(|| !kept.0.borrow()[0].is_free()).await;
}

#[tokio::test]
async fn a_connection_that_ends_while_idle_is_not_free() {
    let (connection, server) = pair();
    assert!(connection.is_free());
    drop(server);
    until(|| !connection.is_free()).await;
}

#[tokio::test]
async fn a_failure_says_exactly_what_can_have_been_seen() {
    // Nothing could be written.
    let (connection, server) = pair();
    let kept = Rc::new(Kept::default());
    drop(server);
    let failed = send(connection, &kept, &head(Method::GET), TestBody::Empty).await.unwrap_err();
    assert!(matches!(failed, SendError::Unsent(TestBody::Empty)));

    // It was read, and got no response.
    let (connection, mut server) = pair();
    let request = head(Method::GET);
    let (failed, ()) = tokio::join!(send(connection, &kept, &request, TestBody::Empty), async {
        read_until(&mut server, "\r\n\r\n").await;
        drop(server);
    });
    assert!(matches!(failed, Err(SendError::Died)));

    for (reply, malformed) in [
        (&b"HTTP/1.1 100 Continue\r\n\r\n"[..], false),
        (b"HTTP/1.1 2", false),
        (b"HTTP/1.1 x\r\n\r\n", true),
    ] {
        match get(reply).await.0 {
            Err(SendError::Broken) => assert!(!malformed),
            Err(SendError::Malformed(_)) => assert!(malformed),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_upgrade_hands_the_connection_over_with_what_was_read() {
    let (connection, mut server) = pair();
    let kept = Rc::new(Kept::default());
    let mut request = head(Method::GET);
    request.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    server.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\nglued").await.unwrap();
    let response = send(connection, &kept, &request, TestBody::Empty).await.unwrap();
    assert!(read_until(&mut server, "\r\n\r\n").await.contains("connection: upgrade\r\n"));
    assert_eq!(response.headers["upgrade"], "websocket");
    let (mut stream, read, _counted) = response.body.into_tunnel().unwrap();
    assert_eq!(read, "glued");
    stream.write_all(b"more").await.unwrap();
    assert_eq!(read_until(&mut server, "more").await, "more");

    let (response, ..) = get(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n").await;
    assert!(matches!(response, Err(SendError::Malformed(_))));
    let (response, ..) = get(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(response.unwrap().body.into_tunnel().is_none());
}
