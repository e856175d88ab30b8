//! What a hostile application can send us in a head, as functions of bytes, each with what must hold of the outcome.
//!
//! For the fuzz targets in `fuzz/` and for the test that replays their corpus; nothing that ships calls it. What a
//! lenient server would make of a path is worked out here a second time, by steps that each server may take or leave.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use http::header::{AUTHORIZATION, CONNECTION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::message::headers::{Overrides, strip_request, strip_response};
use super::message::path::{judge, without_dot_segments};
use super::observe::metrics::ProxyMetrics;
use super::request::guard::Guard;
use super::request::route_table::{RouteEntry, RouteTable};
use super::settings::{Forwarded, Route, UpstreamSettings};
use super::upstream::api::Upstream;
use super::upstream::forwarded_target;
use crate::metrics::Metrics;

/// A path: refused, or read in ways that hold nothing which a server might fold further.
pub(crate) fn request_path(data: &[u8]) {
    let Some(came) = std::str::from_utf8(data).ok().filter(|path| path.starts_with('/')) else { return };
    let Ok(resolved) = without_dot_segments(came) else { return };
    let path = resolved.as_deref().unwrap_or(came);
    let Ok(judged) = judge(path) else { return };
    assert_eq!(judged.raw, path, "what is forwarded is not what was judged");
    for segment in path.split('/') {
        assert!(!matches!(segment, "." | ".."), "a dot segment passed");
    }
    for reading in &judged.readings {
        assert!(reading.starts_with('/') && !reading.contains("//") && !reading.contains('\\'));
        for segment in reading[1..].split('/') {
            assert!(!matches!(segment, "." | ".."), "a dot segment in disguise passed");
            assert!(!segment.contains(';') && !segment.ends_with(['.', ' ']));
        }
        assert!(!reading.chars().any(|c| c.is_ascii_control()), "a control character in disguise passed");
        // A percent sign that is left stands for itself, and is not to be taken for an encoding again.
        if !reading.contains('%') {
            let again = judge(reading).expect("what is folded is not refused");
            let mut further = again.readings.iter().filter(|further| *further != reading);
            assert!(reading.contains(['?', '#']) || further.next().is_none(), "{reading} folds further");
        }
    }
}

/// A path that a route is found for: no server reads it as one of another route, and it goes out as it came.
pub(crate) fn request_route(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    if !uri.path().starts_with('/') {
        return;
    }
    let Ok(path) = judge(uri.path()) else { return };
    for method in [Method::GET, Method::POST] {
        let Ok(entry) = table().find("localhost", &path, &method) else { continue };
        let rest = if entry.route.strip_prefix { entry.route.rest_of(path.raw) } else { Some(path.raw) };
        let rest = rest.expect("a route that fits has a rest");
        let Ok(sent) = forwarded_target::forwarded(&uri, &table().upstreams()[entry.upstream], rest) else {
            assert!(
                data.contains(&b'#'),
                "what was judged can be sent, unless it was nothing but a fragment"
            );
            continue;
        };
        assert_eq!(sent.path().trim_start_matches('/'), rest.trim_start_matches('/'));
        assert_eq!(sent.query(), uri.query());
        assert!(sent.to_string().starts_with('/'), "origin-form begins with a slash");
        for read in lenient_readings(sent.path()) {
            let meant =
                if entry.route.strip_prefix { format!("{}{read}", entry.route.path) } else { read.clone() };
            let theirs = by_the_letter(&meant, &method).map(|route| route.route.path.as_str());
            assert_eq!(
                theirs,
                Some(entry.route.path.as_str()),
                "{:?} is {read:?} to some reader",
                uri.path()
            );
        }
    }
}

/// A head, a field to a line: what must stop here stops, all else goes on as it came, and a second time changes nothing.
pub(crate) fn request_head(data: &[u8]) {
    let came = head(data);
    for forwarded in [Forwarded::Remove, Forwarded::Pass, Forwarded::XForwarded, Forwarded::Forwarded] {
        for overrides in [Overrides::Pass, Overrides::Remove] {
            let mut sent = came.clone();
            strip_request(&mut sent, forwarded, overrides);
            holds_of_request(&came, &sent, forwarded, overrides);
            let once = sent.clone();
            strip_request(&mut sent, forwarded, overrides);
            assert_eq!(sent, once, "stripped twice is stripped further");
            sent.insert(AUTHORIZATION, HeaderValue::from_static("Bearer ours"));
            assert_eq!(sent.get_all(AUTHORIZATION).iter().count(), 1);
        }
    }
    let mut answer = came.clone();
    if strip_response(Version::HTTP_11, &mut answer).is_ok() {
        for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "cupbearer-error"] {
            assert!(!answer.contains_key(name), "{name} of an answer went on");
        }
        let two = came.contains_key("content-length") && came.contains_key("transfer-encoding");
        assert!(!two, "an answer that ends in two places went on");
    }
}

fn holds_of_request(came: &HeaderMap, sent: &HeaderMap, forwarded: Forwarded, overrides: Overrides) {
    for name in sent.keys() {
        let name = name.as_str().replace('_', "-");
        let hop = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "te",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "x-original-url",
            "x-rewrite-url",
        ];
        let is_hop = hop.contains(&name.as_str()) && !name.starts_with("proxy-") && !name.contains("http2");
        assert!(!is_hop && !name.starts_with("x-cupbearer-"), "{name} went on");
        let is_claim = name == "forwarded" || name.starts_with("x-forwarded-") || name == "x-real-ip";
        assert!(!is_claim || forwarded == Forwarded::Pass, "{name} went on");
        assert!(name != "x-http-method-override" || overrides == Overrides::Pass, "{name} went on");
    }
    for name in ["proxy-connection", "proxy-authorization", "http2-settings"] {
        assert!(!sent.contains_key(name), "{name} went on");
    }
    for options in came.get_all(CONNECTION) {
        let is_own = |o: &[u8]| o.eq_ignore_ascii_case(b"close") || o.eq_ignore_ascii_case(b"keep-alive");
        if is_own(options.as_bytes()) {
            continue;
        }
        for option in options.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let named = HeaderName::from_bytes(option);
            assert!(!named.is_ok_and(|n| sent.contains_key(n)), "a field that Connection names went on");
        }
    }
    for name in sent.keys() {
        assert!(sent.get_all(name).iter().eq(came.get_all(name)), "{name} was changed");
    }
}

fn head(data: &[u8]) -> HeaderMap {
    let mut head = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(MAX_FIELDS) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            head.append(name, value);
        }
    }
    head
}

/// What servers may make of `path`, each taking some of the steps and leaving the others.
fn lenient_readings(path: &str) -> BTreeSet<String> {
    let steps: [fn(&str) -> String; 10] = [
        without_host,
        without_parameters,
        decoded,
        decoded,
        |path| path.split(['?', '#']).next().unwrap_or_default().to_owned(),
        |path| path.replace('\\', "/"),
        without_parameters,
        |path| {
            let names: Vec<_> = path.split('/').skip(1).filter(|name| !name.is_empty()).collect();
            format!("/{}{}", names.join("/"), if path.ends_with('/') && !names.is_empty() { "/" } else { "" })
        },
        without_dots,
        str::to_ascii_lowercase,
    ];
    let mut read = BTreeSet::from([path.to_owned()]);
    for step in steps {
        let more: Vec<String> = read.iter().map(|path| step(path)).collect();
        read.extend(more.into_iter().filter(|path| path.starts_with('/')));
    }
    read
}

fn without_host(path: &str) -> String {
    let Some(reference) = path.strip_prefix("//").or_else(|| path.strip_prefix("/\\")) else {
        return path.to_owned();
    };
    let reference = reference.trim_start_matches(['/', '\\']);
    reference.find(['/', '\\']).map_or("/", |end| &reference[end..]).to_owned()
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(|s| s.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/")
}

fn decoded(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, behind @ ..] = rest {
        let pair = behind.get(..2).filter(|_| *first == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        if let Some(byte) = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            out.push(byte);
            rest = &behind[2..];
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn without_dots(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/').skip(1) {
        match name {
            "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// The route for a path that is read to the letter.
fn by_the_letter(path: &str, method: &Method) -> Option<&'static RouteEntry> {
    let fits = |route: &Route| {
        route.rest_of(path).is_some() && (route.methods.is_empty() || route.methods.contains(method))
    };
    table().entries().iter().find(|entry| fits(&entry.route))
}

fn table() -> &'static RouteTable {
    static TABLE: OnceLock<RouteTable> = OnceLock::new();
    TABLE.get_or_init(|| {
        let route = |path: &str| Route { path: path.into(), upstream: "api".into(), ..Route::default() };
        let routes = [
            route("/files/private"),
            Route { strip_prefix: true, ..route("/files") },
            Route { methods: vec![Method::GET], ..route("/admin") },
            route("/v1/orders"),
            route("/"),
        ];
        let settings = UpstreamSettings::bare("http://127.0.0.1:1");
        let upstream = Upstream::new("api", settings).expect("an upstream without files");
        let metrics = ProxyMetrics::new(&Metrics::new());
        RouteTable::link(Guard::default(), &routes, vec![Arc::new(upstream)], |_| None, &metrics)
            .expect("every route leads somewhere")
    })
}

/// More is refused before any of this.
const MAX_FIELDS: usize = 128;
