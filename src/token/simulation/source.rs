//! The way from the renewer to the model: a source that keeps a refresh token as the real one does, and that can be
//! broken on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::world::{Call, Fault, Reply, World};
use crate::oauth::{Class, Lifetime, TokenResponse};
use crate::secret::Secret;
use crate::token::error::{Error, LoginFault};
use crate::token::{Fetched, Source};

/// One token of the model, as one process sees it.
pub(super) struct ModelSource {
    pub(super) world: Arc<World>,
    pub(super) token: usize,
    /// Whether this process has looked into the store.
    pub(super) looked: AtomicBool,
}

impl ModelSource {
    async fn ask(&self) -> Result<Fetched, Error> {
        let fault = self.world.fault();
        if !self.looked.swap(true, Ordering::Relaxed)
            && let Some((text, asked, lifetime)) = self.world.restore(self.token)
        {
            let asked = (fault != Some(Fault::StoredTokenCountsFromNow)).then_some(asked);
            return Ok(Fetched { asked, ..response(text, Lifetime::ExpiresIn(lifetime)) });
        }
        let _second = (fault == Some(Fault::AsksTwice)).then(|| self.world.call(self.token));
        let first = self.request().await;
        if fault == Some(Fault::RetriesAtOnce) && first.is_err() {
            return self.request().await;
        }
        match first {
            Err(error) if fault == Some(Fault::DeafToRetryAfter) => Err(error.after(None::<Duration>)),
            Err(error) if fault == Some(Fault::GivesUp) && error.class() == Class::Transient => {
                Err(Error::from(LoginFault::Required))
            }
            outcome => outcome,
        }
    }

    /// Request, answer, write; then and only then the token is used. It may be dropped at each of the waits.
    async fn request(&self) -> Result<Fetched, Error> {
        let mut call = self.world.call(self.token);
        sleep(call.way()).await;
        match call.arrive() {
            Reply::Never => std::future::pending().await,
            Reply::Failed { after, error } => {
                sleep(after).await;
                call.failed(error)
            }
            Reply::Token { after, text, lifetime } => {
                sleep(after).await;
                self.keep(call, text, lifetime).await
            }
        }
    }

    async fn keep(&self, call: Call, text: String, lifetime: Lifetime) -> Result<Fetched, Error> {
        match self.world.fault() {
            // The token is out before its refresh token is safe.
            Some(Fault::UsesBeforeItStores) => call.write_later(),
            Some(Fault::NeverStores) => call.forget_to_write(),
            _ => {
                sleep(self.world.writing()).await;
                call.write();
            }
        }
        let lifetime = match (lifetime, self.world.fault()) {
            (Lifetime::ExpiresIn(lifetime), Some(Fault::LifetimeStretched)) => {
                Lifetime::ExpiresIn(lifetime.mul_f64(1.5))
            }
            (Lifetime::ExpiresIn(lifetime), Some(Fault::LifetimeShrunk)) => {
                Lifetime::ExpiresIn(lifetime.mul_f64(0.5))
            }
            (lifetime, _) => lifetime,
        };
        Ok(response(text, lifetime))
    }
}

impl Source for ModelSource {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(self.ask())
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

fn response(text: String, lifetime: Lifetime) -> Fetched {
    TokenResponse::bearer(Secret::new(text), lifetime).into()
}

/// After which the renewer gives up an attempt that hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(100);
