//! What a token request spends, chosen from the store and the configuration.
//!
//! `stored` asks here before each request. A refresh token that a login brought and one that a grant brought which can be
//! repeated are never taken for one another.

use crate::oauth::read;
use crate::secret::{Secret, SecretSource};
use crate::token::error::{Error, LoginFault};
use crate::token::store::{Earned, Entry, Fingerprint};

/// What a grant spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::token) enum Spends {
    /// Nothing that counts once: it may be asked for without a store, too. A refresh token that comes is not kept.
    Nothing,
    /// A refresh token: the newest of the store and of the configuration.
    RefreshToken(Option<SecretSource>),
    /// The refresh token that the grant itself brought (RFC 6749 section 4.3.3); where there is none, or it is refused,
    /// what the grant spends, which can be repeated.
    Earned,
}

/// A refresh token, and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Spendable {
    pub(super) secret: Secret<String>,
    /// The configured one that it came from.
    pub(super) seed: Option<Fingerprint>,
}

impl Spendable {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_secret(&self.secret)
    }
}

impl Spends {
    /// The refresh token to spend; `None`: the grant itself is what is sent. `earned` is what it would be earned by now.
    pub(super) async fn choose(
        &self,
        entry: Option<&Entry>,
        earned: Earned,
    ) -> Result<Option<Spendable>, Error> {
        let source = match self {
            Self::Nothing => return Ok(None),
            Self::Earned => {
                let ours = entry.filter(|entry| entry.earned.is_some_and(|before| before.is(earned)));
                let token = ours.and_then(|entry| entry.refresh_token.clone());
                return Ok(token.map(|secret| Spendable { secret, seed: None }));
            }
            Self::RefreshToken(source) => source,
        };
        let seed = match source {
            Some(source) => Some(read(source).await),
            None => None,
        };
        let entry = entry.filter(|entry| entry.earned.is_none());
        let stored = entry.and_then(|entry| Some((entry.refresh_token.as_ref()?, entry.seed)));
        let known = entry.and_then(|entry| entry.seed);
        let of_store = |token: &Secret<String>, seed| Spendable { secret: token.clone(), seed };
        match (stored, seed) {
            // A login's; or its seed is not there to be compared with.
            (Some((token, seed @ None)), _) | (Some((token, seed)), None | Some(Err(_))) => {
                Ok(Some(of_store(token, seed)))
            }
            (Some((token, Some(seed))), Some(Ok(configured)))
                if Fingerprint::of_secret(&configured) == seed =>
            {
                Ok(Some(of_store(token, Some(seed))))
            }
            // New, or changed since the one that the stored token came from.
            (_, Some(Ok(configured))) => {
                let seed = Fingerprint::of_secret(&configured);
                // It was spent, and what came of it was refused.
                if known == Some(seed) {
                    return Err(Error::from(LoginFault::Required));
                }
                Ok(Some(Spendable { secret: configured, seed: Some(seed) }))
            }
            (None, Some(Err(error))) => Err(error.into()),
            (None, None) => Err(Error::from(LoginFault::Required)),
        }
    }
}
