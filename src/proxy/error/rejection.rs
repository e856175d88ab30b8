//! Why the guard refuses a request.

use std::fmt;

use http::HeaderMap;
use http::header::ORIGIN;

use crate::net::single_field::only;

/// Why a request is refused, with what its sender may know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GuardRejection {
    #[error(
        "the Host of this request is none of this proxy's; add it to guard.allowed_hosts if it should be"
    )]
    Host,
    #[error(
        "a web page of another origin sent this request; add the origin to guard.allowed_origins if it may"
    )]
    Origin,
    /// The browser says that another site sent it, and not which.
    #[error(
        "a page of another origin caused this request, and the browser does not say which one; load it by fetch() or with the crossorigin attribute, which send the page's origin for guard.allowed_origins, or serve page and API from one origin"
    )]
    FetchSite,
    /// A link, a form, a frame or a redirect of another site leads here.
    #[error(
        "a link, a form or a frame of another origin led the browser here, and the proxy adds what that page does not have (a token, a client certificate, or a way by a Unix socket or an HTTP proxy); open it from the address bar or from a page of this origin, load it by fetch() from an origin in guard.allowed_origins, or lead here by a route that adds none of these"
    )]
    Navigation,
    #[error(
        "a browser sent this request ahead of time (prefetch, prerender or preview), which only a page of this proxy's own origin may cause"
    )]
    Speculative,
    #[error(
        "a browser or one of its extensions sent this request: neither a page of this origin nor a person who opened the address caused it; add the extension's origin (such as chrome-extension://ID) to guard.allowed_origins if it may"
    )]
    Unattended,
    #[error(
        "a browser sent this request to this Host over plain HTTP, where it does not say which web page caused it; use https, localhost or the shared secret"
    )]
    InsecureHost,
    /// There is none, a wrong one, or two.
    #[error("each request needs the shared secret, once, in X-Cupbearer-Secret")]
    Secret,
    /// The user at the other end of the Unix socket is not on the list.
    #[error("this connection's user or certificate is not allowed to use this proxy")]
    Uid,
    /// No name in the client certificate is on the list, or there is no certificate.
    #[error("this connection's user or certificate is not allowed to use this proxy")]
    Subject,
}

/// A refused request: why, and the origin of the page that sent it, where that is the reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RejectedRequest {
    pub(crate) reason: GuardRejection,
    pub(crate) origin: Option<Box<str>>,
}

impl From<GuardRejection> for RejectedRequest {
    fn from(reason: GuardRejection) -> Self {
        Self { reason, origin: None }
    }
}

impl RejectedRequest {
    /// With the origin that stands in a request's `headers`, if it is one that can be shown.
    pub(crate) fn of(reason: GuardRejection, headers: &HeaderMap) -> Self {
        let shown = || {
            let origin = only(headers, &ORIGIN)?.to_str().ok()?;
            let fits = (1..=MAX_SHOWN_ORIGIN).contains(&origin.len())
                && origin.bytes().all(|byte| byte.is_ascii_graphic());
            fits.then(|| origin.into())
        };
        Self { reason, origin: if reason == GuardRejection::Origin { shown() } else { None } }
    }
}

impl fmt::Display for RejectedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin.as_deref() {
            Some("null") => f.write_str(
                "a page without an origin of its own (a file, a sandboxed frame, a redirect: Origin: null) sent this \
                 request, and none of those can be listed; serve the page by http or https",
            ),
            Some(origin) if origin.starts_with("http") => write!(
                f,
                "a web page of {origin} sent this request, by itself or through a server that changes Host or ends TLS; \
                 add that origin to guard.allowed_origins if it may"
            ),
            // An extension, or the shell of an application.
            Some(origin) => {
                write!(f, "{origin} sent this request; add that origin to guard.allowed_origins if it may")
            }
            None => self.reason.fmt(f),
        }
    }
}

impl GuardRejection {
    /// All of them, for metrics that start at zero.
    pub(crate) const ALL: [Self; 10] = [
        Self::Host,
        Self::Origin,
        Self::FetchSite,
        Self::Navigation,
        Self::Speculative,
        Self::Unattended,
        Self::InsecureHost,
        Self::Secret,
        Self::Uid,
        Self::Subject,
    ];

    /// What the `Cupbearer-Error` header calls it.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Host => "host_refused",
            Self::Origin
            | Self::FetchSite
            | Self::Navigation
            | Self::Speculative
            | Self::Unattended
            | Self::InsecureHost => "origin_refused",
            Self::Secret => "secret_refused",
            Self::Uid | Self::Subject => "peer_refused",
        }
    }

    /// Its label in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Origin => "origin",
            Self::FetchSite => "fetch_site",
            Self::Navigation => "navigation",
            Self::Speculative => "speculative",
            Self::Unattended => "unattended",
            Self::InsecureHost => "insecure_host",
            Self::Secret => "secret",
            Self::Uid => "uid",
            Self::Subject => "subject",
        }
    }
}

/// An origin has a host name of 253 bytes at most, and a scheme and a port beside it.
const MAX_SHOWN_ORIGIN: usize = 300;
