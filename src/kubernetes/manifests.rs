//! A file of manifests with the sidecar put into its pods, or taken out of them.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::emit;
use super::object::{self, Outcome, Report};
use super::problem::Problem;
use super::sidecar::Sidecar;
use super::splice::{self, Edit};
use super::yaml::{self, Node};

/// Whether the sidecar comes or goes.
#[derive(Clone, Copy, Debug)]
pub enum Direction<'a> {
    /// It is put into each pod.
    In(&'a Sidecar),
    /// It is taken out of each.
    Out,
}

/// What a file became.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// The file; byte for byte as it was where nothing changed.
    pub text: String,
    /// What became of each object that holds pods, in the file's order.
    pub reports: Vec<Report>,
    /// What may be wrong, and nobody can tell from the file alone.
    pub notes: Vec<String>,
}

/// Reads `text`, which may hold several documents, lists and objects of any kind, in YAML or JSON, and writes it with the pods
/// changed. Lines that need not change stay as they are; a document that is written so that this cannot be done (with
/// anchors that pods share, say) is written anew, in the same order and without its comments.
///
/// # Errors
/// Every [`Problem`]; then nothing is written.
pub fn rewrite(text: &str, direction: Direction<'_>) -> Result<Rewritten, Vec<Problem>> {
    let (mark, text) = text.strip_prefix(BYTE_ORDER_MARK).map_or(("", text), |text| (BYTE_ORDER_MARK, text));
    let nodes = yaml::documents(text).map_err(|problem| vec![problem])?;
    let old: Vec<Value> = nodes.iter().map(Node::value).collect();
    let mut new = old.clone();
    let (mut reports, mut problems) = (Vec::new(), Vec::new());
    for (at, object) in new.iter_mut().enumerate() {
        let mut found = Vec::new();
        match direction {
            Direction::In(sidecar) => object::inject(object, sidecar, &mut reports, &mut found),
            Direction::Out => object::uninject(object, &mut reports, &mut found),
        }
        problems.extend(found.into_iter().map(|problem| problem.in_document(at + 1)));
    }
    let mut notes = Vec::new();
    if matches!(direction, Direction::In(_)) {
        check_references(&new, &mut problems, &mut notes);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let changed = reports.iter().any(|report| report.outcome == Outcome::Changed);
    let written = if changed { write(text, &nodes, &old, &new) } else { text.to_owned() };
    Ok(Rewritten { text: mark.to_owned() + &written, reports, notes })
}

/// The text that means `new`: by edits to all documents, else to each by itself, else written anew.
fn write(text: &str, nodes: &[Node], old: &[Value], new: &[Value]) -> String {
    let means = |text: &str, values: &[Value]| {
        yaml::documents(text).is_ok_and(|nodes| {
            nodes.len() == values.len() && nodes.iter().zip(values).all(|(n, v)| n.value() == *v)
        })
    };
    let mut edits: Vec<Edit> = Vec::new();
    for (at, node) in nodes.iter().enumerate().filter(|(at, _)| old[*at] != new[*at]) {
        let document = splice::edits(text, node, &old[at], &new[at]);
        let mut alone = old.to_vec();
        new[at].clone_into(&mut alone[at]);
        let document = document.filter(|_| {
            // Edits are made twice rather than cloned.
            let trial =
                splice::edits(text, node, &old[at], &new[at]).and_then(|edits| splice::edited(text, edits));
            trial.is_some_and(|trial| means(&trial, &alone))
        });
        edits.extend(document.unwrap_or_else(|| vec![anew(text, node, &new[at])]));
    }
    if let Some(written) = splice::edited(text, edits).filter(|written| means(written, new)) {
        return written;
    }
    // Directives and such things between the documents are what is left to be in the way.
    new.iter().map(|value| format!("---\n{}\n", emit::block(value).join("\n"))).collect()
}

/// The edit that writes a whole document anew.
fn anew(text: &str, node: &Node, value: &Value) -> Edit {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let line = text[..node.start].rfind('\n').map_or(0, |newline| newline + 1);
    let with = emit::block(value).join(newline);
    // Behind `---`, or behind an anchor of the document's own, which nobody needs any more.
    let before = &text[line..node.start];
    let (start, with) = match before.strip_prefix("---") {
        Some(_) => (line + 3, newline.to_owned() + &with),
        None => (line, with),
    };
    Edit { start, end: node.end, with }
}

/// What the sidecars' volumes name and the file itself has, or has not.
fn check_references(documents: &[Value], problems: &mut Vec<Problem>, notes: &mut Vec<String>) {
    let objects: Vec<(usize, &Map<String, Value>)> = documents
        .iter()
        .enumerate()
        .flat_map(|(at, value)| object::flattened(value).into_iter().map(move |o| (at, o)))
        .collect();
    let mut held: HashMap<(&str, String, String), (usize, &Map<String, Value>)> = HashMap::new();
    for &(at, fields) in &objects {
        let text =
            |key: &str| fields.get("metadata").and_then(|m| m[key].as_str()).unwrap_or_default().to_owned();
        if let Some(kind @ ("ConfigMap" | "Secret")) = fields.get("kind").and_then(Value::as_str) {
            held.insert((kind, text("namespace"), text("name")), (at, fields));
        }
    }
    let mut noted = Vec::new();
    for &(_, fields) in &objects {
        let mut copy = Value::Object(fields.clone());
        let namespace = fields.get("metadata").and_then(|m| m["namespace"].as_str()).unwrap_or_default();
        let mut named = Vec::new();
        let mut look = |pod: &mut Map<String, Value>, _: bool| {
            for volume in pod.get("spec").and_then(|spec| spec["volumes"].as_array()).into_iter().flatten() {
                match volume["name"].as_str() {
                    Some("cupbearer-config") => {
                        named.push(("ConfigMap", volume["configMap"]["name"].clone()))
                    }
                    Some("cupbearer-secret") => {
                        named.push(("Secret", volume["secret"]["secretName"].clone()))
                    }
                    _ => {}
                }
            }
            Ok(None)
        };
        object::each_pod(&mut copy, &mut look, &mut Vec::new(), &mut Vec::new());
        let find = |kind: &'static str| {
            let name = named.iter().find(|(k, _)| *k == kind).and_then(|(_, name)| name.as_str())?;
            Some((name.to_owned(), held.get(&(kind, namespace.to_owned(), name.to_owned())).copied()))
        };
        let (config, secret) = (find("ConfigMap"), find("Secret"));
        for (kind, found) in [("ConfigMap", &config), ("Secret", &secret)] {
            if let Some((name, None)) = found {
                let place = if namespace.is_empty() {
                    String::new()
                } else {
                    format!(" in the namespace {namespace}")
                };
                let note = format!(
                    "the {kind} {name} is not in this file: it must be{place} before the pods can start"
                );
                if !noted.contains(&note) {
                    noted.push(note);
                }
            }
        }
        if let Some((_, Some((at, map)))) = config {
            check_config(at, map, secret.as_ref(), problems);
        }
    }
    notes.extend(noted);
}

/// Whether the files that a configuration names are keys of the Secret that is mounted there.
fn check_config(
    at: usize,
    map: &Map<String, Value>,
    secret: Option<&(String, Option<(usize, &Map<String, Value>)>)>,
    problems: &mut Vec<Problem>,
) {
    let mut say = |field: String, says: String| {
        let problem = Problem::at(field, says).of(&object::named(map)).in_document(at + 1);
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    let Some(config) = map.get("data").and_then(|data| data["config.toml"].as_str()) else {
        return say("data".to_owned(), "it has no key config.toml, which the sidecar reads".to_owned());
    };
    let table: toml::Table = match config.parse() {
        Ok(table) => table,
        Err(error) => {
            return say("data[config.toml]".to_owned(), format!("this is no TOML: {}", error.message()));
        }
    };
    let mut files = Vec::new();
    strings(&toml::Value::Table(table), "", &mut files);
    for (key, file) in files {
        let Some(name) = file.strip_prefix("/run/secrets/cupbearer/") else { continue };
        let field = format!("data[config.toml], {key}");
        match secret {
            None => say(
                field,
                format!(
                    "{file} is a Secret's, and the sidecar gets none: name it by --secret or cupbearer.dev/secret"
                ),
            ),
            Some((secret, Some((_, fields)))) => {
                let has = ["data", "stringData"]
                    .iter()
                    .any(|part| fields.get(*part).is_some_and(|part| part.get(name).is_some()));
                if !has {
                    say(field, format!("the Secret {secret} has no key {name}"));
                }
            }
            // It may be in the cluster.
            Some((_, None)) => {}
        }
    }
}

fn strings(value: &toml::Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        toml::Value::String(text) => found.push((path.to_owned(), text.clone())),
        toml::Value::Array(items) => items.iter().for_each(|item| strings(item, path, found)),
        toml::Value::Table(entries) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                strings(value, &path, found);
            }
        }
        _ => {}
    }
}

const BYTE_ORDER_MARK: &str = "\u{feff}";
