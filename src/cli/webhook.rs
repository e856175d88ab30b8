//! `cupbearer webhook`: what `inject` does, as a mutating admission webhook.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::lifecycle::{DrainTrigger, process};
use crate::telemetry::{self, LogFormat, LogSettings};
use crate::webhook;
use anyhow::Context;
use clap::Args;
use cupbearer_inject::admission::{FailurePolicy, Policy};
use tokio::signal::unix::{SignalKind, signal};

use super::Answer;
use super::inject::SidecarOptions;
use super::starting::Starting;

#[expect(clippy::doc_markdown, reason = "shown as help, where marks would be in the way")]
/// Add the sidecar to pods as they are created: a mutating admission webhook
///
/// Answers AdmissionReviews (admission.k8s.io/v1) at /inject over HTTPS, the kubelet's probes at /livez and /readyz, and Prometheus
/// at /metrics. /readyz is 503 while the certificate has expired. Its manifests are in deploy/webhook.
#[derive(Debug, Args)]
pub(super) struct Webhook {
    /// Where to listen; [::] is every address, of IPv4 too
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8443", env = "CUPBEARER_WEBHOOK_LISTEN")]
    listen: SocketAddr,
    /// The certificate with its chain, PEM; read again when it changes
    #[arg(long, value_name = "FILE", env = "CUPBEARER_WEBHOOK_CERT_FILE")]
    cert_file: PathBuf,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", env = "CUPBEARER_WEBHOOK_KEY_FILE")]
    key_file: PathBuf,
    /// What becomes of a pod that the sidecar cannot be put into: open lets it in as it is, with a warning; closed refuses it
    #[arg(long, value_name = "POLICY", default_value = "closed", value_parser = policy, env = "CUPBEARER_WEBHOOK_FAIL")]
    fail: FailurePolicy,
    /// The webhook's own namespace, whose pods are never changed
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    own_namespace: Option<String>,
    #[command(flatten)]
    options: SidecarOptions,
}

impl Webhook {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let log = LogSettings { format: LogFormat::Auto, level: "info".to_owned(), access: None };
        telemetry::start(&log)?;
        let starting = Starting::ends_with(0);
        if let Err(error) = process::keep_memory_private() {
            tracing::warn!(%error, "other processes of this user may read the memory of this one");
        }
        let policy = Policy {
            sidecar: self.options.sidecar()?,
            failure: self.fail,
            own_namespace: self.own_namespace,
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let webhook = webhook::Webhook::bind(self.listen, &self.cert_file, &self.key_file, policy)
            .await
            .context("the webhook cannot start")?;
        drop(starting);
        let address = webhook.address().unwrap_or(self.listen);
        tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "the webhook listens");
        let (trigger, drain) = DrainTrigger::new();
        let signals = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            trigger.start();
        };
        tokio::join!(webhook.serve(drain), signals);
        tracing::info!("the webhook ends");
        Ok(Answer::Yes)
    }
}

fn policy(text: &str) -> Result<FailurePolicy, &'static str> {
    match text {
        "open" => Ok(FailurePolicy::Open),
        "closed" => Ok(FailurePolicy::Closed),
        _ => Err("a policy is open or closed"),
    }
}
