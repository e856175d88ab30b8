//! `cupbearer logout`: a token is given back and forgotten.

use clap::Args;
use cupbearer::app;
use cupbearer::control::ClientError;

use super::Answer;
use super::output::{answer, complain};
use super::reach::Reach;
use super::renew::choose;

/// Revoke a token, forget it, and ask for no other
///
/// By the running proxy; where none runs, in the store that the configuration names.
#[derive(Debug, Args)]
pub(super) struct Logout {
    /// Its name; not needed where there is only one
    token: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

impl Logout {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let error = match self.by_the_proxy().await {
            Ok(done) => {
                answer(&done)?;
                return Ok(Answer::Yes);
            }
            Err(error) => error,
        };
        match error.downcast_ref() {
            Some(not_running @ ClientError::NotRunning { .. }) => self.by_the_store(not_running).await,
            Some(error) => {
                complain(&error.to_string());
                Ok(Answer::No)
            }
            None => Err(error),
        }
    }

    async fn by_the_proxy(&self) -> anyhow::Result<String> {
        let client = self.reach.client()?;
        let name = choose(&client, self.token.clone()).await?;
        client.logout(&name).await?;
        Ok(format!("{name}: logged out"))
    }

    /// There is no proxy to ask: what is stored is given back and deleted here.
    async fn by_the_store(&self, not_running: &ClientError) -> anyhow::Result<Answer> {
        let Some((settings, name)) = self.reach.configured(self.token.as_deref())? else {
            complain(&format!(
                "{not_running}, and there is no configuration that says where tokens are stored; see cupbearer check"
            ));
            return Ok(Answer::No);
        };
        match app::log_out(&settings, &name).await {
            Ok(()) => {
                answer(&format!("{name}: logged out"))?;
                Ok(Answer::Yes)
            }
            Err(error) => {
                complain(&format!("{name}: what was stored is deleted, unless this says otherwise: {error}"));
                Ok(Answer::No)
            }
        }
    }
}
