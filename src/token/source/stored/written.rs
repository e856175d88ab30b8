//! What comes of a token request, as it is written into the store.

use std::time::SystemTime;

use tracing::warn;

use crate::clock;
use crate::oauth::{Issued, TokenResponse};
use crate::secret::Secret;
use crate::token::source::Fetched;
use crate::token::source::spending::{Spendable, Spends};
use crate::token::store::{Earned, Entry, Lease, StoredAccess};

use super::{Exchange, Inner, thumbprint};

impl<E: Exchange> Inner<E> {
    /// Writes what a response brought.
    pub(super) async fn keep(
        &self,
        base: Option<Entry>,
        spent: Option<Spendable>,
        fetched: &Fetched,
        asked: SystemTime,
        earned: Earned,
        lease: &Lease,
    ) {
        let Fetched { response, dpop, .. } = fetched;
        let TokenResponse { refresh_token, scope, .. } = response;
        let mut entry = self.next(base.as_ref());
        if spent.is_none() {
            (entry.withheld, entry.refused_once) = (None, false);
        }
        let bound_to = dpop.as_deref().map(thumbprint);
        entry.access = Some(StoredAccess::of(response, self.request, asked, bound_to));
        if let Some(key) = dpop.as_deref().and_then(|key| self.exchange.kept_key(key)) {
            entry.dpop_key = Some(key);
        }
        let is_refresh = spent.is_some();
        self.put(&mut entry, spent, refresh_token.as_ref(), scope.as_ref(), earned);
        if is_refresh && self.exchange.takes_no_scope() {
            // The next process asks for none either.
            entry.granted = Some(Vec::new());
        }
        self.store.keep(&self.key, entry, base.as_ref(), lease).await;
    }

    /// Writes the refresh token of a response that is of no other use: the one that was spent for it is gone.
    pub(super) async fn save(
        &self,
        base: Option<Entry>,
        spent: Option<Spendable>,
        issued: &Issued,
        earned: Earned,
        lease: &Lease,
    ) {
        if self.spends == Spends::Nothing {
            return;
        }
        let mut entry = self.next(base.as_ref());
        if entry.dpop_key.is_none()
            && let Ok(Some(key)) = self.exchange.key(None).await
        {
            entry.dpop_key = self.exchange.kept_key(&key);
        }
        self.put(&mut entry, spent, Some(&issued.refresh_token), issued.scope.as_ref(), earned);
        self.store.keep(&self.key, entry, base.as_ref(), lease).await;
    }

    /// Puts a refresh token into `entry`, and where it is from.
    fn put(
        &self,
        entry: &mut Entry,
        spent: Option<Spendable>,
        refresh_token: Option<&Secret<String>>,
        scope: Option<&Vec<String>>,
        earned: Earned,
    ) {
        match (&self.spends, spent) {
            (Spends::Nothing, _) | (Spends::RefreshToken(_), None) => {}
            // RFC 6749 section 6: without a new one, the old one stays.
            (Spends::Earned, Some(spent)) => {
                entry.refresh_token = Some(refresh_token.cloned().unwrap_or(spent.secret));
            }
            (Spends::Earned, None) => {
                entry.refresh_token = refresh_token.cloned();
                entry.earned = refresh_token.map(|_| earned);
                entry.granted = scope.cloned();
                (entry.seed, entry.user) = (None, None);
            }
            (Spends::RefreshToken(_), Some(spent)) => {
                if entry.seed != spent.seed {
                    entry.granted = None;
                }
                if refresh_token.is_some() {
                    self.warn_of_rotation();
                }
                entry.refresh_token = Some(refresh_token.cloned().unwrap_or(spent.secret));
                (entry.seed, entry.earned) = (spent.seed, None);
            }
        }
    }

    /// Remembers that a refresh token is worth nothing, unless another has come into the store meanwhile. A stored one
    /// that was not the one refused is kept, and tried next.
    pub(super) async fn bury(&self, base: Option<Entry>, dead: &Spendable, lease: &Lease) {
        let now = self.store.load(&self.key, Some(lease)).await;
        let refresh_token =
            |entry: &Option<Entry>| entry.as_ref().and_then(|entry| entry.refresh_token.clone());
        if matches!(&now, Ok(now) if refresh_token(now) != refresh_token(&base)) {
            return;
        }
        let mut entry = self.next(base.as_ref());
        if entry.seed != dead.seed {
            entry.granted = None;
        }
        if entry.refresh_token.as_ref() == Some(&dead.secret) {
            entry.refresh_token = None;
        } else if entry.refresh_token.is_some() {
            warn!(
                token = self.key.name,
                "the configured refresh token is refused; the one in the token store is used"
            );
        }
        entry.seed = dead.seed;
        self.store.keep(&self.key, entry, base.as_ref(), lease).await;
    }

    /// The entry that follows `base`, as it is.
    pub(super) fn next(&self, base: Option<&Entry>) -> Entry {
        let mut entry = base.cloned().unwrap_or_else(|| Entry::empty(self.key.client));
        entry.generation = entry.generation.saturating_add(1);
        entry.written = clock::wall();
        entry
    }
}
