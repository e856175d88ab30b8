//! `cupbearer demo`: the whole thing on one machine, with nothing else installed.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use cupbearer::app::{self, Started};
use cupbearer::config::{self, Options, Problems, Settings, Source};
use cupbearer::demo::{Api, ApiOptions, AuthorizationServer, Event, Options as ServerOptions};
use cupbearer::oauth::Location;
use cupbearer::telemetry;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use url::Url;

use super::Answer;
use super::output::{answer, say};

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
        if loaded.settings.log.level == "info" {
            loaded.settings.log.level = "warn".into();
        }
        telemetry::start(&loaded.settings.log)?;
        let stage = Stage::set(&loaded.settings).await?;
        let events = stage.server.events();
        let greet = |started: &Started| say(&stage.greeting(started));
        tokio::select! {
            ended = app::run(source, Options::default(), loaded, greet) => ended?,
            told = tell(events) => told?,
        }
        Ok(Answer::Yes)
    }
}

impl Stage {
    async fn set(settings: &Settings) -> anyhow::Result<Self> {
        let Some(token) = settings.tokens.values().next() else {
            bail!("the demo needs a token in [tokens]")
        };
        let Some(upstream) = settings.upstreams.values().next() else {
            bail!("the demo needs an upstream in [upstreams]")
        };
        let issuer = match &token.server.location {
            Location::Issuer(issuer) => issuer.url(),
            Location::TokenEndpoint(endpoint) => endpoint,
        };
        let listen = address(issuer).context("the issuer of the demo's token")?;
        let server = AuthorizationServer::start(ServerOptions { listen, ..ServerOptions::default() })
            .await
            .with_context(|| format!("cannot listen on {listen} for the demo's authorization server"))
            .context("end what listens there, or set CUPBEARER__TOKENS__API__ISSUER=http://127.0.0.1:PORT")?;
        let listen = address(&upstream.url).context("the demo's upstream")?;
        let api = Api::start(ApiOptions { listen }, server.tokens())
            .await
            .with_context(|| format!("cannot listen on {listen} for the demo's protected API"))
            .context("end what listens there, or set CUPBEARER__UPSTREAMS__API__URL=http://127.0.0.1:PORT")?;
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
       while sleep 1; do curl -s http://{proxy}/hello; echo; done

  3. While that runs, let the authorization server fail three times: still no request fails.
       curl -X POST '{server}/demo/fail?status=503&times=3'

More to break: curl {server}/demo/     State: cupbearer status     Metrics: http://{health}/metrics
Ctrl-C ends it. Here is what happens, as it happens:
",
            health = started.health,
        )
    }
}

/// A line for each thing that happens, until the demo's servers are gone.
async fn tell(mut events: broadcast::Receiver<Event>) -> anyhow::Result<()> {
    let mut tokens = 0_u64;
    loop {
        match events.recv().await {
            Ok(event) => {
                tokens += u64::from(matches!(event, Event::TokenIssued { .. }));
                answer(&line(&event, tokens))?;
            }
            Err(RecvError::Lagged(missed)) => answer(&format!("... and {missed} more"))?,
            // The servers end with the proxy, and that is told by its own end.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

fn line(event: &Event, tokens: u64) -> String {
    match event {
        Event::TokenIssued { client, id, lifetime } => {
            let what = if tokens == 1 { "first token" } else { "token renewed" };
            format!("{what}: {id} for client {client}, lives {} s (number {tokens})", lifetime.as_secs())
        }
        Event::Refused { client, error, status } => {
            let client = client.as_deref().unwrap_or("nobody");
            format!("authorization server: refused {client} with {error} ({})", status.as_u16())
        }
        Event::Misbehaved { how } => {
            format!("authorization server: misbehaved as told ({how}); cupbearer will retry")
        }
        Event::Revoked { tokens } => format!("authorization server: revoked {tokens} token(s)"),
        Event::Unauthorized { refusal: Some(refusal) } => format!("protected API: 401, {refusal}"),
        Event::Unauthorized { refusal: None } => "protected API: 401, no token".to_owned(),
    }
}

/// Where a demo server is to listen, by the URL that the configuration has for it.
fn address(url: &Url) -> anyhow::Result<SocketAddr> {
    let addresses = url.socket_addrs(|| None)?;
    match addresses.iter().find(|address| address.ip().is_loopback()) {
        Some(address) if url.scheme() == "http" => Ok(*address),
        _ => bail!("must be http://127.0.0.1:PORT, for the demo's own server will listen there"),
    }
}

/// The commented reference at the top of the repository.
const REFERENCE: &str = include_str!("../../config.toml");
