//! `[upstreams.NAME]`: the way there, and what it is told.

use std::time::Duration;

use super::*;
use crate::net::outbound_proxy::{Environment, OutboundProxy};
use crate::proxy::{Forwarded, SentHost, UpstreamSettings};

fn api(text: &str) -> UpstreamSettings {
    load_text(text).unwrap_or_else(|problems| panic!("{problems}")).settings.upstreams["api"].clone()
}

fn with(lines: &str) -> String {
    good_with("[upstreams.api]", lines)
}

#[test]
fn a_unix_socket_may_be_spoken_to_in_the_clear_whatever_the_host_is() {
    let clear =
        with("socket = \"/run/api.sock\"").replace("https://api.example.com", "http://api.example.com");
    let settings = api(&clear);
    assert_eq!(settings.socket.as_deref(), Some(Path::new("/run/api.sock")));
    assert_eq!(settings.url.as_str(), "http://api.example.com/base");
    assert_eq!(api(&with("socket = \"/run/api.sock\"")).url.scheme(), "https");
    // The port of the URL has no meaning then.
    assert!(load_text(&clear.replace("http://api.example.com", "http://127.0.0.1:8080")).is_ok());
}

#[test]
fn a_proxy_is_named_or_none_or_the_environments() {
    assert_eq!(api(GOOD).proxy, OutboundProxy::Environment);
    assert_eq!(api(&with("proxy = \"none\"")).proxy, OutboundProxy::Direct);
    let named = api(&with("proxy = \"http://alice:sentinel@proxy.example.com:3128\""));
    let OutboundProxy::Through(url) = &named.proxy else { panic!() };
    assert_eq!((url.username(), url.password(), url.port()), ("alice", Some("sentinel"), Some(3128)));
    let shown = format!("{named:?}");
    assert!(shown.contains("proxy.example.com:3128") && !shown.contains("sentinel"), "{shown}");
    let encoded = api(&with("proxy = \"http://alice:p%40s%23s%2F%3F%25@p:1\""));
    let target = "https://api.example.com/".parse().unwrap();
    let proxy = encoded.proxy.to(&target, &Environment::default()).unwrap().unwrap();
    // alice:p@s#s/?%
    assert_eq!(proxy.authorization.unwrap(), "Basic YWxpY2U6cEBzI3MvPyU=");
    assert_eq!(api(&with("socket = \"/run/api.sock\"\nproxy = \"none\"")).proxy, OutboundProxy::Direct);
}

#[test]
fn another_server_name_is_one_of_a_certificate() {
    assert_eq!(api(&with("server_name = \"API.internal\"")).server_name.as_deref(), Some("api.internal"));
}

#[test]
fn an_upstream_is_told_what_is_said() {
    let settings = api(GOOD);
    assert_eq!((settings.forwarded, settings.via), (Forwarded::Remove, true));
    for (word, want) in [
        ("remove", Forwarded::Remove),
        ("pass", Forwarded::Pass),
        ("x_forwarded", Forwarded::XForwarded),
        ("forwarded", Forwarded::Forwarded),
    ] {
        let settings = api(&with(&format!("forwarded = \"{word}\"\nvia = false")));
        assert_eq!((settings.forwarded, settings.via), (want, false));
    }
}

#[test]
fn a_connection_has_a_greatest_age() {
    assert_eq!(api(GOOD).max_connection_age, Duration::from_mins(10));
    assert_eq!(api(&with("max_connection_age = \"90s\"")).max_connection_age, Duration::from_secs(90));
}

#[test]
fn how_long_connections_are_kept_and_how_many_requests_share_one_are_keys() {
    let (minute, settings) = (Duration::from_mins(1), api(GOOD));
    assert_eq!((settings.idle_connection_timeout, settings.max_streams), (minute, 100));
    let settings = api(&with("idle_connection_timeout = \"5s\"\nmax_streams = 8"));
    assert_eq!((settings.idle_connection_timeout.as_secs(), settings.max_streams), (5, 8));
}

#[test]
fn connections_are_bounded_by_a_number_or_not_at_all() {
    let numbers = |text: &str| {
        let settings = api(&with(text));
        (settings.max_connections, settings.http2_connections)
    };
    assert_eq!(numbers("max_connections = \"auto\"\nhttp2_connections = \"auto\""), (None, None));
    assert_eq!(numbers("max_connections = 10\nhttp2_connections = 6"), (Some(10), Some(6)));
}

#[test]
fn the_host_that_an_upstream_is_sent_is_a_word_or_a_name() {
    assert_eq!(api(GOOD).host, SentHost::Upstream);
    assert_eq!(api(&with("host = \"client\"")).host, SentHost::Client);
    for name in ["api.internal", "api.internal:8443", "[::1]:80", "orders"] {
        assert_eq!(api(&with(&format!("host = \"{name}\""))).host, SentHost::Name(name.to_owned()));
    }
}

#[test]
fn a_host_of_the_application_with_another_path_is_warned_about() {
    let with = |upstream: &str, route: &str| {
        let url = "url = \"https://api.example.com/base\"";
        GOOD.replace(url, upstream) + route + "\n"
    };
    let host = "host = \"client\"";
    let plain = format!("url = \"https://api.example.com\"\n{host}");
    let based = format!("url = \"https://api.example.com/v2\"\n{host}");
    let strips = |path: &str| format!("path = \"{path}\"\nstrip_prefix = true");
    for good in [with(&based, &strips("/v2")), with(&plain, &strips("/")), with(&plain, "")] {
        assert!(load_text(&good).unwrap().warnings.is_empty(), "{good}");
    }
}

#[test]
fn a_route_without_a_token_that_the_guard_protects_all_the_same_is_warned_about() {
    let without_token = |line: &str| {
        let open = "[[routes]]\npath = \"/login\"\nupstream = \"open\"\ntoken = \"none\"\n\n[[routes]]";
        GOOD.replace("[[routes]]", &format!("[upstreams.open]\nurl = \"http://localhost\"\n{line}\n\n{open}"))
    };
    for (line, word) in
        [("socket = \"/run/app.sock\"", "a Unix socket"), ("proxy = \"http://proxy:3128\"", "an HTTP proxy")]
    {
        let text = without_token(line);
        one_warning(&text, "routes[0].token", word);
        let listed = format!("[guard]\nallowed_origins = [\"https://login.example.com\"]\n{text}");
        assert!(load_text(&listed).unwrap().warnings.is_empty(), "{listed}");
    }
    assert!(load_text(&without_token("")).unwrap().warnings.is_empty());
}
