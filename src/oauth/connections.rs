//! The connections to an authorization server: how old they grow, whether their addresses are still the server's, and
//! whether one has come as far as TLS.
//!
//! The HTTP library keeps connections by itself and ends none for its age or address. So its client is made anew where one
//! should not be used again; what is under way goes on with the old one. `transport` asks before each exchange.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use url::Url;

use super::server::Transport;
use super::transport::ServerError;
use crate::clock;
use crate::net::outgoing;
use crate::net::resolver;

/// The connections to one authorization server.
#[derive(Clone, Debug)]
pub(super) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    transport: Transport,
    tls: rustls::ClientConfig,
    handshakes: Arc<Handshakes>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    client: reqwest::Client,
    since: Instant,
    seen: Seen,
}

/// Addresses that a connection may lead to, by the name that was looked up.
#[derive(Debug, Default)]
struct Seen(BTreeMap<String, BTreeSet<IpAddr>>);

impl Connections {
    pub(super) fn new(transport: &Transport, mut tls: rustls::ClientConfig) -> Result<Self, ServerError> {
        let handshakes = Arc::new(Handshakes {
            sessions: ClientSessionMemoryCache::new(SESSIONS),
            last: Mutex::new(None),
        });
        tls.resumption = Resumption::store(Arc::clone(&handshakes) as Arc<dyn ClientSessionStore>);
        let client = client(transport, tls.clone())?;
        let current = Current { client, since: clock::now(), seen: Seen::default() };
        Ok(Self(Arc::new(Shared {
            transport: transport.clone(),
            tls,
            handshakes,
            current: Mutex::new(current),
        })))
    }

    pub(super) fn are_proxied(&self) -> bool {
        self.0.transport.proxy.is_some()
    }

    /// What a request to `url` is sent by. It does not wait for a lookup that is due.
    pub(super) fn client(&self, url: &Url) -> reqwest::Client {
        let host = self.0.transport.proxy.as_ref().unwrap_or(url).host_str().unwrap_or_default();
        let addresses = resolver::TOKENS.refresh(host);
        let mut current = self.current();
        let is_old = clock::now().saturating_duration_since(current.since) >= MAX_CONNECTION_AGE;
        if is_old || addresses.as_ref().is_some_and(|addresses| current.seen.has_lost(host, addresses)) {
            // It was made of the same once, so this does not fail.
            if let Ok(client) = client(&self.0.transport, self.0.tls.clone()) {
                *current = Current { client, since: clock::now(), seen: Seen::default() };
            }
        }
        if let Some(addresses) = addresses {
            current.seen.0.entry(host.to_owned()).or_default().extend(addresses.iter());
        }
        current.client.clone()
    }

    /// Whether a TLS handshake has begun since `start`: then the server took a connection.
    pub(super) fn began_tls_since(&self, start: Instant) -> bool {
        self.0.handshakes.last().is_some_and(|last| last >= start)
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

fn client(transport: &Transport, tls: rustls::ClientConfig) -> Result<reqwest::Client, ServerError> {
    let mut builder = outgoing::client(tls, &resolver::TOKENS, transport.connect_timeout)
        .timeout(transport.timeout)
        .pool_max_idle_per_host(POOL_CONNECTIONS)
        .pool_idle_timeout(POOL_IDLE);
    if let Some(proxy) = &transport.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy.clone()).map_err(|_| ServerError::Proxy)?);
    }
    builder.build().map_err(|_| ServerError::Refused)
}

/// TLS sessions, and when the last handshake began: rustls looks for a session first. The HTTP library's error for a
/// connection that took too long does not say how far it came.
#[derive(Debug)]
struct Handshakes {
    sessions: ClientSessionMemoryCache,
    last: Mutex<Option<Instant>>,
}

impl Handshakes {
    fn last(&self) -> Option<Instant> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Handshakes {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.sessions.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::now());
        self.sessions.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.sessions.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.sessions.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.sessions.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.sessions.take_tls13_ticket(server_name)
    }
}

/// As many as the renewer has under way at once: where a thousand tokens are due, connections are used again.
const POOL_CONNECTIONS: usize = 32;
/// Long enough for a token request after discovery; a connection that idles until the next renewal is dead by then.
const POOL_IDLE: Duration = Duration::from_secs(5);
/// As the default for upstreams.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(10);
/// rustls' own default.
const SESSIONS: usize = 256;

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
