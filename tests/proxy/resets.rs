//! Clients that make the server reset their streams (CVE-2025-8671, "MadeYouReset"): the connection is ended before that
//! amounts to anything, nothing goes on behind a stream that is gone, and the others are served.

use std::net::SocketAddr;

use futures_util::future::join_all;

use cupbearer_testing::{
    Config, Origin, Proxy, Reply, eventually,
    frames::{
        ACK, DATA, END_STREAM, Frames, GOAWAY, HEADERS, Outcome, PRIORITY, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, frame, get, headers,
    },
    token_at, upstream_at,
};

/// What a client does to a stream so that the server must reset it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breach {
    /// A window that grows by nothing (RFC 9113 section 6.9).
    WindowOfNothing,
    /// A window that grows beyond all bounds (section 6.9.1).
    WindowOverflow,
    /// A body behind the request's end (section 5.1).
    DataAfterTheEnd,
    /// Trailers behind the request's end.
    HeadersAfterTheEnd,
    /// A stream that depends on itself (RFC 7540 section 5.3.1).
    OwnParent,
    /// PRIORITY of another length than its own (RFC 9113 section 6.3).
    ShortPriority,
    /// More of a body than its `content-length` says (section 8.1.1).
    TooLongABody,
}

const BREACHES: [Breach; 7] = [
    Breach::WindowOfNothing,
    Breach::WindowOverflow,
    Breach::DataAfterTheEnd,
    Breach::HeadersAfterTheEnd,
    Breach::OwnParent,
    Breach::ShortPriority,
    Breach::TooLongABody,
];

impl Breach {
    /// A request that its API will never answer, and the breach behind it.
    fn on(self, stream: u32, host: &str) -> Vec<u8> {
        let mut fields = get(host, "/held");
        if self == Self::TooLongABody {
            fields[0].1 = b"POST".to_vec();
            fields.push((b"content-length".to_vec(), b"1".to_vec()));
            return [headers(stream, 0, &fields), frame(DATA, 0, stream, b"two")].concat();
        }
        let breach = match self {
            Self::WindowOfNothing => frame(WINDOW_UPDATE, 0, stream, &[0; 4]),
            Self::WindowOverflow => frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()),
            Self::DataAfterTheEnd | Self::TooLongABody => frame(DATA, 0, stream, b"more"),
            Self::HeadersAfterTheEnd => {
                headers(stream, END_STREAM, &[(b"x-trailer".to_vec(), b"1".to_vec())])
            }
            Self::OwnParent => frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[15]].concat()),
            Self::ShortPriority => frame(PRIORITY, 0, stream, &[0; 4]),
        };
        [headers(stream, END_STREAM, &fields), breach].concat()
    }

    /// Does it as often as it is let; how many streams were reset before the connection was ended. `None`: it never was.
    async fn as_often_as_it_is_let(self, address: SocketAddr) -> Option<usize> {
        let host = address.to_string();
        let mut connection = Frames::connect(address, &[]).await;
        for (resets, stream) in (1..2 * MOST_STREAMS).step_by(2).enumerate() {
            if !connection.send(&self.on(stream, &host)).await {
                return Some(resets);
            }
            loop {
                match connection.next().await {
                    Ok(frame) if frame.kind == RST_STREAM && frame.stream == stream => break,
                    Ok(frame) if frame.kind == GOAWAY => return Some(resets),
                    Ok(frame) if frame.kind == SETTINGS && frame.flags & ACK == 0 => {
                        connection.send(&cupbearer_testing::frames::frame(SETTINGS, ACK, 0, &[])).await;
                    }
                    Ok(frame) => assert!(frame.kind != HEADERS, "{self:?} was answered: {frame:?}"),
                    Err(Outcome::Ended(_)) => return Some(resets),
                    Err(outcome) => panic!("{self:?} on stream {stream}: {outcome:?}"),
                }
            }
        }
        None
    }
}

/// Every attack at once, beside other people's requests, on a proxy with this line in its section `server`.
async fn are_bounded(server: &str) {
    let api = Origin::start(
        |request, _| {
            if request.target() == "/held" { Reply::raw("").holding() } else { Reply::ok() }
        },
    )
    .await;
    let issuer = Origin::issuing(300).await;
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&issuer.url())).server(server);
    let proxy = Proxy::start(config).await;
    let address = proxy.listen();
    let attacks = BREACHES.map(async |breach| (breach, breach.as_often_as_it_is_let(address).await));
    let others = async {
        for _ in 0..200 {
            assert_eq!(proxy.get("/").await.status, 200);
        }
    };
    let (attacks, ()) = tokio::join!(join_all(attacks), others);
    println!("{server:?}: {attacks:?}");
    for (breach, resets) in &attacks {
        assert!(resets.is_some_and(|resets| resets <= MOST_RESETS), "{breach:?}: {resets:?}");
    }
    eventually("nothing goes on that nobody waits for", || async {
        proxy.metric("cupbearer_requests_in_flight", &[]).await < 0.5
            && proxy.metric("cupbearer_connections", &["side=\"upstream\""]).await < 5.5
    })
    .await;
    assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
}

#[tokio::test]
async fn a_client_that_has_its_streams_reset_is_ended_and_nothing_goes_on_behind_them() {
    are_bounded("").await;
}

/// Where `max_resets` lets all of it pass, as it would whoever takes their time.
#[tokio::test]
async fn a_connections_resets_are_bounded_over_all_its_life() {
    are_bounded("max_resets = 1000000").await;
}

/// Streams that an attack tries.
const MOST_STREAMS: u32 = 5000;
/// More are never had on one connection, however slowly: nobody who means well has one.
const MOST_RESETS: usize = 256;
