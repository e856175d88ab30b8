//! A YAML stream as trees of nodes that know where in the text they stand.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag};
use serde_json::{Map, Value};

use super::problem::Problem;
use super::scalar;

/// A piece of a document: `text[start..end]`, without the comments around it.
#[derive(Clone, Debug)]
pub(super) struct Node<'t> {
    start: u32,
    end: u32,
    pub(super) kind: Kind<'t>,
}

/// What a node is. Scalars borrow from the text: a tree of a large file is not much larger than the file.
#[derive(Clone, Debug)]
pub(super) enum Kind<'t> {
    Scalar {
        words: Cow<'t, str>,
        /// The words say of what type it is, as those without quotes do.
        typed: bool,
        /// Neither in quotes nor in a block nor with a tag or an anchor: its text alone says what it is.
        plain: bool,
    },
    /// What its anchor stands for.
    Alias(Rc<Node<'t>>),
    Sequence {
        flow: bool,
        items: Box<[Node<'t>]>,
    },
    Mapping {
        flow: bool,
        entries: Box<[Entry<'t>]>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Entry<'t> {
    pub(super) key: Cow<'t, str>,
    /// Whether the key is as plain as [`Kind::Scalar`] may be.
    pub(super) plain: bool,
    start: u32,
    pub(super) value: Node<'t>,
}

impl<'t> Node<'t> {
    /// Of a text of at most [`LONGEST`].
    fn new(start: usize, end: usize, kind: Kind<'t>) -> Self {
        Self { start: start as u32, end: end as u32, kind }
    }

    pub(super) const fn start(&self) -> usize {
        self.start as usize
    }

    pub(super) const fn end(&self) -> usize {
        self.end as usize
    }

    /// What it means, with aliases resolved and merge keys (`<<`) merged.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar { words, typed: true, .. } => scalar::plain(words),
            Kind::Scalar { words, .. } => Value::String(words.clone().into_owned()),
            Kind::Alias(node) => node.value(),
            Kind::Sequence { items, .. } => items.iter().map(Node::value).collect(),
            Kind::Mapping { entries, .. } => {
                let mut merged = Map::new();
                for entry in entries.iter().filter(|entry| entry.merges()) {
                    let sources = match entry.value.value() {
                        Value::Array(sources) => sources,
                        source => vec![source],
                    };
                    // The first source that has a key wins, and a key of the mapping's own over all.
                    for source in sources {
                        let Value::Object(source) = source else { continue };
                        for (key, value) in source {
                            merged.entry(key).or_insert(value);
                        }
                    }
                }
                for entry in entries.iter().filter(|entry| !entry.merges()) {
                    merged.insert(entry.key.clone().into_owned(), entry.value.value());
                }
                Value::Object(merged)
            }
        }
    }

    /// Itself, or what its anchor stands for.
    pub(super) fn resolved(&self) -> &Self {
        match &self.kind {
            Kind::Alias(node) => node.resolved(),
            _ => self,
        }
    }

    /// The entry that `key` has its value from: one of its own, or of a mapping that is merged into it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry<'t>> {
        let Kind::Mapping { entries, .. } = &self.resolved().kind else { return None };
        let own = entries.iter().find(|entry| !entry.merges() && entry.key == key);
        own.or_else(|| {
            let merges = entries.iter().filter(|entry| entry.merges());
            merges.map(|entry| entry.value.resolved()).find_map(|source| match &source.kind {
                Kind::Sequence { items, .. } => items.iter().find_map(|source| source.entry(key)),
                _ => source.entry(key),
            })
        })
    }

    /// The keys of a mapping, each once; none of anything else.
    pub(super) fn keys(&self) -> Vec<&str> {
        let (mut keys, mut open) = (Vec::new(), vec![self.resolved()]);
        while let Some(node) = open.pop() {
            match &node.kind {
                Kind::Sequence { items, .. } => open.extend(items.iter().map(Node::resolved)),
                Kind::Mapping { entries, .. } => {
                    for entry in entries {
                        if entry.merges() {
                            open.push(entry.value.resolved());
                        } else {
                            keys.push(&*entry.key);
                        }
                    }
                }
                Kind::Scalar { .. } | Kind::Alias(_) => {}
            }
        }
        let mut seen = HashSet::new();
        keys.retain(|key| seen.insert(*key));
        keys
    }
}

impl Entry<'_> {
    /// Where the key begins.
    pub(super) const fn start(&self) -> usize {
        self.start as usize
    }

    fn merges(&self) -> bool {
        self.plain && self.key == MERGE
    }
}

/// A document of a stream.
#[derive(Debug)]
pub(super) struct Document<'t> {
    /// Of the stream, counted from 1.
    pub(super) number: usize,
    /// A document with nothing in it is a scalar without a value.
    pub(super) node: Node<'t>,
}

/// Reads the documents of a stream one by one. One that cannot be read is a [`Problem`] with its number, line and column, and
/// does not keep the others from being read.
pub(super) struct Documents<'t> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    /// Where the parser's text begins in `text`.
    base: usize,
    anchors: HashMap<usize, Rc<Node<'t>>>,
    /// Values that aliases have stood for so far.
    expanded: usize,
    number: usize,
    ended: bool,
    /// Keys that a mapping has twice: what a person should know of them.
    duplicates: Vec<String>,
}

impl<'t> Iterator for Documents<'t> {
    type Item = Result<Document<'t>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let (event, span) = match self.event() {
                Ok(next) => next,
                Err(problem) => return Some(Err(self.recovered(problem))),
            };
            match event {
                Event::StreamEnd => self.ended = true,
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::DocumentEnd => self.number += 1,
                event => {
                    let is_json = matches!(event, Event::MappingStart(StructureStyle::Flow, ..));
                    let before = self.start(&span);
                    return Some(match self.node(event, span, before, 0) {
                        Ok(node) => {
                            let document = Document { number: self.number, node };
                            if is_json {
                                self.skip_to_json(document.node.end());
                            }
                            Ok(document)
                        }
                        Err(problem) => Err(self.recovered(problem)),
                    });
                }
            }
        }
        None
    }
}

impl<'t> Documents<'t> {
    /// Of `text`, which [`readable`] has seen.
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            parser: parser(text),
            text,
            base: 0,
            anchors: HashMap::new(),
            expanded: 0,
            number: 1,
            ended: false,
            duplicates: Vec::new(),
        }
    }

    /// A line for each key that a mapping had twice so far.
    pub(super) fn duplicates(&mut self) -> Vec<String> {
        std::mem::take(&mut self.duplicates)
    }

    /// kubectl reads JSON objects that follow each other without anything between them: goes on with the one behind `end`, if any.
    fn skip_to_json(&mut self, end: usize) {
        let at = self.text.len() - self.text[end..].trim_start().len();
        if self.text[at..].starts_with('{') {
            self.number += 1;
            self.base = at;
            self.anchors.clear();
            self.parser = parser(&self.text[at..]);
        }
    }

    /// Goes on with the document after one that cannot be read.
    fn recovered(&mut self, problem: Problem) -> Problem {
        match self.parser.proceed_next_document() {
            Ok(true) => self.number += 1,
            Ok(false) | Err(_) => self.ended = true,
        }
        problem
    }

    fn event(&mut self) -> Result<(Event<'t>, Span), Problem> {
        let error = match self.parser.next_event() {
            Some(Ok(next)) => return Ok(next),
            None => return Ok((Event::StreamEnd, Span::default())),
            Some(Err(error)) => error,
        };
        let at = self.base + error.marker().byte_offset().unwrap_or_default();
        let help = match error.kind() {
            ErrorKind::TabInBlockIndentation | ErrorKind::TabNotAllowed => "; help: indent with spaces",
            ErrorKind::SimpleKeyExpected => "; help: put a colon and a space behind the key of this line",
            ErrorKind::UnknownAnchor => "; help: an anchor counts in its own document alone",
            ErrorKind::CommentNotSeparated => "; help: put a space before the #",
            _ => "; help: correct this line, or the one before it",
        };
        Err(self.problem(at, &format!("this is no YAML: {}{help}", error.info())))
    }

    /// One of what stands at `at`.
    fn problem(&self, at: usize, says: &str) -> Problem {
        let (line, column) = place(self.text, at);
        // An action on a line of its own is found out below it; text that is to have braces is in deeper.
        let is_action =
            |(at, text): (usize, &str)| text.starts_with("{{") || (at + 2 >= line && text.contains("{{"));
        let is_template = self.text.lines().take(line).enumerate().any(is_action);
        let says = if is_template { NOT_RENDERED } else { says };
        Problem::at(format!("line {line}, column {column}"), says).in_document(self.number)
    }

    fn start(&self, span: &Span) -> usize {
        span.start.byte_offset().map_or(self.text.len(), |at| self.base + at)
    }

    fn end(&self, span: &Span) -> usize {
        span.end.byte_offset().map_or(self.text.len(), |at| self.base + at)
    }

    /// The node that `event` begins. `before` is where one without any text stands.
    fn node(
        &mut self,
        event: Event<'t>,
        span: Span,
        before: usize,
        depth: usize,
    ) -> Result<Node<'t>, Problem> {
        let (start, end) = (self.start(&span), self.end(&span));
        if depth > DEEPEST {
            return Err(self.problem(start, "it is nested deeper than 100 levels"));
        }
        let (node, anchor) = match event {
            Event::Alias(anchor) => {
                let anchored = self.anchors.get(&anchor).cloned();
                // A parser that knows the anchor by number has seen it; it may still be open.
                let anchored =
                    anchored.ok_or_else(|| self.problem(start, "this alias stands within its own anchor"))?;
                self.expanded += size(&anchored);
                if self.expanded > MOST_EXPANDED {
                    return Err(self.problem(start, "its aliases stand for more than 100,000 values"));
                }
                (Node::new(start, end, Kind::Alias(anchored)), 0)
            }
            Event::Scalar(words, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none() && anchor == 0;
                let typed = typed(style, tag.as_deref());
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let quoted = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
                let (start, end) = if start == end {
                    (before, before)
                } else if quoted {
                    (start, end)
                } else {
                    // A block scalar's span reaches to the next token.
                    let last = start + self.text[start..end].trim_end().len();
                    (start, if block { self.kept(start, last) } else { last })
                };
                (Node::new(start, end, Kind::Scalar { words, typed, plain }), anchor)
            }
            Event::SequenceStart(style, anchor, _) => {
                let flow = style == StructureStyle::Flow;
                let (items, end) = self.items(end, flow, depth)?;
                (Node::new(start, end, Kind::Sequence { flow, items }), anchor)
            }
            Event::MappingStart(style, anchor, _) => {
                let flow = style == StructureStyle::Flow;
                let (entries, end) = self.entries(end, flow, depth)?;
                (Node::new(start, end, Kind::Mapping { flow, entries }), anchor)
            }
            _ => return Err(self.problem(start, "a value is missing here")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::new(node.clone()));
        }
        Ok(node)
    }

    /// Where a block scalar ends whose last line that has anything ends at `last`: where it keeps its empty lines (`|+`), after them.
    fn kept(&self, start: usize, last: usize) -> usize {
        // Its header stands on the last line before it, in front of a comment perhaps.
        let header = self.text[..start].trim_end().lines().next_back().unwrap_or_default();
        let header = header.split(" #").next().unwrap_or_default().split_whitespace().next_back();
        if !header.is_some_and(|header| header.starts_with(['|', '>']) && header.contains('+')) {
            return last;
        }
        let rest = &self.text[last..];
        let next = rest.find(|c: char| !" \r\n".contains(c)).unwrap_or(rest.len());
        let empty = rest[..next].trim_end_matches(' ');
        let end = empty.strip_suffix('\n').map_or(empty, |end| end.strip_suffix('\r').unwrap_or(end));
        last + end.len()
    }

    /// Behind the bracket that ends a flow collection. The parser has `span` for it: that of the last comma, where nothing else comes
    /// after it, and with the space and the comment behind it.
    fn closed(&self, span: &Span, bracket: char) -> usize {
        let mut rest = self.text[self.start(span)..].trim_start_matches(',').trim_start();
        while rest.starts_with('#') {
            rest = rest.find(['\r', '\n']).map_or("", |end| rest[end..].trim_start());
        }
        self.text.len() - rest.strip_prefix(bracket).unwrap_or(rest).len()
    }

    fn items(&mut self, open: usize, flow: bool, depth: usize) -> Result<(Box<[Node<'t>]>, usize), Problem> {
        let (mut items, mut end): (Vec<Node<'t>>, _) = (Vec::new(), open);
        loop {
            let (event, span) = self.event()?;
            if event == Event::SequenceEnd {
                return Ok((items.into_boxed_slice(), if flow { self.closed(&span, ']') } else { end }));
            }
            let before = self.start(&span);
            let node = self.node(event, span, before, depth + 1)?;
            end = node.end();
            items.push(node);
        }
    }

    fn entries(
        &mut self,
        open: usize,
        flow: bool,
        depth: usize,
    ) -> Result<(Box<[Entry<'t>]>, usize), Problem> {
        let (mut entries, mut end): (Vec<Entry<'t>>, _) = (Vec::new(), open);
        let (mut seen, mut shadowed) = (HashMap::new(), HashSet::new());
        loop {
            let (event, span) = self.event()?;
            if event == Event::MappingEnd {
                let mut at = 0..;
                entries.retain(|_| !at.next().is_some_and(|at| shadowed.contains(&at)));
                return Ok((entries.into_boxed_slice(), if flow { self.closed(&span, '}') } else { end }));
            }
            let (from, to) = (self.start(&span), self.end(&span));
            let (key, plain) = self.key(event, from)?;
            let merges = plain && key == MERGE;
            // A value without any text stands behind its key's colon.
            let colon = self.text[to..].find(':').map_or(to, |at| to + at + 1);
            let (event, span) = self.event()?;
            let value = self.node(event, span, colon, depth + 1)?;
            let is_mapping = |node: &Node<'_>| matches!(node.resolved().kind, Kind::Mapping { .. });
            let mergeable = match &value.resolved().kind {
                Kind::Sequence { items, .. } => items.iter().all(is_mapping),
                _ => is_mapping(&value),
            };
            if merges && !mergeable {
                return Err(self.problem(from, "<< merges mappings, and what it names is none"));
            }
            end = value.end();
            // The last one counts, to kubectl as to most readers.
            if let (false, Some(before)) = (merges, seen.insert(key.clone(), entries.len())) {
                if self.duplicates.len() < MOST_DUPLICATES {
                    let (line, _) = place(self.text, from);
                    self.duplicates.push(format!(
                        "line {line}: the key {key} is there a second time; the last one counts, as to kubectl"
                    ));
                }
                shadowed.insert(before);
            }
            // Where a key is marked as one (`? key`), its mark.
            let mark = self.text[..from].trim_end_matches([' ', '\t']).strip_suffix('?').map(str::len);
            let start = mark.filter(|mark| !self.text[..*mark].ends_with(|c: char| !c.is_whitespace()));
            entries.push(Entry { key, plain, start: start.unwrap_or(from) as u32, value });
        }
    }

    /// The key that `event` is, and whether it is plain.
    fn key(&self, event: Event<'t>, at: usize) -> Result<(Cow<'t, str>, bool), Problem> {
        match event {
            Event::Scalar(key, style, anchor, tag) => {
                Ok((key, style == ScalarStyle::Plain && tag.is_none() && anchor == 0))
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).map(|node| &node.kind) {
                Some(Kind::Scalar { words, .. }) => Ok((words.clone(), false)),
                _ => Err(self.problem(at, "a key must be a word")),
            },
            _ => Err(self.problem(at, "a key must be a word")),
        }
    }
}

fn parser(text: &str) -> Parser<'_, StrInput<'_>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    // As libyaml has it, which is what kubectl's reader is a port of.
    options.block_scalar_eof_without_line_feed = true;
    Parser::new_from_str_with_options(text, options)
}

/// Line and column of the byte `at`, counted from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
}

fn typed(style: ScalarStyle, tag: Option<&Tag>) -> bool {
    let core = tag.and_then(Tag::core_suffix);
    matches!(
        (style, tag, core),
        (ScalarStyle::Plain, None, _) | (_, _, Some("int" | "float" | "bool" | "null"))
    )
}

/// How many values are in it, itself included.
fn size(node: &Node<'_>) -> usize {
    1 + match &node.kind {
        Kind::Scalar { .. } => 0,
        Kind::Alias(node) => size(node),
        Kind::Sequence { items, .. } => items.iter().map(size).sum(),
        Kind::Mapping { entries, .. } => entries.iter().map(|entry| size(&entry.value)).sum(),
    }
}

/// YAML 1.1's key that merges other mappings into its own.
const MERGE: &str = "<<";
const NOT_RENDERED: &str = "this looks like a template that is not rendered: render it first, as in \
                            `helm template CHART | cupbearer inject`";
/// Manifests nest a dozen levels deep; a file that wants to exhaust the stack, thousands.
const DEEPEST: usize = 100;
/// Places in a text are kept in four bytes each.
pub(super) const LONGEST: usize = u32::MAX as usize;
/// More lines than these help no one.
const MOST_DUPLICATES: usize = 20;
/// Against files whose aliases multiply ("billion laughs").
const MOST_EXPANDED: usize = 100_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Documents, Kind, Node};
    use crate::problem::Problem;

    fn documents(text: &str) -> Result<Vec<Node<'_>>, Problem> {
        Documents::new(text).map(|document| document.map(|document| document.node)).collect()
    }

    #[test]
    fn a_stream_is_read_with_aliases_and_merges_resolved() {
        let text =
            "a: &x {b: 1, c: yes}\nd: *x\ne:\n  <<: *x\n  b: '2'\n---\n---\n[1, \"é\", !!str 3, {'<<': 4}]\n";
        let found: Vec<_> = documents(text).unwrap().iter().map(Node::value).collect();
        assert_eq!(
            found,
            [
                json!({"a": {"b": 1, "c": true}, "d": {"b": 1, "c": true}, "e": {"b": "2", "c": true}}),
                json!(null),
                json!([1, "é", "3", { "<<": 4 }])
            ]
        );
    }

    #[test]
    fn json_has_characters_in_two_halves_and_objects_without_anything_between_them() {
        let json = r#"{"a": "\\ud834\\udd1e é \ud834\udd1e\u0041\n\\"}{"b": 1}
  {"c": 2}"#;
        let found: Vec<_> = documents(json).unwrap().iter().map(Node::value).collect();
        let first = json!({"a": "\\ud834\\udd1e é 𝄞A\n\\"});
        assert_eq!(found, [first, json!({"b": 1}), json!({"c": 2})]);
        let error = documents("{\"a\": 1}\n{\"b\": }}\n").unwrap_err().to_string();
        assert!(error.contains("document 2: line 2, column"), "{error}");
    }

    #[test]
    fn of_a_key_that_is_there_twice_the_last_one_counts_and_that_is_noted() {
        let mut read = Documents::new("a: 1\nb: {c: 1, \"c\": 2}\na: 3\n---\nd: 1\n");
        let found: Vec<_> = read.by_ref().map(|document| document.unwrap().node.value()).collect();
        assert_eq!(found, [json!({"a": 3, "b": {"c": 2}}), json!({"d": 1})]);
        let notes = read.duplicates();
        assert!(
            notes[0].starts_with("line 2: the key c ") && notes[1].starts_with("line 3: the key a "),
            "{notes:?}"
        );
        assert_eq!(notes.len(), 2);
    }

    #[test]
    fn a_document_that_cannot_be_read_does_not_hide_the_others() {
        let text = "a: 1\n---\nb:\n\tc: 1\n---\nd: [\n---\ne: 1\n--- {f: ]}\n---\ng: 1\n";
        let found: Vec<_> = Documents::new(text)
            .map(|document| document.map(|document| (document.number, document.node.value())))
            .collect();
        let good: Vec<_> = found.iter().flatten().cloned().collect();
        assert_eq!(good, [(1, json!({"a": 1})), (4, json!({"e": 1})), (6, json!({"g": 1}))]);
        let bad: Vec<_> = found.iter().filter_map(|it| it.as_ref().err()).map(Problem::to_string).collect();
        assert_eq!(bad.len(), 3, "{bad:?}");
        assert!(
            bad[0].starts_with("document 2: line 4, column ") && bad[0].contains("help: indent with spaces")
        );
        assert!(
            bad[1].starts_with("document 3: line ") && bad[2].starts_with("document 5: line 9"),
            "{bad:?}"
        );
    }

    #[test]
    fn a_node_knows_where_it_stands() {
        let text = "ä: 1 # one\nlist:\n- a: b\n  c: |\n    two\n    lines\n\n# more\n- {x: y}\nnothing:\nlast: 'z'\n";
        let root = documents(text).unwrap().remove(0);
        let Kind::Mapping { entries, flow: false } = &root.kind else { panic!("{root:?}") };
        let texts: Vec<_> = entries.iter().map(|e| &text[e.value.start()..e.value.end()]).collect();
        assert_eq!(texts[0], "1");
        assert!(texts[1].ends_with("- {x: y}"), "{}", texts[1]);
        assert_eq!(texts[2], "");
        assert_eq!(texts[3], "'z'");
        assert_eq!(
            &text[..entries[2].value.start()],
            text.split_once("nothing:").unwrap().0.to_owned() + "nothing:"
        );
        let Kind::Sequence { items, flow: false } = &entries[1].value.kind else { panic!() };
        assert_eq!(&text[items[0].start()..items[0].end()], "a: b\n  c: |\n    two\n    lines");
        assert!(matches!(items[1].kind, Kind::Mapping { flow: true, .. }));
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_its_place() {
        let laughs = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
            let before = format!("*a{}", n - 1);
            text + &format!("a{n}: &a{n} [{}]\n", [before.as_str(); 10].join(", "))
        });
        for (text, says) in [
            ("a: 1\n---\nb: [1\n", "document 2: line"),
            ("a: b: c\n", "document 1: line 1"),
            ("? [a]\n: 1\n", "a key must be a word"),
            ("a:\n  <<: x\n", "line 2, column 3: << merges mappings, and what it names is none"),
            ("a: &a [1]\nb:\n  <<: [{}, *a]\n", "<< merges mappings"),
            (
                "replicas: {{ .Values.replicas }}\n",
                "line 1, column 12: this looks like a template that is not rendered",
            ),
            ("{{- if .Values.on }}\na: 1\n{{- end }}\n", "looks like a template"),
            ("a: |\n  {{ x }}\nb: 1\nc: [\nd: 1\n", "this is no YAML"),
            ("a: *b\n", "document 1: line 1"),
            (&"[".repeat(5000), "document 1"),
            (&("[".repeat(127) + &"]".repeat(127)), "nested deeper"),
            (&(("- ".repeat(300)) + "a\n"), "nested deeper"),
            (&laughs, "aliases stand for more"),
        ] {
            let problem = documents(text).unwrap_err().to_string();
            assert!(problem.contains(says), "{problem}");
        }
    }
}
