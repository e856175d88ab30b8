//! The objects of a manifest that hold pods, and where.

use serde_json::{Map, Value};

use super::pod;
use super::problem::Problem;

/// What became of one object that holds pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `Deployment shop/orders`.
    pub object: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sidecar was put in, or taken out.
    Changed,
    /// Another one was there before: one of other flags, of another version, or changed by hand.
    Replaced,
    /// It was so before.
    Unchanged,
    /// It is left alone, for this reason.
    LeftAlone(&'static str),
}

/// What is known of a pod beyond itself.
pub(super) struct Holder<'a> {
    pub(super) namespace: &'a str,
    /// It ends by itself.
    pub(super) is_job: bool,
}

/// Does `change` to each pod in `object`, which may be a list.
pub(super) fn each_pod<F>(
    object: &mut Value,
    change: &mut F,
    reports: &mut Vec<Report>,
    problems: &mut Vec<Problem>,
) where
    F: FnMut(&mut Map<String, Value>, &Holder<'_>) -> Result<Option<pod::Reason>, Problem>,
{
    let fields = match object {
        // Nothing between two marks is no object at all.
        Value::Null => return,
        Value::Object(fields) => fields,
        _ => {
            return problems
                .push(Problem::at("", "it must be an object: a mapping with apiVersion and kind"));
        }
    };
    let name = named(fields);
    if let Err(problem) = check_kind(fields) {
        return problems.push(problem.of(&name));
    }
    if is_list(fields) {
        match fields.get_mut("items") {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) => {
                for (at, item) in items.iter_mut().enumerate() {
                    if item.is_object() {
                        each_pod(item, change, reports, problems);
                    } else {
                        problems.push(Problem::at(format!("items[{at}]"), "it must be an object").of(&name));
                    }
                }
            }
            Some(_) => problems.push(Problem::at("items", "it must be a list").of(&name)),
        }
        return;
    }
    let Some((path, is_job)) = template(fields) else { return };
    if let Some(reason) = somebody_elses(fields) {
        return reports.push(Report { object: name, outcome: Outcome::LeftAlone(reason) });
    }
    let namespace = metadata(fields, "namespace").to_owned();
    let holder = Holder { namespace: &namespace, is_job };
    let prefix = path.iter().fold(String::new(), |prefix, step| prefix + step + ".");
    let mut at = &mut *fields;
    for (depth, step) in path.iter().enumerate() {
        let Some(Value::Object(next)) = at.get_mut(*step) else {
            problems.push(Problem::at(path[..=depth].join("."), "it must be a mapping").of(&name));
            return;
        };
        at = next;
    }
    let before = at.clone();
    match change(at, &holder) {
        Ok(reason) => {
            let outcome = match reason {
                Some(reason) => Outcome::LeftAlone(reason),
                None if *at == before => Outcome::Unchanged,
                None if pod::has_it(at) && pod::has_it(&before) => Outcome::Replaced,
                None => Outcome::Changed,
            };
            reports.push(Report { object: name, outcome });
        }
        Err(mut problem) => {
            problem.field.insert_str(0, &prefix);
            problems.push(problem.of(&name));
        }
    }
}

/// Whether an object says what it is, as far as it must be known here.
fn check_kind(fields: &Map<String, Value>) -> Result<(), Problem> {
    let kind = match fields.get("kind") {
        Some(Value::String(kind)) if !kind.is_empty() => kind,
        None | Some(Value::Null) => {
            return Err(Problem::at("kind", "it is missing: every object says of what kind it is"));
        }
        Some(_) => return Err(Problem::at("kind", "it must be a word, such as Deployment")),
    };
    let kinds_of = |(_, kinds): &&(&str, &[&str])| {
        [Some(kind.as_str()), kind.strip_suffix("List")]
            .into_iter()
            .flatten()
            .any(|kind| kinds.contains(&kind))
    };
    let Some((usual, _)) = VERSIONS.iter().find(kinds_of) else { return Ok(()) };
    match fields.get("apiVersion") {
        Some(Value::String(version)) if !version.is_empty() => Ok(()),
        None | Some(Value::Null) => {
            Err(Problem::at("apiVersion", format!("it is missing: that of a {kind} is {usual}")))
        }
        Some(_) => Err(Problem::at("apiVersion", format!("it must be a word: that of a {kind} is {usual}"))),
    }
}

/// Why an object is not for whoever writes manifests to change, if so.
fn somebody_elses(fields: &Map<String, Value>) -> Option<pod::Reason> {
    let owners = fields.get("metadata").and_then(|metadata| metadata["ownerReferences"].as_array());
    if owners.into_iter().flatten().any(|owner| owner["controller"] == true) {
        return Some("a controller owns it (metadata.ownerReferences) and makes it as its own template says");
    }
    let says = |part: &str, key: &str| fields.get(part).is_some_and(|part| part[key].is_string());
    if text(fields, "kind") == "Pod" && (says("spec", "nodeName") || says("status", "phase")) {
        return Some(
            "it runs already (spec.nodeName, status.phase), and a running pod gets no more containers",
        );
    }
    None
}

/// The objects in `object`: itself, or the items of a list.
pub(super) fn flattened(object: &Value) -> Vec<&Map<String, Value>> {
    match object {
        Value::Object(fields) if is_list(fields) => {
            fields.get("items").and_then(Value::as_array).into_iter().flatten().flat_map(flattened).collect()
        }
        Value::Object(fields) => vec![fields],
        _ => Vec::new(),
    }
}

/// The pod in an object, where it holds one.
pub(super) fn pod(fields: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let (path, _) = template(fields)?;
    path.iter().try_fold(fields, |at, step| at.get(*step)?.as_object())
}

/// Where an object has the template of its pods, where it has one and is no pod itself.
pub(super) fn template_field(fields: &Map<String, Value>) -> Option<String> {
    template(fields).map(|(path, _)| path.join(".")).filter(|path| !path.is_empty())
}

/// A field of an object's metadata; empty where it is not there.
pub(super) fn metadata<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a str {
    fields.get("metadata").and_then(|metadata| metadata[key].as_str()).unwrap_or_default()
}

/// Kind, namespace and name, as people say them; empty where there are none.
pub(super) fn named(fields: &Map<String, Value>) -> String {
    let [name, generated, namespace] = ["name", "generateName", "namespace"].map(|key| metadata(fields, key));
    let kind = text(fields, "kind");
    let name = match (name, generated) {
        ("", "") if kind.is_empty() => return String::new(),
        ("", "") => "(without a name)".to_owned(),
        ("", generated) => generated.to_owned() + "*",
        (name, _) => name.to_owned(),
    };
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("{kind} {namespace}{slash}{name}").trim_start().to_owned()
}

fn is_list(fields: &Map<String, Value>) -> bool {
    let kind = text(fields, "kind");
    kind == "List"
        || (kind.ends_with("List")
            && template_of(text(fields, "apiVersion"), kind.trim_end_matches("List")).is_some())
}

fn template(fields: &Map<String, Value>) -> Option<(&'static [&'static str], bool)> {
    template_of(text(fields, "apiVersion"), text(fields, "kind"))
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Where in an object of this kind its pod is, and whether that ends. Objects of other groups that have the same name (a service
/// mesh's Job, say) are not ours to change.
fn template_of(api_version: &str, kind: &str) -> Option<(&'static [&'static str], bool)> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("", "Pod") => Some((&[], false)),
        ("", "PodTemplate") => Some((&["template"], false)),
        ("", "ReplicationController")
        | ("apps" | "extensions", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") => {
            Some((&["spec", "template"], false))
        }
        ("batch", "Job") => Some((&["spec", "template"], true)),
        ("batch", "CronJob") => Some((&["spec", "jobTemplate", "spec", "template"], true)),
        _ => None,
    }
}

/// The usual version of each kind that is ours to look into.
const VERSIONS: [(&str, &[&str]); 3] = [
    ("v1", &["List", "Pod", "PodTemplate", "ReplicationController"]),
    ("apps/v1", &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"]),
    ("batch/v1", &["Job", "CronJob"]),
];
