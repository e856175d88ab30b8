//! What may keep a pod with the sidecar from running as meant, and is not sure from the pod alone: notes of `inject`, warnings of the webhook.

use serde_json::{Map, Value};

use super::annotations::names;
use super::pod::is_ours;
use super::ports::Ports;
use super::sidecar::{Mode, PREFIX};

/// The remarks on a pod; none where the sidecar is not in it.
pub(super) fn remarks(pod: &Map<String, Value>) -> Vec<String> {
    let Some(spec) = pod.get("spec").and_then(Value::as_object) else { return Vec::new() };
    let list = |name: &str| spec.get(name).and_then(Value::as_array).into_iter().flatten();
    let all = || list("initContainers").chain(list("containers"));
    let Some(sidecar) = all().find(|container| is_ours(container)) else { return Vec::new() };
    let ports = Ports::of_container(sidecar);
    let others = all().filter(|container| container["name"] != sidecar["name"]);
    let hints = others.flat_map(|container| {
        let name = container["name"].as_str().unwrap_or_default();
        ports.hints(container).into_iter().map(move |hint| format!("container {name}: {hint}"))
    });
    unknown_after(pod, spec).into_iter().chain(hints).chain(privileged(spec, sidecar, &ports)).collect()
}

/// Names in the pod's `cupbearer.dev/after` that no container has which the sidecar could start after.
fn unknown_after(pod: &Map<String, Value>, spec: &Map<String, Value>) -> Option<String> {
    let text = pod.get("metadata")?["annotations"].get(format!("{PREFIX}after"))?.as_str()?;
    let has = |list: &str, name: &str| {
        spec.get(list)
            .and_then(Value::as_array)
            .is_some_and(|items| items.iter().any(|item| item["name"] == name))
    };
    let is_plain = spec.get(Mode::Plain.list()).and_then(Value::as_array)?.iter().any(is_ours);
    let unknown: Vec<String> = names(text)
        .into_iter()
        .filter(|name| !(has(Mode::Native.list(), name) || is_plain && has(Mode::Plain.list(), name)))
        .collect();
    if unknown.is_empty() {
        return None;
    }
    let kind = if is_plain { "container" } else { "init container" };
    Some(format!("{PREFIX}after names {}, and the pod has no {kind} of that name", unknown.join(", ")))
}

/// Ports that the sidecar's user may not be allowed to listen on.
fn privileged(spec: &Map<String, Value>, sidecar: &Value, ports: &Ports) -> Vec<String> {
    let added = sidecar["securityContext"]["capabilities"]["add"].as_array();
    if added.is_some_and(|added| added.iter().any(|one| one == "NET_BIND_SERVICE" || one == "ALL")) {
        return Vec::new();
    }
    let sysctls = spec.get("securityContext").and_then(|context| context["sysctls"].as_array());
    let set = sysctls.into_iter().flatten().find(|it| it["name"] == "net.ipv4.ip_unprivileged_port_start");
    let first_free = set.and_then(|it| it["value"].as_str()?.parse().ok()).unwrap_or(FIRST_FREE);
    ports.privileged(first_free)
}

/// Linux' own default of `net.ipv4.ip_unprivileged_port_start`.
const FIRST_FREE: u64 = 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::configuration::Configuration;
    use super::super::pod;
    use super::super::sidecar::Sidecar;
    use super::*;

    fn remarks_on(annotations: &Value, spec: &Value, mode: Mode) -> Vec<String> {
        let mut pod =
            json!({ "metadata": { "annotations": annotations }, "spec": spec }).as_object().cloned().unwrap();
        let sidecar = Sidecar { mode, ..Sidecar::default() };
        assert_eq!(pod::add(&mut pod, &sidecar, false, |_| Configuration::default()), Ok(None));
        remarks(&pod)
    }

    #[test]
    fn a_container_that_the_sidecar_is_to_start_after_and_that_is_not_there_is_named() {
        let spec =
            json!({ "initContainers": [{ "name": "vault-agent-init" }], "containers": [{ "name": "app" }] });
        for (mode, after, unknown) in [
            (Mode::Native, "vault-agent-init", None),
            (
                Mode::Native,
                "vault-agent-int, vault-agent-init, other",
                Some("names vault-agent-int, other, and the pod has no init container"),
            ),
            (Mode::Native, "app", Some("names app,")),
            (Mode::Plain, "app", None),
            (Mode::Plain, "vault-agent-init", None),
            (Mode::Plain, "ap", Some("names ap, and the pod has no container of")),
        ] {
            let remarks = remarks_on(&json!({ "cupbearer.dev/after": after }), &spec, mode);
            match unknown {
                None => assert!(remarks.is_empty(), "{after}: {remarks:?}"),
                Some(text) => {
                    assert!(remarks.len() == 1 && remarks[0].contains(text), "{after}: {remarks:?}");
                }
            }
        }
    }

    #[test]
    fn what_hints_at_a_port_of_the_sidecars_is_noted() {
        for (container, text) in [
            (
                json!({ "readinessProbe": { "tcpSocket": { "port": 4281 } } }),
                Some("its readinessProbe has 4281, which is"),
            ),
            (
                json!({ "livenessProbe": { "httpGet": { "port": 4281, "path": "/healthz" } } }),
                Some("its livenessProbe has 4281"),
            ),
            (json!({ "livenessProbe": { "httpGet": { "port": 4281, "path": "/readyz" } } }), None),
            (json!({ "args": ["--port=4280"] }), Some("its arguments have 4280")),
            (json!({ "command": ["serve", "--listen", "0.0.0.0:4280"] }), Some("its arguments have 4280")),
            (json!({ "env": [{ "name": "PORT", "value": "4280" }] }), Some("its variable PORT has 4280")),
            (json!({ "env": [{ "name": "ADDR", "value": ":4281" }] }), Some("its variable ADDR has 4281")),
            (json!({ "env": [{ "name": "API_URL", "value": "http://localhost:4280" }] }), None),
            (json!({ "env": [{ "name": "API", "value": "127.0.0.1:4280" }] }), None),
            (json!({ "env": [{ "name": "PORT", "value": "8080" }], "args": ["--n=42"] }), None),
        ] {
            let mut app = json!({ "name": "app" });
            app.as_object_mut().unwrap().extend(container.as_object().cloned().unwrap());
            let remarks = remarks_on(&json!({}), &json!({ "containers": [app] }), Mode::Native);
            match text {
                None => assert!(remarks.is_empty(), "{container}: {remarks:?}"),
                Some(text) => assert!(
                    remarks.len() == 1 && remarks[0].starts_with(&format!("container app: {text}")),
                    "{container}: {remarks:?}"
                ),
            }
        }
    }

    #[test]
    fn a_port_that_is_roots_is_noted_unless_the_pod_frees_it() {
        let containers = json!([{ "name": "app" }]);
        let sysctls =
            json!({ "sysctls": [{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "80" }] });
        let capable = r#"{"securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"]}}}"#;
        for (annotations, spec, noted) in [
            (json!({ "cupbearer.dev/port": "443" }), json!({ "containers": containers }), true),
            (json!({ "cupbearer.dev/health-port": "80" }), json!({ "containers": containers }), true),
            (json!({ "cupbearer.dev/port": "1024" }), json!({ "containers": containers }), false),
            (
                json!({ "cupbearer.dev/port": "443" }),
                json!({ "containers": containers, "securityContext": sysctls }),
                false,
            ),
            (
                json!({ "cupbearer.dev/port": "443", "cupbearer.dev/container": capable }),
                json!({ "containers": containers }),
                false,
            ),
        ] {
            let remarks = remarks_on(&annotations, &spec, Mode::Native);
            assert_eq!(
                remarks.iter().any(|remark| remark.contains("net.ipv4")),
                noted,
                "{annotations}: {remarks:?}"
            );
        }
    }
}
