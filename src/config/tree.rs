//! What the user wrote, as one tree of values that each know their origin: from a TOML text, from the environment
//! and from flags alike.
//!
//! Its strings are [`Secret`]s, because an inline secret is one of them and nothing says yet which.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{KeyPath, Origin, Position, Problem, Problems, Severity, Step};
use crate::secret::Secret;

/// A value and where it was written.
#[derive(Debug)]
pub(super) struct Node {
    /// Where the value stands.
    pub(super) origin: Origin,
    /// Where its key stands: the same for what has no key.
    pub(super) key_origin: Origin,
    pub(super) value: Value,
    /// A problem has been reported for it; the rest of the tree is read as if it were not there.
    pub(super) set_aside: bool,
}

/// A TOML value.
#[derive(Debug)]
pub(super) enum Value {
    String(Secret<String>),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A date or a time: nothing here is one.
    Date,
    Array(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Node {
    pub(super) fn new(origin: Origin, value: Value) -> Self {
        Self { key_origin: origin.clone(), origin, value, set_aside: false }
    }

    pub(super) fn table(origin: Origin) -> Self {
        Self::new(origin, Value::Table(BTreeMap::new()))
    }

    pub(super) fn string(origin: Origin, text: &str) -> Self {
        Self::new(origin, Value::String(Secret::new(text.to_owned())))
    }

    /// The tables and arrays from here to `path` as far as they exist, the last of them being the nearest to it.
    pub(super) fn nearest(&self, path: &KeyPath) -> &Self {
        let mut node = self;
        for step in path.steps() {
            let Some(child) = node.child(step) else { break };
            node = child;
        }
        node
    }

    pub(super) fn find(&self, path: &KeyPath) -> Option<&Self> {
        path.steps().iter().try_fold(self, |node, step| node.child(step))
    }

    fn child(&self, step: &Step) -> Option<&Self> {
        match (&self.value, step) {
            (Value::Table(entries), Step::Key(key)) => entries.get(key),
            (Value::Array(items), Step::Index(index)) => items.get(*index),
            _ => None,
        }
    }

    fn child_mut(&mut self, step: &Step) -> Option<&mut Self> {
        match (&mut self.value, step) {
            (Value::Table(entries), Step::Key(key)) => entries.get_mut(key),
            (Value::Array(items), Step::Index(index)) => items.get_mut(*index),
            _ => None,
        }
    }

    /// Sets the node at `path` aside, or the nearest one above it that exists.
    pub(super) fn set_aside(&mut self, path: &KeyPath) {
        let mut depth = path.steps().len();
        while self.find(&prefix(path, depth)).is_none() && depth > 0 {
            depth -= 1;
        }
        let mut node = self;
        for step in &path.steps()[..depth] {
            match node.child_mut(step) {
                Some(child) => node = child,
                None => return,
            }
        }
        node.set_aside = true;
    }

    /// Puts `child` at `path` and makes the tables on the way. Answers how many elements there are where an array
    /// on the way is too short. Where something other than a table is in the way, nothing changes: its type is a
    /// problem already.
    pub(super) fn put(&mut self, path: &KeyPath, child: Self) -> Result<(), usize> {
        let Some((last, way)) = path.steps().split_last() else { return Ok(()) };
        let mut node = self;
        for (n, step) in way.iter().enumerate() {
            if node.child(step).is_none() {
                let next = match path.steps()[n + 1] {
                    Step::Key(_) => Self::table(child.origin.clone()),
                    Step::Index(_) => Self::new(child.origin.clone(), Value::Array(Vec::new())),
                };
                node.set(step, next)?;
            }
            match node.child_mut(step) {
                Some(next) => node = next,
                None => return Ok(()),
            }
        }
        node.set(last, child)
    }

    fn set(&mut self, step: &Step, child: Self) -> Result<(), usize> {
        match (&mut self.value, step) {
            (Value::Table(entries), Step::Key(key)) => {
                entries.insert(key.clone(), child);
            }
            (Value::Array(items), Step::Index(index)) if *index < items.len() => items[*index] = child,
            (Value::Array(items), Step::Index(index)) if *index == items.len() => items.push(child),
            (Value::Array(items), Step::Index(_)) => return Err(items.len()),
            _ => {}
        }
        Ok(())
    }

    /// The numbers of the elements that were not set aside.
    pub(super) fn indices(&self) -> Vec<usize> {
        match &self.value {
            Value::Array(items) => (0..items.len()).filter(|&n| !items[n].set_aside).collect(),
            _ => Vec::new(),
        }
    }
}

fn prefix(path: &KeyPath, depth: usize) -> KeyPath {
    let mut path = path.clone();
    while path.steps().len() > depth {
        path = path.parent().unwrap_or_default();
    }
    path
}

/// A TOML text as a tree.
pub(super) struct Parsed {
    /// What could be recovered, where there are syntax errors.
    pub(super) root: Node,
    /// Every syntax error.
    pub(super) problems: Problems,
    /// The lines whose values mean nothing, because of a syntax error in them.
    pub(super) murky: Vec<RangeInclusive<usize>>,
}

/// Reads a TOML text; `name` is what its problems call it.
pub(super) fn parse(name: &str, text: &str) -> Parsed {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text: Text::new(name, text), brackets: Vec::new(), oversized: Vec::new() };
    let file = Origin::File { name: reader.text.name.clone(), at: None };
    let root = Node::new(file, Value::Table(reader.entries(table.into_inner())));

    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let unread = errors.get(MAX_SYNTAX_ERRORS).map(|error| error.span().map_or(0, |span| span.start));
    errors.truncate(MAX_SYNTAX_ERRORS);

    // A list that is never closed swallows the lines after it, and each of them is an error of its own then.
    let ends: Vec<usize> = errors
        .iter()
        .filter(|e| e.message().starts_with("unclosed"))
        .filter_map(|e| Some(e.span()?.start))
        .collect();
    let mut unclosed: Vec<Range<usize>> =
        reader.brackets.iter().filter(|span| ends.contains(&span.end)).cloned().collect();
    unclosed.sort_by_key(|span| span.start);

    let mut found: Vec<(usize, usize, &str)> = Vec::new();
    let mut swallowed_to = None;
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        if swallowed_to.is_some_and(|end| at <= end) {
            continue;
        }
        match unclosed.iter().find(|span| span.start < at && at <= span.end) {
            Some(span) => {
                swallowed_to = Some(span.end);
                found.push((span.start, span.end, NEVER_CLOSED));
            }
            None => found.push((at, at, error.message())),
        }
    }
    found.extend(
        reader.oversized.iter().map(|&at| (at, at, "the number has more digits than a number can have")),
    );
    found.sort_by_key(|(from, _, _)| *from);

    let text = &reader.text;
    let mut murky: Vec<_> =
        found.iter().map(|(from, to, _)| text.position(*from).line..=text.position(*to).line).collect();
    murky.extend(unread.map(|from| text.position(from).line..=usize::MAX));
    // The parser stumbles on after a mistake: what it says first about a line is the one to fix.
    found.dedup_by_key(|(from, _, _)| text.position(*from).line);
    let problems = found
        .iter()
        .take(MAX_SYNTAX_PROBLEMS)
        .map(|(from, _, message)| syntax_problem(text.origin(*from), message))
        .collect();
    Parsed { root, problems, murky }
}

/// A single TOML value, as an environment variable may hold one.
pub(super) fn parse_value(origin: &Origin, text: &str) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let text = Text { fixed: Some(origin.clone()), ..Text::new("", text) };
    let mut reader = Reader { text, brackets: Vec::new(), oversized: Vec::new() };
    let node = reader.node(None, value);
    reader.oversized.is_empty().then_some(node)
}

/// The line of an origin in a file.
pub(super) fn line(origin: &Origin) -> Option<usize> {
    match origin {
        Origin::File { at: Some(at), .. } => Some(at.line),
        _ => None,
    }
}

/// Turns the parser's values into nodes, and notes what it comes across.
struct Reader<'t> {
    text: Text<'t>,
    /// Where the lists and the tables in braces are.
    brackets: Vec<Range<usize>>,
    /// Where numbers are that are none.
    oversized: Vec<usize>,
}

impl Reader<'_> {
    fn entries(&mut self, table: DeTable<'_>) -> BTreeMap<String, Node> {
        let mut entries = BTreeMap::new();
        for (key, value) in table {
            let key_origin = self.text.origin(key.span().start);
            entries.insert(key.into_inner().into_owned(), self.node(Some(key_origin), value));
        }
        entries
    }

    fn node(&mut self, key_origin: Option<Origin>, value: Spanned<DeValue<'_>>) -> Node {
        let span = value.span();
        let origin = self.text.origin(span.start);
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(Secret::new(text.into_owned())),
            DeValue::Integer(number) => {
                let value = i64::from_str_radix(number.as_str(), number.radix());
                Value::Integer(value.unwrap_or_else(|_| {
                    self.oversized.push(span.start);
                    0
                }))
            }
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(word) => Value::Boolean(word),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => {
                self.brackets.push(span);
                Value::Array(items.into_iter().map(|item| self.node(None, item)).collect())
            }
            DeValue::Table(table) => {
                self.brackets.push(span);
                Value::Table(self.entries(table))
            }
        };
        Node { key_origin: key_origin.unwrap_or_else(|| origin.clone()), origin, value, set_aside: false }
    }
}

/// A text and where its lines begin.
struct Text<'t> {
    name: Arc<str>,
    whole: &'t str,
    lines: Vec<usize>,
    /// The origin of everything in it, where it has no lines of its own.
    fixed: Option<Origin>,
}

impl<'t> Text<'t> {
    fn new(name: &str, text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|n| n + 1));
        Self { name: name.into(), whole: text, lines: lines.collect(), fixed: None }
    }

    fn origin(&self, at: usize) -> Origin {
        match &self.fixed {
            Some(origin) => origin.clone(),
            None => Origin::File { name: self.name.clone(), at: Some(self.position(at)) },
        }
    }

    fn position(&self, at: usize) -> Position {
        let line = self.lines.partition_point(|&start| start <= at).max(1);
        let start = self.lines[line - 1];
        let column = self.whole.get(start..at).map_or(0, |before| before.chars().count()) + 1;
        Position { line, column }
    }
}

fn syntax_problem(origin: Origin, message: &str) -> Problem {
    let help = if message.starts_with("string values must be quoted") {
        "put the value in double quotes"
    } else if message.starts_with("duplicate key") {
        "keep one of the two"
    } else if message == NEVER_CLOSED {
        "end it with the bracket that it begins with: ] or }"
    } else {
        "a line is `key = value` or `[section]`; strings stand in double quotes, lists in [ ]"
    };
    Problem {
        severity: Severity::Error,
        origin,
        key: KeyPath::default(),
        what: format!("not valid TOML: {message}"),
        help: help.to_owned(),
    }
}

const NEVER_CLOSED: &str = "the list or table that begins here is never closed";
/// The parser's own count; more of them is no configuration, and what follows is not looked at.
const MAX_SYNTAX_ERRORS: usize = 1000;
/// A file that is no configuration at all has an error on each line; more than this are not read.
const MAX_SYNTAX_PROBLEMS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        parse("t", text).problems.iter().map(|p| (line(&p.origin).unwrap(), p.what.clone())).collect()
    }

    #[test]
    fn every_line_with_a_syntax_error_is_reported_once() {
        let found = lines("a = hunter2\nb = 1 2\nok = 1\n[a.b\nq = 7\nok = 99999999999999999999\n");
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 4, 6]);
        assert!(found.iter().all(|(_, what)| !what.contains("hunter2")));
    }

    #[test]
    fn a_list_that_is_never_closed_is_one_error_at_its_beginning() {
        let found = lines("[server]\nlisten = [\"a\"\nx = 1\ny = \"b\"\n[t]\nz=1\n");
        assert_eq!(found, [(2, format!("not valid TOML: {NEVER_CLOSED}"))]);
    }

    #[test]
    fn a_column_counts_characters() {
        let Parsed { root, .. } = parse("t", "\"käse\" = 1\n");
        let origin = &root.find(&KeyPath::default().key("käse")).unwrap().origin;
        assert_eq!(origin.to_string(), "t:1:10");
    }

    #[test]
    fn a_tree_prints_no_string() {
        let Parsed { root, .. } = parse("t", "client_secret = \"sentinel\"\n");
        assert!(!format!("{root:?}").contains("sentinel"));
    }
}
