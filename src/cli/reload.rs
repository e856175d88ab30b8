//! `cupbearer reload`: the configuration is read again, and this reports how that went.

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
        match self.reach.client()?.reload().await {
            Ok(reloaded) => {
                for warning in reloaded.warnings {
                    complain(&warning);
                }
                answer("the configuration was reloaded")?;
                Ok(Answer::Yes)
            }
            Err(error) => {
                complain(&error.to_string());
                Ok(Answer::No)
            }
        }
    }
}
