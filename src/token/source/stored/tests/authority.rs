//! An authorization server in the place of the exchange: it rotates, notes what is asked, and fails where a test says.

use super::*;

/// An authorization server that changes the refresh token at each use, and ends the login where an old one is used.
pub(super) struct Authority {
    pub(super) state: Mutex<Login>,
    pub(super) journal: Journal,
    /// How long an answer takes.
    pub(super) takes: Duration,
    pub(super) rotates: bool,
    /// A refresh token comes with the grant, too.
    pub(super) gives: bool,
    /// The refresh token that each request spent.
    pub(super) seen: Mutex<Vec<Option<String>>>,
    pub(super) lives: Duration,
    pub(super) bound: bool,
    pub(super) key: Mutex<Option<Arc<Dpop>>>,
    /// The answer to the next call, where it is none of the usual.
    pub(super) next: Mutex<Vec<ExchangeFailure>>,
    pub(super) calls: AtomicUsize,
}

pub(super) struct Login {
    pub(super) valid: String,
    pub(super) issued: u32,
}

impl Authority {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(Login { valid: "seed".to_owned(), issued: 0 }),
            journal: Journal::default(),
            takes: Duration::ZERO,
            rotates: true,
            gives: false,
            seen: Mutex::default(),
            lives: HOUR,
            bound: false,
            key: Mutex::default(),
            next: Mutex::default(),
            calls: AtomicUsize::new(0),
        }
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(super) fn spent(&self) -> Vec<Option<String>> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn say(&self, what: impl Into<String>) {
        self.journal.lock().unwrap().push(what.into());
    }

    pub(super) fn refuse(&self) {
        self.state.lock().unwrap().valid = String::new();
    }
}

impl Exchange for Arc<Authority> {
    fn ask(&self, spent: Spent) -> BoxFuture<'_, Result<Fetched, ExchangeFailure>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.say("ask");
            self.seen.lock().unwrap().push(spent.refresh_token.as_ref().map(|token| token.expose().clone()));
            if let Some(error) = self.next.lock().unwrap().pop() {
                return Err(error);
            }
            sleep(self.takes).await;
            let mut login = self.state.lock().unwrap();
            login.issued += 1;
            let mut refresh_token = None;
            if let Some(token) = spent.refresh_token {
                if *token.expose() != login.valid {
                    login.valid = String::new();
                    return Err(invalid_grant().into());
                }
                if self.rotates {
                    login.valid = format!("refresh-{}", login.issued);
                    refresh_token = Some(Secret::new(login.valid.clone()));
                }
            } else if self.gives {
                login.valid = format!("refresh-{}", login.issued);
                refresh_token = Some(Secret::new(login.valid.clone()));
            }
            let response = TokenResponse {
                refresh_token,
                ..TokenResponse::bearer(
                    Secret::new(format!("access-{}", login.issued)),
                    Lifetime::ExpiresIn(self.lives),
                )
            };
            Ok(Fetched { dpop: self.key.lock().unwrap().clone(), ..response.into() })
        })
    }

    fn key<'a>(
        &'a self,
        stored: Option<&'a Secret<Vec<u8>>>,
    ) -> BoxFuture<'a, Result<Option<Arc<Dpop>>, Error>> {
        Box::pin(async move {
            if !self.bound {
                return Ok(None);
            }
            let mut key = self.key.lock().unwrap();
            if let Some(stored) = stored {
                *key = Some(Arc::new(Dpop::from_pkcs8(stored.expose()).unwrap()));
            }
            Ok(Some(Arc::clone(key.get_or_insert_with(|| Arc::new(Dpop::generate().unwrap())))))
        })
    }

    fn kept_key(&self, key: &Dpop) -> Option<Secret<Vec<u8>>> {
        key.to_pkcs8().ok()
    }

    fn revoke<'a>(&'a self, token: &'a Secret<String>, hint: TokenHint) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.say(format!("revoke {hint:?} {}", token.expose()));
            match self.next.lock().unwrap().pop() {
                Some(error) => Err(error.into()),
                None => Ok(()),
            }
        })
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}
