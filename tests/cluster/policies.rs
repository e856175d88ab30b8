//! What policies of a cluster demand of every container, met by the sidecar that `inject` renders: by a flag, and by an annotation.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use cupbearer_testing::cupbearer;

async fn inject(words: &[String], pod: &Value) -> (Option<i32>, Value, String) {
    let mut command = cupbearer();
    command.arg("inject").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(pod.to_string().as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), said)
}

fn pod(resources: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "annotations": {} },
        "spec": { "containers": [{ "name": "app", "image": "registry.example.com/a:1", "resources": resources }] } })
}

/// The sidecar's container.
fn sidecar(pod: &Value) -> Value {
    pod["spec"]["initContainers"][0].clone()
}

/// A quantity of memory or storage, in MiB.
fn mib(amount: &Value) -> u32 {
    amount.as_str().unwrap_or_default().trim_end_matches("Mi").parse().unwrap_or_default()
}

type Demand = (&'static str, &'static [(&'static str, &'static str)], fn(&Value) -> bool);

/// What a `LimitRange`, a `ResourceQuota` and a `ValidatingAdmissionPolicy` demand, the options that meet it, and what is looked at.
const DEMANDS: [Demand; 16] = [
    ("ResourceQuota on limits.cpu", &[("cpu-limit", "200m")], |it| {
        it["resources"]["limits"]["cpu"] == "200m"
    }),
    ("a memory limit that is the request", &[("memory-request", "64Mi")], |it| {
        let resources = &it["resources"];
        resources["limits"]["memory"] == "64Mi" && resources["requests"]["memory"] == "64Mi"
    }),
    ("LimitRange min of memory", &[("memory-request", "128Mi")], |it| {
        mib(&it["resources"]["requests"]["memory"]) >= 128 && mib(&it["resources"]["limits"]["memory"]) >= 128
    }),
    ("LimitRange min of cpu", &[("cpu-request", "50m")], |it| it["resources"]["requests"]["cpu"] == "50m"),
    ("LimitRange maxLimitRequestRatio 2 of memory", &[("memory-request", "32Mi")], |it| {
        mib(&it["resources"]["limits"]["memory"]) <= 2 * mib(&it["resources"]["requests"]["memory"])
    }),
    ("LimitRange max of memory", &[("memory-limit", "32Mi")], |it| {
        mib(&it["resources"]["limits"]["memory"]) <= 32
    }),
    (
        "ephemeral storage",
        &[("ephemeral-storage-request", "8Mi"), ("ephemeral-storage-limit", "16Mi")],
        |it| {
            let of = |part: &str| mib(&it["resources"][part]["ephemeral-storage"]);
            of("requests") > 0 && of("limits") >= of("requests")
        },
    ),
    ("imagePullPolicy: Always", &[("image-pull-policy", "Always")], |it| it["imagePullPolicy"] == "Always"),
    ("no user but the namespace's (OpenShift)", &[("run-as-user", "image")], |it| {
        let security = &it["securityContext"];
        security.get("runAsUser").is_none()
            && security.get("runAsGroup").is_none()
            && security["runAsNonRoot"] == true
    }),
    ("a range of users", &[("run-as-user", "1000650000"), ("run-as-group", "0")], |it| {
        it["securityContext"]["runAsUser"] == 1_000_650_000 && it["securityContext"]["runAsGroup"] == 0
    }),
    (
        "a startup probe that gives up",
        &[("container", r#"{"startupProbe":{"failureThreshold":30,"periodSeconds":2}}"#)],
        |it| {
            let probe = &it["startupProbe"];
            probe["failureThreshold"] == 30
                && probe["periodSeconds"] == 2
                && probe["httpGet"]["path"] == "/readyz"
        },
    ),
    (
        "probes with a timeout",
        &[(
            "container",
            r#"{"readinessProbe":{"timeoutSeconds":3},"livenessProbe":{"timeoutSeconds":3,"failureThreshold":5}}"#,
        )],
        |it| it["readinessProbe"]["timeoutSeconds"] == 3 && it["livenessProbe"]["failureThreshold"] == 5,
    ),
    (
        "a seccomp profile of the node's, and AppArmor",
        &[(
            "container",
            r#"{"securityContext":{"seccompProfile":{"type":"Localhost","localhostProfile":"p.json"},"appArmorProfile":{"type":"RuntimeDefault"}}}"#,
        )],
        |it| {
            let security = &it["securityContext"];
            security["seccompProfile"]["localhostProfile"] == "p.json"
                && security["appArmorProfile"]["type"] == "RuntimeDefault"
                && security["capabilities"]["drop"] == json!(["ALL"])
        },
    ),
    ("an environment variable", &[("container", r#"{"env":[{"name":"TEAM","value":"shop"}]}"#)], |it| {
        let env = it["env"].as_array().unwrap();
        env.iter().any(|one| one["name"] == "TEAM")
            && env.iter().any(|one| one["name"] == "CUPBEARER__SERVER__LISTEN")
    }),
    ("a preStop hook", &[("container", r#"{"lifecycle":{"preStop":{"sleep":{"seconds":5}}}}"#)], |it| {
        it["lifecycle"]["preStop"]["sleep"]["seconds"] == 5
    }),
    (
        "the last words of the log as the termination message",
        &[("container", r#"{"terminationMessagePolicy":"FallbackToLogsOnError"}"#)],
        |it| it["terminationMessagePolicy"] == "FallbackToLogsOnError",
    ),
];

#[tokio::test]
async fn whatever_a_policy_demands_of_every_container_can_be_set_by_flag_and_by_annotation() {
    let app = pod(&json!({}));
    let (_, usual, _) = inject(&[], &app).await;
    for (demand, options, met) in DEMANDS {
        assert!(!met(&sidecar(&usual)), "{demand} is met without any option");
        let words: Vec<String> =
            options.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]).collect();
        let (code, by_flag, said) = inject(&words, &app).await;
        assert_eq!(code, Some(0), "{demand}: {said}");
        assert!(met(&sidecar(&by_flag)), "{demand}: {}", sidecar(&by_flag));
        let mut annotated = app.clone();
        for (name, value) in options {
            annotated["metadata"]["annotations"][format!("cupbearer.dev/{name}")] = json!(value);
        }
        let (code, by_annotation, said) = inject(&[], &annotated).await;
        assert_eq!(code, Some(0), "{demand}: {said}");
        assert_eq!(sidecar(&by_annotation), sidecar(&by_flag), "{demand}");
        let (_, out, _) = inject(&["--uninject".to_owned()], &by_annotation).await;
        assert_eq!(out, annotated, "{demand}");
    }
}

#[tokio::test]
async fn a_pod_keeps_its_quality_of_service_class_or_a_note_says_that_it_does_not() {
    let all = json!({ "cpu": "1", "memory": "1Gi" });
    let guaranteed = json!({ "requests": all, "limits": all });
    let alike = |it: &Value| {
        let resources = &it["resources"];
        ["cpu", "memory"].iter().all(|name| {
            resources["limits"][*name].is_string()
                && resources["limits"][*name] == resources["requests"][*name]
        })
    };
    let word = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (words, resources, stays, says) in [
        (Vec::new(), &guaranteed, true, "so that the pod stays Guaranteed"),
        (
            word("--cpu-limit 500m --memory-limit 128Mi"),
            &guaranteed,
            true,
            "so that the pod stays Guaranteed",
        ),
        (
            word("--cpu-limit none"),
            &guaranteed,
            false,
            "Pod a: the sidecar makes a Guaranteed pod Burstable; help: give",
        ),
        (word("--memory-request 16Mi"), &guaranteed, false, "makes a Guaranteed pod Burstable"),
        (Vec::new(), &json!({ "requests": { "cpu": "1" } }), false, ""),
        (Vec::new(), &json!({}), false, "make a BestEffort pod Burstable"),
        (word("--cpu-request none --memory-request none --memory-limit none"), &json!({}), false, ""),
    ] {
        let (code, out, said) = inject(&words, &pod(resources)).await;
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(alike(&sidecar(&out)), stays, "{words:?} {}", sidecar(&out));
        assert!(said.contains(says), "{words:?}: {said}");
        let is_quiet = !["Guaranteed", "BestEffort"].iter().any(|class| said.contains(class));
        assert!(!says.is_empty() || is_quiet, "{said}");
        assert_eq!(inject(&words, &out).await.1, out, "{words:?}");
    }
}

#[tokio::test]
async fn a_pod_with_resources_of_its_own_as_a_whole_shares_them_with_the_sidecar() {
    let amounts = json!({ "cpu": "100m", "memory": "64Mi" });
    let mut app = pod(&json!({ "requests": amounts, "limits": amounts }));
    app["spec"]["resources"] = json!({ "requests": amounts, "limits": amounts });
    let (code, out, said) = inject(&[], &app).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(sidecar(&out).get("resources"), None, "a request of its own would be more than the pod has");
    assert!(said.contains("the sidecar shares what spec.resources has of cpu and memory"), "{said}");
    // What is asked for all the same is refused here and not by the API server, unless there is room.
    let words = ["--cpu-request".to_owned(), "10m".to_owned()];
    let (code, _, said) = inject(&words, &app).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("Pod a: spec.resources.requests.cpu: with the sidecar its containers ask for more"),
        "{said}"
    );
    app["spec"]["resources"]["requests"]["cpu"] = json!("110m");
    app["spec"]["resources"]["limits"]["cpu"] = json!("110m");
    let (code, out, said) = inject(&words, &app).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(sidecar(&out)["resources"], json!({ "requests": { "cpu": "10m" } }));
}

#[tokio::test]
async fn the_configuration_in_the_file_decides_about_the_volume_to_write_to_and_the_accounts_token() {
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    for (config, stores, covered) in [
        ("[server]\n".to_owned(), false, true),
        ("[store]\nkind = \"file\"\npath = \"/var/lib/cupbearer/tokens\"\n".to_owned(), true, true),
        (format!("[tokens.a]\nassertion_file = \"{account}/token\"\n"), false, false),
        // A workload identity's token is a volume elsewhere, and stays.
        (
            "[tokens.a]\nassertion_file = \"/var/run/secrets/azure/tokens/azure-identity-token\"\n"
                .to_owned(),
            false,
            true,
        ),
    ] {
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "cupbearer" }, "data": { "config.toml": config } });
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [map, pod(&json!({}))] });
        let (code, out, said) = inject(&[], &list).await;
        assert_eq!(code, Some(0), "{said}");
        let pod = &out["items"][1];
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        assert_eq!(volumes.iter().any(|volume| volume.get("emptyDir").is_some()), stores, "{config}");
        assert_eq!(
            said.contains("`kubectl drain` stops at a pod with the volume cupbearer-store"),
            stores,
            "{said}"
        );
        let mounts = sidecar(pod)["volumeMounts"].as_array().unwrap().clone();
        assert_eq!(mounts.iter().any(|mount| mount["mountPath"] == account), covered, "{config}");
    }
}
