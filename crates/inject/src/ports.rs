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
        let health = Taken { port: sidecar.health_port, what: HEALTH.to_owned(), option: HEALTH_OPTION };
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
                Some(HEALTH_LISTEN) => (HEALTH, HEALTH_OPTION),
                Some(CONTROL_LISTEN) => (CONTROL, "control-port"),
                _ => return Vec::new(),
            };
            let ports = ports_in(variable["value"].as_str().unwrap_or_default());
            ports.into_iter().map(|port| Taken { port, what: what.to_owned(), option }).collect()
        });
        Self(taken.collect())
    }

    /// What of `container`, which is at `field` in its pod, has one of them.
    pub(super) fn check(&self, container: &Value, field: &str) -> Vec<Problem> {
        let mut problems = self.check_ports(&container["ports"], field);
        // What has no entry in `ports` listens all the same: its probes show it.
        for (probe, kind, port) in probed_ports(container) {
            // The sidecar's own health may well be another container's probe.
            if let Some(taken) = self.taken(Some(port)).filter(|taken| taken.option != HEALTH_OPTION) {
                problems.push(Problem::at(format!("{field}.{probe}.{kind}.port"), taken.says()));
            }
        }
        problems
    }

    /// What hints that `container` listens on one of them, and is no proof.
    pub(super) fn hints(&self, container: &Value) -> Vec<String> {
        let mut found: Vec<(String, &Taken)> = Vec::new();
        for (probe, kind, port) in probed_ports(container) {
            let path = container[probe][kind]["path"].as_str();
            if let Some(taken) = self.taken(Some(port)).filter(|taken| taken.option == HEALTH_OPTION)
                && !path.is_some_and(|path| ["/readyz", "/livez"].contains(&path))
            {
                found.push((format!("its {probe} has"), taken));
            }
        }
        let words = |list: &str| container[list].as_array().into_iter().flatten().filter_map(Value::as_str);
        let words = words("command").chain(words("args")).map(|word| ("its arguments have".to_owned(), word));
        let variables = container["env"].as_array().into_iter().flatten().filter_map(|variable| {
            let name = variable["name"].as_str().unwrap_or_default();
            Some((format!("its variable {name} has"), variable["value"].as_str()?))
        });
        for (place, text) in words.chain(variables) {
            found.extend(self.taken(listened_port(text)).map(|taken| (place, taken)));
        }
        let says = |(place, taken): (String, &Taken)| {
            let Taken { port, what, option } = taken;
            format!(
                "{place} {port}, which is the port that the sidecar {what}; where the container listens there, one of the two cannot \
                 start; help: cupbearer.dev/{option} moves the sidecar's"
            )
        };
        found.into_iter().map(says).collect()
    }

    /// Those that a process without a capability may not listen on.
    pub(super) fn privileged(&self, first_free: u64) -> Vec<String> {
        let low = self.0.iter().filter(|taken| u64::from(taken.port) < first_free);
        let says = |Taken { port, option, .. }: &Taken| {
            format!(
                "the sidecar's port {port} is below {first_free}: where the node keeps those to root, the sidecar cannot listen there; help: \
                 cupbearer.dev/{option} moves it, or spec.securityContext.sysctls sets net.ipv4.ip_unprivileged_port_start"
            )
        };
        let mut notes: Vec<String> = low.map(says).collect();
        notes.dedup();
        notes
    }

    fn taken(&self, port: Option<u16>) -> Option<&Taken> {
        self.0.iter().find(|taken| Some(taken.port) == port)
    }

    fn check_ports(&self, ports: &Value, field: &str) -> Vec<Problem> {
        let ports = match ports {
            Value::Null => return Vec::new(),
            Value::Array(ports) => ports,
            _ => return vec![Problem::at(format!("{field}.ports"), "it must be a list")],
        };
        let check = |(at, port)| self.check_port(port, format!("{field}.ports[{at}]")).err();
        ports.iter().enumerate().filter_map(check).collect()
    }

    fn check_port(&self, port: &Value, field: String) -> Result<(), Problem> {
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
            return Ok(());
        }
        self.taken(Some(number)).map_or(Ok(()), |taken| Err(Problem::at(field, taken.says())))
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

/// The numeric ports that the probes of `container` ask in their own pod, with the probe and its kind.
fn probed_ports(container: &Value) -> impl Iterator<Item = (&'static str, &'static str, u16)> {
    let probes = ["startupProbe", "readinessProbe", "livenessProbe"].into_iter();
    let kinds = probes.flat_map(|probe| ["httpGet", "tcpSocket", "grpc"].map(|kind| (probe, kind)));
    kinds.filter_map(|(probe, kind)| {
        let handler = &container[probe][kind];
        let port = handler["port"].as_u64().filter(|_| handler["host"].is_null())?;
        Some((probe, kind, u16::try_from(port).ok()?))
    })
}

/// The port that an argument or a variable may have a program listen on: `4280`, `:4280`, `0.0.0.0:4280`, `--port=4280`. The address of
/// a server that is called is none.
fn listened_port(text: &str) -> Option<u16> {
    let value = text.rsplit_once('=').map_or(text, |(_, value)| value).trim();
    let (host, port) = value.rsplit_once(':').unwrap_or(("", value));
    ["", "*", "0.0.0.0", "[::]"].contains(&host).then(|| port.parse().ok()).flatten()
}

const HEALTH_OPTION: &str = "health-port";
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
