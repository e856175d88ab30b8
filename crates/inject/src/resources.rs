//! What the sidecar asks of a node, and what that makes of the quality-of-service class of its pod.

use serde_json::{Map, Value};

use super::problem::Problem;
use super::quantity::{amount, quantity};
use super::sidecar::CONTAINER;

/// An amount of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Amount {
    /// What `inject` chooses for the pod.
    #[default]
    Usual,
    /// None: it is left out.
    Nothing,
    /// A quantity, such as `64Mi`.
    Quantity(String),
}

impl Amount {
    /// A quantity, or `none`.
    #[must_use]
    pub fn named(text: &str) -> Self {
        if text == "none" { Self::Nothing } else { Self::Quantity(text.to_owned()) }
    }

    fn text(&self) -> Option<&str> {
        if let Self::Quantity(text) = self { Some(text) } else { None }
    }
}

/// A resource's request and limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    request: Amount,
    limit: Amount,
}

/// What the sidecar asks for, and what it may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    cpu: Bounds,
    memory: Bounds,
    ephemeral_storage: Bounds,
}

impl Resources {
    /// The amount that an option of this name sets: `cpu-limit`, say.
    pub fn amount(&mut self, option: &str) -> Option<&mut Amount> {
        Some(match option {
            "cpu-request" => &mut self.cpu.request,
            "cpu-limit" => &mut self.cpu.limit,
            "memory-request" => &mut self.memory.request,
            "memory-limit" => &mut self.memory.limit,
            "ephemeral-storage-request" => &mut self.ephemeral_storage.request,
            "ephemeral-storage-limit" => &mut self.ephemeral_storage.limit,
            _ => return None,
        })
    }

    fn each(&self) -> [(&'static Usual, &Bounds); 3] {
        [(&CPU, &self.cpu), (&MEMORY, &self.memory), (&EPHEMERAL_STORAGE, &self.ephemeral_storage)]
    }

    /// Each amount that cannot be: its option, and what is wrong.
    pub(super) fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        for (usual, bounds) in self.each() {
            let [request, limit] = usual.options;
            wrong.extend(
                [usual.check(request, &bounds.request), usual.check(limit, &bounds.limit)]
                    .into_iter()
                    .filter_map(Result::err),
            );
            let floor = quantity(LEAST_MEMORY).unwrap_or_default();
            if let Some(text) = bounds.limit.text()
                && usual.name == "memory"
                && quantity(text).is_some_and(|bytes| (1.0..floor).contains(&bytes))
                && !text.ends_with(THOUSANDTHS)
            {
                wrong.push((
                    limit,
                    format!("{text:?} is less than the {LEAST_MEMORY} that the sidecar needs"),
                ));
            }
            let of = |amount: &Amount| amount.text().and_then(quantity);
            if let (Some(least), Some(most)) = (of(&bounds.request), of(&bounds.limit))
                && least > most
            {
                let says =
                    format!("it is more than the limit, {:?}", bounds.limit.text().unwrap_or_default());
                wrong.push((request, says));
            }
        }
        wrong
    }

    /// The field `resources` of the sidecar's container.
    pub(super) fn of(&self, budget: &Budget) -> Value {
        let (mut requests, mut limits) = (Map::new(), Map::new());
        for (usual, bounds) in self.each() {
            let (request, limit) = usual.resolve(bounds, budget);
            for (map, amount) in [(&mut requests, request), (&mut limits, limit)] {
                map.extend(amount.map(|amount| (usual.name.to_owned(), amount.into())));
            }
        }
        let parts = [("requests", requests), ("limits", limits)];
        let parts = parts.into_iter().filter(|(_, map)| !map.is_empty());
        parts.map(|(name, map)| (name.to_owned(), Value::Object(map))).collect::<Map<_, _>>().into()
    }
}

/// A resource, and how much of it the sidecar has where nothing is said.
struct Usual {
    name: &'static str,
    /// Those of its request and its limit.
    options: [&'static str; 2],
    request: Option<&'static str>,
    limit: Option<&'static str>,
    /// Request and limit in a Guaranteed pod, whose containers all have limits that are their requests.
    guaranteed: Option<&'static str>,
}

impl Usual {
    fn check(&self, option: &'static str, given: &Amount) -> Result<(), (&'static str, String)> {
        let Some(text) = given.text() else { return Ok(()) };
        if self.name == CPU.name {
            if quantity(text).is_none_or(|cores| cores < LEAST_CORES) {
                return Err((option, format!("{text:?} is no quantity such as 10m, of 1m or more")));
            }
            return Ok(());
        }
        // Thousandths of bytes and less are units to Kubernetes, and a slip of the pen here.
        let bytes = quantity(text).filter(|bytes| *bytes >= 1.0 && *bytes < MOST_BYTES);
        if bytes.is_none() || text.ends_with(THOUSANDTHS) {
            return Err((option, format!("{text:?} is no quantity such as 64Mi")));
        }
        Ok(())
    }

    fn resolve(&self, bounds: &Bounds, budget: &Budget) -> (Option<String>, Option<String>) {
        let (request, limit) = (bounds.request.text(), bounds.limit.text());
        let is_shared = budget.shared.contains(&self.name);
        let larger = |one: &str, other: Option<&str>| match other {
            Some(other) if quantity(other) > quantity(one) => other.to_owned(),
            _ => one.to_owned(),
        };
        let chosen_limit = match &bounds.limit {
            Amount::Quantity(text) => Some(text.clone()),
            Amount::Nothing => None,
            Amount::Usual if is_shared => None,
            Amount::Usual => {
                let usual = if budget.guaranteed { self.guaranteed } else { self.limit };
                usual.map(|usual| larger(usual, request))
            }
        };
        let chosen_request = match &bounds.request {
            Amount::Quantity(text) => Some(text.clone()),
            Amount::Nothing => None,
            Amount::Usual if is_shared => None,
            Amount::Usual if budget.guaranteed && chosen_limit.is_some() => chosen_limit.clone(),
            Amount::Usual => match (self.request, limit) {
                // A request above its limit is refused.
                (Some(usual), Some(limit)) if quantity(limit) < quantity(usual) => Some(limit.to_owned()),
                (usual, _) => usual.map(str::to_owned),
            },
        };
        (chosen_request, chosen_limit)
    }
}

/// What a pod leaves for the sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// Each container's limits are its requests: the sidecar's must be as well, or the class is lost.
    guaranteed: bool,
    /// The resources that the pod has as a whole (`spec.resources`, Kubernetes 1.34), which its containers share: their requests may not
    /// exceed the pod's.
    shared: Vec<&'static str>,
}

impl Budget {
    /// Of a pod without the sidecar.
    pub(super) fn of(spec: &Map<String, Value>) -> Self {
        let shared = COMPUTE.into_iter().filter(|name| {
            let resources = spec.get("resources");
            ["requests", "limits"]
                .iter()
                .any(|part| resources.is_some_and(|it| it[*part].get(name).is_some()))
        });
        let shared: Vec<_> = shared.collect();
        Self { guaranteed: shared.is_empty() && class(spec, Some(CONTAINER)) == Class::Guaranteed, shared }
    }
}

/// A pod's quality-of-service class: by it a node decides which pod it evicts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    BestEffort,
    Burstable,
    Guaranteed,
}

/// The class of a pod, as Kubernetes computes it, with all containers or without one.
pub(super) fn class(spec: &Map<String, Value>, without: Option<&str>) -> Class {
    if let Some(resources) = spec.get("resources").filter(|it| has_amount(it)) {
        return class_of([resources]);
    }
    let containers = containers(spec).map(|(_, container)| container);
    class_of(containers.filter(|it| without.is_none_or(|name| it["name"] != name)).map(|it| &it["resources"]))
}

fn class_of<'a>(all: impl IntoIterator<Item = &'a Value>) -> Class {
    let (mut guaranteed, mut any) = (true, false);
    for resources in all {
        any |= has_amount(resources);
        guaranteed &= COMPUTE.iter().all(|name| {
            let limit = amount(&resources["limits"][name]).filter(|limit| *limit > 0.0);
            let request = amount(&resources["requests"][name]).filter(|request| *request > 0.0).or(limit);
            limit.is_some_and(|limit| request.is_some_and(|request| alike(request, limit)))
        });
    }
    match (any, guaranteed) {
        (false, _) => Class::BestEffort,
        (true, true) => Class::Guaranteed,
        (true, false) => Class::Burstable,
    }
}

fn has_amount(resources: &Value) -> bool {
    let parts = ["requests", "limits"].into_iter();
    let mut all = parts.flat_map(|part| COMPUTE.map(|name| amount(&resources[part][name])));
    all.any(|amount| amount.is_some_and(|amount| amount > 0.0))
}

/// 0.3 and 300m are one amount, whatever binary fractions make of them.
fn alike(one: f64, other: f64) -> bool {
    (one - other).abs() <= one.abs() * 1e-9
}

/// Each container of a pod, with whether it runs beside those after it.
fn containers(spec: &Map<String, Value>) -> impl Iterator<Item = (bool, &Value)> {
    let list = |name: &str| spec.get(name).and_then(Value::as_array).into_iter().flatten();
    let init = list("initContainers").map(|it| (it["restartPolicy"] == "Always", it));
    init.chain(list("containers").map(|it| (true, it)))
}

/// Whether the sidecar, which is in the pod, has room in what the pod has as a whole: the API server refuses it otherwise.
pub(super) fn check_room(spec: &Map<String, Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Some(pod) = spec.get("resources") else { return problems };
    let Some((_, sidecar)) = containers(spec).find(|(_, it)| it["name"] == CONTAINER) else {
        return problems;
    };
    for name in COMPUTE {
        let asked = |container: &Value| {
            let resources = &container["resources"];
            amount(&resources["requests"][name]).or_else(|| amount(&resources["limits"][name])).unwrap_or(0.0)
        };
        if let Some(most) = amount(&pod["requests"][name])
            && asked(sidecar) > 0.0
        {
            let (mut beside, mut peak) = (0.0, 0.0_f64);
            for (stays, container) in containers(spec) {
                peak = peak.max(beside + asked(container));
                beside += if stays { asked(container) } else { 0.0 };
            }
            if peak > most && !alike(peak, most) {
                let says = format!(
                    "with the sidecar its containers ask for more than that; help: raise it by the sidecar's {}, or leave that out by \
                     cupbearer.dev/{name}-request: \"none\" and cupbearer.dev/{name}-limit: \"none\"",
                    text_of(&sidecar["resources"], name)
                );
                problems.push(Problem::at(format!("spec.resources.requests.{name}"), says));
            }
        }
        let limit = amount(&sidecar["resources"]["limits"][name]);
        if let (Some(most), Some(limit)) = (amount(&pod["limits"][name]), limit)
            && limit > most
        {
            let says = format!(
                "it is less than the sidecar's limit; help: lower that by cupbearer.dev/{name}-limit"
            );
            problems.push(Problem::at(format!("spec.resources.limits.{name}"), says));
        }
    }
    problems
}

fn text_of(resources: &Value, name: &str) -> String {
    let parts = ["requests", "limits"].into_iter().map(|part| &resources[part][name]);
    match parts.into_iter().find(|it| !it.is_null()) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// What the sidecar makes of the class of its pod, where that is worth a word.
pub(super) fn note(spec: &Map<String, Value>) -> Option<String> {
    let (_, sidecar) = containers(spec).find(|(_, it)| it["name"] == CONTAINER)?;
    let budget = Budget::of(spec);
    let has = |name: &&str| !text_of(&sidecar["resources"], name).is_empty();
    let left: Vec<&str> = budget.shared.iter().copied().filter(|name| !has(name)).collect();
    if !left.is_empty() {
        return Some(format!(
            "the sidecar shares what spec.resources has of {} for the whole pod; help: raise that by what it needs, some 10m of cpu and \
             64Mi of memory",
            left.join(" and ")
        ));
    }
    match (class(spec, Some(CONTAINER)), class(spec, None)) {
        (Class::Guaranteed, Class::Guaranteed) if budget.guaranteed => Some(format!(
            "the sidecar's limits are its requests ({} of cpu, {} of memory), so that the pod stays Guaranteed; cupbearer.dev/cpu-limit \
             and cupbearer.dev/memory-limit change them",
            text_of(&sidecar["resources"], "cpu"),
            text_of(&sidecar["resources"], "memory")
        )),
        (Class::Guaranteed, after) if after != Class::Guaranteed => Some(lost_class()),
        (Class::BestEffort, Class::Burstable) => Some(
            "the sidecar's requests make a BestEffort pod Burstable; help: cupbearer.dev/cpu-request, cupbearer.dev/memory-request and \
             cupbearer.dev/memory-limit, each \"none\", keep it BestEffort"
                .to_owned(),
        ),
        _ => None,
    }
}

/// What is wrong with the class of a pod that the sidecar is in.
pub(super) fn warning(spec: &Map<String, Value>) -> Option<String> {
    let lost = class(spec, Some(CONTAINER)) == Class::Guaranteed && class(spec, None) != Class::Guaranteed;
    lost.then(lost_class)
}

fn lost_class() -> String {
    "the sidecar makes a Guaranteed pod Burstable; help: give cupbearer.dev/cpu-request and cupbearer.dev/cpu-limit one value, and \
     cupbearer.dev/memory-request and cupbearer.dev/memory-limit one"
        .to_owned()
}

/// The resources that make a class.
const COMPUTE: [&str; 2] = ["cpu", "memory"];
const CPU: Usual = Usual {
    name: "cpu",
    options: ["cpu-request", "cpu-limit"],
    request: Some("10m"),
    limit: None,
    guaranteed: Some("100m"),
};
const MEMORY: Usual = Usual {
    name: "memory",
    options: ["memory-request", "memory-limit"],
    request: Some("16Mi"),
    limit: Some("64Mi"),
    guaranteed: Some("64Mi"),
};
const EPHEMERAL_STORAGE: Usual = Usual {
    name: "ephemeral-storage",
    options: ["ephemeral-storage-request", "ephemeral-storage-limit"],
    request: None,
    limit: None,
    guaranteed: None,
};
const THOUSANDTHS: [char; 3] = ['m', 'u', 'n'];
const LEAST_MEMORY: &str = "16Mi";
/// What an API server holds as a quantity's number.
const MOST_BYTES: f64 = 9.2e18;
/// Kubernetes has no finer ones; a little less, for what binary fractions make of 1m.
const LEAST_CORES: f64 = 0.000_999;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn told(options: &[(&str, &str)]) -> Resources {
        let mut resources = Resources::default();
        for (option, text) in options {
            *resources.amount(option).unwrap() = Amount::named(text);
        }
        resources
    }

    #[test]
    fn a_class_is_what_kubernetes_computes() {
        let both = |cpu: &str, memory: &str| json!({ "cpu": cpu, "memory": memory });
        let guaranteed = json!({ "limits": both("1", "1Gi") });
        let whole = json!({ "requests": both("100m", "64Mi"), "limits": both("0.1", "65536Ki") });
        for (spec_of, class_of_it) in [
            (json!({ "containers": [{ "name": "a" }] }), Class::BestEffort),
            (
                json!({ "containers": [{ "name": "a", "resources": { "limits": { "memory": "0" } } }] }),
                Class::BestEffort,
            ),
            (json!({ "containers": [{ "name": "a", "resources": guaranteed }] }), Class::Guaranteed),
            (json!({ "containers": [{ "name": "a", "resources": whole }] }), Class::Guaranteed),
            (
                json!({ "containers": [{ "name": "a", "resources": { "limits": { "cpu": 1, "memory": 1_073_741_824 } } }] }),
                Class::Guaranteed,
            ),
            (
                json!({ "containers": [{ "name": "a", "resources": guaranteed }, { "name": "b" }] }),
                Class::Burstable,
            ),
            (
                json!({ "initContainers": [{ "name": "i" }], "containers": [{ "name": "a", "resources": guaranteed }] }),
                Class::Burstable,
            ),
            (
                json!({ "containers": [{ "name": "a", "resources": { "limits": { "memory": "1Gi" } } }] }),
                Class::Burstable,
            ),
            (
                json!({ "containers": [{ "name": "a", "resources": { "limits": both("1", "1Gi"), "requests": { "cpu": "500m" } } }] }),
                Class::Burstable,
            ),
            // What the pod has as a whole counts alone.
            (json!({ "resources": whole, "containers": [{ "name": "a" }] }), Class::Guaranteed),
            (
                json!({ "resources": { "requests": { "cpu": "1" } }, "containers": [{ "name": "a", "resources": guaranteed }] }),
                Class::Burstable,
            ),
        ] {
            assert_eq!(class(&spec(&spec_of), None), class_of_it, "{spec_of}");
        }
    }

    #[test]
    fn the_sidecar_asks_for_what_its_pod_and_its_options_say() {
        let (usual, guaranteed) = (Budget::default(), Budget { guaranteed: true, shared: Vec::new() });
        let shared = Budget { guaranteed: false, shared: vec!["cpu", "memory"] };
        for (options, budget, resources) in [
            (
                &[][..],
                &usual,
                json!({ "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } }),
            ),
            (
                &[],
                &guaranteed,
                json!({ "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "cpu": "100m", "memory": "64Mi" } }),
            ),
            (&[], &shared, json!({})),
            (
                &[("cpu-limit", "200m"), ("memory-limit", "128Mi")],
                &guaranteed,
                json!({ "requests": { "cpu": "200m", "memory": "128Mi" }, "limits": { "cpu": "200m", "memory": "128Mi" } }),
            ),
            (
                &[("cpu-request", "250m"), ("memory-request", "128Mi")],
                &guaranteed,
                json!({ "requests": { "cpu": "250m", "memory": "128Mi" }, "limits": { "cpu": "250m", "memory": "128Mi" } }),
            ),
            // The request that was asked for, and no limit that stops the proxy.
            (
                &[("cpu-request", "20m")],
                &guaranteed,
                json!({ "requests": { "cpu": "20m", "memory": "64Mi" }, "limits": { "cpu": "100m", "memory": "64Mi" } }),
            ),
            (
                &[("cpu-limit", "none")],
                &guaranteed,
                json!({ "requests": { "cpu": "10m", "memory": "64Mi" }, "limits": { "memory": "64Mi" } }),
            ),
            (
                &[("cpu-limit", "5m"), ("memory-request", "96Mi")],
                &usual,
                json!({ "requests": { "cpu": "5m", "memory": "96Mi" }, "limits": { "cpu": "5m", "memory": "96Mi" } }),
            ),
            (
                &[
                    ("ephemeral-storage-request", "8Mi"),
                    ("ephemeral-storage-limit", "64Mi"),
                    ("memory-limit", "none"),
                ],
                &usual,
                json!({ "requests": { "cpu": "10m", "memory": "16Mi", "ephemeral-storage": "8Mi" },
                    "limits": { "ephemeral-storage": "64Mi" } }),
            ),
            (
                &[("cpu-request", "none"), ("memory-request", "none"), ("memory-limit", "none")],
                &usual,
                json!({}),
            ),
            (&[("cpu-request", "10m")], &shared, json!({ "requests": { "cpu": "10m" } })),
        ] {
            let told = told(options);
            assert_eq!(told.check(), [], "{options:?}");
            assert_eq!(told.of(budget), resources, "{options:?} {budget:?}");
        }
        for (options, option, says) in [
            (
                &[("cpu-request", "200m"), ("cpu-limit", "100m")][..],
                "cpu-request",
                "more than the limit, \"100m\"",
            ),
            (&[("memory-limit", "8Mi")], "memory-limit", "less than the 16Mi that the sidecar needs"),
            (&[("cpu-limit", "fast")], "cpu-limit", "is no quantity such as 10m"),
        ] {
            let (found, said) = told(options).check().remove(0);
            assert_eq!(found, option);
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn what_a_pod_has_as_a_whole_has_room_for_the_sidecar() {
        let pod = |sidecar: Value, most: Value| {
            let app = json!({ "name": "app", "resources": { "requests": { "cpu": "100m" }, "limits": { "cpu": "100m" } } });
            spec(&json!({ "resources": most, "containers": [app],
                "initContainers": [{ "name": CONTAINER, "restartPolicy": "Always", "resources": sidecar }] }))
        };
        let most = json!({ "requests": { "cpu": "100m" }, "limits": { "cpu": "100m" } });
        for (sidecar, most, field) in [
            (json!({}), most.clone(), None),
            (json!({ "requests": { "cpu": "10m" } }), most.clone(), Some("spec.resources.requests.cpu")),
            (json!({ "limits": { "cpu": "10m" } }), most, Some("spec.resources.requests.cpu")),
            (json!({ "requests": { "cpu": "10m" } }), json!({ "requests": { "cpu": "110m" } }), None),
            (
                json!({ "requests": { "cpu": "1m" }, "limits": { "cpu": "2" } }),
                json!({ "limits": { "cpu": "1" } }),
                Some("spec.resources.limits.cpu"),
            ),
            (json!({ "requests": { "memory": "16Mi" } }), json!({ "requests": { "cpu": "100m" } }), None),
        ] {
            let found = check_room(&pod(sidecar, most)).pop();
            assert_eq!(found.as_ref().map(|problem| problem.field.as_str()), field, "{found:?}");
        }
    }
}
