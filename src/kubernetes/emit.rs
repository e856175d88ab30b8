//! A value as YAML that people read: blocks, and quotes where there is need of them.

use serde_json::Value;

use super::scalar;

/// The lines of `value` as a block, without indentation of their own and without an end of line after the last.
pub(super) fn block(value: &Value) -> Vec<String> {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            entries.iter().flat_map(|(key, value)| entry(key, value)).collect()
        }
        Value::Array(items) if !items.is_empty() => items.iter().flat_map(item).collect(),
        value => scalar_lines(value),
    }
}

/// The lines of an entry of a mapping.
pub(super) fn entry(key: &str, value: &Value) -> Vec<String> {
    let key = word(key);
    let mut lines = block(value);
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
pub(super) fn item(value: &Value) -> Vec<String> {
    let mut lines = block(value);
    indent(&mut lines[1..]);
    lines[0] = format!("- {}", lines[0]);
    lines
}

/// `value` on one line, in flow style: JSON is YAML.
pub(super) fn flow(value: &Value) -> String {
    value.to_string()
}

/// By one level. Empty lines of a text stay empty.
fn indent(lines: &mut [String]) {
    for line in lines.iter_mut().filter(|line| !line.is_empty()) {
        line.insert_str(0, "  ");
    }
}

fn scalar_lines(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => literal(text).unwrap_or_else(|| vec![word(text)]),
        value => vec![flow(value)],
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
    if plain { text.to_owned() } else { flow(&Value::String(text.to_owned())) }
}

/// `cupbearer:0.1.0`, `/readyz`, `ALL`: what nobody takes for a number, a date or a structure.
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

    use super::block;
    use crate::kubernetes::yaml::documents;

    #[test]
    fn it_reads_as_people_write_it() {
        let value = json!({"name": "cupbearer", "args": ["run"], "ports": [{"containerPort": 9901, "name": "health"}], "empty": {},
            "version": "1.0", "image": "cupbearer:0.1.0", "limit": "64Mi", "port": "0.0.0.0:1", "on": "yes", "script": "set -e\nrun\n", "none": null});
        assert_eq!(
            block(&value).join("\n"),
            "name: cupbearer\nargs:\n- run\nports:\n- containerPort: 9901\n  name: health\nempty: {}\nversion: \"1.0\"\nimage: cupbearer:0.1.0\nlimit: 64Mi\nport: \"0.0.0.0:1\"\n\
             \"on\": \"yes\"\nscript: |\n  set -e\n  run\nnone: null"
        );
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(texts in proptest::collection::vec("\\PC*|[ \\n\\t:#'\"a-z|>-]*", 0..6), number: i64) {
            let value = json!({"texts": texts, "nested": [[texts, {"n": number}], []], "n": number});
            let text = block(&value).join("\n") + "\n";
            proptest::prop_assert_eq!(documents(&text).unwrap()[0].value(), value, "{}", text);
        }
    }
}
