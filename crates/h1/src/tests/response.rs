//! Responses: however they come in, cut off, in pieces, and after interim ones.

use super::*;

#[tokio::test]
async fn a_response_that_comes_whole_frees_its_connection_before_it_is_read() {
    let (connection, mut server) = pair();
    let kept = Rc::new(Kept::default());
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
    let response = send(connection, &kept, &head(Method::GET), TestBody::Empty).await.unwrap();
    assert_eq!(kept.count(), 1);
    let mut body = response.body;
    assert_eq!(body.size_hint().exact(), Some(5));
    assert!(!body.is_end_stream());
    assert_eq!(collect(&mut body).await.unwrap().0, b"hello");
    assert_eq!(read_until(&mut server, "\r\n\r\n").await, "GET /a?b HTTP/1.1\r\nhost: api.example\r\n\r\n");

    // The same connection carries the next request.
    let connection = kept.0.borrow_mut().pop().unwrap();
    assert!(connection.is_free());
    server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let response = send(connection, &kept, &head(Method::DELETE), TestBody::Empty).await.unwrap();
    assert!(response.body.is_end_stream());
    assert_eq!(kept.count(), 1);
}

#[tokio::test]
async fn a_response_is_the_same_however_it_comes_in() {
    for (wire_form, reused, trailers) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nhello, world", 1, false),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\nhello, \r\n5\r\nworld\r\n0\r\n\r\n",
            1,
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nc\r\nhello, world\r\n0\r\na: b\r\n\r\n",
            1,
            true,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nhello, world",
            1,
            false,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\nhello, world", 0, false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 12\r\n\r\nhello, world", 0, false),
    ] {
        for cut in 1..wire_form.len() {
            let (connection, mut server) = pair();
            let kept = Rc::new(Kept::default());
            let pieces = async {
                for piece in wire_form.as_bytes().chunks(cut) {
                    server.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let reply = async {
                let mut response =
                    send(connection, &kept, &head(Method::GET), TestBody::Empty).await.unwrap();
                assert_eq!(response.status, 200);
                collect(&mut response.body).await.unwrap()
            };
            let ((), (data, with)) = tokio::join!(pieces, reply);
            assert_eq!(data, b"hello, world");
            assert_eq!(with.is_some(), trailers);
            assert_eq!(kept.count(), reused, "{wire_form}");
        }
    }
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_its_connection() {
    let (response, kept, _server) = get(b"HTTP/1.1 200 OK\r\n\r\nhello").await;
    let mut body = response.unwrap().body;
    assert_eq!(body.size_hint().exact(), None);
    assert_eq!(collect(&mut body).await.unwrap().0, b"hello");
    assert_eq!(kept.count(), 0);
}

#[tokio::test]
async fn a_response_that_is_cut_off_never_ends_cleanly() {
    for whole in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\n\r\n",
    ] {
        let body = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        for end in 0..whole.len() {
            let (response, kept, _server) = get(&whole[..end]).await;
            match response {
                Err(SendError::Died) => assert_eq!(end, 0),
                Err(SendError::Broken) => assert!((1..body).contains(&end)),
                Err(other) => panic!("{other:?} at {end}"),
                Ok(mut response) => {
                    assert!(end >= body);
                    assert!(matches!(collect(&mut response.body).await, Err(BodyError::Cut)), "{end}");
                }
            }
            assert_eq!(kept.count(), 0);
        }
    }
}

#[tokio::test]
async fn interim_responses_are_reported_in_order_and_may_be_many() {
    let (connection, mut server) = pair();
    let kept = Rc::new(Kept::default());
    let reported = RefCell::new(Vec::new());
    let on_interim =
        |status: StatusCode, headers: HeaderMap| reported.borrow_mut().push((status, headers.len()));
    let request = head(Method::GET);
    let (response, ()) =
        tokio::join!(send_with(connection, &kept, &request, TestBody::Empty, &on_interim), async {
            server.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            for _ in 0..10_000 {
                server.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await.unwrap();
            }
            server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        });
    assert_eq!(response.unwrap().status, 200);
    let reported = reported.into_inner();
    assert_eq!(reported.len(), 10_001);
    assert_eq!((reported[0], reported[1]), ((StatusCode::CONTINUE, 0), (StatusCode::EARLY_HINTS, 1)));
}

#[tokio::test]
async fn a_large_body_comes_in_pieces_of_bounded_size() {
    const LENGTH: usize = 10 * 1024 * 1024;
    for chunked in [false, true] {
        let (connection, mut server) = pair();
        let kept = Rc::new(Kept::default());
        let mut request = head(Method::GET);
        request.headers.insert(TE, HeaderValue::from_static("trailers"));
        let sender = tokio::spawn(async move {
            let fields = if chunked {
                "transfer-encoding: chunked".into()
            } else {
                format!("content-length: {LENGTH}")
            };
            server.write_all(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes()).await.unwrap();
            let part = vec![b'x'; LENGTH / 10];
            for _ in 0..10 {
                if chunked {
                    server.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await.unwrap();
                }
                server.write_all(&part).await.unwrap();
                if chunked {
                    server.write_all(b"\r\n").await.unwrap();
                }
            }
            if chunked {
                server.write_all(b"0\r\n\r\n").await.unwrap();
            }
            server
        });
        let mut body = send(connection, &kept, &request, TestBody::Empty).await.unwrap().body;
        let mut total = 0;
        while let Some(frame) = timeout(LIMIT, poll_fn(|cx| body.poll_frame(cx))).await.unwrap() {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= 2 * crate::response_body::MAX_ROOM, "{}", data.len());
            total += data.len();
        }
        assert_eq!(total, LENGTH);
        assert_eq!(kept.count(), 1);
        assert!(kept.0.borrow()[0].input.capacity() <= crate::connection::HEAD_ROOM);
        sender.await.unwrap();
    }
}
