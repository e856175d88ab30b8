//! `cupbearer run`: the proxy itself.

use clap::Args;
use cupbearer::{app, telemetry};

use super::Answer;
use super::configuration::Configuration;
use super::output::say;

/// Run the proxy
#[derive(Debug, Args)]
#[command(after_help = ELSEWHERE)]
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

const ELSEWHERE: &str = "\
CUPBEARER__HEALTH__LISTEN moves the health listener, 127.0.0.1:9901 by default.
CUPBEARER__CONTROL__LISTEN moves the control listener, 127.0.0.1:9902 by default.
Any other key has such a variable too: CUPBEARER__SECTION__KEY, with a file and without one.";
