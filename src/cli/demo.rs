//! `cupbearer demo`: the whole thing on one machine.

use clap::Args;

use super::Answer;

/// Show it at work: an authorization server with 20-second tokens, a protected API, and the proxy before it
#[derive(Debug, Args)]
pub(super) struct Demo {}

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        Ok(Answer::Yes)
    }
}
