//! `cupbearer run`: the proxy itself.

use crate::app::{self, Supervisor};
use crate::lifecycle::{ServiceManager, process};
use crate::net::activation::{self, Passed};
use crate::telemetry;
use clap::Args;

use super::Answer;
use super::configuration::Configuration;
use super::output::fail;
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
        let mut manager = ServiceManager::of_this_process();
        // Before there is another thread.
        let passed = match Passed::receive() {
            Ok(passed) => passed,
            Err(error) => return Ok(ended(&mut manager, &error.to_string(), Answer::Failed)),
        };
        let starting = Starting::ends_with(0);
        let private = process::keep_memory_private();
        let (source, loaded) = match self.configuration.load(activation::environment(&passed.variables())) {
            Ok(loaded) => loaded,
            Err(problems) => {
                let answer = if problems.may_pass() { Answer::NotYet } else { Answer::Failed };
                return Ok(ended(&mut manager, &problems.to_string(), answer));
            }
        };
        telemetry::start(&loaded.settings.log)?;
        manager.log_unreachable();
        if let Err(error) = private {
            tracing::warn!(%error, "other processes of this user may read the memory of this one");
        }
        let supervisor = Supervisor { passed, manager: manager.clone() };
        let started = |_: &_| drop(starting);
        match app::run(source, self.configuration.options(), loaded, supervisor, started).await {
            Ok(()) => Ok(Answer::Yes),
            Err(error) => {
                let answer = if error.may_pass() { Answer::NotYet } else { Answer::Failed };
                Ok(ended(&mut manager, &super::told(&error.into()), answer))
            }
        }
    }
}

/// Reports why it ends, to people and to the service manager, which shows the first line.
fn ended(manager: &mut ServiceManager, text: &str, answer: Answer) -> Answer {
    fail(text);
    manager.status(text.lines().next().unwrap_or_default());
    answer
}

const ELSEWHERE: &str = "\
CUPBEARER__HEALTH__LISTEN moves the health listener, 127.0.0.1:9901 by default.
CUPBEARER__CONTROL__LISTEN moves the control listener, localhost:9902 by default.
Any other key has such a variable too: CUPBEARER__SECTION__KEY, with a file and without one.";
