//! `[upstreams.NAME]`.

use std::path::Path;

use url::{Host, Url};

use super::address::{self, Query, secure_url};
use super::certificates::{Pair, ca_file};
use super::{Zero, duration, number, proxy, socket};
use crate::config::Options;
use crate::config::file::{self, Bytes, Upstream};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::shape::nearest;
use crate::net::outbound_proxy::OutboundProxy;
use crate::proxy::{Http2, ListenAddress, SentHost, UpstreamSettings};

pub(super) fn resolve(
    path: &KeyPath,
    upstream: &Upstream,
    listeners: &[ListenAddress],
    options: Options,
    review: &mut Review<'_>,
) -> Option<UpstreamSettings> {
    let url_path = path.key("url");
    if upstream.url.is_none() {
        review.missing(&url_path, "is missing", review.set(&url_path));
    }
    let socket_path = path.key("socket");
    let socket = upstream.socket.as_ref().map(|text| socket::path(&socket_path, text, review));
    let url = upstream.url.as_ref().and_then(|text| match &socket {
        // What goes through a socket stays on this machine.
        Some(_) => address::url(&url_path, text, Query::Refused, review),
        None => secure_url(&url_path, text, Query::Refused, options, review),
    });
    let round = match &socket {
        Some(socket) => is_listened_on(socket.as_deref(), listeners).then_some(&socket_path),
        None => url.as_ref().is_some_and(|url| is_one_of(url, listeners)).then_some(&url_path),
    };
    if let Some(path) = round {
        let what = "is the proxy's own listener: a request would go round for ever";
        review.error(path, what, "name the API");
    }
    let proxy = way_out(path, upstream, review);
    let server_name = server_name(path, upstream, url.as_ref(), review);
    let ca_file = ca_file(&path.key("ca_file"), upstream.ca_file.as_deref(), review);
    let pair = Pair {
        whose: "the client's",
        cert: (path.key("client_cert_file"), upstream.client_cert_file.as_deref()),
        key: (path.key("client_key_file"), upstream.client_key_file.as_deref()),
    };
    let certificate = pair.load(review);
    if !pair.is_empty() && url.as_ref().is_some_and(|url| url.scheme() == "http") {
        let what = "has no meaning with an upstream in the clear: a certificate is shown in TLS alone";
        review.error(
            if pair.cert.1.is_some() { &pair.cert.0 } else { &pair.key.0 },
            what,
            "take it out, or use https",
        );
    }
    let host = sent_host(&path.key("host"), &upstream.host, review);
    let connect_timeout =
        duration(&path.key("connect_timeout"), upstream.connect_timeout, Zero::Refused, review);
    let response_header_timeout = duration(
        &path.key("response_header_timeout"),
        upstream.response_header_timeout,
        Zero::Refused,
        review,
    );
    let idle_timeout = duration(&path.key("idle_timeout"), upstream.idle_timeout, Zero::Refused, review);
    let max_connection_age =
        duration(&path.key("max_connection_age"), upstream.max_connection_age, Zero::Refused, review);
    let (max_connections, http2_connections) = numbers(path, upstream, review);
    let idle_connection_timeout = duration(
        &path.key("idle_connection_timeout"),
        upstream.idle_connection_timeout,
        Zero::Refused,
        review,
    );
    let max_streams = number(&path.key("max_streams"), upstream.max_streams, 1..=MAX_STREAMS, review);
    let max_response_header_size = header_size(path, upstream, review);
    let http2 = upstream.http2;
    Some(UpstreamSettings {
        url: url?,
        http2,
        connect_timeout,
        response_header_timeout,
        idle_timeout,
        max_connections,
        http2_connections,
        idle_connection_timeout,
        max_connection_age,
        max_streams,
        max_response_header_size,
        ca_file: ca_file.ok()?,
        certificate: certificate.ok()?,
        server_name: server_name.ok()?,
        socket: match socket {
            Some(socket) => Some(socket?),
            None => None,
        },
        proxy: proxy?,
        forwarded: upstream.forwarded,
        host: host?,
        via: upstream.via,
    })
}

/// How many connections there may be, and how many of HTTP/2.
fn numbers(path: &KeyPath, upstream: &Upstream, review: &mut Review<'_>) -> (Option<usize>, Option<usize>) {
    let most = |key: &str, file::Most(most): file::Most, review: &mut Review<'_>| {
        most.map(|most| number(&path.key(key), most, 1..=MAX_CONNECTIONS, review))
    };
    let max_connections = most("max_connections", upstream.max_connections, review);
    let http2_connections = most("http2_connections", upstream.http2_connections, review);
    if let (Some(all), Some(http2)) = (max_connections, http2_connections)
        && http2 > all
    {
        let what = format!("is more than `max_connections` allows, which is {all}");
        review.error(&path.key("http2_connections"), what, "set it to that at most");
    }
    if http2_connections.is_some() && matches!(upstream.http2, Http2::Never) {
        let what = "has no meaning with `http2 = \"never\"`";
        review.error(&path.key("http2_connections"), what, "take one of the two out");
    }
    (max_connections, http2_connections)
}

fn header_size(path: &KeyPath, upstream: &Upstream, review: &mut Review<'_>) -> usize {
    let Bytes(size) = upstream.max_response_header_size;
    if !HEADER_SIZE.contains(&size) {
        let (low, high) = (Bytes(*HEADER_SIZE.start()), Bytes(*HEADER_SIZE.end()));
        let what = format!("must be from {low} to {high}, not {}", upstream.max_response_header_size);
        review.error(&path.key("max_response_header_size"), what, "set it to \"64KiB\"");
    }
    size
}

/// The Host field (RFC 9110 section 7.2): a word, or a name with or without a port.
fn sent_host(path: &KeyPath, text: &str, review: &mut Review<'_>) -> Option<SentHost> {
    match text {
        "upstream" => return Some(SentHost::Upstream),
        "client" => return Some(SentHost::Client),
        _ => {}
    }
    let is_name = |url: &Url| {
        url.username().is_empty() && url.password().is_none() && url.path() == "/" && url.query().is_none()
    };
    let fits = !text.ends_with(['/', '?', '#', '@'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
        && !text.contains("..")
        && Url::parse(&format!("http://{text}")).is_ok_and(|url| is_name(&url));
    if !fits {
        let what = "must be \"upstream\", \"client\", or a host name with or without a port";
        review.error(path, what, "write the name that the API expects, such as \"api.internal\"");
        return None;
    }
    let meant = nearest(text, ["upstream", "client"]).filter(|_| !text.contains(['.', ':']));
    if let Some(word) = meant {
        review.error(path, "is a name that is nearly a word", format!("did you mean \"{word}\"?"));
        return None;
    }
    Some(SentHost::Name(text.to_owned()))
}

/// The proxy on the way; a Unix socket has none.
fn way_out(path: &KeyPath, upstream: &Upstream, review: &mut Review<'_>) -> Option<OutboundProxy> {
    let path = path.key("proxy");
    let proxy = proxy::resolve(&path, upstream.proxy.as_deref(), review)?;
    if upstream.socket.is_some() && matches!(proxy, OutboundProxy::Through(_)) {
        review.error(&path, "has no meaning beside `socket`", "take one of the two out");
        return None;
    }
    Some(proxy)
}

/// `Err`: something was reported.
fn server_name(
    path: &KeyPath,
    upstream: &Upstream,
    url: Option<&Url>,
    review: &mut Review<'_>,
) -> Result<Option<String>, ()> {
    let path = path.key("server_name");
    let Some(text) = &upstream.server_name else { return Ok(None) };
    if url.is_some_and(|url| url.scheme() == "http") {
        let what = "has no meaning with an upstream in the clear: it is the name in a certificate";
        review.error(&path, what, "take it out, or use https");
        return Err(());
    }
    address::host(&path, text, review).map(Some).ok_or(())
}

fn is_listened_on(socket: Option<&Path>, listeners: &[ListenAddress]) -> bool {
    let own = listeners.iter().filter_map(|listener| match listener {
        ListenAddress::Unix { path, .. } => Some(path.as_path()),
        ListenAddress::Tcp(_) => None,
    });
    own.into_iter().any(|own| Some(own) == socket)
}

fn is_one_of(url: &Url, listeners: &[ListenAddress]) -> bool {
    let Some(port) = url.port_or_known_default().filter(|port| *port != 0) else { return false };
    listeners.iter().filter_map(ListenAddress::tcp).filter(|listener| listener.port() == port).any(
        |listener| {
            let ip = listener.ip();
            match url.host() {
                Some(Host::Domain("localhost")) => ip.is_loopback() || ip.is_unspecified(),
                Some(Host::Ipv4(host)) => {
                    ip == host || (ip.is_unspecified() && ip.is_ipv4() && host.is_loopback())
                }
                Some(Host::Ipv6(host)) => {
                    ip == host || (ip.is_unspecified() && ip.is_ipv6() && host.is_loopback())
                }
                _ => false,
            }
        },
    )
}

/// More than there are ports.
const MAX_CONNECTIONS: usize = 1_000_000;
/// As many as applications may have on a connection of theirs.
const MAX_STREAMS: usize = 100_000;
/// What any server needs, and what one response may cost at most.
const HEADER_SIZE: std::ops::RangeInclusive<usize> = 8 * 1024..=1024 * 1024;
