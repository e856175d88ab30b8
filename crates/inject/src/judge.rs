//! A pod that has the sidecar already, judged as it is now: another webhook may have changed it since, or made another pod of it.

use serde_json::{Map, Value};

use super::pod::{self, list, the_spec};
use super::ports::Ports;
use super::problem::{Problem, Problems};
use super::resources;
use super::sidecar::{INJECT, Mode, Sidecar};

/// Whether the pod can be with the sidecar that is in it. Its place among the init containers is put right; then there is a warning that says
/// so. All else about the sidecar stays as it is.
pub(super) fn judge(
    pod: &mut Map<String, Value>,
    sidecar: &Sidecar,
    is_job: bool,
) -> Result<Option<String>, Problems> {
    let metadata = pod.get("metadata");
    let declines = |part: &&str| metadata.is_some_and(|metadata| metadata[*part][INJECT] == "false");
    if ["annotations", "labels"].iter().any(declines) {
        return Ok(None);
    }
    let annotations = pod::annotations(pod)?.cloned();
    let after = sidecar.annotated(annotations.as_ref()).map_err(Problems)?.after;
    let spec = the_spec(pod)?;
    if let Some(reason) = pod::unfit(spec) {
        return Err(Problem::at("spec", format!("the sidecar is in this pod, and {reason}")).into());
    }
    let Some((mode, at)) = place(spec)? else { return Ok(None) };
    let mut problems: Vec<Problem> = pod::check_end(spec, mode, is_job).err().into_iter().collect();
    let own = spec[mode.list()][at].clone();
    if mode == Mode::Native && own["restartPolicy"] != "Always" {
        let field = format!("spec.initContainers[{at}].restartPolicy");
        problems.push(Problem::at(field, "the sidecar must have Always: the pod never starts otherwise"));
    }
    let ports = Ports::of_container(&own);
    for containers in ["initContainers", "containers"] {
        for (nth, container) in list(spec, containers)?.into_iter().flatten().enumerate() {
            if (containers, nth) != (mode.list(), at) {
                problems.extend(ports.check(container, &format!("spec.{containers}[{nth}]")));
            }
        }
    }
    problems.extend(resources::check_room(spec));
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    if mode == Mode::Plain {
        return Ok(None);
    }
    let Some(items) = list(spec, "initContainers")? else { return Ok(None) };
    let passed = in_front(&items[..at], &after);
    if passed.is_empty() {
        return Ok(None);
    }
    let own = items.remove(at);
    items.insert(at - passed.len(), own);
    Ok(Some(format!(
        "the sidecar was moved in front of {}, which may need it; help: cupbearer.dev/after leaves it behind init containers",
        passed.join(", ")
    )))
}

/// Where the sidecar is.
fn place(spec: &mut Map<String, Value>) -> Result<Option<(Mode, usize)>, Problem> {
    for mode in [Mode::Native, Mode::Plain] {
        let at = list(spec, mode.list())?.and_then(|items| items.iter().position(pod::is_ours));
        if let Some(at) = at {
            return Ok(Some((mode, at)));
        }
    }
    Ok(None)
}

/// The init containers directly in front of the sidecar that have to end before it starts, and could not use it. Other sidecars stay where
/// they are, with all before them: a service mesh's puts itself first, and must be there for the first token.
fn in_front(items: &[Value], after: &[String]) -> Vec<String> {
    let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
    let stays = |item: &Value| item["restartPolicy"] == "Always" || after.contains(&name(item));
    let first = items.iter().rposition(stays).map_or(0, |at| at + 1);
    items[first..].iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::configuration::Configuration;
    use super::*;

    fn pod(spec: &Value) -> Map<String, Value> {
        json!({ "spec": spec }).as_object().cloned().unwrap()
    }

    /// With the sidecar of the defaults, and then changed as another webhook does.
    fn changed(
        mode: Mode,
        change: impl FnOnce(&mut Value),
    ) -> (Map<String, Value>, Result<Option<String>, Problems>) {
        let mut given = pod(&json!({ "containers": [{ "name": "app" }] }));
        let sidecar = Sidecar { mode, ..Sidecar::default() };
        assert_eq!(pod::add(&mut given, &sidecar, false, |_| Configuration::default()), Ok(None));
        change(&mut given["spec"]);
        let judged = judge(&mut given, &Sidecar::default(), false);
        (given, judged)
    }

    fn push(list: &'static str, container: Value) -> impl FnOnce(&mut Value) {
        move |spec| spec[list].as_array_mut().unwrap().push(container)
    }

    #[test]
    fn what_another_webhook_made_of_the_pod_counts() {
        let port = |port: u16| json!({ "name": "late", "ports": [{ "containerPort": port }] });
        let probe = json!({ "name": "late", "livenessProbe": { "tcpSocket": { "port": 4280 } } });
        let set = |key: &'static str, value: Value| move |spec: &mut Value| spec[key] = value;
        let judged = |mode, change: Box<dyn FnOnce(&mut Value)>| changed(mode, change).1;
        for mode in [Mode::Native, Mode::Plain] {
            for (change, field) in [
                (
                    Box::new(push("containers", port(4280))) as Box<dyn FnOnce(&mut Value)>,
                    "ports[0].containerPort",
                ),
                (Box::new(push("containers", port(4281))), "ports[0].containerPort"),
                (Box::new(push("containers", probe.clone())), "livenessProbe.tcpSocket.port"),
                (Box::new(set("hostNetwork", json!(true))), "spec"),
                (Box::new(set("nodeSelector", json!({ "kubernetes.io/os": "windows" }))), "spec"),
            ] {
                let problem = judged(mode, change).unwrap_err().0.remove(0);
                assert!(problem.field.ends_with(field), "{problem}");
            }
            assert_eq!(judged(mode, Box::new(push("containers", port(8080)))), Ok(None));
        }
        assert!(judged(Mode::Plain, Box::new(set("restartPolicy", json!("Never")))).is_err());
        assert_eq!(judged(Mode::Native, Box::new(set("restartPolicy", json!("Never")))), Ok(None));
        let dies: Box<dyn FnOnce(&mut Value)> = Box::new(|spec| {
            spec["initContainers"][0].as_object_mut().unwrap().remove("restartPolicy");
        });
        let problem = judged(Mode::Native, dies).unwrap_err().0.remove(0);
        assert_eq!(problem.field, "spec.initContainers[0].restartPolicy");
    }

    #[test]
    fn the_ports_that_count_are_those_of_the_sidecar_in_the_pod() {
        let move_it = |spec: &mut Value| {
            spec["initContainers"][0]["env"][0]["value"] = json!("127.0.0.1:9000");
            spec["containers"][0]["ports"] = json!([{ "containerPort": 4280 }]);
        };
        assert_eq!(changed(Mode::Native, move_it).1, Ok(None));
        let clash = |spec: &mut Value| {
            move_it(spec);
            spec["containers"][0]["ports"] = json!([{ "containerPort": 9000 }]);
        };
        assert!(changed(Mode::Native, clash).1.unwrap_err().to_string().contains("cupbearer.dev/port"));
    }

    #[test]
    fn the_sidecar_comes_before_init_containers_that_another_webhook_puts_first() {
        let put = |names: &'static [(&'static str, bool)]| {
            move |spec: &mut Value| {
                for (name, stays) in names.iter().rev() {
                    let mut container = json!({ "name": name });
                    if *stays {
                        container["restartPolicy"] = json!("Always");
                    }
                    spec["initContainers"].as_array_mut().unwrap().insert(0, container);
                }
            }
        };
        let order = |pod: &Map<String, Value>| {
            let items = pod["spec"]["initContainers"].as_array().unwrap().iter();
            items.map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (pod, warning) = changed(Mode::Native, put(&[("fetch", false), ("warm", false)]));
        assert_eq!(order(&pod), ["cupbearer", "fetch", "warm"]);
        assert!(warning.unwrap().unwrap().contains("moved in front of fetch, warm"));
        // A service mesh's own sidecar, and what it waits for, stay first.
        let mesh = &[("istio-validation", false), ("istio-proxy", true), ("fetch", false)];
        let (pod, _) = changed(Mode::Native, put(mesh));
        assert_eq!(order(&pod), ["istio-validation", "istio-proxy", "cupbearer", "fetch"]);
        let (pod, warning) = changed(Mode::Native, put(&[("istio-proxy", true)]));
        assert_eq!(
            (order(&pod).as_slice(), warning),
            (&["istio-proxy".to_owned(), "cupbearer".to_owned()][..], Ok(None))
        );
    }

    #[test]
    fn an_init_container_that_the_sidecar_waits_for_stays_in_front() {
        let annotated = json!({ "metadata": { "annotations": { "cupbearer.dev/after": "vault-agent-init, other" } },
            "spec": { "initContainers": [{ "name": "vault-agent-init" }, { "name": "migrate" }], "containers": [{ "name": "app" }] } });
        let mut given = annotated.as_object().cloned().unwrap();
        assert_eq!(pod::add(&mut given, &Sidecar::default(), false, |_| Configuration::default()), Ok(None));
        assert_eq!(given["spec"]["initContainers"][1]["name"], "cupbearer");
        assert_eq!(judge(&mut given, &Sidecar::default(), false), Ok(None));
        let of_a_job = judge(&mut given, &Sidecar::default(), true);
        assert_eq!(of_a_job, Ok(None));
    }
}
