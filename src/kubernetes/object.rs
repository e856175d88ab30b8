//! The objects of a manifest that hold pods, and where.

use serde_json::{Map, Value};

use super::pod;
use super::problem::Problem;
use super::sidecar::Sidecar;

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
    /// It was so before.
    Unchanged,
    /// It is left alone, for this reason.
    LeftAlone(&'static str),
}

/// Does `change` to each pod in `object`, which may be a list: it gets the pod, whether it is a Job's, and says what became of it.
pub(super) fn each_pod<F>(
    object: &mut Value,
    change: &mut F,
    reports: &mut Vec<Report>,
    problems: &mut Vec<Problem>,
) where
    F: FnMut(&mut Map<String, Value>, bool) -> Result<Option<pod::Reason>, Problem>,
{
    let Value::Object(fields) = object else { return };
    if is_list(fields) {
        if let Some(Value::Array(items)) = fields.get_mut("items") {
            for item in items {
                each_pod(item, change, reports, problems);
            }
        }
        return;
    }
    let Some((path, is_job)) = template(fields) else { return };
    let name = named(fields);
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
    match change(at, is_job) {
        Ok(Some(reason)) => reports.push(Report { object: name, outcome: Outcome::LeftAlone(reason) }),
        Ok(None) => {
            let outcome = if *at == before { Outcome::Unchanged } else { Outcome::Changed };
            reports.push(Report { object: name, outcome });
        }
        Err(mut problem) => {
            problem.field.insert_str(0, &prefix);
            problems.push(problem.of(&name));
        }
    }
}

/// Puts the sidecar into each pod of `object`.
pub(super) fn inject(
    object: &mut Value,
    sidecar: &Sidecar,
    reports: &mut Vec<Report>,
    problems: &mut Vec<Problem>,
) {
    each_pod(object, &mut |pod, is_job| pod::add(pod, sidecar, is_job), reports, problems);
}

/// Takes it out of each.
pub(super) fn uninject(object: &mut Value, reports: &mut Vec<Report>, problems: &mut Vec<Problem>) {
    each_pod(object, &mut |pod, _| pod::remove(pod).map(|_| None), reports, problems);
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

/// A field of an object's metadata; empty where it is not there.
pub(super) fn metadata<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a str {
    fields.get("metadata").and_then(|metadata| metadata[key].as_str()).unwrap_or_default()
}

/// Kind, namespace and name, as people say them.
pub(super) fn named(fields: &Map<String, Value>) -> String {
    let [name, generated, namespace] = ["name", "generateName", "namespace"].map(|key| metadata(fields, key));
    let name = match (name, generated) {
        ("", "") => "(without a name)".to_owned(),
        ("", generated) => generated.to_owned() + "*",
        (name, _) => name.to_owned(),
    };
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("{} {namespace}{slash}{name}", text(fields, "kind"))
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
