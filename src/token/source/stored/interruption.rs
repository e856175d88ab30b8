//! A refresh that was interrupted: noted before a refresh token is spent, and found where its successor never came.

use crate::oauth::TokenFailure;
use crate::token::source::Fetched;
use crate::token::source::spending::Spendable;
use crate::token::store::{Fingerprint, Lease, Spending};

use super::{Exchange, Inner};

impl<E: Exchange> Inner<E> {
    /// Notes that a refresh token is being spent: where this process is killed before its successor is stored, the next
    /// one knows why it is refused. What was noted before comes back.
    pub(super) async fn begin(&self, token: Option<&Spendable>, lease: &Lease) -> Option<Fingerprint> {
        self.store.spending(&self.key, Spending::Of(token?.fingerprint()), lease).await
    }

    /// Notes what came of it. A response that did not arrive leaves the note where it is, and so does a refusal that it
    /// explains.
    pub(super) async fn end(
        &self,
        token: Option<&Spendable>,
        outcome: &Result<Fetched, TokenFailure>,
        before: Option<Fingerprint>,
        interrupted: bool,
        lease: &Lease,
    ) {
        let is_unknown =
            matches!(outcome, Err(failure) if failure.issued().is_none() && failure.may_have_spent());
        if token.is_none() || is_unknown || interrupted {
            return;
        }
        // Where nothing was sent, an interruption of before is one still.
        let unsent = outcome.as_ref().is_err_and(|failure| failure.was_not_sent());
        let now = before.filter(|_| unsent).map_or(Spending::Over, Spending::Of);
        self.store.spending(&self.key, now, lease).await;
    }
}
