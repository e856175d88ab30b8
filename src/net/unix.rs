//! The file of a Unix socket: bound so that no process can connect before it may, replaced where its program has ended,
//! and removed at the end.
//!
//! The proxy's listeners and the control surface's both come from here.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};

use super::bind::BACKLOG;

/// The file of a Unix socket, removed when this is dropped, unless another program has put its own there. What holds
/// it drops it after the last listener.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// The file of the socket that was bound at `path`; `None`: it is gone already.
    #[must_use]
    pub(crate) fn at(path: &Path) -> Option<Self> {
        Some(Self { path: path.to_owned(), identity: identity(path).ok()? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that is new may have the number of one that is gone: so it counts, too, that no process listens there now.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = remove_stale(&self.path);
        }
    }
}

/// A socket that listens at `path`, with a file of this `mode`. No process can connect to a socket that does not listen yet, so its
/// mode is set before it does.
///
/// # Errors
/// What the system says; `AddrInUse` where a process listens on it; `AlreadyExists` where it is something else than a socket.
pub(crate) fn bound(path: &Path, mode: u32) -> io::Result<Socket> {
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
    Ok(socket)
}

/// Removes the socket of a program that has ended without doing so.
///
/// # Errors
/// `AddrInUse` where a process listens on it; `AlreadyExists` where it is something else than a socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(there) if !there.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Its queue may be full: then a process is there, too, and is not waited for.
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

    const MODE: u32 = 0o620;

    #[test]
    fn a_unix_socket_has_its_mode_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let socket = bound(&path, MODE).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & MODE_BITS, MODE, "{mode:o}");
        let file = SocketFile::at(&path);
        drop(socket);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let first = bound(&path, MODE).unwrap();
        let file = SocketFile::at(&path).unwrap();
        assert_eq!(bound(&path, MODE).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = bound(&path, MODE).unwrap();
        drop(file);
        assert!(path.exists(), "it is another's by now");
        let file = SocketFile::at(&path);
        drop(second);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(bound(&path, MODE).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        std::os::unix::fs::symlink(dir.path().join("gone"), dir.path().join("link")).unwrap();
        let linked = bound(&dir.path().join("link"), MODE).unwrap_err();
        assert_eq!(linked.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }
}
