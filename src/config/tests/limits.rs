//! `[[routes]]`: what follows a 401, and how much there may be at a time.

use std::time::Duration;

use super::*;
use crate::proxy::{CookieAttributes, OnUnauthorized, Rate, Rewrite, Route, RouteLimits};

fn with(lines: &str) -> String {
    good_with("[[routes]]", lines)
}

fn route(lines: &str) -> Route {
    load_text(&with(lines)).unwrap_or_else(|problems| panic!("{problems}")).settings.routes.remove(0)
}

#[test]
fn nothing_is_limited_and_everything_recovers_unless_it_is_said() {
    let route = route("");
    assert_eq!(route.limits, RouteLimits::default());
    assert_eq!((route.on_unauthorized, route.replay_body_limit), (OnUnauthorized::Replay, 256 * 1024));
    assert_eq!(route.unauthorized_status, [401]);
    assert_eq!(route.max_stream_age, None);
}

#[test]
fn a_rate_has_a_burst_of_a_second_unless_it_is_said() {
    for (lines, requests, seconds, burst) in [
        ("rate_limit = \"100/s\"", 100, 1, 100),
        ("rate_limit = \"600/m\"", 600, 60, 10),
        ("rate_limit = \"601/m\"", 601, 60, 11),
        ("rate_limit = \"5/h\"", 5, 3600, 1),
        ("rate_limit = \"5/h\"\nrate_burst = 3", 5, 3600, 3),
    ] {
        let want = Rate { requests, per: Duration::from_secs(seconds), burst };
        assert_eq!(route(lines).limits.rate, Some(want), "{lines}");
    }
    for (lines, key, words) in [
        ("rate_limit = 100", "rate_limit", "\"100/s\""),
        ("rate_limit = \"100\"", "rate_limit", "says no time"),
        ("rate_limit = \"100/d\"", "rate_limit", "the units are s, m and h"),
        ("rate_limit = \"often\"", "rate_limit", "a rate in quotes"),
        ("rate_limit = \"0/s\"", "rate_limit", "must be from 1"),
        ("rate_limit = \"1/s\"\nrate_burst = 0", "rate_burst", "must be from 1"),
        ("rate_burst = 1", "rate_burst", "without `rate_limit`"),
    ] {
        one_error(&with(lines), &format!("routes[0].{key}"), &[words]);
    }
}

#[test]
fn a_queue_is_before_a_limit() {
    let limits = route("max_concurrent = 5\nmax_queue = 7\nqueue_timeout = \"2s\"").limits;
    let want =
        RouteLimits { rate: None, concurrent: Some(5), queue: 7, queue_timeout: Duration::from_secs(2) };
    assert_eq!(limits, want);
    assert_eq!(route("rate_limit = \"1/s\"\nmax_queue = 7").limits.queue, 7);
    for (lines, key, words) in [
        ("max_concurrent = 0", "max_concurrent", "must be from 1"),
        ("max_queue = 1", "max_queue", "without a limit"),
        ("queue_timeout = \"1s\"", "queue_timeout", "without a limit"),
        ("max_concurrent = 1\nqueue_timeout = \"0s\"", "queue_timeout", "above 0s"),
    ] {
        one_error(&with(lines), &format!("routes[0].{key}"), &[words]);
    }
}

#[test]
fn a_401_is_followed_by_what_is_said() {
    for (lines, want, limit) in [
        ("on_unauthorized = \"replay\"\nreplay_body_limit = \"0B\"", OnUnauthorized::Replay, 0),
        ("replay_body_limit = \"16MiB\"", OnUnauthorized::Replay, 16 << 20),
        ("on_unauthorized = \"renew\"", OnUnauthorized::Renew, 256 * 1024),
        ("on_unauthorized = \"pass\"", OnUnauthorized::Pass, 256 * 1024),
    ] {
        let route = route(lines);
        assert_eq!((route.on_unauthorized, route.replay_body_limit), (want, limit), "{lines}");
    }
    one_error(&with("replay_body_limit = \"17MiB\""), "routes[0].replay_body_limit", &["at most 16MiB"]);
    one_error(
        &with("on_unauthorized = \"renew\"\nreplay_body_limit = \"1KiB\""),
        "routes[0].replay_body_limit",
        &["no request is sent again"],
    );
    let tokenless = |lines: &str| with(lines).replace("token = \"api\"", "token = \"none\"");
    assert!(load_text(&tokenless("")).is_ok() && load_text(&tokenless("on_unauthorized = \"pass\"")).is_ok());
    one_error(
        &tokenless("on_unauthorized = \"replay\""),
        "routes[0].on_unauthorized",
        &["no token to renew"],
    );
}

#[test]
fn the_statuses_that_refuse_a_token_are_those_that_are_listed() {
    let listed = |lines: &str| -> Vec<u16> {
        route(lines).unauthorized_status.iter().map(http::StatusCode::as_u16).collect()
    };
    assert_eq!(listed(""), [401]);
    assert_eq!(listed("unauthorized_status = [401, 498]"), [401, 498]);
    assert_eq!(listed("unauthorized_status = [400, 403, 440, 499]"), [400, 403, 440, 499]);
    assert_eq!(listed("on_unauthorized = \"renew\"\nunauthorized_status = [403]"), [403]);
    let key = "routes[0].unauthorized_status";
    for (lines, at, words) in [
        ("unauthorized_status = [401, 500]", format!("{key}[1]"), "from 400 to 499, not 500"),
        ("unauthorized_status = [399]", format!("{key}[0]"), "from 400 to 499, not 399"),
        ("unauthorized_status = [0]", format!("{key}[0]"), "from 400 to 499, not 0"),
        ("unauthorized_status = [\"401\"]", format!("{key}[0]"), "a whole number"),
        ("unauthorized_status = 401", key.to_owned(), "a list"),
        ("unauthorized_status = []", key.to_owned(), "is empty"),
        ("on_unauthorized = \"pass\"\nunauthorized_status = [401]", key.to_owned(), "renews no token"),
    ] {
        one_error(&with(lines), &at, &[words]);
    }
    let tokenless = with("unauthorized_status = [498]").replace("token = \"api\"", "token = \"none\"");
    one_error(&tokenless, key, &["no token to renew"]);
}

#[test]
fn a_stream_may_have_an_age() {
    assert_eq!(route("max_stream_age = \"1h\"").max_stream_age, Some(Duration::from_hours(1)));
    one_error(&with("max_stream_age = \"0s\""), "routes[0].max_stream_age", &["above 0s"]);
}

#[test]
fn a_route_says_what_is_rewritten() {
    let (none, all) =
        (CookieAttributes::default(), CookieAttributes { domain: true, path: true, secure: true });
    assert_eq!(route("").rewrite, Rewrite { addresses: true, cookies: none });
    assert_eq!(
        route("rewrite_addresses = false\nrewrite_cookies = true").rewrite,
        Rewrite { addresses: false, cookies: all }
    );
    assert_eq!(route("rewrite_cookies = false").rewrite.cookies, none);
    let some = CookieAttributes { path: true, ..none };
    assert_eq!(route("rewrite_cookies = [\"path\"]").rewrite.cookies, some);
    let key = "routes[0].rewrite_cookies";
    one_error(&with("rewrite_cookies = [\"paths\"]"), &format!("{key}[0]"), &["did you mean \"path\"?"]);
    one_error(&with("rewrite_cookies = \"path\""), key, &["true, false or a list"]);
    one_error(&with("rewrite_location = true"), "routes[0].rewrite_location", &["`rewrite_addresses`"]);
}
