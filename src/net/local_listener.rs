//! A listener on a [`LocalAddress`]: what the control surface is served on.

use std::io;

use socket2::Socket;
use tokio::net::{TcpListener, UnixListener};

use super::local_address::LocalAddress;
use super::unix::{self, SocketFile};
use super::{bind, unix_peer};

/// A bound listener.
#[derive(Debug)]
pub(crate) enum LocalListener {
    /// On TCP.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Its file, which goes with it; `None`: it is in the abstract namespace.
        file: Option<SocketFile>,
    },
}

impl LocalListener {
    /// The listener on `address` whose socket the service manager passes, which keeps it and its file.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn passed(address: &LocalAddress, socket: Socket) -> io::Result<Self> {
        Ok(match address {
            LocalAddress::Tcp(_) => Self::Tcp(TcpListener::from_std(socket.into())?),
            LocalAddress::Path(_) | LocalAddress::Abstract(_) => {
                Self::Unix { listener: UnixListener::from_std(socket.into())?, file: None }
            }
        })
    }

    /// Listens on `address`; `mode` is that of a Unix socket's file. Returns the address that was bound, too: where port 0 was
    /// asked for, the port that was given.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn bind(address: &LocalAddress, mode: u32) -> io::Result<(Self, LocalAddress)> {
        match address {
            LocalAddress::Tcp(address) => {
                let listener = bind::listen(*address).await?;
                let address = LocalAddress::Tcp(listener.local_addr()?);
                Ok((Self::Tcp(listener), address))
            }
            LocalAddress::Path(path) => {
                let listener = UnixListener::from_std(unix::bound(path, mode)?.into())?;
                Ok((Self::Unix { listener, file: SocketFile::at(path) }, address.clone()))
            }
            LocalAddress::Abstract(_) => {
                let listener = UnixListener::bind(address.socket().unwrap_or_default())?;
                Ok((Self::Unix { listener, file: None }, address.clone()))
            }
        }
    }
}

impl super::serve::Listen for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        let (stream, _) = Self::accept(self).await?;
        Ok(stream)
    }

    fn peer(stream: &Self::Stream) -> Option<unix_peer::Peer> {
        unix_peer::Peer::of(stream).ok()
    }
}
