//! A real Prometheus, which scrapes and evaluates the rules that a test gives it.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;

use super::curl::curl;
use super::program::{Program, free_address};

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    _program: Program,
    _dir: TempDir,
}

/// What it scrapes, and the labels that service discovery would give it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub address: SocketAddr,
    /// `name="value", ...`
    pub labels: &'a [(&'a str, &'a str)],
}

impl Prometheus {
    /// Scrapes `targets` each second, and evaluates `rules` as often.
    pub fn start(rules: &str, targets: &[Target<'_>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let targets: Vec<_> = targets
            .iter()
            .map(|target| {
                let labels: Vec<_> =
                    target.labels.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                format!("  - targets: [\"{}\"]\n    labels: {{{}}}\n", target.address, labels.join(", "))
            })
            .collect();
        let targets = targets.concat();
        fs::write(dir.path().join("rules.yaml"), rules).unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yaml]\nscrape_configs:\n- \
             job_name: cupbearer\n  static_configs:\n{targets}"
        );
        fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let mut command = Program::peer("prometheus", "prometheus");
        command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let program = Program::spawn("prometheus", command, dir.path());
        Self { address, _program: program, _dir: dir }
    }

    /// The response to a query.
    pub async fn query(&self, query: &str) -> Value {
        let (query, url) = (format!("query={query}"), format!("http://{}/api/v1/query", self.address));
        let response = curl(&["--get", "--data-urlencode", &query, &url]).await;
        serde_json::from_slice(&response.body).unwrap_or_default()
    }

    /// The alerts of this name that fire.
    pub async fn firing(&self, alert: &str) -> Vec<Value> {
        let response = curl(&[&format!("http://{}/api/v1/alerts", self.address)]).await;
        let response: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let alerts = response["data"]["alerts"].as_array().cloned().unwrap_or_default();
        alerts
            .into_iter()
            .filter(|one| one["labels"]["alertname"] == alert && one["state"] == "firing")
            .collect()
    }
}
