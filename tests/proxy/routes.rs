//! Which request goes where, and that no spelling of a path walks around it.

use cupbearer_testing::{CREDENTIALS, Message, Stage, curl};

const PUBLIC: &str = "[[routes]]\npath = \"/public\"\nupstream = \"api\"\ntoken = \"api\"\n";

/// What a careless upstream might make of a target: decoded, folded and resolved by every rule at once.
fn as_an_upstream_might_read(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut path = path.to_ascii_lowercase();
    for _ in 0..2 {
        for (coded, plain) in
            [("%2e", "."), ("%2f", "/"), ("%5c", "/"), ("\\", "/"), ("%3b", ";"), ("%25", "%")]
        {
            path = path.replace(coded, plain);
        }
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

#[tokio::test]
async fn no_spelling_of_a_path_leaves_the_allow_list() {
    let stage = Stage::routed("", PUBLIC).await;
    let targets = [
        "/public/../admin",
        "/public/./../admin",
        "/public/%2e%2e/admin",
        "/public/.%2e/admin",
        "/public/%2E./admin",
        "/public/..%2fadmin",
        "/public/..%5cadmin",
        "/public/..\\admin",
        "/public%2f..%2fadmin",
        "/public/%252e%252e/admin",
        "/public/..;/admin",
        "/public/..;x=1/admin",
        "/public;/../admin",
        "/public/x/../../admin",
        "/public//../../admin",
        "//public/../admin",
        "/./admin",
        "//admin",
        "/%61dmin",
        "/admin",
        "/ADMIN",
        "/publicity",
        "/public%00/../admin",
        "http://{host}/admin",
        "http://{host}/public/../admin",
        "http://{host}/public/%2e%2e/admin",
    ];
    let mut wrong = Vec::new();
    for target in targets {
        let before = stage.api.seen().len();
        let request = format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\nConnection: close\r\n\r\n");
        let status = stage.proxy.exchange(&request).await.map_or(0, |answer| answer.status());
        match &stage.api.seen()[before..] {
            [] if [400, 404].contains(&status) => {}
            [] => wrong.push(format!("{target}: {status}")),
            forwarded => {
                let forwarded = forwarded[0].target();
                let read = as_an_upstream_might_read(&forwarded);
                if read != "/public" && !read.starts_with("/public/") {
                    wrong.push(format!("{target} went through as {forwarded}, which may be read as {read}"));
                } else if !target.ends_with(&forwarded) {
                    wrong.push(format!("{target} was judged, and {forwarded} was forwarded"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_forwarded_is_what_was_sent() {
    let stage = Stage::routed("", PUBLIC).await;
    for target in [
        "/public",
        "/public/",
        "/public/a%20b/%C3%A9?q=1&q=2&e=%2F..%2F",
        "/public/a;v=1",
        "/public?x=/../y",
        "/public/~a!$&'()*+,=:@",
    ] {
        assert_eq!(curl(&[&stage.proxy.url(target)]).await.status, 200, "{target}");
        let sent = stage.api.seen().pop().unwrap();
        assert_eq!(
            (sent.target().as_str(), sent.all("authorization").join("|").as_str()),
            (target, CREDENTIALS)
        );
    }
}

/// Clients that put an address together from strings send these (cargo's index, Go's and Java's clients).
#[tokio::test]
async fn dot_segments_are_resolved_before_the_route_is_chosen() {
    let stage = Stage::routed("/base", PUBLIC).await;
    for (path, sent) in [
        ("/public/./config.json", "/base/public/config.json"),
        ("/x/../public/b/s?q=/../z", "/base/public/b/s?q=/../z"),
        ("/public/a/%2e%2E/b", "/base/public/b"),
        ("/public/a/..", "/base/public/"),
    ] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let answer = curl(&["--path-as-is", version, &stage.proxy.url(path)]).await;
            assert_eq!(answer.status, 200, "{path} {version}: {answer:?}");
            assert_eq!(stage.api.seen().pop().unwrap().target(), sent, "{path} {version}");
        }
    }
    let before = stage.api.seen().len();
    for (path, status) in [("/public/../admin", 404), ("/../public", 400), ("/public/..;/x", 400)] {
        let answer = curl(&["--path-as-is", &stage.proxy.url(path)]).await;
        answer.assert_proxy_error(status);
    }
    assert_eq!(stage.api.seen().len(), before);
}

#[tokio::test]
async fn without_a_route_nothing_is_forwarded() {
    let stage = Stage::routed("", PUBLIC).await;
    for path in ["/", "/publicity", "/other", "/Public"] {
        stage.proxy.get(path).await.assert_proxy_error(404);
    }
    assert!(stage.api.seen().is_empty());
}

#[tokio::test]
async fn the_first_route_that_matches_wins() {
    let routes = "[[routes]]\npath = \"/\"\nhost = \"orders.local\"\nupstream = \"api\"\ntoken = \"none\"\n\
                  [[routes]]\npath = \"/orders/archive\"\nmethods = [\"GET\", \"HEAD\"]\nupstream = \"api\"\ntoken = \"api\"\n\
                  [[routes]]\npath = \"/orders\"\nstrip_prefix = true\nupstream = \"api\"\ntoken = \"api\"\n\
                  [guard]\nallowed_hosts = [\"orders.local\"]\n";
    let stage = Stage::routed("/base", routes).await;
    let targets = |stage: &Stage| stage.api.seen().iter().map(Message::target).collect::<Vec<_>>();
    assert_eq!(stage.proxy.get("/orders/archive/1?x").await.status, 200);
    assert_eq!(stage.proxy.get("/orders/1?x").await.status, 200);
    assert_eq!(stage.proxy.get("/orders").await.status, 200);
    assert_eq!(targets(&stage), ["/base/orders/archive/1?x", "/base/1?x", "/base"]);

    assert_eq!(curl(&["--request", "POST", &stage.proxy.url("/orders/archive/1")]).await.status, 200);
    assert_eq!(targets(&stage).last().unwrap(), "/base/archive/1", "the first one does not take a POST");

    assert_eq!(curl(&["--header", "Host: orders.local", &stage.proxy.url("/any")]).await.status, 200);
    let sent = stage.api.seen().pop().unwrap();
    assert_eq!(
        (sent.target().as_str(), sent.all("authorization").len()),
        ("/base/any", 0),
        "token = \"none\""
    );
}

#[tokio::test]
async fn a_single_endpoint_is_reached_by_exactly_its_address() {
    let routes = "[[routes]]\npath = \"/graphql\"\nstrip_prefix = true\nupstream = \"api\"\ntoken = \"api\"\n\
                  [[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"api\"\n";
    for (base, expected) in [
        (
            "/v1/graphql",
            ["/v1/graphql", "/v1/graphql?q=a", "/v1/graphql/", "/v1/graphql/?q", "/v1/graphql/x"],
        ),
        (
            "/v1/graphql/",
            ["/v1/graphql/", "/v1/graphql/?q=a", "/v1/graphql/", "/v1/graphql/?q", "/v1/graphql/x"],
        ),
        ("", ["/", "/?q=a", "/", "/?q", "/x"]),
    ] {
        let stage = Stage::routed(base, routes).await;
        for path in ["/graphql", "/graphql?q=a", "/graphql/", "/graphql/?q", "/graphql/x"] {
            assert_eq!(curl(&["--globoff", &stage.proxy.url(path)]).await.status, 200, "{path}");
        }
        let targets: Vec<_> = stage.api.seen().iter().map(Message::target).collect();
        assert_eq!(targets, expected, "{base}");
        assert_eq!(stage.proxy.get("/").await.status, 200);
        let root = stage.api.seen().pop().unwrap().target();
        assert_eq!(
            root,
            base.trim_end_matches('/').to_owned() + "/",
            "without strip_prefix paths are joined"
        );
    }
}

#[tokio::test]
async fn a_method_that_no_route_takes_is_a_405_that_says_which() {
    let routes = PUBLIC.to_owned() + "methods = [\"GET\", \"HEAD\"]\n";
    let stage = Stage::routed("", &routes).await;
    let answer = curl(&["--request", "POST", &stage.proxy.url("/public/1")]).await;
    answer.assert_proxy_error(405);
    let allow = answer.field("allow").unwrap_or_default();
    assert!(allow.contains("GET") && allow.contains("HEAD"), "RFC 9110 section 15.5.6: {answer:?}");
    assert!(stage.api.seen().is_empty());
}

#[tokio::test]
async fn options_asterisk_is_answered_without_harm() {
    let stage = Stage::plain().await;
    let answer = stage.proxy.exchange("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n").await.unwrap();
    assert!(answer.status() < 500, "{}", answer.start());
    for request in stage.api.seen() {
        assert_eq!(request.target(), "*");
    }
}
