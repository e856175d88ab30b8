//! The program's life: start, reload, end.

mod listeners;
mod reload;
mod supervision;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::bounds::DescriptorBound;
use super::certificates;
use super::components::{Components, StartError};
use super::postponed::Postponed;
use crate::clock::{self, ClockWatch, Jump};
use crate::config::{Loaded, Options, Problem, Problems, Settings, Severity, Source};
use crate::control::{self, ControlState, Facts, Listener, ReloadRequest};
use crate::health::{self, HealthState};
use crate::lifecycle::{DrainTrigger, ServiceManager, process};
use crate::machine::Lack;
use crate::metrics::{CertificateUse, Metrics};
use crate::net::acceptor::Acceptor;
use crate::net::files::{LOOK_INTERVAL, Watched};
use crate::net::local_address::LocalAddress;
use crate::net::network_monitor::{Change, NetworkMonitor};
use crate::net::resolver;
use crate::net::threads::{SECRETS, STORE};
use crate::proxy::{ListenAddress, ProxyMetrics, Records, Routes, Workers};
use crate::telemetry;
use crate::token::{Limits, Renewer, StoreAlarm, TokenRegistry, open_store};
use crate::traces::{Export, Traces};

use listeners::Bound;
pub(crate) use supervision::Supervisor;

/// Where a program that has started listens: where port 0 was asked for, the port that it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    /// The proxy.
    pub proxy: Vec<ListenAddress>,
    /// `/livez`, `/readyz`, `/metrics`.
    pub health: SocketAddr,
    /// `/status` and the commands; `None`: there is no control surface.
    pub control: Option<LocalAddress>,
}

impl Started {
    fn log(&self) {
        for address in &self.proxy {
            tracing::info!(%address, "listening");
        }
        tracing::info!(address = %self.health, "listening for /livez, /readyz and /metrics");
        if let Some(address) = &self.control {
            log_control(address);
        }
    }
}

fn log_control(address: &impl Display) {
    tracing::info!(%address, "listening for the dashboard, /status and commands");
}

/// Runs the proxy until SIGTERM or SIGINT, and ends it in order: not ready, `drain_delay`, nothing new accepted, requests
/// under way finished within `drain_timeout`. SIGHUP, and a change of the configuration's file, reload it. `loaded` is
/// what `source` holds now; `supervisor` is what the service manager gave; `started` is called once everything listens.
///
/// # Errors
/// [`StartError`] where it cannot start, or loses a worker later on.
pub(crate) async fn run(
    source: Source,
    options: Options,
    loaded: Loaded,
    supervisor: Supervisor,
    started: impl FnOnce(&Started),
) -> Result<(), StartError> {
    let mut signals =
        Signals::new().map_err(|source| StartError::System { what: "signal handlers", source })?;
    let mut app = App::start(source, options, loaded, supervisor).await?;
    started(&app.started);
    // A server that is down is no reason to be started again: it is ready to be used once it listens.
    app.manager.ready();
    let ended = app.serve(&mut signals).await;
    app.end(&mut signals).await;
    ended
}

struct App {
    source: Source,
    options: Options,
    /// What the sockets that were passed set in the configuration.
    variables: Vec<(OsString, OsString)>,
    manager: ServiceManager,
    settings: Settings,
    started: Started,
    files: Watched,
    /// Files of certificates and authorities that have changed since the components in force were made of them.
    stale: BTreeSet<PathBuf>,
    clocks: ClockWatch,
    network: NetworkMonitor,
    components: Components,
    /// TLS on the proxy's listeners.
    acceptor: Option<Arc<Acceptor>>,
    postponed_certificate: Postponed,
    postponed_configuration: Postponed,
    routes: Arc<Routes>,
    metrics: Metrics,
    facts: watch::Sender<Arc<Facts>>,
    /// Reloads that the control surface is asked for.
    reload_requests: mpsc::Receiver<ReloadRequest>,
    workers: Workers,
    /// What sends the spans of traces.
    export: Option<Export>,
    /// Requests under way: the workers hold its other end.
    requests: DrainTrigger,
    /// Told that the end has begun; it goes on answering.
    health: HealthState,
    /// What goes on until the last request has ended.
    rest: DrainTrigger,
    /// Health and control; they end with it.
    _surfaces: JoinSet<()>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl App {
    async fn start(
        source: Source,
        options: Options,
        loaded: Loaded,
        supervisor: Supervisor,
    ) -> Result<Self, StartError> {
        let Loaded { settings, warnings, files } = loaded;
        let Supervisor { passed, manager } = supervisor;
        let variables = passed.variables();
        if let Some(DescriptorBound { limit, max_connections, connections, upstream_connections }) =
            DescriptorBound::of(&settings)
        {
            tracing::warn!(
                limit,
                max_connections,
                connections,
                upstream_connections,
                "the limit of open files bounds connections; raise it (ulimit -n, LimitNOFILE of systemd)"
            );
        }
        log_each(&warnings);
        for started in [SECRETS.start(), STORE.start(), resolver::TOKENS.start(), resolver::REQUESTS.start()]
        {
            let lacking = |_| StartError::System { what: "threads", source: io::Error::other(Lack::Threads) };
            started.map_err(lacking)?;
        }
        let Bound { proxy: listeners, health, control, other_control, started } =
            Bound::bind(&settings, passed).await?;
        let acceptor = acceptor(&settings)?;

        let metrics = Metrics::new();
        telemetry::register(&metrics);
        if let Some(acceptor) = &acceptor {
            acceptor.register(&metrics, CertificateUse::Server);
        }
        certificates::show(&settings, &metrics);
        let proxy_metrics = ProxyMetrics::new(&metrics);
        let (traces, export) = Traces::start(&settings.traces, &metrics)?;
        let alarm = StoreAlarm::new(&metrics);
        let store = open_store(&settings.store, &alarm).map_err(StartError::Store)?;
        let (requests, requests_drain) = DrainTrigger::new();
        let (rest, rest_drain) = DrainTrigger::new();
        let renewer = Renewer::spawn_traced(Limits::default(), rest_drain, &metrics, traces.clone());
        let registry = TokenRegistry::default();
        let mut components = Components::new(renewer, registry.clone(), store, proxy_metrics.clone());
        let prepared = components.prepare(&settings, &BTreeSet::new())?;
        let routes = Arc::new(Routes::new(components.reuse(prepared, &settings)?.table));
        let workers = listeners
            .serve(
                settings.server.clone(),
                acceptor.clone(),
                Arc::clone(&routes),
                proxy_metrics,
                Records { access_log: settings.log.access, traces },
                &requests_drain,
            )
            .map_err(|source| StartError::System { what: "a worker's thread", source })?;

        let (facts, facts_seen) =
            watch::channel(Arc::new(facts_of(&source, &settings, &started, components.describe_store())));
        let (reloads, reload_requests) = control::reload_requests();
        let mut surfaces = JoinSet::new();
        let health_state = HealthState::new(registry.clone(), metrics.clone(), settings.health.ready);
        surfaces.spawn(health::serve(health, health_state.clone()));
        surfaces.spawn(manager.clone().keep_alive());
        if let Some(listener) = control {
            let (control, metrics) = (settings.control.clone(), metrics.clone());
            let state = ControlState::new(control, registry, facts_seen, reloads, alarm, metrics);
            if let Some((other, address)) = other_control {
                log_control(&address);
                surfaces.spawn(control::serve_too(other, state.clone()));
            }
            surfaces.spawn(control::serve(listener, state));
        }
        started.log();
        let files = Watched::new(&[files, components.stored_files(&settings)].concat());
        Ok(Self {
            source,
            options,
            variables,
            manager,
            settings,
            started,
            files,
            stale: BTreeSet::new(),
            clocks: ClockWatch::new(),
            network: NetworkMonitor::new(),
            components,
            acceptor,
            postponed_certificate: Postponed::default(),
            postponed_configuration: Postponed::default(),
            routes,
            metrics,
            facts,
            reload_requests,
            workers,
            export,
            requests,
            health: health_state,
            rest,
            _surfaces: surfaces,
        })
    }

    /// Serves until a signal to end.
    async fn serve(&mut self, signals: &mut Signals) -> Result<(), StartError> {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return Ok(()),
                _ = signals.interrupt.recv() => return Ok(()),
                _ = signals.hangup.recv() => {
                    tracing::info!("SIGHUP: reloading the configuration");
                    // The log has it.
                    let _ = self.reload_all();
                }
                Some(request) = self.reload_requests.recv() => {
                    tracing::info!("the control surface requests a reload of the configuration");
                    request.report(self.reload_all());
                }
                change = self.network.changed() => match change {
                    Change::Network => {
                        tracing::debug!("the network has changed");
                        self.components.network_changed();
                    }
                    Change::Echo => self.components.wake_by_network(),
                },
                _ = looks.tick() => {
                    process::reap_orphans();
                    self.look_at_clocks();
                    self.look_at_files();
                    self.catch_up();
                    self.report_status();
                    if let Some(acceptor) = &self.acceptor {
                        acceptor.report_failures();
                    }
                    if self.workers.any_ended() {
                        let source = io::Error::other("it ended; the log says why");
                        return Err(StartError::System { what: "to keep a worker", source });
                    }
                }
            }
        }
    }

    /// After a sleep, and after the wall clock was put forward, tokens may be due that no timer knows of.
    fn look_at_clocks(&mut self) {
        let Some(Jump { slept, put_forward }) = self.clocks.look() else { return };
        tracing::info!(
            slept_seconds = slept.as_secs(),
            put_forward_seconds = put_forward.as_secs(),
            "the clock has jumped; tokens that are due by now are renewed"
        );
        self.components.clock_jumped();
        if !slept.is_zero() {
            self.components.network_changed();
        }
    }

    fn look_at_files(&mut self) {
        let changed = self.files.changed();
        if changed.is_empty() {
            return;
        }
        let own = match &self.source {
            Source::File(path) => Some(path.clone()),
            Source::Text { .. } | Source::Flags(_) => None,
        };
        let mut reload = None;
        let certificates = self.settings.certificate_files();
        if self
            .acceptor
            .iter()
            .flat_map(|acceptor| acceptor.files())
            .any(|own| changed.iter().any(|file| file == own))
        {
            let _ = self.reload_acceptor();
        }
        for file in &changed {
            if Some(file) == own.as_ref() {
                reload = Some("the configuration's file has changed");
                continue;
            }
            self.components.secret_changed(file);
            if certificates.contains(file) {
                tracing::info!(file = %file.display(), "a certificate, its key or its authorities have changed");
                self.stale.insert(file.clone());
                reload.get_or_insert("connections are made with what the files hold now");
            }
            if self.settings.guard_secret_file.as_ref() == Some(file) {
                reload.get_or_insert("the file of the shared secrets has changed");
            }
        }
        if let Some(reason) = reload {
            tracing::info!("{reason}");
            let _ = self.reload();
        }
        // Those that assertions name are read at each use, without a reload.
        certificates::show(&self.settings, &self.metrics);
    }

    /// Ends in order. A second signal ends the delay, or at once.
    async fn end(mut self, signals: &mut Signals) {
        self.report_end();
        self.health.draining();
        drop(self.reload_requests);
        self.facts.send_modify(|facts| Arc::make_mut(facts).draining = true);
        let drain_delay = self.settings.server.drain_delay;
        if !drain_delay.is_zero() {
            tracing::info!(
                ?drain_delay,
                "not ready any more; connections are accepted until the delay is over"
            );
            tokio::select! {
                () = tokio::time::sleep(drain_delay) => {}
                () = signals.end() => tracing::info!("second signal received; the delay is over"),
            }
        }
        let (started, drain_timeout) = (clock::now(), self.settings.server.drain_timeout);
        let left = |started: Instant| drain_timeout.saturating_sub(started.elapsed());
        tracing::info!(?drain_timeout, "ending: finishing the requests under way");
        self.manager.status(supervision::DRAINS);
        self.requests.start();
        tokio::select! {
            () = self.requests.finished() => {}
            () = signals.end() => tracing::warn!("told twice to end: the requests under way are cut"),
        }
        tokio::select! {
            () = self.components.give_back(left(started)) => {}
            () = signals.end() => tracing::warn!("told twice to end: tokens are not given back"),
        }
        self.rest.start();
        tokio::select! {
            () = self.rest.finished() => {}
            () = signals.end() => tracing::warn!("told twice to end: token requests under way are cut"),
        }
        // An answer that is on its way may bring a refresh token that is good once: it gets what is left of the time.
        self.components.flush(left(started)).await;
        if let Some(export) = self.export {
            tokio::select! {
                () = export.end() => {}
                () = signals.end() => tracing::warn!("told twice to end: the last spans are not sent"),
            }
        }
        self.routes.finish_logs();
        if let Some(acceptor) = &self.acceptor {
            acceptor.finish();
        }
        tracing::info!("ended");
    }
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Ends at SIGTERM or SIGINT.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A line for each problem of a configuration.
fn log_each(problems: &Problems) {
    for Problem { severity, origin, key, what, help } in problems {
        match severity {
            Severity::Error | Severity::Awaited => tracing::error!(%key, %origin, help, "{what}"),
            Severity::Warning => tracing::warn!(%key, %origin, help, "{what}"),
        }
    }
}

/// TLS on the proxy's listeners, where it is configured.
fn acceptor(settings: &Settings) -> Result<Option<Arc<Acceptor>>, StartError> {
    let Some(tls) = &settings.server.tls else { return Ok(None) };
    let loaded = Acceptor::load(&tls.cert_file, &tls.key_file, tls.client_ca_file.as_deref());
    Ok(Some(Arc::new(loaded.map_err(StartError::Tls)?)))
}

fn facts_of(source: &Source, settings: &Settings, started: &Started, store: String) -> Facts {
    let config_file: Option<PathBuf> = match source {
        Source::File(path) => Some(path.clone()),
        Source::Text { .. } | Source::Flags(_) => None,
    };
    let listener =
        |name: &str, address: &dyn Display| Listener { name: name.into(), address: address.to_string() };
    let mut listeners: Vec<_> = started.proxy.iter().map(|address| listener("proxy", address)).collect();
    listeners.push(listener("health", &started.health));
    listeners.extend(started.control.iter().map(|address| listener("control", address)));
    let routes = settings.routes.iter().map(|route| control::Route {
        path: route.path.clone(),
        host: route.host.clone(),
        methods: route.methods.iter().map(ToString::to_string).collect(),
        upstream: route.upstream.clone(),
        token: route.token.clone(),
    });
    let (routes, access) = (routes.collect(), settings.access());
    Facts { config_file, store, listeners, routes, access, draining: false, last_reload: None }
}
