//! A document's text edited to mean something else, with every line that need not change left as it is.
//!
//! It may give up, and it may be wrong where a document is written strangely: the caller reads the result again.

use serde_json::{Map, Value};

use super::emit::Emitter;
use super::patch::common_ends;
use super::yaml::{Entry, Kind, Node};

/// `text[start..end]` becomes `with`.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) with: String,
}

/// What makes `node`, which means `old`, mean `new`. `None` where this cannot be done by edits.
pub(super) fn edits(
    text: &str,
    newline: &str,
    node: &Node<'_>,
    old: &Value,
    new: &Value,
) -> Option<Vec<Edit>> {
    let mut splice = Splice { text, newline, emit: Emitter::new(text), edits: Vec::new() };
    splice.change(node, old, new)?;
    let mut edits = splice.edits;
    // Stable: what is inserted at one place stays in the order that it was asked for.
    edits.sort_by_key(|edit| edit.start);
    edits.is_sorted_by(|before, after| before.end <= after.start).then_some(edits)
}

/// The text with `edits` made, which do not overlap.
pub(super) fn edited<'a>(text: &str, edits: impl IntoIterator<Item = &'a Edit>) -> Option<String> {
    let mut edits: Vec<&Edit> = edits.into_iter().collect();
    edits.sort_by_key(|edit| edit.start);
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let (mut made, mut at) = (String::with_capacity(text.len() + added), 0);
    for edit in edits {
        made.push_str(text.get(at..edit.start)?);
        made.push_str(&edit.with);
        at = edit.end;
    }
    made.push_str(text.get(at..)?);
    Some(made)
}

struct Splice<'a> {
    text: &'a str,
    newline: &'a str,
    emit: Emitter<'a>,
    edits: Vec<Edit>,
}

impl Splice<'_> {
    fn change(&mut self, node: &Node<'_>, old: &Value, new: &Value) -> Option<()> {
        match (&node.kind, old, new) {
            _ if old == new => Some(()),
            (Kind::Mapping { flow, entries }, Value::Object(old), Value::Object(new))
                if !entries.is_empty() && !new.is_empty() =>
            {
                self.change_entries(*flow, entries, old, new)
            }
            (Kind::Sequence { flow, items }, Value::Array(old), Value::Array(new))
                if !items.is_empty() && !new.is_empty() =>
            {
                self.change_items(*flow, items, old, new)
            }
            // Flow style is at home everywhere, on one line.
            _ => {
                let space = if node.start() == node.end() { " " } else { "" };
                self.replace(node.start(), node.end(), space.to_owned() + &self.emit.flow(new, Some(node)));
                Some(())
            }
        }
    }

    fn change_entries(
        &mut self,
        flow: bool,
        entries: &[Entry<'_>],
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Option<()> {
        for (at, entry) in entries.iter().enumerate() {
            match (old.get(&*entry.key), new.get(&*entry.key)) {
                (Some(old), Some(new)) => self.change(&entry.value, old, new)?,
                (Some(_), None) if !flow => {
                    let next = entries.get(at + 1).filter(|next| new.contains_key(&*next.key));
                    self.remove_lines(entry.start(), entry.value.end(), next.map(Entry::start))?;
                }
                (Some(_) | None, _) => {}
            }
        }
        if flow {
            let spans: Vec<_> = entries.iter().map(|entry| (entry.start(), entry.value.end())).collect();
            self.remove_of_flow(&spans, |at| !new.contains_key(&*entries[at].key));
        }
        let mut before = None;
        for (key, value) in new {
            if let Some(at) = entries.iter().position(|entry| entry.key == *key) {
                before = Some(at);
                continue;
            }
            if old.get(key) == Some(value) {
                continue;
            }
            let lines = if flow {
                vec![format!(
                    "{}: {}",
                    self.emit.flow(&key.as_str().into(), None),
                    self.emit.flow(value, None)
                )]
            } else {
                self.emit.entry(key, value, None)
            };
            match before {
                Some(at) if !self.has_open_end(&entries[at].value) => {
                    self.insert_after(flow, entries[at].value.end(), entries[at].start(), &lines)?;
                }
                _ => self.insert_before(flow, entries[0].start(), &lines)?,
            }
        }
        Some(())
    }

    fn change_items(&mut self, flow: bool, items: &[Node<'_>], old: &[Value], new: &[Value]) -> Option<()> {
        if old.len() != items.len() {
            return None;
        }
        if old.len() == new.len() {
            return items
                .iter()
                .zip(old.iter().zip(new))
                .try_for_each(|(item, (old, new))| self.change(item, old, new));
        }
        let starts: Vec<usize> = items
            .iter()
            .map(|item| if flow { Some(item.start()) } else { self.dash(item.start()) })
            .collect::<Option<_>>()?;
        let (first, last) = common_ends(old, new);
        let gone = first..old.len() - last;
        if flow {
            let spans: Vec<_> = items.iter().map(|item| (item.start(), item.end())).collect();
            self.remove_of_flow(&spans, |at| gone.contains(&at));
        } else {
            for at in gone.clone() {
                self.remove_lines(starts[at], items[at].end(), None)?;
            }
        }
        let come = &new[first..new.len() - last];
        // What is both removed and inserted at one place is left to the writer of the whole document.
        if !gone.is_empty() && !come.is_empty() {
            return None;
        }
        for (nth, value) in come.iter().enumerate() {
            let lines = if flow { vec![self.emit.flow(value, None)] } else { self.emit.item(value, None) };
            match first.checked_sub(1) {
                Some(before) => self.insert_after(flow, items[before].end(), starts[before], &lines)?,
                None if nth == 0 || !flow => self.insert_before(flow, starts[0], &lines)?,
                None => return None,
            }
        }
        Some(())
    }

    fn replace(&mut self, start: usize, end: usize, with: String) {
        self.edits.push(Edit { start, end, with });
    }

    /// Whether it ends with a block scalar whose last line ends with the text: another line behind it would end it, and so be part of it.
    fn has_open_end(&self, node: &Node<'_>) -> bool {
        match &node.kind {
            _ if node.end() < self.text.len() => false,
            Kind::Scalar { plain, .. } => {
                let words = &self.text[node.start()..];
                let quoted =
                    ['"', '\''].iter().any(|quote| words.starts_with(*quote) && words.ends_with(*quote));
                !plain && !quoted
            }
            Kind::Alias(_) => false,
            Kind::Sequence { items, .. } => items.last().is_some_and(|item| self.has_open_end(item)),
            Kind::Mapping { entries, .. } => {
                entries.last().is_some_and(|entry| self.has_open_end(&entry.value))
            }
        }
    }

    /// Takes those of `spans` out that are `gone`, with the commas that go with them.
    fn remove_of_flow(&mut self, spans: &[(usize, usize)], gone: impl Fn(usize) -> bool) {
        let mut at = 0;
        while at < spans.len() {
            let run = (at..spans.len()).take_while(|at| gone(*at)).count();
            if run > 0 {
                let (first, next) = (spans[at].0, spans.get(at + run).map(|next| next.0));
                // With the comma before them: what follows keeps its line.
                let (start, end) = match (at.checked_sub(1), next) {
                    (Some(before), _) => (spans[before].1, spans[at + run - 1].1),
                    (None, Some(next)) => (first, next),
                    (None, None) => (first, spans[at + run - 1].1),
                };
                self.replace(start, end, String::new());
            }
            at += run + 1;
        }
    }

    /// Takes the whole lines of `start..end` out, in block style, but for a comment behind them. What comes `next` takes the place of what
    /// stands behind a dash.
    fn remove_lines(&mut self, start: usize, end: usize, next: Option<usize>) -> Option<()> {
        let line = line_start(self.text, start);
        if !self.text[line..start].trim().is_empty() {
            let next = next.filter(|next| self.text[end..*next].trim().is_empty())?;
            self.replace(start, next, String::new());
            return Some(());
        }
        // A comment behind the last of them belongs to what follows.
        let rest = &self.text[end..self.line_end(end)];
        match rest.trim_start() {
            comment if comment.starts_with('#') => {
                self.replace(start, end + rest.len() - comment.len(), String::new());
            }
            _ => self.replace(line, self.next_line(end), String::new()),
        }
        Some(())
    }

    /// Behind `end`; in block style after its line, under what starts at `above`.
    fn insert_after(&mut self, flow: bool, end: usize, above: usize, lines: &[String]) -> Option<()> {
        if flow {
            self.replace(end, end, lines.iter().fold(String::new(), |with, line| with + ", " + line));
            return Some(());
        }
        let (at, column) = (self.line_end(end), self.column(above)?);
        let mut with = String::new();
        for line in lines {
            with.push_str(self.newline);
            with.push_str(&indented(line, column));
        }
        self.replace(at, at, with);
        Some(())
    }

    /// Before what starts at `start`, in block style with what comes behind a dash or another key moved to a line of its own.
    fn insert_before(&mut self, flow: bool, start: usize, lines: &[String]) -> Option<()> {
        let mut with = String::new();
        if flow {
            with = lines.iter().fold(with, |with, line| with + line + ", ");
        } else {
            let column = self.column(start)?;
            for (nth, line) in lines.iter().enumerate() {
                with.push_str(&if nth == 0 { line.clone() } else { indented(line, column) });
                with.push_str(self.newline);
            }
            with.push_str(&" ".repeat(column));
        }
        self.replace(start, start, with);
        Some(())
    }

    /// Where the dash of the item at `start` is. Between them may be an anchor, a tag and comments.
    fn dash(&self, start: usize) -> Option<usize> {
        let mut before = self.text[..start].trim_end();
        loop {
            if let Some(dash) = before.strip_suffix('-') {
                return Some(dash.len());
            }
            let line = line_start(before, before.len());
            let comment =
                before[line..].find('#').filter(|at| before[..line + at].ends_with(char::is_whitespace));
            let word = before.rfind(char::is_whitespace)? + 1;
            before = match comment {
                Some(at) => before[..line + at].trim_end(),
                None if before[word..].starts_with(['&', '!']) => before[..word].trim_end(),
                None => return None,
            };
        }
    }

    /// Where on its line, in characters.
    fn column(&self, at: usize) -> Option<usize> {
        let before = &self.text[line_start(self.text, at)..at];
        (!before.contains('\t')).then(|| before.chars().count())
    }

    /// Before the end of the line.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find(['\r', '\n']).map_or(self.text.len(), |end| at + end)
    }

    fn next_line(&self, at: usize) -> usize {
        let end = self.line_end(at);
        let newline = if self.text[end..].starts_with("\r\n") { 2 } else { 1 };
        (end + newline).min(self.text.len())
    }
}

/// Where the line that `at` is on begins.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind(['\r', '\n']).map_or(0, |newline| newline + 1)
}

fn indented(line: &str, column: usize) -> String {
    if line.is_empty() { String::new() } else { " ".repeat(column) + line }
}
