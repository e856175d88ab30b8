//! `cupbearer schema`: the configuration's JSON schema, for editors.

use crate::config;
use clap::Args;

use super::Answer;
use super::output::answer;

/// Print the JSON schema of the configuration
#[derive(Debug, Args)]
pub(super) struct Schema {}

impl Schema {
    #[expect(clippy::unused_self, reason = "a command like the others")]
    pub(super) fn run(self) -> anyhow::Result<Answer> {
        answer(&serde_json::to_string_pretty(&config::schema())?)?;
        Ok(Answer::Yes)
    }
}
