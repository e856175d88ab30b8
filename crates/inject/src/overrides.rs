//! Fields of the sidecar's container that `inject` has no option for: what an admission policy may demand of every container.

use serde_json::{Map, Value};

/// Fields of a container, merged into the sidecar's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrides(Map<String, Value>);

impl Overrides {
    /// Those that a JSON object names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn named(text: &str) -> Result<Self, String> {
        let fields: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| format!("it must be a JSON object with fields of a container: {error}"))?;
        for (field, value) in &fields {
            match field.as_str() {
                "name" | "args" | "command" | "restartPolicy" => {
                    return Err(format!("{field} is the sidecar's own: it cannot be changed"));
                }
                "image" => {
                    return Err("image has an option of its own: cupbearer.dev/image, --image".to_owned());
                }
                "env" => check_items(field, value, "name", &OWN_ENVIRONMENT)?,
                "ports" => check_items(field, value, "name", &[])?,
                "volumeMounts" => check_items(field, value, "mountPath", &["/etc/cupbearer"])?,
                _ if FIELDS.contains(&field.as_str()) => {}
                _ => return Err(format!("{field} is no field of a container")),
            }
        }
        Ok(Self(fields))
    }

    /// Merges them into `container`: as a JSON merge patch (RFC 7396), but that items of a list with a key replace those of the same key, and
    /// otherwise come after them.
    pub(super) fn apply(&self, container: &mut Map<String, Value>) {
        for (field, value) in &self.0 {
            let key = match field.as_str() {
                "env" | "ports" => "name",
                "volumeMounts" => "mountPath",
                _ => {
                    merge_entry(container, field, value);
                    continue;
                }
            };
            let Some(added) = value.as_array() else {
                container.shift_remove(field);
                continue;
            };
            let list = container.entry(field.clone()).or_insert_with(|| Value::Array(Vec::new()));
            let Some(list) = list.as_array_mut() else { continue };
            for item in added {
                match list.iter_mut().find(|known| known[key] == item[key]) {
                    Some(known) => known.clone_from(item),
                    None => list.push(item.clone()),
                }
            }
        }
    }
}

fn check_items(field: &str, value: &Value, key: &str, own: &[&str]) -> Result<(), String> {
    let Some(items) = value.as_array() else { return Err(format!("{field} must be a list")) };
    for item in items {
        let Some(name) = item[key].as_str() else {
            return Err(format!("each item of {field} must have a {key}"));
        };
        if own.contains(&name) {
            return Err(format!("{field}: {name} is the sidecar's own: it cannot be changed here"));
        }
    }
    Ok(())
}

fn merge_entry(into: &mut Map<String, Value>, key: &str, value: &Value) {
    match value {
        Value::Null => {
            into.shift_remove(key);
        }
        Value::Object(fields) => {
            let inner = into.entry(key).or_insert(Value::Null);
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Some(inner) = inner.as_object_mut() {
                for (key, value) in fields {
                    merge_entry(inner, key, value);
                }
            }
        }
        other => {
            into.insert(key.to_owned(), other.clone());
        }
    }
}

/// Variables that options set.
const OWN_ENVIRONMENT: [&str; 3] =
    ["CUPBEARER__SERVER__LISTEN", "CUPBEARER__HEALTH__LISTEN", "CUPBEARER__CONTROL__LISTEN"];

/// The fields of a container that the sidecar can do with, beside those above.
const FIELDS: [&str; 16] = [
    "envFrom",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "securityContext",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "workingDir",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_merged_and_items_of_lists_by_their_keys() {
        let container = json!({ "name": "cupbearer", "env": [{ "name": "A", "value": "1" }], "livenessProbe": { "periodSeconds": 10,
            "httpGet": { "path": "/livez" } }, "volumeMounts": [{ "name": "c", "mountPath": "/etc/cupbearer" }],
            "securityContext": { "runAsNonRoot": true, "runAsUser": 65532 } });
        let overrides = json!({ "env": [{ "name": "A", "value": "2" }, { "name": "B", "value": "3" }], "imagePullPolicy": "Always",
            "livenessProbe": { "timeoutSeconds": 5 }, "securityContext": { "runAsUser": null, "appArmorProfile": { "type": "RuntimeDefault" } },
            "volumeMounts": [{ "name": "ca", "mountPath": "/etc/ca" }], "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } } });
        let mut changed = container.as_object().unwrap().clone();
        Overrides::named(&overrides.to_string()).unwrap().apply(&mut changed);
        assert_eq!(
            Value::Object(changed),
            json!({ "name": "cupbearer", "env": [{ "name": "A", "value": "2" }, { "name": "B", "value": "3" }],
                "livenessProbe": { "periodSeconds": 10, "httpGet": { "path": "/livez" }, "timeoutSeconds": 5 },
                "volumeMounts": [{ "name": "c", "mountPath": "/etc/cupbearer" }, { "name": "ca", "mountPath": "/etc/ca" }],
                "securityContext": { "runAsNonRoot": true, "appArmorProfile": { "type": "RuntimeDefault" } },
                "imagePullPolicy": "Always", "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } } })
        );
    }

    #[test]
    fn what_would_make_another_container_of_it_is_refused() {
        for (text, says) in [
            ("[]", "it must be a JSON object"),
            ("{", "it must be a JSON object"),
            (r#"{"name":"x"}"#, "name is the sidecar's own"),
            (r#"{"args":["demo"]}"#, "args is the sidecar's own"),
            (r#"{"restartPolicy":"Never"}"#, "restartPolicy is the sidecar's own"),
            (r#"{"image":"x"}"#, "cupbearer.dev/image"),
            (r#"{"livenesProbe":{}}"#, "livenesProbe is no field of a container"),
            (r#"{"env":{}}"#, "env must be a list"),
            (r#"{"env":[{"value":"x"}]}"#, "each item of env must have a name"),
            (
                r#"{"env":[{"name":"CUPBEARER__SERVER__LISTEN"}]}"#,
                "CUPBEARER__SERVER__LISTEN is the sidecar's own",
            ),
            (
                r#"{"volumeMounts":[{"name":"x","mountPath":"/etc/cupbearer"}]}"#,
                "/etc/cupbearer is the sidecar's own",
            ),
        ] {
            let error = Overrides::named(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
