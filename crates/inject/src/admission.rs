//! The response to an `AdmissionReview` (`admission.k8s.io/v1`), with a JSON Patch where the sidecar is put in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::configuration::Configuration;
use super::judge::judge;
use super::object;
use super::patch::patch;
use super::pod;
use super::remarks::remarks;
use super::resources;
use super::sidecar::{INJECT, Sidecar};

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

/// What the API server gets, and what the log says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewResponse {
    /// The `AdmissionReview` that goes back.
    pub body: Value,
    /// What becomes of the pod.
    pub decision: Decision,
    /// `Pod shop/orders-*`.
    pub object: String,
    /// The review's.
    pub uid: String,
    /// The pod's.
    pub namespace: String,
    /// The pod's, or its beginning where the API server makes the name.
    pub name: String,
    /// Why the pod is as it is; `None` where the sidecar was put in.
    pub problem: Option<String>,
}

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The sidecar was put in.
    Injected,
    /// It came with the sidecar, which was moved to its place.
    Moved,
    /// Nothing was to be done.
    LeftAlone,
    /// It is not created.
    Refused,
    /// It is created, though the sidecar cannot be put in, or cannot run as it is.
    LetIn,
}

impl Decision {
    /// All of them: the closed set of the metric's label.
    pub const ALL: [Self; 5] = [Self::Injected, Self::Moved, Self::LeftAlone, Self::Refused, Self::LetIn];

    /// The word for it in the metric and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Moved => "moved",
            Self::LeftAlone => "left_alone",
            Self::Refused => "refused",
            Self::LetIn => "let_in",
        }
    }
}

/// The response to the review `text`.
///
/// # Errors
/// What is wrong with it, where it is none.
pub fn respond(text: &[u8], policy: &Policy) -> Result<ReviewResponse, String> {
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
    let (object, decision, problem) = decide(request, namespace, policy, &mut response);
    let body = json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "response": response });
    let metadata = &request["object"]["metadata"];
    // A controller's pod has no name yet.
    let names = [&request["name"], &metadata["name"], &metadata["generateName"]];
    let name = names.into_iter().filter_map(Value::as_str).find(|name| !name.is_empty());
    Ok(ReviewResponse {
        body,
        decision,
        object,
        uid: uid.to_owned(),
        namespace: namespace.to_owned(),
        name: name.unwrap_or_default().to_owned(),
        problem,
    })
}

fn decide(
    request: &Value,
    namespace: &str,
    policy: &Policy,
    response: &mut Map<String, Value>,
) -> (String, Decision, Option<String>) {
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
        return (name, Decision::LeftAlone, Some(says.to_owned()));
    }
    if policy.own_namespace.as_deref().is_some_and(|own| own == namespace) {
        return (name, Decision::LeftAlone, Some("it is in the webhook's own namespace".to_owned()));
    }
    if is_mirror(old) {
        let says = "it mirrors a static pod, which a kubelet runs from a file (kubernetes.io/config.mirror)";
        return (name, Decision::LeftAlone, Some(says.to_owned()));
    }
    let Value::Object(old) = old else {
        return (name, Decision::LeftAlone, Some("there is no pod".to_owned()));
    };
    let mut new = old.clone();
    // Others may have changed the sidecar since: what is put in twice is never theirs again. The pod around it is judged as it is now.
    let has_it = pod::has_it(old);
    let mut warnings = Vec::new();
    let changed = if has_it {
        judge(&mut new, &policy.sidecar, is_of_a_job(old)).map(|warning| {
            warnings.extend(warning);
            None
        })
    } else {
        pod::add(&mut new, &policy.sidecar, is_of_a_job(old), |_| Configuration::default())
    };
    match changed {
        Ok(None) if has_it && new == *old => {
            (name, Decision::LeftAlone, Some("it has the sidecar".to_owned()))
        }
        Ok(None) => {
            let spec = new.get("spec").and_then(Value::as_object).filter(|_| !has_it);
            warnings.extend(spec.and_then(resources::warning));
            warnings.extend(remarks(&new));
            if !warnings.is_empty() {
                let warnings: Vec<String> =
                    warnings.into_iter().map(|warning| format!("cupbearer: {warning}")).collect();
                response.insert("warnings".to_owned(), warnings.into());
            }
            let patch = patch(&Value::Object(old.clone()), &Value::Object(new));
            response.insert("patchType".to_owned(), "JSONPatch".into());
            response.insert("patch".to_owned(), STANDARD.encode(Value::Array(patch).to_string()).into());
            (name, if has_it { Decision::Moved } else { Decision::Injected }, None)
        }
        // Each pod that comes here has asked for the sidecar, by itself or by its namespace.
        Ok(Some(reason)) if pod::is_misfit(reason) => {
            let says =
                format!("{reason}; help: the label {INJECT}: \"false\" lets it in without the sidecar");
            let decision = without_sidecar(&says, policy.failure, response);
            (name, decision, Some(says))
        }
        Ok(Some(reason)) => {
            response
                .insert("warnings".to_owned(), json!([format!("cupbearer: no sidecar was added: {reason}")]));
            (name, Decision::LeftAlone, Some(reason.to_owned()))
        }
        Err(problems) => {
            let says = problems.to_string();
            let decision = without_sidecar(&says, policy.failure, response);
            (name, decision, Some(says))
        }
    }
}

/// What becomes of a pod that is to have the sidecar and cannot have it.
fn without_sidecar(says: &str, failure: FailurePolicy, response: &mut Map<String, Value>) -> Decision {
    let message = format!("cupbearer: {says}");
    match failure {
        FailurePolicy::Closed => {
            response.insert("allowed".to_owned(), false.into());
            let status = json!({ "code": 422, "reason": "Invalid", "message": message });
            response.insert("status".to_owned(), status);
            Decision::Refused
        }
        FailurePolicy::Open => {
            response.insert("warnings".to_owned(), json!([message]));
            Decision::LetIn
        }
    }
}

/// Whether a kubelet shows a pod that it runs already: the API server takes no change of it, and refuses it whole.
fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some()
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
    use crate::sidecar::Mode;

    fn policy(failure: FailurePolicy) -> Policy {
        Policy { sidecar: Sidecar::default(), failure, own_namespace: Some("cupbearer-system".to_owned()) }
    }

    fn review(namespace: &str, operation: &str, object: &Value) -> Value {
        json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "namespace": namespace, "operation": operation, "object": object,
            "resource": { "group": "", "version": "v1", "resource": "pods" } } })
    }

    fn asked(review: &Value, failure: FailurePolicy) -> ReviewResponse {
        respond(review.to_string().as_bytes(), &policy(failure)).unwrap()
    }

    fn pod(port: u16) -> Value {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "generateName": "orders-" },
            "spec": { "containers": [{ "name": "app", "ports": [{ "containerPort": port }] }] } })
    }

    #[test]
    fn a_pod_gets_a_patch_that_puts_the_sidecar_in() {
        let answered = asked(&review("shop", "CREATE", &pod(80)), FailurePolicy::Closed);
        assert_eq!((answered.object.as_str(), answered.decision), ("Pod shop/orders-*", Decision::Injected));
        let response = &answered.body["response"];
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
        assert_eq!(again.body["response"].get("patch"), None);
    }

    /// What a pod becomes, as another implementation reads the patch; `None` where the review has none.
    fn patched(object: &Value, answered: &ReviewResponse) -> Option<Value> {
        let patch = STANDARD.decode(answered.body["response"].get("patch")?.as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        let mut object = object.clone();
        json_patch::patch(&mut object, &patch).unwrap();
        Some(object)
    }

    /// The API server calls this webhook again (`reinvocationPolicy: IfNeeded`) where one that came later has changed the pod.
    #[test]
    fn two_webhooks_end_alike_in_either_order() {
        let add = |pod: &Value, list: &str, at: usize, container: Value| {
            let mut pod = pod.clone();
            if pod["spec"][list].is_null() {
                pod["spec"][list] = json!([]);
            }
            pod["spec"][list].as_array_mut().unwrap().insert(at, container);
            pod
        };
        let with_port = |port: u16| json!({ "name": "late", "ports": [{ "containerPort": port }] });
        for (list, container, allowed) in [
            ("containers", with_port(4280), false),
            ("containers", with_port(4281), false),
            ("initContainers", with_port(4280), false),
            ("containers", with_port(9090), true),
            (
                "containers",
                json!({ "name": "late", "readinessProbe": { "httpGet": { "port": 4280, "path": "/" } } }),
                false,
            ),
            ("initContainers", json!({ "name": "late" }), true),
        ] {
            // The other one first.
            let before = add(&pod(80), list, 0, container.clone());
            let answered = asked(&review("shop", "CREATE", &before), FailurePolicy::Closed);
            assert_eq!(answered.body["response"]["allowed"], json!(allowed), "{container}");
            let first = patched(&before, &answered);
            // This one first, and again after the other one.
            let one = asked(&review("shop", "CREATE", &pod(80)), FailurePolicy::Closed);
            let with_both = add(&patched(&pod(80), &one).unwrap(), list, 0, container.clone());
            let again = asked(&review("shop", "CREATE", &with_both), FailurePolicy::Closed);
            assert_eq!(again.body["response"]["allowed"], json!(allowed), "{container}");
            if allowed {
                assert_eq!(patched(&with_both, &again).unwrap_or(with_both), first.unwrap(), "{container}");
            } else {
                let open = asked(&review("shop", "CREATE", &with_both), FailurePolicy::Open);
                assert_eq!(
                    (open.decision, &open.body["response"]["allowed"]),
                    (Decision::LetIn, &json!(true))
                );
                assert!(open.body["response"]["warnings"][0].as_str().unwrap().contains("428"), "{open:?}");
            }
        }
    }

    #[test]
    fn a_pod_that_brings_the_sidecar_with_other_options_is_judged_by_them() {
        let mut brought = pod(80).as_object().cloned().unwrap();
        let sidecar = Sidecar { health_port: 9901, ..Sidecar::default() };
        assert_eq!(pod::add(&mut brought, &sidecar, false, |_| Configuration::default()), Ok(None));
        let mut brought = Value::Object(brought);
        assert_eq!(
            asked(&review("shop", "CREATE", &brought), FailurePolicy::Closed).decision,
            Decision::LeftAlone
        );
        brought["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(4281);
        assert_eq!(
            asked(&review("shop", "CREATE", &brought), FailurePolicy::Closed).decision,
            Decision::LeftAlone
        );
        brought["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9901);
        let refused = asked(&review("shop", "CREATE", &brought), FailurePolicy::Closed);
        assert_eq!(refused.decision, Decision::Refused);
        assert!(refused.problem.unwrap().contains("cupbearer.dev/health-port"));
    }

    #[test]
    fn a_pod_that_asked_for_the_sidecar_and_cannot_have_it_is_refused_or_counted_as_let_in() {
        let with = |key: &str, value: Value| {
            let mut pod = pod(80);
            pod["spec"][key] = value;
            pod
        };
        let foreign = json!([{ "name": "app" }, { "name": "cupbearer", "image": "another:1" }]);
        for (pod, says) in [
            (with("containers", foreign), "a container named cupbearer"),
            (with("hostNetwork", json!(true)), "hostNetwork"),
        ] {
            let closed = asked(&review("shop", "CREATE", &pod), FailurePolicy::Closed);
            assert_eq!(
                (closed.decision, &closed.body["response"]["allowed"]),
                (Decision::Refused, &json!(false))
            );
            let message = closed.body["response"]["status"]["message"].as_str().unwrap();
            assert!(
                message.contains(says) && message.contains("cupbearer.dev/inject: \"false\""),
                "{message}"
            );
            let open = asked(&review("shop", "CREATE", &pod), FailurePolicy::Open);
            assert_eq!((open.decision, &open.body["response"]["allowed"]), (Decision::LetIn, &json!(true)));
            assert!(open.body["response"]["warnings"][0].as_str().unwrap().contains(says));
        }
        let mut declined = pod(80);
        declined["metadata"]["labels"] = json!({ INJECT: "false" });
        declined["spec"]["hostNetwork"] = json!(true);
        for pod in [declined, with("os", json!({ "name": "windows" }))] {
            let left = asked(&review("shop", "CREATE", &pod), FailurePolicy::Closed);
            assert_eq!(
                (left.decision, &left.body["response"]["allowed"]),
                (Decision::LeftAlone, &json!(true))
            );
        }
    }

    #[test]
    fn every_problem_of_a_pod_is_in_the_message_and_what_may_go_wrong_is_a_warning() {
        let mut both = pod(4280);
        both["spec"]["containers"][0]["ports"] =
            json!([{ "containerPort": 4280 }, { "containerPort": 4281 }]);
        let says = asked(&review("shop", "CREATE", &both), FailurePolicy::Closed).problem.unwrap();
        assert!(
            says.contains("ports[0].containerPort: 4280") && says.contains("ports[1].containerPort: 4281"),
            "{says}"
        );
        let mut misspelt = pod(80);
        misspelt["metadata"]["annotations"] = json!({ "cupbearer.dev/after": "valt" });
        let answered = asked(&review("shop", "CREATE", &misspelt), FailurePolicy::Closed);
        assert_eq!(answered.decision, Decision::Injected);
        let warning = answered.body["response"]["warnings"][0].as_str().unwrap();
        assert!(warning.contains("cupbearer.dev/after names valt"), "{warning}");
    }

    #[test]
    fn a_guaranteed_pod_that_cannot_stay_so_gets_a_warning() {
        let mut guaranteed = pod(80);
        let amounts = json!({ "cpu": "1", "memory": "1Gi" });
        guaranteed["spec"]["containers"][0]["resources"] = json!({ "requests": amounts, "limits": amounts });
        let kept = asked(&review("shop", "CREATE", &guaranteed), FailurePolicy::Closed);
        assert_eq!(kept.body["response"].get("warnings"), None);
        guaranteed["metadata"]["annotations"] = json!({ "cupbearer.dev/cpu-limit": "none" });
        let lost = asked(&review("shop", "CREATE", &guaranteed), FailurePolicy::Closed);
        let warning = lost.body["response"]["warnings"][0].as_str().unwrap();
        assert!(warning.contains("makes a Guaranteed pod Burstable"), "{warning}");
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
            assert_eq!(answered.body["response"]["allowed"], json!(true));
            assert_eq!(answered.body["response"].get("patch"), None, "{answered:?}");
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
            let response = respond(review.as_bytes(), &policy).unwrap().body["response"].clone();
            assert_eq!((&response["allowed"], response.get("patch").is_some()), (&json!(allowed), allowed));
        }
    }

    #[test]
    fn a_pod_that_cannot_have_it_is_refused_or_let_in_as_told() {
        let closed = asked(&review("shop", "CREATE", &pod(4280)), FailurePolicy::Closed);
        assert_eq!(closed.body["response"]["allowed"], json!(false));
        let message = closed.body["response"]["status"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("cupbearer: spec.containers[0].ports[0].containerPort: 4280 is"),
            "{message}"
        );
        let open = asked(&review("shop", "CREATE", &pod(4280)), FailurePolicy::Open);
        assert_eq!(open.body["response"]["allowed"], json!(true));
        assert!(open.body["response"]["warnings"][0].as_str().unwrap().contains("4280"));
    }

    #[test]
    fn a_static_pods_mirror_is_let_in_as_it_is_and_a_refusal_names_review_and_pod() {
        let mut mirror = pod(4280);
        mirror["metadata"]["annotations"] =
            json!({ "kubernetes.io/config.mirror": "abc", "kubernetes.io/config.source": "file" });
        let answered = asked(&review("shop", "CREATE", &mirror), FailurePolicy::Closed);
        assert_eq!(answered.decision, Decision::LeftAlone);
        let response = &answered.body["response"];
        assert_eq!(
            (&response["allowed"], response.get("patch"), response.get("warnings")),
            (&json!(true), None, None)
        );
        let refused = asked(&review("shop", "CREATE", &pod(4280)), FailurePolicy::Closed);
        assert_eq!(refused.decision, Decision::Refused);
        let named = (refused.uid.as_str(), refused.namespace.as_str(), refused.name.as_str());
        assert_eq!(named, ("705ab4f5-6393-11e8-b7cc-42010a800002", "shop", "orders-"));
        assert_eq!(
            asked(&review("shop", "CREATE", &pod(4280)), FailurePolicy::Open).decision,
            Decision::LetIn
        );
    }

    #[test]
    fn what_is_no_review_is_told_so() {
        for (text, says) in [
            (&b"{"[..], "no JSON"),
            (b"{}", "no AdmissionReview"),
            (br#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#, "no AdmissionReview"),
            (br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}"#, "request.uid"),
        ] {
            let error = respond(text, &policy(FailurePolicy::Open)).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
