//! An `AdmissionReview` answered: `admission.k8s.io/v1`, with a JSON Patch where the sidecar is put in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::object;
use super::patch::patch;
use super::pod;
use super::ports::Listeners;
use super::sidecar::Sidecar;

/// What the webhook does with a pod.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What it puts in.
    pub sidecar: Sidecar,
    /// What becomes of a pod that the sidecar cannot be put into.
    pub failure: FailurePolicy,
    /// The webhook's own namespace, where nothing is ever changed: it must be able to start without itself.
    pub own_namespace: Option<String>,
}

/// What becomes of a pod that the sidecar cannot be put into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// It is refused, with the reason.
    #[default]
    Closed,
    /// It is let in as it is, with the reason as a warning.
    Open,
}

/// What an answer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) review: Value,
    /// For the log: what became of which object.
    pub(super) object: String,
    pub(super) outcome: &'static str,
    pub(super) problem: Option<String>,
}

/// Answers the review `text`.
///
/// # Errors
/// What is wrong with it, where it is none.
pub(super) fn answer(text: &[u8], policy: &Policy) -> Result<Answered, String> {
    let review: Value =
        serde_json::from_slice(text).map_err(|error| format!("the body is no JSON: {error}"))?;
    let (version, kind) = (review["apiVersion"].as_str(), review["kind"].as_str());
    if (version, kind) != (Some(VERSION), Some("AdmissionReview")) {
        return Err(format!("the body is no AdmissionReview of {VERSION}"));
    }
    let request = &review["request"];
    let uid = request["uid"].as_str().filter(|uid| !uid.is_empty()).ok_or("request.uid is missing")?;
    let namespace = request["namespace"].as_str().unwrap_or_default();
    let mut response = Map::new();
    response.insert("uid".to_owned(), uid.into());
    response.insert("allowed".to_owned(), true.into());
    let (object, outcome, problem) = decide(request, namespace, policy, &mut response);
    let review = json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "response": response });
    Ok(Answered { review, object, outcome, problem })
}

fn decide(
    request: &Value,
    namespace: &str,
    policy: &Policy,
    response: &mut Map<String, Value>,
) -> (String, &'static str, Option<String>) {
    let old = &request["object"];
    let mut named = old.clone();
    // The API server names the namespace in the request alone where a controller makes the pod.
    if let Some(metadata) =
        named.get_mut("metadata").and_then(Value::as_object_mut).filter(|_| !namespace.is_empty())
    {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    let name = named.as_object().map_or_else(|| "an object that is missing".to_owned(), object::named);
    let operation = request["operation"].as_str().unwrap_or_default();
    let resource = &request["resource"];
    let is_pod = resource["group"] == "" && resource["version"] == "v1" && resource["resource"] == "pods";
    let subresource = request["subResource"].as_str().unwrap_or_default();
    if operation != "CREATE" || !is_pod || !subresource.is_empty() {
        let says = "nothing is to be done but where a pod is created";
        return (name, "left alone", Some(says.to_owned()));
    }
    if policy.own_namespace.as_deref().is_some_and(|own| own == namespace) {
        return (name, "left alone", Some("it is in the webhook's own namespace".to_owned()));
    }
    let Value::Object(old) = old else { return (name, "left alone", Some("there is no pod".to_owned())) };
    // Others may have changed it since: what is put in twice is never theirs again.
    if pod::has_it(old) {
        return (name, "left alone", Some("it has the sidecar".to_owned()));
    }
    let mut new = old.clone();
    match pod::add(&mut new, &policy.sidecar, is_of_a_job(old), |_| Listeners::default()) {
        Ok(None) => {
            let patch = patch(&Value::Object(old.clone()), &Value::Object(new));
            response.insert("patchType".to_owned(), "JSONPatch".into());
            response.insert("patch".to_owned(), STANDARD.encode(Value::Array(patch).to_string()).into());
            (name, "injected", None)
        }
        Ok(Some(reason)) => {
            response
                .insert("warnings".to_owned(), json!([format!("cupbearer: no sidecar was added: {reason}")]));
            (name, "left alone", Some(reason.to_owned()))
        }
        Err(problem) => {
            let says = problem.to_string();
            let message = format!("cupbearer: {says}");
            match policy.failure {
                FailurePolicy::Closed => {
                    response.insert("allowed".to_owned(), false.into());
                    response.insert(
                        "status".to_owned(),
                        json!({ "code": 422, "reason": "Invalid", "message": message }),
                    );
                    (name, "refused", Some(says))
                }
                FailurePolicy::Open => {
                    response.insert("warnings".to_owned(), json!([message]));
                    (name, "let in without the sidecar", Some(says))
                }
            }
        }
    }
}

/// A Job's pods are to end, and the API server shows no more of the Job than that it owns them.
fn is_of_a_job(pod: &Map<String, Value>) -> bool {
    let owners = pod.get("metadata").and_then(|metadata| metadata["ownerReferences"].as_array());
    owners.into_iter().flatten().any(|owner| owner["kind"] == "Job")
}

/// The one version of the API there is since Kubernetes 1.22.
const VERSION: &str = "admission.k8s.io/v1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::sidecar::Mode;

    fn policy(failure: FailurePolicy) -> Policy {
        Policy { sidecar: Sidecar::default(), failure, own_namespace: Some("cupbearer-system".to_owned()) }
    }

    fn review(namespace: &str, operation: &str, object: &Value) -> Value {
        json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "namespace": namespace, "operation": operation, "object": object,
            "resource": { "group": "", "version": "v1", "resource": "pods" } } })
    }

    fn asked(review: &Value, failure: FailurePolicy) -> Answered {
        answer(review.to_string().as_bytes(), &policy(failure)).unwrap()
    }

    fn pod(port: u16) -> Value {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "generateName": "orders-" },
            "spec": { "containers": [{ "name": "app", "ports": [{ "containerPort": port }] }] } })
    }

    #[test]
    fn a_pod_gets_a_patch_that_puts_the_sidecar_in() {
        let answered = asked(&review("shop", "CREATE", &pod(80)), FailurePolicy::Closed);
        assert_eq!((answered.object.as_str(), answered.outcome), ("Pod shop/orders-*", "injected"));
        let response = &answered.review["response"];
        assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
        assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
        let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        let mut patched = pod(80);
        json_patch::patch(&mut patched, &patch).unwrap();
        assert_eq!(patched["spec"]["initContainers"][0]["name"], "cupbearer");
        // Another webhook has had its hands on the pod in between, and this one is called again.
        patched["spec"]["initContainers"][0]["env"][0]["value"] = json!("0.0.0.0:4281 ");
        let again = asked(&review("shop", "CREATE", &patched), FailurePolicy::Closed);
        assert_eq!(again.review["response"].get("patch"), None);
    }

    #[test]
    fn what_it_must_not_touch_is_let_in_as_it_is() {
        let pod = pod(80);
        let with = |path: &str, value: Value| {
            let mut review = review("shop", "CREATE", &pod);
            *review.pointer_mut(path).unwrap() = value;
            review
        };
        let mut ephemeral = review("shop", "CREATE", &pod);
        ephemeral["request"]["subResource"] = json!("ephemeralcontainers");
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [&pod] });
        let mut of_lists = review("shop", "CREATE", &list);
        of_lists["request"]["resource"]["resource"] = json!("lists");
        for review in [
            review("cupbearer-system", "CREATE", &pod),
            review("shop", "DELETE", &pod),
            review("shop", "UPDATE", &pod),
            review("shop", "CREATE", &Value::Null),
            with("/request/resource/resource", json!("services")),
            with("/request/resource/group", json!("example.com")),
            with("/request/resource", Value::Null),
            ephemeral,
            of_lists,
        ] {
            let answered = asked(&review, FailurePolicy::Closed);
            assert_eq!(answered.review["response"]["allowed"], json!(true));
            assert_eq!(answered.review["response"].get("patch"), None, "{answered:?}");
        }
    }

    #[test]
    fn a_pod_that_a_controller_made_gets_it_but_a_jobs_none_that_never_ends() {
        let mut policy = policy(FailurePolicy::Closed);
        let mut pod = pod(80);
        for (mode, kind, allowed) in [
            (Mode::Native, "ReplicaSet", true),
            (Mode::Native, "Job", true),
            (Mode::Plain, "ReplicaSet", true),
            (Mode::Plain, "Job", false),
        ] {
            policy.sidecar.mode = mode;
            pod["metadata"]["ownerReferences"] =
                json!([{ "apiVersion": "v1", "kind": kind, "name": "o", "uid": "1", "controller": true }]);
            let review = review("shop", "CREATE", &pod).to_string();
            let response = answer(review.as_bytes(), &policy).unwrap().review["response"].clone();
            assert_eq!((&response["allowed"], response.get("patch").is_some()), (&json!(allowed), allowed));
        }
    }

    #[test]
    fn a_pod_that_cannot_have_it_is_refused_or_let_in_as_told() {
        let closed = asked(&review("shop", "CREATE", &pod(4280)), FailurePolicy::Closed);
        assert_eq!(closed.review["response"]["allowed"], json!(false));
        let message = closed.review["response"]["status"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("cupbearer: spec.containers[0].ports[0].containerPort: 4280 is"),
            "{message}"
        );
        let open = asked(&review("shop", "CREATE", &pod(4280)), FailurePolicy::Open);
        assert_eq!(open.review["response"]["allowed"], json!(true));
        assert!(open.review["response"]["warnings"][0].as_str().unwrap().contains("4280"));
    }

    #[test]
    fn what_is_no_review_is_told_so() {
        for (text, says) in [
            (&b"{"[..], "no JSON"),
            (b"{}", "no AdmissionReview"),
            (br#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#, "no AdmissionReview"),
            (br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}"#, "request.uid"),
        ] {
            let error = answer(text, &policy(FailurePolicy::Open)).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
