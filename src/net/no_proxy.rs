//! What `NO_PROXY` spares of the environment's proxy: the forms that curl and Go's clients take.
//!
//! Entries are separated by commas or blanks. A name counts with all names below it, as `*.name` for those below it alone;
//! an address and a network in CIDR notation count as such; each but a network may have a port. What is none of these is
//! passed over. Caller: `outbound_proxy`.

use std::net::IpAddr;

use http::Uri;
use http::uri::Scheme;
use url::Host;

/// The entries of `NO_PROXY`.
#[derive(Clone, Debug, Default)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum Hosts {
    Any,
    /// This name and those below it.
    Name(String),
    /// Those below it.
    Below(String),
    /// Those whose first bits are the same.
    Network(IpAddr, u32),
}

impl NoProxy {
    pub(super) fn read(text: &str) -> Self {
        let entries = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
        Self(entries.filter(|entry| !entry.is_empty()).filter_map(Entry::read).collect())
    }

    /// Whether connections to `target` go past the proxy.
    pub(super) fn spares(&self, target: &Uri) -> bool {
        let host = without_brackets(target.host().unwrap_or_default());
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let usual = if target.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let port = target.port_u16().unwrap_or(usual);
        self.0.iter().any(|entry| {
            entry.port.is_none_or(|only| only == port)
                && match (&entry.hosts, address) {
                    (Hosts::Any, _) => true,
                    (Hosts::Network(network, bits), Some(address)) => is_within(*network, *bits, address),
                    (Hosts::Name(name), None) => host == *name || is_below(&host, name),
                    (Hosts::Below(name), None) => is_below(&host, name),
                    _ => false,
                }
        })
    }
}

impl Entry {
    fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self { hosts: Hosts::Any, port: None });
        }
        if let Some((network, bits)) = text.split_once('/') {
            let network: IpAddr = without_brackets(network).parse().ok()?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(network))?;
            return Some(Self { hosts: Hosts::Network(network, bits), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') && text.parse::<IpAddr>().is_err() => {
                (host, Some(port.parse().ok()?))
            }
            _ => (text, None),
        };
        Some(Self { hosts: Hosts::read(host)?, port })
    }
}

impl Hosts {
    fn read(text: &str) -> Option<Self> {
        if let Ok(address) = without_brackets(text).parse::<IpAddr>() {
            let address = address.to_canonical();
            return Some(Self::Network(address, width(address)));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let (text, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text.strip_prefix('.').unwrap_or(text), false),
        };
        // As a URL has it: in lower case, and in ASCII.
        match Host::parse(text).ok()? {
            Host::Domain(name) if below => Some(Self::Below(name)),
            Host::Domain(name) => Some(Self::Name(name)),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }
}

fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|labels| labels.ends_with('.'))
}

fn is_within(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_curl_and_go_spare_is_spared() {
        for (text, url) in [
            ("*", "https://as.example.com/"),
            ("a.test,*", "https://as.example.com/"),
            ("example.com", "https://example.com/"),
            ("EXAMPLE.com", "https://as.Example.com/"),
            (".example.com", "https://example.com/"),
            (".example.com", "https://as.example.com/"),
            ("*.example.com", "https://as.example.com/"),
            (" .example.com. ", "https://as.example.com/"),
            ("a.test \t as.example.com", "https://as.example.com/"),
            ("as.example.com", "https://as.example.com./"),
            ("as.example.com.", "https://as.example.com/"),
            ("as.example.com:8443", "https://as.example.com:8443/"),
            ("*.example.com:443", "https://as.example.com/"),
            ("example.com:80", "http://as.example.com/"),
            ("b\u{fc}cher.test", "https://xn--bcher-kva.test/"),
            ("10.1.2.3", "https://10.1.2.3/"),
            ("10.1.2.3:8443", "https://10.1.2.3:8443/"),
            ("10.0.0.0/8", "https://10.1.2.3/"),
            ("0.0.0.0/0", "https://10.1.2.3/"),
            ("fd00::1", "https://[fd00::1]/"),
            ("[fd00::1]", "https://[fd00::1]/"),
            ("[fd00::1]:8443", "https://[fd00::1]:8443/"),
            ("fd00::/8", "https://[fd00::1]/"),
        ] {
            assert!(NoProxy::read(text).spares(&url.parse().unwrap()), "{text} {url}");
        }
    }

    #[test]
    fn the_table_beside_curl_and_go_is_true() {
        let table = include_str!("../../docs/names.md").lines().filter(|line| line.contains("| `https://"));
        let mut rows = 0;
        for row in table {
            let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let spared = NoProxy::read(cells[1]).spares(&cells[2].parse().unwrap());
            assert_eq!(if spared { "direct" } else { "proxy" }, cells[3], "{row}");
            rows += 1;
        }
        assert!(rows > 20, "{rows}");
    }

    #[test]
    fn nothing_else_is_spared() {
        for (text, url) in [
            ("", "https://as.example.com/"),
            ("example.com", "https://notexample.com/"),
            ("*.example.com", "https://example.com/"),
            ("*ample.com", "https://example.com/"),
            ("as.example.com:8443", "https://as.example.com/"),
            ("as.example.com:443", "https://as.example.com:8443/"),
            ("as.example.com:https", "https://as.example.com/"),
            (":443", "https://as.example.com/"),
            (".", "https://as.example.com/"),
            ("10.0.0.0/8", "https://11.1.2.3/"),
            ("10.0.0.0/33", "https://10.0.0.0/"),
            ("10.1.2.3:80", "https://10.1.2.3/"),
            ("2.3", "https://10.1.2.3/"),
            ("fd00::/8", "https://[fe00::1]/"),
            ("0.0.0.0/0", "https://[fd00::1]/"),
        ] {
            assert!(!NoProxy::read(text).spares(&url.parse().unwrap()), "{text} {url}");
        }
    }
}
