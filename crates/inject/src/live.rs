//! What a cluster adds to an object, which is in the way when the object is applied again.

use serde_json::{Map, Value};

/// Whether an object comes from a cluster.
pub(super) fn is_live(fields: &Map<String, Value>) -> bool {
    let says = |key: &str| {
        let text = fields.get("metadata").and_then(|metadata| metadata[key].as_str());
        text.is_some_and(|text| !text.is_empty())
    };
    says("uid") || says("resourceVersion")
}

/// Drops from an object that holds a pod what a cluster has added. Whether it comes from one.
pub(super) fn drop_from(fields: &mut Map<String, Value>) -> bool {
    let is_live = is_live(fields);
    let is_generated = drop_generated(fields);
    if !is_live {
        return is_generated;
    }
    fields.shift_remove("status");
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        metadata.retain(|key, _| !OF_THE_SERVER.contains(&key.as_str()));
    }
    true
}

/// Drops the selector and the labels that a server generates for a Job: those of one Job are refused for another. Whether there were any.
fn drop_generated(fields: &mut Map<String, Value>) -> bool {
    if fields.get("kind").is_none_or(|kind| kind != "Job") {
        return false;
    }
    let Some(Value::Object(spec)) = fields.get_mut("spec") else { return false };
    let selects = |label: &str| spec.get("selector").is_some_and(|it| it["matchLabels"].get(label).is_some());
    if !UIDS.iter().any(|label| selects(label)) || spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return false;
    }
    spec.shift_remove("selector");
    if let Some(template) = spec.get_mut("template").and_then(Value::as_object_mut) {
        drop_labels(template);
    }
    drop_labels(fields);
    true
}

fn drop_labels(of: &mut Map<String, Value>) {
    let Some(metadata) = of.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) else { return };
    labels.retain(|label, _| !UIDS.contains(&label.as_str()) && !NAMES.contains(&label.as_str()));
    if labels.is_empty() {
        metadata.shift_remove("labels");
    }
}

/// Of an object's metadata.
const OF_THE_SERVER: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];
const UIDS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAMES: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::drop_from;

    #[test]
    fn what_the_server_has_added_is_dropped_and_nothing_of_a_manifest_is() {
        let manifest = json!({ "kind": "Deployment", "metadata": { "name": "a", "creationTimestamp": null }, "spec": {}, "status": {} });
        let mut fields = manifest.as_object().cloned().unwrap();
        assert!(!drop_from(&mut fields));
        assert_eq!(fields, *manifest.as_object().unwrap());
        let live = json!({ "kind": "Deployment", "metadata": { "name": "a", "uid": "1", "resourceVersion": "2", "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}], "labels": { "app": "a" } }, "spec": {}, "status": { "replicas": 1 } });
        let mut fields = live.as_object().cloned().unwrap();
        assert!(drop_from(&mut fields));
        let left = json!({ "kind": "Deployment", "metadata": { "name": "a", "labels": { "app": "a" } }, "spec": {} });
        assert_eq!(fields, *left.as_object().unwrap());
    }

    #[test]
    fn the_selector_and_labels_of_a_jobs_uid_go_unless_they_are_the_users() {
        let labels = json!({ "batch.kubernetes.io/controller-uid": "1", "controller-uid": "1", "job-name": "j", "batch.kubernetes.io/job-name": "j" });
        let mut kept = labels.clone();
        kept["app"] = json!("a");
        let job = json!({ "kind": "Job", "metadata": { "name": "j", "labels": labels }, "spec": {
            "selector": { "matchLabels": { "batch.kubernetes.io/controller-uid": "1" } }, "template": { "metadata": { "labels": kept }, "spec": {} } } });
        let mut fields = job.as_object().cloned().unwrap();
        assert!(drop_from(&mut fields));
        let left = json!({ "kind": "Job", "metadata": { "name": "j" }, "spec": { "template": { "metadata": { "labels": { "app": "a" } }, "spec": {} } } });
        assert_eq!(fields, *left.as_object().unwrap());
        let mut manual = job.as_object().cloned().unwrap();
        manual["spec"]["manualSelector"] = json!(true);
        let before = manual.clone();
        assert!(!drop_from(&mut manual));
        assert_eq!(manual, before);
    }
}
