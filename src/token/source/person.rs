//! A person's password at an authorization server: sent by one token at a time, and not again once it brought no token
//! twice.
//!
//! Servers that protect passwords against guessing count refusals and lock the account; some refuse a login while another
//! one of the same person is under way. So all tokens of one person take turns and count together. `server` calls this
//! around each request; a password that was replaced starts anew, and
//! `cupbearer renew` allows one more try.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::oauth::{Error, Location};
use crate::secret::Secret;
use crate::token::store::Fingerprint;

use super::exchange_failure::ExchangeFailure;

/// The persons whose passwords are sent, by authorization server and user name. A reload keeps them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Persons(Arc<Mutex<Vec<Known>>>);

#[derive(Debug)]
struct Known {
    /// Where the password is sent.
    server: String,
    username: String,
    person: Arc<Person>,
}

impl Persons {
    /// Tokens of one person take turns and count refusals together, whatever else their settings are.
    pub(super) fn get(&self, location: &Location, username: &str) -> Arc<Person> {
        let Location { issuer, token_endpoint, .. } = location;
        let server = match (token_endpoint, issuer) {
            (Some(endpoint), _) => endpoint.to_string(),
            (None, issuer) => issuer.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = known.iter().find(|one| one.server == server && one.username == username) {
            return Arc::clone(&one.person);
        }
        let person = Arc::<Person>::default();
        known.push(Known { server, username: username.to_owned(), person: Arc::clone(&person) });
        person
    }
}

/// One person at one authorization server.
#[derive(Debug)]
pub(super) struct Person {
    /// One login at a time.
    turn: Semaphore,
    refused: Mutex<Refused>,
}

#[derive(Debug, Default)]
struct Refused {
    password: Option<Fingerprint>,
    times: u32,
    /// What the server refused it with last; `None`: this process did not see it.
    last: Option<Error>,
}

impl Default for Person {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), refused: Mutex::default() }
    }
}

impl Person {
    /// Sends `request`, which spends `password`, once no other login of this person is under way.
    ///
    /// # Errors
    /// The request's own; with the last refusal it is a withheld one, and without a request after that. `unsent` is the
    /// error where this process did not see the last refusal.
    pub(super) async fn log_in<T>(
        &self,
        password: &Secret<String>,
        unsent: Error,
        request: impl Future<Output = Result<T, ExchangeFailure>>,
    ) -> Result<T, ExchangeFailure> {
        // It is never closed.
        let _turn = self.turn.acquire().await;
        let password = Fingerprint::of_secret(password);
        if self.is_withheld(password) {
            return Err(self.refused().last.clone().map_or(unsent, Error::withheld_before).into());
        }
        let outcome = request.await;
        let refusal = outcome.as_ref().err().and_then(|failure| failure.oauth());
        match refusal.filter(|error| error.refuses_person()) {
            Some(error) if self.count(password, error) >= TRIES => Err(error.clone().withheld().into()),
            Some(_) => outcome,
            None => {
                if outcome.is_ok() {
                    *self.refused() = Refused::default();
                }
                outcome
            }
        }
    }

    /// Lets the password be sent once more, by a person's wish.
    pub(super) fn pardon(&self) {
        let mut refused = self.refused();
        refused.times = refused.times.min(TRIES - 1);
    }

    /// Sends `password` no more: it was refused too often, before a restart or by another process.
    pub(super) fn withhold(&self, password: &Secret<String>) {
        self.recall(password, TRIES);
    }

    /// Counts a refusal of `password` that another process saw.
    pub(super) fn doubt(&self, password: &Secret<String>) {
        self.recall(password, 1);
    }

    /// Whether `password` was refused and may be sent once more.
    pub(super) fn doubts(&self, password: &Secret<String>) -> bool {
        let refused = self.refused();
        refused.times > 0
            && refused.times < TRIES
            && refused.password == Some(Fingerprint::of_secret(password))
    }

    /// `password` was refused so often at the least.
    fn recall(&self, password: &Secret<String>, times: u32) {
        let password = Some(Fingerprint::of_secret(password));
        let mut refused = self.refused();
        if refused.password != password {
            *refused = Refused { password, ..Refused::default() };
        }
        refused.times = refused.times.max(times);
    }

    fn is_withheld(&self, password: Fingerprint) -> bool {
        let refused = self.refused();
        refused.password == Some(password) && refused.times >= TRIES
    }

    /// One more refusal of it; how many there were.
    fn count(&self, password: Fingerprint, error: &Error) -> u32 {
        let mut refused = self.refused();
        if refused.password != Some(password) {
            *refused = Refused { password: Some(password), ..Refused::default() };
        }
        refused.last = Some(error.clone());
        refused.times += 1;
        refused.times
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a password is sent that is refused.
const TRIES: u32 = 2;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;
    use crate::oauth::{ErrorKind, TransportFault};

    fn unsent() -> Error {
        Error::here(ErrorKind::Withheld { last: None, sent: false })
    }

    fn refused(status: u16, code: &str) -> Error {
        Error::to_password(status, &format!(r#"{{"error":"{code}"}}"#))
    }

    /// What becomes of a login at a server that says this; and how often it was asked by then.
    async fn log_in(
        person: &Person,
        password: &str,
        says: Result<(), Error>,
        asked: &AtomicU32,
    ) -> Result<(), Error> {
        let password = Secret::new(password.to_owned());
        let request = async {
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            says.map_err(ExchangeFailure::from)
        };
        let outcome = person.log_in(&password, unsent(), request).await;
        outcome.map_err(|failure| failure.oauth().cloned().unwrap())
    }

    #[tokio::test]
    async fn a_password_is_refused_twice_at_most_until_it_changes_or_a_person_wants_it() {
        let (person, asked) = (Person::default(), AtomicU32::new(0));
        let wrong = || Err(refused(401, "invalid_grant"));
        let withheld = |outcome: Result<(), Error>| outcome.is_err_and(|error| error.is_withheld());
        assert_eq!(log_in(&person, "old", wrong(), &asked).await, wrong());
        for _ in 0..10 {
            assert!(withheld(log_in(&person, "old", wrong(), &asked).await));
        }
        assert_eq!(asked.swap(0, Ordering::SeqCst), 2);
        for _ in 0..2 {
            person.pardon();
            for _ in 0..3 {
                assert!(withheld(log_in(&person, "old", wrong(), &asked).await));
            }
        }
        assert_eq!(asked.swap(0, Ordering::SeqCst), 2, "once for each wish");
        assert_eq!(log_in(&person, "new", Ok(()), &asked).await, Ok(()));
        assert_eq!(log_in(&person, "old", wrong(), &asked).await, wrong(), "it counts anew");
    }

    #[tokio::test]
    async fn a_refusal_that_another_process_saw_counts_once_and_for_that_password_alone() {
        let (person, asked) = (Person::default(), AtomicU32::new(0));
        let wrong = || Err(refused(401, "invalid_grant"));
        let old = Secret::new("old".to_owned());
        for _ in 0..3 {
            person.doubt(&old);
        }
        assert!(person.doubts(&old) && !person.doubts(&Secret::new("new".to_owned())));
        for _ in 0..3 {
            assert!(log_in(&person, "old", wrong(), &asked).await.unwrap_err().is_withheld());
        }
        assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
        person.doubt(&old);
        assert!(!person.doubts(&old), "it is withheld already");
        assert_eq!(log_in(&person, "new", Ok(()), &asked).await, Ok(()));
    }

    #[tokio::test]
    async fn a_token_that_did_not_send_the_password_shows_why_it_is_withheld() {
        let (person, asked) = (Person::default(), AtomicU32::new(0));
        for sent in [true, true, false, false] {
            let says = Err(refused(401, "invalid_grant"));
            let error = log_in(&person, "p", says, &asked).await.unwrap_err();
            assert!(error.is_counted() == sent && error.to_string().contains("`invalid_grant`"), "{error}");
        }
        let restarted = Person::default();
        restarted.withhold(&Secret::new("p".to_owned()));
        assert_eq!(log_in(&restarted, "p", Ok(()), &asked).await, Err(unsent()));
    }

    #[test]
    fn a_person_is_known_by_the_server_and_the_user_name_alone() {
        let persons = Persons::default();
        let at = |url: &str| Location { token_endpoint: Some(url.parse().unwrap()), ..Location::default() };
        let alice = persons.get(&at("https://as.example/token"), "alice");
        assert!(Arc::ptr_eq(&alice, &persons.clone().get(&at("https://as.example/token"), "alice")));
        for (url, name) in [
            ("https://as.example/token", "bob"),
            ("https://other.example/token", "alice"),
            ("https://as.example/token?tenant=2", "alice"),
        ] {
            assert!(!Arc::ptr_eq(&alice, &persons.get(&at(url), name)), "{url} {name}");
        }
    }

    #[tokio::test]
    async fn a_response_of_another_shape_counts_as_much() {
        for (status, body) in [
            (200, r#"{"ok":false,"error":"invalid_credentials"}"#),
            (200, "<html>Login failed</html>"),
            (200, r#"{"access_token":"a","token_type":"mac"}"#),
            (302, ""),
            (422, r#"{"message":"The user credentials were incorrect."}"#),
            (500, r#"{"error":"invalid_grant"}"#),
        ] {
            let (person, asked) = (Person::default(), AtomicU32::new(0));
            for _ in 0..5 {
                log_in(&person, "p", Err(Error::to_password(status, body)), &asked).await.unwrap_err();
            }
            assert_eq!(asked.load(Ordering::SeqCst), TRIES, "{status} {body}");
        }
    }

    #[tokio::test]
    async fn what_does_not_refuse_the_person_does_not_count() {
        let (person, asked) = (Person::default(), AtomicU32::new(0));
        for error in [
            refused(401, "invalid_client"),
            refused(400, "unauthorized_client"),
            refused(400, "invalid_scope"),
            refused(503, "server_error"),
            refused(404, "not_found"),
            Error::here(TransportFault::Reset),
        ] {
            for _ in 0..4 {
                assert_eq!(log_in(&person, "p", Err(error.clone()), &asked).await, Err(error.clone()));
            }
        }
    }

    #[tokio::test]
    async fn tokens_of_one_person_log_in_one_after_the_other() {
        let person = Person::default();
        let (under_way, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let password = Secret::new("p".to_owned());
        let request = || async {
            most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ExchangeFailure>(())
        };
        let got = join_all((0..6).map(|_| person.log_in(&password, unsent(), request()))).await;
        assert!(got.iter().all(Result::is_ok));
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }
}
