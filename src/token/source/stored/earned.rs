//! Refresh tokens that come with a grant which can be repeated: a password, an assertion, an exchange.

use crate::oauth::{Class, ErrorCode};
use crate::token::source::exchange_failure::ExchangeFailure;
use crate::token::source::spending::Spends;
use crate::token::store::Earned;

use super::{Exchange, Inner};

impl<E: Exchange> Inner<E> {
    /// What a refresh token would be earned by now.
    pub(super) async fn earned(&self) -> Earned {
        let subject = match self.spends {
            Spends::Earned => self.exchange.subject().await,
            Spends::Nothing | Spends::RefreshToken(_) => None,
        };
        Earned { request: self.request, subject }
    }

    /// Whether the end of a refresh token, in whatever words, leads to the grant that can be repeated.
    pub(super) fn repeats(&self, failure: &ExchangeFailure) -> bool {
        self.spends == Spends::Earned && matches!(failure.class(), Class::Refused | Class::Doubtful)
    }

    /// Whether the server does not let this client use the refresh tokens that it issues.
    pub(super) fn is_useless(&self, failure: &ExchangeFailure) -> bool {
        self.spends == Spends::Earned
            && matches!(
                failure.code(),
                Some(
                    ErrorCode::UnauthorizedClient
                        | ErrorCode::UnsupportedGrantType
                        | ErrorCode::InvalidScope
                        | ErrorCode::InvalidTarget
                        | ErrorCode::InvalidRequest
                )
            )
    }
}
