//! Sockets that the service manager listens on and passes to the program (socket activation, `sd_listen_fds(3)`): while the program
//! restarts, connections wait in them instead of being refused.
//!
//! `app` binds its listeners through [`Passed`], which takes a socket for the address that is wanted. One that no listener wants
//! would let connections wait for ever, so that is an error.

use std::env;
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use socket2::Socket;

use super::local_address::LocalAddress;

/// The sockets that were passed and that no listener has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Passed(Vec<PassedSocket>);

#[derive(Debug)]
struct PassedSocket {
    /// `FileDescriptorName` of its unit; empty: the service manager gave none.
    name: String,
    address: LocalAddress,
    socket: Socket,
}

/// Why a socket that was passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassedError {
    /// It is no listening socket of a kind that the program serves.
    #[error(
        "descriptor {number} that the service manager passes is not a listening TCP socket or Unix socket with a path\n    \
         help: `ListenStream` is an address or a path, and `Accept` is left out"
    )]
    Kind {
        /// Its number, the first one being 3.
        number: usize,
    },
    /// No listener of the configuration is there.
    #[error(
        "the service manager passes a socket for {address}, where the configuration listens on nothing: connections to it would wait \
         for ever\n    help: have `listen` in [server], [health] or [control] name that address, or name the socket's purpose by \
         `FileDescriptorName`: proxy, health or control"
    )]
    Unwanted {
        /// Where it is.
        address: LocalAddress,
    },
    /// More users may connect than the configuration says.
    #[error(
        "the socket {} has mode {mode:04o}, which lets more users connect than `unix_mode`, {wanted:04o}\n    \
         help: set `SocketMode={wanted:04o}` in the socket's unit, or raise `unix_mode`", .path.display()
    )]
    Mode {
        /// Its file.
        path: PathBuf,
        /// What the file has.
        mode: u32,
        /// What the configuration says.
        wanted: u32,
    },
}

impl Passed {
    /// Takes what the service manager has passed, once; to be called before there is another thread. No program that is started
    /// later inherits it.
    ///
    /// # Errors
    /// [`PassedError::Kind`]
    pub(crate) fn receive() -> Result<Self, PassedError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let number = FIRST + index;
            let name = names.next().unwrap_or_default().to_owned();
            let tcp = passed.take_tcp_listener(index).ok().flatten().map(PassedSocket::tcp);
            let socket =
                tcp.or_else(|| passed.take_unix_listener(index).ok().flatten().map(PassedSocket::unix));
            let (address, socket) = socket.flatten().ok_or(PassedError::Kind { number })?;
            sockets.push(PassedSocket { name, address, socket });
        }
        Ok(Self(sockets))
    }

    /// What the names of the sockets say about the configuration: one called `proxy`, `health` or `control` is that listener,
    /// as if the variable for its key had this value. So the same checks apply.
    #[must_use]
    pub(crate) fn variables(&self) -> Vec<(OsString, OsString)> {
        let named = |name: &str| -> Vec<String> {
            let named = self.0.iter().filter(|socket| socket.name == name);
            named.map(|socket| socket.address.to_string()).collect()
        };
        let mut variables = Vec::new();
        let proxy = named("proxy");
        if !proxy.is_empty() {
            let quoted: Vec<String> = proxy.iter().map(|address| format!("{address:?}")).collect();
            variables.push(("CUPBEARER__SERVER__LISTEN".into(), format!("[{}]", quoted.join(", ")).into()));
        }
        for (name, variable) in
            [("health", "CUPBEARER__HEALTH__LISTEN"), ("control", "CUPBEARER__CONTROL__LISTEN")]
        {
            if let Some(address) = named(name).first() {
                variables.push((variable.into(), address.into()));
            }
        }
        variables
    }

    /// The socket that was passed for `address`, if any; `mode` is what its file may have, of a Unix socket.
    ///
    /// # Errors
    /// [`PassedError::Mode`]
    pub(crate) fn take(&mut self, address: &LocalAddress, mode: u32) -> Result<Option<Socket>, PassedError> {
        let Some(index) = self.0.iter().position(|passed| is_same(&passed.address, address)) else {
            return Ok(None);
        };
        if let LocalAddress::Path(path) = address
            && let Ok(facts) = std::fs::metadata(path)
        {
            let has = facts.permissions().mode() & MODE_BITS;
            if has & ANYBODY_WRITES & !mode != 0 {
                return Err(PassedError::Mode { path: path.clone(), mode: has, wanted: mode });
            }
        }
        Ok(Some(self.0.swap_remove(index).socket))
    }

    /// That every socket has a listener.
    ///
    /// # Errors
    /// [`PassedError::Unwanted`]
    pub(crate) fn all_taken(self) -> Result<(), PassedError> {
        match self.0.into_iter().next() {
            Some(PassedSocket { address, .. }) => Err(PassedError::Unwanted { address }),
            None => Ok(()),
        }
    }
}

/// The variables of this process, with `over` in place of those of the same names.
pub(crate) fn environment(over: &[(OsString, OsString)]) -> impl Iterator<Item = (OsString, OsString)> {
    let others = env::vars_os().filter(|(name, _)| over.iter().all(|(known, _)| known != name));
    others.chain(over.iter().cloned())
}

impl PassedSocket {
    fn tcp(listener: TcpListener) -> Option<(LocalAddress, Socket)> {
        let address = LocalAddress::Tcp(listener.local_addr().ok()?);
        Some((address, listening(listener.into())?))
    }

    fn unix(listener: UnixListener) -> Option<(LocalAddress, Socket)> {
        // A name in the abstract namespace is for this user's processes, and those see who began to listen: the service manager.
        let address = LocalAddress::Path(listener.local_addr().ok()?.as_pathname()?.to_owned());
        Some((address, listening(listener.into())?))
    }
}

/// The socket, ready to be served; `None`: it does not listen.
fn listening(socket: Socket) -> Option<Socket> {
    socket.set_nonblocking(true).ok()?;
    socket_acceptconn(&socket).is_ok_and(|listens| listens).then_some(socket)
}

fn is_same(one: &LocalAddress, other: &LocalAddress) -> bool {
    match (one, other) {
        (LocalAddress::Path(one), LocalAddress::Path(other)) => one == other || is_same_file(one, other),
        _ => one == other,
    }
}

/// Whether both lead to one file: a configuration may have a relative path.
fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// The number of the first descriptor that is passed.
const FIRST: usize = 3;
const MODE_BITS: u32 = 0o777;
const ANYBODY_WRITES: u32 = 0o222;

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(name: &str) -> PassedSocket {
        let (address, socket) = PassedSocket::tcp(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        PassedSocket { name: name.to_owned(), address, socket }
    }

    fn unix(path: &Path) -> PassedSocket {
        let (address, socket) = PassedSocket::unix(UnixListener::bind(path).unwrap()).unwrap();
        PassedSocket { name: String::new(), address, socket }
    }

    #[test]
    fn a_socket_goes_to_the_listener_at_its_address_and_one_left_over_is_an_error() {
        let (one, other) = (tcp(""), tcp(""));
        let (first, second) = (one.address.clone(), other.address.clone());
        let mut passed = Passed(vec![one, other]);
        assert!(passed.take(&LocalAddress::parse("127.0.0.1:1").unwrap(), 0).unwrap().is_none());
        assert!(passed.take(&first, 0).unwrap().is_some());
        assert!(passed.take(&first, 0).unwrap().is_none(), "once");
        let left = passed.all_taken().unwrap_err().to_string();
        assert!(left.contains(&second.to_string()), "{left}");
        assert!(Passed::default().all_taken().is_ok());
    }

    #[test]
    fn a_unix_socket_that_lets_more_users_in_than_the_configuration_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let address = LocalAddress::Path(dir.path().join("./proxy.sock"));
        let mut passed = Passed(vec![unix(&path)]);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let refused = passed.take(&address, 0o660).unwrap_err().to_string();
        assert!(refused.contains("0666") && refused.contains("SocketMode=0660"), "{refused}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(passed.take(&address, 0o660).unwrap().is_some());
    }

    #[test]
    fn a_name_stands_for_the_key_of_its_listener() {
        let sockets = [tcp("proxy"), tcp("cupbearer.socket"), tcp("proxy"), tcp("control")];
        let [first, _, second, control] = sockets.each_ref().map(|socket| socket.address.to_string());
        let variables = Passed(sockets.into()).variables();
        let expected = [
            ("CUPBEARER__SERVER__LISTEN".into(), format!("[\"{first}\", \"{second}\"]").into()),
            ("CUPBEARER__CONTROL__LISTEN".into(), control.into()),
        ];
        assert_eq!(variables, expected);
        assert!(Passed::default().variables().is_empty());
    }

    #[test]
    fn a_socket_that_does_not_listen_is_of_no_use() {
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        assert!(listening(socket).is_none());
    }
}
