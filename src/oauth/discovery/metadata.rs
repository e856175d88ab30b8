//! Discovery: from an issuer to its endpoints (RFC 8414, OpenID Connect Discovery 1.0).
//!
//! A document is kept for an hour, or for as long as its `Cache-Control` says within bounds, and for as long as no newer
//! one can be had. However many tokens want it, one of them asks and the others wait for the answer, be it good or bad.
//! `directory` calls this; `document` says what a document means.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::Request;
use http::header::ACCEPT;
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use crate::clock;

use crate::oauth::discovery::document::{Endpoints, Handshake};
use crate::oauth::discovery::role::Role;
use crate::oauth::discovery::server::Issuer;
use crate::oauth::endpoint::response::accepted;
use crate::oauth::endpoint::transport::Http;
use crate::oauth::error::Error;
use crate::oauth::error::kind::RequestFault;
use crate::oauth::error::place::Place;
use crate::oauth::error::situation::Situation;

/// An issuer and what it last said of itself.
#[derive(Clone, Debug)]
pub(in crate::oauth) struct Metadata {
    issuer: Issuer,
    handshake: Handshake,
    // Held for an assignment, never across an await.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Known>,
    /// Why there was no document, and until when it is not requested again.
    failed: Option<(Error, Instant)>,
    /// The question under way. Its waiters drive it; it is gone with the last of them.
    flight: Option<WeakShared<Flight>>,
    /// When doubt last made a document due.
    doubted: Option<Instant>,
}

type Flight = BoxFuture<'static, Result<Arc<Endpoints>, Error>>;

#[derive(Clone, Debug)]
struct Known {
    endpoints: Arc<Endpoints>,
    refresh_at: Instant,
}

/// A document, and how long it asks to be kept.
struct Found {
    endpoints: Endpoints,
    fresh_for: Duration,
}

impl Metadata {
    pub(in crate::oauth) fn new(issuer: Issuer, handshake: Handshake) -> Self {
        Self { issuer, handshake, state: Arc::default() }
    }

    pub(in crate::oauth) const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The endpoints: the ones known, or those of a fresh document where that is due. A refresh that fails leaves the
    /// ones known in use.
    pub(in crate::oauth) async fn endpoints(&self, http: &Http) -> Result<Arc<Endpoints>, Error> {
        let flight = {
            let mut state = self.state();
            if let Some(ready) = state.ready(clock::now()) {
                return ready;
            }
            match state.flight.as_ref().and_then(WeakShared::upgrade) {
                Some(flight) => flight,
                None => self.take_off(&mut state, http),
            }
        };
        flight.await
    }

    /// The endpoints of the last document; `None`: there is none yet.
    pub(in crate::oauth) fn known(&self) -> Option<Arc<Endpoints>> {
        self.state().known.as_ref().map(|known| Arc::clone(&known.endpoints))
    }

    /// Says that an endpoint did not work: the next request looks whether it has moved.
    pub(in crate::oauth) fn doubt(&self) {
        self.state().doubt(clock::now());
    }

    fn take_off(&self, state: &mut State, http: &Http) -> Shared<Flight> {
        let (this, http) = (self.clone(), http.clone());
        let flight = async move {
            let outcome = this.discover(&http).await;
            this.state().settle(&this.issuer, outcome, clock::now())
        };
        let flight = flight.boxed().shared();
        state.flight = flight.downgrade();
        flight
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// RFC 8414's place first, then OpenID Connect's. A server that cannot be reached is not asked twice.
    async fn discover(&self, http: &Http) -> Result<Found, Error> {
        let first = match self.fetch(http, &self.issuer.oauth_metadata()).await {
            Ok(found) => return Ok(found),
            Err(error) if error.kind().is_unreachable() => return Err(error),
            Err(error) => error,
        };
        match self.fetch(http, &self.issuer.openid_metadata()).await {
            Ok(found) => Ok(found),
            // Most servers have one of the two: a document that is there says more than one that is not.
            Err(second) if second.is_absence() && !first.is_absence() => Err(first.beside(&second)),
            Err(second) => Err(second.beside(&first)),
        }
    }

    async fn fetch(&self, http: &Http, url: &Url) -> Result<Found, Error> {
        let place = Place::of(url);
        let request = Request::get(url.as_str())
            .header(ACCEPT, "application/json")
            .body(Vec::new())
            .map_err(|_| Error::at(place.clone(), RequestFault::NoEndpoint(Role::Token)))?;
        let answer = http.send(request, &place).await?;
        let parsed = accepted(answer.status, &answer.body)
            .and_then(|()| Endpoints::parse(&answer.body, &self.issuer, self.handshake));
        match parsed {
            Ok(endpoints) => {
                let fresh_for = answer.max_age.map_or(LIFETIME, |age| age.clamp(MIN_LIFETIME, MAX_LIFETIME));
                Ok(Found { endpoints, fresh_for })
            }
            Err(kind) => Err(answer.failure(place, kind, Situation::METADATA)),
        }
    }
}

impl State {
    /// What can be said without asking.
    fn ready(&self, now: Instant) -> Option<Result<Arc<Endpoints>, Error>> {
        let paused = self.failed.as_ref().filter(|(_, until)| now < *until);
        match (&self.known, paused) {
            (Some(known), paused) if now < known.refresh_at || paused.is_some() => {
                Some(Ok(Arc::clone(&known.endpoints)))
            }
            (None, Some((error, until))) => {
                let hold = error.retry_after().map(|_| *until - now);
                Some(Err(error.clone().after(hold)))
            }
            _ => None,
        }
    }

    /// Takes the answer in. What is known already survives a failure.
    fn settle(
        &mut self,
        issuer: &Issuer,
        outcome: Result<Found, Error>,
        now: Instant,
    ) -> Result<Arc<Endpoints>, Error> {
        self.flight = None;
        match outcome {
            Ok(Found { endpoints, fresh_for }) => {
                self.failed = None;
                if let Some(old) = &self.known {
                    report_moves(issuer, &old.endpoints, &endpoints);
                }
                let endpoints = Arc::new(endpoints);
                self.known = Some(Known { endpoints: Arc::clone(&endpoints), refresh_at: now + fresh_for });
                Ok(endpoints)
            }
            Err(error) => {
                let least = if self.known.is_some() { REFRESH_PAUSE } else { FIRST_PAUSE };
                let pause = error.retry_after().map_or(least, |hold| hold.max(least));
                self.failed = Some((error.clone(), now + pause));
                let Some(known) = &self.known else { return Err(error) };
                warn!(%issuer, cause = error.cause(), %error,
                    "the metadata could not be refreshed; the last good copy stays in use");
                Ok(Arc::clone(&known.endpoints))
            }
        }
    }

    /// A thousand tokens that fail doubt as one: the document is asked for again once in a while, no more.
    fn doubt(&mut self, now: Instant) {
        if self.doubted.is_some_and(|at| now < at + REFRESH_PAUSE) {
            return;
        }
        if let Some(known) = &mut self.known {
            known.refresh_at = now;
            self.doubted = Some(now);
        }
    }
}

fn report_moves(issuer: &Issuer, old: &Endpoints, new: &Endpoints) {
    for role in old.moved(new) {
        match (old.get(role), new.get(role)) {
            (Some(from), Some(to)) => {
                warn!(%issuer, endpoint = %role, from = %Place::of(from), to = %Place::of(to),
                    "the metadata name another endpoint, which is used from now on");
            }
            (from, _) => {
                let is = if from.is_some() { "gone" } else { "new" };
                warn!(%issuer, endpoint = %role, is, "the metadata name other endpoints than before");
            }
        }
    }
}

impl Issuer {
    /// RFC 8414 section 3: the well-known part goes between host and path, less the path's final slash.
    fn oauth_metadata(&self) -> Url {
        let path = self.url().path().trim_end_matches('/');
        self.at_path(&format!("/.well-known/oauth-authorization-server{path}"))
    }

    /// OpenID Connect Discovery 1.0 section 4: after the path.
    fn openid_metadata(&self) -> Url {
        let path = self.url().path().trim_end_matches('/');
        self.at_path(&format!("{path}/.well-known/openid-configuration"))
    }

    fn at_path(&self, path: &str) -> Url {
        let mut url = self.url().clone();
        url.set_path(path);
        url.set_query(None);
        url.set_fragment(None);
        url
    }
}

/// How long a document counts as fresh where its `Cache-Control` does not say.
const LIFETIME: Duration = Duration::from_hours(1);
/// What `Cache-Control` may shorten that to: some servers say 0.
const MIN_LIFETIME: Duration = Duration::from_mins(5);
/// What `Cache-Control` may lengthen it to: a moved endpoint counts within a day.
const MAX_LIFETIME: Duration = Duration::from_hours(24);

/// How long a failed refresh is left alone, while the last good copy is in use; and doubt after doubt.
const REFRESH_PAUSE: Duration = Duration::from_mins(1);
/// How long no request is made where nothing is known yet: as many tokens as there are wait for it to pass.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::oauth::discovery::server::Location;
    use crate::oauth::error::kind::TransportFault;
    use crate::oauth::peer::{Peer, Reply, settings};

    fn issuer(text: &str) -> Issuer {
        text.parse().unwrap()
    }

    fn endpoints(token: &str) -> Endpoints {
        let document = format!(r#"{{"issuer":"https://a.example","token_endpoint":"{token}"}}"#);
        Endpoints::parse(document.as_bytes(), &issuer("https://a.example"), Handshake::Plain).unwrap()
    }

    fn found(token: &str) -> Found {
        Found { endpoints: endpoints(token), fresh_for: LIFETIME }
    }

    /// What a token of `peer` has.
    fn of(peer: &Peer) -> (Metadata, Http) {
        let settings = settings(Location::issuer(issuer(&peer.origin)));
        (Metadata::new(issuer(&peer.origin), Handshake::Plain), Http::new(&settings.transport).unwrap())
    }

    #[test]
    fn the_well_known_part_goes_between_host_and_path_and_openids_after_it() {
        for (given, oauth, openid) in [
            (
                "https://a.example",
                "https://a.example/.well-known/oauth-authorization-server",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/oauth-authorization-server",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example:8443/realms/r/",
                "https://a.example:8443/.well-known/oauth-authorization-server/realms/r",
                "https://a.example:8443/realms/r/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(issuer(given).oauth_metadata().as_str(), oauth);
            assert_eq!(issuer(given).openid_metadata().as_str(), openid);
        }
    }

    // On one thread the peer's turn comes when all the tokens wait.
    #[tokio::test]
    async fn a_thousand_tokens_of_one_issuer_ask_once_while_the_server_fails_too() {
        let peer = Peer::start(|_| Reply::Http(503, "Retry-After: 7\r\n", String::new())).await;
        let (metadata, http) = of(&peer);
        let all = join_all((0..1000).map(|_| metadata.endpoints(&http))).await;
        let again = metadata.endpoints(&http).await;
        for outcome in all.into_iter().chain([again]) {
            let hold = outcome.unwrap_err().retry_after();
            assert!(hold.is_some_and(|hold| hold <= Duration::from_secs(7)), "{hold:?}");
        }
        assert_eq!(peer.lines().len(), 2, "a document has two places, and each was asked once");
    }

    #[tokio::test]
    async fn a_thousand_tokens_of_one_issuer_share_one_answer_though_the_first_is_given_up() {
        let peer = Peer::start(|seen| {
            let origin = format!("http://{}", seen.header("host").unwrap());
            Reply::ok(format!(r#"{{"issuer":"{origin}","token_endpoint":"{origin}/token"}}"#))
        })
        .await;
        let (metadata, http) = of(&peer);
        let mut first = Box::pin(metadata.endpoints(&http));
        let mut others = Box::pin(join_all((0..1000).map(|_| metadata.endpoints(&http))));
        assert!(first.as_mut().now_or_never().is_none() && others.as_mut().now_or_never().is_none());
        drop(first);
        for outcome in others.await {
            assert_eq!(outcome.unwrap().get(Role::Token).unwrap().path(), "/token");
        }
        assert_eq!(peer.lines().len(), 1);
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_is_asked_anew() {
        let peer = Peer::start(|_| Reply::HeadThenSilence).await;
        let (metadata, http) = of(&peer);
        for asked in 1..=2 {
            let seen = async {
                while peer.lines().len() < asked {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                _ = metadata.endpoints(&http) => panic!("the peer says nothing"),
                () = seen => {}
            }
        }
    }

    #[test]
    fn a_document_is_kept_until_it_is_due_and_a_failure_keeps_the_old_one() {
        let issuer = issuer("https://a.example");
        let start = clock::now();
        let mut state = State::default();
        assert!(state.ready(start).is_none());
        state.settle(&issuer, Ok(found("https://a.example/one")), start).unwrap();
        let token = |state: &State, at| {
            state.ready(at).map(|ready| ready.unwrap().get(Role::Token).unwrap().path().to_owned())
        };
        assert_eq!(token(&state, start + LIFETIME - Duration::from_secs(1)).as_deref(), Some("/one"));
        let due = start + LIFETIME;
        assert_eq!(token(&state, due), None);
        let down = Error::here(TransportFault::Reset);
        let kept = state.settle(&issuer, Err(down.clone()), due).unwrap();
        assert_eq!(*kept, endpoints("https://a.example/one"));
        assert_eq!(token(&state, due).as_deref(), Some("/one"), "a failed refresh is left alone for a while");
        assert_eq!(token(&state, due + REFRESH_PAUSE), None);
        state.settle(&issuer, Ok(found("https://a.example/two")), due + REFRESH_PAUSE).unwrap();
        assert_eq!(token(&state, due + REFRESH_PAUSE).as_deref(), Some("/two"));
    }

    #[test]
    fn doubt_makes_a_document_due_once_in_a_while() {
        let issuer = issuer("https://a.example");
        let start = clock::now();
        let mut state = State::default();
        state.doubt(start);
        for at in [start, start + REFRESH_PAUSE] {
            state.settle(&issuer, Ok(found("https://a.example/one")), at).unwrap();
            state.doubt(at);
            assert!(state.ready(at).is_none(), "it is looked for again");
            state.settle(&issuer, Ok(found("https://a.example/one")), at).unwrap();
            state.doubt(at);
            assert!(state.ready(at).is_some(), "a storm of doubt asks once");
        }
    }

    #[test]
    fn without_a_document_a_failure_is_everyones_for_a_moment_or_for_as_long_as_the_server_asks() {
        let issuer = issuer("https://a.example");
        let start = clock::now();
        let mut state = State::default();
        let down = Error::here(TransportFault::Reset);
        assert!(state.settle(&issuer, Err(down.clone()), start).is_err());
        assert_eq!(state.ready(start).unwrap().unwrap_err(), down);
        assert!(state.ready(start + FIRST_PAUSE).is_none());
        let busy = down.after(Some(Duration::from_mins(1)));
        assert!(state.settle(&issuer, Err(busy), start).is_err());
        let later = state.ready(start + Duration::from_secs(45)).unwrap().unwrap_err();
        assert_eq!(later.retry_after(), Some(Duration::from_secs(15)));
    }
}
