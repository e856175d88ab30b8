//! A reload: the configuration and the certificate of the listeners are read again while the program runs.

use std::sync::Arc;

use super::{App, facts_of, log_each};
use crate::app::certificates;
use crate::app::components::StartError;
use crate::clock;
use crate::config::{self, Loaded, Problems, Settings, Severity};
use crate::control::{LastReload, ReloadVerdict};
use crate::metrics::Reload;
use crate::net::activation;

impl App {
    /// Reads what could not be read before.
    pub(super) fn catch_up(&mut self) {
        if self.postponed_certificate.is_due() {
            let _ = self.reload_acceptor();
        }
        if self.postponed_configuration.is_due() {
            // The client that requested it has learned that it comes later.
            let _ = self.reload();
        }
    }

    /// Reads all again: the listeners' certificate and the configuration.
    pub(super) fn reload_all(&mut self) -> ReloadVerdict {
        let certificate = self.reload_acceptor();
        match (self.reload(), certificate) {
            (verdict, Ok(())) => verdict,
            (ReloadVerdict::Applied(notes) | ReloadVerdict::Refused(notes), Err(refused)) => {
                ReloadVerdict::Refused([vec![refused], notes].concat())
            }
        }
    }

    /// Has the proxy's listeners use what the files of their certificate hold now; broken ones change nothing. `Err`: why.
    pub(super) fn reload_acceptor(&mut self) -> Result<(), String> {
        let Some(reloaded) = self.acceptor.as_ref().map(|acceptor| acceptor.reload()) else { return Ok(()) };
        if self.postponed_certificate.ended("the listeners' certificate", &reloaded) {
            return Err(LATER.to_owned());
        }
        match reloaded {
            Ok(()) => {
                tracing::info!("the listeners' certificate was reloaded");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "the listeners' new certificate is refused; the old one stays");
                Err(format!("server.tls: {error}"))
            }
        }
    }

    /// Puts the configuration that there is now in force; a broken one changes nothing.
    pub(super) fn reload(&mut self) -> ReloadVerdict {
        self.manager.reloading();
        let reloaded = self.try_reload();
        self.manager.ready();
        if self.postponed_configuration.ended("the configuration", &reloaded) {
            return ReloadVerdict::Refused(vec![LATER.to_owned()]);
        }
        match reloaded {
            Ok(Applied { notes, restart_needed }) => {
                self.metrics.reloaded(Reload::Applied);
                tracing::info!("the configuration was reloaded");
                let restart_needed = restart_needed.into_iter().map(str::to_owned).collect();
                self.remember(LastReload { applied: true, restart_needed, ..LastReload::default() });
                ReloadVerdict::Applied(notes)
            }
            Err(error) => {
                self.metrics.reloaded(Reload::Refused);
                let (problems, faults): (Vec<String>, Vec<String>) = match error {
                    ReloadError::Config(problems) => {
                        log_each(&problems);
                        let faults = problems.iter().filter(|it| it.severity != Severity::Warning);
                        let faults = faults.map(ToString::to_string).collect();
                        (problems.iter().map(ToString::to_string).collect(), faults)
                    }
                    ReloadError::Start(error) => {
                        tracing::error!(%error, "it cannot be put in force");
                        (vec![error.to_string()], vec![error.to_string()])
                    }
                };
                tracing::error!("the new configuration is refused; the old one stays in force");
                let (count, first_problem) = (faults.len() as u64, faults.into_iter().next());
                self.remember(LastReload { problems: count, first_problem, ..LastReload::default() });
                ReloadVerdict::Refused(problems)
            }
        }
    }

    /// Has the status show how a reload went.
    fn remember(&self, reload: LastReload) {
        let reload = LastReload { at: clock::unix_seconds(), ..reload };
        self.facts.send_modify(|facts| Arc::make_mut(facts).last_reload = Some(reload));
    }

    /// What the user should know of what is in force now.
    fn try_reload(&mut self) -> Result<Applied, ReloadError> {
        let Loaded { mut settings, warnings, files } =
            config::load(&self.source, activation::environment(&self.variables), self.options)?;
        log_each(&warnings);
        let mut notes: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let restart_needed = self.needs_restart(&settings);
        for section in &restart_needed {
            tracing::warn!(section, "this section has changed; that counts from the next start");
            notes.push(format!("[{section}] has changed; that counts from the next start"));
        }
        settings.server = self.settings.server.clone();
        settings.health = self.settings.health;
        settings.control = self.settings.control.clone();
        settings.store = self.settings.store.clone();
        settings.log = self.settings.log.clone();
        settings.traces = self.settings.traces.clone();
        let prepared = self.components.prepare(&settings, &self.stale)?;
        let reused = self.components.reuse(prepared, &settings)?;
        self.routes.replace(reused.table);
        self.components.release(&reused.gone);
        self.facts.send_replace(Arc::new(facts_of(
            &self.source,
            &settings,
            &self.started,
            self.components.describe_store(),
        )));
        certificates::show(&settings, &self.metrics);
        self.stale.clear();
        self.files.replace(&[files, self.components.stored_files(&settings)].concat());
        self.settings = settings;
        Ok(Applied { notes, restart_needed })
    }

    /// What a reload cannot change: sockets that are bound, threads that run, the log.
    fn needs_restart(&self, new: &Settings) -> Vec<&'static str> {
        let old = &self.settings;
        let sections = [
            ("server", old.server != new.server),
            ("health", old.health != new.health),
            ("control", old.control != new.control),
            ("store", old.store != new.store),
            ("log", old.log != new.log),
            ("telemetry", old.traces != new.traces),
        ];
        sections.into_iter().filter_map(|(name, changed)| changed.then_some(name)).collect()
    }
}

/// Why a reload has no verdict yet.
const LATER: &str =
    "this machine has no descriptor left to read all files; they are read again as soon as it has";

/// What a reload that was put in force leaves to know.
struct Applied {
    /// A sentence each.
    notes: Vec<String>,
    /// Sections that count from the next start.
    restart_needed: Vec<&'static str>,
}

/// Why a reload changes nothing.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] Problems),
    #[error(transparent)]
    Start(#[from] StartError),
}
