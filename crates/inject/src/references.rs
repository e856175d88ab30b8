//! What the sidecars of a file read from objects of the same file: the `ConfigMap`, and the Secret that it names files of.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::configuration::{Configuration, strings};
use super::manifests::CheckConfig;
use super::object::{self, Findings};
use super::pod::has_it;
use super::problem::Problem;
use super::remarks::remarks;
use super::resources;
use super::sidecar::{CONFIG, CONTAINER, PREFIX, SECRET, SECRET_FILES, SERVER_LISTEN, STORE};
use super::yaml::{Document, Node};

/// The `ConfigMap`s and Secrets of a file, as far as sidecars read them.
#[derive(Debug, Default)]
pub(super) struct References {
    held: Vec<Held>,
    /// By kind, namespace and name.
    places: HashMap<(&'static str, String, String), usize>,
    /// What has been said already.
    said: HashSet<String>,
}

/// An object of the file, of which a value is kept only where it is a configuration: the rest may be large, or secret.
#[derive(Debug)]
struct Held {
    /// Of the file, counted from 1.
    document: usize,
    fields: Map<String, Value>,
}

/// An object that a sidecar names, and where it is held, if the file holds it.
struct Named<'a> {
    name: &'a str,
    held: Option<&'a Held>,
}

impl References {
    /// Notes what `document` holds.
    pub(super) fn note(&mut self, document: &Document<'_>) {
        self.note_object(document.number, &document.node);
    }

    fn note_object(&mut self, number: usize, node: &Node<'_>) {
        if let Some(Ok(items)) = object::items(node) {
            for item in items {
                self.note_object(number, item);
            }
            return;
        }
        let mut fields = object::head(node);
        let kind = match fields.get("kind").and_then(Value::as_str) {
            Some("ConfigMap") => "ConfigMap",
            Some("Secret") => "Secret",
            _ => return,
        };
        for part in ["data", "stringData"] {
            let Some(entry) = node.entry(part) else { continue };
            let value = |key: &str| {
                let is_kept = kind == "ConfigMap" && key == CONFIG_FILE;
                let value = is_kept.then(|| entry.value.entry(key)).flatten();
                (key.to_owned(), value.map_or(Value::Null, |entry| entry.value.value()))
            };
            let kept: Map<String, Value> = entry.value.keys().into_iter().map(value).collect();
            fields.insert(part.to_owned(), kept.into());
        }
        let place = |key: &str| object::metadata(&fields, key).to_owned();
        self.places.insert((kind, place("namespace"), place("name")), self.held.len());
        self.held.push(Held { document: number, fields });
    }

    fn find(&self, kind: &'static str, namespace: &str, name: &str) -> Option<&Held> {
        self.places.get(&(kind, namespace.to_owned(), name.to_owned())).map(|at| &self.held[*at])
    }

    /// What a `ConfigMap` says of the sidecar's pod.
    pub(super) fn configuration(&self, namespace: &str, config_map: &str) -> Configuration {
        let read = |map: &Held| {
            let config = map.fields.get("data")?[CONFIG_FILE].as_str()?.parse().ok()?;
            let source = format!("{}, document {}", object::named(&map.fields), map.document);
            Some(Configuration::of(&config, source))
        };
        self.find("ConfigMap", namespace, config_map).and_then(read).unwrap_or_default()
    }

    /// Looks at the sidecar in the pod of `fields`. What is missing in the file may be in the cluster: that makes a note.
    pub(super) fn check(&mut self, fields: &Map<String, Value>, check: CheckConfig, findings: &mut Findings) {
        let (notes, problems) = self.checked(fields, check);
        for note in notes {
            if self.said.insert(note.clone()) {
                findings.notes.push(note);
            }
        }
        for problem in problems {
            if self.said.insert(problem.to_string()) {
                findings.problems.push(problem);
            }
        }
    }

    fn checked(&self, fields: &Map<String, Value>, check: CheckConfig) -> (Vec<String>, Vec<Problem>) {
        let mut notes = Vec::new();
        let Some(pod) = object::pod(fields) else { return (notes, Vec::new()) };
        if has_it(pod) {
            notes.extend(misplaced(fields));
            notes.extend(unregistered(pod));
            notes.extend(at_the_node(fields));
            let named = object::named(fields);
            notes.extend(remarks(pod).into_iter().map(|remark| format!("{named}: {remark}")));
        }
        let volumes = pod.get("spec").and_then(|spec| spec["volumes"].as_array());
        let Some(volumes) = volumes else { return (notes, Vec::new()) };
        let namespace = object::metadata(fields, "namespace");
        let find = |kind: &'static str, volume: &str, of: &str, key: &str| {
            let volume = volumes.iter().find(|it| it["name"] == volume)?;
            let name = volume[of][key].as_str()?;
            Some(Named { name, held: self.find(kind, namespace, name) })
        };
        let config = find("ConfigMap", CONFIG, "configMap", "name");
        let secret = find("Secret", SECRET, "secret", "secretName");
        for (kind, named) in [("ConfigMap", &config), ("Secret", &secret)] {
            let Some(Named { name, held: None }) = named else { continue };
            let place =
                if namespace.is_empty() { String::new() } else { format!(" in the namespace {namespace}") };
            notes.push(format!(
                "the {kind} {name} is not in this file: it must be{place} before the pods can start"
            ));
        }
        let problems = match &config {
            Some(Named { held: Some(map), .. }) => {
                notes.extend(overridden(fields, map));
                notes.extend(unusable(pod, map, check));
                check_config(map, secret.as_ref())
            }
            _ => Vec::new(),
        };
        (notes, problems)
    }
}

fn sidecar_of(pod: &Map<String, Value>) -> Option<&Value> {
    let spec = pod.get("spec")?;
    let containers = ["initContainers", "containers"].into_iter().filter_map(|list| spec[list].as_array());
    containers.flatten().find(|container| container["name"] == CONTAINER)
}

/// An image that nodes look for where it cannot be meant to be.
fn unregistered(pod: &Map<String, Value>) -> Option<String> {
    let image = sidecar_of(pod)?["image"].as_str()?;
    let is_registry = |host: &str| host.contains(['.', ':']) || host == "localhost";
    if image.split_once('/').is_some_and(|(host, _)| is_registry(host)) {
        return None;
    }
    Some(format!(
        "the sidecar's image {image} names no registry: nodes look for it at docker.io; help: name your own by --image or \
         the annotation cupbearer.dev/image, as in registry.example.com/{image}"
    ))
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
    let ours: Vec<&str> = keys.map(String::as_str).filter(|key| key.starts_with(PREFIX)).collect();
    let (keys, named) = (ours.join(", "), object::named(fields));
    let verb = if ours.len() == 1 { "says" } else { "say" };
    (!ours.is_empty()).then(|| {
        format!("{keys} of the {named} itself {verb} nothing of its pods: theirs are in {template}.metadata")
    })
}

/// A `server.listen` that the sidecar's environment overrides.
fn overridden(fields: &Map<String, Value>, map: &Held) -> Option<String> {
    let config: toml::Table = map.fields.get("data")?[CONFIG_FILE].as_str()?.parse().ok()?;
    let written = match config.get("server")?.get("listen")? {
        toml::Value::Array(addresses) => addresses.iter().filter_map(toml::Value::as_str).collect(),
        address => vec![address.as_str()?],
    };
    let sidecar = sidecar_of(object::pod(fields)?)?;
    let env = sidecar["env"].as_array()?.iter().find(|variable| variable["name"] == SERVER_LISTEN)?;
    let counts = env["value"].as_str().filter(|value| written != [*value])?;
    let (map, pod) = (object::named(&map.fields), object::named(fields));
    Some(format!(
        "server.listen in the {map} does not count: the sidecar of the {pod} listens on {counts}; help: \
         cupbearer.dev/port: \"config\" (or --port config) leaves the address to the configuration"
    ))
}

/// A configuration that the sidecar refuses at its start.
fn unusable(pod: &Map<String, Value>, map: &Held, check: CheckConfig) -> Option<String> {
    let config = map.fields.get("data")?[CONFIG_FILE].as_str()?;
    let variables = sidecar_of(pod)?["env"].as_array()?.iter();
    let variables =
        variables.filter_map(|it| Some((it["name"].as_str()?.into(), it["value"].as_str()?.into())));
    // What is no TOML is a problem by itself.
    config.parse::<toml::Table>().ok()?;
    let problems = check(config, variables.collect());
    let (first, count) = (problems.first()?, problems.len());
    let many = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    Some(format!("`cupbearer check` finds {many} in the {}: {first}", object::named(&map.fields)))
}

/// Whether the files that a configuration names are keys of the Secret that is mounted there.
fn check_config(map: &Held, secret: Option<&Named<'_>>) -> Vec<Problem> {
    let problem = |field: String, says: String| {
        Problem::at(field, says).of(&object::named(&map.fields)).in_document(map.document)
    };
    let Some(config) = map.fields.get("data").and_then(|data| data[CONFIG_FILE].as_str()) else {
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

/// The key of a `ConfigMap` that the sidecar reads.
const CONFIG_FILE: &str = "config.toml";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::unregistered;

    #[test]
    fn an_image_without_a_registry_is_noted() {
        for (image, noted) in [
            ("cupbearer:0.1.0", true),
            ("team/cupbearer:0.1.0", true),
            ("cupbearer@sha256:0123", true),
            ("docker.io/team/cupbearer:1", false),
            ("localhost/cupbearer:1", false),
            ("registry:5000/cupbearer", false),
            ("ghcr.io/o/cupbearer@sha256:0123", false),
        ] {
            let pod = json!({ "spec": { "initContainers": [{ "name": "cupbearer", "image": image }] } });
            assert_eq!(unregistered(pod.as_object().unwrap()).is_some(), noted, "{image}");
        }
    }
}
