//! `cupbearer man`: the manual page, of the program or of one command.

use anyhow::bail;
use clap::{Args, CommandFactory};

use super::output::answer;
use super::{Answer, Cli};

/// Print the manual page (pipe it into `man -l -`)
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Of which command; none: of the program
    command: Option<String>,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<Answer> {
        let mut program = Cli::command();
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => match program.find_subcommand(name) {
                Some(command) => command.clone(),
                None => bail!("there is no command {name}; see cupbearer --help"),
            },
        };
        let mut roff = Vec::new();
        clap_mangen::Man::new(page).render(&mut roff)?;
        answer(String::from_utf8_lossy(&roff).trim_end())?;
        Ok(Answer::Yes)
    }
}
