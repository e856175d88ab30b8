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

/// Kind, namespace and name, as people say them.
pub(super) fn named(fields: &Map<String, Value>) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let metadata = fields.get("metadata");
    let name = metadata.map(|metadata| text(metadata.get("name")).clone()).unwrap_or_default();
    let generated = metadata.map(|metadata| text(metadata.get("generateName"))).unwrap_or_default();
    let namespace = metadata.map(|metadata| text(metadata.get("namespace"))).unwrap_or_default();
    let name = match (name.is_empty(), generated.is_empty()) {
        (false, _) => name,
        (true, false) => generated + "*",
        (true, true) => "(without a name)".to_owned(),
    };
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("{} {namespace}{slash}{name}", text(fields.get("kind")))
}

fn is_list(fields: &Map<String, Value>) -> bool {
    let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
    let kind = text("kind");
    kind == "List"
        || (kind.ends_with("List")
            && template_of(text("apiVersion"), kind.trim_end_matches("List")).is_some())
}

fn template(fields: &Map<String, Value>) -> Option<(&'static [&'static str], bool)> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
    template_of(text("apiVersion"), text("kind"))
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
