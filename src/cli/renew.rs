//! `cupbearer renew`: a new token now.

use clap::Args;
use cupbearer::control::{Client, ClientError};

use super::Answer;
use super::output::{answer, complain};
use super::reach::Reach;

/// Renew a token now
#[derive(Debug, Args)]
pub(super) struct Renew {
    /// Its name; not needed where there is only one
    token: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

impl Renew {
    pub(super) async fn run(self) -> anyhow::Result<Answer> {
        let client = self.reach.client();
        let renewed = match choose(&client, self.token).await {
            Ok(name) => client.renew(&name).await.map(|token| (name, token)),
            Err(error) => Err(error),
        };
        match renewed {
            Ok((name, token)) => {
                let left = token.expires_in_seconds.unwrap_or_default();
                answer(&format!("{name}: renewed, expires in {left} s"))?;
                Ok(Answer::Yes)
            }
            Err(error) => {
                complain(&error.to_string());
                Ok(Answer::No)
            }
        }
    }
}

/// The token that is meant: as told, else the only one there is. Where there are several, the name is left empty, and
/// the proxy answers with those that it knows.
pub(super) async fn choose(client: &Client, told: Option<String>) -> Result<String, ClientError> {
    if let Some(name) = told {
        return Ok(name);
    }
    let status = client.status().await?;
    match status.tokens.as_slice() {
        [only] => Ok(only.name.clone()),
        _ => Ok(String::new()),
    }
}
