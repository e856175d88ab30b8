//! `[upstreams.NAME]`: a protected API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Most;
use super::quantity::{Bytes, Period};
use crate::proxy::Forwarded;
use crate::proxy::Http2;

/// A protected API.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Upstream {
    /// Its address; a path in it is put before every forwarded path.
    pub(in crate::config) url: Option<String>,
    /// auto: HTTP/2 where TLS agrees on it; never: HTTP/1.1 only; `prior_knowledge`: HTTP/2 without asking.
    pub(in crate::config) http2: Http2,
    /// For name look-up, TCP and TLS together.
    pub(in crate::config) connect_timeout: Period,
    /// From the end of the request to the head of the response; bodies have `idle_timeout` alone.
    pub(in crate::config) response_header_timeout: Period,
    /// The longest silence within a body, either way.
    pub(in crate::config) idle_timeout: Period,
    /// Connections at a time, all workers together; a request that finds none free waits for one within `connect_timeout`.
    /// auto: bounded by memory and descriptors alone.
    pub(in crate::config) max_connections: Most,
    /// HTTP/2 connections that requests are spread over, all workers together; auto: another one is opened when the streams
    /// of one are taken.
    pub(in crate::config) http2_connections: Most,
    /// How long a connection is kept that no request uses.
    pub(in crate::config) idle_connection_timeout: Period,
    /// How old a connection may grow before no further request uses it.
    pub(in crate::config) max_connection_age: Period,
    /// Requests at a time on one HTTP/2 connection; the API's SETTINGS may allow fewer.
    pub(in crate::config) max_streams: usize,
    /// Bytes of a response's head, and of its trailers, in either protocol.
    pub(in crate::config) max_response_header_size: Bytes,
    /// PEM file of the certificate authorities to trust instead of the platform's.
    pub(in crate::config) ca_file: Option<String>,
    /// PEM file of the client certificate and its chain, for mutual TLS and for certificate-bound tokens (RFC 8705).
    pub(in crate::config) client_cert_file: Option<String>,
    /// PEM file of that certificate's private key.
    pub(in crate::config) client_key_file: Option<String>,
    /// The name that its certificate must have, and that is sent in SNI, where it is not the URL's.
    pub(in crate::config) server_name: Option<String>,
    /// The Unix socket that it listens on; `url` then says scheme, Host and path.
    pub(in crate::config) socket: Option<String>,
    /// The HTTP proxy on the way to it, or none; left out: as `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY` say.
    pub(in crate::config) proxy: Option<String>,
    /// What it is told of whom a request came from: remove (nothing), pass (what the application says), `x_forwarded` or
    /// forwarded (made anew).
    pub(in crate::config) forwarded: Forwarded,
    /// The Host that it is sent: upstream (that of `url`), client (what the application sent), or a name.
    pub(in crate::config) host: String,
    /// Whether it is told in Via that a proxy is in the way.
    pub(in crate::config) via: bool,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: None,
            http2: Http2::default(),
            connect_timeout: Period::seconds(5),
            response_header_timeout: Period::seconds(60),
            idle_timeout: Period::seconds(300),
            max_connections: Most(None),
            http2_connections: Most(None),
            idle_connection_timeout: Period::seconds(60),
            max_connection_age: Period::seconds(600),
            max_streams: 100,
            max_response_header_size: Bytes(64 * 1024),
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            server_name: None,
            socket: None,
            proxy: None,
            forwarded: Forwarded::default(),
            host: "upstream".to_owned(),
            via: true,
        }
    }
}
