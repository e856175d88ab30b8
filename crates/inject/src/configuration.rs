//! What the `config.toml` of a sidecar says of its pod: where it listens, and which files it needs.

/// What a configuration says, where it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Configuration {
    /// The ports of `server.listen`; `None` where the configuration is not known.
    pub(super) server: Option<Vec<u16>>,
    /// Which configuration: `ConfigMap shop/orders, document 2`.
    pub(super) source: String,
    /// It names a file in [`STORE_FOLDER`].
    pub(super) stores: bool,
    /// It names a file of the pod's own service account.
    pub(super) uses_account: bool,
}

impl Configuration {
    /// Of the `config.toml` that `source` holds. What is broken in it is left to `cupbearer check`.
    pub(super) fn of(config: &toml::Table, source: String) -> Self {
        // Of an IP address or localhost and a port, and of a port alone.
        let port = |value: &toml::Value| {
            let text = value.as_str().filter(|text| !text.starts_with("unix:"))?;
            text.rsplit(':').next()?.parse().ok()
        };
        let server = match config.get("server").and_then(|section| section.get("listen")) {
            None => vec![USUAL_PORT],
            Some(toml::Value::Array(addresses)) => addresses.iter().filter_map(port).collect(),
            Some(address) => port(address).into_iter().collect(),
        };
        let mut texts = Vec::new();
        strings(&toml::Value::Table(config.clone()), "", &mut texts);
        let names = |folder: &str| {
            texts.iter().any(|(_, text)| {
                text.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        Self {
            server: Some(server),
            source,
            stores: names(STORE_FOLDER),
            uses_account: names(ACCOUNT_FOLDER),
        }
    }
}

/// Each string in `value`, with the key that it is of.
pub(super) fn strings(value: &toml::Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        toml::Value::String(text) => found.push((path.to_owned(), text.clone())),
        toml::Value::Array(items) => items.iter().for_each(|item| strings(item, path, found)),
        toml::Value::Table(entries) => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                strings(value, &path, found);
            }
        }
        _ => {}
    }
}

/// Where the sidecar may write, if its pod has a volume for that.
pub(super) const STORE_FOLDER: &str = "/var/lib/cupbearer";
/// Where Kubernetes mounts the token of the pod's service account into every container.
pub(super) const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The program's own default for `server.listen`.
const USUAL_PORT: u16 = 8080;
