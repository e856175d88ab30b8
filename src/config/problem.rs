//! What is wrong with a configuration: where it stands, which key, what and how to fix it.
//!
//! Every part of the room adds to one [`Problems`], so that a user sees all of them in one run. Nothing is printed
//! here, and no value of a key that could hold a secret ever gets into a sentence.

use std::fmt;
use std::sync::Arc;

use crate::machine::Lack;

/// Whether the configuration can be run in spite of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// It cannot.
    Error,
    /// It cannot yet: a file that it names is not there, and may come.
    Awaited,
    /// It can, and the user should know.
    Warning,
}

/// One step of a [`KeyPath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A key of a table.
    Key(String),
    /// A place in an array, from 0.
    Index(usize),
}

/// Which key: `tokens.api.renew_at`, `routes[0].path`. Empty: the configuration as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyPath(Vec<Step>);

impl KeyPath {
    /// The steps from the top.
    #[must_use]
    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The path of `name` within this table.
    #[must_use]
    pub(crate) fn key(&self, name: &str) -> Self {
        self.step(Step::Key(name.to_owned()))
    }

    /// The path of element `index` within this array.
    #[must_use]
    pub(crate) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// The path of the table or array that holds it; `None` for the whole.
    #[must_use]
    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// Whether `self` is `other` or holds it.
    #[must_use]
    pub(crate) fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

/// `a.b` as a path of two keys: for the constant paths of the program.
impl From<&str> for KeyPath {
    fn from(dotted: &str) -> Self {
        Self(dotted.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if n == 0 => write!(f, "{}", Shown(key))?,
                Step::Key(key) => write!(f, ".{}", Shown(key))?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A name from the user's file, made safe for a terminal: what is no bare TOML key stands in quotes and escaped.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare =
            !self.0.is_empty() && self.0.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        match self.0.char_indices().nth(MAX_SHOWN_CHARS) {
            None if bare => f.write_str(self.0),
            None => write!(f, "\"{}\"", self.0.escape_debug()),
            Some((end, _)) => write!(f, "\"{}...\"", self.0[..end].escape_debug()),
        }
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// In a file, or in a text with a name.
    File {
        /// As the user named it.
        name: Arc<str>,
        /// Where in it; `None`: the file as a whole.
        at: Option<Position>,
    },
    /// In the environment variable of this name.
    Variable(String),
    /// In the command-line flag of this name, with its dashes.
    Flag(&'static str),
    /// Nowhere: the command line did not give it.
    CommandLine,
}

/// A place in a text, both counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, at: Some(at) } => write!(f, "{name}:{}:{}", at.line, at.column),
            Self::File { name, at: None } => f.write_str(name),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Whether it stops the program.
    pub severity: Severity,
    /// Where the value was written, or the table that lacks it.
    pub origin: Origin,
    /// The key; empty for the configuration as a whole.
    pub key: KeyPath,
    /// What is wrong, as the end of a sentence that starts with the key.
    pub what: String,
    /// What to do about it, as a command.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.steps().is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n    help: {}", self.what, self.help)
    }
}

/// Everything that is wrong, in the order of the file. As an error it is what `check` and a refused `run` show.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Problems {
    all: Vec<Problem>,
    /// What this machine lacked to read a file, where that is why there is one.
    #[source]
    lack: Option<Lack>,
}

impl Problems {
    /// One after the other.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.all.iter()
    }

    /// How many.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one of them stops the program.
    #[must_use]
    pub(crate) fn refuse(&self) -> bool {
        self.all.iter().any(|problem| problem.severity != Severity::Warning)
    }

    /// Whether all that stops the program may pass without a change of the configuration.
    #[must_use]
    pub(crate) fn may_pass(&self) -> bool {
        self.lack.is_some()
            || self.refuse() && !self.all.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// The same, for what this machine lacked.
    pub(super) fn lacking(mut self, lack: Lack) -> Self {
        self.lack = Some(lack);
        self
    }

    /// One of them is there for what this machine lacked.
    pub(super) fn lacked(&mut self, lack: Lack) {
        self.lack = Some(lack);
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.all.push(problem);
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Problem] {
        &mut self.all
    }

    pub(super) fn sort(&mut self) {
        self.all.sort_by(|a, b| a.origin.cmp(&b.origin));
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { all: vec![problem], lack: None }
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Self {
        Self { all: problems.into_iter().collect(), lack: None }
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One problem after the other, each on two lines, without a line end after the last.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.all.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Longer names are cut: a message is a line, not a copy of the file.
const MAX_SHOWN_CHARS: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_file_line_column_key_sentence_and_mend() {
        let problem = Problem {
            severity: Severity::Error,
            origin: Origin::File { name: "config.toml".into(), at: Some(Position { line: 12, column: 3 }) },
            key: "tokens.api.renew_at".into(),
            what: "must be above 0 and at most 1, not 1.5".into(),
            help: "set it to 0.75".into(),
        };
        assert_eq!(
            problem.to_string(),
            "config.toml:12:3: tokens.api.renew_at: must be above 0 and at most 1, not 1.5\n    help: set it to 0.75"
        );
        let warning = Problem { severity: Severity::Warning, origin: Origin::Flag("--listen"), ..problem };
        assert!(warning.to_string().starts_with("flag --listen: warning: tokens.api.renew_at: "));
    }

    #[test]
    fn a_key_with_a_control_character_cannot_reach_the_terminal() {
        let path = KeyPath::default().key("tokens").key("a\u{1b}[31m").index(3);
        assert_eq!(path.to_string(), "tokens.\"a\\u{1b}[31m\"[3]");
        assert!(KeyPath::default().key(&"x".repeat(10_000)).to_string().len() < 100);
    }
}
