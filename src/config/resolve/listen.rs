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
    if server.listen.0.is_empty() {
        review.missing(
            &listen,
            "is empty, so that nobody could reach the proxy",
            "set `listen` to \"127.0.0.1:8080\"",
        );
    }
    let mut taken = Vec::new();
    let mut proxy = Vec::new();
    for (path, text) in review.elements(&listen).iter().zip(&server.listen.0) {
        let Some(address) = address(path, text, review) else { continue };
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
    let health = single("health.listen", &health.listen, &mut taken, review).map(|(_, address)| address);
    let control = single("control.listen", &control.listen, &mut taken, review).map(|(path, address)| {
        if !address.ip().to_canonical().is_loopback() {
            review.error(
                &path,
                format!("{address} can be reached from other machines, and this listener changes state"),
                format!("listen on 127.0.0.1:{}", address.port()),
            );
        }
        address
    });
    Listeners { proxy, health, control }
}

type Taken = Vec<(KeyPath, SocketAddr)>;

fn single(
    key: &str,
    text: &str,
    taken: &mut Taken,
    review: &mut Review<'_>,
) -> Option<(KeyPath, SocketAddr)> {
    let path = KeyPath::from(key);
    let address = address(&path, text, review)?;
    claim(&path, address, taken, review);
    Some((path, address))
}

fn address(path: &KeyPath, text: &str, review: &mut Review<'_>) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if text.starts_with("unix:") {
        review.error(path, "this version does not support Unix sockets yet", "listen on \"127.0.0.1:8080\"");
        return None;
    }
    let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(8080);
    review.error(
        path,
        "must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
        format!("write \"127.0.0.1:{port}\", or the address that is meant"),
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
