//! The ports that the sidecar takes in a pod, where every container shares them, and whether the application has one.

use serde_json::Value;

use super::problem::Problem;
use super::sidecar::{Port, Sidecar};

/// The listeners that the configuration of a sidecar names, where it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listeners {
    /// Of `server.listen`; `None` where that is not said.
    server: Option<Vec<u16>>,
    /// Which configuration: `ConfigMap shop/orders, document 2`.
    source: String,
}

/// A port that is the sidecar's.
struct Taken {
    port: u16,
    /// What it is, and what can be done.
    says: String,
}

impl Listeners {
    /// Those of the `config.toml` that `source` holds. What is broken in it is left to `cupbearer check`.
    pub(super) fn of(config: &toml::Table, source: String) -> Self {
        let port =
            |value: &toml::Value| value.as_str()?.parse().ok().map(|at: std::net::SocketAddr| at.port());
        let listen = config.get("server").and_then(|section| section.get("listen"));
        let server = listen.map(|value| match value {
            toml::Value::Array(addresses) => addresses.iter().filter_map(port).collect(),
            address => port(address).into_iter().collect(),
        });
        Self { server, source }
    }

    fn taken(&self, sidecar: &Sidecar) -> Vec<Taken> {
        let taken = |port: u16, what: &str, option: &str| Taken {
            port,
            says: format!(
                "{port} is the port that the sidecar {what}; help: choose another for the sidecar, by --{option} or the pod's \
                 annotation cupbearer.dev/{option}"
            ),
        };
        let (proxy, what) = match (sidecar.port, &self.server) {
            (Port::Number(port), _) => (vec![port], "listens on".to_owned()),
            (Port::Configured, Some(ports)) => {
                (ports.clone(), format!("listens on (server.listen in the {})", self.source))
            }
            (Port::Configured, None) => {
                (vec![UNCONFIGURED], "listens on where server.listen is not set".to_owned())
            }
        };
        let proxy = proxy.into_iter().map(|port| taken(port, &what, "port"));
        let health = taken(sidecar.health_port, "has for health and metrics", "health-port");
        let control = sidecar.control_port.map(|port| taken(port, "has for control", "control-port"));
        // The container's environment says where health and control are, whatever the configuration says.
        proxy.chain([health]).chain(control).collect()
    }

    /// Whether `container`, which is at `field` in its pod, has a port that `sidecar` takes.
    pub(super) fn check(&self, container: &Value, field: &str, sidecar: &Sidecar) -> Result<(), Problem> {
        let ports = match &container["ports"] {
            Value::Null => return Ok(()),
            Value::Array(ports) => ports,
            _ => return Err(Problem::at(format!("{field}.ports"), "it must be a list")),
        };
        let taken = self.taken(sidecar);
        for (at, port) in ports.iter().enumerate() {
            let field = format!("{field}.ports[{at}]");
            let Some(port) = port.as_object() else {
                return Err(Problem::at(field, "it must be a mapping with a containerPort"));
            };
            let field = field + ".containerPort";
            let number = match port.get("containerPort") {
                Some(Value::String(text)) if text.parse::<u16>().is_ok() => {
                    return Err(Problem::at(field, format!("it must be a number: {text}, without quotes")));
                }
                Some(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
                None => return Err(Problem::at(field, "it is missing")),
            };
            let Some(number) = number.filter(|number| *number > 0) else {
                return Err(Problem::at(field, "it must be a number from 1 to 65535"));
            };
            // UDP ports are others than TCP's.
            if port.get("protocol").and_then(Value::as_str).is_some_and(|protocol| protocol != "TCP") {
                continue;
            }
            if let Some(taken) = taken.iter().find(|taken| taken.port == number) {
                return Err(Problem::at(field, taken.says.as_str()));
            }
        }
        Ok(())
    }
}

/// The program's own default for `server.listen`.
const UNCONFIGURED: u16 = 8080;
