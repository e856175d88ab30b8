//! Whether a configuration works: a token from each authorization server, a connection to each upstream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::clock;
use crate::config::Settings;
use crate::lifecycle::DrainTrigger;
use crate::metrics::Metrics;
use crate::oauth::{Class, ClientAuth, JwtFacts, Lifetime, ServerError, TokenResponse};
use crate::proxy::{ProbeError, Upstream, UpstreamError, probe};
use crate::secret::Secret;
use crate::token::Error;
use crate::token::{
    Account, Fetched, GrantSettings, Limits, Origin, Renewer, Source as _, Sources, Store, StoreAlarm,
    StoreError, StoreSettings, Subject, TokenRegistry, TokenSettings, open_store,
};
use crate::traces::TracesError;

/// What was tried and how it went.
#[derive(Debug)]
pub(crate) struct OnlineCheck {
    /// The key of the configuration that it is about: `tokens.api`, `upstreams.api`.
    pub key: String,
    /// What was found out, as a sentence; or why it does not work.
    pub outcome: Result<String, OnlineCheckError>,
    /// What a person should know beside that: what is not as it was asked for, or what a file says of itself.
    pub notes: Vec<String>,
}

/// A token that was asked for.
enum Asked {
    Given(Box<TokenResponse>),
    /// A person has to log in first, and the server offers what that takes.
    NobodyYet,
}

/// Why something does not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OnlineCheckError {
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
    /// A person has to log in first.
    #[error("no user is logged in yet")]
    NobodyYet(String),
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

impl OnlineCheckError {
    /// What to do about it, as a command; `key` is the [`OnlineCheck`]'s. The sentence itself may say more.
    #[must_use]
    pub(crate) fn help(&self, key: &str) -> String {
        match self {
            Self::Token(error) => match error.class() {
                _ if error.proxy_help().is_some() => {
                    format!("{}; the keys are those of [{key}]", error.proxy_help().unwrap_or_default())
                }
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
            Self::NobodyYet(name) => format!("cupbearer login {name}"),
            Self::Expired => format!("have what [{key}] names give a newer one, and compare the clocks"),
            Self::Store(_) => "fix [store]".to_owned(),
            Self::WouldSpend => "set `kind` in [store] to \"file\", or ask the running proxy".to_owned(),
            Self::Server(ServerError::Proxy(unusable)) | Self::Upstream(UpstreamError::Proxy(unusable)) => {
                format!("{}; the key is that of [{key}]", unusable.help())
            }
            Self::Server(_) => format!("name a file of PEM certificates as `ca_file` in [{key}], or none"),
            Self::Upstream(_) => format!("fix `url`, `ca_file` or `proxy` in [{key}]"),
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
pub(crate) async fn check_online(settings: &Settings) -> Vec<OnlineCheck> {
    let mut checks = Vec::new();
    for (name, token) in &settings.tokens {
        let giver = match token.origin {
            Origin::Server(_) => "the authorization server",
            Origin::Command(_) => "the command",
            Origin::File(_) => "the file",
            Origin::Static(_) => "the configuration",
            Origin::SelfSigned(_) => "the key",
        };
        let mut notes = Vec::new();
        let outcome = if token.is_per_caller() {
            Ok("each caller's own token is traded in for it; there is none to try that with".to_owned())
        } else {
            match ask(settings, name).await {
                Ok(Asked::Given(response)) => {
                    notes.extend(ignored(token, &response));
                    Ok(match response.scope {
                        Some(scope) => format!("{giver} gave a token with the scope \"{}\"", scope.join(" ")),
                        None => format!("{giver} gave a token"),
                    })
                }
                Ok(Asked::NobodyYet) => {
                    notes.push(format!("no user is logged in yet: cupbearer login {name}"));
                    Ok("the authorization server offers what a login takes".to_owned())
                }
                Err(error) => {
                    notes.extend(described(token));
                    Err(error)
                }
            }
        };
        checks.push(OnlineCheck { key: format!("tokens.{name}"), outcome, notes });
    }
    for (name, upstream) in &settings.upstreams {
        let outcome = async {
            let upstream = Upstream::new(name, upstream.clone())?;
            Ok(format!("the upstream took a connection ({})", probe(&upstream).await?))
        };
        checks.push(OnlineCheck {
            key: format!("upstreams.{name}"),
            outcome: outcome.await,
            notes: Vec::new(),
        });
    }
    #[cfg(feature = "otlp")]
    if let Some(collector) = &settings.traces.collector {
        let outcome = crate::traces::try_out(collector).await.map_err(OnlineCheckError::from);
        let outcome = outcome.map(|()| "the collector took a message without spans".to_owned());
        checks.push(OnlineCheck { key: "telemetry".to_owned(), outcome, notes: Vec::new() });
    }
    checks
}

/// Asks for a token, once.
///
/// # Errors
/// [`OnlineCheckError`]
pub(crate) async fn fetch_token(settings: &Settings, name: &str) -> Result<Secret<String>, OnlineCheckError> {
    match ask(settings, name).await? {
        Asked::Given(response) => Ok(response.access_token),
        Asked::NobodyYet => Err(OnlineCheckError::NobodyYet(name.to_owned())),
    }
}

/// How a person logs in for the token `name` where no proxy runs; `None`: no login is configured. Once the login is over, what the
/// store would not take is tried again by [`Store::flush`].
///
/// # Errors
/// [`OnlineCheckError`]
pub(crate) fn account(
    settings: &Settings,
    name: &str,
) -> Result<Option<(Arc<Account>, Store)>, OnlineCheckError> {
    let Some(token) = settings.tokens.get(name) else { return Ok(None) };
    let store = open_store(&settings.store, &StoreAlarm::new(&Metrics::new()))?;
    let source = Sources::new(TokenRegistry::default(), store.clone()).make(name, token)?;
    Ok(source.account().map(|account| (account, store)))
}

/// Gives back and forgets what is stored of the token `name`, where no proxy runs. Says where a browser ends its session at
/// the authorization server, where that offers it.
///
/// # Errors
/// [`OnlineCheckError`]; what was stored is gone all the same where the authorization server was not told.
pub(crate) async fn log_out(settings: &Settings, name: &str) -> Result<Option<Url>, OnlineCheckError> {
    let Some(token) = settings.tokens.get(name) else { return Ok(None) };
    let store = open_store(&settings.store, &StoreAlarm::new(&Metrics::new()))?;
    let source = Sources::new(TokenRegistry::default(), store).make(name, token)?;
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
async fn ask(settings: &Settings, name: &str) -> Result<Asked, OnlineCheckError> {
    let token = settings.tokens.get(name).ok_or(OnlineCheckError::Server(ServerError::Nowhere))?;
    let subjects = subjects(settings, token);
    let store =
        match (&settings.store, subjects.values().copied().chain([token]).any(TokenSettings::spends_a_login))
        {
            // Nothing that a person's login left can be in it.
            (StoreSettings::Memory, true) if token.is_login() => Store::memory(),
            (StoreSettings::Memory, true) => return Err(OnlineCheckError::WouldSpend),
            (stored, true) => open_store(stored, &StoreAlarm::new(&Metrics::new()))?,
            // To be sure that the server gives one, none is taken out of a store.
            (_, false) => Store::memory(),
        };
    let registry = TokenRegistry::default();
    let mut sources = Sources::new(registry.clone(), store.clone());
    let (_trigger, drain) = DrainTrigger::new();
    let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
    let mut held = BTreeMap::new();
    for (name, subject) in subjects {
        let source = sources.make(name, subject)?;
        held.insert(name.to_owned(), renewer.add(name, subject.clone(), source));
    }
    let source = sources.make(name, token)?;
    if let Some(account) = source.account()
        && !account.is_kept().await?
    {
        account.preview().await?;
        return Ok(Asked::NobodyYet);
    }
    registry.replace(held);
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
        Some(at) if clock::until(at).is_zero() => Err(OnlineCheckError::Expired),
        _ => Ok(Asked::Given(Box::new(response))),
    }
}

/// What of `audience` and `resource` is not in the token that came, where that says whom it is for.
fn ignored(token: &TokenSettings, response: &TokenResponse) -> Option<String> {
    let request = &token.server()?.request;
    let facts = JwtFacts::read(response.access_token.expose())?;
    let is_there = |wanted: &str| {
        facts.audience().iter().any(|one| one.trim_end_matches('/') == wanted.trim_end_matches('/'))
    };
    let audience = request.audience.iter().map(|wanted| ("audience", wanted));
    let resource = request.resource.iter().map(|wanted| ("resource", wanted));
    let (key, wanted) = audience.chain(resource).find(|(_, wanted)| !is_there(wanted))?;
    Some(format!(
        "`{key}` asks for \"{wanted}\", and the token is not for that: it is {facts}; the server may name it otherwise, or \
         have ignored `{key}`"
    ))
}

/// What the files say of themselves that a refused token request was made of.
fn described(token: &TokenSettings) -> Vec<String> {
    let Some(origin) = token.server() else { return Vec::new() };
    let mut files = Vec::new();
    if let ClientAuth::AssertionFile(source) = &origin.client.auth {
        files.push(("the assertion", source));
    }
    if let GrantSettings::TokenExchange(exchange) = &origin.grant {
        if let Subject::File(source) = &exchange.subject {
            files.push(("the token to trade in", source));
        }
        files.extend(exchange.actor.iter().map(|(source, _)| ("the actor's token", source)));
    }
    let described = files.into_iter().filter_map(|(what, source)| {
        let facts = JwtFacts::read(source.read().ok()?.expose())?;
        Some(format!("{what} in {} is {facts}", source.file()?.display()))
    });
    described.collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::outbound_proxy::{ProxyFlaw, Unusable};
    use crate::net::proxy_fault::ProxyFault;
    use crate::oauth::TransportFault;

    #[test]
    fn a_proxy_at_fault_has_the_advice_that_an_upstream_has() {
        for status in [302, 407, 429, 502, 504] {
            let fault = ProxyFault::Refused(status);
            let advice =
                OnlineCheckError::Token(Error::from(TransportFault::Proxy(fault))).help("tokens.api");
            assert_eq!(advice, format!("{}; the keys are those of [tokens.api]", fault.help()));
        }
        let unusable = Unusable { by: "HTTPS_PROXY", flaw: ProxyFlaw::Malformed };
        for error in [
            OnlineCheckError::Server(ServerError::Proxy(unusable)),
            OnlineCheckError::Upstream(UpstreamError::Proxy(unusable)),
        ] {
            assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
            let advice = error.help("tokens.api");
            assert!(advice.contains("%23") && advice.contains("`proxy`"), "{advice}");
        }
    }
}
