//! The log: what is written, where to and in which form.

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
