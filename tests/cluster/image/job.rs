//! A Job with the sidecar of `deploy/`, run to its end as Kubernetes runs one. There is no cluster here: `tests/peers/image/kubelet.py` keeps the
//! rules of native sidecars, on the containers, probes and volumes that the manifests say.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{IMAGE, busybox, podman};
use crate::deploy::kustomized;
use cupbearer_testing::{free_address, python, repository, run};

/// The pod's containers; removed where it is dropped.
struct Pod(String);

impl Drop for Pod {
    fn drop(&mut self) {
        // All are in the first one's network. Nothing can be waited for here but by the thread.
        let first = format!("{}-world", self.0);
        let _ = podman()
            .as_std_mut()
            .args(["rm", "--force", "--ignore", "--depend", "--time=0", &first])
            .output();
    }
}

/// The overlay for Jobs as its user would change it: images, application, configuration, secret. The API and the authorization server are in the pod, too.
async fn manifests(dir: &TempDir, app: &str) -> String {
    let up = "../".repeat(dir.path().components().count());
    let job = repository().join("deploy/kustomize/overlays/job");
    let config = "[upstreams.api]\nurl = \"http://127.0.0.1:8000\"\n[tokens.api]\ntoken_endpoint = \"http://127.0.0.1:8000/cgi-bin/token\"\n\
        client_id = \"orders\"\nclient_secret_file = \"/run/secrets/cupbearer/client_secret\"\n[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"api\"\n";
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let world = "/bin/busybox mkdir -p /tmp/w/cgi-bin\n\
        printf '#!/bin/busybox sh\\nprintf \"Content-Type: application/json\\\\r\\\\n\\\\r\\\\n{\\\\\"access_token\\\\\":\\\\\"of-the-job\\\\\",\\\\\"token_type\\\\\":\\\\\"Bearer\\\\\",\\\\\"expires_in\\\\\":300}\"\\n' > /tmp/w/cgi-bin/token\n\
        printf '#!/bin/busybox sh\\nprintf \"Content-Type: text/plain\\\\r\\\\n\\\\r\\\\n$HTTP_AUTHORIZATION\"\\n' > /tmp/w/cgi-bin/api\n\
        /bin/busybox chmod 755 /tmp/w/cgi-bin/token /tmp/w/cgi-bin/api\n\
        trap 'exit 0' TERM\n/bin/busybox httpd -f -p 127.0.0.1:8000 -h /tmp/w & wait\n";
    let shell = json!(["/bin/busybox", "sh", "-c"]);
    let patches = json!([
        { "op": "add", "path": "/spec/template/spec/initContainers/0", "value":
            { "name": "world", "image": "busybox:1", "restartPolicy": "Always", "command": shell, "args": [world] } },
        { "op": "add", "path": "/spec/template/spec/containers/0/command", "value": shell },
        { "op": "add", "path": "/spec/template/spec/containers/0/args", "value": [app] },
    ]);
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [format!("{up}{}", job.strip_prefix("/").unwrap().display())],
        "images": [
            { "name": "cupbearer", "newName": IMAGE.split_once(':').unwrap().0, "newTag": "test" },
            { "name": "app", "newName": "localhost/busybox", "newTag": "test" },
            { "name": "busybox", "newName": "localhost/busybox", "newTag": "test" },
        ],
        "configMapGenerator": [{ "name": "cupbearer", "behavior": "replace", "files": ["config.toml"] }],
        "secretGenerator": [{ "name": "cupbearer", "literals": ["client_secret=the-secret-of-the-tests"] }],
        "generatorOptions": { "disableNameSuffixHash": true },
        "patches": [{ "target": { "kind": "Job" }, "patch": patches.to_string() }],
    });
    fs::write(dir.path().join("kustomization.yaml"), overlay.to_string()).unwrap();
    kustomized(dir.path()).await
}

/// Runs the Job with this application, and says what happened.
async fn job(app: &str) -> Vec<Value> {
    busybox().await;
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("job.yaml");
    let text = manifests(&dir, app).await;
    fs::write(&file, text).unwrap();
    let pod = Pod(format!("job-{}", free_address().port()));
    let mut kubelet = python("image/kubelet.py");
    kubelet.env("CONTAINERS_CONF", repository().join("tests/peers/image/containers.conf"));
    kubelet.arg(&file).arg(&pod.0);
    run(kubelet).await
}

#[tokio::test]
async fn a_job_s_first_request_has_a_token_and_the_job_completes() {
    // One request, without a second try.
    let events = job("exec /bin/busybox wget -q -O - $ORDERS_API/cgi-bin/api").await;
    let order: Vec<_> = events
        .iter()
        .map(|event| {
            format!(
                "{} {}",
                event["event"].as_str().unwrap(),
                event["container"].as_str().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        order,
        [
            "started world",
            "started cupbearer",
            "startup probe passed cupbearer",
            "started app",
            "ended app",
            "told to end cupbearer",
            "ended cupbearer",
            "told to end world",
            "ended world",
            "phase "
        ]
    );
    let ended = |container: &str| {
        events.iter().find(|event| event["event"] == "ended" && event["container"] == container).unwrap()
    };
    assert_eq!((&ended("app")["code"], &ended("app")["log"]), (&json!(0), &json!("Bearer of-the-job")));
    // It ended by itself and in order, long before it would have been killed.
    assert_eq!(ended("cupbearer")["code"], 0, "{}", ended("cupbearer")["log"]);
    assert!(
        ended("cupbearer")["log"].as_str().unwrap().contains("\"ended\""),
        "{}",
        ended("cupbearer")["log"]
    );
    assert_eq!(events.last().unwrap()["phase"], "Succeeded");
}

#[tokio::test]
async fn a_job_that_fails_is_a_failed_job_and_not_one_that_hangs() {
    let events = job("exit 3").await;
    assert_eq!(events.last().unwrap()["phase"], "Failed");
    let sidecar = events.iter().find(|event| event["event"] == "ended" && event["container"] == "cupbearer");
    assert_eq!(sidecar.unwrap()["code"], 0);
}
