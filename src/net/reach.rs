//! A TCP connection to a host by its name, before a deadline; where that is too short, the stage that was under way is what is
//! reported.
//!
//! Callers: `proxy::connect` for upstreams, `connector` in two steps for authorization servers, both also for the HTTP proxy on the way.

use std::io;
use std::net::SocketAddr;

use http::Uri;
use http::uri::Scheme;
use tokio::time::{Instant, timeout_at};

use super::dial::{DialError, Dialed, connect};
use super::resolver::{LookupError, Resolver};
use crate::machine::Lack;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ReachError {
    /// The name has no address.
    Lookup(LookupError),
    /// The name was not resolved in time.
    LookupTimeout,
    /// This machine lacks what a lookup or a connection takes.
    Lacking(Lack),
    /// No address accepts a connection.
    Connect(io::Error),
    /// No address accepted a connection in time.
    ConnectTimeout,
}

impl ReachError {
    fn of_lookup(error: LookupError) -> Self {
        error.lack().map_or(Self::Lookup(error), Self::Lacking)
    }
}

/// Looks the host of `target` up and connects to one of its addresses; `deadline` bounds both together.
///
/// # Errors
/// [`ReachError`]
pub(crate) async fn reach(
    resolver: &'static Resolver,
    target: &Uri,
    deadline: Instant,
) -> Result<Dialed, ReachError> {
    let addresses = look_up(resolver, target, deadline).await?;
    dial(resolver, target, addresses, deadline).await
}

/// The addresses of `target` with its port, in the order in which they are to be tried.
///
/// # Errors
/// [`ReachError::Lookup`], [`ReachError::LookupTimeout`], [`ReachError::Lacking`]
pub(crate) async fn look_up(
    resolver: &'static Resolver,
    target: &Uri,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, ReachError> {
    let host = target.host().unwrap_or_default();
    let port = target.port_u16().unwrap_or(if target.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    let addresses = timeout_at(deadline, resolver.addresses(host)).await;
    let addresses =
        addresses.map_err(|_elapsed| ReachError::LookupTimeout)?.map_err(ReachError::of_lookup)?;
    // Set, not made anew: a link-local address has a scope.
    let addresses = addresses.into_iter().map(|mut address| {
        address.set_port(port);
        address
    });
    Ok(addresses.collect())
}

/// Connects to one of the `addresses` of `target`.
///
/// # Errors
/// [`ReachError::Connect`], [`ReachError::ConnectTimeout`], [`ReachError::Lacking`]
pub(crate) async fn dial(
    resolver: &'static Resolver,
    target: &Uri,
    addresses: impl IntoIterator<Item = SocketAddr>,
    deadline: Instant,
) -> Result<Dialed, ReachError> {
    let dialed = timeout_at(deadline, connect(addresses)).await;
    let dialed = dialed.map_err(|_elapsed| ReachError::ConnectTimeout)?.map_err(|error| match error {
        DialError::Lacking(lack) => ReachError::Lacking(lack),
        DialError::Connect(error) => ReachError::Connect(error),
    })?;
    for slow in &dialed.slow {
        resolver.was_slow(target.host().unwrap_or_default(), *slow);
    }
    Ok(dialed)
}
