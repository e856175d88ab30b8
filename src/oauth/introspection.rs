//! A look at a token that says nothing of its own end (RFC 7662).
//!
//! `endpoint` calls this where an answer has no `expires_in` and the token is no JWT with an `exp`. A look that fails
//! costs nothing but itself: the token is used for the configured default lifetime.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use crate::clock;
use crate::secret::Secret;

use super::authentication::Proof;
use super::client::Client;
use super::error::Error;
use super::kind::{Flaw, Kind, Place};
use super::response::{Lifetime, left};
use super::transport::{Answer, Http};
use super::write::form;

/// What is remembered of an introspection endpoint.
#[derive(Debug, Default)]
pub(super) struct Introspection {
    // Held for an assignment, never across an await.
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    said: bool,
    /// It failed, and is left alone until then.
    rests_until: Option<Instant>,
}

impl Introspection {
    /// Whether it may be asked: it is left alone for [`REST`] after a failure, so that one that hangs holds up no
    /// token for long.
    pub(super) fn is_worth_asking(&self) -> bool {
        self.lock().rests_until.is_none_or(|until| clock::now() >= until)
    }

    /// For how long `token` is good. What fails on the way there is said once, and the answer is
    /// [`Lifetime::Unknown`].
    ///
    /// # Errors
    /// [`Kind::Inactive`] where the server says that the token is not good at all.
    pub(super) async fn lifetime(
        &self,
        http: &Http,
        url: &Url,
        client: &Client,
        proof: &Proof,
        token: &Secret<String>,
    ) -> Result<Lifetime, Error> {
        let place = Place::of(url);
        let seen = match look(http, url, &place, client, proof, token).await {
            Ok(seen) => seen,
            Err(error) => {
                self.failed(&error);
                return Ok(Lifetime::Unknown);
            }
        };
        match seen {
            Seen::Inactive => Err(Error::at(place, Kind::Inactive)),
            Seen::Active(lifetime) => Ok(lifetime),
        }
    }

    /// Takes note that it was no use.
    pub(super) fn failed(&self, error: &Error) {
        let mut memory = self.lock();
        memory.rests_until = Some(clock::now() + REST);
        if !std::mem::replace(&mut memory.said, true) {
            warn!(cause = error.cause(), %error, "introspection failed; default_lifetime is taken where a token does not say how long it lives");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What the server said of the token.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Inactive,
    Active(Lifetime),
}

async fn look(
    http: &Http,
    url: &Url,
    place: &Place,
    client: &Client,
    proof: &Proof,
    token: &Secret<String>,
) -> Result<Seen, Error> {
    let pairs = [("token", token.expose().as_str()), ("token_type_hint", "access_token")];
    let request = form(url, client, proof, &pairs).ok_or(Error::here(Kind::Panicked))?;
    let answer = http.send(request, place).await?;
    judge(&answer).map_err(|kind| Error::at(place.clone(), kind).after(answer.retry_after))
}

fn judge(answer: &Answer) -> Result<Seen, Kind> {
    /// RFC 7662 section 2.2. `exp` and `iat` are numbers of seconds; some servers send them as they please.
    #[derive(Deserialize)]
    struct Members {
        active: bool,
        exp: Option<serde_json::Value>,
        iat: Option<serde_json::Value>,
    }
    match answer.status {
        status if status.is_redirection() => return Err(Kind::Redirect(status)),
        status if !status.is_success() => return Err(Kind::Status(status)),
        _ => {}
    }
    let members: Members =
        serde_json::from_slice(&answer.body).map_err(|_| Kind::Malformed(Flaw::NoActive))?;
    if !members.active {
        return Ok(Seen::Inactive);
    }
    let number = |value: Option<serde_json::Value>| value.and_then(|value| value.as_f64());
    let now: SystemTime = answer.date.unwrap_or_else(clock::wall);
    let lifetime = number(members.exp)
        .map_or(Lifetime::Unknown, |exp| Lifetime::ExpiresIn(left(exp, number(members.iat), now)));
    Ok(Seen::Active(lifetime))
}

/// How long a failed endpoint is left alone.
const REST: Duration = Duration::from_mins(5);
