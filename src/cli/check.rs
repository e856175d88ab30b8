//! `cupbearer check`: every problem of a configuration at once; with `--online`, whether it works.

use crate::app;
use crate::config::{Loaded, Problems, Severity, Source};
use clap::Args;

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
        let (source, loaded) = match self.configuration.load(std::env::vars_os()) {
            Ok(loaded) => loaded,
            Err(problems) => {
                say(&format!("{problems}\n\n{}", count(&problems, 0)));
                return Ok(Answer::No);
            }
        };
        if !loaded.warnings.is_empty() {
            say(&loaded.warnings.to_string());
        }
        if let Some(bound) = app::DescriptorBound::of(&loaded.settings) {
            say(&bound.to_string());
        }
        answer(&format!("memory_limit: {}", loaded.settings.server.memory_limit.budget()))?;
        if self.online {
            return online(&source, &loaded).await;
        }
        answer("the configuration is good")?;
        Ok(Answer::Yes)
    }
}

async fn online(source: &Source, loaded: &Loaded) -> anyhow::Result<Answer> {
    let place = match source {
        Source::File(path) => path.display().to_string(),
        Source::Text { name, .. } => name.clone(),
        Source::Flags(_) => "command line".to_owned(),
    };
    let (mut failed, mut noted) = (0, 0);
    for found in app::check_online(&loaded.settings).await {
        match found.outcome {
            Ok(facts) => answer(&format!("{}: {facts}", found.key))?,
            Err(error) => {
                say(&format!("{place}: {}: {error}\n    help: {}", found.key, error.help(&found.key)));
                failed += 1;
            }
        }
        for note in &found.notes {
            say(&format!("{place}: {}: note: {note}", found.key));
            noted += 1;
        }
    }
    if failed > 0 {
        say(&format!("\n{}", count(&loaded.warnings, failed)));
        return Ok(Answer::No);
    }
    answer(match noted {
        0 => "the configuration is good and works",
        _ => "the configuration is good, and works as far as the notes say",
    })?;
    Ok(Answer::Yes)
}

/// How many `problems` there are and how many warnings, `more` problems beside them included.
fn count(problems: &Problems, more: usize) -> String {
    let warnings = problems.iter().filter(|problem| problem.severity == Severity::Warning).count();
    let errors = problems.len() - warnings + more;
    let many = |count, word| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match warnings {
        0 => many(errors, "problem") + " found",
        _ => format!("{} and {} found", many(errors, "problem"), many(warnings, "warning")),
    }
}
