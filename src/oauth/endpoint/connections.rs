//! The connections to an authorization server: how old they grow, and whether their addresses are still the server's.
//!
//! The HTTP library keeps connections by itself and ends none for its age or address. So its client is made anew where one
//! should not be used again; what is under way goes on with the old one. `transport` asks before each exchange.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;
use tokio::time::Instant;
use url::Url;

use crate::clock;
use crate::net::http_client::{HttpClient, Ways};
use crate::net::outbound_proxy::Environment;
use crate::net::resolver;
use crate::oauth::discovery::server::ServerError;
use crate::oauth::discovery::server::Transport;

/// The connections to one authorization server.
#[derive(Clone)]
pub(in crate::oauth) struct Connections(Arc<Shared>);

struct Shared {
    transport: Transport,
    tls: ClientConfig,
    environment: Environment,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    client: HttpClient,
    since: Instant,
    seen: Seen,
}

/// Addresses that a connection may lead to, by the name that was looked up.
#[derive(Debug, Default)]
struct Seen(BTreeMap<String, BTreeSet<IpAddr>>);

/// Without what the environment says: a password may be in it.
impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("transport", &self.0.transport).finish_non_exhaustive()
    }
}

impl Connections {
    pub(in crate::oauth) fn new(transport: &Transport, tls: ClientConfig) -> Self {
        let environment = Environment::read();
        let client = client(transport, tls.clone());
        let current = Current { client, since: clock::now(), seen: Seen::default() };
        Self(Arc::new(Shared {
            transport: transport.clone(),
            tls,
            environment,
            current: Mutex::new(current),
        }))
    }

    /// Whether there is a way to `url`.
    pub(in crate::oauth) fn judge(&self, url: &Url) -> Result<(), ServerError> {
        let Ok(target) = url.as_str().parse() else { return Ok(()) };
        let proxy = self.0.transport.proxy.to(&target, &self.0.environment);
        proxy.map(|_| ()).map_err(ServerError::Proxy)
    }

    /// For one exchange, from connect to the last byte of the answer.
    pub(in crate::oauth) fn timeout(&self) -> Duration {
        self.0.transport.timeout
    }

    /// Whether the client's certificate has expired by this machine's clock.
    pub(in crate::oauth) fn certificate_has_expired(&self) -> bool {
        let certificate = self.0.transport.certificate.as_ref();
        certificate.is_some_and(|certificate| certificate.expired().is_some())
    }

    /// What a request to `target` is sent by. It does not wait for a lookup that is due.
    pub(in crate::oauth) fn client(&self, target: &Uri) -> HttpClient {
        let proxy = self.0.transport.proxy.to(target, &self.0.environment).ok().flatten();
        let host = proxy.as_ref().map_or(target, |proxy| &proxy.address).host().unwrap_or_default();
        let addresses = resolver::TOKENS.refresh(host);
        let mut current = self.current();
        let is_old = clock::now().saturating_duration_since(current.since) >= MAX_CONNECTION_AGE;
        if is_old || addresses.as_ref().is_some_and(|addresses| current.seen.has_lost(host, addresses)) {
            let client = client(&self.0.transport, self.0.tls.clone());
            *current = Current { client, since: clock::now(), seen: Seen::default() };
        }
        if let Some(addresses) = addresses {
            current.seen.0.entry(host.to_owned()).or_default().extend(addresses.iter());
        }
        current.client.clone()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Whether `host` had an address that is not among `addresses`.
    fn has_lost(&self, host: &str, addresses: &[IpAddr]) -> bool {
        self.0.get(host).is_some_and(|seen| seen.iter().any(|address| !addresses.contains(address)))
    }
}

fn client(transport: &Transport, tls: ClientConfig) -> HttpClient {
    HttpClient::new(Ways {
        tls,
        resolver: &resolver::TOKENS,
        proxy: transport.proxy.clone(),
        connect_timeout: transport.connect_timeout,
        idle_connections: POOL_CONNECTIONS,
        idle_timeout: POOL_IDLE,
    })
}

/// As many as the renewer has under way at once: where a thousand tokens are due, connections are used again.
const POOL_CONNECTIONS: usize = 32;
/// Long enough for a token request after discovery; a connection that idles until the next renewal is dead by then.
const POOL_IDLE: Duration = Duration::from_secs(5);
/// As the default for upstreams.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_goes_once_an_address_that_it_may_be_connected_to_is_gone() {
        let [one, two] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let mut seen = Seen::default();
        assert!(!seen.has_lost("as.test", &[one]), "nothing was seen");
        seen.0.insert("as.test".to_owned(), BTreeSet::from([one]));
        assert!(!seen.has_lost("as.test", &[one, two]));
        assert!(seen.has_lost("as.test", &[two]));
        assert!(!seen.has_lost("other.test", &[two]));
    }
}
