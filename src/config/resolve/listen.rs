//! The listeners of all sections: addresses, who may reach them, and that no two want the same.

use std::net::SocketAddr;

use crate::config::file::{Control, Health, Server};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;

/// Every listener. `None`: its address is broken.
pub(super) struct Listeners {
    pub(super) proxy: Vec<SocketAddr>,
    pub(super) health: Option<SocketAddr>,
    pub(super) control: Option<SocketAddr>,
}

pub(super) fn resolve(
    server: &Server,
    health: &Health,
    control: &Control,
    review: &mut Review<'_>,
) -> Listeners {
    let listen = KeyPath::from("server.listen");
    let usual = Usual::new();
    if server.listen.0.is_empty() {
        review.missing(
            &listen,
            "is empty, so that nobody could reach the proxy",
            format!("{} to \"{}\"", review.set(&listen), usual.proxy),
        );
    }
    let mut taken = Vec::new();
    let mut proxy = Vec::new();
    for (path, text) in review.elements(&listen).iter().zip(&server.listen.0) {
        let Some(address) = address(path, text, &usual.proxy, review) else { continue };
        if !address.ip().to_canonical().is_loopback() && !server.allow_remote {
            review.error(
                path,
                format!("{address} can be reached from other machines, which could then use the token"),
                "listen on 127.0.0.1, or set `allow_remote = true` in [server] where that is meant",
            );
        }
        claim(path, address, &mut taken, review);
        proxy.push(address);
    }
    let health = single("health.listen", &health.listen, &usual.health, &mut taken, review);
    let control = single("control.listen", &control.listen, &usual.control, &mut taken, review);
    let control = control.map(|(path, address)| {
        if !address.ip().to_canonical().is_loopback() {
            review.error(
                &path,
                format!("{address} can be reached from other machines, and this listener changes state"),
                format!("listen on 127.0.0.1:{}", address.port()),
            );
        }
        address
    });
    Listeners { proxy, health: health.map(|(_, address)| address), control }
}

/// The default of each listener, for a mend: that of another would be taken.
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

type Taken = Vec<(KeyPath, SocketAddr)>;

fn single(
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

fn address(path: &KeyPath, text: &str, usual: &str, review: &mut Review<'_>) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if text.starts_with("unix:") {
        let what = "this version does not support Unix sockets yet";
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

/// Notes that `path` listens on `address`, and says so where another does already. Port 0 is a new one each time.
fn claim(path: &KeyPath, address: SocketAddr, taken: &mut Taken, review: &mut Review<'_>) {
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
