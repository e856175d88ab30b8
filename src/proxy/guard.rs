//! Who may use the proxy: the check of Host and Origin that keeps a web page from using the token.

/// The check that comes before everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Host names beyond the loopback's own, lower case, without a port.
    pub allowed_hosts: Vec<String>,
    /// Web origins (RFC 6454), serialised: `https://app.example.com`, without a path.
    pub allowed_origins: Vec<String>,
}
