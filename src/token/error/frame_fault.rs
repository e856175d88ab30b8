//! What can go wrong with a renewal in a hidden frame of the dashboard, beyond what the authorization server reports.

use crate::oauth::Class;

/// Why the frame brought no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameFault {
    /// It did not come back.
    #[error(
        "the dashboard's hidden frame was sent to {server} and did not come back in time: a page there waits for a person, or does not let itself be framed (X-Frame-Options, frame-ancestors); log in again, or set `renew_via = \"refresh_token\"` with the scope offline_access"
    )]
    Lost {
        /// The origin that it was sent to.
        server: String,
    },
    /// The server knows no session of a browser that has just logged in there.
    #[error(
        "{server} reports `login_required` to the first frame after a login in this browser: the browser withholds the server's cookies in a frame of {page} (third-party cookies), and another login changes nothing; open the dashboard under a name of the server's own site, allow third-party cookies for {page}, or set `renew_via = \"refresh_token\"` with the scope offline_access"
    )]
    CookiesWithheld {
        /// The origin of the dashboard.
        page: String,
        /// The origin of the authorization server.
        server: String,
    },
}

impl FrameFault {
    pub(super) const fn class(&self) -> Class {
        match self {
            Self::Lost { .. } => Class::Transient,
            Self::CookiesWithheld { .. } => Class::Refused,
        }
    }

    pub(super) const fn cause(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "frame_lost",
            Self::CookiesWithheld { .. } => "cookies_withheld",
        }
    }

    pub(super) const fn public_reason(&self) -> &'static str {
        match self {
            Self::Lost { .. } => {
                "the browser that renews it did not come back from the authorization server in time"
            }
            Self::CookiesWithheld { .. } => {
                "the browser that renews it withholds the authorization server's cookies in a frame"
            }
        }
    }
}
