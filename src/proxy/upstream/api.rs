//! The protected API: where it is and how it is reached.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue};
use rustls::pki_types::ServerName;
use url::Url;

use super::connector::Connector;
use super::health::{Health, KINDS};
use super::slots::Slots;
use crate::net::outbound_proxy::{Environment, Unusable};
use crate::net::tls::{NoRoots, TlsError, client_config};
use crate::proxy::error::{DialFault, Malformed, ProxyError, UpstreamFault};
use crate::proxy::message::target;
use crate::proxy::observe::trace;
use crate::proxy::settings::{Http2, SentHost, UpstreamSettings};
use crate::traces::Value;

/// An upstream that can be connected to: the settings, and all that can be worked out of them once.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) settings: UpstreamSettings,
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
    host: HeaderValue,
    /// Scheme, host and port as every URL of it begins: the host in lower case, a port of the scheme's own left out.
    pub(crate) origin: String,
    /// The path before every forwarded path, without a slash at its end; empty for none.
    pub(crate) base_path: String,
    pub(super) tls: Option<UpstreamTls>,
    pub(crate) connector: Connector,
    /// Places for the connections of all workers, where their number is bounded.
    pub(super) connections: Option<Arc<Slots>>,
    pub(super) http2_connections: Option<Arc<Slots>>,
    reachable: AtomicBool,
    health: Health,
}

/// TLS toward an upstream.
#[derive(Debug)]
pub(super) struct UpstreamTls {
    pub(crate) config: Arc<rustls::ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
}

/// Why an upstream cannot be used as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// Its TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The URL names no host that HTTP can be spoken to.
    #[error("the URL names no host")]
    NoHost,
    /// The HTTP proxy on the way cannot be used.
    #[error("{0}")]
    Proxy(Unusable),
}

impl Upstream {
    /// Works the settings out; reads the file of certificate authorities.
    ///
    /// # Errors
    /// [`UpstreamError`] for a file that cannot be used or a URL without a host.
    pub(crate) fn new(name: &str, settings: UpstreamSettings) -> Result<Self, UpstreamError> {
        let url = &settings.url;
        let host = url.host_str().ok_or(UpstreamError::NoHost)?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let authority: Authority = authority.parse().map_err(|_| UpstreamError::NoHost)?;
        let tls = match url.scheme() {
            "https" => Some(UpstreamTls::new(host, &settings)?),
            _ => None,
        };
        let scheme = if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let connector = Connector::new(&settings, &scheme, &authority, &Environment::read())
            .map_err(UpstreamError::Proxy)?;
        if let Connector::HttpProxy(proxy) = &connector {
            let address = proxy.address.authority().map_or("", Authority::as_str);
            tracing::info!(upstream = %name, proxy = %address, "connections go through an HTTP proxy");
        }
        Ok(Self {
            name: name.to_owned(),
            scheme,
            origin: url.origin().ascii_serialization(),
            host: {
                let host = match &settings.host {
                    SentHost::Name(name) => name,
                    SentHost::Upstream | SentHost::Client => authority.as_str(),
                };
                HeaderValue::from_str(host).map_err(|_| UpstreamError::NoHost)?
            },
            authority,
            base_path: url.path().trim_end_matches('/').to_owned(),
            tls,
            connector,
            connections: settings.max_connections.map(Slots::new),
            http2_connections: settings.http2_connections.map(Slots::for_each),
            reachable: AtomicBool::new(true),
            health: Health::new(),
            settings,
        })
    }

    /// Whether this one was made of the same name and settings: then a reload keeps it, connections and all.
    #[must_use]
    pub(crate) fn is_made_of(&self, name: &str, settings: &UpstreamSettings) -> bool {
        self.name == name && self.settings == *settings
    }

    /// Whether no web page could send it requests by itself: its connections show a client certificate, or lead through a
    /// Unix socket or an HTTP proxy.
    pub(crate) fn is_beyond_pages(&self) -> bool {
        self.settings.certificate.is_some() || !matches!(self.connector, Connector::Direct)
    }

    /// The origin that a request with `headers` has for the upstream, which knows it by its Host.
    pub(crate) fn origin_of(&self, headers: &HeaderMap) -> Cow<'_, str> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        match host.filter(|host| *host != self.authority.as_str()) {
            None => Cow::Borrowed(&self.origin),
            Some(host) => match Url::parse(&format!("{}://{host}", self.scheme)) {
                Ok(url) => Cow::Owned(url.origin().ascii_serialization()),
                Err(_) => Cow::Borrowed(&self.origin),
            },
        }
    }

    /// The Host for a request that came with `parts`.
    pub(crate) fn host(&self, parts: &Parts) -> HeaderValue {
        if self.settings.host != SentHost::Client {
            return self.host.clone();
        }
        let client = target::authority(parts).ok().and_then(|host| HeaderValue::from_str(host).ok());
        client.unwrap_or_else(|| self.host.clone())
    }

    /// What the span of a sending for `path` says of it, by the semantic conventions for HTTP clients, 1.23 and later.
    pub(crate) fn span_attributes(&self, path: &str) -> [(&'static str, Value); 5] {
        let usual = if self.scheme == Scheme::HTTPS { 443 } else { 80 };
        // Without the query, where tokens are found. `*` is no path.
        let path = if path == "*" { "" } else { path };
        [
            ("server.address", Value::of(trace::bare(self.authority.host()))),
            ("server.port", self.authority.port_u16().unwrap_or(usual).into()),
            ("url.scheme", Value::of(self.scheme.as_str())),
            ("url.full", Value::of(&format!("{}{path}", self.origin))),
            ("cupbearer.upstream", Value::of(&self.name)),
        ]
    }

    /// Takes note that a connection was made or not, and logs a change once.
    pub(crate) fn found(&self, reached: Result<(), DialFault>) {
        match reached {
            Ok(()) if !self.reachable.swap(true, Ordering::Relaxed) => {
                tracing::info!(upstream = %self.name, "the upstream can be reached again");
            }
            Err(error) if self.reachable.swap(false, Ordering::Relaxed) => {
                let help = error.help();
                tracing::warn!(upstream = %self.name, address = %self.authority, help, "{error}");
            }
            _ => {}
        }
    }

    /// Whether its connections may turn out to be HTTP/2, which many requests share.
    pub(crate) fn may_speak_http2(&self) -> bool {
        match self.settings.http2 {
            Http2::Auto => self.tls.is_some(),
            Http2::Never => false,
            Http2::PriorKnowledge => true,
        }
    }

    /// The host whose address its connections lead to; `None`: a Unix socket's.
    pub(super) fn looked_up(&self) -> Option<&str> {
        match &self.connector {
            Connector::Direct => Some(self.authority.host()),
            Connector::HttpProxy(proxy) => proxy.address.host(),
            Connector::Socket(_) => None,
        }
    }

    /// Takes note of how a request went; `None`: it was answered, whatever the answer. Logs a change once.
    pub(crate) fn went(&self, error: Option<&ProxyError>) {
        match error {
            None if self.health.answered() => {
                tracing::info!(upstream = %self.name, "the upstream answers again");
            }
            Some(error) if failing(error).is_some_and(|kind| self.health.failed(kind)) => {
                tracing::warn!(upstream = %self.name, kind = error.kind(), "{error}");
            }
            _ => {}
        }
    }
}

// A failure of a kind beyond that would not be reported.
const _: () = assert!(8 + Malformed::COUNT <= KINDS);

/// Which failure of the upstream's it is; `None`: it is another's, or [`Upstream::found`] reports it.
const fn failing(error: &ProxyError) -> Option<u32> {
    use UpstreamFault as F;
    let ProxyError::Upstream(fault) = error else { return None };
    Some(match fault {
        F::Broken => 0,
        F::LargeHeadBroken { .. } => 1,
        F::HeadTooLarge { .. } => 2,
        F::ResponseTimeout => 3,
        F::Cut(how) => 4 + *how as u32,
        F::Reset(_) => 6,
        F::NotHttp2 => 7,
        // Each has words of its own.
        F::Malformed(why) => 8 + why.number(),
        _ => return None,
    })
}

impl UpstreamTls {
    fn new(host: &str, settings: &UpstreamSettings) -> Result<Self, UpstreamError> {
        let mut config =
            client_config(settings.ca_file.as_deref(), NoRoots::Refused, settings.certificate.as_ref())?;
        config.alpn_protocols = match settings.http2 {
            Http2::Auto => vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()],
            Http2::Never => vec![ALPN_HTTP1.to_vec()],
            Http2::PriorKnowledge => vec![ALPN_HTTP2.to_vec()],
        };
        let host = settings.server_name.as_deref().unwrap_or(host);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let server_name = ServerName::try_from(bare.to_owned()).map_err(|_| UpstreamError::NoHost)?;
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// The same, for a connection that is to speak HTTP/1.1.
    pub(super) fn with_http1_alone(&self) -> Self {
        let mut config = rustls::ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        Self { config: Arc::new(config), server_name: self.server_name.clone() }
    }
}

/// RFC 7301's protocol identifiers, as RFC 9113 section 3.2 and RFC 9112 register them.
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";
