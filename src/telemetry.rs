//! The log: what is written, where to and in which form. It goes to standard error, so that standard output stays
//! for what a command was asked for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// A level (`info`) or a filter in tracing's syntax (`cupbearer=debug,info`).
    pub level: String,
    /// Whether each request gets a line.
    pub access: bool,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Always text.
    Text,
    /// Always JSON, one object a line.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `level` is no level and no filter.
    #[error(
        "log.level: \"{0}\" is neither a level (error, warn, info, debug, trace) nor a filter such as cupbearer=debug,info"
    )]
    Level(String),
    /// A log was set up before in this process.
    #[error("the log was set up twice")]
    Twice,
}

/// Whether `level` is a level or a filter that [`start`] takes.
#[must_use]
pub fn is_level(level: &str) -> bool {
    filter(level).is_some()
}

/// Sets up the log of this process; once.
///
/// # Errors
/// [`LogError`]
pub fn start(settings: &LogSettings) -> Result<(), LogError> {
    let filter = filter(&settings.level).ok_or_else(|| LogError::Level(settings.level.clone()))?;
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(terminal);
    let text = match settings.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let started = if text {
        log.with_target(false).try_init()
    } else {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    started.map_err(|_| LogError::Twice)
}

fn filter(level: &str) -> Option<EnvFilter> {
    EnvFilter::builder().parse(level).ok()
}
