//! The one place that problems come together: it knows where each key was written, and which keys have a problem
//! already, so that one mistake is not reported twice.

use std::error::Error;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::later;
use super::overrides::variable_for;
use super::problem::{KeyPath, Origin, Problem, Problems, Severity, Shown, Step};
use super::schema::{example, example_in_a_variable};
use super::shape::{Misfit, MisfitKind, last_key, listed, nearest};
use super::source::flag_of;
use super::tree::{Node, Value, line};
use crate::machine::Lack;
use crate::net::tls::TlsError;
use crate::secret::SecretError;

/// All that was found so far.
pub(super) struct Findings {
    problems: Problems,
    /// Lines whose values mean nothing, because of a syntax error in them.
    murky: Vec<RangeInclusive<usize>>,
    /// Keys that have a problem already, or that a misspelt key stands for.
    spoken_for: Vec<KeyPath>,
    /// Where relative paths in the file start from.
    base: PathBuf,
    /// The tree was not read to its end.
    cut: bool,
}

impl Findings {
    pub(super) fn new(syntax: Problems, murky: Vec<RangeInclusive<usize>>, base: &Path) -> Self {
        Self { problems: syntax, murky, spoken_for: Vec::new(), base: base.to_owned(), cut: false }
    }

    /// In the order of the file.
    pub(super) fn into_problems(mut self, root: &Node) -> Problems {
        self.problems.sort();
        self.list_once();
        if self.cut || self.is_full() {
            let (what, help) = ("there may be more problems than these", "fix these first, then check again");
            self.problems.push(Problem {
                severity: Severity::Error,
                origin: root.origin.clone(),
                key: KeyPath::default(),
                what: what.to_owned(),
                help: help.to_owned(),
            });
        }
        self.problems
    }

    /// Leaves the list of a section's keys to the first of its unknown ones.
    fn list_once(&mut self) {
        let mut listed = Vec::new();
        for problem in
            self.problems.as_mut_slice().iter_mut().filter(|problem| problem.help.starts_with(KNOWN_HERE))
        {
            let section = problem.key.parent();
            if listed.contains(&section) {
                "leave it out; the list above says what is known here".clone_into(&mut problem.help);
            } else {
                listed.push(section);
            }
        }
    }

    /// A problem that is not one of a key in the tree.
    pub(super) fn push(&mut self, problem: Problem) {
        self.spoken_for.push(problem.key.clone());
        self.problems.push(problem);
    }

    pub(super) fn misfit(&mut self, root: &Node, misfit: Misfit) {
        let Misfit { path, kind } = misfit;
        let mut origin = root.nearest(&path).origin.clone();
        let (what, help) = match kind {
            MisfitKind::Key { given, known } => {
                origin = root.find(&path).map_or(origin, |node| node.key_origin.clone());
                if later::is_key(&path) {
                    ("this version does not support this key yet".to_owned(), "leave it out".to_owned())
                } else if let Some(successor) = later::successor(&path) {
                    let help = format!("use `{successor}`, which is on where it is left out");
                    ("is a key of an earlier version".to_owned(), help)
                } else if let Some(meant) = nearest(&given, known.iter().copied()) {
                    if let Some(table) = path.parent() {
                        self.spoken_for.push(table.key(meant));
                    }
                    ("unknown key".to_owned(), format!("did you mean `{meant}`?"))
                } else {
                    ("unknown key".to_owned(), format!("{KNOWN_HERE}{}", listed(known)))
                }
            }
            MisfitKind::Word { given, known } => {
                if later::is_word(&last_key(&path), &given) {
                    let what = format!("this version does not support {} yet", Shown(&given));
                    (what, format!("use one of: {}", listed(known)))
                } else {
                    let help = nearest(&given, known.iter().copied()).map_or_else(
                        || format!("use one of: {}", listed(known)),
                        |w| format!("did you mean \"{w}\"?"),
                    );
                    (format!("must be one of: {}", listed(known)), help)
                }
            }
            MisfitKind::Value { expected, found } => {
                let expected = in_its_place(&origin, expected);
                let help = value_mend(&origin, &path, &expected);
                (format!("must be {expected}, not {found}"), help)
            }
            MisfitKind::Quantity { fault, expected } => {
                let help = value_mend(&origin, &path, &in_its_place(&origin, expected));
                (fault, help)
            }
            MisfitKind::Unreadable => ("cannot be read".to_owned(), "compare it with config.toml".to_owned()),
        };
        self.add(Severity::Error, origin, path, what, help);
    }

    /// That the tree was not read to its end.
    pub(super) const fn too_many(&mut self) {
        self.cut = true;
    }

    fn is_full(&self) -> bool {
        self.spoken_for.len() >= MAX_PROBLEMS
    }

    /// Whether `path`, or something above or below it, has a problem already.
    fn is_spoken_for(&self, path: &KeyPath) -> bool {
        self.is_full() || self.spoken_for.iter().any(|known| known.holds(path) || path.holds(known))
    }

    fn add(&mut self, severity: Severity, origin: Origin, key: KeyPath, what: String, help: String) {
        if line(&origin).is_some_and(|line| self.murky.iter().any(|lines| lines.contains(&line))) {
            return;
        }
        // Each key is looked for among all that are kept; and so many are not read.
        if self.is_full() {
            return;
        }
        if severity != Severity::Warning {
            self.spoken_for.push(key.clone());
        }
        self.problems.push(Problem { severity, origin, key, what, help });
    }
}

/// What a value must be, where it was written: a variable has no quotes.
fn in_its_place(origin: &Origin, expected: String) -> String {
    match origin {
        Origin::Variable(_) => expected.replace(" in quotes", ""),
        _ => expected,
    }
}

/// How to write a value of the right type at `path`.
fn value_mend(origin: &Origin, path: &KeyPath, expected: &str) -> String {
    let Origin::Variable(given) = origin else {
        return example(path).map_or_else(
            || format!("write {expected}"),
            |value| format!("write it as in `{} = {value}`", last_key(path)),
        );
    };
    // Of a list that is one variable, the whole list.
    let list = path.parent().filter(|_| matches!(path.steps().last(), Some(Step::Index(_))));
    let path = list.as_ref().filter(|list| variable_for(given, list) == *given).unwrap_or(path);
    let name = variable_for(given, path);
    match example_in_a_variable(path) {
        Some(value) => format!("set it as in {name}={value}"),
        None if expected == "a table" => format!("set its keys, each as in {name}__KEY=VALUE"),
        None => format!("set {name} to {expected}"),
    }
}

/// The findings beside the tree that they are about: what the cross-checks work with.
pub(super) struct Review<'t> {
    root: &'t Node,
    findings: Findings,
}

impl<'t> Review<'t> {
    pub(super) const fn new(root: &'t Node, findings: Findings) -> Self {
        Self { root, findings }
    }

    pub(super) fn into_problems(self) -> Problems {
        self.findings.into_problems(self.root)
    }

    pub(super) fn error(&mut self, path: &KeyPath, what: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, path, what.into(), help.into());
    }

    /// That a file cannot be used. Where this machine lacked something to read it, or the file is not there yet, nothing else is
    /// wrong with it.
    pub(super) fn unusable(
        &mut self,
        path: &KeyPath,
        error: &(dyn Error + 'static),
        help: impl Into<String>,
    ) {
        let lack = Lack::within(error);
        let help = lack.map_or_else(|| help.into(), |lack| lack.help().to_owned());
        let passes = lack.is_some()
            || error.downcast_ref().is_some_and(TlsError::may_pass)
            || error.downcast_ref().is_some_and(SecretError::may_pass);
        let severity = if passes { Severity::Awaited } else { Severity::Error };
        self.add(severity, path, error.to_string(), help);
        if let Some(lack) = lack {
            self.findings.problems.lacked(lack);
        }
    }

    pub(super) fn warning(&mut self, path: &KeyPath, what: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, path, what.into(), help.into());
    }

    /// That a key is not there. Nothing is said where a syntax error may have swallowed it, or where it is there
    /// and wrong.
    pub(super) fn missing(&mut self, path: &KeyPath, what: &str, help: impl Into<String>) {
        if self.is_whole() && !self.is_spoken_for(path) {
            self.error(path, what, help);
        }
    }

    /// Whether `path`, or something above or below it, has a problem already.
    pub(super) fn is_spoken_for(&self, path: &KeyPath) -> bool {
        self.findings.is_spoken_for(path)
    }

    /// Whether no more problems are kept, so that looking for their fixes is in vain.
    pub(super) fn is_full(&self) -> bool {
        self.findings.is_full()
    }

    /// Whether the file could be read as a whole, so that what was not found is not there.
    pub(super) const fn is_whole(&self) -> bool {
        self.findings.murky.is_empty()
    }

    /// Whether the key was written at all, so that its value is no default.
    pub(super) fn is_given(&self, path: &KeyPath) -> bool {
        self.root.find(path).is_some()
    }

    /// Whether flags are all that there is.
    pub(super) fn is_flags_only(&self) -> bool {
        self.root.origin == Origin::CommandLine
    }

    /// Whether the value comes from the environment, and so was meant to win over the file.
    pub(super) fn is_override(&self, path: &KeyPath) -> bool {
        self.root.find(path).is_some_and(|node| matches!(node.origin, Origin::Variable(_)))
    }

    /// The paths of the elements of the list at `path`, as many as were read. A single string is its own element.
    pub(super) fn elements(&self, path: &KeyPath) -> Vec<KeyPath> {
        match self.root.find(path) {
            Some(node) if matches!(node.value, Value::Array(_)) => {
                node.indices().into_iter().map(|index| path.index(index)).collect()
            }
            _ => vec![path.clone()],
        }
    }

    /// Where the file is that `text` at `path` names: a relative path in a configuration file starts from that
    /// file's directory, any other from the working directory.
    pub(super) fn file(&self, path: &KeyPath, text: &str) -> PathBuf {
        match self.root.nearest(path).origin {
            Origin::File { .. } => self.findings.base.join(text),
            _ => PathBuf::from(text),
        }
    }

    /// How to set `path`, for a fix: the key, or the flag where flags are all there is.
    pub(super) fn set(&self, path: &KeyPath) -> String {
        match flag_of(path) {
            Some(flag) if self.root.origin == Origin::CommandLine => format!("give {flag}"),
            _ => match self.root.find(path).map(|node| &node.origin) {
                Some(Origin::Variable(given)) => format!("set {}", variable_for(given, path)),
                _ => format!("set `{}`", last_key(path)),
            },
        }
    }

    fn add(&mut self, severity: Severity, path: &KeyPath, what: String, help: String) {
        let origin = self.root.nearest(path).origin.clone();
        self.findings.add(severity, origin, path.clone(), what, help);
    }
}

const KNOWN_HERE: &str = "leave it out; known here: ";
/// More than fits on many screens; a file with so many mistakes has one that is behind them all.
const MAX_PROBLEMS: usize = 500;
