//! The log: what is written, where to and in which form. It goes to standard error, so that standard output stays
//! for what a command was asked for. It is written by a thread of its own: nothing ever waits for a line.

pub(crate) mod burst;
mod journal;
mod metrics;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{FmtSpan, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::metrics::Metrics;
pub(crate) use journal::error_text;
use queue::LineQueue;

/// How the log is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// A level (`info`) or a filter in tracing's syntax (`cupbearer=debug,info`).
    pub level: String,
    /// Which requests get a line; `None`: none does.
    pub access: Option<AccessLog>,
}

/// Which requests get a line in the log. Those that failed always do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AccessLog {
    /// Of the successful ones, this share: from 0 to 1.
    pub sample: f64,
    /// From this duration on, a successful one always does.
    pub slow: Duration,
}

impl AccessLog {
    /// The share of its kind that a line stands for, where not all requests get one; `is_kept`: all of its kind do.
    pub(crate) fn share(self, is_kept: bool) -> Option<f64> {
        let share = if is_kept { 1.0 } else { self.sample };
        (self.sample < 1.0).then_some(share)
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
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
pub(crate) enum LogError {
    /// `level` is no level and no filter.
    #[error(
        "log.level: \"{0}\" is neither a level (error, warn, info, debug, trace) nor a filter such as cupbearer=debug,info"
    )]
    Level(String),
    /// A log was set up before in this process.
    #[error("the log was set up twice")]
    Twice,
    /// The system has no thread left for it.
    #[error("the system refused a thread for the log: {0}")]
    Thread(#[source] io::Error),
}

/// Sets up the log of this process; once.
///
/// # Errors
/// [`LogError`]
pub(crate) fn start(settings: &LogSettings) -> Result<(), LogError> {
    let filter = filter(&settings.level).ok_or_else(|| LogError::Level(settings.level.clone()))?;
    let terminal = io::stderr().is_terminal();
    let text = match settings.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let form = if text { Form::Text } else { Form::Json };
    let reader = if journal::is_reader() { Reader::Journal } else { Reader::Other };
    let style = Style { form, reader };
    let report =
        Box::new(move |dropped| style.record(Level::WARN, MISSING, &[("dropped", Value::from(dropped))]));
    let queue = LineQueue::start(io::stderr(), report).map_err(LogError::Thread)?;
    let lines = LOG.get_or_init(|| Log { queue, style });
    let log = tracing_subscriber::fmt::layer()
        .with_writer(lines)
        // It would report them by `eprintln!`, which waits for a reader, and panics where there is none.
        .log_internal_errors(false)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(terminal);
    let started = if text {
        registry().with(filter).with(log.with_target(false)).try_init()
    } else {
        let log = log.json().flatten_event(true).with_current_span(false).with_span_list(false);
        registry().with(filter).with(log).try_init()
    };
    started.map_err(|_| LogError::Twice)?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Adds the log's own metric to the registry.
pub(crate) fn register(metrics: &Metrics) {
    if let Some(log) = LOG.get() {
        log.queue.dropped().register(metrics);
    }
}

/// Writes text that is no event behind what was logged so far. `false`: no log was set up.
#[must_use]
pub(crate) fn write_behind(text: &str) -> bool {
    let log = LOG.get();
    if let Some(log) = log {
        log.queue.push(format!("{text}\n").as_bytes());
    }
    log.is_some()
}

/// Reports behind what was logged so far why the program ends, whatever `level` is: as text for people, and as an event where
/// the log is JSON. `false`: no log was set up.
#[must_use]
pub(crate) fn write_failure(text: &str) -> bool {
    let log = LOG.get();
    if let Some(log) = log {
        match log.style {
            Style { form: Form::Json, .. } => log.record(ENDS, &[("error", Value::from(text))]),
            Style { reader: Reader::Journal, .. } => {
                log.queue.push((journal::with_priority(text, Level::ERROR) + "\n").as_bytes());
            }
            Style { .. } => log.queue.push(format!("{text}\n").as_bytes()),
        }
    }
    log.is_some()
}

/// Waits for what was logged to be written, for a second at most. The program calls it last.
pub(crate) fn finish() {
    if let Some(log) = LOG.get() {
        log.queue.finish(LAST_LINES);
    }
}

/// The log of this process.
static LOG: OnceLock<Log> = OnceLock::new();
/// How long the end waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where the lines go, and what they look like.
#[derive(Debug)]
struct Log {
    queue: Arc<LineQueue>,
    style: Style,
}

impl Log {
    /// Writes an error that no level and no filter keeps back.
    fn record(&self, message: &str, fields: &[(&str, Value)]) {
        self.queue.push(self.style.record(Level::ERROR, message, fields).as_bytes());
    }

    fn lines(&'static self, level: Level) -> Lines<Queued> {
        Lines { style: self.style, level, out: Queued(&self.queue) }
    }
}

impl MakeWriter<'_> for &'static Log {
    type Writer = Lines<Queued>;

    fn make_writer(&self) -> Self::Writer {
        self.lines(Level::INFO)
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Self::Writer {
        self.lines(*metadata.level())
    }
}

#[derive(Clone, Copy)]
struct Queued(&'static LineQueue);

impl Write for Queued {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// In place of the standard library's hook, which waits for the reader of standard error, in text of its own.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let Some(log) = LOG.get() else { return };
    let text = |text: Option<String>| text.map_or(Value::Null, Value::from);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let fields = [
        ("thread", text(std::thread::current().name().map(str::to_owned))),
        ("place", text(panic.location().map(ToString::to_string))),
        ("panic", text(panic.payload_as_str().map(str::to_owned))),
        ("backtrace", text(backtrace)),
    ];
    log.record(PANICKED, &fields);
}

const PANICKED: &str = "a thread panicked; this is a defect of the program";
const ENDS: &str = "the program ends";
const MISSING: &str = "log lines were dropped here, as what reads the log did not keep up";

/// A level, or levels of modules: `cupbearer=debug,info`.
pub(crate) fn filter(level: &str) -> Option<Targets> {
    level.parse().ok()
}

/// What lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Style {
    form: Form,
    reader: Reader,
}

/// What a line's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

/// What reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// systemd's journal, which takes a priority before each.
    Journal,
    Other,
}

impl Style {
    /// A line that was formatted, as it is written.
    fn line(self, level: Level, line: &[u8]) -> Cow<'_, [u8]> {
        let escaped = escaped(line, self.form);
        match self.reader {
            Reader::Other => escaped,
            Reader::Journal => Cow::Owned([journal::priority(level).as_bytes(), &escaped].concat()),
        }
    }

    /// A line that is no event of `tracing`; a field that is null is left out.
    fn record(self, level: Level, message: &str, fields: &[(&str, Value)]) -> String {
        let mut time = String::new();
        // Writing to memory does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let fields = fields.iter().filter(|(_, value)| !value.is_null());
        let line = match self.form {
            Form::Text => {
                let fields: Vec<_> = fields.map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{time} {level:>5} {message}{}\n", fields.concat())
            }
            Form::Json => {
                let message = Value::from(message);
                let fields: Vec<_> = fields.map(|(name, value)| format!(",\"{name}\":{value}")).collect();
                format!(
                    "{{\"timestamp\":\"{time}\",\"level\":\"{level}\",\"message\":{message}{},\"target\":\"{}\"}}\n",
                    fields.concat(),
                    module_path!()
                )
            }
        };
        String::from_utf8_lossy(&self.line(level, line.as_bytes())).into_owned()
    }
}

/// Writes a line at a time, without characters that change how what stands around them is shown: a path or an error may
/// hold what another party chose.
struct Lines<W> {
    style: Style,
    level: Level,
    out: W,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.out.write_all(&self.style.line(self.level, line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The line with such characters written out: as Rust has them in text, as JSON has them in JSON. Escape sequences that
/// colour a terminal's text are our own: those of others are escaped where the line is made.
fn escaped(line: &[u8], form: Form) -> Cow<'_, [u8]> {
    let (body, end) = line.strip_suffix(b"\n").map_or((line, ""), |body| (body, "\n"));
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | 0x1b);
    if body.iter().all(is_plain) {
        return Cow::Borrowed(line);
    }
    let Ok(text) = std::str::from_utf8(body) else { return Cow::Borrowed(line) };
    let mut safe = String::with_capacity(line.len() + 16);
    for character in text.chars() {
        if !changes_others(character) {
            safe.push(character);
            continue;
        }
        let code = u32::from(character);
        // Writing to memory does not fail.
        let _ = match form {
            Form::Text => write!(safe, "\\u{{{code:x}}}"),
            Form::Json => write!(safe, "\\u{code:04x}"),
        };
    }
    safe.push_str(end);
    Cow::Owned(safe.into_bytes())
}

/// One line of text for people, of whatever origin: characters that change how others are shown are written out, as they
/// are in the log. A terminal's escape sequences are such too.
#[must_use]
pub(crate) fn plain_line(text: &str) -> Cow<'_, str> {
    let is_plain = |c: &char| !changes_others(*c) && *c != '\x1b';
    if text.chars().all(|c| is_plain(&c)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_plain(&character) {
            safe.push(character);
        } else {
            // Writing to memory does not fail.
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(character));
        }
    }
    Cow::Owned(safe)
}

/// JSON that is printed: the same characters, as JSON has them.
#[must_use]
pub(crate) fn plain_json(json: &str) -> String {
    let lines = json
        .split('\n')
        .map(|line| String::from_utf8_lossy(&escaped(line.as_bytes(), Form::Json)).into_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// Controls, line and paragraph separators, and what sets the direction of text (Unicode Standard Annex 9) or is invisible.
pub(crate) const fn changes_others(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x08'
            | '\n'..='\x1a'
            | '\x1c'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str, form: Form) -> String {
        written_for(Reader::Other, Level::INFO, line, form)
    }

    fn written_for(reader: Reader, level: Level, line: &str, form: Form) -> String {
        let mut lines = Lines { style: Style { form, reader }, level, out: Vec::new() };
        lines.write_all(line.as_bytes()).unwrap();
        String::from_utf8(lines.out).unwrap()
    }

    #[test]
    fn a_line_for_the_journal_begins_with_its_priority() {
        for (level, begins) in
            [(Level::ERROR, "<3>"), (Level::WARN, "<4>"), (Level::INFO, "<6>"), (Level::DEBUG, "<7>")]
        {
            for form in [Form::Text, Form::Json] {
                assert_eq!(written_for(Reader::Journal, level, "a\n", form), format!("{begins}a\n"));
                assert_eq!(written_for(Reader::Other, level, "a\n", form), "a\n");
            }
        }
    }

    #[test]
    fn a_record_is_one_line_in_the_form_of_the_others() {
        let fields =
            [("panic", Value::from("a \"b\"\nc")), ("place", Value::Null), ("dropped", Value::from(3))];
        let record = |form, reader| Style { form, reader }.record(Level::ERROR, "it happened", &fields);
        let json = record(Form::Json, Reader::Journal);
        let json: Value = serde_json::from_str(json.strip_prefix("<3>").unwrap()).unwrap();
        assert_eq!((json["panic"].as_str(), json["dropped"].as_u64()), (Some("a \"b\"\nc"), Some(3)));
        assert_eq!((json["level"].as_str(), json.get("place")), (Some("ERROR"), None));
        let text = record(Form::Text, Reader::Other);
        assert!(text.ends_with(" ERROR it happened panic=\"a \\\"b\\\"\\nc\" dropped=3\n"), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn what_a_command_prints_has_no_characters_that_change_others() {
        assert_eq!(plain_line("größer ☺"), "größer ☺");
        assert_eq!(plain_line("a\u{1b}[2Jb\u{202e}c\nd"), "a\\u{1b}[2Jb\\u{202e}c\\u{a}d");
        assert_eq!(plain_json("{\n \"a\": \"\u{202e}\"\n}"), "{\n \"a\": \"\\u202e\"\n}");
    }

    #[test]
    fn characters_that_change_how_a_line_is_shown_are_written_out() {
        for (character, text, json) in [
            ("\u{9b}", "\\u{9b}", "\\u009b"),
            ("\u{85}", "\\u{85}", "\\u0085"),
            ("\u{202e}", "\\u{202e}", "\\u202e"),
            ("\u{2066}", "\\u{2066}", "\\u2066"),
            ("\u{200f}", "\\u{200f}", "\\u200f"),
            ("\u{2028}", "\\u{2028}", "\\u2028"),
            ("\n", "\\u{a}", "\\u000a"),
            ("\r", "\\u{d}", "\\u000d"),
            ("\x7f", "\\u{7f}", "\\u007f"),
        ] {
            let line = format!("INFO path=/a{character}b größe ☺\n");
            assert_eq!(written(&line, Form::Text), format!("INFO path=/a{text}b größe ☺\n"));
            assert_eq!(written(&line, Form::Json), format!("INFO path=/a{json}b größe ☺\n"));
        }
    }

    #[test]
    fn a_plain_line_and_its_colours_are_left_alone() {
        for line in ["\x1b[32m INFO\x1b[0m request path=\"/a\"\tb\n", "{\"path\":\"/ä\"}\n", "", "\n"] {
            assert_eq!(written(line, Form::Text), line);
            assert_eq!(written(line, Form::Json), line);
        }
        let json = format!("{{\"path\":\"/{}\"}}\n", '\u{202e}');
        let read: Value = serde_json::from_str(&written(&json, Form::Json)).unwrap();
        assert_eq!(read["path"], "/\u{202e}");
    }
}
