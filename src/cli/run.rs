//! `cupbearer run`: the proxy itself.

use clap::Args;
use cupbearer::{app, telemetry};

use super::Answer;
use super::configuration::Configuration;
use super::output::say;

/// Run the proxy
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    configuration: Configuration,
}

impl Run {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let (source, loaded) = match self.configuration.load() {
            Ok(loaded) => loaded,
            Err(problems) => {
                say(&problems.to_string());
                return Ok(Answer::Failed);
            }
        };
        telemetry::start(&loaded.settings.log)?;
        app::run(source, self.configuration.options(), loaded, |_| {}).await?;
        Ok(Answer::Yes)
    }
}
