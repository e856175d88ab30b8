//! The newest nonce of each server (RFC 9449 sections 8 and 9): read by every request, written when a server gives one.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// Nonces by origin. Each holds for the server that gave it, and for no other.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    /// The one given last stands last.
    known: ArcSwap<Vec<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    origin: Arc<str>,
    nonce: Arc<str>,
}

impl Nonces {
    /// The newest of `origin`'s.
    pub(super) fn newest(&self, origin: &str) -> Option<Arc<str>> {
        self.known.load().iter().find(|known| *known.origin == *origin).map(|known| Arc::clone(&known.nonce))
    }

    /// `nonce` is the newest of `origin`'s now.
    pub(super) fn remember(&self, origin: &str, nonce: &str) {
        // Most answers repeat the nonce that is known.
        if self.newest(origin).is_some_and(|newest| *newest == *nonce) {
            return;
        }
        let new = Known { origin: origin.into(), nonce: nonce.into() };
        self.known.rcu(|known| {
            let mut next: Vec<Known> = known.iter().filter(|one| *one.origin != *origin).cloned().collect();
            let too_many = (next.len() + 1).saturating_sub(MAX_ORIGINS);
            next.drain(..too_many);
            next.push(new.clone());
            next
        });
    }
}

/// More servers than any one token is sent to. Whose nonce was given longest ago is forgotten.
const MAX_ORIGINS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_nonce_of_each_origin_counts_and_for_that_origin_alone() {
        let nonces = Nonces::default();
        assert_eq!(nonces.newest("https://a.example"), None);
        nonces.remember("https://a.example", "a1");
        nonces.remember("https://b.example", "b1");
        nonces.remember("https://a.example", "a2");
        nonces.remember("https://a.example", "a2");
        assert_eq!(nonces.newest("https://a.example").as_deref(), Some("a2"));
        assert_eq!(nonces.newest("https://b.example").as_deref(), Some("b1"));
        assert_eq!(nonces.newest("http://a.example"), None);
    }

    #[test]
    fn servers_without_end_do_not_fill_the_memory() {
        let nonces = Nonces::default();
        for n in 0..100 {
            nonces.remember(&format!("https://{n}.example"), "nonce");
        }
        assert_eq!(nonces.known.load().len(), MAX_ORIGINS);
        assert!(nonces.newest("https://99.example").is_some());
    }
}
