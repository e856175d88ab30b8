//! `cupbearer inject`: Kubernetes manifests with the sidecar added.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

use crate::config::{self, Severity, Source};
use anyhow::Context;
use clap::Args;
use cupbearer_inject::{Amount, Direction, Mode, Outcome, Overrides, Port, Resources, RunAs, Sidecar};

use super::Answer;
use super::output::{complain, say};

#[expect(clippy::doc_markdown, reason = "shown as help, where marks would be in the way")]
/// Add the sidecar to the pods in Kubernetes manifests
///
/// Reads manifests of any kind, in YAML or JSON, and writes them with the sidecar in each pod of a Pod, Deployment, StatefulSet,
/// DaemonSet, ReplicaSet, ReplicationController, PodTemplate, Job, CronJob, List or ResourceList; all else, and each line that
/// need not change, stays as it is. Doing so twice changes nothing; with other options the sidecar is replaced. Of an object
/// that comes from a cluster, what the server has added (resourceVersion, uid, status ...) is dropped. A line on standard error
/// says what became of each object that holds a pod. Where anything is wrong, nothing is written, and the exit code is 1.
#[derive(Debug, Args)]
#[command(
    after_help = "Each option can be said for one pod by an annotation of its template, such as cupbearer.dev/port: \"8081\";\n\
    cupbearer.dev/inject: \"false\" leaves a pod alone.\n\n\
    Nodes pull the image by the name in --image; the namespace has a ConfigMap and a Secret named cupbearer:\n\n\
    kubectl create configmap cupbearer --from-file=config.toml\n\
    kubectl create secret generic cupbearer --from-file=client_secret\n\
    kubectl get deployment orders -o yaml | cupbearer inject --image registry.example.com/cupbearer:VERSION | kubectl apply -f -"
)]
pub(super) struct Inject {
    /// The manifests; default, and -: standard input
    #[arg(value_name = "FILE", num_args = 0..)]
    files: Vec<PathBuf>,
    /// Take the sidecar out again
    #[arg(long)]
    uninject: bool,
    /// Write nothing, and exit with 1, where an object that holds a pod is left out: one of an unknown kind, on the node's network ...
    #[arg(long)]
    strict: bool,
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
    /// When a node pulls it: Always, IfNotPresent or Never [default: Kubernetes' own choice]
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<String>,
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
    /// Whether it has the token of the pod's own service account [default: where its config.toml, in the same file, names it]
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    service_account_token: Option<bool>,
    /// Whether it has a volume in memory at /var/lib/cupbearer [default: where its config.toml, in the same file, names a file there]
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    store_volume: Option<bool>,
    /// Init containers that it starts after, with commas, such as vault-agent-init [default: none; it is the first]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    after: Vec<String>,
    /// Its user: a number, or image for the image's own or what the cluster chooses (OpenShift) [default: 65532]
    #[arg(long, value_name = "USER", value_parser = run_as)]
    run_as_user: Option<RunAs>,
    /// Its group: a number, or image [default: as the user]
    #[arg(long, value_name = "GROUP", value_parser = run_as)]
    run_as_group: Option<RunAs>,
    /// Its CPU request; none leaves it out, here and below [default: 10m; in a Guaranteed pod 100m]
    #[arg(long, value_name = "QUANTITY")]
    cpu_request: Option<String>,
    /// Its CPU limit [default: none; in a Guaranteed pod its request]
    #[arg(long, value_name = "QUANTITY")]
    cpu_limit: Option<String>,
    /// Its memory request [default: 16Mi; in a Guaranteed pod its limit]
    #[arg(long, value_name = "QUANTITY")]
    memory_request: Option<String>,
    /// Its memory limit [default: 64Mi]
    #[arg(long, value_name = "QUANTITY")]
    memory_limit: Option<String>,
    /// Its request for ephemeral storage [default: none]
    #[arg(long, value_name = "QUANTITY")]
    ephemeral_storage_request: Option<String>,
    /// Its limit of ephemeral storage [default: none]
    #[arg(long, value_name = "QUANTITY")]
    ephemeral_storage_limit: Option<String>,
    /// Any other fields of its container, merged into it: {"livenessProbe": {"periodSeconds": 20}}
    #[arg(long, value_name = "JSON", value_parser = Overrides::named)]
    container: Option<Overrides>,
}

impl SidecarOptions {
    pub(super) fn sidecar(self) -> anyhow::Result<Sidecar> {
        let usual = Sidecar::default();
        let sidecar = Sidecar {
            resources: self.resources(),
            image: self.image.unwrap_or(usual.image),
            image_pull_policy: self.image_pull_policy,
            config_map: self.config_map.unwrap_or(usual.config_map),
            secret: if self.no_secret { None } else { self.secret.or(usual.secret) },
            port: self.port.unwrap_or(usual.port),
            health_port: self.health_port.unwrap_or(usual.health_port),
            control_port: self.control_port,
            mode: self.mode.unwrap_or(usual.mode),
            identity_audience: self.identity_audience,
            service_account_token: self.service_account_token,
            store_volume: self.store_volume,
            after: self.after,
            run_as_user: self.run_as_user.unwrap_or(usual.run_as_user),
            run_as_group: self.run_as_group,
            overrides: self.container.into_iter().collect(),
        };
        sidecar.check().map_err(|wrong| {
            let lines: Vec<String> = wrong.iter().map(|(flag, says)| format!("--{flag}: {says}")).collect();
            anyhow::anyhow!(lines.join("\n"))
        })?;
        Ok(sidecar)
    }

    fn resources(&self) -> Resources {
        let mut resources = Resources::default();
        for (option, given) in [
            ("cpu-request", &self.cpu_request),
            ("cpu-limit", &self.cpu_limit),
            ("memory-request", &self.memory_request),
            ("memory-limit", &self.memory_limit),
            ("ephemeral-storage-request", &self.ephemeral_storage_request),
            ("ephemeral-storage-limit", &self.ephemeral_storage_limit),
        ] {
            if let (Some(given), Some(amount)) = (given, resources.amount(option)) {
                *amount = Amount::named(given);
            }
        }
        resources
    }
}

impl Inject {
    pub(super) fn run(self) -> anyhow::Result<Answer> {
        let sidecar = self.options.sidecar()?;
        let (name, bytes) = read(self.files)?;
        let direction = if self.uninject { Direction::Out } else { Direction::In(&sidecar, config_problems) };
        let rewritten = match cupbearer_inject::rewrite(&bytes, direction) {
            Ok(rewritten) => rewritten,
            Err(problems) => {
                for problem in &problems {
                    complain(&format!("{name}: {problem}"));
                }
                complain("nothing was written");
                return Ok(Answer::No);
            }
        };
        let left_out = rewritten.reports.iter().filter(|report| report.is_left_out()).count();
        let refused = self.strict && left_out > 0;
        if !refused {
            let mut out = std::io::stdout().lock();
            out.write_all(rewritten.text.as_bytes())?;
            out.flush()?;
        }
        for report in &rewritten.reports {
            let what = match &report.outcome {
                Outcome::Changed if self.uninject => "the sidecar was taken out".to_owned(),
                Outcome::Changed => "the sidecar was added".to_owned(),
                Outcome::Replaced => {
                    "the sidecar it had was replaced by one of these flags and its annotations".to_owned()
                }
                Outcome::Unchanged if self.uninject => "has no sidecar of inject's".to_owned(),
                Outcome::Unchanged => "has it already".to_owned(),
                Outcome::LeftAlone(reason) => format!("left alone: {reason}"),
                Outcome::Unknown(field) => {
                    let field = if field.is_empty() { "spec" } else { field };
                    format!(
                        "left alone: inject does not know this kind, and it holds a pod ({field}); help: the webhook puts the \
                         sidecar into the pods of every kind, as they are created"
                    )
                }
            };
            say(&format!("{}: {what}", report.object));
        }
        if rewritten.reports.is_empty() {
            say(&format!("{name}: there is no pod in it"));
        }
        for note in &rewritten.notes {
            say(&format!("note: {note}"));
        }
        if refused {
            let objects = if left_out == 1 { "1 object".to_owned() } else { format!("{left_out} objects") };
            complain(&format!("{objects} left out, and --strict allows none: nothing was written"));
            return Ok(Answer::No);
        }
        Ok(Answer::Yes)
    }
}

/// The name of what is read, and what is in it.
fn read(files: Vec<PathBuf>) -> anyhow::Result<(String, Vec<u8>)> {
    anyhow::ensure!(files.len() <= 1, "inject reads one file at a time; {SEVERAL}");
    let Some(file) = files.into_iter().next().filter(|file| file.as_os_str() != "-") else {
        let mut input = std::io::stdin();
        if input.is_terminal() {
            say("reading manifests from the terminal; Ctrl-D ends them");
        }
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(("standard input".to_owned(), bytes));
    };
    anyhow::ensure!(!file.is_dir(), "{} is a folder; {SEVERAL}", file.display());
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((file.display().to_string(), bytes))
}

/// What keeps a configuration from starting in a container that has the files which it names.
fn config_problems(text: &str, environment: Vec<(OsString, OsString)>) -> Vec<String> {
    let source = Source::Text { name: "config.toml".to_owned(), text: text.to_owned() };
    let problems = config::load(&source, environment, config::Options::default()).err();
    let problems = problems.iter().flat_map(|problems| problems.iter());
    problems.filter(|problem| problem.severity == Severity::Error).map(ToString::to_string).collect()
}

const SEVERAL: &str = "help: join them, as `kubectl kustomize FOLDER | cupbearer inject` or `kubectl create --dry-run=client -f FOLDER \
                       -o yaml | cupbearer inject` does, or call it for each";

fn port(text: &str) -> Result<Port, &'static str> {
    Port::named(text).ok_or("a port is a number from 1 to 65535, or config")
}

fn run_as(text: &str) -> Result<RunAs, &'static str> {
    RunAs::named(text).ok_or("a user or a group is a number, or image")
}

fn mode(text: &str) -> Result<Mode, &'static str> {
    Mode::named(text).ok_or("a mode is native or plain")
}
