//! The tokens now in force, by name: what requests and sources find them in.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::clock::BootInstant;

use super::handle::TokenHandle;

/// The tokens now in force, by name. A reload swaps them whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenRegistry {
    tokens: Arc<ArcSwap<BTreeMap<String, TokenHandle>>>,
    /// How often it was filled.
    filled: Arc<watch::Sender<u64>>,
    /// The hosts that each token is sent to.
    hosts: Arc<ArcSwap<BTreeMap<String, BTreeSet<String>>>>,
}

impl TokenRegistry {
    /// The tokens in force now.
    #[must_use]
    pub(crate) fn load(&self) -> Arc<BTreeMap<String, TokenHandle>> {
        self.tokens.load_full()
    }

    /// Puts others in force.
    pub(crate) fn replace(&self, tokens: BTreeMap<String, TokenHandle>) {
        self.tokens.store(Arc::new(tokens));
        self.filled.send_modify(|times| *times += 1);
    }

    /// Has the token `name` take what a login has just put into the store, and waits for that.
    pub(crate) async fn take_up(&self, name: &str) {
        // As it is now: a reload may have made another of it meanwhile.
        let Some(token) = self.load().get(name).cloned() else { return };
        let (attempts, usable) = {
            let state = token.load();
            (state.attempts(), state.usable(BootInstant::now()).is_some())
        };
        // One that is good is another user's, or an older login's.
        if usable {
            token.replace();
        } else {
            token.wake();
        }
        loop {
            let mut changed = pin!(token.changed());
            // Before the state is read, so that no change falls between the two.
            changed.as_mut().enable();
            if token.load().attempts() != attempts {
                return;
            }
            changed.await;
        }
    }

    /// Says which hosts each token is sent to: those of the upstreams of its routes.
    pub(crate) fn set_hosts(&self, hosts: BTreeMap<String, BTreeSet<String>>) {
        self.hosts.store(Arc::new(hosts));
    }

    /// Whether the token `name` is sent to some host, and none of them is `host`.
    pub(super) fn goes_elsewhere(&self, name: &str, host: &str) -> bool {
        self.hosts.load().get(name).is_some_and(|hosts| !hosts.is_empty() && !hosts.contains(host))
    }

    /// How often it was filled.
    pub(super) fn filled(&self) -> u64 {
        *self.filled.borrow()
    }

    /// The token `name`, once the registry has been filled more often than `since`: a source that was made for a
    /// configuration may be asked before that configuration's tokens are in force.
    pub(super) async fn find(&self, name: &str, since: u64) -> Option<TokenHandle> {
        self.filled.subscribe().wait_for(|times| *times > since).await.ok()?;
        self.load().get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::token::error::{Error, StorageFault};
    use crate::token::handle::Token;
    use crate::token::renewer::tests::settings;
    use crate::token::source::{Fetched, Source};

    /// A source of no token.
    struct Never;

    impl Source for Never {
        fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
            Box::pin(async { Err(Error::from(StorageFault::Unusable)) })
        }
    }

    #[test]
    fn a_roster_is_swapped_whole_and_for_all_who_look() {
        let registry = TokenRegistry::default();
        let other = registry.clone();
        let (commands, _inbox) = mpsc::unbounded_channel();
        let settings = Arc::new(settings());
        let token = Arc::new(Token::new(1, "api".into(), settings, None, &Never, commands.downgrade()));
        registry.replace(BTreeMap::from([("api".to_owned(), TokenHandle::new(token))]));
        assert_eq!(other.load()["api"].name(), "api");
        registry.replace(BTreeMap::new());
        assert!(other.load().is_empty());
    }
}
