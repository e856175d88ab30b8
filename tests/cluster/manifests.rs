//! What `cupbearer inject` makes of manifests that come from elsewhere: other spellings of YAML, kinds that it does not know, and objects
//! of a cluster.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use super::inject::inject;
use cupbearer_testing::python;

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers: [{name: app, image: a:1}]
";

#[tokio::test]
async fn every_spelling_of_yaml_that_kubectl_reads_is_read_and_comes_back_as_it_was() {
    let mut judge = python("kubernetes/spellings.py");
    let output = judge.arg(env!("CARGO_BIN_EXE_cupbearer")).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" 0 faults"), "{said}");
}

/// An Argo Rollout beside a Deployment.
fn rollout() -> String {
    let rollout =
        DEPLOYMENT.replace("apps/v1", "argoproj.io/v1alpha1").replace("kind: Deployment", "kind: Rollout");
    format!("{}---\n{DEPLOYMENT}", rollout.replace("name: api", "name: web"))
}

#[tokio::test]
async fn whatever_holds_a_pod_and_is_left_out_is_named_and_refused_where_none_may_be() {
    let on_its_node = "      hostNetwork: true\n      containers:";
    let bound = "apiVersion: v1\nkind: Pod\nmetadata: {name: worker}\nspec:\n  nodeName: node-a\n  containers: [{name: app, image: a:1}]\n";
    let knative =
        DEPLOYMENT.replace("apps/v1", "serving.knative.dev/v1").replace("kind: Deployment", "kind: Service");
    let jobs = "apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet\nmetadata: {name: train}\nspec:\n  replicatedJobs:\n  - name: w\n    \
                template: {spec: {template: {spec: {containers: [{name: app, image: a:1}]}}}}\n";
    for (text, says) in [
        (
            rollout(),
            "Rollout shop/web: left alone: inject does not know this kind, and it holds a pod (spec.template)",
        ),
        (knative, "Service shop/api: left alone: inject does not know this kind"),
        (
            jobs.to_owned(),
            "JobSet train: left alone: inject does not know this kind, and it holds a pod (spec.replicatedJobs[0].template.spec.template)",
        ),
        (
            DEPLOYMENT.replace("      containers:", on_its_node),
            "Deployment shop/api: left alone: it is on the node's own network",
        ),
        (bound.to_owned(), "Pod worker: left alone: its spec.nodeName binds it to a node"),
    ] {
        let (code, out, said) = inject(&[], text.as_bytes()).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(!out.is_empty() && said.contains(says), "{says} is not in {said}");
        let (code, out, said) = inject(&["--strict"], text.as_bytes()).await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
        assert!(
            said.contains(says) && said.contains("1 object left out, and --strict allows none"),
            "{said}"
        );
    }
    // The sidecar is in the Deployment beside the Rollout.
    let (_, out, _) = inject(&[], rollout().as_bytes()).await;
    assert_eq!(out.matches("cupbearer.dev/status").count(), 1, "{out}");
    // What holds no pod, and what declines the sidecar, is not left out.
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: api}\nspec: {ports: [{port: 80}]}\n";
    let declines = DEPLOYMENT.replace(
        "{labels: {app: api}}",
        "{labels: {app: api}, annotations: {cupbearer.dev/inject: \"false\"}}",
    );
    for text in [format!("{service}---\n{DEPLOYMENT}"), declines] {
        let (code, out, said) = inject(&["--strict"], text.as_bytes()).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(!out.is_empty());
    }
}

#[tokio::test]
async fn the_items_of_lists_and_of_what_kustomize_gives_its_functions_get_the_sidecar() {
    let item = DEPLOYMENT.replace('\n', "\n  ").trim_end().to_owned();
    for head in [
        "apiVersion: v1\nkind: List\n",
        "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nfunctionConfig: {kind: None}\n",
    ] {
        let text = format!("{head}items:\n- {item}\n");
        let (code, out, said) = inject(&["--strict"], text.as_bytes()).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains("Deployment shop/api: the sidecar was added") && out.starts_with(head),
            "{said}{out}"
        );
        let (_, back, _) = inject(&["--uninject"], out.as_bytes()).await;
        assert_eq!(back, text);
    }
    let rollouts = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}\n",
        item.replace("apps/v1", "argoproj.io/v1alpha1").replace("Deployment", "Rollout")
    );
    let (code, _, said) = inject(&["--strict"], rollouts.as_bytes()).await;
    assert_eq!(code, Some(1), "{said}");
}

#[tokio::test]
async fn an_image_that_nodes_would_look_for_at_docker_hub_is_noted() {
    let (_, _, said) = inject(&[], DEPLOYMENT.as_bytes()).await;
    assert!(
        said.contains("names no registry: nodes look for it at docker.io; help: name your own by --image"),
        "{said}"
    );
    let (_, _, said) = inject(&["--image", "registry.example.com/cupbearer:1"], DEPLOYMENT.as_bytes()).await;
    assert!(!said.contains("registry:"), "{said}");
}

/// As an API server gives it: with its own fields.
fn live(mut object: Value) -> Value {
    let metadata = json!({ "uid": "705ab4f5", "resourceVersion": "12", "generation": 2, "creationTimestamp": "2026-11-01T00:00:00Z",
        "managedFields": [{ "manager": "kubectl", "operation": "Update" }] });
    object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().cloned().unwrap());
    object["status"] = json!({ "observedGeneration": 2 });
    object
}

#[tokio::test]
async fn an_object_of_a_cluster_loses_what_the_server_has_added_and_has_the_sidecar_already_the_second_time()
{
    let (_, injected, _) = inject(&[], DEPLOYMENT.as_bytes()).await;
    let (_, json, _) = inject(&[], as_json(DEPLOYMENT).as_bytes()).await;
    assert!(injected.contains("cupbearer.dev/status"));
    let mut held = live(serde_json::from_str(&json).unwrap());
    let spec = &mut held["spec"]["template"]["spec"];
    for container in ["initContainers", "containers"] {
        spec[container][0]["terminationMessagePath"] = json!("/dev/termination-log");
        spec[container][0]["terminationMessagePolicy"] = json!("File");
        spec[container][0]["imagePullPolicy"] = json!("IfNotPresent");
    }
    spec["initContainers"][0]["ports"][0]["protocol"] = json!("TCP");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let probe = &mut spec["initContainers"][0][probe];
        probe["httpGet"]["scheme"] = json!("HTTP");
        probe["successThreshold"] = json!(1);
        probe["timeoutSeconds"] = json!(1);
    }
    spec["volumes"][0]["configMap"]["defaultMode"] = json!(420);
    spec["dnsPolicy"] = json!("ClusterFirst");
    let (code, out, said) = inject(&[], held.to_string().as_bytes()).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("Deployment shop/api: has it already"), "{said}");
    let out: Value = serde_json::from_str(&out).unwrap();
    for (part, key) in [
        ("metadata", "uid"),
        ("metadata", "resourceVersion"),
        ("metadata", "managedFields"),
        ("metadata", "creationTimestamp"),
    ] {
        assert_eq!(out[part].get(key), None, "{key}");
    }
    assert_eq!(out.get("status"), None);
    assert_eq!(out["spec"], held["spec"], "the sidecar is as the server has it");
    let (_, _, said) = inject(&["--port", "9000"], held.to_string().as_bytes()).await;
    assert!(said.contains("the sidecar it had was replaced"), "{said}");
}

fn as_json(yaml: &str) -> String {
    assert_eq!(yaml, DEPLOYMENT);
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "api", "namespace": "shop" }, "spec": {
        "selector": { "matchLabels": { "app": "api" } },
        "template": { "metadata": { "labels": { "app": "api" } }, "spec": { "containers": [{ "name": "app", "image": "a:1" }] } } } })
    .to_string()
}

#[tokio::test]
async fn a_job_of_a_cluster_becomes_one_that_can_be_created_again_and_that_is_noted() {
    let labels = json!({ "batch.kubernetes.io/controller-uid": "705ab4f5", "controller-uid": "705ab4f5", "job-name": "load", "batch.kubernetes.io/job-name": "load" });
    let job = live(
        json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "load", "labels": labels }, "spec": {
        "selector": { "matchLabels": { "batch.kubernetes.io/controller-uid": "705ab4f5" } },
        "template": { "metadata": { "labels": labels }, "spec": { "restartPolicy": "Never", "containers": [{ "name": "app", "image": "a:1" }] } } } }),
    );
    let (code, out, said) = inject(&[], serde_json::to_string_pretty(&job).unwrap().as_bytes()).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Job load: the sidecar was added"), "{said}");
    assert!(
        said.contains("note: the Job load is in a cluster") && said.contains("kubectl replace --force -f"),
        "{said}"
    );
    assert!(
        !out.contains("controller-uid") && !out.contains("705ab4f5") && !out.contains("selector"),
        "{out}"
    );
    let (_, _, said) = inject(&[], b"apiVersion: batch/v1\nkind: Job\nmetadata: {name: load}\nspec: {template: {spec: {containers: [{name: a}]}}}\n").await;
    assert!(said.contains("the sidecar was added") && !said.contains("kubectl replace"), "{said}");
}

/// The most memory that `inject` of `file` had, in bytes.
async fn peak(file: &Path) -> u64 {
    const MEASURE: &str = "import resource, subprocess, sys\n\
                           done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n\
                           print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut python = Command::new("python3");
    python.args(["-c", MEASURE, env!("CARGO_BIN_EXE_cupbearer"), "inject"]).arg(file);
    let said = String::from_utf8(python.output().await.unwrap().stdout).unwrap();
    let kibibytes = said.trim().strip_prefix("0 ").unwrap_or_else(|| panic!("inject failed: {said}"));
    kibibytes.parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_large_file_takes_a_few_times_its_size_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let env: Vec<Value> = (0..60)
        .map(|n| json!({ "name": format!("VARIABLE_{n}"), "value": format!("what {n} is for") }))
        .collect();
    let mut item: Value = serde_json::from_str(&as_json(DEPLOYMENT)).unwrap();
    item["spec"]["template"]["spec"]["containers"][0]["env"] = env.clone().into();
    let lines: Vec<_> = env
        .iter()
        .map(|it| format!("        - name: {}\n          value: {}\n", it["name"], it["value"]))
        .collect();
    let lines = lines.concat();
    let containers = format!("containers:\n      - name: app\n        image: a:1\n        env:\n{lines}");
    let document = DEPLOYMENT.replace("containers: [{name: app, image: a:1}]\n", &containers);
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": vec![item; 2000] });
    for (name, times, text) in [
        ("documents.yaml", 10, format!("---\n{document}").repeat(2000)),
        ("list.json", 10, serde_json::to_string_pretty(&list).unwrap()),
        // Without white space a value is a third as long.
        ("one-line.json", 15, list.to_string()),
    ] {
        assert!(text.len() > 5_000_000, "{name}: {}", text.len());
        let file = dir.path().join(name);
        fs::write(&file, &text).unwrap();
        let took = peak(&file).await;
        assert!(took <= times * text.len() as u64, "{name}: {took} bytes for {}", text.len());
    }
}

#[tokio::test]
async fn a_document_that_is_written_anew_has_the_sidecar_that_its_configuration_demands() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cupbearer, namespace: shop}\ndata:\n  config.toml: |\n    [store]\n    \
               kind = \"file\"\n    path = \"/var/lib/cupbearer/tokens\"\n---\n";
    // The anchor stands elsewhere for what must not change.
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a, namespace: shop}\n  \
                spec: &s {containers: [{name: app, image: a:1}]}\n- apiVersion: example.com/v1\n  kind: Shape\n  spec: *s\n";
    let (code, out, said) = inject(&[], (map.to_owned() + list).as_bytes()).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("note: document 2 was written anew") && !said.contains("document 1 was"), "{said}");
    assert!(out.starts_with(map) && out.contains("name: cupbearer-store"), "{out}");
    let (_, again, said) = inject(&[], out.as_bytes()).await;
    assert_eq!(again, out, "{said}");
}
