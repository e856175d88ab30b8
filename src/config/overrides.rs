//! Environment overrides: `CUPBEARER__TOKENS__API__CLIENT_ID=orders` sets `tokens.api.client_id`.
//!
//! Keys match whatever their case. The names of upstreams, tokens and parameters match whatever their case too, and
//! `_` matches `-`, since a variable's name can have none; one that matches nothing makes a new entry in lower case.
//! A value is taken as TOML where the key's type is not a string or it is a quoted string or a list, else as it is.

use std::ffi::OsString;

use serde_json::Value as Schema;

use super::later;
use super::problem::{KeyPath, Origin, Problem, Severity, Step};
use super::schema::SCHEMA;
use super::shape::nearest;
use super::tree::{Node, Value, parse_value};

/// Puts every override among `variables` into the tree, and answers those that fit nowhere.
pub(super) fn apply(root: &mut Node, variables: &[(OsString, OsString)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let ours: Vec<_> = variables
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?.strip_prefix(PREFIX)?, name.to_str()?, value)))
        .collect();
    let mut found = Vec::new();
    for (rest, name, value) in ours {
        let origin = Origin::Variable(name.to_owned());
        match locate(root, &SCHEMA, rest) {
            Ok((path, schema)) => match value.to_str() {
                Some(text) => found.push((path, node(&origin, schema, text))),
                None => problems.push(problem(origin, path, "is not UTF-8 text", "set it to text")),
            },
            Err(Unknown { path, meant }) => problems.push(unknown(origin, path, meant)),
        }
    }
    // Whole tables before their keys, and array elements in their order.
    found.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, node) in found {
        let origin = node.origin.clone();
        if let Err(length) = root.put(&path, node) {
            let what =
                format!("there are only {length} elements before it, and the next one is number {length}");
            problems.push(problem(origin, path, &what, "number the elements from 0 without a gap"));
        }
    }
    problems
}

/// A variable that names no key.
struct Unknown {
    path: KeyPath,
    meant: Option<String>,
}

/// The key that `rest` (`TOKENS__API__CLIENT_ID`) names, and its schema.
fn locate<'s>(root: &Node, schema: &'s Schema, rest: &str) -> Result<(KeyPath, &'s Schema), Unknown> {
    let mut path = KeyPath::default();
    let mut here = schema;
    for part in rest.split("__") {
        let part = part.to_ascii_lowercase();
        if let Some(next) = here["properties"].get(&part) {
            path = path.key(&part);
            here = next;
        } else if here["additionalProperties"].is_object() && !part.is_empty() {
            path = path.key(&existing(root, &path, &part).unwrap_or(part));
            here = &here["additionalProperties"];
        } else if let (Some(items), Ok(index)) = (items(here), part.parse()) {
            path = path.index(index);
            here = items;
        } else {
            let known = here["properties"].as_object().into_iter().flat_map(|keys| keys.keys());
            let meant = nearest(&part, known.map(String::as_str)).map(|word| path.key(word));
            return Err(Unknown { path: path.key(&part), meant: meant.map(|path| variable(&path)) });
        }
    }
    Ok((path, here))
}

/// The name in the table at `path` that `part` stands for.
fn existing(root: &Node, path: &KeyPath, part: &str) -> Option<String> {
    let Value::Table(entries) = &root.find(path)?.value else { return None };
    let same = |name: &&String| name.to_ascii_lowercase().replace('-', "_") == part.replace('-', "_");
    entries.keys().find(same).cloned()
}

/// What the elements of an array are, where `schema` allows one.
fn items(schema: &Schema) -> Option<&Schema> {
    alternatives(schema).find_map(|one| one.get("items"))
}

fn alternatives(schema: &Schema) -> impl Iterator<Item = &Schema> {
    std::iter::once(schema).chain(schema["anyOf"].as_array().into_iter().flatten())
}

/// The text as a value of the type that the key has.
fn node(origin: &Origin, schema: &Schema, text: &str) -> Node {
    let allows = |kind: &str| alternatives(schema).any(|one| one["type"] == kind);
    let parsed = parse_value(origin, text);
    let fits = parsed.filter(|node| match node.value {
        Value::String(_) => true,
        Value::Array(_) => allows("array"),
        Value::Table(_) => allows("object"),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date => !allows("string"),
    });
    fits.unwrap_or_else(|| Node::string(origin.clone(), text))
}

/// The variable for the key at `path`, where its value came from the variable `given`: that one, or its own where
/// `given` is a whole table's.
pub(super) fn variable_for(given: &str, path: &KeyPath) -> String {
    let parts = given.strip_prefix(PREFIX).map_or(0, |rest| rest.split("__").count());
    if parts == path.steps().len() { given.to_owned() } else { variable(path) }
}

fn variable(path: &KeyPath) -> String {
    let parts: Vec<String> = path
        .steps()
        .iter()
        .map(|step| match step {
            Step::Key(key) => key.to_ascii_uppercase().replace('-', "_"),
            Step::Index(index) => index.to_string(),
        })
        .collect();
    format!("{PREFIX}{}", parts.join("__"))
}

fn unknown(origin: Origin, path: KeyPath, meant: Option<String>) -> Problem {
    if later::is_key(&path) {
        return problem(origin, path, "this version does not support this key yet", "unset the variable");
    }
    let help = meant.map_or_else(
        || "unset it; the form is CUPBEARER__SECTION__KEY, or CUPBEARER__TOKENS__NAME__KEY".to_owned(),
        |name| format!("did you mean {name}?"),
    );
    problem(origin, path, "the variable names no key of the configuration", &help)
}

fn problem(origin: Origin, key: KeyPath, what: &str, help: &str) -> Problem {
    Problem { severity: Severity::Error, origin, key, what: what.to_owned(), help: help.to_owned() }
}

const PREFIX: &str = "CUPBEARER__";
