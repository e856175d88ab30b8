//! What happens in the demo's servers, reported to what shows or counts it.

use std::time::Duration;

use http::StatusCode;

/// Something that happened. Never a token, never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The authorization server gave a token out.
    TokenIssued {
        /// Whom for.
        client: String,
        /// The token's short id, which the protected API shows too.
        id: String,
        /// How long it lives.
        lifetime: Duration,
    },
    /// The authorization server refused a token request, as RFC 6749 section 5.2 has it.
    Refused {
        /// Who asked, where that could be read.
        client: Option<String>,
        /// The `error` of the answer.
        error: &'static str,
        /// The status of the answer.
        status: StatusCode,
    },
    /// The authorization server misbehaved, as it was told to.
    Misbehaved {
        /// Which way: [`Behaviour::name`](super::Behaviour::name).
        how: &'static str,
        /// With which status, where it answered at all and that was told too.
        status: Option<StatusCode>,
    },
    /// Every token was revoked.
    Revoked {
        /// How many were valid until then.
        tokens: usize,
    },
    /// The protected API turned a request away.
    Unauthorized {
        /// Why; `None`: it had no token.
        refusal: Option<super::TokenRefusal>,
    },
}
