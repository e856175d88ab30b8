//! `cupbearer run`: the proxy itself.

use clap::Args;
use cupbearer::lifecycle::process;
use cupbearer::{app, telemetry};

use super::Answer;
use super::configuration::Configuration;
use super::output::say;
use super::starting::Starting;

/// Run the proxy
#[derive(Debug, Args)]
#[command(after_help = ELSEWHERE)]
pub(super) struct Run {
    #[command(flatten)]
    configuration: Configuration,
}

impl Run {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let starting = Starting::ends_with(0);
        let private = process::keep_memory_private();
        let (source, loaded) = match self.configuration.load() {
            Ok(loaded) => loaded,
            Err(problems) => {
                say(&problems.to_string());
                return Ok(Answer::Failed);
            }
        };
        telemetry::start(&loaded.settings.log)?;
        if let Err(error) = private {
            tracing::warn!(%error, "other processes of this user may read the memory of this one");
        }
        app::run(source, self.configuration.options(), loaded, |_| drop(starting)).await?;
        Ok(Answer::Yes)
    }
}

const ELSEWHERE: &str = "\
CUPBEARER__HEALTH__LISTEN moves the health listener, 127.0.0.1:9901 by default.
CUPBEARER__CONTROL__LISTEN moves the control listener, localhost:9902 by default.
Any other key has such a variable too: CUPBEARER__SECTION__KEY, with a file and without one.";
