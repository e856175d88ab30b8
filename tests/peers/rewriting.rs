//! Addresses in fields: what an API says of itself leads through the proxy, and what an application says of the proxy
//! reaches the API as its own address.

use std::time::Duration;

use cupbearer_testing::{Config, Message, Nginx, Origin, Proxy, Reply, Stage, curl, token_at, upstream_at};

/// An API that builds its addresses from the Host that it is sent, as most frameworks do.
fn of_itself(request: &Message) -> String {
    format!("http://{}{}", request.field("host").unwrap(), request.target())
}

async fn before_nginx(upstream: impl FnOnce(&Nginx) -> String, route: &str) -> (Nginx, Origin, Proxy) {
    let (nginx, server) = (Nginx::start().await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream(&nginx), &token_at(&server.url())).and(route);
    let proxy = Proxy::start(config).await;
    (nginx, server, proxy)
}

#[tokio::test]
async fn an_upload_goes_on_where_the_api_says() {
    // What registries do: the address of the upload stands in Location, whatever the status.
    let api = Origin::start(|request, _| {
        let at = request.target();
        match request.method().as_str() {
            "POST" => Reply::new(202, &[("location", &format!("{}/session-1", of_itself(request)))], ""),
            _ if at.ends_with("/uploads/session-1") => Reply::ok(),
            _ => Reply::new(404, &[], ""),
        }
    })
    .await;
    let server = Origin::issuing(300).await;
    let route =
        "[[routes]]\npath = \"/registry\"\nstrip_prefix = true\nupstream = \"api\"\ntoken = \"api\"\n";
    let config = upstream_at(&(api.url() + "/v2")) + &token_at(&server.url()) + route;
    let proxy = Proxy::start(Config::new(config)).await;
    let begun = curl(&["-X", "POST", &proxy.url("/registry/uploads")]).await;
    let location = begun.field("location").unwrap();
    assert_eq!(location, proxy.url("/registry/uploads/session-1"));
    let sent = curl(&["-X", "PATCH", "-d", "data", location]).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    assert_eq!(api.seen().last().unwrap().target(), "/v2/uploads/session-1");
}

/// An application that wants one name, or TLS, judges by the Host that it is sent.
#[tokio::test]
async fn a_redirect_to_another_name_of_the_proxy_is_followed_once() {
    let api = Origin::start(|request, _| {
        let (host, at) = (request.field("host").unwrap(), request.target());
        let to = match host.strip_prefix("127.0.0.1") {
            _ if at == "/tls" => format!("https://{host}{at}"),
            Some(port) => format!("http://localhost{port}{at}"),
            None => return Reply::ok(),
        };
        Reply::new(302, &[("location", &to)], "")
    })
    .await;
    let server = Origin::issuing(300).await;
    let upstream = upstream_at(&api.url()) + "host = \"client\"\n";
    let proxy = Proxy::start(Config::one_route(&upstream, &token_at(&server.url()))).await;
    let redirect = curl(&[&proxy.url("/x")]).await;
    let location = redirect.field("location").unwrap();
    assert_eq!(location, proxy.url("/x").replace("127.0.0.1", "localhost"));
    assert_eq!(curl(&["-4", location]).await.status, 200);
    let secure = proxy.url("/tls").replace("http:", "https:");
    assert_eq!(curl(&[&proxy.url("/tls")]).await.field("location"), Some(secure.as_str()));
}

#[tokio::test]
async fn no_address_is_rewritten_into_one_of_another_api() {
    let api = Origin::start(|request, _| {
        let own = format!("http://{}/v1", request.field("host").unwrap());
        let links = format!("<{own}/sub/x>; rel=next, <{own}/items>; rel=up");
        Reply::new(200, &[("link", &links)], "")
    })
    .await;
    let (other, server) = (Origin::ok().await, Origin::issuing(300).await);
    let config = upstream_at(&(api.url() + "/v1"))
        + &format!("[upstreams.other]\nurl = \"{}\"\n", other.url())
        + &token_at(&server.url())
        + "[[routes]]\npath = \"/api/sub\"\nupstream = \"other\"\ntoken = \"api\"\n"
        + "[[routes]]\npath = \"/api\"\nstrip_prefix = true\nupstream = \"api\"\ntoken = \"api\"\n";
    let proxy = Proxy::start(Config::new(config)).await;
    let answer = curl(&[&proxy.url("/api/x")]).await;
    let links = format!("<{}/v1/sub/x>; rel=next, <{}>; rel=up", api.url(), proxy.url("/api/items"));
    assert_eq!(answer.field("link"), Some(links.as_str()));
    for (to, arrives) in [("/api/sub/b", proxy.url("/api/sub/b")), ("/api/b", api.url() + "/v1/b")] {
        let destination = format!("Destination: {}", proxy.url(to));
        curl(&["-X", "MOVE", "-H", &destination, &proxy.url("/api/a")]).await;
        assert_eq!(api.seen().last().unwrap().field("destination"), Some(arrives));
    }
    assert!(other.seen().is_empty());
}

/// 103 (RFC 8297) has links, and 104 of resumable uploads the upload's address.
#[tokio::test]
async fn addresses_in_interim_responses_lead_through_the_proxy_too() {
    let api = Origin::start(|request, _| {
        let at = of_itself(request);
        Reply::raw(format!(
            "HTTP/1.1 103 Early Hints\r\nlink: <{at}.css>; rel=preload, </base/b.js>; rel=preload\r\n\r\n\
             HTTP/1.1 104 Upload Resumption Supported\r\nlocation: {at}/session\r\n\r\n\
             HTTP/1.1 201 Created\r\nlocation: {at}/done\r\ncontent-length: 0\r\n\r\n"
        ))
    })
    .await;
    let server = Origin::issuing(300).await;
    let route = "[[routes]]\npath = \"/api\"\nstrip_prefix = true\nupstream = \"api\"\ntoken = \"api\"\n";
    let config = upstream_at(&(api.url() + "/base")) + &token_at(&server.url()) + route;
    let proxy = Proxy::start(Config::new(config)).await;
    let mut wire = proxy.wire().await;
    wire.send(format!("POST /api/a HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", proxy.listen())).await;
    let here = proxy.url("/api/a");
    let links = format!("<{here}.css>; rel=preload, </api/b.js>; rel=preload");
    for (status, name, value) in [
        (103, "link", links),
        (104, "location", here.clone() + "/session"),
        (201, "location", here + "/done"),
    ] {
        let head = wire.head().await.unwrap();
        assert_eq!((head.status(), head.field(name)), (status, Some(value)));
    }
}

#[tokio::test]
async fn the_pages_of_a_list_are_followed_through_the_proxy() {
    let api = Origin::start(|request, _| {
        let host = request.field("host").unwrap();
        let next = format!("<http://{host}/items?page=2>; rel=\"next\", </items?page=9>; rel=\"last\"");
        Reply::new(200, &[("link", &next), ("access-control-allow-origin", "*")], "[]")
    })
    .await;
    let (next, last) = (format!("<{}/items?page=2>", api.url()), "</items?page=9>");
    let kept = Stage::with(api, "", "rewrite_addresses = false\n").await;
    let answer = kept.proxy.get("/items").await;
    assert!(answer.field("link").unwrap().starts_with(&next), "{answer:?}");
    let Stage { api, server, .. } = kept;
    let mapped = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let answer = mapped.get("/items").await;
    let here = format!("<{}>; rel=\"next\", {last}; rel=\"last\"", mapped.url("/items?page=2"));
    assert_eq!(answer.field("link"), Some(here.as_str()));
}

#[tokio::test]
async fn a_file_moves_on_a_webdav_server() {
    let (_nginx, _server, proxy) = before_nginx(|nginx| upstream_at(&nginx.url()), "").await;
    let (from, to) = (proxy.url("/dav/a.txt"), proxy.url("/dav/b.txt"));
    let made = curl(&["-X", "PUT", "-d", "contents", &from]).await;
    assert_eq!(made.status, 201, "{made:?}");
    let moved = curl(&["-X", "MOVE", "-H", &format!("Destination: {to}"), &from]).await;
    assert_eq!(moved.status, 204, "{moved:?}");
    assert_eq!(curl(&[&to]).await.text(), "contents");
    assert_eq!(curl(&[&from]).await.status, 404);
}

#[tokio::test]
async fn the_api_sees_the_host_that_the_configuration_says() {
    for version in ["http1", "http2"] {
        for (key, wanted) in [
            ("", None),
            ("host = \"upstream\"\n", None),
            ("host = \"client\"\n", Some("orders.local:81")),
            ("host = \"api.internal:8443\"\n", Some("api.internal:8443")),
        ] {
            let upstream = |nginx: &Nginx| match version {
                "http1" => upstream_at(&nginx.url()) + key,
                _ => upstream_at(&nginx.h2c_url()) + "http2 = \"prior_knowledge\"\n" + key,
            };
            let guard = "[guard]\nallowed_hosts = [\"orders.local\"]\n";
            let (nginx, _server, proxy) = before_nginx(upstream, guard).await;
            let own = if version == "http1" { nginx.url() } else { nginx.h2c_url() };
            let wanted = wanted.unwrap_or_else(|| own.trim_start_matches("http://"));
            for client in ["--http1.1", "--http2-prior-knowledge"] {
                let answer = curl(&[client, "-H", "Host: orders.local:81", &proxy.url("/x")]).await;
                assert_eq!(answer.field("saw-host"), Some(wanted), "{version} {key:?} {client}: {answer:?}");
            }
        }
    }
}

/// Clients of LLMs and of package registries read an error's message there.
#[tokio::test]
async fn the_proxys_own_sentence_stands_where_sdks_read_it() {
    let api = Origin::ok().await;
    let config = Config::one_route(&upstream_at(&api.url()), &token_at("http://127.0.0.1:9"))
        .environment("CUPBEARER__TOKENS__API__WAIT", "100ms");
    let proxy = Proxy::start_live(config).await;
    let answer = tokio::time::timeout(Duration::from_secs(30), curl(&[&proxy.url("/")])).await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    let body: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(body["error"]["message"], body["detail"], "{body}");
    assert_eq!(body["error"]["code"], "token_unavailable", "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{body}");
}
