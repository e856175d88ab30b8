//! A listener: an address or a Unix socket, shared by all workers.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use socket2::Socket;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::net::bind::{Families, bound};
use crate::net::unix::{self, SocketFile};
use crate::proxy::settings::ListenAddress;

/// A bound socket, not served yet: connections wait in the kernel.
#[derive(Debug)]
pub(crate) struct BoundListener {
    socket: Socket,
    origin: SocketOrigin,
    /// Where it listens; where port 0 was asked for, the port that was given.
    pub(crate) address: ListenAddress,
}

/// Who began to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SocketOrigin {
    /// This program, with which the socket ends.
    Own,
    /// The service manager, which keeps it: what waits in it is for the program that comes next.
    Passed,
}

/// A listener on a worker's runtime.
#[derive(Debug)]
pub(crate) struct Listener {
    kind: SocketKind,
    origin: SocketOrigin,
}

#[derive(Debug)]
enum SocketKind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl BoundListener {
    /// Binds `address`.
    pub(crate) fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => tcp(*address),
            ListenAddress::Unix { path, mode } => unix(path, *mode),
        }
    }

    /// The socket that the service manager listens on at `address`.
    pub(crate) fn passed(address: &ListenAddress, socket: Socket) -> Self {
        if address.tcp().is_some() {
            follow_readers(&socket);
        }
        Self { socket, origin: SocketOrigin::Passed, address: address.clone() }
    }

    /// The file to remove at the end, of a Unix socket of this program's.
    pub(crate) fn file(&self) -> Option<SocketFile> {
        match &self.address {
            ListenAddress::Unix { path, .. } if self.origin == SocketOrigin::Own => SocketFile::at(path),
            _ => None,
        }
    }

    /// The same socket for another worker.
    pub(crate) fn share(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, origin: self.origin, address: self.address.clone() })
    }

    /// Registers it with the runtime that this runs on.
    pub(crate) fn listen(self) -> io::Result<Listener> {
        let kind = match self.address {
            ListenAddress::Tcp(_) => SocketKind::Tcp(TcpListener::from_std(self.socket.into())?),
            ListenAddress::Unix { .. } => SocketKind::Unix(UnixListener::from_std(self.socket.into())?),
        };
        Ok(Listener { kind, origin: self.origin })
    }
}

impl Listener {
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match &self.kind {
            SocketKind::Tcp(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            SocketKind::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }

    /// Stops waiting: gives what the kernel has accepted already, and then nothing more. What waits in a socket that was passed
    /// is left to the program that comes next.
    pub(crate) fn rest(self) -> io::Result<impl Iterator<Item = Accepted>> {
        let listener = match self.kind {
            SocketKind::Tcp(listener) => Rest::Tcp(listener.into_std()?),
            SocketKind::Unix(listener) => Rest::Unix(listener.into_std()?),
        };
        let own = (self.origin == SocketOrigin::Own).then_some(listener);
        Ok(std::iter::from_fn(move || own.as_ref()?.next().ok()))
    }
}

enum Rest {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Rest {
    fn next(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream).map(Accepted::Tcp)
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Accepted::Unix)
            }
        }
    }
}

fn tcp(address: SocketAddr) -> io::Result<BoundListener> {
    let socket = bound(address, Families::Own)?;
    follow_readers(&socket);
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(BoundListener { socket, origin: SocketOrigin::Own, address: ListenAddress::Tcp(address) })
}

/// What is accepted takes more to send only as its reader takes what is sent. Without it the kernel holds megabytes for a reader
/// who is slow, and reports for as long that it takes no more: a slow reader could not be told from one that has stopped. What is
/// accepted inherits it, so that it costs no system call for each connection.
fn follow_readers(socket: &Socket) {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    if let Err(error) = socket.set_tcp_notsent_lowat(MOST_UNSENT) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT cannot be set");
    }
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = socket;
}

fn unix(path: &Path, mode: u32) -> io::Result<BoundListener> {
    let socket = unix::bound(path, mode)?;
    Ok(BoundListener {
        socket,
        origin: SocketOrigin::Own,
        address: ListenAddress::Unix { path: path.to_owned(), mode },
    })
}

/// Bytes that the kernel takes of a response beyond what it may send now.
#[cfg(any(target_os = "android", target_os = "linux"))]
const MOST_UNSENT: u32 = 64 * 1024;
