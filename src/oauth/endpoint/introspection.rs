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

use crate::oauth::client::Client;
use crate::oauth::client::authentication::Proof;
use crate::oauth::endpoint::body::without_mark;
use crate::oauth::endpoint::response::{Lifetime, accepted, left};
use crate::oauth::endpoint::transport::{Answer, Http};
use crate::oauth::endpoint::write::form;
use crate::oauth::error::Error;
use crate::oauth::error::kind::{ErrorKind, RequestFault, ResponseFault, ResponseFlaw};
use crate::oauth::error::place::Place;
use crate::oauth::error::situation::{Asked, Situation};

/// What is remembered of an introspection endpoint.
#[derive(Debug, Default)]
pub(in crate::oauth) struct Introspection {
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
    pub(in crate::oauth) fn is_worth_asking(&self) -> bool {
        self.lock().rests_until.is_none_or(|until| clock::now() >= until)
    }

    /// For how long `token` is good. What fails on the way there is said once, and the answer is
    /// [`Lifetime::Unknown`].
    ///
    /// # Errors
    /// [`ResponseFault::Inactive`] where the server says that the token is not good at all.
    pub(in crate::oauth) async fn lifetime(
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
            Seen::Inactive => Err(Error::at(place, ResponseFault::Inactive)),
            Seen::Active(lifetime) => Ok(lifetime),
        }
    }

    /// Takes note that it was no use.
    pub(in crate::oauth) fn failed(&self, error: &Error) {
        let mut memory = self.lock();
        memory.rests_until = Some(clock::now() + REST);
        if !std::mem::replace(&mut memory.said, true) {
            let server_says = error.description();
            warn!(cause = error.cause(), %error, server_says, "introspection failed; default_lifetime is taken where a token does not say how long it lives");
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
    let request = form(url, client, proof, &pairs).ok_or(Error::here(RequestFault::Panicked))?;
    let answer = http.send(request, place).await?;
    let situation = Situation::of(Asked::Introspection, client);
    judge(&answer).map_err(|kind| answer.failure(place.clone(), kind, situation))
}

fn judge(answer: &Answer) -> Result<Seen, ErrorKind> {
    /// RFC 7662 section 2.2. `exp` and `iat` are numbers of seconds; some servers send them as they please.
    #[derive(Deserialize)]
    struct Members {
        active: bool,
        exp: Option<serde_json::Value>,
        iat: Option<serde_json::Value>,
    }
    accepted(answer.status, &answer.body)?;
    let members: Members = serde_json::from_slice(without_mark(&answer.body))
        .map_err(|_| ResponseFault::Malformed(ResponseFlaw::NoActive))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::client::{AssertionAudience, ClientAuth};
    use crate::oauth::discovery::server::Location;
    use crate::oauth::endpoint::AuthorizationServer;
    use crate::oauth::endpoint::response::TokenResponse;
    use crate::oauth::error::class::Class;
    use crate::oauth::grant::Grant;
    use crate::oauth::jose::jws::HmacAlgorithm;
    use crate::oauth::peer::{Peer, Reply, client, inline, plain, settings, verified};

    /// A server whose tokens are opaque and that responds with `reply` to each look at one.
    async fn peer(reply: Reply) -> Peer {
        Peer::start(move |seen| match seen.line() {
            "POST /introspect" => reply.clone(),
            _ => Reply::ok(r#"{"access_token":"sentinel-token","token_type":"Bearer"}"#),
        })
        .await
    }

    fn server(peer: &Peer) -> AuthorizationServer {
        let location = Location {
            introspection_endpoint: Some(peer.url("/introspect")),
            ..Location::endpoint(peer.url("/token"))
        };
        AuthorizationServer::new(&settings(location)).unwrap()
    }

    async fn ask(server: &AuthorizationServer) -> Result<TokenResponse, Error> {
        Ok(server.token(&client(), &Grant::ClientCredentials, &plain(), None).await?)
    }

    const DATE: &str = "Date: Wed, 18 May 2033 03:33:20 GMT\r\n";
    const NOW: u64 = 2_000_000_000;

    #[tokio::test]
    async fn an_opaque_token_lives_as_long_as_introspection_says() {
        let secs = |seconds| Lifetime::ExpiresIn(Duration::from_secs(seconds));
        for (members, want) in [
            (format!(r#""exp":{}"#, NOW + 600), secs(600)),
            (format!(r#""exp":{}.0,"iat":{}"#, NOW + 600, NOW - 100), secs(600)),
            (format!(r#""exp":{},"iat":{}"#, NOW + 600, NOW + 100), secs(500)),
            (format!(r#""exp":{}"#, NOW - 1), secs(0)),
            (r#""exp":"soon""#.to_owned(), Lifetime::Unknown),
            (r#""scope":"a""#.to_owned(), Lifetime::Unknown),
        ] {
            let body = format!(r#"{{"active":true,{members}}}"#);
            let peer = peer(Reply::Http(200, DATE, body)).await;
            assert_eq!(ask(&server(&peer)).await.unwrap().lifetime, want, "{members}");
            let seen = peer.last();
            let want = [("token", "sentinel-token"), ("token_type_hint", "access_token")];
            assert_eq!(seen.form(), want.map(|(name, value)| (name.to_owned(), value.to_owned())));
            assert!(seen.header("authorization").unwrap().starts_with("Basic "));
        }
    }

    #[tokio::test]
    async fn a_look_has_an_assertion_of_its_own() {
        let peer = peer(Reply::ok(r#"{"active":true}"#)).await;
        let secret = "sentinel-secret-of-32-bytes-or-more";
        let algorithm = HmacAlgorithm::Hs256;
        let audience = AssertionAudience::Endpoint;
        let auth = ClientAuth::SecretJwt { secret: inline(secret), algorithm, audience };
        let client = Client { auth, ..client() };
        server(&peer).token(&client, &Grant::ClientCredentials, &plain(), None).await.unwrap();
        let seen = peer.seen.lock().unwrap();
        let [asked, looked] = [0, 1].map(|i| verified(&seen[i].parameter("client_assertion"), secret).1);
        assert_eq!(asked["aud"], looked["aud"]);
        assert_ne!(asked["jti"], looked["jti"]);
    }

    #[tokio::test]
    async fn a_token_that_is_not_active_is_not_used() {
        let error = ask(&server(&peer(Reply::ok(r#"{"active":false}"#)).await)).await.unwrap_err();
        assert_eq!((error.class(), error.cause()), (Class::Transient, "inactive"));
        assert!(error.to_string().contains("/introspect: "), "{error}");
    }

    #[tokio::test]
    async fn a_look_that_fails_costs_the_token_nothing_and_is_left_alone_for_a_while() {
        for reply in [
            Reply::Http(401, "", r#"{"error":"invalid_client"}"#.into()),
            Reply::Http(503, "", String::new()),
            Reply::Http(302, "Location: /sentinel\r\n", String::new()),
            Reply::ok("<html>"),
            Reply::ok("{}"),
            Reply::ok(r#"{"active":"yes"}"#),
            Reply::Close,
            Reply::HeadThenSilence,
            Reply::Flood,
        ] {
            let shown = format!("{reply:?}");
            let peer = peer(reply).await;
            let server = server(&peer);
            for _ in 0..3 {
                assert_eq!(ask(&server).await.unwrap().lifetime, Lifetime::Unknown, "{shown}");
            }
            let looks = peer.lines().iter().filter(|line| *line == "POST /introspect").count();
            assert_eq!(looks, 1, "{shown}");
        }
    }

    #[tokio::test]
    async fn a_token_that_says_how_long_it_lives_is_not_looked_at() {
        for body in [
            r#"{"access_token":"t","expires_in":60}"#.to_owned(),
            // {"exp":2000000600}
            r#"{"access_token":"e30.eyJleHAiOjIwMDAwMDA2MDB9.x"}"#.to_owned(),
        ] {
            let peer = Peer::start(move |_| Reply::ok(body.clone())).await;
            assert_ne!(ask(&server(&peer)).await.unwrap().lifetime, Lifetime::Unknown);
            assert_eq!(peer.lines(), ["POST /token"]);
        }
    }
}
