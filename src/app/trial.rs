//! Whether a configuration works: a token from each authorization server, a connection to each upstream.

use crate::config::Settings;
use crate::metrics::Metrics;
use crate::oauth::{Class, Error, ServerError};
use crate::proxy::{ProbeError, Upstream, UpstreamError, probe};
use crate::secret::Secret;
use crate::token::{Roster, Sources, Store, StoreAlarm, StoreError, TokenSettings, open_store};

/// What was tried and how it went.
#[derive(Debug)]
pub struct Trial {
    /// The key of the configuration that it is about: `tokens.api`, `upstreams.api`.
    pub key: String,
    /// What was found out, as a sentence; or why it does not work.
    pub outcome: Result<String, TrialError>,
}

/// Why something does not work.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The authorization server gave no token.
    #[error(transparent)]
    Token(#[from] Error),
    /// The way to it cannot be set up.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The store that it is in cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The way to the upstream cannot be set up.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The upstream took no connection.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl TrialError {
    /// What to do about it, as a command; `key` is the [`Trial`]'s. The sentence itself may say more.
    #[must_use]
    pub fn mend(&self, key: &str) -> String {
        match self {
            Self::Token(error) => match error.class() {
                Class::Transient => format!(
                    "see that the authorization server named in [{key}] runs and can be reached from this machine"
                ),
                Class::Misconfigured => format!(
                    "compare [{key}] with what the authorization server has for this client: its address, \
                     client_id, client_auth, the secret, scope"
                ),
                Class::Refused => "log in again".to_owned(),
            },
            Self::Store(_) => "mend [store]".to_owned(),
            Self::Server(_) => format!("name a file of PEM certificates as `ca_file` in [{key}], or none"),
            Self::Upstream(_) => format!("mend `url` or `ca_file` in [{key}]"),
            Self::Probe(_) => {
                format!("see that `url` in [{key}] is right, and can be reached from this machine")
            }
        }
    }
}

/// Tries everything out, one after the other; each is bounded by its own timeouts.
pub async fn try_out(settings: &Settings) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, token) in &settings.tokens {
        let outcome = ask(token).await.map(|response| match response.scope {
            Some(scope) => {
                format!("the authorization server gave a token with the scope \"{}\"", scope.join(" "))
            }
            None => "the authorization server gave a token".to_owned(),
        });
        trials.push(Trial { key: format!("tokens.{name}"), outcome });
    }
    for (name, upstream) in &settings.upstreams {
        let outcome = async {
            let upstream = Upstream::new(name, upstream.clone())?;
            Ok(format!("the upstream took a connection ({})", probe(&upstream).await?))
        };
        trials.push(Trial { key: format!("upstreams.{name}"), outcome: outcome.await });
    }
    trials
}

/// Asks for a token, once.
///
/// # Errors
/// [`TrialError`]
pub async fn fetch_token(settings: &TokenSettings) -> Result<Secret<String>, TrialError> {
    Ok(ask(settings).await?.access_token)
}

/// Gives back and forgets what is stored of the token `name`, where no proxy runs.
///
/// # Errors
/// [`TrialError`]; what was stored is gone all the same where the authorization server was not told.
pub async fn log_out(settings: &Settings, name: &str) -> Result<(), TrialError> {
    let Some(token) = settings.tokens.get(name) else { return Ok(()) };
    let store = open_store(&settings.store, &StoreAlarm::new(&Metrics::new()))?;
    Ok(Sources::new(Roster::default(), store).make(name, token)?.forget(None).await?)
}

async fn ask(settings: &TokenSettings) -> Result<crate::oauth::TokenResponse, TrialError> {
    let source = Sources::new(Roster::default(), Store::memory()).make("", settings)?;
    Ok(source.fetch().await?.response)
}
