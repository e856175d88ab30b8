//! What a pod gets: the container, its volumes, and the annotation that remembers both.

use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::quantity::quantity;

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
    /// A quantity; `cupbearer.dev/memory-limit`.
    pub memory_limit: String,
    /// A quantity; `cupbearer.dev/cpu-request`.
    pub cpu_request: String,
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
            memory_limit: "64Mi".to_owned(),
            cpu_request: "10m".to_owned(),
        }
    }
}

impl Sidecar {
    /// Whether every field can be: a message for the first that cannot, with its name.
    ///
    /// # Errors
    /// The field's name as a flag has it, and what is wrong.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.image.is_empty() || self.image.contains(char::is_whitespace) {
            return Err(("image", format!("{:?} is no image", self.image)));
        }
        object_name(&self.config_map).map_err(|says| ("config-map", says))?;
        if let Some(secret) = &self.secret {
            object_name(secret).map_err(|says| ("secret", says))?;
        }
        self.check_ports()?;
        if self.identity_audience.as_deref().is_some_and(|audience| audience.trim().is_empty()) {
            return Err(("identity-audience", "it is empty".to_owned()));
        }
        let least = quantity(MEMORY_REQUEST).unwrap_or_default();
        match quantity(&self.memory_limit) {
            // Thousandths of bytes are a unit to Kubernetes, and a slip of whoever writes them.
            Some(limit) if !self.memory_limit.ends_with(['m', 'u', 'n']) && limit < MOST_BYTES => {
                if limit < least {
                    let says = format!(
                        "{:?} is less than the {MEMORY_REQUEST} that the sidecar asks for",
                        self.memory_limit
                    );
                    return Err(("memory-limit", says));
                }
            }
            _ => {
                return Err(("memory-limit", format!("{:?} is no quantity such as 64Mi", self.memory_limit)));
            }
        }
        if quantity(&self.cpu_request).is_none_or(|cores| cores < LEAST_CORES) {
            let says = format!("{:?} is no quantity such as 10m, of 1m or more", self.cpu_request);
            return Err(("cpu-request", says));
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), (&'static str, String)> {
        let proxy = match self.port {
            Port::Number(port) => Some(("port", "the proxy", port)),
            Port::Configured => None,
        };
        let health = Some(("health-port", "health", self.health_port));
        let control = self.control_port.map(|port| ("control-port", "the control surface", port));
        let mut used: Vec<(&str, u16)> = Vec::new();
        for (name, what, port) in [proxy, health, control].into_iter().flatten() {
            if port == 0 {
                return Err((name, "0 is not a port: use one from 1 to 65535".to_owned()));
            }
            if let Some((other, _)) = used.iter().find(|(_, taken)| *taken == port) {
                return Err((name, format!("{port} cannot be the port of {what}: {other} uses it")));
            }
            used.push((what, port));
        }
        Ok(())
    }

    /// The same with what a pod's own annotations say.
    pub(super) fn told_by(&self, annotations: Option<&Map<String, Value>>) -> Result<Self, Problem> {
        let mut told = self.clone();
        let Some(annotations) = annotations else { return Ok(told) };
        let field = |name: &str| format!("metadata.annotations[{PREFIX}{name}]");
        for (key, value) in annotations {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            let Some(text) = value.as_str() else {
                return Err(Problem::at(field(name), "an annotation must be a string: put it in quotes"));
            };
            match name {
                "image" => text.clone_into(&mut told.image),
                "config-map" => text.clone_into(&mut told.config_map),
                "secret" => told.secret = Some(text.to_owned()).filter(|name| !name.is_empty()),
                "identity-audience" => told.identity_audience = Some(text.to_owned()),
                "memory-limit" => text.clone_into(&mut told.memory_limit),
                "cpu-request" => text.clone_into(&mut told.cpu_request),
                "port" => {
                    told.port = Port::named(text).ok_or_else(|| {
                        Problem::at(field(name), format!("{text:?} is neither a port nor \"config\""))
                    })?;
                }
                "health-port" | "control-port" => {
                    let port =
                        text.parse().map_err(|_| Problem::at(field(name), format!("{text:?} is no port")))?;
                    match name {
                        "health-port" => told.health_port = port,
                        _ => told.control_port = Some(port),
                    }
                }
                "mode" => {
                    told.mode = Mode::named(text).ok_or_else(|| {
                        Problem::at(field(name), format!("{text:?} is neither native nor plain"))
                    })?;
                }
                "inject" | "status" => {}
                _ => {
                    let says = format!(
                        "unknown; known are {}",
                        NAMES.map(|name| format!("{PREFIX}{name}")).join(", ")
                    );
                    return Err(Problem::at(field(name), says));
                }
            }
        }
        told.check().map_err(|(name, says)| Problem::at(field(name), says))?;
        Ok(told)
    }

    pub(super) fn container(&self) -> Value {
        let mut container = json!({ "name": CONTAINER, "image": self.image, "args": ["run"] });
        let mut env = Vec::new();
        if let Port::Number(port) = self.port {
            env.push(json!({ "name": SERVER_LISTEN, "value": format!("127.0.0.1:{port}") }));
        }
        let health = format!("[::]:{}", self.health_port);
        env.push(json!({ "name": "CUPBEARER__HEALTH__LISTEN", "value": health }));
        let control =
            self.control_port.map_or_else(|| CONTROL.to_owned(), |port| format!("127.0.0.1:{port}"));
        env.push(json!({ "name": "CUPBEARER__CONTROL__LISTEN", "value": control }));
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
                "resources": {
                    "requests": { "cpu": self.cpu_request, "memory": MEMORY_REQUEST },
                    "limits": { "memory": self.memory_limit },
                },
                // What the restricted Pod Security Standard asks for.
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": USER,
                    "runAsGroup": USER,
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
            }),
        );
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
        mounts.push(json!({ "name": STORE, "mountPath": "/var/lib/cupbearer" }));
        merge(&mut container, json!({ "volumeMounts": mounts }));
        container
    }

    pub(super) fn volumes(&self) -> Vec<Value> {
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
        volumes.push(json!({ "name": STORE, "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }));
        volumes
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// RFC 1123 as Kubernetes has it for names of objects.
fn object_name(name: &str) -> Result<(), String> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c));
    if name.len() <= 253 && edge(name.chars().next()) && edge(name.chars().last()) && inside {
        return Ok(());
    }
    Err(format!("{name:?} is no name of an object: lower-case letters, digits, - and ."))
}

/// The container's name, and the default of its `ConfigMap`'s and Secret's.
pub(super) const CONTAINER: &str = "cupbearer";
/// Before the names of the annotations and labels.
pub(super) const PREFIX: &str = "cupbearer.dev/";
/// Set by whoever does not want the sidecar, or wants it: `"false"`, `"true"`.
pub(super) const INJECT: &str = "cupbearer.dev/inject";
/// Set on a pod that got it, with the version that put it there.
pub(super) const STATUS: &str = "cupbearer.dev/status";
/// The volumes of a pod that are ours.
pub(super) const VOLUMES: [&str; 4] = [CONFIG, SECRET, IDENTITY, STORE];

pub(super) const CONFIG: &str = "cupbearer-config";
pub(super) const SECRET: &str = "cupbearer-secret";
/// Where the Secret's keys are files.
pub(super) const SECRET_FILES: &str = "/run/secrets/cupbearer";
const IDENTITY: &str = "cupbearer-identity";
pub(super) const STORE: &str = "cupbearer-store";
const NAMES: [&str; 11] = [
    "inject",
    "image",
    "config-map",
    "secret",
    "port",
    "health-port",
    "control-port",
    "mode",
    "identity-audience",
    "memory-limit",
    "cpu-request",
];
const MEMORY_REQUEST: &str = "16Mi";
/// What an API server holds as a quantity's number.
const MOST_BYTES: f64 = 9.2e18;
/// Kubernetes has no finer ones; a little less, for what binary fractions make of 1m.
const LEAST_CORES: f64 = 0.000_999;
/// The listener's address in the container's environment, which overrides the configuration.
pub(super) const SERVER_LISTEN: &str = "CUPBEARER__SERVER__LISTEN";
// Ports that applications do not use, below the ephemeral ones.
const PROXY_PORT: u16 = 4280;
const HEALTH_PORT: u16 = 4281;
/// A name that all containers of a pod see, and that serves the sidecar's own alone. It needs no volume.
const CONTROL: &str = "unix:@cupbearer";
/// Of the image; nobody's on any node.
const USER: u32 = 65532;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotations_say_it_for_one_pod() {
        let annotations = json!({ "other": "x", "cupbearer.dev/port": "9000", "cupbearer.dev/secret": "", "cupbearer.dev/mode": "plain",
            "cupbearer.dev/image": "r.example/c:2", "cupbearer.dev/config-map": "orders", "cupbearer.dev/identity-audience": "api" });
        let told = Sidecar::default().told_by(annotations.as_object()).unwrap();
        assert_eq!((told.port, told.secret.as_deref(), told.mode), (Port::Number(9000), None, Mode::Plain));
        assert_eq!((told.image.as_str(), told.config_map.as_str()), ("r.example/c:2", "orders"));
        assert_eq!(told.identity_audience.as_deref(), Some("api"));
    }

    #[test]
    fn the_control_surface_is_on_a_socket_without_a_volume_unless_a_port_is_wanted() {
        let listen = |sidecar: &Sidecar| {
            let container = sidecar.container();
            let env = container["env"].as_array().unwrap().iter();
            let found = env.filter(|one| one["name"] == "CUPBEARER__CONTROL__LISTEN");
            found.map(|one| one["value"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(listen(&Sidecar::default()), ["unix:@cupbearer"]);
        let annotations = json!({ "cupbearer.dev/control-port": "4282" });
        let told = Sidecar::default().told_by(annotations.as_object()).unwrap();
        assert_eq!(listen(&told), ["127.0.0.1:4282"]);
    }

    #[test]
    fn each_listener_has_a_port_that_applications_do_not_use_and_an_annotation_that_moves_it() {
        let env = |annotations: Value| {
            let told = Sidecar::default().told_by(annotations.as_object()).unwrap();
            let container = told.container();
            let env: Vec<(String, String)> = container["env"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| {
                    (one["name"].as_str().unwrap().to_owned(), one["value"].as_str().unwrap().to_owned())
                })
                .collect();
            let port = container["ports"][0]["containerPort"].as_u64().unwrap();
            (env.into_iter().filter(|(name, _)| !name.contains("CONTROL")).collect::<Vec<_>>(), port)
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let usual = [pair(SERVER_LISTEN, "127.0.0.1:4280"), pair("CUPBEARER__HEALTH__LISTEN", "[::]:4281")];
        assert_eq!(env(json!({})), (usual.to_vec(), 4281));
        let moved = [pair(SERVER_LISTEN, "127.0.0.1:8080"), pair("CUPBEARER__HEALTH__LISTEN", "[::]:9901")];
        let annotations = json!({ "cupbearer.dev/port": "8080", "cupbearer.dev/health-port": "9901" });
        assert_eq!(env(annotations), (moved.to_vec(), 9901));
        let configured = json!({ "cupbearer.dev/port": "config" });
        assert_eq!(env(configured), (vec![pair("CUPBEARER__HEALTH__LISTEN", "[::]:4281")], 4281));
    }

    #[test]
    fn resources_may_be_said_in_every_unit_there_is() {
        for (memory_limit, cpu_request) in
            [("16Mi", "1m"), ("1Ei", "2"), ("64e6", "0.5"), ("33554432", "100m")]
        {
            let (memory_limit, cpu_request) = (memory_limit.to_owned(), cpu_request.to_owned());
            assert_eq!(Sidecar { memory_limit, cpu_request, ..Sidecar::default() }.check(), Ok(()));
        }
    }

    #[test]
    fn an_annotation_that_cannot_be_is_named() {
        for (name, value, says) in [
            ("port", json!("eighty"), "\"eighty\" is neither a port nor \"config\""),
            ("port", json!("0"), "0 is not a port"),
            ("health-port", json!("4280"), "4280 cannot be the port of health: the proxy uses it"),
            ("health-port", json!("65536"), "is no port"),
            ("control-port", json!("4281"), "4281 cannot be the port of the control surface: health uses it"),
            (
                "control-port",
                json!("4280"),
                "4280 cannot be the port of the control surface: the proxy uses it",
            ),
            ("control-port", json!("x"), "is no port"),
            ("port", json!(8081), "put it in quotes"),
            ("mode", json!("ambient"), "neither native nor plain"),
            ("secret", json!("Not_A_Name"), "is no name of an object"),
            ("config-map", json!(""), "is no name of an object"),
            ("image", json!("a b"), "is no image"),
            ("memory-limit", json!("lots"), "is no quantity"),
            ("memory-limit", json!("64m"), "is no quantity"),
            ("memory-limit", json!("16777215"), "less than the 16Mi"),
            ("memory-limit", json!("8Ei"), "is no quantity"),
            ("cpu-request", json!("0"), "of 1m or more"),
            ("cpu-request", json!("10Mb"), "is no quantity"),
            ("prot", json!("1"), "unknown; known are cupbearer.dev/inject"),
            ("identity-audience", json!(" "), "it is empty"),
        ] {
            let annotations = json!({ format!("cupbearer.dev/{name}"): value });
            let problem = Sidecar::default().told_by(annotations.as_object()).unwrap_err();
            assert_eq!(problem.field, format!("metadata.annotations[cupbearer.dev/{name}]"));
            assert!(problem.says.contains(says), "{}", problem.says);
        }
    }
}
