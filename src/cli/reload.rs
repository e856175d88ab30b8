//! `cupbearer reload`: the configuration is read again, and this reports how that went.

use crate::control::ClientError;
use clap::Args;

use super::Answer;
use super::control_address::Reach;
use super::output::{answer, complain};

/// Have the running proxy read its configuration again
///
/// What has not changed is not touched. A configuration that is refused changes nothing: it says why, with exit code 1.
#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    reach: Reach,
}

impl Reload {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let client = match self.reach.client_to_reload()? {
            Ok(client) => client,
            Err(problems) => {
                complain(&format!("the configuration was refused, and what runs is unchanged:\n{problems}"));
                return Ok(Answer::No);
            }
        };
        match client.reload().await {
            Ok(reloaded) => {
                for warning in reloaded.warnings {
                    complain(&warning);
                }
                answer("the configuration was reloaded")?;
                Ok(Answer::Yes)
            }
            Err(error) => {
                complain(&error.to_string());
                if matches!(error, ClientError::NotRunning { .. }) && self.reach.is_by_configuration() {
                    complain(MOVED);
                }
                Ok(Answer::No)
            }
        }
    }
}

const MOVED: &str = "help: `listen` in [control] counts from the start of the proxy; where it has changed since, give --control with the old address";
