//! The flags that say which configuration is meant.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::{self, Flags, Loaded, Options, Problems, Source};
use clap::Args;

/// A file, or flags alone: one route `/`, one upstream and one token.
#[derive(Debug, Args)]
pub(super) struct Configuration {
    /// The configuration's file; default ./config.toml where no flag below is given
    #[arg(long, value_name = "FILE", env = "CUPBEARER_CONFIG")]
    config: Option<PathBuf>,
    /// Allow http to authorization servers and upstreams beyond this machine: secrets and tokens go out in the clear
    #[arg(long, env = "CUPBEARER_INSECURE_PLAINTEXT")]
    insecure_plaintext: bool,
    #[command(flatten)]
    flags: FlagArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Without a file")]
struct FlagArgs {
    /// Address to listen on, or unix:PATH; default localhost:8080
    #[arg(long, value_name = "ADDRESS", env = "CUPBEARER_LISTEN")]
    listen: Option<String>,
    /// The protected API
    #[arg(long, value_name = "URL", env = "CUPBEARER_UPSTREAM")]
    upstream: Option<String>,
    /// The authorization server's issuer, whose metadata names the token endpoint
    #[arg(long, value_name = "URL", env = "CUPBEARER_ISSUER")]
    issuer: Option<String>,
    /// The token endpoint itself
    #[arg(long, value_name = "URL", env = "CUPBEARER_TOKEN_ENDPOINT")]
    token_endpoint: Option<String>,
    /// The client identifier
    #[arg(long, value_name = "ID", env = "CUPBEARER_CLIENT_ID")]
    client_id: Option<String>,
    /// File that holds the client secret; read again at each token request
    #[arg(long, value_name = "FILE", env = "CUPBEARER_CLIENT_SECRET_FILE")]
    client_secret_file: Option<String>,
    /// Scopes, separated by spaces
    #[arg(long, value_name = "SCOPES", env = "CUPBEARER_SCOPE")]
    scope: Option<String>,
    /// Audience of the token
    #[arg(long, value_name = "AUDIENCE", env = "CUPBEARER_AUDIENCE")]
    audience: Option<String>,
}

impl Configuration {
    /// Which source is meant.
    pub(super) fn source(&self) -> Result<Source, Problems> {
        let flags = &self.flags;
        Source::choose(
            self.config.clone(),
            Flags {
                listen: flags.listen.clone(),
                upstream: flags.upstream.clone(),
                issuer: flags.issuer.clone(),
                token_endpoint: flags.token_endpoint.clone(),
                client_id: flags.client_id.clone(),
                client_secret_file: flags.client_secret_file.clone(),
                scope: flags.scope.clone(),
                audience: flags.audience.clone(),
            },
        )
    }

    pub(super) const fn options(&self) -> Options {
        Options { insecure_plaintext: self.insecure_plaintext }
    }

    /// Reads the source with this environment.
    pub(super) fn load(
        &self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Source, Loaded), Problems> {
        let source = self.source()?;
        let loaded = config::load(&source, environment, self.options())?;
        Ok((source, loaded))
    }
}
