//! What a token exchange trades in, read at each use (RFC 8693 section 2.1).

use std::time::Duration;

use tokio::time::timeout;

use crate::clock::{self, BootInstant};
use crate::oauth::{Exchange, Grant, TypedToken, jwt_expiry, jwt_subject, read, still_good, unquoted};
use crate::secret::{Secret, SecretSource};
use crate::token::error::{Error, SubjectTokenFault};
use crate::token::settings::{ExchangeSettings, Subject, TradeGrant};
use crate::token::store::Fingerprint;
use crate::token::token_registry::TokenRegistry;

/// A grant, and until when what it trades in is good; `None`: nothing says.
#[derive(Debug)]
pub(super) struct Traded {
    pub(super) grant: Grant,
    pub(super) until: Option<BootInstant>,
}

/// A token to trade in.
#[derive(Debug)]
struct Good {
    token: Secret<String>,
    until: Option<BootInstant>,
}

/// The grant that trades in what is configured. `since` is how often the registry had been filled when the source was
/// made: tokens of the same configuration are in it after that.
pub(super) async fn configured(
    settings: &ExchangeSettings,
    registry: &TokenRegistry,
    since: u64,
) -> Result<Traded, Error> {
    let subject = match &settings.subject {
        Subject::File(source) => from_file(source).await?,
        Subject::Token(name) => from_roster(name, registry, since).await?,
        Subject::Incoming => return Err(Error::from(SubjectTokenFault::NoCaller)),
    };
    trade(settings, subject).await
}

/// Whose token would be traded in; `None`: it cannot be read. A JWT's own word counts, as the next token of the same
/// person is another text.
pub(super) async fn subject(
    settings: &ExchangeSettings,
    registry: &TokenRegistry,
    since: u64,
) -> Option<Fingerprint> {
    let token = match &settings.subject {
        Subject::File(source) => Secret::new(read(source).await.ok()?.expose().trim_ascii().to_owned()),
        Subject::Token(name) => from_roster(name, registry, since).await.ok()?.token,
        Subject::Incoming => return None,
    };
    Some(match jwt_subject(token.expose()) {
        Some(parts) => Fingerprint::of(parts.iter().map(String::as_bytes)),
        None => Fingerprint::of_secret(&token),
    })
}

/// The grant that trades in a caller's token.
pub(super) async fn on_behalf(
    settings: &ExchangeSettings,
    subject: &Secret<String>,
) -> Result<Traded, Error> {
    trade(settings, good(subject.clone())?).await
}

async fn trade(settings: &ExchangeSettings, subject: Good) -> Result<Traded, Error> {
    if settings.grant == TradeGrant::JwtBearer {
        return Ok(Traded { grant: Grant::IssuedAssertion(subject.token), until: subject.until });
    }
    let actor = match &settings.actor {
        Some((source, token_type)) => {
            let token = from_file(source).await?.token;
            Some(TypedToken { token, token_type: token_type.clone() })
        }
        None => None,
    };
    let exchange = Exchange {
        subject: TypedToken { token: subject.token, token_type: settings.subject_token_type.clone() },
        actor,
        requested_token_type: settings.requested_token_type.clone(),
    };
    Ok(Traded { grant: Grant::TokenExchange(exchange), until: subject.until })
}

async fn from_file(source: &SecretSource) -> Result<Good, Error> {
    let token = read(source).await?;
    still_good("token to trade in", source, &token)?;
    good(Secret::new(unquoted(token.expose().trim_ascii()).to_owned()))
}

/// Judges a token by its own word, where it has one. An expired one is not sent: the answer is known.
fn good(token: Secret<String>) -> Result<Good, Error> {
    let expiry = jwt_expiry(token.expose());
    if expiry.is_some_and(|at| clock::until(at).is_zero()) {
        return Err(Error::from(SubjectTokenFault::Expired));
    }
    Ok(Good { token, until: expiry.map(clock::moment_at) })
}

async fn from_roster(name: &str, registry: &TokenRegistry, since: u64) -> Result<Good, Error> {
    let missing = || Error::from(SubjectTokenFault::Unavailable(name.to_owned()));
    let found = async {
        let handle = registry.find(name, since).await?;
        let credentials = handle.wait().await.ok()?;
        Some(Good { token: credentials.access_token()?, until: Some(credentials.expires_at) })
    };
    timeout(SUBJECT_WAIT, found).await.ok().flatten().ok_or_else(missing)
}

/// How long another token is waited for. It may be on its way just now; an attempt that waits takes up a place.
pub(super) const SUBJECT_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::time::sleep;

    use super::super::tests::jwt;
    use super::*;
    use crate::lifecycle::DrainTrigger;
    use crate::metrics::Metrics;
    use crate::token::renewer::tests::settings;
    use crate::token::source::tests::Scripted;
    use crate::token::{Limits, Renewer, RenewerHandle};

    fn exchange(subject: Subject) -> ExchangeSettings {
        ExchangeSettings {
            grant: TradeGrant::TokenExchange,
            subject,
            subject_token_type: "urn:ietf:params:oauth:token-type:jwt".into(),
            actor: None,
            requested_token_type: None,
        }
    }

    fn subject_of(traded: &Traded) -> &str {
        let Grant::TokenExchange(exchange) = &traded.grant else { panic!("{traded:?}") };
        exchange.subject.token.expose()
    }

    fn renewer() -> (RenewerHandle, DrainTrigger) {
        let (trigger, drain) = DrainTrigger::new();
        (Renewer::spawn(Limits::default(), drain, &Metrics::new()), trigger)
    }

    #[tokio::test]
    async fn a_subject_file_is_read_at_each_use_and_its_expiry_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = SecretSource::File(dir.path().join("subject"));
        let actor = SecretSource::File(dir.path().join("actor"));
        let mut settings = exchange(Subject::File(file.clone()));
        settings.actor = Some((actor.clone(), "urn:x:actor".into()));
        std::fs::write(actor.file().unwrap(), "actor-token\n").unwrap();
        let registry = TokenRegistry::default();
        for seconds in [100, 200] {
            let subject = jwt(seconds);
            std::fs::write(file.file().unwrap(), format!("{subject}\n")).unwrap();
            let traded = configured(&settings, &registry, 0).await.unwrap();
            assert_eq!(subject_of(&traded), subject);
            let left = (traded.until.unwrap() - BootInstant::now()).as_secs().cast_signed();
            assert!((seconds - 30..=seconds).contains(&left), "{left}");
            let Grant::TokenExchange(exchange) = traded.grant else { panic!() };
            assert_eq!(exchange.actor.unwrap().token.expose(), "actor-token");
        }
        std::fs::write(file.file().unwrap(), jwt(-1)).unwrap();
        assert_eq!(configured(&settings, &registry, 0).await.unwrap_err().cause(), "subject_expired");
        std::fs::write(file.file().unwrap(), "opaque").unwrap();
        assert_eq!(configured(&settings, &registry, 0).await.unwrap().until, None);
        std::fs::remove_file(file.file().unwrap()).unwrap();
        assert_eq!(configured(&settings, &registry, 0).await.unwrap_err().cause(), "secret");
    }

    #[tokio::test]
    async fn a_callers_token_may_be_the_assertion_itself() {
        let settings = ExchangeSettings { grant: TradeGrant::JwtBearer, ..exchange(Subject::Incoming) };
        let caller = Secret::new(jwt(100));
        let traded = on_behalf(&settings, &caller).await.unwrap();
        assert_eq!(traded.grant, Grant::IssuedAssertion(caller));
        assert!(traded.until.is_some());
        let expired = on_behalf(&settings, &Secret::new(jwt(-1))).await.unwrap_err();
        assert_eq!(expired.cause(), "subject_expired");
    }

    #[tokio::test(start_paused = true)]
    async fn another_token_of_the_configuration_is_waited_for_and_traded_bare() {
        let (renewer, _trigger) = renewer();
        let registry = TokenRegistry::default();
        let settings = exchange(Subject::Token("login".into()));
        let since = registry.filled();
        let waiting = tokio::spawn({
            let (settings, registry) = (settings.clone(), registry.clone());
            async move { configured(&settings, &registry, since).await }
        });
        // The source asks before the registry is filled, and the token comes later still.
        sleep(Duration::from_millis(100)).await;
        let token = renewer.add("login", self::settings(), Scripted::after(Duration::from_secs(1)));
        registry.replace(BTreeMap::from([("login".to_owned(), token.clone())]));
        let traded = waiting.await.unwrap().unwrap();
        assert_eq!(subject_of(&traded), "scripted");
        assert_eq!(traded.until, Some(token.load().credentials.as_ref().unwrap().expires_at));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_the_configuration_before_a_reload_is_not_traded_in() {
        let (renewer, _trigger) = renewer();
        let registry = TokenRegistry::default();
        let old = renewer.add("login", settings(), Scripted::after(Duration::ZERO));
        old.wait().await.unwrap();
        registry.replace(BTreeMap::from([("login".to_owned(), old)]));
        let since = registry.filled();
        let start = BootInstant::now();
        let settings = exchange(Subject::Token("login".into()));
        let error = configured(&settings, &registry, since).await.unwrap_err();
        assert_eq!((error.cause(), BootInstant::now() - start), ("subject", SUBJECT_WAIT));
        assert!(error.to_string().starts_with("the token login, which is traded in for this one"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_does_not_come_is_not_waited_for_without_end() {
        let (renewer, _trigger) = renewer();
        let registry = TokenRegistry::default();
        let token = renewer.add("login", settings(), Scripted::after(Duration::from_hours(1)));
        registry.replace(BTreeMap::from([("login".to_owned(), token)]));
        let start = BootInstant::now();
        let settings = exchange(Subject::Token("login".into()));
        assert!(configured(&settings, &registry, 0).await.is_err());
        assert_eq!(BootInstant::now() - start, SUBJECT_WAIT);
        let incoming = configured(&exchange(Subject::Incoming), &registry, 0).await.unwrap_err();
        assert_eq!(incoming.cause(), "no_caller");
    }
}
