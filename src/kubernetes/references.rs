//! What the sidecars of a file read from objects of the same file: the `ConfigMap`, and the Secret that it names files of.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::configuration::{Configuration, strings};
use super::object;
use super::pod::has_it;
use super::problem::Problem;
use super::resources;
use super::sidecar::{CONFIG, CONTAINER, PREFIX, SECRET, SECRET_FILES, SERVER_LISTEN, STORE};

/// What the `ConfigMap`s of a file say of the sidecars' pods, by namespace and name.
pub(super) fn configurations(documents: &[Value]) -> HashMap<(&str, &str), Configuration> {
    let read = |map: Held<'_>| {
        let config = map.fields.get("data")?["config.toml"].as_str()?.parse().ok()?;
        Some(Configuration::of(&config, format!("{}, document {}", object::named(map.fields), map.document)))
    };
    held(documents)
        .into_iter()
        .filter_map(|held| match held.key() {
            ("ConfigMap", namespace, name) => Some(((namespace, name), read(held)?)),
            _ => None,
        })
        .collect()
}

/// An object of the file.
struct Held<'a> {
    /// Of the file, counted from 1.
    document: usize,
    fields: &'a Map<String, Value>,
}

impl<'a> Held<'a> {
    /// Kind, namespace and name.
    fn key(&self) -> (&'a str, &'a str, &'a str) {
        let kind = self.fields.get("kind").and_then(Value::as_str).unwrap_or_default();
        (kind, object::metadata(self.fields, "namespace"), object::metadata(self.fields, "name"))
    }
}

/// An object that a sidecar names, and where it is held, if the file holds it.
struct Named<'a> {
    name: &'a str,
    held: Option<&'a Held<'a>>,
}

/// Looks at each pod's sidecar in `documents`. What is missing in the file may be in the cluster: that makes a note.
pub(super) fn check(documents: &[Value], problems: &mut Vec<Problem>) -> Vec<String> {
    let held = held(documents);
    let named: HashMap<_, _> = held.iter().map(|held| (held.key(), held)).collect();
    let mut notes = Vec::new();
    for pod in &held {
        if object::pod(pod.fields).is_some_and(has_it) {
            notes.extend(misplaced(pod.fields));
            notes.extend(at_the_node(pod.fields));
        }
        let spec = object::pod(pod.fields).and_then(|pod| pod.get("spec"));
        let Some(volumes) = spec.and_then(|spec| spec["volumes"].as_array()) else { continue };
        let namespace = object::metadata(pod.fields, "namespace");
        let find = |kind: &str, volume: &str, of: &str, key: &str| {
            let volume = volumes.iter().find(|it| it["name"] == volume)?;
            let name = volume[of][key].as_str()?;
            Some(Named { name, held: named.get(&(kind, namespace, name)).copied() })
        };
        let config = find("ConfigMap", CONFIG, "configMap", "name");
        let secret = find("Secret", SECRET, "secret", "secretName");
        for (kind, named) in [("ConfigMap", &config), ("Secret", &secret)] {
            let Some(Named { name, held: None }) = named else { continue };
            let place =
                if namespace.is_empty() { String::new() } else { format!(" in the namespace {namespace}") };
            let note =
                format!("the {kind} {name} is not in this file: it must be{place} before the pods can start");
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        if let Some(Named { held: Some(map), .. }) = config {
            notes.extend(overridden(pod.fields, map));
            for problem in check_config(map, secret.as_ref()) {
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
    }
    notes
}

/// What the sidecar changes for the node that its pod is on.
fn at_the_node(fields: &Map<String, Value>) -> Vec<String> {
    let Some(spec) = object::pod(fields).and_then(|pod| pod.get("spec")).and_then(Value::as_object) else {
        return Vec::new();
    };
    let volumes = spec.get("volumes").and_then(Value::as_array);
    let is_store = |volume: &Value| volume["name"] == STORE && !volume["emptyDir"].is_null();
    let stores = volumes.is_some_and(|volumes| volumes.iter().any(is_store));
    let drain = stores.then(|| {
        format!("`kubectl drain` stops at a pod with the volume {STORE} unless it has --delete-emptydir-data")
    });
    let named = object::named(fields);
    [resources::note(spec), drain].into_iter().flatten().map(|note| format!("{named}: {note}")).collect()
}

/// Annotations of ours that are not where a pod has its own.
fn misplaced(fields: &Map<String, Value>) -> Option<String> {
    let template = object::template_field(fields)?;
    let metadata = fields.get("metadata")?;
    let keys = ["annotations", "labels"]
        .into_iter()
        .filter_map(|part| metadata[part].as_object())
        .flat_map(Map::keys);
    let key = keys.into_iter().find(|key| key.starts_with(PREFIX))?;
    let named = object::named(fields);
    Some(format!("{key} of the {named} itself says nothing of its pods: theirs are in {template}.metadata"))
}

/// A `server.listen` that the sidecar's environment overrides.
fn overridden(fields: &Map<String, Value>, map: &Held<'_>) -> Option<String> {
    let config: toml::Table = map.fields.get("data")?["config.toml"].as_str()?.parse().ok()?;
    let written = match config.get("server")?.get("listen")? {
        toml::Value::Array(addresses) => addresses.iter().filter_map(toml::Value::as_str).collect(),
        address => vec![address.as_str()?],
    };
    let spec = object::pod(fields)?.get("spec")?;
    let containers = ["initContainers", "containers"].into_iter().filter_map(|list| spec[list].as_array());
    let sidecar = containers.flatten().find(|container| container["name"] == CONTAINER)?;
    let env = sidecar["env"].as_array()?.iter().find(|variable| variable["name"] == SERVER_LISTEN)?;
    let counts = env["value"].as_str().filter(|value| written != [*value])?;
    let (map, pod) = (object::named(map.fields), object::named(fields));
    Some(format!(
        "server.listen in the {map} does not count: the sidecar of the {pod} listens on {counts}; help: \
         cupbearer.dev/port: \"config\" (or --port config) leaves the address to the configuration"
    ))
}

fn held(documents: &[Value]) -> Vec<Held<'_>> {
    let documents = (1..).zip(documents);
    documents
        .flat_map(|(document, value)| {
            object::flattened(value).into_iter().map(move |fields| Held { document, fields })
        })
        .collect()
}

/// Whether the files that a configuration names are keys of the Secret that is mounted there.
fn check_config(map: &Held<'_>, secret: Option<&Named<'_>>) -> Vec<Problem> {
    let problem = |field: String, says: String| {
        Problem::at(field, says).of(&object::named(map.fields)).in_document(map.document)
    };
    let Some(config) = map.fields.get("data").and_then(|data| data["config.toml"].as_str()) else {
        let says = "it has no key config.toml, which the sidecar reads";
        return vec![problem("data".to_owned(), says.to_owned())];
    };
    let table: toml::Table = match config.parse() {
        Ok(table) => table,
        Err(error) => {
            return vec![problem(
                "data[config.toml]".to_owned(),
                format!("this is no TOML: {}", error.message()),
            )];
        }
    };
    let mut files = Vec::new();
    strings(&toml::Value::Table(table), "", &mut files);
    let said = |(key, file): (String, String)| {
        let name = file.strip_prefix(SECRET_FILES)?.strip_prefix('/')?;
        let says = match secret {
            None => format!(
                "{file} is a Secret's, and the sidecar gets none: name it by --secret or the annotation cupbearer.dev/secret"
            ),
            Some(Named { name: secret, held: Some(held) }) => {
                let has = |part: &str| held.fields.get(part).is_some_and(|part| part.get(name).is_some());
                if has("data") || has("stringData") {
                    return None;
                }
                format!("the Secret {secret} has no key {name}")
            }
            // It may be in the cluster.
            Some(_) => return None,
        };
        Some(problem(format!("data[config.toml], {key}"), says))
    };
    files.into_iter().filter_map(said).collect()
}
