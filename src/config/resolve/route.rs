//! `[[routes]]`: each by itself, their names, and whether one hides another.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use super::recovery::Recovery;
use super::token::exchange;
use super::{Settings, Zero, address, duration, limits, recovery};
use crate::config::file::{self, Token, Upstream};
use crate::config::findings::Review;
use crate::config::problem::{KeyPath, Shown};
use crate::config::shape::nearest;
use crate::net::outbound_proxy::OutboundProxy;
use crate::proxy::{CookieAttributes, Rewrite, Route, SentHost, UpstreamSettings};

/// What a route may name, broken ones too: a route is right to name a token that has a problem of its own.
pub(super) struct Names {
    upstreams: BTreeSet<String>,
    tokens: BTreeSet<String>,
    /// Those that another token trades in: they are used without a route.
    traded: BTreeSet<String>,
}

impl Names {
    pub(super) fn new(upstreams: &BTreeMap<String, Upstream>, tokens: &BTreeMap<String, Token>) -> Self {
        let traded = tokens.values().filter_map(exchange::traded_in);
        Self {
            upstreams: upstreams.keys().cloned().collect(),
            tokens: tokens.keys().cloned().collect(),
            traded: traded.map(str::to_owned).collect(),
        }
    }
}

pub(super) fn resolve(
    routes: Vec<file::Route>,
    names: &Names,
    review: &mut Review<'_>,
) -> Option<Vec<Route>> {
    let section = KeyPath::from("routes");
    if routes.is_empty() {
        let help = "add [[routes]] with `upstream` and `token`";
        review.missing(&section, "there is no route, so that every request would be answered with 404", help);
    }
    if routes.len() > MAX_ROUTES {
        let what = format!("there are {} routes, more than {MAX_ROUTES}", routes.len());
        review.error(&section, what, "leave the choice by path to the API");
        return None;
    }
    let mut used = (BTreeSet::new(), names.traded.clone());
    let mut resolved: Vec<(KeyPath, Option<Route>)> = Vec::new();
    for (path, route) in review.elements(&section).into_iter().zip(routes) {
        used.0.extend(route.upstream.clone());
        used.1.extend(route.token.clone());
        let route = single(&path, route, names, review);
        if let Some(route) = &route
            && let Some((first, _)) =
                resolved.iter().find(|(_, earlier)| earlier.as_ref().is_some_and(|e| hides(e, route)))
        {
            let help = format!("put it before {first}, or take it out");
            review.warning(&path, format!("no request comes here: {first} matches them all before"), help);
        }
        resolved.push((path, route));
    }
    unused("upstreams", &names.upstreams, &used.0, review);
    unused("tokens", &names.tokens, &used.1, review);
    resolved.into_iter().map(|(_, route)| route).collect()
}

/// Warns where a route and its upstream each make sense, and not together.
pub(super) fn suit_their_upstreams(settings: &Settings, review: &mut Review<'_>) {
    let paths = review.elements(&KeyPath::from("routes"));
    for (path, route) in paths.iter().zip(&settings.routes) {
        let Some(upstream) = settings.upstreams.get(&route.upstream) else { continue };
        let base = upstream.url.path().trim_end_matches('/');
        let taken_off = if route.strip_prefix { route.path.trim_end_matches('/') } else { "" };
        if upstream.host == SentHost::Client && base != taken_off {
            let key = if taken_off.is_empty() { "upstream" } else { "strip_prefix" };
            review.warning(
                &path.key(key),
                "the API sees the Host that the application uses (`host = \"client\"`) and another path: an address that it \
                 makes of both leads elsewhere",
                "let the path stay as it is (no `strip_prefix`, no path in `url`), or take out `host`",
            );
        }
        let reached_by = match upstream {
            UpstreamSettings { socket: Some(_), .. } => "a Unix socket",
            UpstreamSettings { certificate: Some(_), .. } => "a client certificate",
            UpstreamSettings { proxy: OutboundProxy::Through(_), .. } => "an HTTP proxy",
            _ => continue,
        };
        if route.token.is_none() && settings.guard.allowed_origins.is_empty() {
            review.warning(
                &path.key("token"),
                format!(
                    "the upstream is reached by {reached_by}, which no web page has, so that the guard refuses requests of \
                     other sites here as well"
                ),
                "nothing, where no other site is to use it; else list its origin in `allowed_origins` of [guard]",
            );
        }
    }
}

fn single(path: &KeyPath, route: file::Route, names: &Names, review: &mut Review<'_>) -> Option<Route> {
    let Recovery { on_unauthorized, unauthorized_status, replay_body_limit } =
        recovery::resolve(path, &route, review);
    let limits = limits::resolve(path, &route, review);
    let prefix = prefix(&path.key("path"), route.path, review);
    let host_path = path.key("host");
    let host = match route.host {
        Some(text) => address::host(&host_path, &text, review).map(Some),
        None => Some(None),
    };
    let methods_path = path.key("methods");
    let paths = review.elements(&methods_path);
    let methods: Vec<_> =
        paths.iter().zip(&route.methods.0).map(|(path, text)| method(path, text, review)).collect();
    let help = "set `upstream` to the name of one of [upstreams]";
    let upstream = known(&path.key("upstream"), route.upstream, "upstreams", &names.upstreams, help, review);
    let token = if route.token.as_deref() == Some(NO_TOKEN) {
        Some(None)
    } else {
        let help = "set `token` to the name of one of [tokens], or to \"none\"";
        known(&path.key("token"), route.token, "tokens", &names.tokens, help, review).map(Some)
    };
    let own_authorization = route.own_authorization;
    let max_stream_age =
        route.max_stream_age.map(|age| duration(&path.key("max_stream_age"), age, Zero::Refused, review));
    let file::CookieAttributes { domain, path: in_path, secure } = route.rewrite_cookies;
    Some(Route {
        host: host?,
        path: prefix?,
        methods: methods.into_iter().collect::<Option<_>>()?,
        strip_prefix: route.strip_prefix,
        upstream: upstream?,
        token: token?,
        own_authorization,
        on_unauthorized,
        unauthorized_status,
        replay_body_limit,
        limits,
        max_stream_age,
        rewrite: Rewrite {
            addresses: route.rewrite_addresses,
            cookies: CookieAttributes { domain, path: in_path, secure },
        },
    })
}

/// A path that means one thing only (RFC 3986 section 3.3): the request's path is compared with it byte for byte.
fn prefix(path: &KeyPath, text: String, review: &mut Review<'_>) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let dots = |segment: &str| matches!(segment.replace("%2e", ".").as_str(), "." | "..");
    let broken_escape = |(n, _): (usize, _)| {
        let digits = text.as_bytes().get(n + 1..n + 3).unwrap_or_default();
        digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit)
    };
    let (what, help) = if !text.starts_with('/') {
        ("must begin with /", "put a / before it".to_owned())
    } else if text.contains(['?', '#']) {
        ("must be a path without a query or a fragment", "take out the ? or # and what follows".to_owned())
    } else if lower.split('/').any(dots) {
        ("must not have . or .. as a segment", "write the path that is meant".to_owned())
    } else if lower.contains("%2f") || lower.contains("%5c") || text.contains('\\') {
        ("must not have an encoded slash or a backslash", "write the path with plain slashes".to_owned())
    } else if text.contains("//") {
        ("must not have two slashes in a row", "write one of them".to_owned())
    } else if text.match_indices('%').any(broken_escape)
        || !text.bytes().all(|b| b"%/".contains(&b) || is_pchar(b))
    {
        ("has a character that a path cannot have", "percent-encode it, as the request does".to_owned())
    } else if text.len() > 1 && text.ends_with('/') {
        let without = text.trim_end_matches('/');
        (
            "must not end with a slash",
            format!("write \"{without}\": it stands for that path and all below it"),
        )
    } else {
        return Some(text);
    };
    review.error(path, what, help);
    None
}

fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

fn method(path: &KeyPath, text: &str, review: &mut Review<'_>) -> Option<Method> {
    let upper = text.to_ascii_uppercase();
    let (what, help) = match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) => {
            ("CONNECT and TRACE are never forwarded", "take it out of the list".to_owned())
        }
        Ok(_) if upper != text => ("methods are written in capitals", format!("write \"{upper}\"")),
        Ok(method) => return Some(method),
        Err(_) => ("is not the name of a method", "write names such as \"GET\" and \"POST\"".to_owned()),
    };
    review.error(path, what, help);
    None
}

fn known(
    path: &KeyPath,
    name: Option<String>,
    section: &str,
    names: &BTreeSet<String>,
    help: &str,
    review: &mut Review<'_>,
) -> Option<String> {
    let Some(name) = name else {
        review.missing(path, "is missing", help);
        return None;
    };
    if names.contains(&name) {
        return Some(name);
    }
    if review.is_whole() && !review.is_full() && !review.is_spoken_for(&KeyPath::from(section).key(&name)) {
        let help = nearest(&name, names.iter().map(String::as_str)).map_or_else(
            || format!("{help}; or add [{section}.{}]", Shown(&name)),
            |meant| format!("did you mean \"{meant}\"?"),
        );
        review.error(path, format!("there is no [{section}.{}]", Shown(&name)), help);
    }
    None
}

/// Whether every request that matches `later` matches `earlier`.
fn hides(earlier: &Route, later: &Route) -> bool {
    let host = earlier.host.is_none() || earlier.host == later.host;
    let methods = earlier.methods.is_empty()
        || (!later.methods.is_empty() && later.methods.iter().all(|m| earlier.methods.contains(m)));
    let path = earlier.path == "/"
        || later
            .path
            .strip_prefix(&earlier.path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    host && methods && path
}

fn unused(section: &str, names: &BTreeSet<String>, used: &BTreeSet<String>, review: &mut Review<'_>) {
    if !review.is_whole() || review.is_spoken_for(&KeyPath::from("routes")) {
        return;
    }
    for name in names.difference(used) {
        let path = KeyPath::from(section).key(name);
        review.warning(&path, "no route uses it", "name it in a route, or take it out");
    }
}

/// Each request tries them one after the other, and each is held against all the others here.
const MAX_ROUTES: usize = 1000;
/// The word for "no token" in a route.
pub(super) const NO_TOKEN: &str = "none";
