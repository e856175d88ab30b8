//! `cupbearer man`: the manual page, of the program or of one command.

use std::io::Write;

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
        // There is no page of the command `help`.
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => match program.find_subcommand(name) {
                Some(command) => command.clone(),
                None => bail!("there is no command {name}; see cupbearer --help"),
            },
        };
        let mut roff = Vec::new();
        render(page, &mut roff)?;
        answer(String::from_utf8_lossy(&roff).trim_end())?;
        Ok(Answer::Yes)
    }
}

/// Section by section, for `render` of `clap_mangen` knows no ENVIRONMENT and would call the exit codes EXTRA.
fn render(command: clap::Command, roff: &mut Vec<u8>) -> std::io::Result<()> {
    let variables: Vec<(String, String)> = command
        .get_arguments()
        .filter_map(|arg| Some((arg.get_env()?.to_str()?.to_owned(), arg.get_long()?.to_owned())))
        .collect();
    let (commands, version) = (command.has_subcommands(), command.get_version().is_some());
    let note = command.get_after_help().map(ToString::to_string);
    let page = clap_mangen::Man::new(command);
    page.render_title(roff)?;
    page.render_name_section(roff)?;
    page.render_synopsis_section(roff)?;
    page.render_description_section(roff)?;
    page.render_options_section(roff)?;
    if commands {
        page.render_subcommands_section(roff)?;
    }
    if let Some(note) = note {
        roff.write_all(b".SH NOTES\n")?;
        for line in note.lines() {
            // Each line is a sentence of its own; without a break they would run together.
            writeln!(roff, "{}\n.br", escaped(line))?;
        }
    }
    roff.write_all(b".SH ENVIRONMENT\n")?;
    for (variable, flag) in &variables {
        writeln!(roff, ".TP\n{}\nThe same as {}.", escaped(variable), escaped(&format!("--{flag}")))?;
    }
    roff.write_all(KEYS.as_bytes())?;
    roff.write_all(FILES.as_bytes())?;
    if version {
        page.render_version_section(roff)?;
    }
    Ok(())
}

/// Text as roff takes it: no backslash, no hyphen that is typeset as another sign, no control line.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

const KEYS: &str = "\
.TP
CUPBEARER__SECTION__KEY
Any key of the configuration, over the file's: \\%CUPBEARER__HEALTH__LISTEN, \\%CUPBEARER__TOKENS__API__CLIENT_ID.
";
const FILES: &str = "\
.SH FILES
.TP
\\&./config.toml
The configuration, where no other is named. \\fBcupbearer schema\\fR prints its JSON schema.
";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, render};

    #[test]
    fn the_pages_tell_environment_and_files_and_lead_nowhere() {
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        let text = |command: &clap::Command| {
            let mut roff = Vec::new();
            render(command.clone(), &mut roff).unwrap();
            String::from_utf8(roff).unwrap()
        };
        let page = text(&program);
        assert!(!page.contains("help(1)") && !page.contains("EXTRA"), "{page}");
        for section in [".SH NOTES", ".SH ENVIRONMENT", ".SH FILES", "CUPBEARER__SECTION__KEY"] {
            assert!(page.contains(section), "{section}: {page}");
        }
        assert!(page.contains("pass by itself.\n.br\nTry"), "two sentences, two lines: {page}");
        let run = text(program.find_subcommand("run").unwrap());
        for variable in ["CUPBEARER_CONFIG", "CUPBEARER_CLIENT_SECRET_FILE"] {
            assert!(run.contains(variable), "{variable}: {run}");
        }
    }
}
