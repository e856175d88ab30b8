//! The redirect URI of a login (RFC 6749 section 3.1.2), as it is registered at the authorization server: many of those
//! compare it character by character.

use url::Url;

/// Where a browser comes back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedirectUri {
    /// As it is written.
    text: String,
    /// The same for comparisons; it has no port where that is the usual one of its scheme. `None`: it is a name that the
    /// server has for an address.
    url: Option<Url>,
    /// The port that is written, the usual one too.
    port: Option<u16>,
}

impl RedirectUri {
    /// Reads an absolute URI. `None`: it is none.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let url = Url::parse(text).ok()?;
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let text = if plain { text.to_owned() } else { url.as_str().to_owned() };
        let port = url.port().or_else(|| written_port(&text));
        Some(Self { text, url: Some(url), port })
    }

    /// Reads what a server calls an address that is registered there (eBay's `RuName`). `None`: it is no such name.
    #[must_use]
    pub(crate) fn name(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        // A host that lacks its scheme is no name.
        (is_name && text.contains(['-', '_'])).then(|| Self { text: text.to_owned(), url: None, port: None })
    }

    /// What the authorization server receives.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// For comparisons with what a browser sends; `None`: it is a name.
    #[must_use]
    pub(crate) const fn url(&self) -> Option<&Url> {
        self.url.as_ref()
    }

    /// Whether a browser can open it.
    #[must_use]
    pub(crate) fn is_web(&self) -> bool {
        self.url.as_ref().is_some_and(|url| matches!(url.scheme(), "http" | "https"))
    }

    /// Whether a browser that is sent there comes back to this program. Elsewhere a person brings the address by hand.
    #[must_use]
    pub(crate) fn is_here(&self) -> bool {
        self.url.as_ref().is_some_and(|url| url.scheme() == "http")
    }

    /// The port that is written; `None`: any (RFC 8252 section 7.3).
    #[must_use]
    pub(crate) const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The same with `port`, where none is written.
    #[must_use]
    pub(crate) fn on_port(self, port: u16) -> Self {
        let (None | Some(0), Some(mut url)) = (self.port, self.url.clone()) else { return self };
        // A URL without a host, which has no port either, is no redirect URI of this program.
        let _ = url.set_port(Some(port));
        Self { text: url.as_str().to_owned(), url: Some(url), port: Some(port) }
    }
}

/// The port in the authority of `text`: a parsed URL drops the one that is usual for its scheme.
fn written_port(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, port) = authority.rsplit_once(':')?;
    port.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RedirectUri {
        RedirectUri::parse(text).unwrap()
    }

    #[test]
    fn it_is_sent_as_it_is_written() {
        for (text, port) in [
            ("http://127.0.0.1:80/cb", 80),
            ("http://localhost:80", 80),
            ("http://[::1]:80/cb", 80),
            ("http://127.0.0.1:8976", 8976),
            ("http://LOCALHOST:8976/Cb", 8976),
        ] {
            let uri = read(text);
            assert_eq!((uri.as_str(), uri.port()), (text, Some(port)));
            assert_eq!(uri.on_port(4711).as_str(), text);
        }
    }

    #[test]
    fn a_name_that_stands_for_an_address_is_sent_as_it_is() {
        let name = RedirectUri::name("Orders_Inc-OrdersIn-orders-xkzqp").unwrap();
        assert_eq!(
            (name.as_str(), name.is_here(), name.is_web()),
            ("Orders_Inc-OrdersIn-orders-xkzqp", false, false)
        );
        assert_eq!(name.clone().on_port(4711), name);
        for text in ["", "localhost", "127.0.0.1", "localhost:8976/callback", "my-host.example.com", "a b-c"]
        {
            assert_eq!(RedirectUri::name(text), None, "{text}");
        }
        let own = read("com.example.orders:/callback");
        assert_eq!(
            (own.as_str(), own.is_here(), own.is_web()),
            ("com.example.orders:/callback", false, false)
        );
        assert!(!read("https://orders.example/cb").is_here() && read("https://orders.example/cb").is_web());
    }

    #[test]
    fn without_a_port_it_takes_the_one_of_the_listener() {
        for (text, want) in [
            ("http://127.0.0.1/cb", "http://127.0.0.1:4711/cb"),
            ("http://127.0.0.1:/cb", "http://127.0.0.1:4711/cb"),
            ("http://[::1]/cb:80", "http://[::1]:4711/cb:80"),
            ("http://localhost:0/cb", "http://localhost:4711/cb"),
        ] {
            assert_eq!(read(text).on_port(4711).as_str(), want);
        }
        assert_eq!(read("http://127.0.0.1/cb").on_port(80).port(), Some(80));
        assert_eq!(RedirectUri::parse("callback"), None);
    }
}
