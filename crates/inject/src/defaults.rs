//! The defaults that an API server writes into a sidecar that it holds.

use serde_json::{Map, Value, json};

use super::quantity::quantity;
use super::sidecar::{CONTAINER, VOLUMES};

/// Whether two pods differ in nothing but the server's defaults of the sidecar and its volumes.
pub(super) fn alike(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    without_defaults(one) == without_defaults(other)
}

fn without_defaults(pod: &Map<String, Value>) -> Map<String, Value> {
    let mut pod = pod.clone();
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return pod };
    for (list, is_ours) in [
        ("initContainers", &(|name: &str| name == CONTAINER) as &dyn Fn(&str) -> bool),
        ("containers", &|name: &str| name == CONTAINER),
        ("volumes", &|name: &str| VOLUMES.contains(&name)),
    ] {
        for item in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if item["name"].as_str().is_some_and(is_ours) {
                strip(item);
            }
        }
    }
    pod
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(image)) = fields.get("image")
                && fields.get("imagePullPolicy").is_some_and(|policy| policy == usual_pull_policy(image))
            {
                fields.shift_remove("imagePullPolicy");
            }
            fields
                .retain(|key, value| !DEFAULTS.iter().any(|(field, usual)| field == key && usual.is(value)));
            for (key, value) in fields {
                if key == "requests" || key == "limits" {
                    count(value);
                } else {
                    strip(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// `0.1` and `100m` are one amount, and the server writes the second.
fn count(amounts: &mut Value) {
    for amount in amounts.as_object_mut().into_iter().flat_map(Map::values_mut) {
        let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        if let Some(units) = quantity(&text) {
            // Binary fractions differ in their last places.
            *amount = json!(format!("{units:.9}"));
        }
    }
}

fn usual_pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or_default();
    let is_latest = !name.contains('@') && name.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest");
    if is_latest { "Always" } else { "IfNotPresent" }
}

/// A default.
enum Usual {
    Text(&'static str),
    Number(u64),
}

impl Usual {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Text(text) => value == text,
            Self::Number(number) => value.as_u64() == Some(*number),
        }
    }
}

/// Of containers, probes, ports, environment and volumes, wherever they stand.
const DEFAULTS: [(&str, Usual); 11] = [
    ("terminationMessagePath", Usual::Text("/dev/termination-log")),
    ("terminationMessagePolicy", Usual::Text("File")),
    ("protocol", Usual::Text("TCP")),
    ("scheme", Usual::Text("HTTP")),
    ("apiVersion", Usual::Text("v1")),
    ("successThreshold", Usual::Number(1)),
    ("failureThreshold", Usual::Number(3)),
    ("timeoutSeconds", Usual::Number(1)),
    ("periodSeconds", Usual::Number(10)),
    ("defaultMode", Usual::Number(0o644)),
    ("expirationSeconds", Usual::Number(3600)),
];

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::alike;

    fn pod(container: &Value, volumes: &Value) -> Map<String, Value> {
        let pod = json!({ "spec": { "initContainers": [container], "containers": [{ "name": "app" }], "volumes": volumes } });
        pod.as_object().cloned().unwrap()
    }

    #[test]
    fn a_sidecar_that_a_server_holds_is_the_one_that_was_sent() {
        let probe = json!({ "httpGet": { "path": "/readyz", "port": "cb-health" }, "periodSeconds": 5 });
        let sent = json!({ "name": "cupbearer", "image": "cupbearer:0.1.0", "args": ["run"], "env": [{ "name": "A", "value": "b" }],
            "ports": [{ "name": "cb-health", "containerPort": 4281 }], "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe,
            "resources": { "requests": { "cpu": "0.05" } } });
        let volumes = json!([{ "name": "cupbearer-config", "configMap": { "name": "c" } }, { "name": "cupbearer-secret", "secret": { "secretName": "s" } }]);
        let (mut held, mut held_volumes) = (sent.clone(), volumes.clone());
        held["terminationMessagePath"] = json!("/dev/termination-log");
        held["terminationMessagePolicy"] = json!("File");
        held["imagePullPolicy"] = json!("IfNotPresent");
        held["ports"][0]["protocol"] = json!("TCP");
        held["resources"]["requests"]["cpu"] = json!("50m");
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            held[probe]["httpGet"]["scheme"] = json!("HTTP");
            for (key, usual) in [("successThreshold", 1), ("failureThreshold", 3), ("timeoutSeconds", 1)] {
                if held[probe].get(key).is_none() {
                    held[probe][key] = json!(usual);
                }
            }
        }
        held_volumes[0]["configMap"]["defaultMode"] = json!(420);
        held_volumes[1]["secret"]["defaultMode"] = json!(420);
        let (sent, as_held) = (pod(&sent, &volumes), pod(&held, &held_volumes));
        assert!(alike(&sent, &as_held));
        for (path, other) in [
            ("/resources/requests/cpu", json!("60m")),
            ("/imagePullPolicy", json!("Always")),
            ("/env/0/value", json!("x")),
            ("/readinessProbe/failureThreshold", json!(4)),
        ] {
            let mut changed = held.clone();
            *changed.pointer_mut(path).unwrap() = other;
            assert!(!alike(&sent, &pod(&changed, &held_volumes)), "{path}");
        }
        // The application's own containers are compared as they are.
        let mut other = as_held.clone();
        other["spec"]["containers"][0]["terminationMessagePolicy"] = json!("File");
        assert!(!alike(&sent, &other));
    }
}
