//! The ports that the sidecar takes in a pod, where every container shares them, and whether the application has one.

use serde_json::Value;

use super::configuration::Configuration;
use super::problem::Problem;
use super::sidecar::{CONTROL_LISTEN, HEALTH_LISTEN, Port, SERVER_LISTEN, Sidecar};

/// The ports of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports(Vec<Taken>);

/// A port that is the sidecar's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    port: u16,
    /// What the sidecar does with it: `listens on`.
    what: String,
    /// The option that moves it.
    option: &'static str,
}

impl Ports {
    /// Those of a sidecar that is put into a pod.
    pub(super) fn of(sidecar: &Sidecar, configuration: &Configuration) -> Self {
        let (proxy, what) = match (sidecar.port, &configuration.server) {
            (Port::Number(port), _) => (vec![port], "listens on".to_owned()),
            (Port::Configured, Some(ports)) => {
                (ports.clone(), format!("listens on (server.listen in the {})", configuration.source))
            }
            // Nothing is known of them.
            (Port::Configured, None) => (Vec::new(), String::new()),
        };
        let proxy = proxy.into_iter().map(|port| Taken { port, what: what.clone(), option: "port" });
        let health = Taken { port: sidecar.health_port, what: HEALTH.to_owned(), option: "health-port" };
        let control = sidecar.control_port;
        let control = control.map(|port| Taken { port, what: CONTROL.to_owned(), option: "control-port" });
        // The container's environment says where health and control are, whatever the configuration says.
        Self(proxy.chain([health]).chain(control).collect())
    }

    /// Those of a sidecar as it is in its pod.
    pub(super) fn of_container(container: &Value) -> Self {
        let environment = container["env"].as_array().into_iter().flatten();
        let taken = environment.flat_map(|variable| {
            let (what, option) = match variable["name"].as_str() {
                Some(SERVER_LISTEN) => ("listens on", "port"),
                Some(HEALTH_LISTEN) => (HEALTH, "health-port"),
                Some(CONTROL_LISTEN) => (CONTROL, "control-port"),
                _ => return Vec::new(),
            };
            let ports = ports_in(variable["value"].as_str().unwrap_or_default());
            ports.into_iter().map(|port| Taken { port, what: what.to_owned(), option }).collect()
        });
        Self(taken.collect())
    }

    /// Whether `container`, which is at `field` in its pod, has one of them.
    pub(super) fn check(&self, container: &Value, field: &str) -> Result<(), Problem> {
        self.check_ports(&container["ports"], field)?;
        // What has no entry in `ports` listens all the same: its probes tell.
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            for kind in ["httpGet", "tcpSocket", "grpc"] {
                let probed = &container[probe][kind];
                if !probed["host"].is_null() {
                    continue;
                }
                let port = probed["port"].as_u64().and_then(|port| u16::try_from(port).ok());
                // The sidecar's own health may well be another container's probe.
                if let Some(taken) = self.taken(port).filter(|taken| taken.option != "health-port") {
                    return Err(Problem::at(format!("{field}.{probe}.{kind}.port"), taken.says()));
                }
            }
        }
        Ok(())
    }

    fn taken(&self, port: Option<u16>) -> Option<&Taken> {
        self.0.iter().find(|taken| Some(taken.port) == port)
    }

    fn check_ports(&self, ports: &Value, field: &str) -> Result<(), Problem> {
        let ports = match ports {
            Value::Null => return Ok(()),
            Value::Array(ports) => ports,
            _ => return Err(Problem::at(format!("{field}.ports"), "it must be a list")),
        };
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
            if let Some(taken) = self.taken(Some(number)) {
                return Err(Problem::at(field, taken.says()));
            }
        }
        Ok(())
    }
}

impl Taken {
    fn says(&self) -> String {
        let Self { port, what, option } = self;
        format!(
            "{port} is the port that the sidecar {what}; help: choose another for the sidecar, by --{option} or the pod's annotation \
             cupbearer.dev/{option}"
        )
    }
}

/// The ports of a listener as the environment has it: one address, or a list of them.
fn ports_in(listen: &str) -> Vec<u16> {
    let port = |address: &str| address.rsplit(':').next()?.trim().parse().ok();
    let list = format!("listen = {listen}").parse::<toml::Table>();
    match list.ok().and_then(|mut table| table.remove("listen")) {
        Some(toml::Value::Array(addresses)) => {
            addresses.iter().filter_map(toml::Value::as_str).filter_map(port).collect()
        }
        _ => port(listen).into_iter().collect(),
    }
}

const HEALTH: &str = "has for health and metrics";
const CONTROL: &str = "has for control";

#[cfg(test)]
mod tests {
    use super::ports_in;

    #[test]
    fn the_ports_of_a_listener_are_found_in_every_form_that_the_environment_may_have() {
        for (listen, ports) in [
            ("127.0.0.1:4280", &[4280][..]),
            ("[::]:4281", &[4281]),
            ("localhost:4280", &[4280]),
            (r#"["127.0.0.1:4280", "[::1]:4280"]"#, &[4280, 4280]),
            ("unix:@cupbearer", &[]),
            ("none", &[]),
            ("", &[]),
        ] {
            assert_eq!(ports_in(listen), ports, "{listen}");
        }
    }
}
