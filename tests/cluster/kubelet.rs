//! Pods that start while their authorization server is away: the real binary under a stand-in for the kubelet
//! (`tests/peers/kubernetes/kubelet.py`), watched by a real Prometheus with the shipped rules.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::deploy::kustomized;
use cupbearer_testing::{
    OidcProvider, Origin, Program, Prometheus, SECRET, Target, clock, cupbearer, curl, free_address, python,
    repository, told,
};

/// How much faster the kubelet's and the rules' clock runs than the wall. `CUPBEARER_KUBELET_FACTOR=1` makes the outage
/// one of ten real minutes; run the test's binary by itself then, as the runner ends a test after three.
fn factor() -> f64 {
    std::env::var("CUPBEARER_KUBELET_FACTOR").map_or(30.0, |factor| factor.parse().unwrap())
}

/// How long a test waits for what must come, on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(2);

async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let start = clock::now();
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "there is still no {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// So many seconds of the kubelet's clock.
async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds / factor())).await;
}

/// The shipped rules, with each duration divided by the factor.
fn rules() -> String {
    let rules = fs::read_to_string(repository().join("deploy/observability/rules.yaml")).unwrap();
    let mut quick = String::new();
    for (at, part) in rules.split("for: ").enumerate() {
        if at == 0 {
            quick.push_str(&ranges(part));
            continue;
        }
        let (duration, rest) = part.split_once('\n').unwrap();
        let _ = writeln!(quick, "for: {}", shortened(duration));
        quick.push_str(&ranges(rest));
    }
    quick
}

/// The same of the ranges in brackets, and of offsets.
fn ranges(text: &str) -> String {
    let mut quick = String::new();
    for (at, part) in text.split('[').enumerate() {
        match part.split_once(']') {
            Some((range, rest)) if at > 0 && range.ends_with(['s', 'm', 'h']) => {
                let _ = write!(quick, "[{}]{rest}", shortened(range));
            }
            _ if at > 0 => {
                let _ = write!(quick, "[{part}");
            }
            _ => quick.push_str(part),
        }
    }
    quick
}

fn shortened(duration: &str) -> String {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let number: f64 = number.parse().unwrap();
    let seconds = number
        * match unit {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            unit => panic!("{unit} is no unit of the rules"),
        };
    format!("{}ms", (seconds * 1000.0 / factor()) as u64)
}

/// A workload of the manifests on this machine: its sidecar is the program under test, its application a command.
struct Workload {
    kubelet: Program,
    health: SocketAddr,
    proxy: SocketAddr,
    environment: Vec<(String, String)>,
    dir: TempDir,
}

impl Workload {
    /// `manifest` as `kubectl` would send it; `{proxy}` in `app` is the sidecar's own address.
    fn start(manifest: &str, issuer: SocketAddr, api: &Origin, app: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (proxy, health) = (free_address(), free_address());
        fs::write(dir.path().join("manifest.yaml"), manifest).unwrap();
        fs::write(dir.path().join("secret"), SECRET).unwrap();
        // The configuration of the base, at the addresses of this machine.
        let config = fs::read_to_string(repository().join("deploy/kustomize/base/config.toml")).unwrap();
        let ours = config
            .replace("https://api.example.com", &api.url())
            .replace("https://login.example.com/", &format!("http://{issuer}"))
            .replace("/run/secrets/cupbearer/client_secret", &dir.path().join("secret").display().to_string())
            .replace("scope = \"orders:read\"\n", "");
        assert!(!ours.contains("example.com"), "{ours}");
        let file = dir.path().join("config.toml");
        fs::write(&file, ours).unwrap();
        let environment: Vec<(String, String)> = [
            ("CUPBEARER__SERVER__LISTEN", proxy.to_string()),
            ("CUPBEARER__HEALTH__LISTEN", health.to_string()),
            ("CUPBEARER__CONTROL__LISTEN", format!("unix:@cupbearer-test-{}", health.port())),
            ("CUPBEARER_CONFIG", file.display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let binary = cupbearer().as_std().get_program().to_string_lossy().into_owned();
        let app: Vec<String> = app.iter().map(|word| word.replace("{proxy}", &proxy.to_string())).collect();
        let plan = json!({
            "manifest": dir.path().join("manifest.yaml"),
            "factor": factor(),
            "programs": {
                "cupbearer": {
                    "argv": [binary, "run"],
                    "env": environment.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
                },
                "app": { "argv": app },
            },
            "ports": { "cb-health": health.port() },
        });
        fs::write(dir.path().join("plan.json"), plan.to_string()).unwrap();
        let mut command = python("kubernetes/kubelet.py");
        command.arg(dir.path().join("plan.json"));
        let kubelet = Program::spawn("kubelet", command, dir.path());
        Self { kubelet, health, proxy, environment, dir }
    }

    fn events(&self, event: &str) -> Vec<Value> {
        told(&self.kubelet).into_iter().filter(|one| one["event"] == event).collect()
    }

    async fn event(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(what, async || told(&self.kubelet).into_iter().find(|one| is(one))).await
    }

    /// How often the sidecar was started.
    fn runs(&self) -> usize {
        self.events("runs").iter().filter(|one| one["container"] == "cupbearer").count()
    }

    /// `kubectl exec POD -c cupbearer -- /cupbearer status`: in the container's own environment.
    async fn status(&self) -> String {
        let mut command = cupbearer();
        command.arg("status").envs(self.environment.iter().cloned()).current_dir(self.dir.path());
        let output = command.output().await.unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    fn target<'a>(&self, labels: &'a [(&'a str, &'a str)]) -> Target<'a> {
        Target { address: self.health, labels }
    }
}

const ORDERS: [(&str, &str); 3] = [("namespace", "shop"), ("pod", "orders-1"), ("container", "cupbearer")];
const REPORT: [(&str, &str); 3] = [("namespace", "shop"), ("pod", "report-1"), ("container", "cupbearer")];

#[tokio::test]
async fn pods_that_start_in_an_outage_of_ten_minutes_start_when_the_server_is_back_and_are_reported_meanwhile()
 {
    let api = Origin::ok().await;
    let server = free_address();
    let base = kustomized(&repository().join("deploy/kustomize/base")).await;
    let job = kustomized(&repository().join("deploy/kustomize/overlays/job")).await;
    assert!(job.contains("backoffLimit: 3"), "{job}");
    let orders = Workload::start(&base, server, &api, &["sleep", "1000"]);
    let report =
        Workload::start(&job, server, &api, &["curl", "--fail", "--silent", "http://{proxy}/report"]);
    let prometheus = Prometheus::start(&rules(), &[orders.target(&ORDERS), report.target(&REPORT)]);

    pass(600.0).await;
    let alerts = until("alert for both pods", async || {
        Some(prometheus.firing("CupbearerTokenPending").await).filter(|firing| firing.len() == 2)
    })
    .await;
    for alert in &alerts {
        let pod = alert["labels"]["pod"].as_str().unwrap();
        let command = format!("`kubectl exec -n shop {pod} -c cupbearer -- /cupbearer status`");
        assert!(alert["annotations"]["description"].as_str().unwrap().contains(&command), "{alert}");
        assert!(
            alert["annotations"]["summary"].as_str().unwrap().contains(&format!("shop/{pod}")),
            "{alert}"
        );
    }
    // What that command shows then.
    let status = orders.status().await;
    assert!(status.contains("pending") && status.contains("connection"), "{status}");
    // The runbook has the same table and the same sentence.
    let runbook = fs::read_to_string(repository().join("docs/runbook.md")).unwrap();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let header = words(status.lines().next().unwrap());
    assert!(runbook.lines().any(|line| words(line) == header), "{status}");
    for part in [
        "api: there is no token yet: http",
        ": no connection (connection refused); check host, port and firewall (",
    ] {
        assert!(status.contains(part) && runbook.contains(part), "{part} in\n{status}");
    }
    // No container was restarted, and no application was started too early.
    for workload in [&orders, &report] {
        assert_eq!(workload.runs(), 1, "{}", workload.kubelet.log());
        assert_eq!(workload.events("started").len(), 0, "{}", workload.kubelet.log());
    }

    let provider = OidcProvider::start_at(server, 300).await;
    let back = clock::now();
    for workload in [&orders, &report] {
        workload.event("application", |one| one["event"] == "runs" && one["container"] == "app").await;
    }
    println!("both applications started {:.1} s after the server's return", back.elapsed().as_secs_f64());
    let end = report.event("end of the Job", |one| one["event"] == "job").await;
    assert_eq!(end["condition"], "Complete", "{}", report.kubelet.log());
    assert_eq!((orders.runs(), report.runs()), (1, 1));
    assert_eq!(curl(&[&format!("http://{}/orders", orders.proxy)]).await.status, 200);
    assert_eq!(provider.token_requests().await, 2, "each pod asked once");
    until("end of the alert", async || {
        let firing = prometheus.firing("CupbearerTokenPending").await;
        firing.iter().all(|alert| alert["labels"]["pod"] != "orders-1").then_some(())
    })
    .await;
}

/// The same with a startup probe of a minute, as many manifests have it: what the test above would find.
#[tokio::test]
async fn a_startup_probe_of_a_minute_fails_the_job_and_its_restarts_hide_no_alert() {
    let api = Origin::ok().await;
    let server = free_address();
    let hasty = |manifest: &str| {
        let threshold = manifest
            .lines()
            .skip_while(|line| !line.contains("startupProbe:"))
            .find(|line| line.contains("failureThreshold:"))
            .unwrap();
        manifest.replace(threshold, "          failureThreshold: 60")
    };
    let base = hasty(&kustomized(&repository().join("deploy/kustomize/base")).await);
    let job = hasty(&kustomized(&repository().join("deploy/kustomize/overlays/job")).await);
    let orders = Workload::start(&base, server, &api, &["sleep", "1000"]);
    let report = Workload::start(&job, server, &api, &["true"]);
    let prometheus = Prometheus::start(&rules(), &[orders.target(&ORDERS)]);
    let end = report.event("end of the Job", |one| one["event"] == "job").await;
    assert_eq!(end["condition"], "Failed", "{}", report.kubelet.log());
    until("restart after 80 s", async || {
        orders.events("waits").iter().any(|one| one["seconds"] == 80).then_some(())
    })
    .await;
    let pauses: Vec<u64> =
        orders.events("waits").iter().map(|one| one["seconds"].as_u64().unwrap()).collect();
    assert_eq!(pauses[..5], [0, 10, 20, 40, 80], "{}", orders.kubelet.log());
    until("alert", async || (!prometheus.firing("CupbearerTokenPending").await.is_empty()).then_some(()))
        .await;
    until("alert of the restarts", async || {
        (!prometheus.firing("CupbearerRestarting").await.is_empty()).then_some(())
    })
    .await;
}
