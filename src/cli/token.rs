//! `cupbearer token`: the access token itself on standard output, on purpose, for scripts.

use crate::app;
use crate::control::ClientError;
use crate::secret::Secret;
use clap::Args;

use super::Answer;
use super::control_address::Reach;
use super::output::{answer, complain};
use super::renew::choose;

/// Print an access token on standard output
///
/// The running proxy's token; where no proxy runs, or it has no control surface, a new one by the configuration.
#[derive(Debug, Args)]
pub(super) struct Token {
    /// Its name; not needed where there is only one
    token: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

impl Token {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let error = match self.held().await {
            Ok(token) => {
                answer(token.expose())?;
                return Ok(Answer::Yes);
            }
            Err(error) => error,
        };
        match error.downcast_ref::<ClientError>() {
            Some(absent) if absent.is_absent() => self.fetch(absent).await,
            Some(error) => {
                complain(&error.to_string());
                Ok(Answer::No)
            }
            None => Err(error),
        }
    }

    /// The running proxy's.
    async fn held(&self) -> anyhow::Result<Secret<String>> {
        let client = self.reach.client()?;
        let name = choose(&client, self.token.clone()).await?;
        Ok(client.access_token(&name).await?)
    }

    /// Asks the authorization server: there is no proxy to ask.
    async fn fetch(&self, absent: &ClientError) -> anyhow::Result<Answer> {
        let Some((settings, name)) = self.reach.configured(self.token.as_deref())? else {
            complain(&format!(
                "{absent}, and there is no configuration to ask for a token by; see cupbearer check{}",
                self.reach.config_option()
            ));
            return Ok(Answer::No);
        };
        match app::fetch_token(&settings, &name).await {
            Ok(token) => {
                answer(token.expose())?;
                Ok(Answer::Yes)
            }
            Err(error) => {
                complain(&error.to_string());
                Ok(Answer::No)
            }
        }
    }
}
