//! Pods in objects of kinds that are not known here: Argo's Rollout, Knative's Service, and whatever else makes pods.

use serde_json::{Map, Value};

use super::pod;

/// The field of `fields` that is a pod's template, or a pod: `spec.template`. Empty: the object itself. `None` where there is none, or where it
/// has the sidecar already or declines it.
pub(super) fn template(fields: &Map<String, Value>) -> Option<String> {
    find(fields, 0)
}

fn find(fields: &Map<String, Value>, depth: usize) -> Option<String> {
    if fields.get("spec").and_then(|spec| spec.get("containers")).is_some_and(are_containers) {
        let is_settled = pod::has_it(fields) || pod::declines(fields);
        return (!is_settled).then(String::new);
    }
    // A step of a workflow (Argo's `container`, Tekton's `steps`) is what its controller makes a pod of.
    let has_image = |item: &Value| item["image"].as_str().is_some_and(|image| !image.is_empty());
    let steps = fields.get("steps").and_then(Value::as_array);
    if depth > 0
        && (fields.get("container").is_some_and(has_image)
            || steps.is_some_and(|steps| steps.iter().any(has_image)))
    {
        return (!pod::declines(fields)).then(String::new);
    }
    // A schema has properties of these names, and no list of containers.
    if depth > DEEPEST {
        return None;
    }
    fields.iter().find_map(|(key, value)| {
        let joined = |path: String| if path.is_empty() { key.clone() } else { format!("{key}.{path}") };
        match value {
            Value::Object(fields) => find(fields, depth + 1).map(joined),
            Value::Array(items) => items.iter().enumerate().find_map(|(at, item)| {
                let path = find(item.as_object()?, depth + 1)?;
                let dot = if path.is_empty() { "" } else { "." };
                Some(format!("{key}[{at}]{dot}{path}"))
            }),
            _ => None,
        }
    })
}

fn are_containers(value: &Value) -> bool {
    let is_container =
        |item: &Value| item.is_object() && (item["image"].is_string() || item["name"].is_string());
    value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(is_container))
}

/// A list of jobs' templates has a pod six levels deep.
const DEEPEST: usize = 12;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::template;

    #[test]
    fn a_pod_is_found_wherever_an_object_has_it() {
        let spec = json!({ "containers": [{ "image": "a:1" }] });
        let pod = json!({ "metadata": {}, "spec": spec });
        for (object, field) in [
            (json!({ "kind": "Rollout", "spec": { "template": pod } }), Some("spec.template")),
            (
                json!({ "kind": "JobSet", "spec": { "replicatedJobs": [{ "name": "a" }, { "template": { "spec": { "template": pod } } }] } }),
                Some("spec.replicatedJobs[1].template.spec.template"),
            ),
            (json!({ "kind": "Prometheus", "spec": { "containers": [{ "name": "a" }] } }), Some("")),
            (
                json!({ "kind": "Elasticsearch", "spec": { "nodeSets": [{ "podTemplate": pod }] } }),
                Some("spec.nodeSets[0].podTemplate"),
            ),
            (json!({ "kind": "Deployment", "spec": "whatever" }), None),
            (
                json!({ "kind": "Workflow", "spec": { "templates": [{ "name": "dag", "dag": {} }, { "name": "a", "container": { "image": "a:1" } }] } }),
                Some("spec.templates[1]"),
            ),
            (json!({ "kind": "Task", "spec": { "steps": [{ "name": "a", "image": "a:1" }] } }), Some("spec")),
            (json!({ "kind": "Pipeline", "spec": { "steps": ["a"], "container": "a" } }), None),
            (
                json!({ "kind": "Rollout", "spec": { "template": { "metadata": { "annotations": { "cupbearer.dev/inject": "false" } }, "spec": spec } } }),
                None,
            ),
            (
                json!({ "kind": "Policy", "spec": { "containers": ["a"], "template": { "spec": { "containers": [] } } } }),
                None,
            ),
            (
                json!({ "kind": "CustomResourceDefinition", "spec": { "properties": { "spec": { "properties": { "containers": { "items": {} } } } } } }),
                None,
            ),
        ] {
            assert_eq!(template(object.as_object().unwrap()).as_deref(), field, "{object}");
        }
    }
}
