//! `cupbearer check`: every problem of a configuration at once; with `--online`, whether it works.

use clap::Args;
use cupbearer::app;
use cupbearer::config::Loaded;

use super::Answer;
use super::configuration::Configuration;
use super::output::{answer, say};

/// Find every problem of a configuration
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Also ask each authorization server for a token, and each upstream for a connection
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    configuration: Configuration,
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let loaded = match self.configuration.load() {
            Ok((_, loaded)) => loaded,
            Err(problems) => {
                say(&problems.to_string());
                let count = problems.len();
                say(&format!("\n{count} problem{} found", if count == 1 { "" } else { "s" }));
                return Ok(Answer::No);
            }
        };
        if !loaded.warnings.is_empty() {
            say(&loaded.warnings.to_string());
        }
        if self.online {
            return online(&loaded).await;
        }
        answer("the configuration is good")?;
        Ok(Answer::Yes)
    }
}

async fn online(loaded: &Loaded) -> anyhow::Result<Answer> {
    let mut all = Answer::Yes;
    for found in app::try_out(&loaded.settings).await {
        match found.outcome {
            Ok(facts) => answer(&format!("{}: {facts}", found.what))?,
            Err(error) => {
                say(&format!("{}: {error}", found.what));
                all = Answer::No;
            }
        }
    }
    if all == Answer::Yes {
        answer("the configuration is good and works")?;
    }
    Ok(all)
}
