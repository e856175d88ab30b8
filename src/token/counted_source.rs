//! Many clients of one authorization server, for a test and a benchmark of how many ask at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::net::outbound_proxy::OutboundProxy;
use crate::oauth::{Client, ClientAuth, Dialect, Location, ServerSettings, TokenRequest, Transport};
use crate::secret::{Secret, SecretSource};

use super::error::Error;
use super::settings::{GrantSettings, ServerOrigin};
use super::source::{Fetched, ServerSource, Source};

/// How many ask at once, and how many did at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Load {
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// A source that counts.
pub(crate) struct CountedSource {
    inner: ServerSource,
    load: Load,
}

impl CountedSource {
    pub(crate) fn new(inner: ServerSource, load: &Load) -> Self {
        Self { inner, load: load.clone() }
    }
}

impl Source for CountedSource {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async {
            let under_way = self.load.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.load.most.fetch_max(under_way, Ordering::SeqCst);
            let outcome = self.inner.fetch().await;
            self.load.under_way.fetch_sub(1, Ordering::SeqCst);
            outcome
        })
    }
}

/// A client with a secret that asks for tokens of its own at `endpoint`.
pub(crate) fn client_credentials(endpoint: &str, id: &str) -> ServerOrigin {
    let transport = Transport {
        ca_file: None,
        certificate: None,
        proxy: OutboundProxy::Direct,
        connect_timeout: Duration::from_secs(10),
        timeout: Duration::from_mins(1),
    };
    let location = Location::endpoint(endpoint.parse().expect("a URL"));
    let secret = SecretSource::Inline(Secret::new("a secret of a usual length".to_owned()));
    ServerOrigin {
        refresh_scope: true,
        server: ServerSettings { location, transport, token_type: None, dialect: Dialect::default() },
        client: Client { id: id.to_owned(), auth: ClientAuth::SecretBasic(secret) },
        grant: GrantSettings::ClientCredentials,
        request: TokenRequest { scope: Vec::new(), audience: None, resource: Vec::new(), params: Vec::new() },
        dpop: None,
    }
}
