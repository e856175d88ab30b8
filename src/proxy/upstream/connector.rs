//! The way to an upstream: straight, by a Unix socket, or through an HTTP proxy; worked out once for each upstream.
//!
//! `connect` goes it. Which proxy that is, `net::outbound_proxy` says.

use std::path::PathBuf;

use http::Uri;
use http::uri::{Authority, Scheme};

use crate::net::outbound_proxy::{Environment, HttpProxy, Unusable};
use crate::proxy::settings::UpstreamSettings;

/// How connections to an upstream are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Connector {
    /// To its address.
    Direct,
    /// By this Unix socket.
    Socket(PathBuf),
    /// Through this proxy.
    HttpProxy(HttpProxy),
}

impl Connector {
    /// The way to `authority`, as the settings and the environment say.
    pub(crate) fn new(
        settings: &UpstreamSettings,
        scheme: &Scheme,
        authority: &Authority,
        environment: &Environment,
    ) -> Result<Self, Unusable> {
        if let Some(socket) = &settings.socket {
            return Ok(Self::Socket(socket.clone()));
        }
        let proxy = settings.proxy.to(&address(scheme, authority), environment)?;
        Ok(proxy.map_or(Self::Direct, Self::HttpProxy))
    }
}

/// The address of an upstream, as a connector wants it.
pub(crate) fn address(scheme: &Scheme, authority: &Authority) -> Uri {
    Uri::builder()
        .scheme(scheme.clone())
        .authority(authority.clone())
        .path_and_query("/")
        .build()
        .expect("scheme, authority and path are all there")
}
