//! What a pod's annotations change of its sidecar, and whether a sidecar can be as it is wanted.

use serde_json::{Map, Value};

use super::overrides::Overrides;
use super::problem::Problem;
use super::resources::Amount;
use super::sidecar::{Mode, PREFIX, Port, RunAs, Sidecar};

impl Sidecar {
    /// Whether every field can be.
    ///
    /// # Errors
    /// Each that cannot: the name that a flag has for it, and what is wrong.
    pub fn check(&self) -> Result<(), Vec<(&'static str, String)>> {
        let mut wrong = Vec::new();
        wrong.extend(
            image_fault(&self.image).map(|why| ("image", format!("{:?} is no image: {why}", self.image))),
        );
        if let Some(policy) = self.image_pull_policy.as_deref()
            && !PULL_POLICIES.contains(&policy)
        {
            let says = format!("{policy:?} is none of {}", PULL_POLICIES.join(", "));
            wrong.push(("image-pull-policy", says));
        }
        wrong.extend(object_name(&self.config_map).err().map(|says| ("config-map", says)));
        let secret = self.secret.as_deref().map(object_name).and_then(Result::err);
        wrong.extend(secret.map(|says| ("secret", says)));
        wrong.extend(self.check_ports());
        if self.identity_audience.as_deref().is_some_and(|audience| audience.trim().is_empty()) {
            wrong.push(("identity-audience", "it is empty".to_owned()));
        }
        if self.run_as_user == RunAs::Id(0) {
            wrong.push(("run-as-user", "0 is root, and the sidecar does not run as root".to_owned()));
        }
        wrong.extend(self.resources.check());
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn check_ports(&self) -> Vec<(&'static str, String)> {
        let usual = Self::default();
        let proxy = match self.port {
            Port::Number(port) => Some(("port", "the proxy", port, self.port == usual.port)),
            Port::Configured => None,
        };
        let health = ("health-port", "health", self.health_port, self.health_port == usual.health_port);
        let control = self.control_port.map(|port| ("control-port", "the control surface", port, false));
        let mut wrong = Vec::new();
        let mut others: Vec<(&str, &str, u16, bool)> = Vec::new();
        for listener in [proxy, Some(health), control].into_iter().flatten() {
            let (name, _, port, is_usual) = listener;
            if port == 0 {
                wrong.push((name, "0 is not a port: use one from 1 to 65535".to_owned()));
                continue;
            }
            if let Some(other) = others.iter().copied().find(|(_, _, taken, _)| *taken == port) {
                // The one that was chosen is to blame, not the one that has its default.
                let (chosen, kept) = if is_usual && !other.3 { (other, listener) } else { (listener, other) };
                let by_default =
                    if kept.3 { format!(" by default; help: {} moves it", kept.0) } else { String::new() };
                let says =
                    format!("{port} cannot be the port of {}: {} uses it{by_default}", chosen.1, kept.1);
                wrong.push((chosen.0, says));
            }
            others.push(listener);
        }
        wrong
    }

    /// The same with what a pod's own annotations set.
    pub(super) fn annotated(&self, annotations: Option<&Map<String, Value>>) -> Result<Self, Vec<Problem>> {
        let mut sidecar = self.clone();
        let Some(annotations) = annotations else { return Ok(sidecar) };
        let problem =
            |name: &str, says: String| Problem::at(format!("metadata.annotations[{PREFIX}{name}]"), says);
        let mut problems = Vec::new();
        for (key, value) in annotations {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            let set = match value.as_str() {
                Some(text) => sidecar.set(name, text),
                // Whether the sidecar is wanted is judged apart.
                None if name == "inject" => Ok(()),
                None => Err("an annotation must be a string: put it in quotes".to_owned()),
            };
            problems.extend(set.err().map(|says| problem(name, says)));
        }
        let wrong = sidecar.check().err().unwrap_or_default();
        problems.extend(wrong.into_iter().map(|(name, says)| problem(name, says)));
        if problems.is_empty() { Ok(sidecar) } else { Err(problems) }
    }

    /// Sets the field that the annotation `name` stands for.
    fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let port = || text.parse().map_err(|_| format!("{text:?} is no port"));
        let flag = || match text {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(format!("{text:?} is neither \"true\" nor \"false\"")),
        };
        match name {
            "image" => text.clone_into(&mut self.image),
            "image-pull-policy" => self.image_pull_policy = Some(text.to_owned()),
            "config-map" => text.clone_into(&mut self.config_map),
            "secret" => self.secret = Some(text.to_owned()).filter(|name| !name.is_empty()),
            "identity-audience" => self.identity_audience = Some(text.to_owned()),
            "service-account-token" => self.service_account_token = flag()?,
            "store-volume" => self.store_volume = flag()?,
            "after" => self.after = names(text),
            "container" => self.overrides.push(Overrides::named(text)?),
            "health-port" => self.health_port = port()?,
            "control-port" => self.control_port = Some(port()?),
            "port" => {
                self.port =
                    Port::named(text).ok_or_else(|| format!("{text:?} is neither a port nor \"config\""))?;
            }
            "run-as-user" => {
                self.run_as_user = RunAs::named(text)
                    .ok_or_else(|| format!("{text:?} is neither a number nor \"image\""))?;
            }
            "run-as-group" => {
                let group = RunAs::named(text)
                    .ok_or_else(|| format!("{text:?} is neither a number nor \"image\""))?;
                self.run_as_group = Some(group);
            }
            "mode" => {
                self.mode =
                    Mode::named(text).ok_or_else(|| format!("{text:?} is neither native nor plain"))?;
            }
            "inject" | "status" => {}
            _ => {
                let Some(amount) = self.resources.amount(name) else {
                    let known = NAMES.map(|name| format!("{PREFIX}{name}")).join(", ");
                    return Err(format!("unknown; known are {known}"));
                };
                *amount = Amount::named(text);
            }
        }
        Ok(())
    }
}

/// The names in a list with commas.
pub(super) fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What keeps a node from pulling an image by this name, as the registries' own grammar has it.
fn image_fault(image: &str) -> Option<&'static str> {
    let (named, digest) =
        image.split_once('@').map_or((image, None), |(named, digest)| (named, Some(digest)));
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
        if hex.is_none_or(|hex| !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))) {
            return Some("a digest is sha256: and 64 hexadecimal digits");
        }
    }
    // A colon before the last slash is that of a registry's port.
    let (path, tag) = match named.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((path, tag)) => (path, Some(tag)),
        None => (named, None),
    };
    let is_tag = |tag: &str| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        tag.len() <= 128
            && tag.bytes().next().is_some_and(is_word)
            && tag.bytes().all(|byte| is_word(byte) || b".-".contains(&byte))
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Some("a tag has letters, digits, _ . and -");
    }
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let path = match path.split_once('/') {
        Some((host, path)) if is_host(host) => path,
        _ => path,
    };
    let is_part = |part: &str| {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().next().is_some_and(is_letter)
            && part.bytes().last().is_some_and(is_letter)
            && part.bytes().all(|byte| is_letter(byte) || b"._-".contains(&byte))
    };
    (!path.split('/').all(is_part))
        .then_some("its path has lower-case letters, digits, and . _ - between them")
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

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const NAMES: [&str; 22] = [
    "inject",
    "image",
    "image-pull-policy",
    "config-map",
    "secret",
    "port",
    "health-port",
    "control-port",
    "mode",
    "after",
    "identity-audience",
    "service-account-token",
    "store-volume",
    "run-as-user",
    "run-as-group",
    "cpu-request",
    "cpu-limit",
    "memory-request",
    "memory-limit",
    "ephemeral-storage-request",
    "ephemeral-storage-limit",
    "container",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::sidecar::{SERVER_LISTEN, Setting};
    use super::*;

    #[test]
    fn annotations_say_it_for_one_pod() {
        let annotations = json!({ "other": "x", "cupbearer.dev/port": "9000", "cupbearer.dev/secret": "", "cupbearer.dev/mode": "plain",
            "cupbearer.dev/image": "r.example/c:2", "cupbearer.dev/config-map": "orders", "cupbearer.dev/identity-audience": "api" });
        let told = Sidecar::default().annotated(annotations.as_object()).unwrap();
        assert_eq!((told.port, told.secret.as_deref(), told.mode), (Port::Number(9000), None, Mode::Plain));
        assert_eq!((told.image.as_str(), told.config_map.as_str()), ("r.example/c:2", "orders"));
        assert_eq!(told.identity_audience.as_deref(), Some("api"));
    }

    #[test]
    fn the_control_surface_is_on_a_socket_without_a_volume_unless_a_port_is_wanted() {
        let listen = |sidecar: &Sidecar| {
            let container = sidecar.container(&Setting::default());
            let env = container["env"].as_array().unwrap().iter();
            let found = env.filter(|one| one["name"] == "CUPBEARER__CONTROL__LISTEN");
            found.map(|one| one["value"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(listen(&Sidecar::default()), ["unix:@cupbearer"]);
        let annotations = json!({ "cupbearer.dev/control-port": "4282" });
        let told = Sidecar::default().annotated(annotations.as_object()).unwrap();
        assert_eq!(listen(&told), ["127.0.0.1:4282"]);
    }

    #[test]
    fn a_plain_sidecar_serves_for_half_of_the_pod_s_grace_period_after_sigterm() {
        let variables = |mode, grace| {
            let setting = Setting { grace, ..Setting::default() };
            let container = Sidecar { mode, ..Sidecar::default() }.container(&setting);
            let env = container["env"].as_array().unwrap().iter();
            let all = env
                .map(|one| format!("{}={}", one["name"].as_str().unwrap(), one["value"].as_str().unwrap()));
            all.filter(|one| one.contains("DRAIN") || one.contains("GRACE")).collect::<Vec<_>>()
        };
        for (grace, want) in [(30, ["15s", "10s", "30s"]), (60, ["30s", "20s", "60s"]), (0, ["0s"; 3])] {
            let names = [
                "CUPBEARER__SERVER__DRAIN_DELAY",
                "CUPBEARER__SERVER__DRAIN_TIMEOUT",
                "CUPBEARER_GRACE_PERIOD",
            ];
            let want: Vec<_> =
                names.iter().zip(want).map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(variables(Mode::Plain, grace), want);
        }
        assert!(variables(Mode::Native, 30).is_empty(), "it gets SIGTERM when the application has ended");
    }

    #[test]
    fn each_listener_has_a_port_that_applications_do_not_use_and_an_annotation_that_moves_it() {
        let env = |annotations: Value| {
            let told = Sidecar::default().annotated(annotations.as_object()).unwrap();
            let container = told.container(&Setting::default());
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
        let usual = [pair(SERVER_LISTEN, "localhost:4280"), pair("CUPBEARER__HEALTH__LISTEN", "[::]:4281")];
        assert_eq!(env(json!({})), (usual.to_vec(), 4281));
        let moved = [pair(SERVER_LISTEN, "localhost:8080"), pair("CUPBEARER__HEALTH__LISTEN", "[::]:9901")];
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
            let annotations = json!({ "cupbearer.dev/memory-limit": memory_limit, "cupbearer.dev/cpu-request": cpu_request });
            assert!(Sidecar::default().annotated(annotations.as_object()).is_ok());
        }
    }

    #[test]
    fn an_annotation_that_cannot_be_is_named() {
        for (name, value, says) in [
            ("port", json!("eighty"), "\"eighty\" is neither a port nor \"config\""),
            ("port", json!("0"), "0 is not a port"),
            ("health-port", json!("4280"), "4280 cannot be the port of health: the proxy uses it"),
            ("health-port", json!("65536"), "is no port"),
            (
                "port",
                json!("4281"),
                "4281 cannot be the port of the proxy: health uses it by default; help: health-port moves it",
            ),
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
            ("image", json!("r.io/c@sha256:abc"), "64 hexadecimal digits"),
            ("image", json!("R.IO/Up"), "lower-case letters"),
            ("image", json!("r.io/c:"), "a tag has letters"),
            ("image", json!("r.io//c"), "lower-case letters"),
            ("memory-limit", json!("lots"), "is no quantity"),
            ("memory-limit", json!("64m"), "is no quantity"),
            ("memory-limit", json!("16777215"), "less than the 16Mi"),
            ("memory-limit", json!("8Ei"), "is no quantity"),
            ("cpu-request", json!("0"), "of 1m or more"),
            ("cpu-request", json!("10Mb"), "is no quantity"),
            ("memory-request", json!("128Mi0"), "is no quantity"),
            ("ephemeral-storage-limit", json!("10m"), "is no quantity"),
            ("image-pull-policy", json!("always"), "is none of Always, IfNotPresent, Never"),
            ("run-as-user", json!("0"), "0 is root"),
            ("run-as-user", json!("root"), "is neither a number nor \"image\""),
            ("store-volume", json!("yes"), "is neither \"true\" nor \"false\""),
            ("container", json!("{\"name\":\"x\"}"), "name is the sidecar's own"),
            ("prot", json!("1"), "unknown; known are cupbearer.dev/inject"),
            ("identity-audience", json!(" "), "it is empty"),
        ] {
            let annotations = json!({ format!("cupbearer.dev/{name}"): value });
            let problem = Sidecar::default().annotated(annotations.as_object()).unwrap_err();
            let [problem] = problem.as_slice() else { panic!("{problem:?}") };
            assert_eq!(problem.field, format!("metadata.annotations[cupbearer.dev/{name}]"));
            assert!(problem.says.contains(says), "{}", problem.says);
        }
    }

    #[test]
    fn every_annotation_that_cannot_be_is_named() {
        let wrong = [
            ("prot", "1"),
            ("port", "x"),
            ("health-port", "y"),
            ("mode", "z"),
            ("memory-limit", "lots"),
            ("cpu-request", "0"),
            ("secret", "A"),
            ("config-map", ""),
            ("image-pull-policy", "always"),
        ];
        let annotations: Map<String, Value> =
            wrong.iter().map(|(name, value)| (format!("{PREFIX}{name}"), json!(value))).collect();
        let problems = Sidecar::default().annotated(Some(&annotations)).unwrap_err();
        let mut named: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        let mut all: Vec<String> =
            wrong.iter().map(|(name, _)| format!("metadata.annotations[{PREFIX}{name}]")).collect();
        named.sort_unstable();
        all.sort_unstable();
        assert_eq!(named, all);
    }

    #[test]
    fn images_as_registries_name_them_are_taken() {
        let digest = format!("registry:5000/team/c_1.0-a@sha256:{}", "0a".repeat(32));
        for image in ["cupbearer:0.1.0", "localhost/c", "R.IO:443/a/b:V1.2_3-rc", digest.as_str()] {
            assert_eq!(image_fault(image), None, "{image}");
        }
    }
}
