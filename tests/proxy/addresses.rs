//! An API that moves: its name leads to another address from one moment to the next.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;

use cupbearer_testing::{
    Config, Origin, Proxy, Reply, Wire, eventually, free_address, hosts, token_at, upstream_at,
};

/// An origin at `address` whose answers are `word`; `/slow` takes two seconds.
async fn origin(address: SocketAddr, word: &'static str) -> Origin {
    let listener = TcpListener::bind(address).await.unwrap();
    Origin::on(listener, move |mut wire: Wire| async move {
        while let Some(request) = wire.request().await {
            if request.target() == "/slow" {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{word}", word.len())).await;
        }
    })
}

/// Two addresses of this machine, with one port that is free on both.
fn two_addresses() -> [SocketAddr; 2] {
    let port = free_address().port();
    [1, 2].map(|last| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port))
}

#[tokio::test]
async fn new_connections_go_where_the_name_leads_now() {
    let [old, new] = two_addresses();
    let (first, second) = (origin(old, "old").await, origin(new, "new").await);
    let server = Origin::issuing(300).await;
    let upstream = upstream_at(&format!("http://localhost:{}", old.port()));
    let config = Config::one_route(&upstream, &token_at(&server.url())).server("workers = 1");
    let (config, table) = hosts(config, "localhost", old.ip());
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.get("/").await.text(), "old");

    table.set("localhost", new.ip());
    // The result of a lookup counts for a second.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(proxy.get("/").await.text(), "old", "a connection that is kept is kept");
    let slow = format!("GET /slow HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.listen());
    let mut busy = proxy.wire().await;
    busy.send(slow).await;
    eventually("the kept one is in use", || async {
        proxy.metric("cupbearer_requests_in_flight", &["route=\"/\""]).await > 0.5
    })
    .await;
    assert_eq!(proxy.get("/").await.text(), "new", "a new one goes to the new address");
    assert_eq!(busy.response("GET").await.unwrap().text(), "old", "what was under way goes on");
    assert_eq!((first.connections(), second.connections()), (1, 1));

    // The old one is gone, with the connection that was kept to it; nobody notices.
    drop(first);
    for _ in 0..5 {
        let answer = proxy.get("/").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "new"));
    }

    // A name that leads nowhere is a failure of its own, and over once it leads somewhere: the result of the lookup before
    // counts for a second.
    drop(second);
    table.set("elsewhere.test", old.ip());
    proxy.get("/").await.assert_proxy_error(502);
    let third = origin(old, "back").await;
    table.set("localhost", old.ip());
    eventually("it leads back", || async { proxy.get("/").await.text() == "back" }).await;
    drop(third);
}

#[tokio::test]
async fn an_authorization_server_that_moves_is_found_again() {
    let [old, new] = two_addresses();
    let api = Origin::ok().await;
    let issue = |address| async move {
        Origin::on(TcpListener::bind(address).await.unwrap(), move |mut wire: Wire| async move {
            while wire.request().await.is_some() {
                wire.send(Reply::token("token-0", 2).into_bytes()).await;
            }
        })
    };
    let first = issue(old).await;
    let token = token_at(&format!("http://localhost:{}/token", old.port()));
    let (config, table) = hosts(Config::one_route(&upstream_at(&api.url()), &token), "localhost", old.ip());
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.get("/").await.status, 200);
    let second = issue(new).await;
    table.set("localhost", new.ip());
    drop(first);
    eventually("a token comes from the new address", || async { second.connections() > 0 }).await;
    eventually("and is used", || async { proxy.get("/").await.status == 200 }).await;
}
