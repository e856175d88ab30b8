//! The sidecar put into a pod, or taken out of it: on its metadata and its spec, wherever they come from.

use serde_json::{Map, Value, json};

use super::configuration::Configuration;
use super::ports::Ports;
use super::problem::{Problem, Problems};
use super::resources;
use super::sidecar::{CONFIG, CONTAINER, INJECT, Mode, STATUS, Setting, Sidecar, VOLUMES};
use super::system;

/// Why a pod is left as it is.
pub(super) type Reason = &'static str;

/// Puts the sidecar into a pod template or a pod: an object with `metadata` and `spec`. One that `inject` put there before is
/// replaced. `configuration` is that of the `ConfigMap` of a name.
pub(super) fn add(
    pod: &mut Map<String, Value>,
    sidecar: &Sidecar,
    is_job: bool,
    configuration: impl Fn(&str) -> Configuration,
) -> Result<Option<Reason>, Problems> {
    let mut problems = Vec::new();
    let annotations = annotations(pod)?.cloned();
    for (part, says) in [("annotations", SAYS_ANNOTATION), ("labels", SAYS_LABEL)] {
        let flag = pod.get("metadata").and_then(|metadata| metadata[part].get(INJECT));
        match flag.map(Value::as_str) {
            None | Some(Some("true")) => {}
            Some(Some("false")) => return Ok(Some(says)),
            Some(text) => {
                let lower = text.map(str::to_ascii_lowercase);
                let says = match lower.as_deref().filter(|lower| ["true", "false"].contains(lower)) {
                    Some(lower) => format!("it must be in lower case: \"{lower}\""),
                    None => "it must be \"true\" or \"false\", in quotes".to_owned(),
                };
                problems.push(Problem::at(format!("metadata.{part}[{INJECT}]"), says));
            }
        }
    }
    let annotated = sidecar.annotated(annotations.as_ref());
    let sidecar = match annotated {
        Ok(sidecar) => sidecar,
        Err(more) => {
            problems.extend(more);
            sidecar.clone()
        }
    };
    let spec = the_spec(pod)?;
    if let Some(reason) = unfit(spec) {
        return if problems.is_empty() { Ok(Some(reason)) } else { Err(Problems(problems)) };
    }
    take_out(pod)?;
    let spec = the_spec(pod)?;
    if list(spec, "containers")?.is_none_or(|list| list.is_empty()) {
        problems.push(Problem::at("spec.containers", "it has none"));
    }
    for containers in ["initContainers", "containers"] {
        let mut named = list(spec, containers)?.into_iter().flatten().filter(|it| it["name"] == CONTAINER);
        if let Some(container) = named.next().filter(|_| problems.is_empty()) {
            return Ok(Some(if is_ours(container) { HAS_IT } else { FOREIGN }));
        }
    }
    problems.extend(check_end(spec, sidecar.mode, is_job).err());
    let configuration = configuration(&sidecar.config_map);
    let ports = Ports::of(&sidecar, &configuration);
    for containers in ["initContainers", "containers"] {
        for (at, container) in list(spec, containers)?.into_iter().flatten().enumerate() {
            let field = format!("spec.{containers}[{at}]");
            if container["name"].as_str().is_none_or(str::is_empty) {
                problems.push(Problem::at(field.clone() + ".name", "a container must have a name"));
            }
            problems.extend(ports.check(container, &field));
        }
    }
    for (at, volume) in list(spec, "volumes")?.into_iter().flatten().enumerate() {
        if let Some(name) = volume["name"].as_str().filter(|name| VOLUMES.contains(name)) {
            let says =
                format!("the volume {name} is the sidecar's, and this one is not: give it another name");
            problems.push(Problem::at(format!("spec.volumes[{at}].name"), says));
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let setting = Setting::of(&sidecar, spec, &configuration);
    let containers = sidecar.mode.list();
    if !spec.contains_key(containers) {
        let before = spec.keys().position(|key| key == "containers").unwrap_or(spec.len());
        spec.shift_insert(before, containers.to_owned(), Value::Null);
    }
    let items = made_list(spec, containers);
    let is_before = |item: &Value| sidecar.after.iter().any(|name| item["name"] == *name);
    let at = items.iter().rposition(is_before).map_or(0, |at| at + 1);
    items.insert(at, sidecar.container(&setting));
    made_list(spec, "volumes").extend(sidecar.volumes(&setting));
    let crowded = resources::check_room(spec);
    if !crowded.is_empty() {
        return Err(Problems(crowded));
    }
    let status = format!("injected by {}", env!("CARGO_PKG_VERSION"));
    if !pod.contains_key("metadata") {
        let before = pod.keys().position(|key| key == "spec").unwrap_or(0);
        pod.shift_insert(before, "metadata".to_owned(), Value::Null);
    }
    let metadata = made_object(pod, "metadata");
    made_object(metadata, "annotations").insert(STATUS.to_owned(), Value::String(status));
    Ok(None)
}

/// Why the sidecar cannot be in a pod, whatever its containers are.
pub(super) fn unfit(spec: &Map<String, Value>) -> Option<Reason> {
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        return Some(HOST_NETWORK);
    }
    system::is_windows(spec).then_some(WINDOWS)
}

/// Whether `reason` is one of the pod's containers or network, and not of what it is: it could have the sidecar if it were changed.
pub(super) fn is_misfit(reason: &str) -> bool {
    reason == HOST_NETWORK || reason == FOREIGN
}

/// Whether a pod that is to end can, with a sidecar of this mode.
pub(super) fn check_end(spec: &Map<String, Value>, mode: Mode, is_job: bool) -> Result<(), Problem> {
    if mode == Mode::Native {
        return Ok(());
    }
    if is_job {
        let says = "a Job with a plain sidecar never completes; use the native one (mode native)";
        return Err(Problem::at("spec", says));
    }
    if spec.get("restartPolicy").is_some_and(|policy| policy == "Never" || policy == "OnFailure") {
        let says = "a pod that is to end never does with a plain sidecar; use the native one (mode native)";
        return Err(Problem::at("spec.restartPolicy", says));
    }
    Ok(())
}

/// Takes out what [`add`] put in: nothing where it put nothing in.
pub(super) fn remove(pod: &mut Map<String, Value>) -> Result<(), Problems> {
    if !take_out(pod)? {
        return Ok(());
    }
    let spec = the_spec(pod)?;
    let mut problems = Vec::new();
    for containers in ["initContainers", "containers"] {
        for (at, container) in list(spec, containers)?.into_iter().flatten().enumerate() {
            for (nth, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
                if let Some(name) = mount["name"].as_str().filter(|name| VOLUMES.contains(name)) {
                    let says =
                        format!("the volume {name} goes with the sidecar: take this mount of it out first");
                    let field = format!("spec.{containers}[{at}].volumeMounts[{nth}]");
                    problems.push(Problem::at(field, says));
                }
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// Whether a pod says that it is to have no sidecar.
pub(super) fn declines(pod: &Map<String, Value>) -> bool {
    let metadata = pod.get("metadata");
    ["annotations", "labels"].iter().any(|part| metadata.is_some_and(|it| it[*part][INJECT] == "false"))
}

/// Whether `reason` is the pod's own wish.
pub(super) fn is_declined(reason: &str) -> bool {
    reason == SAYS_ANNOTATION || reason == SAYS_LABEL
}

/// Whether the sidecar is in the pod, known by its form: a copy by `kubectl debug` has lost the annotation, and one that was written by hand
/// never had it.
pub(super) fn has_it(pod: &Map<String, Value>) -> bool {
    let spec = pod.get("spec");
    let containers = ["initContainers", "containers"]
        .into_iter()
        .filter_map(|name| spec.and_then(|spec| spec[name].as_array()));
    containers.flatten().any(is_ours)
}

/// What is empty afterwards goes, too. Whether there was anything to take out.
fn take_out(pod: &mut Map<String, Value>) -> Result<bool, Problem> {
    annotations(pod)?;
    if !is_marked(pod) {
        return Ok(false);
    }
    let spec = the_spec(pod)?;
    for name in ["initContainers", "containers"] {
        let mut named = list(spec, name)?.into_iter().flatten().filter(|item| item["name"] == CONTAINER);
        // Another container has come to stand where the sidecar was.
        if named.any(|container| !is_ours(container)) {
            return Ok(false);
        }
    }
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

fn is_marked(pod: &Map<String, Value>) -> bool {
    pod.get("metadata").is_some_and(|metadata| metadata["annotations"].get(STATUS).is_some())
}

/// Whether a container is one that [`Sidecar::container`] has made, of whatever version, also where it was changed a little.
pub(super) fn is_ours(container: &Value) -> bool {
    let mounts = |name: &str| {
        container["volumeMounts"].as_array().into_iter().flatten().any(|mount| mount["name"] == name)
    };
    container["name"] == CONTAINER && container["args"] == json!(["run"]) && mounts(CONFIG)
}

pub(super) fn annotations(pod: &mut Map<String, Value>) -> Result<Option<&Map<String, Value>>, Problem> {
    let Some(metadata) = object(pod, "metadata", "")? else { return Ok(None) };
    Ok(object(metadata, "annotations", "metadata.")?.map(|annotations| &*annotations))
}

pub(super) fn the_spec(pod: &mut Map<String, Value>) -> Result<&mut Map<String, Value>, Problem> {
    object(pod, "spec", "")?.ok_or_else(|| Problem::at("spec", "it is missing"))
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

pub(super) fn list<'a>(
    spec: &'a mut Map<String, Value>,
    key: &str,
) -> Result<Option<&'a mut Vec<Value>>, Problem> {
    match spec.get_mut(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => match list.iter().position(|item| !item.is_object()) {
            Some(at) => Err(Problem::at(format!("spec.{key}[{at}]"), "it must be a mapping")),
            None => Ok(Some(list)),
        },
        Some(_) => Err(Problem::at(format!("spec.{key}"), "it must be a list")),
    }
}

/// The list at `key`, made where there is none. The caller has checked that there is nothing else.
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

/// The sidecar is in the pod, and not [`add`]'s to replace.
pub(super) const HAS_IT: Reason = "it has the sidecar already";
const HOST_NETWORK: Reason =
    "it is on the node's own network (hostNetwork), where the sidecar's ports would be every pod's";
const WINDOWS: Reason = "it is for Windows, where the sidecar's image does not run";
const FOREIGN: Reason = "it has a container named cupbearer that inject did not put there";
const SAYS_ANNOTATION: Reason = "its annotation cupbearer.dev/inject says so";
const SAYS_LABEL: Reason = "its label cupbearer.dev/inject says so";

#[cfg(test)]
mod tests {
    use super::super::sidecar::{Port, STORE};
    use super::*;

    fn pod(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn put(
        pod: &mut Map<String, Value>,
        sidecar: &Sidecar,
        is_job: bool,
    ) -> Result<Option<Reason>, Problems> {
        add(pod, sidecar, is_job, |_| Configuration::default())
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
                assert_eq!(put(&mut changed, &sidecar, false).unwrap(), None);
                let list = if mode == Mode::Native { "initContainers" } else { "containers" };
                assert_eq!(changed["spec"][list][0]["name"], "cupbearer");
                let once = changed.clone();
                put(&mut changed, &sidecar, false).unwrap();
                assert_eq!(changed, once);
                remove(&mut changed).unwrap();
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
                json!({ "spec": { "containers": [{ "name": "a" }, { "name": "b", "ports": [{ "containerPort": 4280 }] }] } }),
                "spec.containers[1].ports[0].containerPort",
                "4280 is the port that the sidecar listens on; help: choose another for the sidecar, by --port or the pod's annotation cupbearer.dev/port",
            ),
            (
                json!({ "spec": { "containers": [{ "name": "a", "ports": [{ "containerPort": 4281 }] }] } }),
                "spec.containers[0].ports[0].containerPort",
                "4281 is the port that the sidecar has for health and metrics; help: choose another for the sidecar, by --health-port or the pod's annotation cupbearer.dev/health-port",
            ),
            (
                json!({ "spec": { "containers": [{ "name": "a" }], "volumes": [{ "name": "cupbearer-store" }] } }),
                "spec.volumes[0].name",
                "give it another name",
            ),
            (
                json!({ "metadata": { "annotations": { INJECT: true } }, "spec": { "containers": [{ "name": "a" }] } }),
                "metadata.annotations[cupbearer.dev/inject]",
                "must be \"true\" or \"false\", in quotes",
            ),
            (
                json!({ "metadata": { "labels": { INJECT: false } }, "spec": { "containers": [{ "name": "a" }] } }),
                "metadata.labels[cupbearer.dev/inject]",
                "in quotes",
            ),
            (
                json!({ "spec": { "containers": [{ "image": "a" }] } }),
                "spec.containers[0].name",
                "must have a name",
            ),
            (
                json!({ "spec": { "containers": [{ "name": "a", "ports": "x" }] } }),
                "spec.containers[0].ports",
                "it must be a list",
            ),
            (
                json!({ "spec": { "containers": [{ "name": "a", "ports": [80] }] } }),
                "spec.containers[0].ports[0]",
                "it must be a mapping",
            ),
            (
                json!({ "spec": { "containers": [{ "name": "a", "ports": [{ "containerPort": "8080" }] }] } }),
                "spec.containers[0].ports[0].containerPort",
                "it must be a number: 8080, without quotes",
            ),
            (
                json!({ "spec": { "containers": [{ "name": "a", "ports": [{ "containerPort": 65536 }] }] } }),
                "spec.containers[0].ports[0].containerPort",
                "from 1 to 65535",
            ),
            (
                json!({ "spec": { "containers": [{ "name": "a", "ports": [{ "name": "http" }] }] } }),
                "spec.containers[0].ports[0].containerPort",
                "it is missing",
            ),
        ] {
            let problem = put(&mut pod(&value), &Sidecar::default(), false).unwrap_err().0.remove(0);
            assert_eq!(problem.field, field);
            assert!(problem.says.contains(says), "{problem}");
        }
        // The ports that most applications use are theirs.
        for port in [80, 3000, 5000, 8000, 8080, 8081, 8443, 9090, 9901, 9902] {
            let app =
                json!({ "spec": { "containers": [{ "name": "a", "ports": [{ "containerPort": port }] }] } });
            assert_eq!(put(&mut pod(&app), &Sidecar::default(), false), Ok(None), "{port}");
        }
        let plain = Sidecar { mode: Mode::Plain, ..Sidecar::default() };
        let problem =
            put(&mut pod(&json!({ "spec": { "containers": [{ "name": "a" }] } })), &plain, true).unwrap_err();
        assert!(problem.to_string().contains("never completes"));
    }

    #[test]
    fn every_problem_of_a_pod_is_named() {
        let value = json!({
            "metadata": { "annotations": { "cupbearer.dev/mode": "plian", INJECT: "False" } },
            "spec": { "containers": [
                { "name": "a", "ports": [{ "containerPort": 4280 }, { "containerPort": "x" }] },
                { "ports": [{ "containerPort": 4281 }] },
            ], "volumes": [{ "name": "cupbearer-config" }] },
        });
        let problems = put(&mut pod(&value), &Sidecar::default(), false).unwrap_err();
        let fields: Vec<&str> = problems.0.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "metadata.annotations[cupbearer.dev/inject]",
                "metadata.annotations[cupbearer.dev/mode]",
                "spec.containers[0].ports[0].containerPort",
                "spec.containers[0].ports[1].containerPort",
                "spec.containers[1].name",
                "spec.containers[1].ports[0].containerPort",
                "spec.volumes[0].name",
            ],
        );
        assert_eq!(problems.0[0].says, "it must be in lower case: \"false\"");
    }

    #[test]
    fn some_pods_are_left_alone() {
        for value in [
            json!({ "metadata": { "annotations": { INJECT: "false" } }, "spec": { "containers": [{ "name": "a" }] } }),
            json!({ "metadata": { "labels": { INJECT: "false" } }, "spec": { "containers": [{ "name": "a" }] } }),
            json!({ "spec": { "hostNetwork": true, "containers": [{ "name": "a" }] } }),
            json!({ "spec": { "containers": [{ "name": "cupbearer", "image": "by hand" }] } }),
            json!({ "metadata": { "annotations": { STATUS: "injected by 0.1.0" } },
                "spec": { "containers": [{ "name": "a" }, { "name": "cupbearer", "args": ["run"] }] } }),
            json!({ "spec": { "os": { "name": "windows" }, "containers": [{ "name": "a" }] } }),
            json!({ "spec": { "nodeSelector": { "kubernetes.io/os": "windows" }, "containers": [{ "name": "a" }] } }),
        ] {
            let mut changed = pod(&value);
            assert!(put(&mut changed, &Sidecar::default(), false).unwrap().is_some());
            assert_eq!(Value::Object(changed.clone()), value);
            remove(&mut changed).unwrap();
            assert_eq!(Value::Object(changed), value);
        }
        // UDP's ports are not TCP's.
        let dns = json!({ "spec": { "containers": [{ "name": "a", "ports": [{ "containerPort": 4280, "protocol": "UDP" }] }] } });
        assert_eq!(put(&mut pod(&dns), &Sidecar::default(), false).unwrap(), None);
    }

    #[test]
    fn a_copy_without_annotations_is_known_by_its_form_and_stays_as_it_is() {
        let mut copy = pod(&json!({ "spec": { "containers": [{ "name": "a" }] } }));
        put(&mut copy, &Sidecar::default(), false).unwrap();
        copy.shift_remove("metadata");
        let before = copy.clone();
        assert!(has_it(&copy));
        assert_eq!(put(&mut copy, &Sidecar::default(), false), Ok(Some(HAS_IT)));
        remove(&mut copy).unwrap();
        assert_eq!(copy, before);
    }

    #[test]
    fn one_that_is_in_already_stays_where_it_cannot_be_put_in_again() {
        let mut changed = pod(&json!({ "spec": { "containers": [{ "name": "a" }] } }));
        put(&mut changed, &Sidecar::default(), false).unwrap();
        changed["spec"]["hostNetwork"] = true.into();
        let before = changed.clone();
        assert!(put(&mut changed, &Sidecar::default(), false).unwrap().is_some());
        assert_eq!(changed, before);
    }

    #[test]
    fn a_volume_of_the_sidecars_does_not_go_while_another_container_has_it() {
        let mut changed = pod(&json!({ "spec": { "containers": [{ "name": "a" }] } }));
        let stores = Sidecar { store_volume: Some(true), ..Sidecar::default() };
        put(&mut changed, &stores, false).unwrap();
        changed["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": STORE, "mountPath": "/s" }]);
        let problem = remove(&mut changed.clone()).unwrap_err();
        assert_eq!(problem.0[0].field, "spec.containers[0].volumeMounts[0]");
        // It comes again with another sidecar.
        let sidecar = Sidecar { port: Port::Number(9000), ..Sidecar::default() };
        assert_eq!(put(&mut changed, &sidecar, false).unwrap(), None);
    }

    #[test]
    fn the_ports_of_a_configuration_are_the_sidecars_and_the_usual_ones_then_are_not() {
        let config = "[server]\nlisten = ['localhost:9000', '[::1]:9001', 'unix:/s']\n[control]\nlisten = '127.0.0.1:9100'".parse().unwrap();
        let configuration = Configuration::of(&config, "ConfigMap orders, document 2".to_owned());
        let wanted = Sidecar { control_port: Some(4282), ..Sidecar::default() };
        let mut taken = pod(
            &json!({ "spec": { "containers": [{ "name": "a", "ports": [{ "containerPort": 4282 }] }] } }),
        );
        let problem = add(&mut taken, &wanted, false, |_| configuration.clone()).unwrap_err();
        assert!(problem.to_string().contains("cupbearer.dev/control-port"), "{problem}");
        for (port, to, says) in [
            (
                9000,
                None,
                Some(
                    "9000 is the port that the sidecar listens on (server.listen in the ConfigMap orders, document 2)",
                ),
            ),
            (9001, None, Some("9001 is the port that the sidecar listens on (server.listen")),
            // The control surface is on no port, whatever the configuration says.
            (9100, None, None),
            (4281, None, Some("4281 is the port that the sidecar has for health and metrics")),
            (8080, None, None),
            (4280, None, None),
            // What is said of the pod goes over its configuration.
            (9000, Some(7000), None),
            (7000, Some(7000), Some("7000 is the port")),
        ] {
            let mut changed = pod(
                &json!({ "spec": { "containers": [{ "name": "a", "ports": [{ "containerPort": port }] }] } }),
            );
            let sidecar = Sidecar { port: to.map_or(Port::Configured, Port::Number), ..Sidecar::default() };
            let problem = add(&mut changed, &sidecar, false, |_| configuration.clone()).err();
            match says {
                Some(says) => assert!(
                    problem.as_ref().is_some_and(|problem| problem.to_string().contains(says)),
                    "{port}: {problem:?}"
                ),
                None => assert_eq!(problem, None, "{port}"),
            }
        }
    }

    #[test]
    fn a_volume_to_write_to_is_there_only_where_the_configuration_names_a_file_in_it() {
        let file = "[store]\nkind = 'file'\npath = '/var/lib/cupbearer/tokens'";
        let elsewhere = "[store]\nkind = 'file'\npath = '/var/lib/cupbearer-other/tokens'";
        for (config, annotation, there) in [
            (Some(file), None, true),
            (Some("[store]\nkind = 'memory'"), None, false),
            (Some(elsewhere), None, false),
            (None, None, false),
            (None, Some("true"), true),
            (Some(file), Some("false"), false),
        ] {
            let changed = with_sidecar(config, "store-volume", annotation);
            let text = Value::Object(changed).to_string();
            assert_eq!(
                text.matches("cupbearer-store").count(),
                if there { 2 } else { 0 },
                "{config:?} {annotation:?}"
            );
            assert!(there || !text.contains("emptyDir"), "{text}");
        }
    }

    /// A pod with the sidecar, of this configuration, where the pod has this annotation.
    fn with_sidecar(config: Option<&str>, name: &str, annotation: Option<&str>) -> Map<String, Value> {
        let mut pod =
            pod(&json!({ "metadata": { "annotations": {} }, "spec": { "containers": [{ "name": "a" }] } }));
        if let Some(value) = annotation {
            pod["metadata"]["annotations"][format!("cupbearer.dev/{name}")] = json!(value);
        }
        let configuration = config.map(|text| Configuration::of(&text.parse().unwrap(), String::new()));
        let known = |_: &str| configuration.clone().unwrap_or_default();
        assert_eq!(add(&mut pod, &Sidecar::default(), false, known), Ok(None));
        pod
    }

    #[test]
    fn the_token_of_the_pods_own_account_is_mounted_only_where_the_configuration_names_it() {
        let account = "/var/run/secrets/kubernetes.io/serviceaccount";
        let named = format!("[tokens.a]\nsubject_token_file = '{account}/token'");
        for (config, annotation, covered) in [
            (Some("[tokens.a]\nsubject_token_file = '/var/run/secrets/tokens/a'"), None, true),
            (Some(named.as_str()), None, false),
            (None, None, true),
            (None, Some("true"), false),
            (Some(named.as_str()), Some("false"), true),
        ] {
            let changed = with_sidecar(config, "service-account-token", annotation);
            let mounts = changed["spec"]["initContainers"][0]["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["mountPath"] == account);
            assert_eq!(mount.is_some(), covered, "{config:?} {annotation:?}");
            let volumes = changed["spec"]["volumes"].as_array().unwrap();
            let volume =
                mount.and_then(|mount| volumes.iter().find(|volume| volume["name"] == mount["name"]));
            assert_eq!(volume.map(|volume| volume["downwardAPI"].clone()), covered.then(|| json!({})));
        }
    }
}
