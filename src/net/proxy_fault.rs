//! Why there is no way through the HTTP proxy: one sentence for upstreams and authorization servers alike, and what an
//! operator does about it.

use super::outbound_proxy::Unusable;
use super::resolver::LookupError;

/// Why there is no way through an HTTP proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyFault {
    /// The proxy's name has no address.
    #[error("the name of the HTTP proxy on the way cannot be resolved: {0}")]
    Name(LookupError),
    /// No TCP connection to the proxy.
    #[error("the HTTP proxy on the way cannot be reached")]
    Unreachable,
    /// The status of its response to CONNECT.
    #[error("{}", refusal(*.0))]
    Refused(u16),
    /// The status of its own response to a request in absolute-form, in place of the server's.
    #[error("{}", own_response(*.0))]
    Responded(u16),
    /// Its response is not HTTP, or the connection ended before one came.
    #[error("the HTTP proxy on the way did not respond in HTTP")]
    Broken,
    /// The proxy that is configured cannot be used.
    #[error("{0}")]
    Unusable(Unusable),
}

/// What was under way with the HTTP proxy when `connect_timeout` had passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyStage {
    /// Its name was looked up.
    #[error("the name of the HTTP proxy on the way was not resolved within connect_timeout")]
    Lookup,
    /// A TCP connection to it was opened.
    #[error("the HTTP proxy on the way did not accept a connection within connect_timeout")]
    Tcp,
    /// It was to respond to CONNECT.
    #[error("the HTTP proxy on the way did not respond to CONNECT within connect_timeout")]
    Tunnel,
}

impl ProxyFault {
    /// What to do about it.
    #[must_use]
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::Name(error) => error.help(),
            Self::Unreachable | Self::Broken => CHECK,
            Self::Refused(401 | 407) | Self::Responded(401 | 407) => {
                "set the user and the password that this proxy accepts by Basic, not by NTLM or Negotiate, as in http://user:password@host:port (`proxy`, HTTPS_PROXY, HTTP_PROXY or ALL_PROXY)"
            }
            Self::Refused(403) | Self::Responded(403) => {
                "allow the host and port at the proxy, or go around it (`proxy = \"none\"` or NO_PROXY)"
            }
            Self::Refused(500..) | Self::Responded(500..) => {
                "check host and port, and that the proxy resolves and reaches them"
            }
            Self::Refused(_) => "check what the proxy allows, and that it takes CONNECT",
            Self::Responded(_) => "check what the proxy allows, and what it logs",
            Self::Unusable(unusable) => unusable.help(),
        }
    }
}

impl ProxyStage {
    /// What to do about it.
    #[must_use]
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::Lookup => LookupError::Unanswered.help(),
            Self::Tcp => CHECK,
            Self::Tunnel => "check that the HTTP proxy works, and that it reaches the destination",
        }
    }
}

fn refusal(status: u16) -> String {
    because(status, "has no connection to the destination", "refused to open a tunnel")
}

fn own_response(status: u16) -> String {
    because(status, "has no response of the destination", "refused the request")
}

fn because(status: u16, failure: &str, otherwise: &str) -> String {
    let why = match status {
        401 | 407 => "demands other credentials",
        403 => "does not allow this destination",
        500.. => failure,
        _ => otherwise,
    };
    format!("the HTTP proxy on the way {why} (status {status})")
}

const CHECK: &str = "check `proxy`, HTTPS_PROXY, HTTP_PROXY and ALL_PROXY";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_refuses_for_is_told_apart_by_its_status() {
        for (status, what, help) in [
            (407, "demands other credentials (status 407)", "accepts by Basic"),
            (407, "demands other credentials (status 407)", "HTTP_PROXY or ALL_PROXY"),
            (403, "does not allow this destination (status 403)", "NO_PROXY"),
            (502, "has no connection to the destination (status 502)", "resolves and reaches"),
            (503, "has no connection to the destination (status 503)", "resolves and reaches"),
            (405, "refused to open a tunnel (status 405)", "CONNECT"),
        ] {
            let fault = ProxyFault::Refused(status);
            assert!(fault.to_string().ends_with(what), "{fault}");
            assert!(fault.help().contains(help), "{}", fault.help());
        }
        for (status, what, help) in [
            (407, "demands other credentials (status 407)", "user and the password"),
            (403, "does not allow this destination (status 403)", "NO_PROXY"),
            (503, "has no response of the destination (status 503)", "resolves and reaches"),
            (302, "refused the request (status 302)", "allows"),
        ] {
            let fault = ProxyFault::Responded(status);
            assert!(fault.to_string().ends_with(what), "{fault}");
            assert!(fault.help().contains(help), "{}", fault.help());
        }
    }
}
