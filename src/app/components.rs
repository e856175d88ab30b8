//! The running components that a configuration makes, and how the next configuration takes over those that it shares.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::config::Settings;
use crate::machine::Lack;
use crate::net::activation::PassedError;
use crate::net::local_address::LocalAddress;
use crate::net::network_monitor;
use crate::net::tls::TlsError;
use crate::oauth::ServerError;
use crate::proxy::{LinkError, ListenError, ProxyMetrics, RouteTable, Upstream, UpstreamError};
use crate::token::{
    Origin, Persons, RenewerHandle, Source, Sources, Store, StoreError, TokenHandle, TokenRegistry,
    TokenSettings,
};
use crate::traces::TracesError;

/// Why the program cannot run with a configuration that is well-formed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// An address cannot be listened on.
    #[error("{section}.listen: {source}\n    help: {}", help(section, .source))]
    Listen {
        /// Which section of the configuration names it: `server`, `health`, `control`.
        section: &'static str,
        /// What the system said.
        source: ListenError,
    },
    /// A socket that the service manager passes cannot be used.
    #[error(transparent)]
    Passed(#[from] PassedError),
    /// The TLS of the proxy's listeners cannot be set up.
    #[error("server.tls: {0}")]
    Tls(#[source] TlsError),
    /// The way to an upstream cannot be set up.
    #[error("upstreams.{name}: {source}{}", of_upstream(.source))]
    Upstream {
        /// Its name.
        name: String,
        /// Why.
        source: UpstreamError,
    },
    /// The way to an authorization server cannot be set up.
    #[error("tokens.{name}: {source}{}", of_server(.source))]
    Server {
        /// The token's name.
        name: String,
        /// Why.
        source: ServerError,
    },
    /// The way of traces to their collector cannot be set up.
    #[error("telemetry: {0}")]
    Traces(#[from] TracesError),
    /// The store cannot be used.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// A route leads nowhere.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The system refused something that the program cannot do without.
    #[error("the system refused {what}: {source}")]
    System {
        /// What it refused.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

impl StartError {
    /// Whether the same configuration may do at another time: an address that comes, a port that is given back, a file that is
    /// written.
    #[must_use]
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Listen { source: ListenError { source, .. }, .. } => {
                let passes = [ErrorKind::AddrInUse, ErrorKind::AddrNotAvailable, ErrorKind::NotFound];
                passes.contains(&source.kind()) || Lack::of(source).is_some()
            }
            Self::Tls(error)
            | Self::Upstream { source: UpstreamError::Tls(error), .. }
            | Self::Server { source: ServerError::Tls(error), .. }
            | Self::Traces(TracesError::Tls(error)) => error.may_pass(),
            Self::Store(error) => error.may_pass(),
            Self::System { .. } => true,
            Self::Passed(_)
            | Self::Upstream { .. }
            | Self::Server { .. }
            | Self::Traces(_)
            | Self::Link(_) => false,
        }
    }
}

/// What to do about an upstream that cannot be set up, behind what happened.
fn of_upstream(error: &UpstreamError) -> String {
    if let UpstreamError::Proxy(proxy) = error { format!("; {}", proxy.help()) } else { String::new() }
}

/// The same of an authorization server.
fn of_server(error: &ServerError) -> String {
    if let ServerError::Proxy(proxy) = error { format!("; {}", proxy.help()) } else { String::new() }
}

/// The variable is named because it works with a file and with flags alone.
fn help(section: &str, error: &ListenError) -> String {
    if let Some(lack) = Lack::of(&error.source) {
        return lack.help().to_owned();
    }
    let elsewhere = format!(
        "choose another address: `listen` in [{section}], or the variable CUPBEARER__{}__LISTEN",
        section.to_ascii_uppercase()
    );
    match error.source.kind() {
        ErrorKind::AddrInUse if matches!(error.address, LocalAddress::Abstract(_)) => format!(
            "another program of this network namespace has that name (on a node's own network all pods share one): end it, or \
             {elsewhere}"
        ),
        ErrorKind::AddrInUse => format!("end the program that listens there, or {elsewhere}"),
        ErrorKind::PermissionDenied if !matches!(error.address, LocalAddress::Tcp(_)) => {
            format!(
                "its directory must be writable for this user, and an old socket there its own; or {elsewhere}"
            )
        }
        ErrorKind::PermissionDenied => {
            format!("ports below 1024 need a privilege; {elsewhere}")
        }
        ErrorKind::AddrNotAvailable => {
            format!("no interface of this machine has that address; {elsewhere}")
        }
        ErrorKind::AlreadyExists => {
            format!("a file that is no socket is there: move it away, or {elsewhere}")
        }
        ErrorKind::NotFound => format!("its directory does not exist: make it, or {elsewhere}"),
        _ => elsewhere,
    }
}

/// Tokens and upstreams, by name: what a reload keeps where it can.
#[derive(Debug)]
pub(super) struct Components {
    renewer: RenewerHandle,
    registry: TokenRegistry,
    store: Store,
    persons: Persons,
    upstreams: Vec<Arc<Upstream>>,
    metrics: ProxyMetrics,
}

/// Components that were made for a configuration and are not in force yet: making them can fail, putting them in force cannot.
pub(super) struct Prepared {
    upstreams: Vec<Arc<Upstream>>,
    sources: BTreeMap<String, (TokenSettings, Arc<dyn Source>)>,
}

/// The hosts that each token is sent to.
fn hosts(settings: &Settings) -> BTreeMap<String, BTreeSet<String>> {
    let mut hosts = BTreeMap::<String, BTreeSet<String>>::new();
    for route in &settings.routes {
        let upstream = settings.upstreams.get(&route.upstream);
        if let (Some(token), Some(host)) =
            (&route.token, upstream.and_then(|upstream| upstream.url.host_str()))
        {
            hosts.entry(token.clone()).or_default().insert(host.to_owned());
        }
    }
    hosts
}

/// What is to be put in force.
pub(super) struct Reused {
    pub(super) table: RouteTable,
    /// Tokens that were in force, and are not in the new configuration.
    pub(super) gone: Vec<TokenHandle>,
}

impl Components {
    pub(super) fn new(
        renewer: RenewerHandle,
        registry: TokenRegistry,
        store: Store,
        metrics: ProxyMetrics,
    ) -> Self {
        Self { renewer, registry, store, persons: Persons::default(), upstreams: Vec::new(), metrics }
    }

    /// Makes what `settings` needs and is not there yet, or trusts a file of authorities that is `stale`: the settings
    /// name that file alone, and so are the same as before. A client certificate is in them whole.
    pub(super) fn prepare(
        &self,
        settings: &Settings,
        stale: &BTreeSet<PathBuf>,
    ) -> Result<Prepared, StartError> {
        let upstreams = settings.upstreams.iter().map(|(name, wanted)| {
            let fresh = wanted.ca_file.as_ref().is_none_or(|file| !stale.contains(file));
            let there = self.upstreams.iter().find(|upstream| fresh && upstream.is_made_of(name, wanted));
            match there {
                Some(upstream) => Ok(Arc::clone(upstream)),
                None => Upstream::new(name, wanted.clone())
                    .map(Arc::new)
                    .map_err(|source| StartError::Upstream { name: name.clone(), source }),
            }
        });
        let upstreams = upstreams.collect::<Result<_, _>>()?;
        let held = self.registry.load();
        let mut makers = Sources::new(self.registry.clone(), self.store.clone()).of(self.persons.clone());
        let mut sources = BTreeMap::new();
        for (name, wanted) in &settings.tokens {
            let ca_file = wanted.server().and_then(|origin| origin.server.transport.ca_file.as_ref());
            let fresh = ca_file.is_none_or(|file| !stale.contains(file));
            if held.get(name).is_some_and(|token| fresh && token.settings() == wanted) {
                continue;
            }
            let source = makers
                .make(name, wanted)
                .map_err(|source| StartError::Server { name: name.clone(), source })?;
            sources.insert(name.clone(), (wanted.clone(), source));
        }
        Ok(Prepared { upstreams, sources })
    }

    /// Takes `prepared` up: new and changed tokens are asked for, the others untouched. The caller puts the table of
    /// routes in force, and then has the tokens that are `gone` let go: until that moment requests may want them.
    pub(super) fn reuse(&mut self, prepared: Prepared, settings: &Settings) -> Result<Reused, StartError> {
        // Before a new source asks for its first token.
        self.registry.set_hosts(hosts(settings));
        let held = self.registry.load();
        let mut tokens = BTreeMap::new();
        for name in settings.tokens.keys() {
            if !prepared.sources.contains_key(name)
                && let Some(token) = held.get(name)
            {
                tokens.insert(name.clone(), token.clone());
            }
        }
        let kept: BTreeSet<String> = tokens.keys().cloned().collect();
        let gone = held.values().filter(|token| !tokens.contains_key(token.name())).cloned().collect();
        let wanted = settings;
        for (name, (settings, source)) in prepared.sources {
            let token = match held.get(&name).filter(|token| keeps_credentials(token, &settings, wanted)) {
                Some(held) => self.renewer.add_in_place_of(held, settings, source),
                None => self.renewer.add(name.clone(), settings, source),
            };
            tokens.insert(name, token);
        }
        let table = RouteTable::link(
            settings.guard.clone(),
            &settings.routes,
            prepared.upstreams.clone(),
            |name| tokens.get(name).cloned(),
            &self.metrics,
        )?;
        self.upstreams = prepared.upstreams;
        // One that is traded for another is of no more use than the one it was traded for.
        let replaced: Vec<TokenHandle> = tokens
            .values()
            .filter(|token| {
                let subject = token.settings().subject();
                held.contains_key(token.name()) && subject.is_some_and(|name| !kept.contains(name))
            })
            .cloned()
            .collect();
        self.registry.replace(tokens);
        for token in &replaced {
            token.replace();
        }
        Ok(Reused { table, gone })
    }

    /// Lets go of tokens that no route in force wants any more.
    pub(super) fn release(&self, gone: &[TokenHandle]) {
        for token in gone {
            tracing::info!(token = token.name(), "the token is no longer configured this way and is let go");
            self.renewer.remove(token);
        }
    }

    /// Says that the network has changed: connections of before are not used again, and tokens that could not be had for lack
    /// of one are tried again.
    pub(super) fn network_changed(&self) {
        network_monitor::moved();
        self.wake_by_network();
    }

    /// Has tokens that could not be had for lack of a network tried again.
    pub(super) fn wake_by_network(&self) {
        for token in self.registry.load().values() {
            token.wake_by_network();
        }
    }

    /// Says that what was far ahead may be due.
    pub(super) fn clock_jumped(&self) {
        self.renewer.look_at_the_clock();
    }

    /// Gives back the tokens that are to be revoked at the end, all at once: within `left`, and [`LEAST`] where that is
    /// less.
    pub(super) async fn give_back(&self, left: Duration) {
        let bound = left.clamp(LEAST, GIVE_BACK);
        let held = self.registry.load();
        let leaving = held.values().filter(|token| token.settings().revoke_on_exit);
        let each = leaving.map(|token| async move {
            match timeout(bound, token.forget()).await {
                Ok(Ok(())) => tracing::info!(token = token.name(), "the token was revoked"),
                Ok(Err(error)) => tracing::warn!(token = token.name(), %error, "the token was not revoked"),
                Err(_elapsed) => tracing::warn!(token = token.name(), "the token was not revoked in time"),
            }
        });
        join_all(each).await;
    }

    /// The store's files: of tokens that are in it, another process may write one.
    pub(super) fn stored_files(&self, settings: &Settings) -> Vec<PathBuf> {
        settings.tokens.keys().filter_map(|name| self.store.file(name)).collect()
    }

    /// What it is and where.
    pub(super) fn describe_store(&self) -> String {
        self.store.describe()
    }

    /// Waits for what is being spent to be written, and for what could not be written yet: at most `left`, and [`LEAST`]
    /// where that is less.
    pub(super) async fn flush(&self, left: Duration) {
        self.store.flush(left.max(LEAST)).await;
    }

    /// Tells the tokens whose secret is in `file`, or that are stored there, that it has changed.
    pub(super) fn secret_changed(&self, file: &Path) {
        for token in self.registry.load().values() {
            let read = token.settings().files().contains(&file);
            // One that is gone brings nothing new: a logout takes it away.
            let stored = self.store.file(token.name()).is_some_and(|stored| stored == file) && file.exists();
            if read || stored {
                tracing::debug!(token = token.name(), file = %file.display(), "a file of the token has changed");
            }
            if read {
                token.wake();
            } else if stored {
                token.wake_by_store();
            }
        }
    }
}

/// Whether what `held` holds is as good under `settings`: files of the way to its server have changed, and nothing else. A
/// token may be bound to the client certificate (RFC 8705 section 3) where an upstream is shown one: then it is not.
fn keeps_credentials(held: &TokenHandle, settings: &TokenSettings, all: &Settings) -> bool {
    let mut same = settings.clone();
    let is_shown = all
        .routes
        .iter()
        .filter(|route| route.token.as_deref() == Some(held.name()))
        .any(|route| all.upstreams.get(&route.upstream).is_some_and(|up| up.certificate.is_some()));
    if let (Origin::Server(same), Some(before), false) =
        (&mut same.origin, held.settings().server(), is_shown)
    {
        same.server.transport.certificate.clone_from(&before.server.transport.certificate);
    }
    same == *held.settings()
}

/// How long the end waits at the most for tokens to be revoked.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// How long the end waits at the least for each: for tokens to be revoked, and for the answer to a token request that
/// spends a refresh token. With the default `drain_timeout` of 25 s it stays within the 30 s that a pod is given.
const LEAST: Duration = Duration::from_secs(2);
