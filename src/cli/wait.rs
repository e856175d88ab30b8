//! `cupbearer wait`: ends once the proxy is ready.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{clock, config, health};
use clap::Args;

use super::Answer;
use super::control_address;
use super::output::complain;

/// Wait until the running proxy is ready
#[derive(Debug, Args)]
pub(super) struct Wait {
    /// For how long: 500ms, 30s, 5m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// The running proxy's configuration, which says where its listeners are
    #[arg(long, value_name = "FILE", env = "CUPBEARER_CONFIG")]
    config: Option<PathBuf>,
    /// The running proxy's health listener; default: as `CUPBEARER__HEALTH__LISTEN` says, else its configuration, else
    /// 127.0.0.1:9901
    #[arg(long, value_name = "ADDRESS", env = "CUPBEARER_HEALTH", value_parser = control_address::address)]
    health: Option<SocketAddr>,
}

impl Wait {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let address = control_address::health(self.health, self.config)?;
        match health::wait_ready(address, clock::now() + self.timeout).await {
            Ok(()) => Ok(Answer::Yes),
            Err(error) => {
                complain(&error.to_string());
                Ok(Answer::No)
            }
        }
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    config::duration(text).ok_or("a duration is a number and a unit: 500ms, 30s, 5m, 1h")
}
