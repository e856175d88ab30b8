//! `cupbearer token`: the access token itself on standard output, on purpose, for scripts.

use anyhow::bail;
use clap::Args;
use cupbearer::app;
use cupbearer::control::ClientError;
use cupbearer::secret::Secret;

use super::Answer;
use super::output::{answer, complain};
use super::reach::Reach;
use super::renew::{choose, only};

/// Print an access token on standard output
///
/// The running proxy's token; where no proxy runs, a new one by the configuration.
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
        match error.downcast_ref() {
            Some(not_running @ ClientError::NotRunning { .. }) => self.fetch(not_running).await,
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
    async fn fetch(&self, not_running: &ClientError) -> anyhow::Result<Answer> {
        let Some(settings) = self.reach.settings() else {
            complain(&format!(
                "{not_running}, and there is no configuration to ask for a token by; see cupbearer check"
            ));
            return Ok(Answer::No);
        };
        let names: Vec<String> = settings.tokens.keys().cloned().collect();
        let name = match &self.token {
            Some(name) => name.clone(),
            None => only(names.clone())?,
        };
        if !settings.tokens.contains_key(&name) {
            bail!("there is no token {name}; there is {}", names.join(", "));
        }
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
