//! The operating system that a pod is for, as far as its spec shows it.

use serde_json::{Map, Value};

/// Whether a pod runs on nodes with Windows alone.
pub(super) fn is_windows(spec: &Map<String, Value>) -> bool {
    let selected = |label: &str| spec.get("nodeSelector").and_then(|labels| labels[label].as_str());
    let named = spec.get("os").and_then(|os| os["name"].as_str());
    match named.or_else(|| LABELS.into_iter().find_map(selected)) {
        Some(system) => system == WINDOWS,
        None => requires_windows(spec) || has_options(spec),
    }
}

/// Whether each of the terms that a node must match, one of them, demands Windows.
fn requires_windows(spec: &Map<String, Value>) -> bool {
    let affinity = spec.get("affinity").map(|affinity| &affinity["nodeAffinity"]);
    let required =
        affinity.map(|it| &it["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]);
    let Some(terms) = required.and_then(Value::as_array).filter(|terms| !terms.is_empty()) else {
        return false;
    };
    terms.iter().all(|term| term["matchExpressions"].as_array().into_iter().flatten().any(demands_windows))
}

fn demands_windows(expression: &Value) -> bool {
    let values: Vec<&str> =
        expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    expression["key"].as_str().is_some_and(|key| LABELS.contains(&key))
        && match expression["operator"].as_str() {
            Some("In") => !values.is_empty() && values.iter().all(|value| *value == WINDOWS),
            // There is no third system that Kubernetes runs on.
            Some("NotIn") => values.contains(&"linux"),
            _ => false,
        }
}

/// Whether the pod, or one of its containers, has options that are Windows' own.
fn has_options(spec: &Map<String, Value>) -> bool {
    let lists = ["containers", "initContainers"].into_iter();
    let containers = lists.filter_map(|list| spec.get(list)?.as_array()).flatten();
    let contexts = containers.map(|container| &container["securityContext"]);
    contexts.chain(spec.get("securityContext")).any(|context| context["windowsOptions"].is_object())
}

const WINDOWS: &str = "windows";
const LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_windows;

    #[test]
    fn a_pod_for_windows_is_known_by_each_way_of_placing_it() {
        let terms = |terms: serde_json::Value| json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } } });
        let term = |key: &str, operator: &str, values: &[&str]| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
        let windows = term("kubernetes.io/os", "In", &["windows"]);
        for (spec, expected) in [
            (json!({ "os": { "name": "windows" } }), true),
            (json!({ "nodeSelector": { "kubernetes.io/os": "windows" } }), true),
            (json!({ "nodeSelector": { "beta.kubernetes.io/os": "windows" } }), true),
            (terms(json!([windows])), true),
            (terms(json!([windows, term("beta.kubernetes.io/os", "NotIn", &["linux"])])), true),
            (terms(json!([windows, term("kubernetes.io/arch", "In", &["amd64"])])), false),
            (terms(json!([term("kubernetes.io/os", "In", &["windows", "linux"])])), false),
            (terms(json!([])), false),
            (json!({ "securityContext": { "windowsOptions": { "runAsUserName": "ContainerUser" } } }), true),
            (
                json!({ "containers": [{ "securityContext": { "windowsOptions": { "hostProcess": true } } }] }),
                true,
            ),
            (json!({ "os": { "name": "linux" }, "securityContext": { "windowsOptions": {} } }), false),
            (json!({ "nodeSelector": { "kubernetes.io/os": "linux" } }), false),
            (json!({}), false),
        ] {
            assert_eq!(is_windows(spec.as_object().unwrap()), expected, "{spec}");
        }
    }
}
