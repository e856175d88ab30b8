//! A refresh whose successor was lost: marked before a refresh token is spent, and found where it is refused afterwards.

use crate::token::source::Fetched;
use crate::token::source::exchange_failure::ExchangeFailure;
use crate::token::source::spending::Spendable;
use crate::token::store::{Lease, Spending, SpentMark};

use super::{Exchange, Inner};

impl<E: Exchange> Inner<E> {
    /// Marks a refresh token that is being spent: where this process is killed before its successor is stored, the next
    /// one knows why it is refused. The mark of before comes back.
    pub(super) async fn begin(&self, token: Option<&Spendable>, lease: &Lease) -> Option<SpentMark> {
        let mark = SpentMark::begun(token?.fingerprint());
        self.store.spending(&self.key, Spending::Of(mark), lease).await
    }

    /// Marks what came of it. Where no response came the mark says so already, and one that could not be read has a mark of
    /// its own. The mark of before stays where nothing was sent, where it explains a refusal, and as long as no response
    /// brings a successor of the refresh token that it is of.
    pub(super) async fn end(
        &self,
        token: Option<&Spendable>,
        outcome: &Result<Fetched, ExchangeFailure>,
        before: Option<SpentMark>,
        explains: bool,
        lease: &Lease,
    ) {
        let Some(token) = token.map(Spendable::fingerprint) else { return };
        let now = match outcome {
            Err(failure) if failure.issued().is_none() => match failure.may_have_spent() {
                Some(how) => Some(SpentMark { token, how }),
                None => before.filter(|before| explains || failure.was_not_sent() || before.token == token),
            },
            _ => None,
        };
        if now != Some(SpentMark::begun(token)) {
            self.store.spending(&self.key, now.map_or(Spending::Over, Spending::Of), lease).await;
        }
    }
}
