//! A YAML stream as trees of nodes that know where in the text they stand.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Value};

use super::problem::Problem;
use super::scalar;

/// A piece of a document: `text[start..end]`, without the comments around it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar {
        value: Value,
        /// Neither in quotes nor in a block nor with a tag or an anchor: its text alone says what it is.
        plain: bool,
    },
    /// What its anchor stands for.
    Alias(Rc<Node>),
    Sequence {
        flow: bool,
        items: Vec<Node>,
    },
    Mapping {
        flow: bool,
        entries: Vec<Entry>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Whether the key is as plain as [`Kind::Scalar`] may be.
    pub(super) plain: bool,
    /// Where the key begins.
    pub(super) start: usize,
    pub(super) value: Node,
}

impl Node {
    /// What it means, with aliases resolved and merge keys (`<<`) merged.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar { value, .. } => value.clone(),
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
                    merged.insert(entry.key.clone(), entry.value.value());
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
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
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
}

impl Entry {
    fn merges(&self) -> bool {
        self.plain && self.key == MERGE
    }
}

/// The documents of `text`, in order. A document with nothing in it is a scalar without a value.
///
/// # Errors
/// A [`Problem`] with the document's number, line and column.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Problem> {
    Reader {
        parser: Parser::new_from_str(text),
        text,
        offsets: text.char_indices().map(|(at, _)| at).collect(),
        anchors: HashMap::new(),
        expanded: 0,
        document: 1,
    }
    .documents()
}

/// JSON has some characters in two halves (`\\ud834\\udd1e`), which YAML does not know: where `text` is JSON, each of them as one.
pub(super) fn with_whole_characters(text: &str) -> Cow<'_, str> {
    let may_have = text.contains("\\ud") || text.contains("\\uD");
    if !may_have || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Cow::Borrowed(text);
    }
    let half = |at: usize| u16::from_str_radix(text.get(at..)?.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let (mut whole, mut from) = (String::with_capacity(text.len()), 0);
    while let Some(escape) = text[from..].find('\\').map(|at| from + at) {
        whole.push_str(&text[from..escape]);
        let halves = half(escape).zip(half(escape + 6));
        match halves.map(|(first, second)| char::decode_utf16([first, second]).next()) {
            Some(Some(Ok(character))) if character > '\u{ffff}' => {
                whole.push(character);
                from = escape + 12;
            }
            // With what it escapes, which may be another backslash.
            _ => {
                whole.push_str(&text[escape..escape + 2]);
                from = escape + 2;
            }
        }
    }
    whole.push_str(&text[from..]);
    Cow::Owned(whole)
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    /// From the parser's positions, which are characters, to bytes.
    offsets: Vec<usize>,
    anchors: HashMap<usize, Rc<Node>>,
    /// Values that aliases have stood for so far.
    expanded: usize,
    document: usize,
}

impl<'a> Reader<'a> {
    fn documents(mut self) -> Result<Vec<Node>, Problem> {
        let mut found = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(found),
                Event::StreamStart | Event::Nothing | Event::DocumentStart(_) => {}
                Event::DocumentEnd => self.document += 1,
                event => {
                    let node = self.node(event, span, self.byte(span.start.index()), 0)?;
                    found.push(node);
                }
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let at = error.marker();
                Err(self.problem(at.line(), at.col(), &format!("this is no YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn problem(&self, line: usize, column: usize, says: &str) -> Problem {
        // An action on a line of its own is found out below it; text that is to have braces is in deeper.
        let is_action =
            |(at, text): (usize, &str)| text.starts_with("{{") || (at + 2 >= line && text.contains("{{"));
        let is_template = self.text.lines().take(line).enumerate().any(is_action);
        let says = if is_template { NOT_RENDERED } else { says };
        Problem::at(format!("line {line}, column {}", column + 1), says).in_document(self.document)
    }

    fn byte(&self, position: usize) -> usize {
        self.offsets.get(position).copied().unwrap_or(self.text.len())
    }

    /// The node that `event` begins. `before` is where one without any text stands.
    fn node(&mut self, event: Event<'a>, span: Span, before: usize, depth: usize) -> Result<Node, Problem> {
        let (line, column) = (span.start.line(), span.start.col());
        if depth > DEEPEST {
            return Err(self.problem(line, column, "it is nested deeper than 100 levels"));
        }
        let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()));
        // The bracket of a flow collection may stand behind an anchor and a tag. A block's span has nothing else.
        let flow = |open: char| {
            let mut words =
                self.text[start..end].split_whitespace().skip_while(|word| word.starts_with(['&', '!']));
            words.next().is_some_and(|word| word.starts_with(open))
        };
        let (node, anchor) = match event {
            Event::Alias(anchor) => {
                let anchored = self.anchors.get(&anchor).cloned();
                // A parser that knows the anchor by number has seen it; it may still be open.
                let anchored = anchored
                    .ok_or_else(|| self.problem(line, column, "this alias stands within its own anchor"))?;
                self.expanded += size(&anchored);
                if self.expanded > MOST_EXPANDED {
                    return Err(self.problem(line, column, "its aliases stand for more than 100,000 values"));
                }
                (Node { start, end, kind: Kind::Alias(anchored) }, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none() && anchor == 0;
                let mut value = scalar_value(&text, style, tag.as_deref());
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                // The parser takes the end of the text for the end of a line; Kubernetes' reader does not.
                if let (true, true, Value::String(text)) = (block, end == self.text.len(), &mut value)
                    && !self.text.ends_with('\n')
                    && text.ends_with('\n')
                {
                    text.pop();
                }
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
                (Node { start, end, kind: Kind::Scalar { value, plain } }, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let flow = flow('[');
                let (items, end) = self.items(end, flow, depth)?;
                (Node { start, end, kind: Kind::Sequence { flow, items } }, anchor)
            }
            Event::MappingStart(anchor, _) => {
                let flow = flow('{');
                let (entries, end) = self.entries(end, flow, depth)?;
                (Node { start, end, kind: Kind::Mapping { flow, entries } }, anchor)
            }
            _ => return Err(self.problem(line, column, "a value is missing here")),
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
        let mut rest = self.text[self.byte(span.start.index())..].trim_start_matches(',').trim_start();
        while rest.starts_with('#') {
            rest = rest.find(['\r', '\n']).map_or("", |end| rest[end..].trim_start());
        }
        self.text.len() - rest.strip_prefix(bracket).unwrap_or(rest).len()
    }

    fn items(&mut self, open: usize, flow: bool, depth: usize) -> Result<(Vec<Node>, usize), Problem> {
        let (mut items, mut end): (Vec<Node>, _) = (Vec::new(), open);
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok((items, if flow { self.closed(&span, ']') } else { end }));
            }
            let node = self.node(event, span, self.byte(span.start.index()), depth + 1)?;
            end = node.end;
            items.push(node);
        }
    }

    fn entries(&mut self, open: usize, flow: bool, depth: usize) -> Result<(Vec<Entry>, usize), Problem> {
        let (mut entries, mut end): (Vec<Entry>, _) = (Vec::new(), open);
        let mut seen = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok((entries, if flow { self.closed(&span, '}') } else { end }));
            }
            let (line, column) = (span.start.line(), span.start.col());
            let Event::Scalar(key, style, anchor, tag) = event else {
                return Err(self.problem(line, column, "a key must be a word"));
            };
            let plain = style == ScalarStyle::Plain && tag.is_none() && anchor == 0;
            let merges = plain && key == MERGE;
            let (from, to) = (self.byte(span.start.index()), self.byte(span.end.index()));
            if !merges && !seen.insert(key.clone()) {
                return Err(self.problem(line, column, &format!("the key {key} is there twice")));
            }
            // A value without any text stands behind its key's colon.
            let colon = self.text[to..].find(':').map_or(to, |at| to + at + 1);
            let (event, span) = self.next()?;
            let value = self.node(event, span, colon, depth + 1)?;
            let is_mapping = |node: &Node| matches!(node.resolved().kind, Kind::Mapping { .. });
            let mergeable = match &value.resolved().kind {
                Kind::Sequence { items, .. } => items.iter().all(is_mapping),
                _ => is_mapping(&value),
            };
            if merges && !mergeable {
                return Err(self.problem(line, column, "<< merges mappings, and what it names is none"));
            }
            end = value.end;
            // Where a key is marked as one (`? key`), its mark.
            let mark = self.text[..from].trim_end_matches([' ', '\t']).strip_suffix('?').map(str::len);
            let start = mark.filter(|mark| !self.text[..*mark].ends_with(|c: char| !c.is_whitespace()));
            entries.push(Entry { key: key.into_owned(), plain, start: start.unwrap_or(from), value });
        }
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    match (style, core) {
        (ScalarStyle::Plain, None) | (_, Some("int" | "float" | "bool" | "null")) => scalar::plain(text),
        _ => Value::String(text.to_owned()),
    }
}

/// How many values are in it, itself included.
fn size(node: &Node) -> usize {
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
/// Against files whose aliases multiply ("billion laughs").
const MOST_EXPANDED: usize = 100_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Kind, documents, with_whole_characters};

    #[test]
    fn a_stream_is_read_with_aliases_and_merges_resolved() {
        let text =
            "a: &x {b: 1, c: yes}\nd: *x\ne:\n  <<: *x\n  b: '2'\n---\n---\n[1, \"é\", !!str 3, {'<<': 4}]\n";
        let found: Vec<_> = documents(text).unwrap().iter().map(super::Node::value).collect();
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
    fn characters_in_two_halves_are_made_whole_in_json_alone() {
        let json = r#"{"a": "\\ud834\\udd1e é \ud834\udd1e\u0041\n\\"}"#;
        assert_eq!(with_whole_characters(json), r#"{"a": "\\ud834\\udd1e é 𝄞\u0041\n\\"}"#);
        let yaml = "a: |\n  \\ud834\\udd1e\n";
        assert_eq!(with_whole_characters(yaml), yaml);
    }

    #[test]
    fn a_node_knows_where_it_stands() {
        let text = "ä: 1 # one\nlist:\n- a: b\n  c: |\n    two\n    lines\n\n# more\n- {x: y}\nnothing:\nlast: 'z'\n";
        let root = documents(text).unwrap().remove(0);
        let Kind::Mapping { entries, flow: false } = &root.kind else { panic!("{root:?}") };
        let texts: Vec<_> = entries.iter().map(|e| &text[e.value.start..e.value.end]).collect();
        assert_eq!(texts[0], "1");
        assert!(texts[1].ends_with("- {x: y}"), "{}", texts[1]);
        assert_eq!(texts[2], "");
        assert_eq!(texts[3], "'z'");
        assert_eq!(
            &text[..entries[2].value.start],
            text.split_once("nothing:").unwrap().0.to_owned() + "nothing:"
        );
        let Kind::Sequence { items, flow: false } = &entries[1].value.kind else { panic!() };
        assert_eq!(&text[items[0].start..items[0].end], "a: b\n  c: |\n    two\n    lines");
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
            ("a: 1\na: 2\n", "line 2, column 1: the key a is there twice"),
            ("? [a]\n: 1\n", "a key must be a word"),
            ("a:\n  <<: x\n", "line 2, column 3: << merges mappings, and what it names is none"),
            ("a: &a [1]\nb:\n  <<: [{}, *a]\n", "<< merges mappings"),
            (
                "replicas: {{ .Values.replicas }}\n",
                "line 1, column 12: this looks like a template that is not rendered",
            ),
            ("{{- if .Values.on }}\na: 1\n{{- end }}\n", "looks like a template"),
            ("a: |\n  {{ x }}\nb: [\nc: 1\n", "this is no YAML"),
            ("a: *b\n", "document 1: line 1"),
            (&"[".repeat(5000), "document 1"),
            (&("[".repeat(127) + &"]".repeat(127)), "nested deeper"),
            (r#"{"a": 1, "a": 2}"#, "the key a is there twice"),
            (&(("- ".repeat(300)) + "a\n"), "nested deeper"),
            (&laughs, "aliases stand for more"),
        ] {
            let problem = documents(text).unwrap_err().to_string();
            assert!(problem.contains(says), "{problem}");
        }
    }
}
