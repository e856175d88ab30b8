//! The JSON schema of the configuration, from the same types that read it: for editors, and for the names of the
//! environment's overrides.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::file::File;
use super::problem::{KeyPath, Step};

/// The JSON schema (draft 7, which TOML editors know) of a configuration file.
#[must_use]
pub(crate) fn schema() -> Value {
    SCHEMA.clone()
}

/// The schema, made once: each of a file's mistakes looks into it.
pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<File>().to_value();
    without_null(&mut schema);
    schema["title"] = "Cupbearer configuration".into();
    schema
});

/// The default of the key at `path` as TOML, as an example of its type: for a fix.
pub(super) fn example(path: &KeyPath) -> Option<String> {
    // JSON writes these as TOML does.
    default(path).map(Value::to_string)
}

/// The same as it is written after `VARIABLE=` in a shell.
pub(super) fn example_in_a_variable(path: &KeyPath) -> Option<String> {
    default(path).map(|value| match value {
        Value::String(text) => text.clone(),
        Value::Array(_) => format!("'{value}'"),
        value => value.to_string(),
    })
}

fn default(path: &KeyPath) -> Option<&'static Value> {
    let node = path.steps().iter().try_fold(&*SCHEMA, |node, step| match step {
        Step::Key(key) => node["properties"].get(key).or_else(|| node.get("additionalProperties")),
        Step::Index(_) => node.get("items"),
    })?;
    match node.get("default")? {
        value @ (Value::String(_) | Value::Number(_) | Value::Bool(_)) => Some(value),
        value @ Value::Array(items) if !items.is_empty() => Some(value),
        _ => None,
    }
}

/// TOML has no null: an optional key is left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            if let Some(Value::Object(defaults)) = members.get_mut("default") {
                defaults.retain(|_, value| !value.is_null());
            }
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    members["type"] = only.clone();
                }
            }
            if let Some(Value::Array(words)) = members.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            if let Some(Value::Array(alternatives)) = members.get_mut("anyOf") {
                alternatives.retain(|one| one["type"] != "null");
                if let [Value::Object(only)] = alternatives.as_mut_slice() {
                    let only = std::mem::take(only);
                    members.remove("anyOf");
                    // The key's own description stands before its type's.
                    for (name, value) in only {
                        members.entry(name).or_insert(value);
                    }
                }
            }
            for member in members.values_mut() {
                without_null(member);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}
