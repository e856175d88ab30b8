//! What is under `deploy/`: taken by Kubernetes' own schemas, by Helm, by Prometheus, by Compose's and by
//! `cupbearer check`. systemd's part is in `systemd.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use cupbearer_testing::{
    Certificates, Config, Origin, Program, Prometheus, Proxy, Stage, Target, cupbearer, curl, eventually,
    node, project, python, repository, token_at, upstream_at,
};

pub(super) fn deploy(path: &str) -> PathBuf {
    repository().join("deploy").join(path)
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `kubectl apply -k` would send.
pub(super) async fn kustomized(folder: &Path) -> String {
    let output =
        Program::peer("kubectl", "kubectl, of 1.27 or later, by https://kubernetes.io/docs/tasks/tools/;")
            .arg("kustomize")
            .arg(folder)
            .output()
            .await
            .unwrap();
    assert!(output.status.success(), "{}: {}", folder.display(), text(&output.stderr));
    text(&output.stdout)
}

/// What the schemas and the restricted standard say.
pub(super) async fn judged(files: &[PathBuf]) -> Output {
    python("kubernetes/manifests.py").arg("validate").args(files).output().await.unwrap()
}

/// Each folder with a `kustomization.yaml` under `deploy/`.
pub(super) fn kustomizations() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        if folder.join("kustomization.yaml").exists() {
            found.push(folder.to_owned());
        }
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&deploy(""), &mut found);
    found
}

#[tokio::test]
async fn every_kustomization_builds_what_four_versions_and_the_restricted_standard_take() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (at, folder) in kustomizations().iter().enumerate() {
        let file = dir.path().join(format!("{at}.yaml"));
        let built = kustomized(folder).await;
        // Workload identity binds an account, and the namespace's own is everybody's.
        assert!(
            !built.contains("containers:") || built.contains("serviceAccountName: "),
            "{}",
            folder.display()
        );
        // A node's applications have the one of that node alone: there is never none.
        assert!(
            !built.contains("kind: DaemonSet") || built.contains("maxUnavailable: 0"),
            "{}",
            folder.display()
        );
        fs::write(&file, built).unwrap();
        files.push(file);
    }
    assert!(
        files.len() >= 13,
        "the base, its overlays, the webhook, the rules and the recipes, not {}",
        files.len()
    );
    let output = judged(&files).await;
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains(" 0 problems"));

    // Workload identity has no secret, and its token is for whom the configuration says.
    for (recipe, audience) in [
        ("entra", "api://AzureADTokenExchange"),
        ("google", "//iam.googleapis.com/projects/"),
        ("keycloak", "https://keycloak.example.com/realms/shop"),
    ] {
        let built = kustomized(&deploy("recipes").join(recipe)).await;
        let secret = built.contains("secretName") || built.contains("/run/secrets/cupbearer");
        assert!(!secret && built.contains(&format!("audience: {audience}")), "{built}");
    }

    // The judge is one.
    let base = kustomized(&deploy("kustomize/base")).await;
    for (right, wrong, says) in [
        ("runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot must be true"),
        ("- ALL", "- NET_RAW", "capabilities.drop must have ALL"),
        (
            "allowPrivilegeEscalation: false",
            "allowPrivilegeEscalation: true",
            "allowPrivilegeEscalation must be false",
        ),
        ("type: RuntimeDefault", "type: Unconfined", "seccompProfile must be"),
        ("containers:", "hostNetwork: true\n      containers:", "hostNetwork is not allowed"),
        ("restartPolicy: Always", "restartPolice: Always", "restartPolice"),
        ("name: cb-health", "name: cupbearer-health", "longer than 15"),
        (
            "capabilities:",
            "procMount: Unmasked\n          capabilities:\n            add: [NET_ADMIN]",
            "capabilities must not be added",
        ),
        ("capabilities:", "procMount: Unmasked\n          capabilities:", "procMount must be Default"),
        ("capabilities:", "privileged: true\n          capabilities:", "privileged is not allowed"),
        (
            "capabilities:",
            "seLinuxOptions: {user: root}\n          capabilities:",
            "seLinuxOptions are not allowed",
        ),
        (
            "capabilities:",
            "appArmorProfile: {type: Unconfined}\n          capabilities:",
            "appArmorProfile must not be",
        ),
        (
            "capabilities:",
            "windowsOptions: {hostProcess: true}\n          capabilities:",
            "hostProcess is not allowed",
        ),
        ("runAsUser: 65532", "runAsUser: 0", "runAsUser must not be 0"),
        ("fsGroup: 65532", "runAsUser: 0", "runAsUser must not be 0"),
        ("fsGroup: 65532", "sysctls: [{name: kernel.msgmax, value: \"1\"}]", "kernel.msgmax is not allowed"),
        ("containerPort: 4281", "containerPort: 4281\n          hostPort: 4281", "hostPort is not allowed"),
        ("downwardAPI: {}", "hostPath: {path: /}", "the type hostPath is not allowed"),
        (
            "- mountPath: /etc/cupbearer\n          name: cupbearer-config",
            "- mountPath: /etc/cupbearer\n          name: nothing",
            "there is no volume nothing",
        ),
        ("serviceAccountName: app", "serviceAccountName: nobody", "there is no ServiceAccount nobody"),
    ] {
        assert!(base.contains(right));
        let file = dir.path().join("wrong.yaml");
        fs::write(&file, base.replacen(right, wrong, if right == "containers:" { 9 } else { 1 })).unwrap();
        let output = judged(&[file]).await;
        assert!(
            !output.status.success() && text(&output.stdout).contains(says),
            "{says}: {}",
            text(&output.stdout)
        );
    }
}

/// It is for what runs in the sidecar's own container.
#[tokio::test]
async fn the_control_surface_of_a_sidecar_needs_neither_a_port_nor_a_volume() {
    let control = "- name: CUPBEARER__CONTROL__LISTEN\n          value: unix:@cupbearer\n";
    for folder in ["kustomize/base", "kustomize/overlays/plain", "kustomize/overlays/job", "recipes/okta"] {
        let built = kustomized(&deploy(folder)).await;
        assert_eq!(built.matches(control).count(), 1, "{folder}: {built}");
    }
    for folder in ["kustomize/overlays/shared", "kustomize/overlays/daemonset"] {
        let built = kustomized(&deploy(folder)).await;
        assert!(built.contains("[control]\n    listen = \"unix:@cupbearer\"\n"), "{folder}: {built}");
    }
}

#[tokio::test]
async fn the_webhook_is_built_for_any_namespace_and_image_and_trusts_an_authority_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("webhook");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(deploy("webhook")).unwrap() {
        let file = entry.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let file = folder.join("kustomization.yaml");
    let usual = fs::read_to_string(&file).unwrap();
    let elsewhere = usual.replace("namespace: cupbearer-system", "namespace: elsewhere");
    fs::write(
        &file,
        elsewhere + "images: [{name: cupbearer, newName: registry.example.com/cb, newTag: \"9\"}]\n",
    )
    .unwrap();
    let built = kustomized(&folder).await;
    assert!(!built.contains("cupbearer-system"), "{built}");
    for said in [
        "- cupbearer-webhook.elsewhere.svc\n",
        "cert-manager.io/inject-ca-from: elsewhere/cupbearer-webhook-authority\n",
        "      name: cupbearer-webhook\n      namespace: elsewhere\n      path: /inject\n",
        "kind: Namespace\nmetadata:\n  labels:\n    cupbearer.dev/inject: \"false\"\n",
        "image: registry.example.com/cb:9\n",
        "value: registry.example.com/cb:9\n",
    ] {
        assert!(built.contains(said), "{said} is not in {built}");
    }
    assert!(!built.contains("cupbearer:0.1.0"), "{built}");

    // Whom the API server trusts is the authority, which signs what the pods serve and keeps its key.
    let objects: Vec<&str> = built.split("\n---\n").collect();
    let certificate = |name: &str| {
        let begins = format!("kind: Certificate\nmetadata:\n  name: {name}\n");
        *objects.iter().find(|object| object.contains(&begins)).unwrap_or_else(|| panic!("{name}: {built}"))
    };
    let authority = certificate("cupbearer-webhook-authority");
    assert!(authority.contains("isCA: true") && authority.contains("rotationPolicy: Never"), "{authority}");
    assert!(
        certificate("cupbearer-webhook").contains("issuerRef:\n    name: cupbearer-webhook\n"),
        "{built}"
    );
    assert!(built.contains("ca:\n    secretName: cupbearer-webhook-authority\n"), "{built}");

    // An overlay may name the image as well.
    let overlay = dir.path().join("overlay");
    fs::create_dir(&overlay).unwrap();
    fs::write(&file, &usual).unwrap();
    let lines = "resources: [../webhook]\nimages: [{name: cupbearer, newName: registry.example.com/cb, newTag: \"9\"}]\n";
    fs::write(overlay.join("kustomization.yaml"), lines).unwrap();
    let built = kustomized(&overlay).await;
    assert_eq!(built.matches("registry.example.com/cb:9").count(), 2, "{built}");
}

#[tokio::test]
async fn what_inject_adds_is_taken_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let secure = "securityContext: {runAsNonRoot: true, allowPrivilegeEscalation: false, seccompProfile: {type: RuntimeDefault}, capabilities: {drop: [ALL]}}";
    let app = dir.path().join("app.yaml");
    fs::write(&app, format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: app}}\nspec:\n  containers:\n  - name: app\n    image: app:1\n    {secure}\n")).unwrap();
    let mut files = Vec::new();
    for (at, words) in [
        &[][..],
        &["--mode", "plain"],
        &["--identity-audience", "https://a.example"],
        &["--no-secret", "--port", "9000"],
        &["--control-port", "4282"],
        &["--store-volume", "true", "--service-account-token", "true", "--run-as-user", "image"],
        &["--port", "config", "--health-port", "9901"],
    ]
    .iter()
    .enumerate()
    {
        let output = cupbearer().arg("inject").args(*words).arg(&app).output().await.unwrap();
        let control = if words.contains(&"--control-port") { "127.0.0.1:4282" } else { "unix:@cupbearer" };
        let listen = format!("name: CUPBEARER__CONTROL__LISTEN\n      value: \"{control}\"\n");
        assert!(text(&output.stdout).contains(&listen), "{}", text(&output.stdout));
        let file = dir.path().join(format!("{at}.yaml"));
        fs::write(&file, output.stdout).unwrap();
        files.push(file);
    }
    let output = judged(&files).await;
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("7 objects, 0 problems"));
}

/// `cupbearer check`, with the files of a pod where it can find them, laid out as the kubelet does it.
pub(super) async fn check(config: &str, env: &[(String, String)]) {
    let dir = tempfile::tempdir().unwrap();
    let (secrets, identity) = (dir.path().join("secrets"), dir.path().join("identity"));
    let certificates = Certificates::for_names(&["cupbearer"], dir.path());
    project(&secrets, "..1", "client_secret", "the-secret-of-the-tests");
    project(&secrets, "..1", "client_key", &fs::read_to_string(&certificates.key).unwrap());
    project(&identity, "..1", "token", "the.token.of-the-pod");
    let here = |text: &str| {
        text.replace("/run/secrets/cupbearer", secrets.to_str().unwrap())
            .replace("/run/secrets/client_secret", secrets.join("client_secret").to_str().unwrap())
            .replace("/run/identity/cupbearer", identity.to_str().unwrap())
            .replace("/run/tls/tls.crt", certificates.certificate.to_str().unwrap())
            .replace("/run/tls/tls.key", certificates.key.to_str().unwrap())
            .replace("/run/tls/ca.crt", certificates.ca.to_str().unwrap())
            .replace("/var/lib/cupbearer", dir.path().to_str().unwrap())
    };
    let config = here(config);
    fs::set_permissions(&certificates.key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, &config).unwrap();
    let mut command = cupbearer();
    command.args(["check", "--config"]).arg(&file);
    command.envs(env.iter().map(|(name, value)| (name, here(value))));
    if config.contains("http://keycloak") {
        command.arg("--insecure-plaintext");
    }
    let output = command.output().await.unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{config}\nis refused: {said}");
    for line in said.lines().filter(|line| line.contains("warning:")) {
        assert!(config.contains("http://keycloak") && line.contains("is not encrypted"), "{line}");
    }
}

#[tokio::test]
async fn every_configuration_under_deploy_is_one() {
    let mut found = 0;
    for folder in [
        "kustomize/base",
        "kustomize/remote",
        "compose/cupbearer",
        "recipes/auth0",
        "recipes/entra",
        "recipes/okta",
        "recipes/keycloak",
        "recipes/google",
        "recipes/github-app",
        "recipes/google-impersonation",
    ] {
        check(&fs::read_to_string(deploy(folder).join("config.toml")).unwrap(), &[]).await;
        found += 1;
    }
    let all = Program::peer("git", "git")
        .current_dir(repository())
        .args(["ls-files", "deploy/**/config.toml", "deploy/*/config.toml"])
        .output()
        .await
        .unwrap();
    let all = text(&all.stdout).lines().count();
    assert!(all == 0 || all == found, "{all} files, {found} of them checked");
}

#[tokio::test]
async fn the_compose_file_is_one_and_its_parts_fit() {
    let judge = |file: PathBuf| async move {
        node("compose/judge.mjs", Some("dclint")).arg(file).output().await.unwrap()
    };
    let output = judge(deploy("compose/compose.yaml")).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let compose: Value = serde_json::from_slice(&output.stdout).unwrap();

    // What it names is there.
    let strings = |of: &Value| -> Vec<String> {
        of.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let cupbearer_service = &compose["services"]["cupbearer"];
    for mount in
        [&compose["services"]["keycloak"], cupbearer_service].iter().flat_map(|it| strings(&it["volumes"]))
    {
        assert!(deploy("compose").join(mount.split(':').next().unwrap()).exists(), "{mount}");
    }
    let secret = deploy("compose").join(compose["secrets"]["client_secret"]["file"].as_str().unwrap());
    // Keycloak knows the client by the same secret, in the realm that the configuration names.
    let realm: Value = serde_json::from_slice(&fs::read(deploy("compose/realm.json")).unwrap()).unwrap();
    assert_eq!(realm["clients"][0]["secret"], fs::read_to_string(secret).unwrap().trim());
    let config = fs::read_to_string(deploy("compose/cupbearer/config.toml")).unwrap();
    assert!(config.contains(&format!("http://keycloak:8080/realms/{}\"", realm["realm"].as_str().unwrap())));

    // Its environment goes with its configuration.
    let mut command = cupbearer();
    command.args(["check", "--insecure-plaintext", "--config"]).arg(deploy("compose/cupbearer/config.toml"));
    for (name, value) in cupbearer_service["environment"].as_object().unwrap() {
        command.env(name, value.as_str().unwrap());
    }
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));

    // The judge is one.
    let dir = tempfile::tempdir().unwrap();
    let right = fs::read_to_string(deploy("compose/compose.yaml")).unwrap();
    for (right_words, wrong) in [
        ("mem_limit", "mem_limt"),
        ("condition: service_healthy", "condition: healthy"),
        ("read_only: true", "read_only: 7"),
    ] {
        assert!(right.contains(right_words));
        let file = dir.path().join("compose.yaml");
        fs::write(&file, right.replace(right_words, wrong)).unwrap();
        assert!(!judge(file).await.status.success(), "{wrong}");
    }
}

#[tokio::test]
async fn the_alerts_fire_when_they_should_and_are_the_same_for_both_kinds_of_prometheus() {
    let output = Program::peer("promtool", "prometheus")
        .current_dir(deploy("observability"))
        .args(["test", "rules", "rules.test.yaml"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let rules = fs::read_to_string(deploy("observability/rules.yaml")).unwrap();
    let operator = fs::read_to_string(deploy("observability/prometheusrule.yaml")).unwrap();
    let spec: String = operator
        .split("\nspec:\n")
        .nth(1)
        .unwrap()
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line).to_owned() + "\n")
        .collect();
    assert_eq!(spec, rules.split_once('\n').unwrap().1);
    // A rule that is broken is found.
    let dir = tempfile::tempdir().unwrap();
    fs::copy(deploy("observability/rules.test.yaml"), dir.path().join("rules.test.yaml")).unwrap();
    fs::write(
        dir.path().join("rules.yaml"),
        rules.replace("cupbearer_store_degraded == 1", "cupbearer_store_degraded == 2"),
    )
    .unwrap();
    let output = Program::peer("promtool", "prometheus")
        .current_dir(dir.path())
        .args(["test", "rules", "rules.test.yaml"])
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
}

/// The alerts of a file of rules, each with the address of its section in the runbook.
fn alerts(rules: &str) -> Vec<(String, String)> {
    let value = |line: &str, key: &str| line.trim().strip_prefix(key).map(|value| value.trim().to_owned());
    let mut found: Vec<(String, String)> = Vec::new();
    for line in rules.lines() {
        if let Some(name) = value(line, "- alert:") {
            found.push((name, String::new()));
        } else if let Some(url) = value(line, "runbook_url:") {
            found.last_mut().unwrap().1 = url;
        }
    }
    found
}

#[test]
fn each_alert_leads_to_its_section_of_the_runbook_and_names_the_pod_and_the_command() {
    let rules = fs::read_to_string(deploy("observability/rules.yaml")).unwrap();
    let manifest: toml::Table = fs::read_to_string(repository().join("Cargo.toml")).unwrap().parse().unwrap();
    let home = manifest["package"]["homepage"].as_str().unwrap();
    let alerts = alerts(&rules);
    assert!(alerts.len() >= 15, "{alerts:?}");
    for (name, url) in &alerts {
        assert_eq!(*url, format!("{home}/docs/runbook.md#{}", name.to_lowercase()));
    }
    let runbook = fs::read_to_string(repository().join("docs/runbook.md")).unwrap();
    let sections: Vec<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|title| *title != "First look")
        .collect();
    let names: Vec<&str> = alerts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(sections, names, "the sections of the runbook, and the alerts");
    for rule in rules.split("- alert: ").skip(1) {
        // The API server is no pod of ours.
        let of_a_pod = !rule.starts_with("CupbearerWebhook");
        assert!(
            !of_a_pod
                || rule.contains(
                    r#"kubectl exec -n {{ $labels.namespace }} {{ $labels.pod }} -c {{ or $labels.container "cupbearer" }} -- /cupbearer status"#
                ),
            "{rule}"
        );
        assert!(!rule.contains("-c cupbearer "), "a fixed container: {rule}");
    }
}

#[tokio::test]
async fn every_query_of_the_dashboard_and_the_alerts_finds_its_metrics_in_a_real_prometheus() {
    // With everything that counts something of its own; nobody listens on port 1.
    let collector = "[telemetry]\notlp_endpoint = \"http://127.0.0.1:1\"\n";
    let stage = Stage::with(Origin::ok().await, "", collector).await;
    let rules = fs::read_to_string(deploy("observability/rules.yaml")).unwrap();
    let target = Target { address: stage.proxy.health_address(), labels: &[] };
    let prometheus = &Prometheus::start(&rules, &[target]);
    let query = |query: String| async move { prometheus.query(&query).await };
    let has = |of: String| async move {
        query(of).await["data"]["result"].as_array().is_some_and(|found| !found.is_empty())
    };
    eventually("the proxy is scraped", || has("cupbearer_build_info".to_owned())).await;
    // Two scrapes with requests between them, and one before the first: a series begins with its first value.
    let url = stage.proxy.url("/a");
    eventually("the rate of requests is known", || {
        let url = url.clone();
        async move {
            assert_eq!(curl(&[&url]).await.status, 200);
            has("rate(cupbearer_requests_total{code=\"200\"}[1m]) > 0".to_owned()).await
        }
    })
    .await;

    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(deploy("observability/dashboard.json")).unwrap()).unwrap();
    let mut queries: Vec<String> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| {
            target["expr"]
                .as_str()
                .unwrap()
                .replace("$job", ".*")
                .replace("$namespace", ".*")
                .replace("$instance", ".*")
        })
        .collect();
    assert!(queries.len() >= 18, "{queries:?}");
    for expr in &queries {
        // A vector of which nothing is known yet is empty; a metric that nobody has is absent from the scrape, too.
        let answer = query(expr.clone()).await;
        assert_eq!(answer["status"], "success", "{expr}: {answer}");
    }
    queries.push(fs::read_to_string(deploy("observability/rules.yaml")).unwrap());
    // What only a proxy with a certificate has.
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::for_loopback(dir.path());
    let tls = format!(
        "tls = {{ cert_file = \"{}\", key_file = \"{}\" }}",
        certificates.certificate.display(),
        certificates.key.display()
    );
    let config = Config::one_route(&upstream_at(&stage.api.url()), &token_at(&stage.server.url()));
    let secure = Proxy::start(config.server(&tls)).await;
    let scraped = text(&curl(&[&stage.proxy.health_url("/metrics")]).await.body) + &secure.metrics().await;
    for name in queries
        .iter()
        .flat_map(|query| query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        // The webhook is a program of its own, with metrics of its own.
        .filter(|word| word.starts_with("cupbearer_") && !word.starts_with("cupbearer_webhook_"))
    {
        assert!(scraped.contains(&format!("\n{name}")), "{name} is no metric of the program's");
    }
    let empty: Vec<&String> = {
        let mut empty = Vec::new();
        for expr in &queries[..queries.len() - 1] {
            if !has(expr.clone()).await {
                empty.push(expr);
            }
        }
        empty
    };
    assert!(empty.is_empty(), "these show nothing: {empty:#?}");
}
