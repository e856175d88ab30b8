//! Where the running proxy is reached: as told, else as the environment says, else its configuration, else the default.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::Args;
use cupbearer::config::{self, Options, Problems, Settings, Source};
use cupbearer::control::Client;

use super::output::complain;
use super::renew::only;

/// Which running proxy is meant.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// The running proxy's configuration, which says where its listeners are
    #[arg(long, value_name = "FILE", env = "CUPBEARER_CONFIG")]
    config: Option<PathBuf>,
    /// The running proxy's control listener; default: as `CUPBEARER__CONTROL__LISTEN` says, else its configuration,
    /// else 127.0.0.1:9902
    #[arg(long, value_name = "ADDRESS", env = "CUPBEARER_CONTROL", value_parser = address)]
    control: Option<SocketAddr>,
}

/// A listener that commands look for: how it is named, and where it is if nothing says so.
struct Place {
    flag: &'static str,
    variable: &'static str,
    of: fn(&Settings) -> SocketAddr,
    default: SocketAddr,
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

    /// A client of the proxy that is meant.
    ///
    /// # Errors
    /// Where a configuration was named that does not say where its proxy is: to ask another one would be worse.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(find(self.control, self.config.clone(), &CONTROL)?))
    }
}

/// The health listener's address, by the same rules as the control listener's.
pub(super) fn health(told: Option<SocketAddr>, config: Option<PathBuf>) -> anyhow::Result<SocketAddr> {
    find(told, config, &HEALTH)
}

/// Reads an address as a flag has it.
pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let loopback = match text.split_once(':') {
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => Some(format!("127.0.0.1:{port}")),
        _ => None,
    };
    loopback
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "an IP address and a port, such as 127.0.0.1:9902")
}

fn find(told: Option<SocketAddr>, config: Option<PathBuf>, place: &Place) -> anyhow::Result<SocketAddr> {
    if let Some(told) = told {
        return Ok(told);
    }
    if let Some(text) = env::var_os(place.variable) {
        let address = text.to_str().and_then(|text| address(text.trim_matches('"')).ok());
        return address.ok_or_else(|| {
            anyhow!(
                "variable {}: must be an IP address and a port, such as {}",
                place.variable,
                place.default
            )
        });
    }
    let named = config.is_some();
    match settings(config) {
        Ok(settings) => Ok((place.of)(&settings)),
        Err(problems) if named => Err(anyhow!(
            "the configuration does not say where its proxy is:\n{problems}\nmend that, or give {} ADDRESS",
            place.flag
        )),
        // No file, none meant: the defaults are what is left.
        Err(_) if !PathBuf::from(DEFAULT_FILE).exists() => Ok(place.default),
        Err(problems) => {
            complain(&format!(
                "./{DEFAULT_FILE} has {} problem(s), so {} is tried; see cupbearer check",
                problems.len(),
                place.default
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
    let source = Source::File(config.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE)));
    Ok(config::load(&source, env::vars_os(), options)?.settings)
}

const DEFAULT_FILE: &str = "config.toml";
const CONTROL: Place = Place {
    flag: "--control",
    variable: "CUPBEARER__CONTROL__LISTEN",
    of: |settings| settings.control,
    default: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9902),
};
const HEALTH: Place = Place {
    flag: "--health",
    variable: "CUPBEARER__HEALTH__LISTEN",
    of: |settings| settings.health,
    default: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9901),
};

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn an_address_may_be_a_port_of_localhost() {
        assert_eq!(address("localhost:9902"), address("127.0.0.1:9902"));
        assert!(address("[::1]:9902").is_ok());
        for text in ["localhost", "localhost:x", "9902", "example.com:9902"] {
            assert!(address(text).unwrap_err().contains("127.0.0.1:9902"), "{text}");
        }
    }
}
