//! One lookup by the system, and what it can end in. It blocks; the threads of a resolver call it.

use std::io;
use std::net::SocketAddr;

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};

use crate::machine::Lack;
use crate::net::threads::NotDone;

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// The name servers say that there is no such name, or none with an address.
    #[error("the name servers know no address of it")]
    NoSuchName,
    /// No name server was reached, or all report a failure of their own.
    #[error("no name server gave a usable response")]
    Unanswered,
    /// This machine lacks descriptors or memory.
    #[error("this machine has no descriptor or no memory left to look it up")]
    NoResources,
    /// This machine lacks threads.
    #[error("this machine has no thread left to look it up")]
    NoThread,
    /// Lookups of other names occupy every thread.
    #[error("lookups of other names hang, and it waits behind them")]
    Busy,
}

impl LookupError {
    /// What to do about it.
    #[must_use]
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::NoSuchName => "check the spelling of the host, and the search domains in /etc/resolv.conf",
            Self::Unanswered | Self::Busy => "check the name servers in /etc/resolv.conf",
            Self::NoResources => Lack::Resources.help(),
            Self::NoThread => Lack::Threads.help(),
        }
    }
}

impl LookupError {
    /// What this machine lacks for a lookup; `None`: that is not what it failed for.
    #[must_use]
    pub(crate) const fn lack(self) -> Option<Lack> {
        match self {
            Self::NoResources => Some(Lack::Resources),
            Self::NoThread => Some(Lack::Threads),
            Self::NoSuchName | Self::Unanswered | Self::Busy => None,
        }
    }
}

impl From<NotDone> for LookupError {
    fn from(not_done: NotDone) -> Self {
        match not_done {
            NotDone::NoThread => Self::NoThread,
            NotDone::Full => Self::Busy,
            NotDone::Panicked => Self::Unanswered,
        }
    }
}

/// `getaddrinfo(3)`. The addresses come sorted by preference (RFC 6724), each once; there is at least one.
pub(super) fn system(host: &str) -> Result<Vec<SocketAddr>, LookupError> {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = getaddrinfo(Some(host), None, Some(hints)).map_err(|error| match error.kind() {
        // Without a descriptor for its files and sockets the system reports any of the others.
        _ if Lack::now().is_some() => LookupError::NoResources,
        LookupErrorKind::NoName | LookupErrorKind::NoData => LookupError::NoSuchName,
        LookupErrorKind::Memory => LookupError::NoResources,
        LookupErrorKind::System => by_system(&io::Error::from(error)),
        _ => LookupError::Unanswered,
    })?;
    let mut addresses = Vec::new();
    for address in found.flatten().map(|info| info.sockaddr) {
        if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(LookupError::NoSuchName) } else { Ok(addresses) }
}

fn by_system(error: &io::Error) -> LookupError {
    if Lack::of(error).is_some() { LookupError::NoResources } else { LookupError::Unanswered }
}

/// More than a response over UDP holds; a name with more is used by its first.
const MAX_ADDRESSES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_knows_itself() {
        let found = system("localhost").unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
    }

    #[test]
    fn a_name_that_is_none_is_no_failure_of_the_name_servers() {
        assert_eq!(system("no such name"), Err(LookupError::NoSuchName));
    }

    #[test]
    fn what_this_machine_lacks_is_told_from_what_the_network_lacks() {
        for (errno, error) in [(24, LookupError::NoResources), (111, LookupError::Unanswered)] {
            assert_eq!(by_system(&io::Error::from_raw_os_error(errno)), error, "{errno}");
        }
    }
}
