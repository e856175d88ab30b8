//! Where the running proxy is reached: as told, else as its configuration says, else at the default.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use cupbearer::config::{self, Options, Settings, Source};
use cupbearer::control::Client;

use super::output::complain;

/// Which running proxy is meant.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// The running proxy's configuration, which says where its listeners are
    #[arg(long, value_name = "FILE", env = "CUPBEARER_CONFIG")]
    config: Option<PathBuf>,
    /// The running proxy's control listener; default: as its configuration says, else 127.0.0.1:9902
    #[arg(long, value_name = "ADDRESS", env = "CUPBEARER_CONTROL")]
    control: Option<SocketAddr>,
}

impl Reach {
    /// The settings, where there is a configuration that can be read. What is wrong with one is for `check` to say: a
    /// proxy may run on while its file is being edited.
    pub(super) fn settings(&self) -> Option<Settings> {
        settings(self.config.clone())
    }

    pub(super) fn client(&self) -> Client {
        let told = self.control.or_else(|| Some(self.settings()?.control));
        Client::new(told.unwrap_or(CONTROL))
    }
}

/// The health listener's address: as told, else as the configuration says, else the default.
pub(super) fn health(told: Option<SocketAddr>, config: Option<PathBuf>) -> SocketAddr {
    told.or_else(|| Some(settings(config)?.health)).unwrap_or(HEALTH)
}

fn settings(config: Option<PathBuf>) -> Option<Settings> {
    let named = config.is_some();
    let source = Source::choose(config, config::Flags::default()).ok()?;
    // It is running already, so whether plain text was allowed is none of this command's business.
    let options = Options { insecure_plaintext: true };
    match config::load(&source, std::env::vars_os(), options) {
        Ok(loaded) => Some(loaded.settings),
        Err(_) if matches!(&source, Source::File(path) if !path.exists()) && !named => None,
        Err(problems) => {
            let count = problems.len();
            complain(&format!(
                "the configuration has {count} problem(s), so its addresses are not known and the defaults are tried; see cupbearer check"
            ));
            None
        }
    }
}

/// The defaults of `control.listen` and `health.listen`.
const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9902);
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
