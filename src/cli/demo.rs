//! `cupbearer demo`: the whole thing on one machine, with nothing else installed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::app::{self, Started, Supervisor};
use crate::config::{self, Options, Problems, Settings, Source};
use crate::control::Client;
use crate::demo::{Api, ApiOptions, AuthorizationServer, Options as ServerOptions};
use crate::net::local_address::LocalAddress;
use crate::telemetry;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use tokio::sync::oneshot;
use url::{Host, Url};

use super::Answer;
use super::narrative::{self, Answers};
use super::output::say;

/// Show it at work: an authorization server, a protected API, and the proxy before it
///
/// Tokens live for 20 seconds, so they change while you watch. Nothing else is needed, and nothing is left behind.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// A configuration to run instead of the built-in one; its issuer and its upstream must be on 127.0.0.1, where the
    /// demo's own servers will listen
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The demo's own servers; they end with it.
struct Stage {
    server: AuthorizationServer,
    api: Api,
}

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let source = match self.config {
            Some(file) => Source::File(file),
            None => Source::Text { name: "config.toml (built in)".into(), text: REFERENCE.into() },
        };
        let mut loaded = match config::load(&source, std::env::vars_os(), Options::default()) {
            Ok(loaded) => loaded,
            Err(problems) => {
                say(&problems.to_string());
                return Ok(Answer::Failed);
            }
        };
        // That the demo's made-up secret stands in its configuration is no news to a newcomer.
        loaded.warnings = Problems::default();
        // Its own lines would break the narrative, which tells the same.
        if loaded.settings.log.level == "info" {
            loaded.settings.log.level = "error,cupbearer::token=off".into();
        }
        telemetry::start(&loaded.settings.log)?;
        let stage = Stage::set(&loaded.settings).await?;
        let events = stage.server.events();
        let (tell_control, control) = oneshot::channel();
        let greet = |started: &Started| {
            say(&stage.greeting(started));
            let _ = tell_control.send(started.control.clone());
        };
        let out = Answers::start()?;
        let turns = async {
            match control.await {
                Ok(address) => narrative::turns(Client::new(address), out.clone()).await,
                // It did not start, and its end says why.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = app::run(source, Options::default(), loaded, Supervisor::default(), greet) => ended?,
            told = narrative::events(events, out.clone()) => told?,
            told = turns => told?,
        }
        Ok(Answer::Yes)
    }
}

impl Stage {
    async fn set(settings: &Settings) -> anyhow::Result<Self> {
        let Some((name, token)) = settings.tokens.iter().next() else {
            bail!("the demo needs a token in [tokens]")
        };
        let Some((api_name, upstream)) = settings.upstreams.iter().next() else {
            bail!("the demo needs an upstream in [upstreams]")
        };
        let location = token.server().map(|origin| &origin.server.location);
        let Some((issuer, key)) =
            location.and_then(|location| match (&location.issuer, &location.token_endpoint) {
                (Some(issuer), _) => Some((issuer.url(), "issuer")),
                (None, endpoint) => endpoint.as_ref().map(|endpoint| (endpoint, "token_endpoint")),
            })
        else {
            bail!("the demo needs a token from an authorization server in [tokens.{name}]")
        };
        let listen = address(issuer).with_context(|| format!("tokens.{name}.{key}"))?;
        let server = AuthorizationServer::start(ServerOptions { listen, ..ServerOptions::default() })
            .await
            .map_err(|error| taken("authorization server", listen, "tokens", name, key, &error))?;
        let listen = address(&upstream.url).with_context(|| format!("upstreams.{api_name}.url"))?;
        let api = Api::start(ApiOptions { listen }, server.tokens())
            .await
            .map_err(|error| taken("protected API", listen, "upstreams", api_name, "url", &error))?;
        Ok(Self { server, api })
    }

    fn greeting(&self, started: &Started) -> String {
        let proxy = started.proxy.first().map(ToString::to_string).unwrap_or_default();
        let (server, api) = (self.server.url(), self.api.url());
        let (server, api) = (server.trim_end_matches('/'), api.trim_end_matches('/'));
        format!(
            "\
Cupbearer demo: everything below runs in this one process.

  curl ---> cupbearer  http://{proxy} ---> protected API  {api}
                |                              (answers only to a valid token)
                +-- fetches tokens --> authorization server  {server}
                                               (its tokens live 20 seconds)

Try in another terminal:

  1. The API without a token: refused.
       curl -i {api}/hello

  2. The same through cupbearer, again and again: the token's id changes, no request fails.
       while sleep 1; do curl -s http://{proxy}/hello; done

  3. While that runs, let the authorization server fail three times: still no request fails
     (you see it at the next renewal, within 15 s).
       curl -X POST '{server}/demo/fail?status=503&times=3'

More to break:  curl {server}/demo/
State:          {status}
Dashboard:      {dashboard}
Metrics:        curl http://{health}/metrics

Ctrl-C ends it. Here is what happens, as it happens:
",
            health = started.health,
            status = status_command(started.control.as_ref()),
            dashboard = dashboard(started.control.as_ref()),
        )
    }
}

/// Where a browser finds the dashboard.
fn dashboard(control: Option<&LocalAddress>) -> String {
    match control {
        Some(LocalAddress::Tcp(address)) => format!("http://{address}/"),
        _ => "no address for a browser, as the configuration has it".to_owned(),
    }
}

/// How to ask for the state from another terminal: this program need not be on its path.
fn status_command(control: Option<&LocalAddress>) -> String {
    let Some(control) = control else { return "no control surface, as the configuration has it".to_owned() };
    let program =
        std::env::current_exe().map_or_else(|_| "cupbearer".into(), |path| path.display().to_string());
    let program = if program.contains(' ') { format!("'{program}'") } else { program };
    if *control == LocalAddress::Tcp(CONTROL) {
        return format!("{program} status");
    }
    format!("{program} status --control {control}")
}

/// Where a demo server is to listen, by the URL that the configuration has for it.
fn address(url: &Url) -> anyhow::Result<SocketAddr> {
    // Looked at before any name is resolved: another machine's is not for the demo, wherever it leads.
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::from(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::from(ip)),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost").then_some(LOCALHOST),
        None => None,
    };
    match (ip.filter(IpAddr::is_loopback), url.port_or_known_default(), url.scheme()) {
        (Some(ip), Some(port), "http") => Ok(SocketAddr::new(ip, port)),
        _ => bail!("{url} must be http://127.0.0.1:PORT, for the demo's own server listens there"),
    }
}

/// Why a demo server cannot have its address, and which variable moves it.
fn taken(
    what: &str,
    address: SocketAddr,
    section: &str,
    name: &str,
    key: &str,
    error: &io::Error,
) -> anyhow::Error {
    let variable = format!("CUPBEARER__{section}__{name}__{key}").to_ascii_uppercase().replace('-', "_");
    anyhow!(
        "cannot listen on {address} for the demo's {what}: {error}\n    \
         help: end the program that listens there, or set {variable}=http://127.0.0.1:PORT"
    )
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Where `status` looks by itself.
const CONTROL: SocketAddr = SocketAddr::new(LOCALHOST, 9902);
/// The commented reference at the top of the repository.
const REFERENCE: &str = include_str!("../../config.toml");
