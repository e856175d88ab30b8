//! Whether a configuration works: a token from each authorization server, a connection to each upstream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::clock;
use crate::config::Settings;
use crate::lifecycle::DrainTrigger;
use crate::metrics::Metrics;
use crate::oauth::{Class, Error, Lifetime, ServerError, TokenResponse};
use crate::proxy::{ProbeError, Upstream, UpstreamError, probe};
use crate::secret::Secret;
use crate::token::{
    Account, Fetched, Limits, Origin, Renewer, Roster, Source as _, Sources, Store, StoreAlarm, StoreError,
    StoreSettings, TokenSettings, open_store,
};
use crate::traces::TracesError;

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
    #[error("{}", in_full(.0))]
    Token(#[from] Error),
    /// The way to it cannot be set up.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The store that it is in cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is one, and it is of no use.
    #[error("the token that it gives has expired")]
    Expired,
    /// It would take what a running proxy needs.
    #[error(
        "it was not asked for: that would spend the refresh token, and with kind = \"memory\" in [store] what comes back for it would be lost"
    )]
    WouldSpend,
    /// The way to the upstream cannot be set up.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The upstream took no connection.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The collector takes no traces.
    #[error(transparent)]
    Traces(#[from] TracesError),
}

impl TrialError {
    /// What to do about it, as a command; `key` is the [`Trial`]'s. The sentence itself may say more.
    #[must_use]
    pub fn mend(&self, key: &str) -> String {
        match self {
            Self::Token(error) => match error.class() {
                _ if error.help().is_some() => {
                    format!("{}; the keys are those of [{key}]", error.help().unwrap_or_default())
                }
                Class::Transient => format!("see that what [{key}] names is there, and answers this machine"),
                Class::Misconfigured => {
                    format!(
                        "compare [{key}] with what the authorization server, or the helper program, expects"
                    )
                }
                Class::Doubtful => {
                    format!("log in again, or compare [{key}] with what the authorization server expects")
                }
                Class::Refused => "log in again".to_owned(),
            },
            Self::Expired => format!("have what [{key}] names give a newer one, and compare the clocks"),
            Self::Store(_) => "mend [store]".to_owned(),
            Self::WouldSpend => "set `kind` in [store] to \"file\", or ask the running proxy".to_owned(),
            Self::Server(_) => format!("name a file of PEM certificates as `ca_file` in [{key}], or none"),
            Self::Upstream(_) => format!("mend `url`, `ca_file` or `proxy` in [{key}]"),
            Self::Traces(_) => format!(
                "see that a collector takes OTLP over HTTP where `otlp_endpoint` in [{key}] says, and that `otlp_ca_file` and \
                 `otlp_headers_file` are right"
            ),
            Self::Probe(error) => format!("{}; the keys are those of [{key}]", error.help()),
        }
    }
}

/// What happened, with the server's own words; what to do about it stands below it.
fn in_full(error: &Error) -> String {
    match (error.help(), error.description()) {
        (None, _) => error.in_full(),
        (Some(_), None) => error.happened(),
        (Some(_), Some(description)) => format!("{} (the server says: \"{description}\")", error.happened()),
    }
}

/// Tries everything out, one after the other; each is bounded by its own timeouts.
pub async fn try_out(settings: &Settings) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, token) in &settings.tokens {
        let giver = match token.origin {
            Origin::Server(_) => "the authorization server",
            Origin::Command(_) => "the command",
            Origin::File(_) => "the file",
            Origin::Static(_) => "the configuration",
        };
        let outcome = if token.is_per_caller() {
            Ok("each caller's own token is traded in for it; there is none to try that with".to_owned())
        } else {
            ask(settings, name).await.map(|response| match response.scope {
                Some(scope) => format!("{giver} gave a token with the scope \"{}\"", scope.join(" ")),
                None => format!("{giver} gave a token"),
            })
        };
        trials.push(Trial { key: format!("tokens.{name}"), outcome });
    }
    for (name, upstream) in &settings.upstreams {
        let outcome = async {
            let upstream = Upstream::new(name, upstream.clone())?;
            Ok(format!("the upstream took a connection ({})", probe(&upstream).await?))
        };
        trials.push(Trial { key: format!("upstreams.{name}"), outcome: outcome.await });
    }
    #[cfg(feature = "otlp")]
    if let Some(collector) = &settings.traces.collector {
        let outcome = crate::traces::try_out(collector).await.map_err(TrialError::from);
        let outcome = outcome.map(|()| "the collector took a message without spans".to_owned());
        trials.push(Trial { key: "telemetry".to_owned(), outcome });
    }
    trials
}

/// Asks for a token, once.
///
/// # Errors
/// [`TrialError`]
pub async fn fetch_token(settings: &Settings, name: &str) -> Result<Secret<String>, TrialError> {
    Ok(ask(settings, name).await?.access_token)
}

/// How a person logs in for the token `name` where no proxy runs; `None`: nobody does. Once the login is over, what the
/// store would not take is tried again by [`Store::flush`].
///
/// # Errors
/// [`TrialError`]
pub fn account(settings: &Settings, name: &str) -> Result<Option<(Arc<Account>, Store)>, TrialError> {
    let Some(token) = settings.tokens.get(name) else { return Ok(None) };
    let store = open_store(&settings.store, &StoreAlarm::new(&Metrics::new()))?;
    let source = Sources::new(Roster::default(), store.clone()).make(name, token)?;
    Ok(source.account().map(|account| (account, store)))
}

/// Gives back and forgets what is stored of the token `name`, where no proxy runs. Says where a browser ends its session at
/// the authorization server, where that offers it.
///
/// # Errors
/// [`TrialError`]; what was stored is gone all the same where the authorization server was not told.
pub async fn log_out(settings: &Settings, name: &str) -> Result<Option<Url>, TrialError> {
    let Some(token) = settings.tokens.get(name) else { return Ok(None) };
    let store = open_store(&settings.store, &StoreAlarm::new(&Metrics::new()))?;
    let source = Sources::new(Roster::default(), store).make(name, token)?;
    let account = source.account();
    let id_token = match &account {
        Some(account) => account.id_token().await,
        None => None,
    };
    source.forget(None).await?;
    match account {
        Some(account) => Ok(account.end_session(id_token.as_ref()).await.ok().flatten()),
        None => Ok(None),
    }
}

/// Asks for the token `name` through the configured store: a refresh token that is changed at each use would be lost
/// anywhere else. The tokens that it is traded for are asked for first.
async fn ask(settings: &Settings, name: &str) -> Result<TokenResponse, TrialError> {
    let token = settings.tokens.get(name).ok_or(TrialError::Server(ServerError::Nowhere))?;
    let subjects = subjects(settings, token);
    let store =
        match (&settings.store, subjects.values().copied().chain([token]).any(TokenSettings::spends_a_login))
        {
            (StoreSettings::Memory, true) => return Err(TrialError::WouldSpend),
            (stored, true) => open_store(stored, &StoreAlarm::new(&Metrics::new()))?,
            // To be sure that the server gives one, none is taken out of a store.
            (_, false) => Store::memory(),
        };
    let roster = Roster::default();
    let mut sources = Sources::new(roster.clone(), store.clone());
    let (_trigger, drain) = DrainTrigger::new();
    let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
    let mut held = BTreeMap::new();
    for (name, subject) in subjects {
        let source = sources.make(name, subject)?;
        held.insert(name.to_owned(), renewer.add(name, subject.clone(), source));
    }
    let source = sources.make(name, token)?;
    roster.replace(held);
    let fetched = source.fetch().await;
    store.flush(LAST_WRITES).await;
    let Fetched { response, asked, .. } = fetched?;
    let ends = match response.lifetime {
        Lifetime::ExpiresIn(lifetime) => asked.unwrap_or_else(clock::wall).checked_add(lifetime),
        Lifetime::ExpiresAt(at) => Some(at),
        Lifetime::NoTime(_) => asked,
        Lifetime::Unbounded | Lifetime::Unknown => None,
    };
    match ends {
        Some(at) if clock::until(at).is_zero() => Err(TrialError::Expired),
        _ => Ok(response),
    }
}

/// The tokens that `token` is traded for, and those that these are.
fn subjects<'s>(settings: &'s Settings, token: &'s TokenSettings) -> BTreeMap<&'s str, &'s TokenSettings> {
    let mut found = BTreeMap::new();
    let mut next = token.subject();
    while let Some((name, subject)) = next.and_then(|name| settings.tokens.get_key_value(name))
        && found.insert(name.as_str(), subject).is_none()
    {
        next = subject.subject();
    }
    found
}

/// How long a token that was asked for in vain may take to be written.
const LAST_WRITES: Duration = Duration::from_secs(5);
