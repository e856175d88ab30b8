//! `cupbearer webhook`, as an API server, a kubelet and Prometheus meet it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use cupbearer_testing::{Answer, Certificates, Program, cupbearer, curl, eventually, free_address};

/// A running webhook.
struct Webhook {
    program: Program,
    url: String,
    port: u16,
    certificates: Certificates,
    dir: tempfile::TempDir,
}

/// What the API server calls it.
const NAME: &str = "cupbearer-webhook.cupbearer-system.svc";

impl Webhook {
    async fn start(words: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::for_names(&[NAME], dir.path());
        Self::start_with(words, dir, certificates).await
    }

    async fn start_with(words: &[&str], dir: tempfile::TempDir, certificates: Certificates) -> Self {
        let address = free_address();
        let mut command = cupbearer();
        command
            .arg("webhook")
            .arg("--listen")
            .arg(address.to_string())
            .env("POD_NAMESPACE", "cupbearer-system");
        command
            .arg("--cert-file")
            .arg(&certificates.certificate)
            .arg("--key-file")
            .arg(&certificates.key)
            .args(words);
        let mut program = Program::spawn("cupbearer webhook", command, dir.path());
        let log = program.log_file().to_owned();
        let listens = || fs::read_to_string(&log).unwrap_or_default().contains("the webhook listens");
        program.until("the webhook listens", || async { listens() }).await;
        let url = format!("https://{NAME}:{}", address.port());
        Self { program, url, port: address.port(), certificates, dir }
    }

    /// As the API server does: by the Service's name, trusting the `caBundle` alone.
    async fn ask(&self, words: &[&str], path: &str) -> Answer {
        let to = format!("{NAME}:{}:127.0.0.1", self.port);
        let url = self.url.clone() + path;
        let ca = self.certificates.ca.to_str().unwrap();
        curl(&[&["--resolve", &to, "--cacert", ca], words, &[&url]].concat()).await
    }

    async fn review(&self, namespace: &str, object: &Value) -> Value {
        let file = self.dir.path().join("review.json");
        fs::write(&file, review(namespace, object).to_string()).unwrap();
        let data = format!("@{}", file.display());
        let answer = self.ask(&["--json", &data], "/inject?timeout=5s").await;
        assert_eq!((answer.exit, answer.status), (0, 200), "{}", self.program.log());
        assert_eq!(answer.field("content-type"), Some("application/json"));
        let review: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (&review["apiVersion"], &review["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        assert_eq!(review["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
        review["response"].clone()
    }
}

/// What an API server sends, each field of it, when a controller makes a pod.
fn review(namespace: &str, object: &Value) -> Value {
    let kind = json!({ "group": "", "version": "v1", "kind": "Pod" });
    let resource = json!({ "group": "", "version": "v1", "resource": "pods" });
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
        "namespace": namespace, "operation": "CREATE", "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller",
        "uid": "a7e0ab33", "groups": ["system:serviceaccounts", "system:authenticated"] }, "object": object, "oldObject": null, "dryRun": false,
        "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" } } })
}

fn pod(port: u16) -> Value {
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "generateName": "orders-5d4f-", "labels": { "app": "orders" } },
        "spec": { "containers": [{ "name": "app", "image": "orders:1", "ports": [{ "containerPort": port, "protocol": "TCP" }],
            "terminationMessagePath": "/dev/termination-log" }], "volumes": [{ "name": "kube-api-access", "projected": { "sources": [] } }] },
        "status": {} })
}

#[tokio::test]
async fn the_webhook_puts_the_sidecar_into_pods_but_those_of_its_own_namespace() {
    let webhook =
        Webhook::start(&["--image", "registry.example.com/cupbearer:1", "--config-map", "orders"]).await;
    let response = webhook.review("shop", &pod(80)).await;
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut patched = pod(80);
    json_patch::patch(&mut patched, &patch).unwrap();
    let sidecar = &patched["spec"]["initContainers"][0];
    assert_eq!(
        (&sidecar["image"], &sidecar["restartPolicy"]),
        (&json!("registry.example.com/cupbearer:1"), &json!("Always"))
    );
    assert_eq!(patched["spec"]["volumes"][1]["configMap"]["name"], "orders");
    assert_eq!(patched["spec"]["volumes"][0], pod(80)["spec"]["volumes"][0]);
    for (namespace, object) in [("cupbearer-system", pod(80)), ("shop", patched)] {
        let response = webhook.review(namespace, &object).await;
        assert_eq!(response, json!({ "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": true }));
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(webhook.ask(&[], path).await.status, 200);
    }
    let plain = curl(&[&format!("http://127.0.0.1:{}/livez", webhook.port)]).await;
    assert_ne!(plain.exit, 0, "without TLS nothing is answered");
    let log = webhook.program.log();
    assert!(log.contains("the client sent plain HTTP to a port that speaks TLS"), "{log}");
}

#[tokio::test]
async fn a_pod_that_cannot_have_the_sidecar_is_refused_or_let_in_as_told() {
    for (words, allowed) in [(&[][..], false), (&["--fail", "closed"], false), (&["--fail", "open"], true)] {
        let webhook = Webhook::start(words).await;
        let response = webhook.review("shop", &pod(4280)).await;
        assert_eq!(response["allowed"], json!(allowed));
        assert_eq!(response.get("patch"), None);
        let says = if allowed { &response["warnings"][0] } else { &response["status"]["message"] };
        let says = says.as_str().unwrap();
        assert!(
            says.contains("spec.containers[0].ports[0].containerPort: 4280")
                && says.contains("cupbearer.dev/port"),
            "{says}"
        );
        assert!(webhook.program.log().contains("Pod shop/orders-5d4f-*"), "{}", webhook.program.log());
    }
}

/// A second webhook adds a container once this one has been called: the API server then calls this one again.
#[tokio::test]
async fn a_container_that_another_webhook_adds_meets_the_sidecar_in_either_order() {
    let webhook = Webhook::start(&[]).await;
    let patched = |object: &Value, response: &Value| {
        let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        let mut object = object.clone();
        json_patch::patch(&mut object, &patch).unwrap();
        object
    };
    let with = |object: &Value, list: &str, container: Value| {
        let mut object = object.clone();
        let mut containers = object["spec"][list].as_array().cloned().unwrap_or_default();
        containers.insert(0, container);
        object["spec"][list] = containers.into();
        object
    };
    let late = |port: u16| json!({ "name": "late", "image": "late:1", "ports": [{ "containerPort": port }] });
    let own = patched(&pod(80), &webhook.review("shop", &pod(80)).await);
    for (port, allowed) in [(4280, false), (4281, false), (9090, true)] {
        for object in [&own, &pod(80)] {
            let response = webhook.review("shop", &with(object, "containers", late(port))).await;
            assert_eq!(response["allowed"], json!(allowed), "{port}: {response}");
            let says = response["status"]["message"].as_str().unwrap_or_default();
            assert!(allowed || says.contains("spec.containers[0].ports[0].containerPort"), "{response}");
        }
    }
    // An init container that was put in front could not use the sidecar, which goes in front again.
    let fetch = json!({ "name": "fetch", "image": "fetch:1" });
    let after = with(&own, "initContainers", fetch.clone());
    let response = webhook.review("shop", &after).await;
    assert!(response["warnings"][0].as_str().unwrap().contains("cupbearer.dev/after"), "{response}");
    let before = with(&pod(80), "initContainers", fetch);
    assert_eq!(patched(&after, &response), patched(&before, &webhook.review("shop", &before).await));
}

#[tokio::test]
async fn a_new_certificate_counts_and_a_broken_one_does_not() {
    let mut webhook = Webhook::start(&[]).await;
    let connection = |webhook: &Webhook| {
        let (url, port) = (webhook.url.clone(), webhook.port);
        move |ca: std::path::PathBuf| {
            let url = url.clone() + "/livez";
            async move {
                let to = format!("{NAME}:{port}:127.0.0.1");
                curl(&["--resolve", &to, "--cacert", ca.to_str().unwrap(), &url]).await.status == 200
            }
        }
    };
    let reaches = connection(&webhook);
    assert!(reaches(webhook.certificates.ca.clone()).await);
    fs::write(&webhook.certificates.key, "not a key").unwrap();
    let log = webhook.program.log_file().to_owned();
    let refused =
        || fs::read_to_string(&log).unwrap_or_default().contains("the new certificate cannot be used");
    webhook.program.until("the broken key is told of", || async { refused() }).await;
    assert!(reaches(webhook.certificates.ca.clone()).await, "the old certificate stays");
    let other = tempfile::tempdir().unwrap();
    let new = Certificates::for_names(&[NAME], other.path());
    let swap = |from: &Path, to: &Path| fs::copy(from, to).unwrap();
    swap(&new.certificate, &webhook.certificates.certificate);
    swap(&new.key, &webhook.certificates.key);
    eventually("the new certificate is shown", || reaches(new.ca.clone())).await;
    assert!(!reaches(webhook.certificates.ca.clone()).await, "the old authority does not know it");
    let log = webhook.program.log();
    assert!(log.contains("the client refuses the certificate here"), "{log}");
    webhook.program.signal(Signal::TERM);
    assert_eq!(webhook.program.ended(Duration::from_secs(20)).await.code(), Some(0));
}

/// Clients that each hold a connection of the webhook by a small GET now and then.
fn crowd(webhook: &Webhook, count: usize) -> JoinSet<()> {
    let config = webhook.certificates.trusting(&[]);
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let (config, port) = (Arc::clone(&config), webhook.port);
        clients.spawn(async move {
            loop {
                let _ended = hold(&config, port).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    clients
}

async fn hold(config: &Arc<ClientConfig>, port: u16) -> std::io::Result<()> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from(NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?;
    loop {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        let mut answer = [0; 4096];
        if stream.read(&mut answer).await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn pods_are_created_while_others_hold_every_connection_of_the_webhook() {
    let webhook = Webhook::start(&[]).await;
    let _crowd = crowd(&webhook, 300);
    eventually("connections give way", || async {
        webhook.program.log().contains("all connections are taken")
    })
    .await;
    for _ in 0..3 {
        assert_eq!(webhook.review("shop", &pod(80)).await["allowed"], json!(true));
        assert_eq!(webhook.ask(&["--max-time", "10"], "/readyz").await.status, 200);
    }
    let probe = webhook.ask(&["--http1.1"], "/livez").await;
    assert_eq!(probe.field("connection"), Some("close"), "a probe holds no connection");
}

#[tokio::test]
async fn what_is_no_review_is_answered_with_what_is_wrong() {
    let webhook = Webhook::start(&[]).await;
    let large = webhook.dir.path().join("large");
    fs::write(&large, vec![b' '; 9 * 1024 * 1024]).unwrap();
    let large = format!("@{}", large.display());
    for (words, path, status, says) in [
        (&["--json", "{"][..], "/inject", 400, "the body is no JSON"),
        (&["--json", "{}"], "/inject", 400, "no AdmissionReview of admission.k8s.io/v1"),
        (&["--json", &large], "/inject", 413, "at most 8 MiB"),
        (&[], "/inject", 405, "POST to /inject"),
        (&["--json", "{}"], "/metrics", 405, "GET /livez, /readyz and /metrics"),
        (&[], "/", 404, "there are /inject"),
        (&["--http1.1", "--json", "[]"], "/inject", 400, "no AdmissionReview"),
    ] {
        let answer = webhook.ask(words, path).await;
        assert_eq!(answer.status, status);
        assert!(String::from_utf8_lossy(&answer.body).contains(says), "{:?}", answer.body);
    }
    // It is as it was.
    assert_eq!(webhook.review("shop", &pod(80)).await["allowed"], json!(true));
}

#[tokio::test]
async fn a_webhook_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::for_names(&[NAME], dir.path());
    let (cert, key) = (certificates.certificate.to_str().unwrap(), certificates.key.to_str().unwrap());
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held = held.local_addr().unwrap().to_string();
    for (words, says) in [
        (&["--listen", &held, "--cert-file", cert, "--key-file", key][..], "cannot be listened on"),
        (&["--listen", "127.0.0.1:0", "--cert-file", "/nowhere.pem", "--key-file", key], "/nowhere.pem"),
        (&["--cert-file", cert], "--key-file"),
        (&["--cert-file", cert, "--key-file", key, "--fail", "shut"], "open or closed"),
    ] {
        let output = cupbearer().arg("webhook").args(words).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn prometheus_sees_what_became_of_pods_and_until_when_the_certificate_is_valid() {
    let mut webhook = Webhook::start(&[]).await;
    webhook.review("shop", &pod(80)).await;
    webhook.review("shop", &pod(80)).await;
    webhook.review("shop", &pod(4280)).await;
    webhook.review("cupbearer-system", &pod(80)).await;
    webhook.ask(&["--json", "{}"], "/inject").await;
    // Who does not trust the authority.
    let to = format!("{NAME}:{}:127.0.0.1", webhook.port);
    assert_ne!(curl(&["--resolve", &to, &(webhook.url.clone() + "/livez")]).await.exit, 0);
    let answer = webhook.ask(&[], "/metrics").await;
    assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for line in [
        "cupbearer_webhook_admissions_total{outcome=\"injected\"} 2",
        "cupbearer_webhook_admissions_total{outcome=\"refused\"} 1",
        "cupbearer_webhook_admissions_total{outcome=\"left_alone\"} 1",
        "cupbearer_webhook_admissions_total{outcome=\"let_in\"} 0",
        "cupbearer_webhook_admissions_total{outcome=\"unreadable\"} 1",
        "cupbearer_webhook_admission_duration_seconds_count 5",
        "cupbearer_webhook_certificate_reloads_total{result=\"applied\"} 0",
        "cupbearer_webhook_certificate_last_reload_successful 1",
        "cupbearer_tls_handshake_failures_total{reason=\"unknown_authority\"} 1",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
    }
    assert_eq!(expiry(&text), Some(expiry_of(&webhook.certificates.certificate).await));
    let other = tempfile::tempdir().unwrap();
    let new = Certificates::for_names(&[NAME], other.path());
    let key = fs::read(&webhook.certificates.key).unwrap();
    fs::write(&webhook.certificates.key, "no key").unwrap();
    let last_reload = |value: u8| {
        let webhook = &webhook;
        move || async move {
            let line = format!("cupbearer_webhook_certificate_last_reload_successful {value}");
            webhook.ask(&[], "/metrics").await.text().lines().any(|it| it == line)
        }
    };
    eventually("a certificate that cannot be used is refused", last_reload(0)).await;
    fs::write(&webhook.certificates.key, key).unwrap();
    eventually("the alert ends with one that can", last_reload(1)).await;
    fs::copy(&new.certificate, &webhook.certificates.certificate).unwrap();
    fs::copy(&new.key, &webhook.certificates.key).unwrap();
    webhook.certificates = new;
    // Until then it has a certificate of the old authority.
    eventually("the reload is counted", || async {
        let text = webhook.ask(&[], "/metrics").await.text();
        text.contains("cupbearer_webhook_certificate_reloads_total{result=\"applied\"} 2")
    })
    .await;
}

fn expiry(metrics: &str) -> Option<u64> {
    let line = metrics.lines().find_map(|line| {
        line.strip_prefix("cupbearer_certificate_expiry_timestamp_seconds{use=\"webhook\"} ")
    })?;
    line.parse().ok()
}

/// When a certificate expires, as openssl has it.
async fn expiry_of(certificate: &Path) -> u64 {
    let end = ["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"];
    let openssl = tokio::process::Command::new("openssl").args(end).arg(certificate).output().await.unwrap();
    let text = String::from_utf8(openssl.stdout).unwrap();
    let date = text.trim().strip_prefix("notAfter=").unwrap();
    let seconds =
        tokio::process::Command::new("date").args(["-u", "-d", date, "+%s"]).output().await.unwrap();
    String::from_utf8(seconds.stdout).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_logged_and_keeps_the_webhook_from_being_ready_until_there_is_another()
 {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::for_names(&[NAME], dir.path());
    let fresh = fs::read(&certificates.certificate).unwrap();
    certificates.reissue(NAME, (2020, 2021));
    let mut webhook = Webhook::start_with(&[], dir, certificates).await;
    let ready = async |webhook: &Webhook| {
        // As the kubelet asks, which verifies no certificate.
        let to = format!("{NAME}:{}:127.0.0.1", webhook.port);
        let status =
            async |path: &str| curl(&["-k", "--resolve", &to, &(webhook.url.clone() + path)]).await.status;
        (status("/livez").await, status("/readyz").await)
    };
    assert_eq!(ready(&webhook).await, (200, 503));
    let log = webhook.program.log();
    assert!(
        log.contains("the certificate has expired: the API server refuses it") && log.contains("ERROR"),
        "{log}"
    );
    fs::write(&webhook.certificates.certificate, fresh).unwrap();
    let log = webhook.program.log_file().to_owned();
    let valid = || fs::read_to_string(&log).unwrap_or_default().contains("the certificate is valid");
    webhook.program.until("the new certificate is noticed", || async { valid() }).await;
    assert_eq!(ready(&webhook).await, (200, 200));
}

#[tokio::test]
async fn mirrors_of_static_pods_are_let_in_as_they_are() {
    let webhook = Webhook::start(&[]).await;
    let mut mirror = pod(80);
    mirror["metadata"] = json!({ "name": "static-web-n1", "annotations": { "kubernetes.io/config.mirror": "abc", "kubernetes.io/config.source": "file",
        "kubernetes.io/config.hash": "abc" }, "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "1", "controller": true }] });
    mirror["spec"]["nodeName"] = json!("n1");
    let response = webhook.review("shop", &mirror).await;
    assert_eq!(response, json!({ "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": true }));
}

#[tokio::test]
async fn a_refusal_is_a_warning_that_names_the_review_and_the_pod() {
    let webhook = Webhook::start(&[]).await;
    webhook.review("shop", &pod(4280)).await;
    let log = webhook.program.log();
    let line = log.lines().find(|line| line.contains("a pod was refused")).unwrap_or_else(|| panic!("{log}"));
    for part in
        ["WARN", "705ab4f5-6393-11e8-b7cc-42010a800002", "shop", "orders-5d4f-", "containerPort: 4280"]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}
