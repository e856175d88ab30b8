//! What happens in the demo, as it happens: a line for each event of its servers, and for each turn that a token takes.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::control::{Client, Token};
use crate::demo::Event;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::output::answer;

/// Answers that come while the proxy runs in the same process: a thread of their own writes them, so that a terminal which was
/// stopped (Ctrl-S) stops nothing else.
#[derive(Clone, Debug)]
pub(super) struct Answers(SyncSender<String>);

impl Answers {
    /// Starts the thread; it ends with the last clone, or where standard output is closed.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, lines) = sync_channel::<String>(MOST_ANSWERS);
        let write = move || while lines.recv().is_ok_and(|line| answer(&line).is_ok()) {};
        thread::Builder::new().name("answers".to_owned()).spawn(write)?;
        Ok(Self(sender))
    }

    /// Writes an answer; one too many is left out. An error where standard output is closed.
    pub(super) fn answer(&self, text: String) -> io::Result<()> {
        match self.0.try_send(text) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// A line for each thing that happens in the demo's servers, until they are gone.
pub(super) async fn events(mut events: broadcast::Receiver<Event>, out: Answers) -> anyhow::Result<()> {
    let mut tokens = 0_u64;
    loop {
        match events.recv().await {
            Ok(event) => {
                tokens += u64::from(matches!(event, Event::TokenIssued { .. }));
                out.answer(line(&event, tokens))?;
            }
            Err(RecvError::Lagged(missed)) => out.answer(format!("... and {missed} more"))?,
            // The servers end with the proxy, and that is told by its own end.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// A line for each turn that a token of the running proxy takes. Ends with its owner.
pub(super) async fn turns(proxy: Client, out: Answers) -> anyhow::Result<()> {
    let mut known = BTreeMap::new();
    loop {
        if let Ok(status) = proxy.status().await {
            for token in &status.tokens {
                let before = known.insert(token.name.clone(), token.status.clone());
                if let Some(line) = before.and_then(|before| turn(&before, token)) {
                    out.answer(line)?;
                }
            }
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

fn line(event: &Event, tokens: u64) -> String {
    match event {
        Event::TokenIssued { client, id, lifetime } => {
            let what = if tokens == 1 { "first token" } else { "token renewed" };
            format!("{what}: {id} for client {client}, lives {} s (number {tokens})", lifetime.as_secs())
        }
        Event::Refused { client, error, status } => {
            let client = client.as_deref().unwrap_or("no client");
            format!("authorization server: refused {client} with {error} ({})", status.as_u16())
        }
        Event::Misbehaved { status: Some(status), .. } => {
            format!("authorization server: answered {}, as told", status.as_u16())
        }
        Event::Misbehaved { how: "delay", .. } => "authorization server: answers later, as told".to_owned(),
        Event::Misbehaved { .. } => "authorization server: gives no answer, as told".to_owned(),
        Event::Revoked { tokens } => format!("authorization server: revoked {tokens} token(s)"),
        Event::Unauthorized { refusal: Some(refusal) } => format!("protected API: 401, {refusal}"),
        Event::Unauthorized { refusal: None } => "protected API: 401, no token".to_owned(),
    }
}

/// What there is to tell of a token that was in the state `before` at the last look.
fn turn(before: &str, token: &Token) -> Option<String> {
    let now = token.status.as_str();
    let why = token.last_error.as_ref().map_or("", |error| error.message.as_str());
    let told = match (before, now) {
        // The first token is an event of the authorization server's already.
        (_, "pending") | ("pending", "valid") => return None,
        (before, now) if before == now => return None,
        (_, "valid") => "renewed again; requests go through".to_owned(),
        (_, "degraded") => format!("the renewal failed, and is tried again; the held token goes on ({why})"),
        (_, "expired") => "the held token has run out, so requests get 503 until there is another".to_owned(),
        (_, now) => format!("{now}; requests get 503 ({why})"),
    };
    Some(format!("cupbearer: token {}: {told}", token.name))
}

/// Between two looks at the proxy's tokens.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Answers that wait to be written.
const MOST_ANSWERS: usize = 1000;
