//! `[upstreams.NAME]`.

use std::net::SocketAddr;

use url::{Host, Url};

use super::address::{Query, secure_url};
use super::certificates::{Pair, ca_file};
use super::{Zero, duration};
use crate::config::Options;
use crate::config::file::{self, Upstream};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::proxy::{Forwarded, Http2, Proxy, UpstreamSettings};

pub(super) fn resolve(
    path: &KeyPath,
    upstream: &Upstream,
    listeners: &[SocketAddr],
    options: Options,
    review: &mut Review<'_>,
) -> Option<UpstreamSettings> {
    let url_path = path.key("url");
    if upstream.url.is_none() {
        review.missing(&url_path, "is missing", review.set(&url_path));
    }
    let url =
        upstream.url.as_ref().and_then(|text| secure_url(&url_path, text, Query::Refused, options, review));
    if url.as_ref().is_some_and(|url| is_one_of(url, listeners)) {
        review.error(
            &url_path,
            "is the proxy's own listener: a request would go round for ever",
            "name the API",
        );
    }
    let ca_file = ca_file(&path.key("ca_file"), upstream.ca_file.as_deref(), review);
    let pair = Pair {
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
    let connect_timeout =
        duration(&path.key("connect_timeout"), upstream.connect_timeout, Zero::Refused, review);
    let response_header_timeout = duration(
        &path.key("response_header_timeout"),
        upstream.response_header_timeout,
        Zero::Refused,
        review,
    );
    let idle_timeout = duration(&path.key("idle_timeout"), upstream.idle_timeout, Zero::Refused, review);
    let http2 = match upstream.http2 {
        file::Http2::Auto => Http2::Auto,
        file::Http2::Never => Http2::Never,
        file::Http2::PriorKnowledge => Http2::PriorKnowledge,
    };
    Some(UpstreamSettings {
        url: url?,
        http2,
        connect_timeout,
        response_header_timeout,
        idle_timeout,
        ca_file: ca_file.ok()?,
        certificate: certificate.ok()?,
        server_name: None,
        socket: None,
        proxy: Proxy::Environment,
        forwarded: Forwarded::Remove,
        via: true,
    })
}

fn is_one_of(url: &Url, listeners: &[SocketAddr]) -> bool {
    let Some(port) = url.port_or_known_default().filter(|port| *port != 0) else { return false };
    listeners.iter().filter(|listener| listener.port() == port).any(|listener| {
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
    })
}
