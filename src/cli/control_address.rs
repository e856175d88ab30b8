//! Where the running proxy is reached: as told, else as the environment says, else its configuration, else the default.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::{self, Options, Problems, Settings, Source};
use crate::control::Client;
use crate::net::local_address::LocalAddress;
use anyhow::{anyhow, bail};
use clap::Args;

use super::output::complain;
use super::renew::only;

/// Which running proxy is meant.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// The running proxy's configuration, which says where its listeners are
    #[arg(long, value_name = "FILE", env = "CUPBEARER_CONFIG")]
    config: Option<PathBuf>,
    /// The running proxy's control listener; default: as `CUPBEARER__CONTROL__LISTEN` says, else its configuration,
    /// else 127.0.0.1:9902. An IP address and a port, unix:PATH, unix:@NAME, or none
    #[arg(long, value_name = "ADDRESS", env = "CUPBEARER_CONTROL", value_parser = surface)]
    control: Option<Surface>,
}

/// Where a control surface is; `None`: there is none.
#[derive(Clone, Debug)]
struct Surface(Option<LocalAddress>);

/// A listener that commands look for: how it is named, and where it is if nothing says so.
struct Place<T> {
    flag: &'static str,
    variable: &'static str,
    /// Reads the variable.
    read: fn(&str) -> Option<T>,
    /// What the variable must be.
    expected: &'static str,
    /// Finds it in a configuration, without a look at any secret.
    of: fn(&Source) -> Result<T, Problems>,
    default: T,
    /// The default as a person writes it.
    usual: &'static str,
}

impl Reach {
    /// The settings, where there is a configuration that can be read. What is wrong with one is for `check` to say.
    pub(super) fn settings(&self) -> Option<Settings> {
        settings(self.config.clone()).ok()
    }

    /// The settings for what is done here because no proxy runs: as strict as the proxy is.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(super) fn own_settings(&self) -> Result<Settings, Problems> {
        load(self.config.clone(), Options::default())
    }

    /// The settings and the token that is meant where no proxy runs: as told, else the only one. `None`: there is no
    /// configuration that can be read.
    ///
    /// # Errors
    /// Where the configuration has no such token, or several and none was told.
    pub(super) fn configured(&self, told: Option<&str>) -> anyhow::Result<Option<(Settings, String)>> {
        let Some(settings) = self.settings() else { return Ok(None) };
        let names: Vec<String> = settings.tokens.keys().cloned().collect();
        let name = match told {
            Some(name) => name.to_owned(),
            None => only(names.clone())?,
        };
        if !settings.tokens.contains_key(&name) {
            bail!("there is no token {name}; there is {}", names.join(", "));
        }
        Ok(Some((settings, name)))
    }

    /// What a command that is advised takes to mean the same proxy: the options that were given, each with a space before
    /// it.
    pub(super) fn options(&self) -> String {
        let control = self.control.as_ref().map(|Surface(address)| {
            let address = address.as_ref().map_or_else(|| NONE.to_owned(), ToString::to_string);
            format!(" --control {}", quoted(&address))
        });
        self.config_option() + &control.unwrap_or_default()
    }

    /// The same of a command that reads the configuration alone.
    pub(super) fn config_option(&self) -> String {
        let config =
            self.config.as_ref().map(|file| format!(" --config {}", quoted(&file.to_string_lossy())));
        config.unwrap_or_default()
    }

    /// A client of the proxy that is to read this configuration again.
    ///
    /// # Errors
    /// What is wrong with a configuration that cannot even be read for where its proxy is.
    pub(super) fn client_to_reload(&self) -> anyhow::Result<Result<Client, Problems>> {
        let is_there = self.config.is_some() || PathBuf::from(DEFAULT_FILE).exists();
        if self.is_by_configuration() && is_there {
            return Ok((CONTROL.of)(&source(self.config.clone())).map(Client::new));
        }
        Ok(Ok(self.client()?))
    }

    /// Whether neither an option nor a variable says where the proxy is: its configuration does.
    pub(super) fn is_by_configuration(&self) -> bool {
        self.control.is_none() && env::var_os(CONTROL.variable).is_none()
    }

    /// A client of the proxy that is meant.
    ///
    /// # Errors
    /// Where a configuration was named that does not say where its proxy is: to ask another one would be worse.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(find(
            self.control.clone().map(|Surface(address)| address),
            self.config.clone(),
            CONTROL,
        )?))
    }
}

/// The health listener's address, by the same rules as the control listener's.
pub(super) fn health(told: Option<SocketAddr>, config: Option<PathBuf>) -> anyhow::Result<SocketAddr> {
    find(told, config, HEALTH)
}

/// Reads an address as a flag has it.
pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let is_port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let loopback = match text.split_once(':') {
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => Some(format!("127.0.0.1:{port}")),
        None if is_port => Some(format!("127.0.0.1:{text}")),
        _ => None,
    };
    loopback
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "an IP address and a port, such as 127.0.0.1:9902")
}

/// Reads where the control surface is, as a flag has it.
fn surface(text: &str) -> Result<Surface, &'static str> {
    if text == NONE { Ok(Surface(None)) } else { local_address(text).map(|address| Surface(Some(address))) }
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@+,=%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn local_address(text: &str) -> Result<LocalAddress, &'static str> {
    LocalAddress::parse(text).or_else(|| address(text).ok().map(LocalAddress::Tcp)).ok_or(
        "an IP address and a port, such as 127.0.0.1:9902, or a Unix socket: unix:PATH, unix:@NAME, or none",
    )
}

fn find<T>(told: Option<T>, config: Option<PathBuf>, place: Place<T>) -> anyhow::Result<T> {
    if let Some(told) = told {
        return Ok(told);
    }
    if let Some(text) = env::var_os(place.variable) {
        let read = text.to_str().and_then(|text| (place.read)(text.trim_matches('"')));
        return read.ok_or_else(|| {
            anyhow!("variable {}: must be {}, such as {}", place.variable, place.expected, place.usual)
        });
    }
    let named = config.is_some();
    match (place.of)(&source(config)) {
        Ok(found) => Ok(found),
        Err(problems) if named => Err(anyhow!(
            "the configuration cannot be read, so its proxy is not found:\n{problems}\nhelp: fix it, or give {} ADDRESS",
            place.flag
        )),
        // No file, none meant: the defaults are what is left.
        Err(_) if !PathBuf::from(DEFAULT_FILE).exists() => Ok(place.default),
        Err(problems) => {
            complain(&format!(
                "./{DEFAULT_FILE} has {} problem(s), so {} is tried; see cupbearer check",
                problems.len(),
                place.usual
            ));
            Ok(place.default)
        }
    }
}

fn settings(config: Option<PathBuf>) -> Result<Settings, Problems> {
    // It is running already, so whether plain text was allowed is none of this command's business.
    load(config, Options { insecure_plaintext: true })
}

fn load(config: Option<PathBuf>, options: Options) -> Result<Settings, Problems> {
    Ok(config::load(&source(config), env::vars_os(), options)?.settings)
}

fn source(config: Option<PathBuf>) -> Source {
    Source::File(config.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE)))
}

/// In place of an address.
const NONE: &str = "none";
const DEFAULT_FILE: &str = "config.toml";
/// `None`: there is no control surface.
const CONTROL: Place<Option<LocalAddress>> = Place {
    flag: "--control",
    variable: "CUPBEARER__CONTROL__LISTEN",
    read: |text| if text == NONE { Some(None) } else { local_address(text).ok().map(Some) },
    expected: "an IP address and a port, a Unix socket (unix:PATH, unix:@NAME) or none",
    of: |source| config::control_address(source, env::vars_os()),
    default: Some(LocalAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9902))),
    usual: "127.0.0.1:9902",
};
const HEALTH: Place<SocketAddr> = Place {
    flag: "--health",
    variable: "CUPBEARER__HEALTH__LISTEN",
    read: |text| address(text).ok(),
    expected: "an IP address and a port",
    of: |source| config::health_address(source, env::vars_os()),
    default: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901),
    usual: "127.0.0.1:9901",
};

#[cfg(test)]
mod tests {
    use super::{Reach, Surface, address, local_address, surface};

    #[test]
    fn an_address_may_be_a_port_of_localhost() {
        assert_eq!(address("localhost:9902"), address("127.0.0.1:9902"));
        assert_eq!(address("9902"), address("127.0.0.1:9902"));
        assert!(address("[::1]:9902").is_ok());
        for text in ["localhost", "localhost:x", "99020", "example.com:9902"] {
            assert!(address(text).unwrap_err().contains("127.0.0.1:9902"), "{text}");
        }
    }

    #[test]
    fn what_is_advised_means_the_same_proxy() {
        let reach = |config: Option<&str>, control| Reach { config: config.map(Into::into), control };
        assert_eq!(reach(None, None).options(), "");
        assert_eq!(reach(Some("/etc/c.toml"), None).options(), " --config /etc/c.toml");
        let both = reach(Some("it's here.toml"), Some(surface("unix:@c").unwrap()));
        assert_eq!(both.options(), " --config 'it'\\''s here.toml' --control unix:@c");
        assert_eq!(reach(None, Some(Surface(None))).options(), " --control none");
    }

    #[test]
    fn a_control_surface_may_be_on_a_unix_socket() {
        for (text, shown) in [
            ("localhost:9902", "127.0.0.1:9902"),
            ("[::1]:1", "[::1]:1"),
            ("unix:/run/c.sock", "unix:/run/c.sock"),
            ("unix:@cupbearer", "unix:@cupbearer"),
        ] {
            assert_eq!(local_address(text).unwrap().to_string(), shown);
        }
        assert!(surface("none").unwrap().0.is_none());
        for text in ["None", "unix:", "unix:@", "/run/c.sock", "example.com:1"] {
            assert!(surface(text).unwrap_err().contains("unix:@NAME, or none"), "{text}");
        }
    }
}
