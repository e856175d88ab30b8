//! The tokens that are out: the authorization server writes them, the protected API asks for them.
//!
//! A token is valid because it is in here, and for no other reason: the signature of a JWT is random bytes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::event::Event;
use crate::clock;
use crate::secret::Secret;

/// What a token looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// A JWT with the claims of RFC 9068. The default.
    #[default]
    Jwt,
    /// 43 characters that say nothing.
    Opaque,
}

/// What a token is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// Who says so: the `iss` of a JWT.
    pub issuer: String,
    /// Who it is for.
    pub client: String,
    /// What it allows; `None`: nothing is said.
    pub scope: Option<String>,
    /// Whom it is good for: what was asked as `audience` and as `resource`.
    pub audience: Vec<String>,
    /// How long it lives.
    pub lifetime: Duration,
    /// What it looks like.
    pub format: Format,
}

/// A token and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// The token itself.
    pub token: Secret<String>,
    /// What the servers know of it.
    pub facts: Arc<TokenFacts>,
}

/// What is known of a token, fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenFacts {
    /// A short name for it, of which the token cannot be made.
    pub id: String,
    /// Whom it was given to.
    pub client: String,
    /// What it allows.
    pub scope: Option<String>,
    /// Whom it is good for.
    pub audience: Vec<String>,
    /// When it ends.
    pub expires_at: Instant,
    /// The same in seconds since 1970, by the clock of the instant it was issued.
    pub expires_at_unix: u64,
    revoked: bool,
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefusal {
    /// It was never issued here, or ended long ago.
    #[error("the token is unknown")]
    Unknown,
    /// Its time is over.
    #[error("the token expired")]
    Expired,
    /// It was taken back.
    #[error("the token was revoked")]
    Revoked,
}

/// The tokens that are out; a clone is the same set.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Shared>);

struct Shared {
    held: RwLock<Held>,
    events: broadcast::Sender<Event>,
}

struct Held {
    by_value: HashMap<String, Arc<TokenFacts>>,
    purge_at: usize,
}

impl Tokens {
    /// None yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        let held = Held { by_value: HashMap::new(), purge_at: PURGE_FROM };
        Self(Arc::new(Shared { held: RwLock::new(held), events: broadcast::Sender::new(EVENTS) }))
    }

    /// Makes a token that is good from now for `order.lifetime`.
    #[must_use]
    pub(crate) fn issue(&self, order: Order) -> Issued {
        let now = clock::now();
        let issued_at_unix = clock::unix_seconds();
        let facts = Arc::new(TokenFacts {
            id: format!("{:08x}", fastrand::u32(..)),
            client: order.client.clone(),
            scope: order.scope.clone(),
            audience: order.audience.clone(),
            expires_at: now + order.lifetime,
            expires_at_unix: issued_at_unix + order.lifetime.as_secs(),
            revoked: false,
        });
        let value = match order.format {
            Format::Jwt => jwt(&order, &facts, issued_at_unix),
            Format::Opaque => random_text(),
        };
        let mut held = self.write();
        held.purge(now);
        held.by_value.insert(value.clone(), Arc::clone(&facts));
        drop(held);
        self.tell(Event::TokenIssued {
            client: order.client,
            id: facts.id.clone(),
            lifetime: order.lifetime,
        });
        Issued { token: Secret::new(value), facts }
    }

    /// Whether `token` counts, now.
    ///
    /// # Errors
    /// [`TokenRefusal`] where it does not.
    pub(crate) fn check(&self, token: &str) -> Result<Arc<TokenFacts>, TokenRefusal> {
        let facts = self.read().by_value.get(token).cloned().ok_or(TokenRefusal::Unknown)?;
        if facts.revoked {
            Err(TokenRefusal::Revoked)
        } else if facts.expires_at <= clock::now() {
            Err(TokenRefusal::Expired)
        } else {
            Ok(facts)
        }
    }

    /// Takes back every token that is out and says how many still counted. Later ones are not touched.
    pub(crate) fn revoke_all(&self) -> usize {
        let now = clock::now();
        let mut tokens = 0;
        for facts in self.write().by_value.values_mut() {
            if !facts.revoked && facts.expires_at > now {
                tokens += 1;
            }
            *facts = Arc::new(TokenFacts { revoked: true, ..TokenFacts::clone(facts) });
        }
        self.tell(Event::Revoked { tokens });
        tokens
    }

    /// How many tokens count now.
    #[must_use]
    pub(crate) fn live(&self) -> usize {
        let now = clock::now();
        self.read().by_value.values().filter(|facts| !facts.revoked && facts.expires_at > now).count()
    }

    /// What happens from now on. A reader that falls more than 256 events behind loses the oldest.
    #[must_use]
    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    pub(super) fn tell(&self, event: Event) {
        // An error says that there is no listener.
        let _ = self.0.events.send(event);
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.0.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.0.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new()
    }
}

/// The tokens' values are the map's keys, so only their number is shown.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("known", &self.read().by_value.len()).finish()
    }
}

impl Held {
    /// Forgets what ended long ago, whenever the number has doubled: a load test must not fill the memory.
    fn purge(&mut self, now: Instant) {
        if self.by_value.len() >= self.purge_at {
            self.by_value.retain(|_, facts| facts.expires_at + REMEMBERED > now);
            self.purge_at = (self.by_value.len() * 2).max(PURGE_FROM);
        }
    }
}

fn jwt(order: &Order, facts: &TokenFacts, issued_at: u64) -> String {
    let audience = match order.audience.as_slice() {
        [] => json!(DEFAULT_AUDIENCE),
        [one] => json!(one),
        several => json!(several),
    };
    let header = json!({"alg": "RS256", "typ": "at+jwt", "kid": "demo"});
    let mut claims = json!({
        "iss": order.issuer, "sub": order.client, "client_id": order.client, "aud": audience,
        "iat": issued_at, "exp": facts.expires_at_unix, "jti": facts.id,
    });
    if let Some(scope) = &order.scope {
        claims["scope"] = json!(scope);
    }
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    // 256 bytes: what an RS256 signature has, so that the header field is as long as a real one.
    let signature: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(256).collect();
    format!("{}.{}.{}", part(&header), part(&claims), URL_SAFE_NO_PAD.encode(signature))
}

fn random_text() -> String {
    let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(32).collect();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The `aud` of a JWT where none was asked for.
const DEFAULT_AUDIENCE: &str = "demo";
/// Short, so that renewal can be watched.
pub(super) const DEFAULT_LIFETIME: Duration = Duration::from_secs(20);
/// How long an expired token is still told from an unknown one.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Below this many, nothing is forgotten.
const PURGE_FROM: usize = 10_000;
/// Events that a slow reader may fall behind.
const EVENTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn order(format: Format) -> Order {
        Order { client: "orders".into(), lifetime: Duration::from_secs(20), format, ..Order::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_counts_until_it_expires_or_is_revoked() {
        let tokens = Tokens::new();
        let first = tokens.issue(order(Format::Opaque));
        assert_eq!(tokens.check(first.token.expose()).unwrap().client, "orders");
        assert_eq!(tokens.check("made up"), Err(TokenRefusal::Unknown));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(tokens.check(first.token.expose()), Err(TokenRefusal::Expired));
        let second = tokens.issue(order(Format::Jwt));
        assert_eq!(tokens.revoke_all(), 1);
        assert_eq!(tokens.check(second.token.expose()), Err(TokenRefusal::Revoked));
        assert_eq!(tokens.live(), 0);
        let third = tokens.issue(order(Format::Jwt));
        assert!(tokens.check(third.token.expose()).is_ok(), "a revocation reaches no later token");
    }

    #[test]
    fn a_jwt_holds_the_claims_that_were_asked_for() {
        let tokens = Tokens::new();
        let issued = tokens.issue(Order {
            issuer: "http://as".into(),
            scope: Some("a b".into()),
            audience: vec!["one".into(), "two".into()],
            ..order(Format::Jwt)
        });
        let claims = issued.token.expose().split('.').nth(1).unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims["aud"], json!(["one", "two"]));
        assert_eq!((&claims["iss"], &claims["scope"]), (&json!("http://as"), &json!("a b")));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 20);
    }

    #[test]
    fn neither_the_set_nor_its_events_show_a_token() {
        let tokens = Tokens::new();
        let mut events = tokens.events();
        let issued = tokens.issue(order(Format::Opaque));
        let shown = format!("{tokens:?} {issued:?} {:?}", events.try_recv().unwrap());
        assert!(!shown.contains(issued.token.expose()), "{shown}");
    }
}
