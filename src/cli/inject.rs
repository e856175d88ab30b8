//! `cupbearer inject`: Kubernetes manifests with the sidecar added.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use cupbearer::kubernetes::{self, Direction, Mode, Outcome, Port, Sidecar};

use super::Answer;
use super::output::{complain, say};

#[expect(clippy::doc_markdown, reason = "shown as help, where marks would be in the way")]
/// Add the sidecar to the pods in Kubernetes manifests
///
/// Reads manifests of any kind, in YAML or JSON, and writes them with the sidecar in each pod of a Pod, Deployment, StatefulSet,
/// DaemonSet, ReplicaSet, ReplicationController, PodTemplate, Job, CronJob or List; all else, and each line that need not
/// change, stays as it is. Doing so twice changes nothing; with other options the sidecar is replaced. Where anything is wrong,
/// nothing is written, and the exit code is 1.
#[derive(Debug, Args)]
#[command(
    after_help = "Each option can be said for one pod by an annotation of its template, such as cupbearer.dev/port: \"8081\";\n\
    cupbearer.dev/inject: \"false\" leaves a pod alone.\n\n\
    kubectl get deployment orders -o yaml | cupbearer inject | kubectl apply -f -"
)]
pub(super) struct Inject {
    /// The manifests; default, and -: standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the sidecar out again
    #[arg(long)]
    uninject: bool,
    #[command(flatten)]
    options: SidecarOptions,
}

#[expect(clippy::doc_markdown, reason = "shown as help, where marks would be in the way")]
/// What is said of the sidecar, here and to the webhook.
#[derive(Debug, Args)]
#[command(next_help_heading = "The sidecar")]
pub(super) struct SidecarOptions {
    /// Its image [default: cupbearer and this version]
    #[arg(long, value_name = "IMAGE", env = "CUPBEARER_IMAGE")]
    image: Option<String>,
    /// The ConfigMap with its config.toml [default: cupbearer]
    #[arg(long, value_name = "NAME")]
    config_map: Option<String>,
    /// The Secret whose keys become files in /run/secrets/cupbearer [default: cupbearer]
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// Without a Secret
    #[arg(long, conflicts_with = "secret")]
    no_secret: bool,
    /// The port of localhost that the application calls; config: where server.listen of its config.toml says [default: 4280]
    #[arg(long, value_name = "PORT", value_parser = port)]
    port: Option<Port>,
    /// The port of its health and metrics, in the pod's network [default: 4281]
    #[arg(long, value_name = "PORT")]
    health_port: Option<u16>,
    /// A port of localhost for the control surface and its dashboard [default: none; a Unix socket for `kubectl exec`]
    #[arg(long, value_name = "PORT")]
    control_port: Option<u16>,
    /// native (Kubernetes 1.29 or later) or plain [default: native]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: Option<Mode>,
    /// Mount a token of the pod's service account for this audience, as /run/identity/cupbearer/token
    #[arg(long, value_name = "AUDIENCE")]
    identity_audience: Option<String>,
    /// Its memory limit [default: 64Mi]
    #[arg(long, value_name = "QUANTITY")]
    memory_limit: Option<String>,
    /// Its CPU request [default: 10m]
    #[arg(long, value_name = "QUANTITY")]
    cpu_request: Option<String>,
}

impl SidecarOptions {
    pub(super) fn sidecar(self) -> anyhow::Result<Sidecar> {
        let usual = Sidecar::default();
        let sidecar = Sidecar {
            image: self.image.unwrap_or(usual.image),
            config_map: self.config_map.unwrap_or(usual.config_map),
            secret: if self.no_secret { None } else { self.secret.or(usual.secret) },
            port: self.port.unwrap_or(usual.port),
            health_port: self.health_port.unwrap_or(usual.health_port),
            control_port: self.control_port,
            mode: self.mode.unwrap_or(usual.mode),
            identity_audience: self.identity_audience,
            memory_limit: self.memory_limit.unwrap_or(usual.memory_limit),
            cpu_request: self.cpu_request.unwrap_or(usual.cpu_request),
        };
        sidecar.check().map_err(|(flag, says)| anyhow::anyhow!("--{flag}: {says}"))?;
        Ok(sidecar)
    }
}

impl Inject {
    pub(super) fn run(self) -> anyhow::Result<Answer> {
        let sidecar = self.options.sidecar()?;
        let (name, bytes) = read(self.file)?;
        let direction = if self.uninject { Direction::Out } else { Direction::In(&sidecar) };
        let rewritten = match kubernetes::rewrite(&bytes, direction) {
            Ok(rewritten) => rewritten,
            Err(problems) => {
                for problem in &problems {
                    complain(&format!("{name}: {problem}"));
                }
                complain("nothing was written");
                return Ok(Answer::No);
            }
        };
        let mut out = std::io::stdout().lock();
        out.write_all(rewritten.text.as_bytes())?;
        out.flush()?;
        for report in &rewritten.reports {
            let what = match report.outcome {
                Outcome::Changed if self.uninject => "the sidecar was taken out".to_owned(),
                Outcome::Changed => "the sidecar was added".to_owned(),
                Outcome::Replaced => {
                    "the sidecar it had was replaced by one of these flags and its annotations".to_owned()
                }
                Outcome::Unchanged if self.uninject => "has no sidecar of inject's".to_owned(),
                Outcome::Unchanged => "has it already".to_owned(),
                Outcome::LeftAlone(reason) => format!("left alone: {reason}"),
            };
            say(&format!("{}: {what}", report.object));
        }
        if rewritten.reports.is_empty() {
            say(&format!("{name}: there is no pod in it"));
        }
        for note in &rewritten.notes {
            say(&format!("note: {note}"));
        }
        Ok(Answer::Yes)
    }
}

/// The name of what is read, and what is in it.
fn read(file: Option<PathBuf>) -> anyhow::Result<(String, Vec<u8>)> {
    let Some(file) = file.filter(|file| file.as_os_str() != "-") else {
        let mut input = std::io::stdin();
        if input.is_terminal() {
            say("reading manifests from the terminal; Ctrl-D ends them");
        }
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(("standard input".to_owned(), bytes));
    };
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((file.display().to_string(), bytes))
}

fn port(text: &str) -> Result<Port, &'static str> {
    Port::named(text).ok_or("a port is a number from 1 to 65535, or config")
}

fn mode(text: &str) -> Result<Mode, &'static str> {
    Mode::named(text).ok_or("a mode is native or plain")
}
