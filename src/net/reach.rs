//! A TCP connection to a host by its name, before a deadline; where that is too short, the stage that was under way is what is
//! reported.
//!
//! Callers: `proxy::connect` for upstreams, `http_client` for authorization servers, both also for the HTTP proxy on the way.

use std::io;

use http::Uri;
use http::uri::Scheme;
use tokio::time::{Instant, timeout_at};

use super::dial::{self, Dialed};
use super::resolver::{LookupError, Resolver};

/// Why there is no connection.
#[derive(Debug)]
pub enum ReachError {
    /// The name has no address.
    Lookup(LookupError),
    /// The name was not resolved in time.
    LookupTimeout,
    /// No address accepts a connection.
    Connect(io::Error),
    /// No address accepted a connection in time.
    ConnectTimeout,
}

/// Looks the host of `target` up and connects to one of its addresses; `deadline` bounds both together.
///
/// # Errors
/// [`ReachError`]
pub async fn reach(
    resolver: &'static Resolver,
    target: &Uri,
    deadline: Instant,
) -> Result<Dialed, ReachError> {
    let host = target.host().unwrap_or_default();
    let port = target.port_u16().unwrap_or(if target.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    let addresses = timeout_at(deadline, resolver.addresses(host)).await;
    let addresses = addresses.map_err(|_elapsed| ReachError::LookupTimeout)?.map_err(ReachError::Lookup)?;
    // Set, not made anew: a link-local address has a scope.
    let addresses = addresses.into_iter().map(|mut address| {
        address.set_port(port);
        address
    });
    let dialed = timeout_at(deadline, dial::connect(addresses)).await;
    let dialed = dialed.map_err(|_elapsed| ReachError::ConnectTimeout)?.map_err(ReachError::Connect)?;
    for slow in &dialed.slow {
        resolver.was_slow(host, *slow);
    }
    Ok(dialed)
}
