//! The listeners of all sections: addresses, who may reach them, and that no two want the same.
//! What is the control surface's alone is in [`super::control`].

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{control, socket};
use crate::config::file::{Control, Guard, Health, Ready, Server};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::control::ControlSettings;
use crate::health::{HealthSettings, ReadyOnce};
use crate::net::local_address::UNIX;
use crate::proxy::ListenAddress;

/// Every listener. `None`: its address is broken.
pub(in crate::config) struct Listeners {
    pub(super) proxy: Vec<ListenAddress>,
    pub(in crate::config) health: Option<HealthSettings>,
    pub(in crate::config) control: Option<ControlSettings>,
}

pub(super) fn resolve(
    server: &Server,
    health: &Health,
    control: &Control,
    guard: &Guard,
    review: &mut Review<'_>,
) -> Listeners {
    let listen = KeyPath::from("server.listen");
    let usual = Usual::new();
    if server.listen.0.is_empty() {
        review.missing(
            &listen,
            "is empty, so that no client could reach the proxy",
            format!("{} to \"{}\"", review.set(&listen), usual.proxy),
        );
    }
    let mut taken = Vec::new();
    let mut sockets: Vec<(KeyPath, PathBuf)> = Vec::new();
    let mut proxy = Vec::new();
    let mode = mode(server, guard, review);
    for (path, text) in review.elements(&listen).iter().zip(&server.listen.0) {
        if let Some(text) = text.strip_prefix(UNIX) {
            let Some(socket) = socket::path(path, text, review) else { continue };
            claim_socket(path, &socket, &sockets, review);
            sockets.push((path.clone(), socket.clone()));
            proxy.push(ListenAddress::Unix { path: socket, mode: mode.unwrap_or(PRIVATE) });
            continue;
        }
        if let Some(port) = localhost(text) {
            for address in loopbacks(port) {
                claim(path, address, &mut taken, review);
                proxy.push(ListenAddress::Tcp(address));
            }
            continue;
        }
        let Some(address) = address(path, text, &usual.proxy, review) else { continue };
        if !address.ip().to_canonical().is_loopback() && !server.allow_remote {
            review.error(
                path,
                format!("{address} can be reached from other machines, which could then use the token"),
                "listen on 127.0.0.1, or set `allow_remote = true` in [server] where that is meant",
            );
        } else if !address.ip().to_canonical().is_loopback() && !knows_its_users(server, guard) {
            review.warning(
                path,
                format!(
                    "{address} can be reached from other machines, and clients are not authenticated: every client that reaches it \
                     uses the token"
                ),
                "set `tls` with `client_ca_file` in [server], or `shared_secret_file` in [guard]; or see that the \
                 network lets no other client in",
            );
        }
        claim(path, address, &mut taken, review);
        proxy.push(ListenAddress::Tcp(address));
    }
    let ready = match health.ready {
        Ready::Token => ReadyOnce::TokensUsable,
        Ready::Started => ReadyOnce::Started,
    };
    let health = single("health.listen", &health.listen, &usual.health, &mut taken, review);
    let health = health.map(|(_, listen)| HealthSettings { listen, ready });
    let control = control::resolve(control, &usual.control, &sockets, &mut taken, review);
    Listeners { proxy, health, control }
}

/// Whether the proxy authenticates clients that come over the network.
fn knows_its_users(server: &Server, guard: &Guard) -> bool {
    server.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some()) || guard.asks_for_a_secret()
}

/// Whether a Unix socket is among the addresses, a broken one included.
pub(super) fn has_socket(server: &Server) -> bool {
    server.listen.0.iter().any(|text| text.starts_with(UNIX))
}

/// Whether anything else is.
pub(super) fn has_address(server: &Server) -> bool {
    server.listen.0.iter().any(|text| !text.starts_with(UNIX))
}

/// The mode of the Unix sockets.
fn mode(server: &Server, guard: &Guard, review: &mut Review<'_>) -> Option<u32> {
    let path = KeyPath::from("server.unix_mode");
    if review.is_spoken_for(&path) {
        return None;
    }
    let mode = socket::mode(&path, &server.unix_mode, review)?;
    if !has_socket(server) {
        if review.is_given(&path)
            && review.is_whole()
            && !review.is_spoken_for(&KeyPath::from("server.listen"))
        {
            let what = "has no meaning: no Unix socket is listened on";
            review.error(&path, what, "add one to `listen` (\"unix:/run/proxy.sock\"), or take it out");
        }
    } else if mode & OTHERS_WRITE != 0 && guard.allowed_uids.is_empty() && !guard.asks_for_a_secret() {
        let help = "set it to \"0600\" or \"0660\", or `allowed_uids` or `shared_secret_file` in [guard]";
        review.warning(&path, "every user of this machine may connect, and so use the token", help);
    }
    Some(mode)
}

/// The default of each listener, for a fix: that of another would be taken.
struct Usual {
    proxy: String,
    health: String,
    control: String,
}

impl Usual {
    fn new() -> Self {
        Self {
            proxy: Server::default().listen.0.swap_remove(0),
            health: Health::default().listen,
            control: Control::default().listen,
        }
    }
}

pub(super) type Taken = Vec<(KeyPath, SocketAddr)>;

pub(super) fn single(
    key: &str,
    text: &str,
    usual: &str,
    taken: &mut Taken,
    review: &mut Review<'_>,
) -> Option<(KeyPath, SocketAddr)> {
    let path = KeyPath::from(key);
    let address = address(&path, text, usual, review)?;
    claim(&path, address, taken, review);
    Some((path, address))
}

/// The port of `localhost:PORT`, or of a bare `PORT`.
pub(super) fn localhost(text: &str) -> Option<u16> {
    let port = match text.split_once(':') {
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => port,
        Some(_) => return None,
        None => text,
    };
    // A sign is none of a port.
    port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What `localhost` stands for: some programs try the one first, some the other, and some no other.
pub(super) fn loopbacks(port: u16) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

fn address(path: &KeyPath, text: &str, usual: &str, review: &mut Review<'_>) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if text.starts_with(UNIX) {
        let what = "cannot be a Unix socket: only `listen` in [server] and [control] can";
        review.error(path, what, format!("listen on \"{usual}\""));
        return None;
    }
    let port = |text: &str| text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let meant = port(text).map_or_else(|| usual.to_owned(), |port| format!("127.0.0.1:{port}"));
    review.error(
        path,
        format!("must be an IP address and a port, such as \"{usual}\""),
        format!("write \"{meant}\", or the address that is meant"),
    );
    None
}

/// Says so where another listener, one of `sockets`, is at the path of this one already.
pub(super) fn claim_socket(
    path: &KeyPath,
    socket: &Path,
    sockets: &[(KeyPath, PathBuf)],
    review: &mut Review<'_>,
) {
    if let Some((other, _)) = sockets.iter().find(|(_, taken)| taken == socket) {
        let what = format!("{} is taken by {other} already", socket.display());
        review.error(path, what, "give one of the two another path");
    }
}

/// Notes that `path` listens on `address`, and says so where another does already. Port 0 is a new one each time.
pub(super) fn claim(path: &KeyPath, address: SocketAddr, taken: &mut Taken, review: &mut Review<'_>) {
    let same = |other: &SocketAddr| {
        other.port() == address.port()
            && other.is_ipv4() == address.is_ipv4()
            && (other.ip() == address.ip() || other.ip().is_unspecified() || address.ip().is_unspecified())
    };
    if address.port() == 0 {
        return;
    }
    if let Some((other, _)) = taken.iter().find(|(_, other)| same(other)) {
        review.error(
            path,
            format!("{address} is taken by {other} already"),
            "give one of the two another port",
        );
    }
    taken.push((path.clone(), address));
}

/// For its owner alone.
const PRIVATE: u32 = 0o600;
/// Every user of the machine may connect to a Unix socket.
pub(super) const GROUP_WRITE: u32 = 0o020;
pub(super) const OTHERS_WRITE: u32 = 0o002;
