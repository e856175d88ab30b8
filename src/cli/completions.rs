//! `cupbearer completions`: a script that completes the command line in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::output::answer;
use super::{Answer, Cli};

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<Answer> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "cupbearer", &mut script);
        answer(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Answer::Yes)
    }
}
