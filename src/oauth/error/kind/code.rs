//! Error codes: those of the OAuth registry, and what other servers call the same.

use crate::oauth::error::class::Class;

/// An error code of the OAuth registry, or [`Code::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    InvalidTarget,
    UnsupportedTokenType,
    InvalidDpopProof,
    UseDpopNonce,
    AccessDenied,
    ServerError,
    TemporarilyUnavailable,
    SlowDown,
    AuthorizationPending,
    ExpiredToken,
    LoginRequired,
    InteractionRequired,
    ConsentRequired,
    AccountSelectionRequired,
    UnsupportedResponseType,
    InvalidRequestUri,
    InvalidRedirectUri,
    Other,
}

impl Code {
    /// The code that `word` is, or means at the servers that have their own; else [`Code::Other`].
    pub(crate) fn parse(word: &str) -> Self {
        Self::registered(word).unwrap_or(Self::Other)
    }

    /// The registered code that `word` is or means. Servers differ in case, in hyphens and in what stands around it:
    /// `InvalidGrantException`, `oauth.v2.InvalidClient`, `https://as.example/errors/invalid-grant`.
    pub(in crate::oauth) fn registered(word: &str) -> Option<Self> {
        let word = snake_case(word.trim().rsplit(['.', '#', '/']).next()?);
        let bare = ["_exception", "_error"].into_iter().filter_map(|suffix| word.strip_suffix(suffix));
        std::iter::once(word.as_str()).chain(bare).find_map(Self::named)
    }

    fn named(word: &str) -> Option<Self> {
        let registered = CODES.iter().find(|code| code.as_str() == word);
        registered.or_else(|| Some(&SYNONYMS.iter().find(|(synonym, _)| *synonym == word)?.1)).copied()
    }

    pub(in crate::oauth) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::UseDpopNonce => "use_dpop_nonce",
            Self::AccessDenied => "access_denied",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::SlowDown => "slow_down",
            Self::AuthorizationPending => "authorization_pending",
            Self::ExpiredToken => "expired_token",
            Self::LoginRequired => "login_required",
            Self::InteractionRequired => "interaction_required",
            Self::ConsentRequired => "consent_required",
            Self::AccountSelectionRequired => "account_selection_required",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidRequestUri => "invalid_request_uri",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::Other => "other",
        }
    }

    /// Whether a server may refuse a person with it, or a person's password, and neither the client nor its request.
    pub(in crate::oauth) const fn is_of_a_person(self) -> bool {
        matches!(
            self,
            Self::InvalidGrant
                | Self::InvalidRequest
                | Self::AccessDenied
                | Self::LoginRequired
                | Self::InteractionRequired
                | Self::ConsentRequired
                | Self::AccountSelectionRequired
                | Self::ExpiredToken
        )
    }

    pub(in crate::oauth) const fn class(self) -> Class {
        match self {
            // A proof is dated: clocks are put right, and nonces come anew.
            Self::ServerError
            | Self::TemporarilyUnavailable
            | Self::SlowDown
            | Self::AuthorizationPending
            | Self::InvalidDpopProof
            | Self::UseDpopNonce => Class::Transient,
            Self::LoginRequired
            | Self::InteractionRequired
            | Self::ConsentRequired
            | Self::AccountSelectionRequired
            | Self::ExpiredToken => Class::Refused,
            _ => Class::Misconfigured,
        }
    }
}

/// `InvalidGrant`, `INVALID-GRANT` and `invalid_grant` alike.
fn snake_case(word: &str) -> String {
    let mut snake = String::with_capacity(word.len() + 4);
    let mut after_small = false;
    for letter in word.chars() {
        if letter.is_ascii_uppercase() && after_small {
            snake.push('_');
        }
        after_small = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        snake.push(if letter == '-' { '_' } else { letter.to_ascii_lowercase() });
    }
    snake
}

pub(in crate::oauth) const CODES: [Code; 23] = [
    Code::InvalidRequest,
    Code::InvalidClient,
    Code::InvalidGrant,
    Code::UnauthorizedClient,
    Code::UnsupportedGrantType,
    Code::InvalidScope,
    Code::InvalidTarget,
    Code::UnsupportedTokenType,
    Code::InvalidDpopProof,
    Code::UseDpopNonce,
    Code::AccessDenied,
    Code::ServerError,
    Code::TemporarilyUnavailable,
    Code::SlowDown,
    Code::AuthorizationPending,
    Code::ExpiredToken,
    Code::LoginRequired,
    Code::InteractionRequired,
    Code::ConsentRequired,
    Code::AccountSelectionRequired,
    Code::UnsupportedResponseType,
    Code::InvalidRequestUri,
    Code::InvalidRedirectUri,
];

/// What GitHub, Microsoft, Auth0, Slack and others write in place of a registered code.
const SYNONYMS: [(&str, Code); 28] = [
    ("authorization_declined", Code::AccessDenied),
    ("authorization_denied", Code::AccessDenied),
    ("consent_denied", Code::AccessDenied),
    ("user_denied", Code::AccessDenied),
    ("bad_verification_code", Code::InvalidGrant),
    ("incorrect_device_code", Code::InvalidGrant),
    ("invalid_code", Code::InvalidGrant),
    ("bad_refresh_token", Code::InvalidGrant),
    ("invalid_refresh_token", Code::InvalidGrant),
    ("code_expired", Code::ExpiredToken),
    ("device_code_expired", Code::ExpiredToken),
    ("device_flow_disabled", Code::UnauthorizedClient),
    ("too_many_requests", Code::SlowDown),
    ("rate_limited", Code::SlowDown),
    ("ratelimited", Code::SlowDown),
    ("rate_limit_exceeded", Code::SlowDown),
    ("throttled", Code::SlowDown),
    ("incorrect_client_credentials", Code::InvalidClient),
    ("invalid_client_id", Code::InvalidClient),
    ("invalid_client_secret", Code::InvalidClient),
    ("bad_client_secret", Code::InvalidClient),
    ("redirect_uri_mismatch", Code::InvalidRedirectUri),
    ("invalid_resource", Code::InvalidTarget),
    ("invalid_audience", Code::InvalidTarget),
    ("mfa_required", Code::InteractionRequired),
    ("internal_error", Code::ServerError),
    ("internal_server_error", Code::ServerError),
    ("temporarily_unavaliable", Code::TemporarilyUnavailable),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_in_any_case_and_under_the_names_that_servers_give_it() {
        for (word, code) in [
            ("invalid_grant", Code::InvalidGrant),
            ("INVALID_GRANT", Code::InvalidGrant),
            (" invalid-client ", Code::InvalidClient),
            ("authorization_declined", Code::AccessDenied),
            ("bad_verification_code", Code::InvalidGrant),
            ("device_flow_disabled", Code::UnauthorizedClient),
            ("too_many_requests", Code::SlowDown),
            // AWS, Apigee, problem documents.
            ("InvalidGrantException", Code::InvalidGrant),
            ("AuthorizationPendingException", Code::AuthorizationPending),
            ("oauth.v2.InvalidClient", Code::InvalidClient),
            ("invalid_request_error", Code::InvalidRequest),
            ("server_error", Code::ServerError),
            ("https://as.example/errors/invalid-grant", Code::InvalidGrant),
            ("E0000011", Code::Other),
            ("unheard_of", Code::Other),
            ("invalid_grants", Code::Other),
            ("", Code::Other),
        ] {
            assert_eq!(Code::parse(word), code, "{word}");
        }
        for code in CODES {
            assert_eq!(Code::registered(code.as_str()), Some(code));
        }
    }
}
