//! The command line: one file per command, and the only place that prints.
//!
//! Standard output is for what was asked for; everything else goes to standard error. Exit codes: 0 done, 1 the answer is
//! no, 2 usage or unexpected, 75 `run` ends for what may pass by itself.

mod check;
mod completions;
mod configuration;
mod control_address;
#[cfg(feature = "demo")]
mod demo;
mod inject;
mod login;
mod logout;
mod man;
#[cfg(feature = "demo")]
mod narrative;
mod output;
mod reload;
mod renew;
mod run;
mod schema;
mod starting;
mod status;
mod token;
mod wait;
mod webhook;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::machine::{self, Lack};
use output::complain;

/// A reverse-proxy sidecar that keeps OAuth 2.0 access tokens fresh and puts them on every request it forwards to a
/// protected API.
#[derive(Debug, Parser)]
#[command(
    name = "cupbearer",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done; 1 the answer is no, or the proxy is not there or refuses it; 2 usage or unexpected; 75 `run` ends for what may pass by itself.\nTry `cupbearer demo` to see it at work."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    Status(status::Status),
    Reload(reload::Reload),
    Renew(renew::Renew),
    Login(login::Login),
    Logout(logout::Logout),
    Token(token::Token),
    Wait(wait::Wait),
    Inject(inject::Inject),
    Webhook(webhook::Webhook),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Man(man::Man),
}

/// How a command ended, where it ended at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Done, or yes.
    Yes,
    /// No: not ready, not running, problems found.
    No,
    /// It could not do what it was asked; what was wrong has been said.
    Failed,
    /// The same, for what may pass by itself: to try it again later is worth it.
    NotYet,
}

/// Reads the command line, runs the command and reports how it ended.
#[must_use]
pub fn main() -> ExitCode {
    // Also where the command panics.
    let _last_lines = LastLines;
    // clap answers usage errors by itself, with code 2.
    let cli = Cli::parse();
    let answered = match cli.command {
        Command::Run(run) => block_on(run.run()),
        Command::Check(check) => block_on(check.run()),
        #[cfg(feature = "demo")]
        Command::Demo(demo) => block_on(demo.run()),
        Command::Status(status) => block_on(status.run()),
        Command::Reload(reload) => block_on(reload.run()),
        Command::Renew(renew) => block_on(renew.run()),
        Command::Login(login) => block_on(login.run()),
        Command::Logout(logout) => block_on(logout.run()),
        Command::Token(token) => block_on(token.run()),
        Command::Wait(wait) => block_on(wait.run()),
        Command::Inject(inject) => inject.run(),
        Command::Webhook(webhook) => block_on(webhook.run()),
        Command::Schema(schema) => schema.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    };
    match answered {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Ok(Answer::Failed) => ExitCode::from(2),
        Ok(Answer::NotYet) => ExitCode::from(TEMPORARY_FAILURE),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&told(&error));
            // What this machine lacks comes back.
            let passes = Lack::within(error.as_ref()).is_some();
            ExitCode::from(if passes { TEMPORARY_FAILURE } else { 2 })
        }
    }
}

/// `EX_TEMPFAIL` of sysexits(3).
const TEMPORARY_FAILURE: u8 = 75;

/// Has the last lines of the log written before the process ends.
struct LastLines;

impl Drop for LastLines {
    fn drop(&mut self) {
        crate::telemetry::finish();
    }
}

/// One thread for everything that is not the request path: renewals, signals, health and control.
fn block_on(command: impl Future<Output = anyhow::Result<Answer>>) -> anyhow::Result<Answer> {
    // The runtime panics where it lacks one.
    machine::has_room_for(RUNTIME_FILES)?;
    // Of its blocking threads none is ever used: see net::threads.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    let answered = runtime.block_on(command);
    runtime.shutdown_background();
    answered
}

/// An error and its causes, but for those that it has said already, and what to do where this machine lacks something.
fn told(error: &anyhow::Error) -> String {
    let told = error.chain().fold(String::new(), |mut told, cause| {
        let cause = cause.to_string();
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = told + ": " + &cause;
        }
        told
    });
    match Lack::within(error.as_ref()).map(Lack::help) {
        Some(help) if !told.contains(help) => format!("{told}\n    help: {help}"),
        _ => told,
    }
}

/// Files that a runtime opens, and some more.
const RUNTIME_FILES: usize = 8;

/// The reader of standard output has closed it: `cupbearer schema | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
