//! The objects of a manifest that hold pods, and where.

use serde_json::{Map, Value};

use super::problem::{Problem, Problems};
use super::yaml::{Kind, Node};
use super::{defaults, foreign, live, pod};

/// What became of one object that holds pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `Deployment shop/orders`.
    pub object: String,
    /// What became of it.
    pub outcome: Outcome,
}

impl Report {
    /// Whether the object holds a pod that should have got the sidecar, or lost it, and did not. Who declines it by
    /// `cupbearer.dev/inject` is not left out.
    #[must_use]
    pub fn is_left_out(&self) -> bool {
        match &self.outcome {
            Outcome::LeftAlone(reason) => !pod::is_declined(reason),
            Outcome::Unknown(_) => true,
            Outcome::Changed | Outcome::Replaced | Outcome::Unchanged => false,
        }
    }
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sidecar was put in, or taken out.
    Changed,
    /// Another one was there before: one of other flags, of another version, or changed by hand.
    Replaced,
    /// It was so before.
    Unchanged,
    /// It is left alone, for this reason.
    LeftAlone(&'static str),
    /// It is of a kind that is not known here, and holds a pod at this field.
    Unknown(String),
}

/// What is known of a pod beyond itself.
pub(super) struct Holder<'a> {
    pub(super) namespace: &'a str,
    /// It ends by itself.
    pub(super) is_job: bool,
}

/// What there is to be said of the objects of a file.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) reports: Vec<Report>,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<String>,
}

/// The items of a list, where `node` is one; a problem where it says that it is one and has none.
pub(super) fn items<'n, 't>(node: &'n Node<'t>) -> Option<Result<&'n [Node<'t>], Problem>> {
    let head = head(node);
    if !is_list(&head) {
        return None;
    }
    let items = node.entry("items").map(|entry| entry.value.resolved());
    Some(match items.map(|items| &items.kind) {
        None => Ok(&[]),
        Some(Kind::Sequence { items, .. }) => Ok(items),
        Some(_) if items.is_some_and(|items| items.value().is_null()) => Ok(&[]),
        Some(_) => Err(Problem::at("items", "it must be a list").of(&named(&head))),
    })
}

/// What says of what kind and name an object is, and no more of it.
pub(super) fn head(node: &Node<'_>) -> Map<String, Value> {
    let part = |key: &str| Some((key.to_owned(), node.entry(key)?.value.value()));
    let mut head: Map<String, Value> = ["apiVersion", "kind"].into_iter().filter_map(part).collect();
    if let Some(metadata) = node.entry("metadata") {
        let part = |key: &str| Some((key.to_owned(), metadata.value.entry(key)?.value.value()));
        let metadata: Map<String, Value> =
            ["name", "generateName", "namespace"].into_iter().filter_map(part).collect();
        head.insert("metadata".to_owned(), metadata.into());
    }
    head
}

/// Does `change` to the pod of `object`, which is no list.
pub(super) fn change_pod<F>(object: &mut Value, change: F, findings: &mut Findings)
where
    F: FnOnce(&mut Map<String, Value>, &Holder<'_>) -> Result<Option<pod::Reason>, Problems>,
{
    let Findings { reports, problems, notes } = findings;
    let fields = match object {
        // Nothing between two marks is no object at all.
        Value::Null => return,
        Value::Object(fields) => fields,
        _ => {
            return problems
                .push(Problem::at("", "it must be an object: a mapping with apiVersion and kind"));
        }
    };
    let name = named(fields);
    if let Err(problem) = check_kind(fields) {
        return problems.push(problem.of(&name));
    }
    let Some((path, is_job)) = template(fields) else {
        // Of a group that is not ours, and yet pods are made of it.
        if let Some(path) = foreign::template(fields) {
            reports.push(Report { object: name, outcome: Outcome::Unknown(path) });
        }
        return;
    };
    if let Some(reason) = not_to_be_changed(fields) {
        return reports.push(Report { object: name, outcome: Outcome::LeftAlone(reason) });
    }
    let original = (is_job || live::is_live(fields)).then(|| fields.clone());
    let is_live_job = live::drop_from(fields) && is_job && !path.contains(&"jobTemplate");
    let namespace = metadata(fields, "namespace").to_owned();
    let holder = Holder { namespace: &namespace, is_job };
    let prefix = path.iter().fold(String::new(), |prefix, step| prefix + step + ".");
    let mut at = &mut *fields;
    for (depth, step) in path.iter().enumerate() {
        let next = at.get_mut(*step).filter(|next| !next.is_null());
        if next.is_none() && depth > 0 {
            if let Some(original) = original {
                *fields = original;
            }
            return reports.push(Report { object: name, outcome: Outcome::LeftAlone(NO_TEMPLATE) });
        }
        let Some(Value::Object(next)) = next else {
            problems.push(Problem::at(path[..=depth].join("."), "it must be a mapping").of(&name));
            return;
        };
        at = next;
    }
    let before = at.clone();
    let outcome = match change(at, &holder) {
        Ok(Some(pod::HAS_IT)) => Outcome::Unchanged,
        Ok(Some(reason)) => Outcome::LeftAlone(reason),
        Ok(None) if *at == before => Outcome::Unchanged,
        Ok(None) if pod::has_it(at) && pod::has_it(&before) => {
            // A server writes its defaults down.
            if defaults::alike(at, &before) {
                *at = before;
                Outcome::Unchanged
            } else {
                Outcome::Replaced
            }
        }
        Ok(None) => Outcome::Changed,
        Err(found) => {
            return problems.extend(found.0.into_iter().map(|mut problem| {
                problem.field.insert_str(0, &prefix);
                problem.of(&name)
            }));
        }
    };
    if let (Outcome::LeftAlone(_), Some(original)) = (&outcome, original) {
        *fields = original;
    } else if is_live_job && outcome != Outcome::Unchanged {
        notes.push(format!(
            "the {name} is in a cluster, where the pods of a Job cannot change: `kubectl apply` refuses it; help: \
             `kubectl replace --force -f FILE` deletes it and runs it anew"
        ));
    }
    reports.push(Report { object: name, outcome });
}

/// As a patch of kustomize has none.
const NO_TEMPLATE: pod::Reason =
    "it has no pod template; help: of a patch, inject what comes out of kustomize";

/// Whether an object says what it is, as far as it must be known here.
pub(super) fn check_kind(fields: &Map<String, Value>) -> Result<(), Problem> {
    let kind = match fields.get("kind") {
        Some(Value::String(kind)) if !kind.is_empty() => kind,
        None | Some(Value::Null) => {
            return Err(Problem::at("kind", "it is missing: every object says of what kind it is"));
        }
        Some(_) => return Err(Problem::at("kind", "it must be a word, such as Deployment")),
    };
    let kinds_of = |(_, kinds): &&(&str, &[&str])| {
        [Some(kind.as_str()), kind.strip_suffix("List")]
            .into_iter()
            .flatten()
            .any(|kind| kinds.contains(&kind))
    };
    let Some((usual, _)) = VERSIONS.iter().find(kinds_of) else { return Ok(()) };
    match fields.get("apiVersion") {
        Some(Value::String(version)) if !version.is_empty() => Ok(()),
        None | Some(Value::Null) => {
            Err(Problem::at("apiVersion", format!("it is missing: that of a {kind} is {usual}")))
        }
        Some(_) => Err(Problem::at("apiVersion", format!("it must be a word: that of a {kind} is {usual}"))),
    }
}

/// Why an object is not one that a manifest changes, if so.
fn not_to_be_changed(fields: &Map<String, Value>) -> Option<pod::Reason> {
    let owners = fields.get("metadata").and_then(|metadata| metadata["ownerReferences"].as_array());
    if owners.into_iter().flatten().any(|owner| owner["controller"] == true) {
        return Some("a controller owns it (metadata.ownerReferences) and makes it as its own template says");
    }
    if text(fields, "kind") != "Pod" {
        return None;
    }
    let says = |part: &str, key: &str| fields.get(part).is_some_and(|part| part[key].is_string());
    if says("status", "phase") || (says("spec", "nodeName") && live::is_live(fields)) {
        return Some(
            "it runs already (status.phase, spec.nodeName with metadata.uid), and a running pod gets no more containers",
        );
    }
    if says("spec", "nodeName") {
        return Some(
            "its spec.nodeName binds it to a node, as it does a pod that runs already or that a kubelet has from a file; \
             help: take spec.nodeName out, or choose the node by spec.nodeSelector",
        );
    }
    None
}

/// The pod in an object, where it holds one.
pub(super) fn pod(fields: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let (path, _) = template(fields)?;
    path.iter().try_fold(fields, |at, step| at.get(*step)?.as_object())
}

/// Where an object has the template of its pods, where it has one and is no pod itself.
pub(super) fn template_field(fields: &Map<String, Value>) -> Option<String> {
    template(fields).map(|(path, _)| path.join(".")).filter(|path| !path.is_empty())
}

/// A field of an object's metadata; empty where it is not there.
pub(super) fn metadata<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a str {
    fields.get("metadata").and_then(|metadata| metadata[key].as_str()).unwrap_or_default()
}

/// Kind, namespace and name, as people say them; empty where there are none.
pub(super) fn named(fields: &Map<String, Value>) -> String {
    let [name, generated, namespace] = ["name", "generateName", "namespace"].map(|key| metadata(fields, key));
    let kind = text(fields, "kind");
    let name = match (name, generated) {
        ("", "") if kind.is_empty() => return String::new(),
        ("", "") => "(without a name)".to_owned(),
        ("", generated) => generated.to_owned() + "*",
        (name, _) => name.to_owned(),
    };
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("{kind} {namespace}{slash}{name}").trim_start().to_owned()
}

fn is_list(fields: &Map<String, Value>) -> bool {
    let kind = text(fields, "kind");
    // What kustomize has its functions change is a list, too.
    kind == "List"
        || (kind == "ResourceList" && text(fields, "apiVersion").starts_with("config.kubernetes.io/"))
        || (kind.ends_with("List")
            && template_of(text(fields, "apiVersion"), kind.trim_end_matches("List")).is_some())
}

fn template(fields: &Map<String, Value>) -> Option<(&'static [&'static str], bool)> {
    template_of(text(fields, "apiVersion"), text(fields, "kind"))
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Where in an object of this kind its pod is, and whether that ends. Objects of other groups that have the same name (a service
/// mesh's Job, say) are not ours to change.
fn template_of(api_version: &str, kind: &str) -> Option<(&'static [&'static str], bool)> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("", "Pod") => Some((&[], false)),
        ("", "PodTemplate") => Some((&["template"], false)),
        ("", "ReplicationController")
        | ("apps" | "extensions", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") => {
            Some((&["spec", "template"], false))
        }
        ("batch", "Job") => Some((&["spec", "template"], true)),
        ("batch", "CronJob") => Some((&["spec", "jobTemplate", "spec", "template"], true)),
        _ => None,
    }
}

/// The usual version of each kind that is ours to look into.
const VERSIONS: [(&str, &[&str]); 3] = [
    ("v1", &["List", "Pod", "PodTemplate", "ReplicationController"]),
    ("apps/v1", &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"]),
    ("batch/v1", &["Job", "CronJob"]),
];
