//! A reload: the configuration and the certificate of the listeners are read again while the program runs.

use std::sync::Arc;

use super::{App, facts_of, log_each};
use crate::app::certificates;
use crate::app::parts::StartError;
use crate::config::{self, Loaded, Problems, Settings};
use crate::metrics::Reload;

impl App {
    /// Reads what could not be read before.
    pub(super) fn catch_up(&mut self) {
        if self.postponed_certificate.is_due() {
            self.reload_acceptor();
        }
        if self.postponed_configuration.is_due() {
            self.reload();
        }
    }

    /// Has the proxy's listeners use what the files of their certificate hold now; broken ones change nothing.
    pub(super) fn reload_acceptor(&mut self) {
        let Some(reloaded) = self.acceptor.as_ref().map(|acceptor| acceptor.reload()) else { return };
        if self.postponed_certificate.ended("the listeners' certificate", &reloaded) {
            return;
        }
        match reloaded {
            Ok(()) => tracing::info!("the listeners' certificate was reloaded"),
            Err(error) => {
                tracing::warn!(%error, "the listeners' new certificate is refused; the old one stays");
            }
        }
    }

    /// Puts the configuration that there is now in force; a broken one changes nothing.
    pub(super) fn reload(&mut self) {
        let reloaded = self.try_reload();
        if self.postponed_configuration.ended("the configuration", &reloaded) {
            return;
        }
        match reloaded {
            Ok(()) => {
                self.metrics.reloaded(Reload::Applied);
                tracing::info!("the configuration was reloaded");
            }
            Err(error) => {
                self.metrics.reloaded(Reload::Refused);
                match error {
                    ReloadError::Config(problems) => log_each(&problems),
                    ReloadError::Start(error) => tracing::error!(%error, "it cannot be put in force"),
                }
                tracing::error!("the new configuration is refused; the old one stays in force");
            }
        }
    }

    fn try_reload(&mut self) -> Result<(), ReloadError> {
        let Loaded { mut settings, warnings, files } =
            config::load(&self.source, std::env::vars_os(), self.options)?;
        log_each(&warnings);
        for section in self.needs_restart(&settings) {
            tracing::warn!(section, "this section has changed; that counts from the next start");
        }
        settings.server = self.settings.server.clone();
        settings.health = self.settings.health;
        settings.control = self.settings.control.clone();
        settings.store = self.settings.store.clone();
        settings.log = self.settings.log.clone();
        settings.traces = self.settings.traces.clone();
        let prepared = self.parts.prepare(&settings, &self.stale)?;
        let adopted = self.parts.adopt(prepared, &settings)?;
        self.routes.replace(adopted.table);
        self.parts.let_go(&adopted.gone);
        self.facts.send_replace(Arc::new(facts_of(
            &self.source,
            &settings,
            &self.started,
            self.parts.describe_store(),
        )));
        certificates::show(&settings, &self.metrics);
        self.stale.clear();
        self.files.replace(&[files, self.parts.stored_files(&settings)].concat());
        self.settings = settings;
        Ok(())
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

/// Why a reload changes nothing.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] Problems),
    #[error(transparent)]
    Start(#[from] StartError),
}
