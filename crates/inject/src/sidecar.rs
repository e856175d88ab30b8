//! What a pod gets: the container, its volumes, and the annotation that remembers both.

use serde_json::{Map, Value, json};

use super::configuration::{ACCOUNT_FOLDER, Configuration, STORE_FOLDER};
use super::overrides::Overrides;
use super::resources::{Budget, Resources};

/// What is added to a pod. Each field but `version` can be said for one pod alone by an annotation
/// `cupbearer.dev/...` of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// The image; `cupbearer.dev/image`.
    pub image: String,
    /// The `ConfigMap` that holds `config.toml`; `cupbearer.dev/config-map`.
    pub config_map: String,
    /// The Secret whose keys become files in `/run/secrets/cupbearer`; `cupbearer.dev/secret`, where `""` is none.
    pub secret: Option<String>,
    /// The port of loopback that the application calls; `cupbearer.dev/port`.
    pub port: Port,
    /// The port of the pod that health and metrics are on; `cupbearer.dev/health-port`.
    pub health_port: u16,
    /// The port of loopback that the control surface is on, for the dashboard; `cupbearer.dev/control-port`. `None`: it is on a
    /// Unix socket of the pod's network, for what runs in the sidecar's own container.
    pub control_port: Option<u16>,
    /// `cupbearer.dev/mode`.
    pub mode: Mode,
    /// Whom the service account's projected token is for, in `/run/identity/cupbearer/token`; without one there is none.
    /// `cupbearer.dev/identity-audience`.
    pub identity_audience: Option<String>,
    /// Whether it has the token of the pod's own service account, as every container has without further ado;
    /// `cupbearer.dev/service-account-token`. `None`: where the configuration names a file of it.
    pub service_account_token: Option<bool>,
    /// Whether it may write to `/var/lib/cupbearer`; `cupbearer.dev/store-volume`. `None`: where the configuration names a file there.
    pub store_volume: Option<bool>,
    /// Init containers (of a plain sidecar: containers) that stay in front of it; `cupbearer.dev/after`, with commas.
    pub after: Vec<String>,
    /// `cupbearer.dev/run-as-user`.
    pub run_as_user: RunAs,
    /// `cupbearer.dev/run-as-group`. `None`: as the user.
    pub run_as_group: Option<RunAs>,
    /// `cupbearer.dev/image-pull-policy`. `None`: Kubernetes' own choice.
    pub image_pull_policy: Option<String>,
    /// `cupbearer.dev/cpu-request` and its kin.
    pub resources: Resources,
    /// Further fields of its container, each over those before it; `cupbearer.dev/container`.
    pub overrides: Vec<Overrides>,
}

/// Which user, or group, the sidecar runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// This one.
    Id(u32),
    /// The image's, or what the cluster chooses in its place, as `OpenShift` does: the field is left out.
    Image,
}

impl RunAs {
    /// A number, or `image`.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        if text == "image" { Some(Self::Image) } else { text.parse().ok().map(Self::Id) }
    }
}

/// What the sidecar needs in one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) budget: Budget,
    /// It has the token of the pod's service account.
    pub(super) account: bool,
    /// It may write to [`STORE_FOLDER`].
    pub(super) stores: bool,
    /// Seconds that the pod has for its end.
    pub(super) grace: u64,
}

impl Setting {
    /// In a pod that has no sidecar so far, whose sidecar reads `configuration`.
    pub(super) fn of(sidecar: &Sidecar, spec: &Map<String, Value>, configuration: &Configuration) -> Self {
        Self {
            budget: Budget::of(spec),
            account: sidecar.service_account_token.unwrap_or(configuration.uses_account),
            stores: sidecar.store_volume.unwrap_or(configuration.stores),
            grace: spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(GRACE_PERIOD),
        }
    }
}

/// Where the sidecar listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// On this port of loopback, whatever the configuration says.
    Number(u16),
    /// Where `server.listen` of the configuration says.
    Configured,
}

impl Port {
    /// A number, or `config`.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "config" => Some(Self::Configured),
            number => number.parse().ok().map(Self::Number),
        }
    }
}

/// Which kind of container the sidecar is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// An init container with `restartPolicy: Always` (Kubernetes 1.29): starts before the application and ends after it,
    /// and a Job completes.
    #[default]
    Native,
    /// The first of the containers, for clusters from before that.
    Plain,
}

impl Mode {
    /// `native` or `plain`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "native" => Some(Self::Native),
            "plain" => Some(Self::Plain),
            _ => None,
        }
    }

    /// The list of a pod that has it.
    pub(super) fn list(self) -> &'static str {
        match self {
            Self::Native => "initContainers",
            Self::Plain => "containers",
        }
    }
}

impl Default for Sidecar {
    fn default() -> Self {
        Self {
            image: concat!("cupbearer:", env!("CARGO_PKG_VERSION")).to_owned(),
            config_map: CONTAINER.to_owned(),
            secret: Some(CONTAINER.to_owned()),
            port: Port::Number(PROXY_PORT),
            health_port: HEALTH_PORT,
            control_port: None,
            mode: Mode::default(),
            identity_audience: None,
            service_account_token: None,
            store_volume: None,
            after: Vec::new(),
            run_as_user: RunAs::Id(USER),
            run_as_group: None,
            image_pull_policy: None,
            resources: Resources::default(),
            overrides: Vec::new(),
        }
    }
}

impl Sidecar {
    /// Its container in a pod.
    pub(super) fn container(&self, setting: &Setting) -> Value {
        let mut container = json!({ "name": CONTAINER, "image": self.image });
        if let Some(policy) = &self.image_pull_policy {
            merge(&mut container, json!({ "imagePullPolicy": policy }));
        }
        merge(&mut container, json!({ "args": ["run"] }));
        let mut env = Vec::new();
        if let Port::Number(port) = self.port {
            env.push(json!({ "name": SERVER_LISTEN, "value": format!("localhost:{port}") }));
        }
        let health = format!("[::]:{}", self.health_port);
        env.push(json!({ "name": HEALTH_LISTEN, "value": health }));
        let control =
            self.control_port.map_or_else(|| CONTROL.to_owned(), |port| format!("127.0.0.1:{port}"));
        env.push(json!({ "name": CONTROL_LISTEN, "value": control }));
        if self.mode == Mode::Plain {
            // It gets SIGTERM together with the application: half of the time is the application's to drain, a third is for
            // the requests under way then, and the rest for what is given back and written.
            let grace = setting.grace;
            for (name, seconds) in [
                ("CUPBEARER__SERVER__DRAIN_DELAY", grace / 2),
                ("CUPBEARER__SERVER__DRAIN_TIMEOUT", grace / 3),
                ("CUPBEARER_GRACE_PERIOD", grace),
            ] {
                env.push(json!({ "name": name, "value": format!("{seconds}s") }));
            }
        }
        let probe = |path: &str, more: Value| {
            let mut probe = json!({ "httpGet": { "path": path, "port": "cb-health" } });
            merge(&mut probe, more);
            probe
        };
        if self.mode == Mode::Native {
            merge(&mut container, json!({ "restartPolicy": "Always" }));
        }
        merge(
            &mut container,
            json!({
                "env": env,
                "ports": [{ "name": "cb-health", "containerPort": self.health_port }],
                // The application starts once this has passed: its first request finds a token. The program itself retries for as
                // long as the authorization server is down; a restart by the kubelet would only add its back-off.
                "startupProbe": probe("/readyz", json!({ "periodSeconds": 1, "failureThreshold": 21600 })),
                "readinessProbe": probe("/readyz", json!({ "periodSeconds": 5 })),
                "livenessProbe": probe("/livez", json!({ "periodSeconds": 10 })),
            }),
        );
        let resources = self.resources.of(&setting.budget);
        if resources != json!({}) {
            merge(&mut container, json!({ "resources": resources }));
        }
        // What the restricted Pod Security Standard asks for.
        let mut security = json!({ "runAsNonRoot": true });
        let ids =
            [("runAsUser", self.run_as_user), ("runAsGroup", self.run_as_group.unwrap_or(self.run_as_user))];
        for (field, id) in ids {
            if let RunAs::Id(id) = id {
                merge(&mut security, json!({ field: id }));
            }
        }
        merge(
            &mut security,
            json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
                "seccompProfile": { "type": "RuntimeDefault" },
            }),
        );
        merge(&mut container, json!({ "securityContext": security }));
        if self.mode == Mode::Plain {
            // The containers after this one are started once it has ended.
            let wait =
                json!({ "postStart": { "exec": { "command": ["/cupbearer", "wait", "--timeout", "6h"] } } });
            merge(&mut container, json!({ "lifecycle": wait }));
        }
        let mut mounts = vec![json!({ "name": CONFIG, "mountPath": "/etc/cupbearer", "readOnly": true })];
        if self.secret.is_some() {
            mounts.push(json!({ "name": SECRET, "mountPath": SECRET_FILES, "readOnly": true }));
        }
        if self.identity_audience.is_some() {
            mounts
                .push(json!({ "name": IDENTITY, "mountPath": "/run/identity/cupbearer", "readOnly": true }));
        }
        if setting.stores {
            mounts.push(json!({ "name": STORE, "mountPath": STORE_FOLDER }));
        }
        if !setting.account {
            // Kubernetes mounts the token of the pod's service account where a container has nothing at this path.
            mounts.push(json!({ "name": EMPTY, "mountPath": ACCOUNT_FOLDER, "readOnly": true }));
        }
        merge(&mut container, json!({ "volumeMounts": mounts }));
        if let Value::Object(fields) = &mut container {
            self.overrides.iter().for_each(|overrides| overrides.apply(fields));
        }
        container
    }

    /// The volumes of that container.
    pub(super) fn volumes(&self, setting: &Setting) -> Vec<Value> {
        let mut volumes = vec![json!({ "name": CONFIG, "configMap": { "name": self.config_map } })];
        if let Some(secret) = &self.secret {
            volumes.push(json!({ "name": SECRET, "secret": { "secretName": secret } }));
        }
        if let Some(audience) = &self.identity_audience {
            let token = json!({ "path": "token", "audience": audience, "expirationSeconds": 3600 });
            volumes.push(
                json!({ "name": IDENTITY, "projected": { "sources": [{ "serviceAccountToken": token }] } }),
            );
        }
        if setting.stores {
            volumes.push(json!({ "name": STORE, "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }));
        }
        if !setting.account {
            // Empty without being an emptyDir, for whose sake `kubectl drain` stops.
            volumes.push(json!({ "name": EMPTY, "downwardAPI": {} }));
        }
        volumes
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// The container's name, and the default of its `ConfigMap`'s and Secret's.
pub(super) const CONTAINER: &str = "cupbearer";
/// Before the names of the annotations and labels.
pub(super) const PREFIX: &str = "cupbearer.dev/";
/// Whether the sidecar is wanted: `"false"`, `"true"`.
pub(super) const INJECT: &str = "cupbearer.dev/inject";
/// Set on a pod that got it, with the version that put it there.
pub(super) const STATUS: &str = "cupbearer.dev/status";
/// The volumes of a pod that are ours.
pub(super) const VOLUMES: [&str; 5] = [CONFIG, SECRET, IDENTITY, STORE, EMPTY];

pub(super) const CONFIG: &str = "cupbearer-config";
pub(super) const SECRET: &str = "cupbearer-secret";
/// Where the Secret's keys are files.
pub(super) const SECRET_FILES: &str = "/run/secrets/cupbearer";
const IDENTITY: &str = "cupbearer-identity";
pub(super) const STORE: &str = "cupbearer-store";
const EMPTY: &str = "cupbearer-empty";
// The addresses of the listeners in the container's environment, which override the configuration.
pub(super) const SERVER_LISTEN: &str = "CUPBEARER__SERVER__LISTEN";
pub(super) const HEALTH_LISTEN: &str = "CUPBEARER__HEALTH__LISTEN";
pub(super) const CONTROL_LISTEN: &str = "CUPBEARER__CONTROL__LISTEN";
/// Seconds that a pod has for its end where it does not say.
const GRACE_PERIOD: u64 = 30;
// Ports that applications do not use, below the ephemeral ones.
const PROXY_PORT: u16 = 4280;
const HEALTH_PORT: u16 = 4281;
/// A name that all containers of a pod see, and that serves the sidecar's own alone. It needs no volume.
const CONTROL: &str = "unix:@cupbearer";
/// Of the image; no user of a node.
const USER: u32 = 65532;
