//! The sidecar put into a pod, or taken out of it: on its metadata and its spec, wherever they come from.

use serde_json::{Map, Value};

use super::problem::Problem;
use super::sidecar::{CONTAINER, CONTROL_PORT, HEALTH_PORT, INJECT, Mode, STATUS, Sidecar, VOLUMES};

/// Why a pod is left as it is.
pub(super) type Reason = &'static str;

/// Puts the sidecar into a pod template or a pod: an object with `metadata` and `spec`. One that an earlier version put there
/// is replaced.
pub(super) fn add(
    pod: &mut Map<String, Value>,
    sidecar: &Sidecar,
    is_job: bool,
) -> Result<Option<Reason>, Problem> {
    let annotations = annotations(pod)?.cloned();
    let flag = annotations.as_ref().and_then(|annotations| annotations.get(INJECT));
    match flag.map(|flag| flag.as_str()) {
        None | Some(Some("true")) => {}
        Some(Some("false")) => return Ok(Some("its annotation cupbearer.dev/inject says so")),
        Some(_) => {
            return Err(Problem::at(
                format!("metadata.annotations[{INJECT}]"),
                "it must be \"true\" or \"false\"",
            ));
        }
    }
    let label = pod.get("metadata").map(|metadata| &metadata["labels"][INJECT]);
    if label.is_some_and(|label| label == "false") {
        return Ok(Some("its label cupbearer.dev/inject says so"));
    }
    let sidecar = sidecar.told_by(annotations.as_ref())?;
    if is_ours(annotations.as_ref()) {
        remove(pod)?;
    }
    let spec = object(pod, "spec", "")?.ok_or_else(|| Problem::at("spec", "it is missing"))?;
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        return Ok(Some(
            "it is on the node's own network (hostNetwork), where the sidecar's ports would be every pod's",
        ));
    }
    list(spec, "containers")?
        .filter(|list| !list.is_empty())
        .ok_or_else(|| Problem::at("spec.containers", "it has none"))?;
    if is_job && sidecar.mode == Mode::Plain {
        let says = "a Job with a plain sidecar never completes; use the native one (mode native)";
        return Err(Problem::at("spec", says));
    }
    for containers in ["initContainers", "containers"] {
        for (at, container) in list(spec, containers)?.into_iter().flatten().enumerate() {
            let field = format!("spec.{containers}[{at}]");
            if container["name"] == CONTAINER {
                return Ok(Some("it has a container named cupbearer that inject did not put there"));
            }
            check_ports(container, &field, &sidecar)?;
        }
    }
    for (at, volume) in list(spec, "volumes")?.into_iter().flatten().enumerate() {
        if let Some(name) = volume["name"].as_str().filter(|name| VOLUMES.contains(name)) {
            let says =
                format!("the volume {name} is the sidecar's, and this one is not: give it another name");
            return Err(Problem::at(format!("spec.volumes[{at}].name"), says));
        }
    }
    let containers = match sidecar.mode {
        Mode::Native => "initContainers",
        Mode::Plain => "containers",
    };
    if !spec.contains_key(containers) {
        let before = spec.keys().position(|key| key == "containers").unwrap_or(spec.len());
        spec.shift_insert(before, containers.to_owned(), Value::Null);
    }
    made_list(spec, containers).insert(0, sidecar.container());
    made_list(spec, "volumes").extend(sidecar.volumes());
    let status = format!("injected by {}", env!("CARGO_PKG_VERSION"));
    if !pod.contains_key("metadata") {
        let before = pod.keys().position(|key| key == "spec").unwrap_or(0);
        pod.shift_insert(before, "metadata".to_owned(), Value::Null);
    }
    let metadata = made_object(pod, "metadata");
    made_object(metadata, "annotations").insert(STATUS.to_owned(), Value::String(status));
    Ok(None)
}

/// Takes out what [`add`] put in: nothing where it put nothing in. What is empty then goes, too.
pub(super) fn remove(pod: &mut Map<String, Value>) -> Result<bool, Problem> {
    if !is_ours(annotations(pod)?) {
        return Ok(false);
    }
    let spec = object(pod, "spec", "")?.ok_or_else(|| Problem::at("spec", "it is missing"))?;
    for name in ["initContainers", "containers", "volumes"] {
        let Some(items) = list(spec, name)? else { continue };
        items.retain(|item| {
            let name_of = item["name"].as_str().unwrap_or_default();
            if name == "volumes" { !VOLUMES.contains(&name_of) } else { name_of != CONTAINER }
        });
        if items.is_empty() {
            spec.shift_remove(name);
        }
    }
    let metadata = made_object(pod, "metadata");
    let annotations = made_object(metadata, "annotations");
    annotations.shift_remove(STATUS);
    if annotations.is_empty() {
        metadata.shift_remove("annotations");
    }
    if metadata.is_empty() {
        pod.shift_remove("metadata");
    }
    Ok(true)
}

fn is_ours(annotations: Option<&Map<String, Value>>) -> bool {
    annotations.is_some_and(|annotations| annotations.contains_key(STATUS))
}

fn annotations(pod: &mut Map<String, Value>) -> Result<Option<&Map<String, Value>>, Problem> {
    let Some(metadata) = object(pod, "metadata", "")? else { return Ok(None) };
    Ok(object(metadata, "annotations", "metadata.")?.map(|annotations| &*annotations))
}

fn check_ports(container: &Value, field: &str, sidecar: &Sidecar) -> Result<(), Problem> {
    let ports = container["ports"].as_array().into_iter().flatten();
    for (at, port) in ports.enumerate() {
        let Some(number) = port["containerPort"].as_u64() else { continue };
        let field = format!("{field}.ports[{at}].containerPort");
        // UDP ports are others than TCP's.
        if port["protocol"].as_str().is_some_and(|protocol| protocol != "TCP") {
            continue;
        }
        if number == u64::from(sidecar.proxy_port()) {
            let says = format!(
                "{number} is the port that the sidecar listens on; give it another, by --port or the pod's annotation \
                 cupbearer.dev/port"
            );
            return Err(Problem::at(field, says));
        }
        if [HEALTH_PORT, CONTROL_PORT].map(u64::from).contains(&number) {
            let says = format!(
                "{number} is one of the sidecar's ports ({HEALTH_PORT} health, {CONTROL_PORT} control); move the application's"
            );
            return Err(Problem::at(field, says));
        }
    }
    Ok(())
}

fn object<'a>(
    of: &'a mut Map<String, Value>,
    key: &str,
    prefix: &str,
) -> Result<Option<&'a mut Map<String, Value>>, Problem> {
    match of.get_mut(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(Problem::at(format!("{prefix}{key}"), "it must be a mapping")),
    }
}

fn list<'a>(spec: &'a mut Map<String, Value>, key: &str) -> Result<Option<&'a mut Vec<Value>>, Problem> {
    match spec.get_mut(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => match list.iter().position(|item| !item.is_object()) {
            Some(at) => Err(Problem::at(format!("spec.{key}[{at}]"), "it must be a mapping")),
            None => Ok(Some(list)),
        },
        Some(_) => Err(Problem::at(format!("spec.{key}"), "it must be a list")),
    }
}

/// The list at `key`, made where there is none. Whoever calls it has checked that there is nothing else.
fn made_list<'a>(of: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let value = of.entry(key).or_insert(Value::Null);
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    let Value::Array(list) = value else { unreachable!("it was made a list") };
    list
}

fn made_object<'a>(of: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = of.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(object) = value else { unreachable!("it was made a mapping") };
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn the_sidecar_comes_first_and_goes_without_a_trace() {
        for mode in [Mode::Native, Mode::Plain] {
            for original in [
                json!({ "spec": { "containers": [{ "name": "app" }] } }),
                json!({ "metadata": { "annotations": { "a": "b" } }, "spec": {
                    "initContainers": [{ "name": "migrate" }], "containers": [{ "name": "app" }], "volumes": [{ "name": "v" }] } }),
                json!({ "metadata": { "labels": {} }, "spec": { "containers": [{ "name": "app", "ports": [{ "containerPort": 80 }] }] } }),
            ] {
                let sidecar = Sidecar { mode, ..Sidecar::default() };
                let mut changed = pod(&original);
                assert_eq!(add(&mut changed, &sidecar, false).unwrap(), None);
                let list = if mode == Mode::Native { "initContainers" } else { "containers" };
                assert_eq!(changed["spec"][list][0]["name"], "cupbearer");
                let once = changed.clone();
                add(&mut changed, &sidecar, false).unwrap();
                assert_eq!(changed, once);
                assert!(remove(&mut changed).unwrap());
                assert_eq!(Value::Object(changed), original);
            }
        }
    }

    #[test]
    fn a_pod_that_cannot_have_it_is_told_why() {
        for (value, field, says) in [
            (json!({ "spec": 5 }), "spec", "it must be a mapping"),
            (json!({ "metadata": {} }), "spec", "it is missing"),
            (json!({ "spec": { "containers": {} } }), "spec.containers", "it must be a list"),
            (json!({ "spec": { "containers": [] } }), "spec.containers", "it has none"),
            (json!({ "spec": { "containers": ["a"] } }), "spec.containers[0]", "it must be a mapping"),
            (
                json!({ "spec": { "containers": [{ "name": "a" }, { "name": "b", "ports": [{ "containerPort": 8080 }] }] } }),
                "spec.containers[1].ports[0].containerPort",
                "8080 is the port that the sidecar listens on",
            ),
            (
                json!({ "spec": { "containers": [{ "name": "a", "ports": [{ "containerPort": 9902 }] }] } }),
                "spec.containers[0].ports[0].containerPort",
                "one of the sidecar's ports",
            ),
            (
                json!({ "spec": { "containers": [{ "name": "a" }], "volumes": [{ "name": "cupbearer-store" }] } }),
                "spec.volumes[0].name",
                "give it another name",
            ),
            (
                json!({ "metadata": { "annotations": { INJECT: true } }, "spec": { "containers": [{ "name": "a" }] } }),
                "metadata.annotations[cupbearer.dev/inject]",
                "must be \"true\" or \"false\"",
            ),
        ] {
            let problem = add(&mut pod(&value), &Sidecar::default(), false).unwrap_err();
            assert_eq!(problem.field, field);
            assert!(problem.says.contains(says), "{problem}");
        }
        let plain = Sidecar { mode: Mode::Plain, ..Sidecar::default() };
        let problem =
            add(&mut pod(&json!({ "spec": { "containers": [{ "name": "a" }] } })), &plain, true).unwrap_err();
        assert!(problem.says.contains("never completes"));
    }

    #[test]
    fn some_pods_are_left_alone() {
        for value in [
            json!({ "metadata": { "annotations": { INJECT: "false" } }, "spec": { "containers": [{ "name": "a" }] } }),
            json!({ "metadata": { "labels": { INJECT: "false" } }, "spec": { "containers": [{ "name": "a" }] } }),
            json!({ "spec": { "hostNetwork": true, "containers": [{ "name": "a" }] } }),
            json!({ "spec": { "containers": [{ "name": "cupbearer", "image": "by hand" }] } }),
        ] {
            let mut changed = pod(&value);
            assert!(add(&mut changed, &Sidecar::default(), false).unwrap().is_some());
            assert_eq!(Value::Object(changed.clone()), value);
            assert!(!remove(&mut changed).unwrap());
            assert_eq!(Value::Object(changed), value);
        }
        // UDP's ports are not TCP's.
        let dns = json!({ "spec": { "containers": [{ "name": "a", "ports": [{ "containerPort": 8080, "protocol": "UDP" }] }] } });
        assert_eq!(add(&mut pod(&dns), &Sidecar::default(), false).unwrap(), None);
    }
}
