//! `cupbearer token`: the access token itself on standard output, on purpose, for scripts.

use anyhow::bail;
use clap::Args;
use cupbearer::app;
use cupbearer::control::ClientError;

use super::Answer;
use super::output::{answer, complain};
use super::reach::Reach;
use super::renew::choose;

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
        let client = self.reach.client();
        let held = match choose(&client, self.token.clone()).await {
            Ok(name) => client.access_token(&name).await,
            Err(error) => Err(error),
        };
        match held {
            Ok(token) => {
                answer(token.expose())?;
                Ok(Answer::Yes)
            }
            Err(error @ ClientError::NotRunning { .. }) => self.fetch(&error).await,
            Err(error) => {
                complain(&error.to_string());
                Ok(Answer::No)
            }
        }
    }

    /// Asks the authorization server: there is no proxy to ask.
    async fn fetch(self, not_running: &ClientError) -> anyhow::Result<Answer> {
        let Some(settings) = self.reach.settings() else {
            complain(&format!(
                "{not_running}, and there is no configuration to ask for a token by; see cupbearer check"
            ));
            return Ok(Answer::No);
        };
        let names: Vec<&str> = settings.tokens.keys().map(String::as_str).collect();
        let name = match (&self.token, names.as_slice()) {
            (Some(name), _) => name.as_str(),
            (None, [only]) => only,
            (None, _) => bail!("there are several tokens; name one of {}", names.join(", ")),
        };
        let Some(token) = settings.tokens.get(name) else {
            bail!("there is no token {name}; there is {}", names.join(", "));
        };
        match app::fetch_token(token).await {
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
