//! A value as YAML that people read: blocks, and quotes where there is need of them.

use serde_json::Value;

use super::patch::common_ends;
use super::scalar;
use super::yaml::{Kind, Node};

/// Writes values, with the words of `text` where they come from there: `08`, `.inf` or a number of 40 digits mean different
/// things to different readers, and none of them is to see a change.
pub(super) struct Emitter<'a> {
    text: &'a str,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// The lines of `value`, which `from` had before, as a block without indentation of its own and without an end of line after
    /// the last.
    pub(super) fn block(&self, value: &Value, from: Option<&Node<'_>>) -> Vec<String> {
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                entries.iter().flat_map(|(key, value)| self.entry(key, value, from)).collect()
            }
            Value::Array(items) if !items.is_empty() => items
                .iter()
                .zip(sources(items, from))
                .flat_map(|(item, from)| self.item(item, from))
                .collect(),
            Value::String(text) if self.original(value, from).is_none() => {
                literal(text).unwrap_or_else(|| vec![word(text)])
            }
            value => vec![self.flow(value, from)],
        }
    }

    /// The lines of an entry of a mapping, which `of` is or was.
    pub(super) fn entry(&self, key: &str, value: &Value, of: Option<&Node<'_>>) -> Vec<String> {
        let (from, key) = match of.and_then(|of| of.entry(key)) {
            Some(entry) => (Some(&entry.value), if entry.plain { key.to_owned() } else { word(key) }),
            None => (None, word(key)),
        };
        let mut lines = self.block(value, from);
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                indent(&mut lines);
                lines.insert(0, format!("{key}:"));
            }
            // The style of Kubernetes' own examples: a list is not indented.
            Value::Array(items) if !items.is_empty() => lines.insert(0, format!("{key}:")),
            _ => {
                indent(&mut lines[1..]);
                lines[0] = format!("{key}: {}", lines[0]);
            }
        }
        lines
    }

    /// The lines of an item of a list.
    pub(super) fn item(&self, value: &Value, from: Option<&Node<'_>>) -> Vec<String> {
        let mut lines = self.block(value, from);
        indent(&mut lines[1..]);
        lines[0] = format!("- {}", lines[0]);
        lines
    }

    /// `value` on one line, in flow style: JSON is YAML.
    pub(super) fn flow(&self, value: &Value, from: Option<&Node<'_>>) -> String {
        let (open, parts, close) = match value {
            Value::Object(entries) => {
                let part = |(key, value): (&String, &Value)| {
                    let entry = from.and_then(|from| from.entry(key));
                    let value = self.flow(value, entry.map(|entry| &entry.value));
                    let plain = entry.is_some_and(|entry| entry.plain) && stands_anywhere(key);
                    format!("{}: {value}", if plain { key.clone() } else { quoted(key) })
                };
                ('{', entries.iter().map(part).collect::<Vec<_>>(), '}')
            }
            Value::Array(items) => {
                let parts = items.iter().zip(sources(items, from)).map(|(item, from)| self.flow(item, from));
                ('[', parts.collect(), ']')
            }
            value => return self.original(value, from).map_or_else(|| value.to_string(), str::to_owned),
        };
        format!("{open}{}{close}", parts.join(", "))
    }

    /// The words of a plain scalar that means `value`, where they can stand anywhere.
    fn original(&self, value: &Value, from: Option<&Node<'_>>) -> Option<&'a str> {
        let node = from?.resolved();
        let Kind::Scalar { plain: true, .. } = &node.kind else { return None };
        let words = &self.text[node.start()..node.end()];
        (node.value() == *value && stands_anywhere(words)).then_some(words)
    }
}

/// Whether a plain scalar stays one in flow style, on one line.
fn stands_anywhere(words: &str) -> bool {
    !words.is_empty() && !words.contains([',', '[', ']', '{', '}', '\r', '\n'])
}

/// Which item of `from`, which was another list before, each of `items` was.
fn sources<'n, 't>(items: &[Value], from: Option<&'n Node<'t>>) -> Vec<Option<&'n Node<'t>>> {
    let Some(Kind::Sequence { items: nodes, .. }) = from.map(|from| &from.resolved().kind) else {
        return vec![None; items.len()];
    };
    if nodes.len() == items.len() {
        return nodes.iter().map(Some).collect();
    }
    let before: Vec<Value> = nodes.iter().map(Node::value).collect();
    let (first, last) = common_ends(&before, items);
    let of = |at: usize| {
        let from_end = items.len() - at;
        if at < first { Some(at) } else { nodes.len().checked_sub(from_end).filter(|_| from_end <= last) }
    };
    (0..items.len()).map(|at| of(at).map(|at| &nodes[at])).collect()
}

/// By one level. Empty lines of a text stay empty.
fn indent(lines: &mut [String]) {
    for line in lines.iter_mut().filter(|line| !line.is_empty()) {
        line.insert_str(0, "  ");
    }
}

/// Text of several lines as it is (`|`), where it can be.
fn literal(text: &str) -> Option<Vec<String>> {
    let body = text.trim_end_matches('\n');
    let clean = body.contains('\n')
        && !body.starts_with([' ', '\n'])
        && body
            .chars()
            .all(|c| c == '\n' || (!c.is_control() && c != '\u{feff}' && c != '\u{2028}' && c != '\u{2029}'))
        && body.lines().all(|line| !line.ends_with(' '));
    let header = match text.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => return None,
    };
    clean.then(|| std::iter::once(header.to_owned()).chain(body.lines().map(str::to_owned)).collect())
}

/// Text on one line, in quotes where YAML 1.1 or 1.2 might take it for something else.
fn word(text: &str) -> String {
    let plain = (is_name(text) || is_amount(text)) && scalar::plain(text).is_string();
    if plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// `cupbearer:0.1.0`, `/readyz`, `ALL`: what no reader takes for a number, a date or a structure.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/_.-:".contains(c))
        && !text.ends_with(':')
}

/// `10m`, `64Mi`.
fn is_amount(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    !digits.is_empty()
        && digits.bytes().all(|digit| digit.is_ascii_digit())
        && ["m", "k", "Ki", "Mi", "Gi"].contains(&&text[digits.len()..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Emitter;
    use crate::yaml::{Documents, Node};

    fn documents(text: &str) -> Vec<Node<'_>> {
        Documents::new(text).map(|document| document.unwrap().node).collect()
    }

    #[test]
    fn it_reads_as_people_write_it() {
        let value = json!({"name": "cupbearer", "args": ["run"], "ports": [{"containerPort": 9901, "name": "health"}], "empty": {},
            "version": "1.0", "image": "cupbearer:0.1.0", "limit": "64Mi", "port": "0.0.0.0:1", "on": "yes", "script": "set -e\nrun\n", "none": null});
        assert_eq!(
            Emitter::new("").block(&value, None).join("\n"),
            "name: cupbearer\nargs:\n- run\nports:\n- containerPort: 9901\n  name: health\nempty: {}\nversion: \"1.0\"\nimage: cupbearer:0.1.0\nlimit: 64Mi\nport: \"0.0.0.0:1\"\n\
             \"on\": \"yes\"\nscript: |\n  set -e\n  run\nnone: null"
        );
    }

    #[test]
    fn what_was_there_before_stays_as_it_was_written() {
        let text = "a: &a {day: 08, y: .inf, Off: 1_0, big: 123456789012345678901234567890}\nb: [0x1F, *a, 'no', ~]\n";
        let node = documents(text).remove(0);
        let mut value = node.value();
        value["b"].as_array_mut().unwrap().insert(0, json!("new"));
        let a = "day: 08\n  y: .inf\n  Off: 1_0\n  big: 123456789012345678901234567890";
        let list = format!("- new\n- 0x1F\n- {a}\n- \"no\"\n- ~");
        assert_eq!(
            Emitter::new(text).block(&value, Some(&node)).join("\n"),
            format!("a:\n  {a}\nb:\n{list}")
        );
        assert_eq!(
            Emitter::new(text).flow(&value["a"], node.entry("a").map(|entry| &entry.value)),
            "{day: 08, y: .inf, Off: 1_0, big: 123456789012345678901234567890}"
        );
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(texts in proptest::collection::vec("\\PC*|[ \\n\\t:#'\"a-z|>-]*", 0..6), number: i64) {
            let value = json!({"texts": texts, "nested": [[texts, {"n": number}], []], "n": number});
            let text = Emitter::new("").block(&value, None).join("\n") + "\n";
            proptest::prop_assert_eq!(documents(&text)[0].value(), value, "{}", text);
        }
    }
}
