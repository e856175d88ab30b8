//! A listener: an address or a Unix socket, bound so that nobody can connect before it is theirs to.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::settings::ListenAddress;
use crate::net::family::{BACKLOG, Families, bound};

/// A bound socket, not served yet: connections wait in the kernel.
#[derive(Debug)]
pub(super) struct Bound {
    socket: Socket,
    /// Where it listens; where port 0 was asked for, the port that was given.
    pub(super) address: ListenAddress,
}

/// The file of a Unix socket, removed when this is dropped, unless another program has put its own there. Whoever holds
/// it drops it after the last listener.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// A listener on a worker's runtime.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that was accepted.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Bound {
    /// Binds `address`.
    pub(super) fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => tcp(*address),
            ListenAddress::Unix { path, mode } => unix(path, *mode),
        }
    }

    /// The file to remove at the end, of a Unix socket.
    pub(super) fn file(&self) -> Option<SocketFile> {
        let ListenAddress::Unix { path, .. } = &self.address else { return None };
        Some(SocketFile { path: path.clone(), identity: identity(path).ok()? })
    }

    /// The same socket for another worker.
    pub(super) fn share(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, address: self.address.clone() })
    }

    /// Registers it with the runtime that this runs on.
    pub(super) fn listen(self) -> io::Result<Listener> {
        Ok(match self.address {
            ListenAddress::Tcp(_) => Listener::Tcp(TcpListener::from_std(self.socket.into())?),
            ListenAddress::Unix { .. } => Listener::Unix(UnixListener::from_std(self.socket.into())?),
        })
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }

    /// Stops waiting: gives what the kernel has accepted already, and then nothing more.
    pub(super) fn rest(self) -> io::Result<impl Iterator<Item = Accepted>> {
        let listener = match self {
            Self::Tcp(listener) => Rest::Tcp(listener.into_std()?),
            Self::Unix(listener) => Rest::Unix(listener.into_std()?),
        };
        Ok(std::iter::from_fn(move || listener.next().ok()))
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

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that is new may have the number of one that is gone: so it counts, too, that nobody listens there now.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = remove_stale(&self.path);
        }
    }
}

fn tcp(address: SocketAddr) -> io::Result<Bound> {
    let socket = bound(address, Families::Own)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Bound { socket, address: ListenAddress::Tcp(address) })
}

/// Nobody can connect to a socket that does not listen yet, so its mode is set before it does.
fn unix(path: &Path, mode: u32) -> io::Result<Bound> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // The file begins with what the socket has, less the umask: never with more than is wanted.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    if std::fs::symlink_metadata(path)?.permissions().mode() & MODE_BITS != mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok(Bound { socket, address: ListenAddress::Unix { path: path.to_owned(), mode } })
}

/// Removes the socket of a program that has ended without doing so.
///
/// # Errors
/// `AddrInUse` where somebody listens on it; `AlreadyExists` where it is something else than a socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(there) if !there.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Its queue may be full: then somebody is there, too, and is not to be waited for.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|there| (there.dev(), there.ino()))
}

/// The part of a file's mode that says who may do what.
const MODE_BITS: u32 = 0o7777;

#[cfg(test)]
mod tests {
    use super::*;

    fn socket_at(path: &Path) -> ListenAddress {
        ListenAddress::Unix { path: path.to_owned(), mode: 0o620 }
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let bound = Bound::bind(&socket_at(&path)).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & MODE_BITS, 0o620, "{mode:o}");
        assert_eq!(bound.address.to_string(), format!("unix:{}", path.display()));
        let file = bound.file();
        drop(bound);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let first = Bound::bind(&socket_at(&path)).unwrap();
        let file = first.file().unwrap();
        assert_eq!(Bound::bind(&socket_at(&path)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = Bound::bind(&socket_at(&path)).unwrap();
        drop(file);
        assert!(path.exists(), "it is another's by now");
        let file = second.file();
        drop(second);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(Bound::bind(&socket_at(&path)).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        std::os::unix::fs::symlink(dir.path().join("gone"), dir.path().join("link")).unwrap();
        let linked = Bound::bind(&socket_at(&dir.path().join("link"))).unwrap_err();
        assert_eq!(linked.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }
}
