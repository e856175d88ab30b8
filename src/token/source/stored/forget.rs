//! The end of what is kept: given back at the authorization server and forgotten here.

use tokio::time::timeout;
use tracing::{info, warn};

use crate::oauth::{TokenHint, read};
use crate::secret::Secret;
use crate::token::error::{AttemptFault, Error, StorageFault};
use crate::token::source::spending::Spends;
use crate::token::state::Past;
use crate::token::store::{Entry, Fingerprint};

use super::{Exchange, Inner};

impl<E: Exchange> Inner<E> {
    /// The refresh token first: with it goes what came of it. What is held here goes whatever the server says.
    pub(super) async fn forget(&self, held: Option<Secret<String>>) -> Result<(), Error> {
        let lease = self.store.lease(&self.key).await;
        let (entry, mut outcome) = match self.store.load(&self.key, lease.as_ref().ok()).await {
            Ok(entry) => (entry, Ok(())),
            // What could not be read cannot be given back.
            Err(error) => {
                self.store.alarm().raise(&self.key.name, &error);
                (None, Err(Error::from(StorageFault::Unread(error))))
            }
        };
        let refresh = entry.as_ref().and_then(|entry| entry.refresh_token.clone());
        let stored =
            entry.as_ref().and_then(|entry| entry.access.as_ref()).map(|access| access.token.clone());
        let held = held.filter(|held| stored.as_ref() != Some(held));
        let access = [stored, held].into_iter().flatten().map(|token| (token, TokenHint::AccessToken));
        let refresh = refresh.into_iter().map(|token| (token, TokenHint::RefreshToken));
        let mut login_ended = false;
        for (token, hint) in refresh.chain(access) {
            let told = match timeout(self.exchange.patience(), self.exchange.revoke(&token, hint)).await {
                Ok(told) => told,
                Err(_elapsed) => Err(Error::from(AttemptFault::Stalled)),
            };
            // Few servers take back a JWT; with the refresh token the login has ended, and what is left of it ends soon.
            if login_ended && told.as_ref().is_err_and(Error::is_unsupported_token_type) {
                info!(
                    token = self.key.name,
                    "the login has ended; its access token is good until it expires"
                );
                continue;
            }
            login_ended |= hint == TokenHint::RefreshToken && told.is_ok();
            outcome = outcome.and(told);
        }
        // The configured refresh token is still there, and would log in again: it counts as spent.
        let seed = match &self.spends {
            Spends::RefreshToken(Some(source)) => read(source).await.ok(),
            _ => None,
        };
        let spent = seed.map(|seed| Entry { seed: Some(Fingerprint::of_secret(&seed)), ..self.next(None) });
        if let Err(error) = self.store.forget(&self.key, entry.as_ref(), spent, lease.as_ref()).await {
            if let Err(error) = &outcome {
                warn!(token = self.key.name, %error, "the authorization server was not told of the logout");
            }
            // That the token would come back is worse than that the server was not told.
            outcome = Err(Error::from(StorageFault::StillStored(error)));
        }
        let mut memory = self.memory();
        (memory.handed, memory.past) = (None, Past::default());
        drop(memory);
        outcome
    }
}
