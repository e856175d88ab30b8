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
}

#[test]
fn a_queue_is_before_a_limit() {
    let limits = route("max_concurrent = 5\nmax_queue = 7\nqueue_timeout = \"2s\"").limits;
    let want =
        RouteLimits { rate: None, concurrent: Some(5), queue: 7, queue_timeout: Duration::from_secs(2) };
    assert_eq!(limits, want);
    assert_eq!(route("rate_limit = \"1/s\"\nmax_queue = 7").limits.queue, 7);
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
    let tokenless = |lines: &str| with(lines).replace("token = \"api\"", "token = \"none\"");
    assert!(load_text(&tokenless("")).is_ok() && load_text(&tokenless("on_unauthorized = \"pass\"")).is_ok());
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
}

#[test]
fn a_stream_may_have_an_age() {
    assert_eq!(route("max_stream_age = \"1h\"").max_stream_age, Some(Duration::from_hours(1)));
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
}
