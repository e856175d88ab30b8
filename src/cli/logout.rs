//! `cupbearer logout`: a token is given back and forgotten.

use crate::app::{self, OnlineCheckError};
use crate::control::ClientError;
use clap::Args;

use super::Answer;
use super::control_address::Reach;
use super::login::open_browser;
use super::output::{answer, complain, say};
use super::renew::choose;

/// Revoke a token, forget it, and ask for no other
///
/// By the running proxy; where none runs, or it has no control surface, in the store that the configuration names.
#[derive(Debug, Args)]
pub(super) struct Logout {
    /// Its name; not needed where there is only one
    token: Option<String>,
    /// Open no browser to end its session at the authorization server, where that offers it; the address is printed
    #[arg(long)]
    no_browser: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Logout {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let error = match self.by_the_proxy().await {
            Ok((name, session)) => return self.done(&name, session.as_deref()),
            Err(error) => error,
        };
        match error.downcast_ref::<ClientError>() {
            Some(absent) if absent.is_absent() => self.by_the_store(absent).await,
            Some(error) => {
                complain(&error.to_string());
                Ok(Answer::No)
            }
            None => Err(error),
        }
    }

    /// A session at the authorization server would let the next login in without a question.
    fn done(&self, name: &str, session: Option<&str>) -> anyhow::Result<Answer> {
        answer(&format!("{name}: logged out"))?;
        if let Some(url) = session {
            let opened = !self.no_browser && open_browser(url);
            // Whether it ends is between the browser and the server, which may ask for a confirmation.
            let how = if opened { "your browser opens" } else { "open" };
            say(&format!(
                "Your browser's session at the authorization server may last. To end it, {how} this address, and confirm there if\n\
                 it asks:\n\n  {url}\n"
            ));
        }
        Ok(Answer::Yes)
    }

    /// The token's name, and where a browser ends its session.
    async fn by_the_proxy(&self) -> anyhow::Result<(String, Option<String>)> {
        let client = self.reach.client()?;
        let name = choose(&client, self.token.clone()).await?;
        let out = client.logout(&name).await?;
        Ok((name, out.end_session_url))
    }

    /// There is no proxy to ask: what is stored is given back and deleted here.
    async fn by_the_store(&self, absent: &ClientError) -> anyhow::Result<Answer> {
        let Some((settings, name)) = self.reach.configured(self.token.as_deref())? else {
            complain(&format!(
                "{absent}, and there is no configuration that says where tokens are stored; see cupbearer check{}",
                self.reach.config_option()
            ));
            return Ok(Answer::No);
        };
        match app::log_out(&settings, &name).await {
            Ok(session) => {
                let done = self.done(&name, session.as_ref().map(url::Url::as_str));
                if matches!(absent, ClientError::NoSurface) {
                    say(&format!(
                        "{absent}: a proxy that runs goes on with the token that it holds until it is started again"
                    ));
                }
                done
            }
            Err(OnlineCheckError::Token(error)) if error.is_still_stored() => {
                complain(&format!("{name}: not logged out: {error}"));
                Ok(Answer::No)
            }
            Err(OnlineCheckError::Token(error)) => {
                complain(&format!(
                    "{name}: what was stored is deleted, but not revoked: {}",
                    error.in_full()
                ));
                Ok(Answer::No)
            }
            Err(error) => {
                complain(&format!("{name}: not logged out: {error}"));
                Ok(Answer::No)
            }
        }
    }
}
