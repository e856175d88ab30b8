//! The two charts under `deploy/helm`: rendered by Helm's own library with each file of values in their `ci` folders, judged by
//! Kubernetes' schemas, and run.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::deploy::{check, deploy, judged, kustomizations, kustomized, text};
use cupbearer_testing::{Program, cupbearer, curl, free_address, python, repository};

const CHARTS: [&str; 2] = ["cupbearer", "cupbearer-webhook"];

fn chart(name: &str) -> PathBuf {
    deploy("helm").join(name)
}

/// The documents of a file of YAML.
async fn documents(file: &Path) -> Vec<Value> {
    let output = python("kubernetes/manifests.py").arg("json").arg(file).output().await.unwrap();
    assert!(output.status.success(), "{}: {}", file.display(), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The files of values in a chart's `ci` folder.
fn values(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(chart(name).join("ci")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What a chart renders for each of them, into `dir`: the files' names without their ends.
async fn rendered_all(name: &str, dir: &Path) -> Vec<(String, PathBuf)> {
    let files = values(name);
    let output = python("kubernetes/manifests.py")
        .arg("charts")
        .arg(chart(name))
        .arg(dir)
        .args(&files)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stem = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().replace("-values.yaml", "");
    files.iter().map(|file| (stem(file), dir.join(stem(file) + ".yaml"))).collect()
}

/// What a chart renders for some values: its text, its notes as comments, or why it does not.
async fn rendered(name: &str, values: &Value) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("values.json");
    fs::write(&file, values.to_string()).unwrap();
    let mut command = python("kubernetes/manifests.py");
    let output = command.arg("chart").arg(chart(name)).arg(&file).output().await.unwrap();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The same as objects.
async fn objects(name: &str, values: &Value) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rendered.yaml");
    fs::write(&file, rendered(name, values).await.unwrap()).unwrap();
    documents(&file).await
}

/// The only object of a kind.
fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("there is no {kind}: {objects:#?}"));
    assert!(found.next().is_none(), "{kind} is there twice");
    object
}

fn workload(objects: &[Value]) -> &Value {
    let is = |object: &&Value| object["kind"] == "Deployment" || object["kind"] == "DaemonSet";
    objects.iter().find(is).unwrap()
}

fn pod(objects: &[Value]) -> &Value {
    &workload(objects)["spec"]["template"]["spec"]
}

fn usual() -> Value {
    json!({ "tls": { "allowedSubjects": ["orders.shop.svc"] } })
}

/// The usual values and some more.
fn with(more: &Value) -> Value {
    let mut values = usual();
    for (key, value) in more.as_object().unwrap() {
        values[key] = value.clone();
    }
    values
}

fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => {
            for (key, child) in map {
                leaves(child, &format!("{path}/{}", key.replace('/', "~1")), found);
            }
        }
        None => found.push(path.to_owned()),
    }
}

#[tokio::test]
async fn every_rendering_of_the_charts_is_taken_by_four_versions_under_the_restricted_standard() {
    for (name, least) in CHARTS.into_iter().zip([16, 7]) {
        let dir = tempfile::tempdir().unwrap();
        let files = rendered_all(name, dir.path()).await;
        assert!(files.len() >= least, "{name} is rendered with {} sets of values", files.len());
        let files: Vec<_> = files.into_iter().map(|(_, file)| file).collect();
        let output = judged(&files).await;
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        assert!(text(&output.stdout).contains(" 0 problems"), "{}", text(&output.stdout));
    }
}

#[tokio::test]
async fn every_value_of_the_charts_has_a_rendering_with_another_value_than_its_default() {
    for name in CHARTS {
        let defaults = documents(&chart(name).join("values.yaml")).await.remove(0);
        let mut sets = Vec::new();
        for file in values(name) {
            sets.extend(documents(&file).await);
        }
        let mut paths = Vec::new();
        leaves(&defaults, "", &mut paths);
        assert!(paths.len() > 80, "{paths:?}");
        let only_default: Vec<_> = paths
            .iter()
            .filter(|path| {
                let default = defaults.pointer(path).unwrap();
                // It has no meaning here, or is not allowed by the standard; another test has it.
                !["/global", "/hostNetwork"].contains(&path.as_str())
                    && !sets.iter().any(|set| set.pointer(path).is_some_and(|value| value != default))
            })
            .collect();
        assert!(
            only_default.iter().all(|path| kept_default(path)),
            "no file of {name}/ci has another value for {only_default:?}"
        );
    }
}

/// Parts of the security contexts that no other value is allowed for by the standard.
fn kept_default(path: &str) -> bool {
    ["/podSecurityContext/", "/securityContext/"].iter().any(|section| path.starts_with(section))
}

/// `kubectl scale` and an autoscaler own it: with it in a manifest, each application of it takes back what they did.
#[tokio::test]
async fn the_number_of_pods_is_written_on_request_alone() {
    let dir = tempfile::tempdir().unwrap();
    for (at, folder) in kustomizations().iter().enumerate() {
        let file = dir.path().join(format!("{at}.yaml"));
        fs::write(&file, kustomized(folder).await).unwrap();
        for object in documents(&file).await {
            assert!(object["spec"].get("replicas").is_none(), "{}: {object}", folder.display());
        }
    }
    for name in CHARTS {
        for (set, file) in rendered_all(name, dir.path()).await {
            let values = documents(&chart(name).join(format!("ci/{set}-values.yaml"))).await;
            let values = values.first().unwrap_or(&Value::Null);
            let autoscaled = values.pointer("/autoscaling/enabled") == Some(&json!(true));
            let wanted = values.get("replicas").filter(|_| !autoscaled && values["kind"] != "DaemonSet");
            let objects = documents(&file).await;
            let written = workload(&objects)["spec"].get("replicas");
            assert_eq!(written, wanted, "{name} with {set}");
        }
    }
}

#[tokio::test]
async fn each_configuration_that_the_chart_makes_is_taken_by_the_program_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for (set, file) in rendered_all("cupbearer", dir.path()).await {
        let objects = documents(&file).await;
        let Some(config) = objects.iter().find_map(|object| object["data"]["config.toml"].as_str()) else {
            assert_eq!(set, "07-existing-config-map");
            continue;
        };
        let container =
            pod(&objects)["containers"].as_array().unwrap().iter().find(|it| it["name"] == "cupbearer");
        let env = container.unwrap()["env"].as_array().unwrap();
        let pair =
            |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry["value"].as_str()?.to_owned()));
        // The image's own, which this machine may not have.
        let env: Vec<_> = env.iter().filter_map(pair).filter(|(name, _)| !name.starts_with("SSL_")).collect();
        assert!(env.iter().any(|(name, _)| name == "CUPBEARER__GUARD__ALLOWED_SUBJECTS"), "{set}: {env:?}");
        check(config, &env).await;
        checked += 1;
    }
    assert!(checked >= 15, "{checked}");
}

#[tokio::test]
async fn the_listeners_and_the_guard_are_the_charts_also_with_a_config_map_of_ones_own() {
    let env = |objects: &[Value], name: &str| -> Option<String> {
        let env = pod(objects)["containers"][0]["env"].as_array().unwrap();
        let entry = env.iter().find(|entry| entry["name"] == name)?;
        Some(entry["value"].as_str().unwrap_or_default().to_owned())
    };
    for more in [json!({}), json!({ "existingConfigMap": "mine" })] {
        let objects = objects("cupbearer", &with(&more)).await;
        for (name, value) in [
            ("CUPBEARER__SERVER__LISTEN", r#"["0.0.0.0:4280", "[::]:4280"]"#),
            ("CUPBEARER__SERVER__TLS__CLIENT_CA_FILE", "/run/tls/ca.crt"),
            ("CUPBEARER__HEALTH__LISTEN", "[::]:4281"),
            ("CUPBEARER__CONTROL__LISTEN", "unix:@cupbearer"),
            ("CUPBEARER__GUARD__ALLOWED_SUBJECTS", r#"["orders.shop.svc"]"#),
        ] {
            assert_eq!(env(&objects, name).as_deref(), Some(value), "{name}");
        }
    }
    let own = objects("cupbearer", &with(&json!({ "existingConfigMap": "mine" }))).await;
    assert!(!own.iter().any(|object| object["kind"] == "ConfigMap"));
    assert_eq!(pod(&own)["volumes"][0]["configMap"]["name"], "mine");
    // "any" is every certificate; a name with marks of YAML and TOML stays one.
    let any = objects("cupbearer", &json!({ "tls": { "allowedSubjects": "any" } })).await;
    assert_eq!(env(&any, "CUPBEARER__GUARD__ALLOWED_SUBJECTS").as_deref(), Some("[]"));
    let odd = objects("cupbearer", &json!({ "tls": { "allowedSubjects": ["cn:O'Brien \"x\": #1"] } })).await;
    let subjects = env(&odd, "CUPBEARER__GUARD__ALLOWED_SUBJECTS").unwrap();
    assert_eq!(serde_json::from_str::<Value>(&subjects).unwrap(), json!(["cn:O'Brien \"x\": #1"]));
    // A section of the configuration's own, or a variable of the values, is not overridden.
    for more in [
        json!({ "config": "[control]\nlisten = \"none\"\n" }),
        json!({ "config": "control.listen = \"none\"\n" }),
        json!({ "controlListen": "" }),
    ] {
        let objects = objects("cupbearer", &with(&more)).await;
        assert_eq!(env(&objects, "CUPBEARER__CONTROL__LISTEN"), None, "{more}");
    }
    let mine = json!([{ "name": "CUPBEARER__HEALTH__LISTEN", "value": "0.0.0.0:4281" }]);
    let objects = objects("cupbearer", &with(&json!({ "extraEnv": mine }))).await;
    assert_eq!(env(&objects, "CUPBEARER__HEALTH__LISTEN").as_deref(), Some("0.0.0.0:4281"));
}

#[tokio::test]
async fn a_change_of_the_configuration_rolls_the_pods_unless_they_are_to_reload_it() {
    let template = |objects: &[Value]| workload(objects)["spec"]["template"].clone();
    let other = json!({ "config": "[upstreams.api]\nurl = \"https://other.example.com\"\n" });
    let (first, second) = (objects("cupbearer", &usual()).await, objects("cupbearer", &with(&other)).await);
    assert_ne!(template(&first), template(&second));
    let reload = |mut values: Value| {
        values["restartOnConfigChange"] = json!(false);
        values
    };
    let first = objects("cupbearer", &reload(usual())).await;
    let second = objects("cupbearer", &reload(with(&other))).await;
    assert_eq!(template(&first), template(&second));
    // A new version of the chart alone does not.
    assert!(!template(&first).to_string().contains("helm.sh/chart"));
}

#[tokio::test]
async fn the_uid_is_left_to_a_cluster_that_chooses_it() {
    for name in CHARTS {
        let plain = objects(name, &usual_of(name)).await;
        assert_eq!(pod(&plain)["securityContext"]["runAsUser"], 65532);
        let nulls = json!({ "runAsUser": null, "runAsGroup": null, "fsGroup": null });
        for more in [json!({ "openshift": true }), json!({ "podSecurityContext": nulls })] {
            let mut values = usual_of(name);
            for (key, value) in more.as_object().unwrap() {
                values[key] = value.clone();
            }
            for object in objects(name, &values).await {
                for key in ["runAsUser", "runAsGroup", "fsGroup"] {
                    assert!(!object.to_string().contains(key), "{more}: {object}");
                }
            }
        }
    }
}

fn usual_of(name: &str) -> Value {
    if name == "cupbearer" { usual() } else { json!({}) }
}

#[tokio::test]
async fn names_labels_and_annotations_reach_every_object_and_the_selectors_stay() {
    let dir = tempfile::tempdir().unwrap();
    for (name, set, called, app) in [
        ("cupbearer", "11-names", "token-proxy", "proxy"),
        ("cupbearer-webhook", "06-placed-and-monitored", "sidecar-injector", "injector"),
    ] {
        let files = rendered_all(name, dir.path()).await;
        let (_, file) = files.into_iter().find(|(stem, _)| stem == set).unwrap();
        let objects = documents(&file).await;
        for object in &objects {
            let metadata = &object["metadata"];
            if metadata["annotations"].get("helm.sh/hook").is_some() {
                continue;
            }
            let kind = &object["kind"];
            let prefix = if kind == "ServiceAccount" { "" } else { called };
            assert!(metadata["name"].as_str().unwrap().starts_with(prefix), "{metadata}");
            assert_eq!(metadata["labels"]["team"], "platform", "{metadata}");
            assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], "rel", "{metadata}");
            assert_eq!(metadata["annotations"]["example.com/contact"], "platform@example.com", "{metadata}");
            let namespace = metadata["namespace"].as_str();
            match kind.as_str().unwrap() {
                "MutatingWebhookConfiguration" => assert_eq!(namespace, None),
                "PodMonitor" | "PrometheusRule" => assert_eq!(namespace, Some("observability")),
                _ => assert!(matches!(namespace, Some("edge" | "cupbearer-system")), "{metadata}"),
            }
        }
        let labels = &workload(&objects)["spec"]["template"]["metadata"]["labels"];
        let selector = &workload(&objects)["spec"]["selector"]["matchLabels"];
        assert_eq!(selector, &json!({ "app.kubernetes.io/name": app, "app.kubernetes.io/instance": "rel" }));
        for (key, value) in selector.as_object().unwrap() {
            assert_eq!(&labels[key], value);
        }
        assert_eq!(&one(&objects, "Service")["spec"]["selector"], selector);
        assert_eq!(labels["sidecar.istio.io/inject"], "false");
    }
}

/// One source of truth: the charts have links to the files.
#[tokio::test]
async fn the_alerts_and_the_dashboard_of_the_charts_are_those_of_observability() {
    let observability = |file: &str| fs::read_to_string(deploy("observability").join(file)).unwrap();
    let rules = documents(&deploy("observability/rules.yaml")).await.remove(0);
    let alerts = |groups: &Value| -> Vec<Value> {
        let groups = groups.as_array().unwrap().iter();
        groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    };
    let all = alerts(&rules["groups"]);
    let on = json!({ "prometheusRule": { "enabled": true }, "dashboard": { "enabled": true } });
    let objects_on = objects("cupbearer", &with(&on)).await;
    let rule = one(&objects_on, "PrometheusRule");
    assert_eq!(rule["spec"]["groups"], rules["groups"]);
    let dashboard = objects_on.iter().find_map(|object| object["data"]["cupbearer.json"].as_str()).unwrap();
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(json(dashboard), json(&observability("dashboard.json")));

    let some = json!({ "prometheusRule": { "enabled": true, "disabledAlerts": ["CupbearerSpansLost"] } });
    let some = objects("cupbearer", &with(&some)).await;
    let some = alerts(&one(&some, "PrometheusRule")["spec"]["groups"]);
    assert_eq!(some.len(), all.len() - 1);
    assert!(some.iter().all(|rule| rule["alert"] != "CupbearerSpansLost"));

    let scoped = |scope: &str| json!({ "prometheusRule": { "enabled": true, "scope": scope } });
    let webhook = objects("cupbearer-webhook", &scoped("webhook")).await;
    let webhook = alerts(&one(&webhook, "PrometheusRule")["spec"]["groups"]);
    let is_webhooks = |rule: &&Value| {
        let alert = rule["alert"].as_str().unwrap_or_default();
        alert.starts_with("CupbearerWebhook") || alert.starts_with("CupbearerCertificate")
    };
    let expected: Vec<_> = all.iter().filter(is_webhooks).cloned().collect();
    let names = |rules: &[Value]| rules.iter().map(|rule| rule["alert"].clone()).collect::<Vec<_>>();
    assert!(!expected.is_empty() && names(&webhook) == names(&expected), "{webhook:?}");
    let every = objects("cupbearer-webhook", &scoped("all")).await;
    assert_eq!(names(&alerts(&one(&every, "PrometheusRule")["spec"]["groups"])), names(&all));
}

#[tokio::test]
async fn the_webhooks_chart_takes_every_option_of_the_sidecar_and_a_container_as_a_map() {
    let help = cupbearer().args(["webhook", "--help"]).output().await.unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options = help.split("The sidecar:").nth(1).unwrap();
    let options: Vec<&str> = options
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--")?.split([' ', '=']).next())
        .filter(|name| !["image", "secret", "container"].contains(name))
        .collect();
    assert!(options.len() >= 15, "{options:?}");
    for option in options {
        let value = if option == "no-secret" { json!(true) } else { json!("true") };
        rendered("cupbearer-webhook", &json!({ "sidecar": { option: value } })).await.unwrap();
    }
    let container = json!({ "livenessProbe": { "periodSeconds": 20 } });
    let values = json!({ "sidecar": { "container": container, "store-volume": false, "no-secret": false } });
    let made = objects("cupbearer-webhook", &values).await;
    let args: Vec<&str> =
        pod(&made)["containers"][0]["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(args.contains(&"--container={\"livenessProbe\":{\"periodSeconds\":20}}"), "{args:?}");
    assert!(args.contains(&"--store-volume=false"), "{args:?}");
    assert!(!args.iter().any(|arg| arg.contains("no-secret")), "{args:?}");
}

/// Commands that a person pastes at night.
#[tokio::test]
async fn the_alerts_of_the_webhooks_chart_name_its_own_objects() {
    for (values, namespace, pods, selector) in [
        (
            json!({ "fullnameOverride": "gate", "namespaceOverride": "platform", "nameOverride": "door" }),
            "platform",
            r#"pod=~"gate-.+""#,
            "app.kubernetes.io/name=door",
        ),
        (json!({}), "default", r#"cupbearer-webhook-.+""#, "app.kubernetes.io/name=cupbearer-webhook"),
    ] {
        let mut values = values;
        values["prometheusRule"] = json!({ "enabled": true });
        let made = objects("cupbearer-webhook", &values).await;
        let labels = &one(&made, "Deployment")["spec"]["selector"]["matchLabels"];
        let release = labels["app.kubernetes.io/instance"].as_str().unwrap();
        let selector = format!("-l app.kubernetes.io/instance={release},{selector}");
        let rule = one(&made, "PrometheusRule");
        let namespace =
            rule["metadata"]["namespace"].as_str().filter(|it| *it == namespace).unwrap_or_else(|| {
                assert_ne!(namespace, "platform");
                rule["metadata"]["namespace"].as_str().unwrap()
            });
        let text = rule["spec"]["groups"].to_string().replace("\\\"", "\"");
        for part in [pods, &format!("kubectl get pods -n {namespace} {selector}`"), &selector] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains(" -A "), "{text}");
        assert!(!text.contains("cupbearer-system"), "{text}");
    }
    // Other charts know neither its name nor its namespace.
    let rules = fs::read_to_string(deploy("observability/rules.yaml")).unwrap();
    for fixed in ["cupbearer-system", "deployment/"] {
        assert!(!rules.contains(fixed), "{fixed}");
    }
}

#[tokio::test]
async fn what_the_kubelet_and_prometheus_ask_is_the_port_that_the_pod_has() {
    for name in CHARTS {
        let mut values = usual_of(name);
        values["podMonitor"] = json!({ "enabled": true });
        let objects = objects(name, &values).await;
        let ports = pod(&objects)["containers"][0]["ports"].as_array().unwrap();
        let endpoint = &one(&objects, "PodMonitor")["spec"]["podMetricsEndpoints"][0];
        let port = ports.iter().find(|port| port["name"] == endpoint["port"]).unwrap();
        // The webhook's metrics are where the API server calls it.
        let (number, scheme) = if name == "cupbearer" { (4281, None) } else { (8443, Some("https")) };
        assert_eq!(port["containerPort"], number);
        assert_eq!(endpoint["scheme"].as_str(), scheme);
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let get = &pod(&objects)["containers"][0][probe]["httpGet"];
            assert_eq!(get["port"], endpoint["port"], "{probe}");
            assert_eq!(get["scheme"].as_str(), scheme.map(str::to_uppercase).as_deref(), "{probe}");
        }
    }
    // The first token may take hours; a restart by the kubelet would only add its back-off.
    let objects = objects("cupbearer", &usual()).await;
    let probe = &pod(&objects)["containers"][0]["startupProbe"];
    let seconds = probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
    assert!(seconds >= 2 * 3600, "{probe}");
}

#[tokio::test]
async fn what_a_policy_or_a_quota_demands_of_the_container_can_be_set() {
    let resources = json!({ "requests": { "cpu": "250m", "memory": "64Mi", "ephemeral-storage": "16Mi" },
        "limits": { "cpu": "250m", "memory": "64Mi", "ephemeral-storage": "16Mi" } });
    for name in CHARTS {
        let mut values = usual_of(name);
        values["resources"] = resources.clone();
        values["image"] = json!({ "pullPolicy": "Always", "digest": format!("sha256:{}", "0".repeat(64)) });
        values["startupProbe"] = json!({ "enabled": false });
        values["livenessProbe"] =
            json!({ "exec": { "command": ["/cupbearer", "--version"] }, "initialDelaySeconds": 0 });
        let objects = objects(name, &values).await;
        let container = &pod(&objects)["containers"][0];
        assert_eq!(container["resources"], resources);
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["image"], format!("cupbearer@sha256:{}", "0".repeat(64)));
        assert!(container.get("startupProbe").is_none());
        assert_eq!(container["livenessProbe"]["exec"]["command"][0], "/cupbearer");
        assert!(container["livenessProbe"].get("httpGet").is_none(), "{container}");
        assert!(container["livenessProbe"].get("initialDelaySeconds").is_none(), "{container}");
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    }
    let host = objects("cupbearer-webhook", &json!({ "hostNetwork": true })).await;
    assert_eq!(pod(&host)["hostNetwork"], true);
    assert_eq!(pod(&host)["dnsPolicy"], "ClusterFirstWithHostNet");
}

#[tokio::test]
async fn a_value_that_is_unknown_or_cannot_be_used_is_refused_by_its_name() {
    for (name, values, says) in [
        ("cupbearer", json!({ "kind": "StatefulSet" }), "kind"),
        ("cupbearer", json!({ "replicas": -1 }), "replicas"),
        ("cupbearer", json!({ "image": { "repository": "" } }), "repository"),
        ("cupbearer", json!({ "imagePullPolicy": "Always" }), "imagePullPolicy"),
        ("cupbearer", json!({ "service": { "port": 70000 } }), "port"),
        ("cupbearer", json!({ "tls": { "secretName": "" } }), "secretName"),
        // Nobody means every client of an authority by saying nothing.
        ("cupbearer", json!({}), "tls.allowedSubjects is empty"),
        ("cupbearer", json!({ "tls": { "allowedSubjects": "all" } }), "allowedSubjects"),
        ("cupbearer", with(&json!({ "tolerations": [{ "operater": "Exists" }] })), "operater"),
        ("cupbearer", with(&json!({ "resources": { "limit": {} } })), "limit"),
        ("cupbearer", with(&json!({ "resources": { "limits": { "memory": "64 Mi" } } })), "memory"),
        ("cupbearer", with(&json!({ "podLabels": { "a": 1 } })), "podLabels"),
        ("cupbearer", with(&json!({ "commonLabels": { "a": "b c" } })), "commonLabels"),
        ("cupbearer", with(&json!({ "extraVolumeMounts": [{ "name": "a" }] })), "mountPath"),
        ("cupbearer", with(&json!({ "startupProbe": { "failureTreshold": 3 } })), "failureTreshold"),
        (
            "cupbearer",
            with(&json!({ "networkPolicy": { "clientLabels": { "cupbearer.dev/client": null } } })),
            "clientLabels",
        ),
        (
            "cupbearer",
            with(&json!({ "kind": "DaemonSet", "autoscaling": { "enabled": true } })),
            "kind: Deployment",
        ),
        (
            "cupbearer",
            with(&json!({ "autoscaling": { "enabled": true, "targetCPUUtilizationPercentage": null } })),
            "needs a metric",
        ),
        (
            "cupbearer",
            json!({ "tls": { "allowedSubjects": "any", "certificate": { "create": true } } }),
            "issuerRef.name",
        ),
        ("cupbearer-webhook", json!({ "fail": "maybe" }), "fail"),
        ("cupbearer-webhook", json!({ "webhook": { "timeoutSeconds": 31 } }), "timeoutSeconds"),
        (
            "cupbearer-webhook",
            json!({ "webhook": { "namespaces": false, "pods": false } }),
            "no pod could opt in",
        ),
        ("cupbearer-webhook", json!({ "certificate": { "source": "secret" } }), "certificate.caBundle"),
        ("cupbearer-webhook", json!({ "certificate": { "caBundle": "LS0tLS1CRUdJTg==" } }), "caBundle"),
        ("cupbearer-webhook", json!({ "sidecar": { "--port": 1 } }), "--port"),
        ("cupbearer-webhook", json!({ "sidecar": { "memory-limitt": "64Mi" } }), "memory-limitt"),
        (
            "cupbearer",
            with(&json!({ "ports": { "https": 8080, "health": 8080 } })),
            "ports.https and ports.health",
        ),
    ] {
        let said = rendered(name, &values).await.expect_err(&format!("{name} takes {values}"));
        assert!(said.contains(says), "{values}: {said}");
    }
    // A parent chart's condition is no value of ours, and is not refused.
    for name in CHARTS {
        let mut values = usual_of(name);
        values["enabled"] = json!(true);
        values["global"] = json!({ "anything": 1 });
        rendered(name, &values).await.unwrap();
    }
}

#[tokio::test]
async fn the_tables_in_the_readmes_are_those_of_the_values() {
    for name in CHARTS {
        let output = python("../../scripts/chart-values").arg(chart(name)).output().await.unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let table = text(&output.stdout);
        assert!(table.lines().count() > 60, "{table}");
        let readme = fs::read_to_string(chart(name).join("README.md")).unwrap();
        assert!(readme.contains(&table), "scripts/chart-values --write deploy/helm/{name}");
    }
    // A key without a comment, or one that the schema does not know, is found.
    let dir = tempfile::tempdir().unwrap();
    for (added, says) in [("bare: 1\n", "bare has no comment"), ("# -- More.\nmore: 1\n", "more is not in")] {
        for file in ["values.yaml", "values.schema.json"] {
            fs::copy(chart("cupbearer").join(file), dir.path().join(file)).unwrap();
        }
        let file = dir.path().join("values.yaml");
        fs::write(&file, fs::read_to_string(&file).unwrap() + added).unwrap();
        let output = python("../../scripts/chart-values").arg(dir.path()).output().await.unwrap();
        assert!(!output.status.success() && text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn the_judge_finds_what_the_api_server_would_keep_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let right = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: a\nspec:\n  selector:\n    matchLabels: {a: b}\n  \
        template:\n    metadata:\n      labels: {a: b}\n    spec:\n      securityContext:\n        runAsNonRoot: true\n        \
        seccompProfile: {type: RuntimeDefault}\n      containers:\n      - name: a\n        image: a:1\n        env:\n        \
        - name: A\n          value: a\n        resources:\n          limits: {memory: 64Mi, cpu: 500m}\n        \
        securityContext:\n          allowPrivilegeEscalation: false\n          capabilities: {drop: [ALL]}\n      \
        volumes:\n      - name: a\n        emptyDir: {}\n";
    let policy = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: a\nspec:\n  podSelector: {}\n  \
        ingress:\n  - ports:\n    - port: 80\n      protocol: TCP\n";
    let right = right.to_owned() + policy;
    let file = dir.path().join("a.yaml");
    fs::write(&file, &right).unwrap();
    let output = judged(std::slice::from_ref(&file)).await;
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    for (words, wrong, says) in [
        ("      containers:", "      tolerations: []\n      containers:", "tolerations is empty"),
        ("      containers:", "      nodeSelector: {}\n      containers:", "nodeSelector is empty"),
        ("      containers:", "      hostNetwork: false\n      containers:", "hostNetwork is false"),
        (
            "    metadata:\n      labels",
            "    metadata:\n      creationTimestamp: null\n      labels",
            "creationTimestamp is null",
        ),
        ("          value: a", "          value: \"\"", "value is an empty text"),
        ("memory: 64Mi", "memory: 1024Mi", "which is kept as 1Gi"),
        ("memory: 64Mi", "memory: 1.5Gi", "which is kept as 1536Mi"),
        ("cpu: 500m", "cpu: \"0.5\"", "which is kept as 500m"),
        ("cpu: 500m", "cpu: 1000m", "which is kept as 1"),
        ("cpu: 500m", "cpu: 1", "which is kept as None"),
        ("      protocol: TCP\n", "", "has no protocol"),
        ("  name: a\nspec", "  name: a\n  name: a\nspec", "the key name is there twice"),
        ("emptyDir: {}", "emptyDir: {sizeLimit: 1024Ki}", "which is kept as 1Mi"),
    ] {
        assert!(right.contains(words), "{words}");
        fs::write(&file, right.replacen(words, wrong, 1)).unwrap();
        let output = judged(std::slice::from_ref(&file)).await;
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{says}: {said}");
    }
}

/// The program with the arguments, the certificate and the authority of one rendering, called as the API server calls it.
#[tokio::test]
async fn the_webhook_runs_with_the_arguments_and_the_certificate_that_helm_makes() {
    let dir = tempfile::tempdir().unwrap();
    let values = json!({ "certificate": { "source": "selfSigned" }, "fail": "open",
        "sidecar": { "memory-limit": "96Mi", "no-secret": true, "mode": "native" } });
    let objects = objects("cupbearer-webhook", &values).await;
    let secret = one(&objects, "Secret");
    for key in ["tls.crt", "tls.key"] {
        let bytes = STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap();
        fs::write(dir.path().join(key), bytes).unwrap();
    }
    let configuration = one(&objects, "MutatingWebhookConfiguration");
    let client = &configuration["webhooks"][0]["clientConfig"];
    let authority = dir.path().join("ca.crt");
    fs::write(&authority, STANDARD.decode(client["caBundle"].as_str().unwrap()).unwrap()).unwrap();
    let container = &pod(&objects)["containers"][0];
    let address = free_address();
    let strings = container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    let words: Vec<String> = strings
        .map(|word| {
            word.replace("/run/tls", dir.path().to_str().unwrap())
                .replace("--listen=[::]:8443", &format!("--listen={address}"))
        })
        .collect();
    let mut command = cupbearer();
    command
        .args(&words)
        .env("POD_NAMESPACE", "shop")
        .env("CUPBEARER_IMAGE", "registry.example.com/cupbearer:9");
    let mut program = Program::spawn("cupbearer webhook", command, dir.path());
    let log = program.log_file().to_owned();
    program
        .until("listening", || async {
            fs::read_to_string(&log).unwrap_or_default().contains("the webhook listens")
        })
        .await;
    let service = &client["service"];
    let host =
        format!("{}.{}.svc", service["name"].as_str().unwrap(), service["namespace"].as_str().unwrap());
    let url = |path: &str| format!("https://{host}:{}{path}", address.port());
    let to = format!("{host}:{}:{}", address.port(), address.ip());
    let trusted = ["--resolve", &to, "--cacert", authority.to_str().unwrap()];
    let probe = curl(&[&trusted[..], &[&url("/readyz")]].concat()).await;
    assert_eq!(probe.status, 200, "{probe:?} {}", program.log());
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "kind": { "group": "", "version": "v1", "kind": "Pod" }, "resource": { "group": "", "version": "v1", "resource": "pods" },
        "namespace": "apps", "operation": "CREATE",
        "object": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" },
            "spec": { "containers": [{ "name": "a", "image": "a:1" }] } } } });
    let body = review.to_string();
    let reviews = url(service["path"].as_str().unwrap());
    let words = ["-H", "content-type: application/json", "--data", &body, &reviews];
    let response = curl(&[&trusted[..], &words].concat()).await;
    let response: Value = serde_json::from_slice(&response.body).unwrap();
    let patch = STANDARD.decode(response["response"]["patch"].as_str().unwrap()).unwrap();
    let patch = text(&patch);
    assert!(patch.contains("registry.example.com/cupbearer:9") && patch.contains("96Mi"), "{patch}");
    assert!(!patch.contains("cupbearer-secret"), "{patch}");
}

#[tokio::test]
async fn the_charts_webhook_is_the_one_of_the_manifests() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("webhook.yaml");
    fs::write(&file, kustomized(&deploy("webhook")).await).unwrap();
    let manifests = documents(&file).await;
    let objects = objects(
        "cupbearer-webhook",
        &json!({ "fullnameOverride": "cupbearer-webhook",
        "namespaceOverride": "cupbearer-system" }),
    )
    .await;
    let hooks = |objects: &[Value]| {
        one(objects, "MutatingWebhookConfiguration")["webhooks"].as_array().unwrap().clone()
    };
    let (ours, theirs) = (hooks(&objects), hooks(&manifests));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        for key in [
            "name",
            "rules",
            "objectSelector",
            "failurePolicy",
            "reinvocationPolicy",
            "timeoutSeconds",
            "sideEffects",
        ] {
            assert_eq!(ours[key], theirs[key], "{key}");
        }
        assert_eq!(ours["clientConfig"]["service"]["name"], theirs["clientConfig"]["service"]["name"]);
        assert_eq!(ours["clientConfig"]["service"]["path"], theirs["clientConfig"]["service"]["path"]);
        // The chart cannot label its namespace, and leaves it out by its name.
        let excluded = &ours["namespaceSelector"]["matchExpressions"][1]["values"];
        assert_eq!(excluded, &json!(["kube-system", "kube-node-lease", "cupbearer-system"]));
        assert_eq!(
            ours["namespaceSelector"]["matchExpressions"][0],
            theirs["namespaceSelector"]["matchExpressions"][0]
        );
    }
    let container = |objects: &[Value]| pod(objects)["containers"][0].clone();
    let (ours, theirs) = (container(&objects), container(&manifests));
    for key in ["image", "resources", "lifecycle"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    for port in theirs["ports"].as_array().unwrap() {
        let mut ports = ours["ports"].as_array().unwrap().iter();
        let same = |our: &Value| our["name"] == port["name"] && our["containerPort"] == port["containerPort"];
        assert!(ports.any(same), "{port}");
    }
    let spread = |objects: &[Value]| pod(objects)["topologySpreadConstraints"][0]["topologyKey"].clone();
    assert_eq!(spread(&objects), spread(&manifests));
}

#[tokio::test]
async fn the_notes_say_who_may_connect_and_how_many_pods_there_are() {
    let teams = with(&json!({ "networkPolicy": { "clientNamespaceLabels": { "team": "orders" } } }));
    let notes = rendered("cupbearer", &teams).await.unwrap();
    assert!(notes.contains("are in the namespace shop or one with the label team=orders."), "{notes}");
    assert!(
        notes.contains("kubectl scale --namespace shop deployment/rel-cupbearer --replicas 2"),
        "{notes}"
    );
    let two = rendered("cupbearer", &with(&json!({ "replicas": 2 }))).await.unwrap();
    assert!(!two.contains("kubectl scale"), "{two}");
    let readme = fs::read_to_string(repository().join("deploy/README.md")).unwrap();
    for name in CHARTS {
        assert!(readme.contains(&format!("helm/{name}/README.md")), "{name}");
    }
}
