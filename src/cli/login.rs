//! `cupbearer login`: a person logs in, and the token stays fresh from then on.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::time::Duration;

use crate::app;
use crate::clock::BootInstant;
use crate::config::Settings;
use crate::control::{self, Client, ClientError};
use crate::login::{LoginSessions, Progress};
use crate::telemetry::plain_line;
use crate::token::{Account, Flow, Store};
use anyhow::bail;
use clap::Args;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Answer;
use super::control_address::Reach;
use super::output::{answer, complain, say};
use super::status::MEMORY;
use prompt::Prompt;
use typed::Typed;

pub(super) use prompt::open_browser;

mod prompt;
mod typed;

/// Log in with a browser, or on another device, so that a token is there and stays fresh
///
/// By the running proxy; where none runs, or it has no control surface, into the store that the configuration names, where a proxy
/// that runs or starts later finds it.
#[derive(Debug, Args)]
pub(super) struct Login {
    /// The token's name; not needed where a person logs in for one alone
    token: Option<String>,
    /// On another device: shows a code to type there, and its address as a QR code (RFC 8628)
    #[arg(long)]
    device: bool,
    /// Open no browser: over SSH, say. The address that a browser elsewhere ends at can be pasted here
    #[arg(long)]
    no_browser: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Login {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let client = self.reach.client()?;
        let status = match client.status().await {
            Ok(status) => status,
            Err(absent) if absent.is_absent() => return self.by_the_store(&absent).await,
            Err(error) => {
                complain(&error.to_string());
                return Ok(Answer::No);
            }
        };
        if let Some(why) = &status.read_only {
            // It changes nothing for clients; a user that may write to the store may log in.
            return self.by_the_store(why).await;
        }
        match self.by_the_proxy(&client, &status).await {
            Ok(answer) => Ok(answer),
            // From here on it is the proxy's login, which has ended where the proxy has.
            Err(error) => match error.downcast_ref::<ClientError>() {
                Some(error) => {
                    complain(&format!("the login was not finished: {error}"));
                    Ok(Answer::No)
                }
                None => Err(error),
            },
        }
    }

    async fn by_the_proxy(&self, client: &Client, status: &control::Status) -> anyhow::Result<Answer> {
        let names = status.tokens.iter().filter(|token| token.can_log_in).map(|token| token.name.as_str());
        let Some(name) =
            self.choose(names, || status.tokens.iter().any(|token| Some(&token.name) == self.token.as_ref()))
        else {
            return Ok(Answer::No);
        };
        let begun = client.login(&name, self.device.then_some(Flow::DeviceCode.as_str())).await?;
        let mut looks = ByProxy { client: client.clone(), name: name.clone(), last: begun };
        let Some(kept) = self.attend(&name, &mut looks).await? else { return Ok(Answer::No) };
        // What the store would not take is in the proxy alone.
        let now = client.status().await.ok();
        let fault = now.iter().flat_map(|now| &now.store_degraded).find(|fault| fault.token == name);
        let place = match fault {
            Some(fault) => {
                format!("the proxy's memory alone, until the token store takes it: {}", fault.message)
            }
            None if status.store == MEMORY => {
                "this process' memory: a restart of the proxy ends it".to_owned()
            }
            None => status.store.clone(),
        };
        done(&name, &kept, &place)
    }

    async fn by_the_store(&self, absent: &impl Display) -> anyhow::Result<Answer> {
        let settings = match self.reach.own_settings() {
            Ok(settings) => settings,
            Err(problems) => {
                complain(&format!("{absent}, and no configuration says where to log in:\n{problems}"));
                return Ok(Answer::No);
            }
        };
        let Some((name, account, store)) = self.account(&settings)? else { return Ok(Answer::No) };
        if !account.is_durable() {
            complain(&format!(
                "{absent}, and the token store is a process' memory: the login would end with this command. Start the proxy \
                 (cupbearer run{}) with a control surface that may change state (`listen` in [control]), or set `kind` in \
                 [store] to \"keyring\" or \"file\"",
                self.reach.config_option()
            ));
            return Ok(Answer::No);
        }
        let flow = if self.device { Flow::DeviceCode } else { account.settings().flow };
        let login_sessions = LoginSessions::default();
        let progress = match login_sessions.begin(&account, None, flow, None).await {
            Ok(progress) => progress,
            Err(error) => {
                complain(&format!("{name}: {error}"));
                return Ok(Answer::No);
            }
        };
        let mut looks = ByDesk { login_sessions, name: name.clone(), progress };
        let attended = self.attend(&name, &mut looks).await;
        store.flush(LAST_WRITES).await;
        let (Some(kept), place) = (attended?, account.place()) else { return Ok(Answer::No) };
        if let Some(fault) = store.alarm().faults().first() {
            complain(&format!(
                "{name}: the login could not be written to {place} and is lost: {}",
                fault.cause
            ));
            return Ok(Answer::No);
        }
        done(&name, &kept, &place)
    }

    fn account(
        &self,
        settings: &Settings,
    ) -> anyhow::Result<Option<(String, std::sync::Arc<Account>, Store)>> {
        let names = settings
            .tokens
            .iter()
            .filter(|(_, token)| token.login().is_some())
            .map(|(name, _)| name.as_str());
        let known = || self.token.as_ref().is_some_and(|name| settings.tokens.contains_key(name));
        let Some(name) = self.choose(names, known) else { return Ok(None) };
        let Some((account, store)) = app::account(settings, &name)? else {
            bail!("the token {name} needs no login");
        };
        Ok(Some((name, account, store)))
    }

    /// The token that is meant, out of those that a person logs in for; `known`: whether the named one exists at all.
    fn choose<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        known: impl FnOnce() -> bool,
    ) -> Option<String> {
        let names: Vec<&str> = names.collect();
        match &self.token {
            Some(name) if names.contains(&name.as_str()) => return Some(name.clone()),
            Some(name) if known() => complain(&format!(
                "the token {name} needs no login; set its grant to \"authorization_code\" or \"device_code\""
            )),
            Some(name) => complain(&format!("there is no token {name}; a login is for {}", listed(&names))),
            None => match names.as_slice() {
                [one] => return Some((*one).to_owned()),
                [] => complain(
                    "no token needs a login; set a token's grant to \"authorization_code\" or \"device_code\"",
                ),
                several => complain(&format!("say which token to log in for: {}", listed(several))),
            },
        }
        None
    }

    /// Shows what to do and waits for the end. `None`: the login did not come about, and that was reported.
    async fn attend(&self, name: &str, looks: &mut impl Looks) -> anyhow::Result<Option<Kept>> {
        let mut prompt = Prompt::new();
        let begun = looks.now();
        prompt.show(name, &begun, self.no_browser);
        if let Some(url) = begun.authorization_url.as_deref().filter(|_| !self.no_browser)
            && !open_browser(url)
        {
            say("No browser could be opened here; open the address yourself.");
        }
        let mut typed = Typed::read(
            begun.authorization_url.is_some()
                && (self.no_browser || begun.is_by_hand() || std::io::stdin().is_terminal()),
        );
        let ended = loop {
            tokio::select! {
                ended = tokio::signal::ctrl_c() => {
                    ended?;
                    prompt.clear();
                    looks.cancel().await;
                    complain(&format!("{name}: the login was called off"));
                    return Ok(None);
                }
                line = typed.next() => {
                    prompt.clear();
                    if let Err(error) = looks.finish(&line).await {
                        say(&error);
                    }
                }
                login = looks.look() => {
                    let login = login?;
                    if !login.is_waiting() {
                        break login;
                    }
                    prompt.wait(&login, typed.unfinished());
                }
            }
        };
        prompt.clear();
        if ended.is_done() {
            if let Some(advice) = &ended.advice {
                complain(&format!("{name}: {advice}"));
            }
            let who = ended.user.as_deref().map(|user| format!(" as {user}")).unwrap_or_default();
            return Ok(Some(Kept::Whole { who }));
        }
        let why = ended
            .message
            .unwrap_or_else(|| "it was called off, or another login of this token took its place".to_owned());
        if ended.kept {
            return Ok(Some(Kept::Flawed { why }));
        }
        complain(&format!("{name}: not logged in: {why}"));
        Ok(None)
    }
}

/// A login that is kept.
enum Kept {
    /// With its token; who has logged in, in words.
    Whole { who: String },
    /// Without an access token that can be used, and why.
    Flawed { why: String },
}

/// Reports how it ended, and where it is kept.
fn done(name: &str, kept: &Kept, place: &str) -> anyhow::Result<Answer> {
    match kept {
        Kept::Whole { who } => {
            answer(&plain_line(&format!("{name}: logged in{who}; kept in {place}")))?;
            Ok(Answer::Yes)
        }
        Kept::Flawed { why } => {
            complain(&format!("{name}: {why} (kept in {place})"));
            Ok(Answer::No)
        }
    }
}

/// The login, wherever it goes on.
trait Looks {
    /// How it stands.
    fn now(&self) -> control::Login;
    /// How it stands in a moment, or as soon as it is over.
    async fn look(&mut self) -> anyhow::Result<control::Login>;
    /// Calls it off.
    async fn cancel(&mut self);
    /// Brings the address that a browser ended at.
    async fn finish(&mut self, url: &str) -> Result<(), String>;
}

/// In the running proxy.
struct ByProxy {
    client: Client,
    name: String,
    last: control::Login,
}

impl Looks for ByProxy {
    fn now(&self) -> control::Login {
        self.last.clone()
    }

    async fn look(&mut self) -> anyhow::Result<control::Login> {
        sleep(BETWEEN_LOOKS).await;
        let login = self.client.login_progress(&self.name).await?;
        if login.id != self.last.id {
            return Ok(control::Login { state: "cancelled".to_owned(), ..control::Login::default() });
        }
        Ok(login)
    }

    async fn cancel(&mut self) {
        // The proxy is gone, or the login is over: it is called off either way.
        let _ = self.client.cancel_login(&self.name).await;
    }

    async fn finish(&mut self, url: &str) -> Result<(), String> {
        self.client.finish_login(&self.name, url).await.map(drop).map_err(|error| error.to_string())
    }
}

/// In this process.
struct ByDesk {
    login_sessions: LoginSessions,
    name: String,
    progress: watch::Receiver<Progress>,
}

impl Looks for ByDesk {
    fn now(&self) -> control::Login {
        control::Login::of(&self.progress.borrow(), BootInstant::now())
    }

    async fn look(&mut self) -> anyhow::Result<control::Login> {
        let _ = tokio::time::timeout(BETWEEN_LOOKS, self.progress.changed()).await;
        Ok(self.now())
    }

    async fn cancel(&mut self) {
        self.login_sessions.cancel(&self.name);
    }

    async fn finish(&mut self, url: &str) -> Result<(), String> {
        self.login_sessions.paste(&self.name, url).await.map_err(|error| error.to_string())
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// How long what the store would not take at once is tried again.
const LAST_WRITES: Duration = Duration::from_secs(5);
