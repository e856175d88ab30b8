//! Where a program of this machine listens beside the request path: a TCP address, the path of a Unix socket, or a name in
//! Linux' abstract namespace (unix(7)).
//!
//! The control surface listens on one, and the command line connects to it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An address of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LocalAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Path(PathBuf),
    /// A name in the abstract namespace, without a leading `@` or zero: a Unix socket without a file, which every process of
    /// the same network namespace can connect to.
    Abstract(String),
}

impl LocalAddress {
    /// Reads `127.0.0.1:9902`, `unix:/run/cupbearer/control.sock` or `unix:@cupbearer`. `None`: it is none of the three.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let Some(socket) = text.strip_prefix(UNIX) else { return text.parse().ok().map(Self::Tcp) };
        match socket.strip_prefix('@') {
            Some(name) => (!name.is_empty()).then(|| Self::Abstract(name.to_owned())),
            None => (!socket.is_empty()).then(|| Self::Path(socket.into())),
        }
    }

    /// The name or path as the system takes it: an abstract name begins with a zero.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp(_) => None,
            Self::Path(path) => Some(path.clone()),
            Self::Abstract(name) => Some(format!("\0{name}").into()),
        }
    }
}

impl From<SocketAddr> for LocalAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&Self> for LocalAddress {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Path(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Abstract(name) => write!(f, "{UNIX}@{name}"),
        }
    }
}

/// What comes before a path or a name.
pub(crate) const UNIX: &str = "unix:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["127.0.0.1:9902", "[::1]:1", "unix:/run/c.sock", "unix:c.sock", "unix:@cupbearer"] {
            assert_eq!(LocalAddress::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "9902", "localhost:9902", "unix:", "unix:@", "none", "/run/c.sock", "@cupbearer"] {
            assert_eq!(LocalAddress::parse(text), None, "{text}");
        }
    }
}
