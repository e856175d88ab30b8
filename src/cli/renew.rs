//! `cupbearer renew`: a new token now.

use crate::control::{Client, ClientError};
use anyhow::bail;
use clap::Args;

use super::Answer;
use super::control_address::Reach;
use super::output::{answer, complain};
use super::status::span;

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
        match self.renew().await {
            Ok(done) => {
                answer(&done)?;
                Ok(Answer::Yes)
            }
            Err(error) if error.is::<ClientError>() => {
                complain(&error.to_string());
                Ok(Answer::No)
            }
            Err(error) => Err(error),
        }
    }

    async fn renew(self) -> anyhow::Result<String> {
        let client = self.reach.client()?;
        let name = choose(&client, self.token).await?;
        let token = client.renew(&name).await?;
        let left = token.expires_in_seconds.map(|left| format!(", expires in {}", span(left)));
        Ok(format!("{name}: renewed{}", left.unwrap_or_default()))
    }
}

/// The token that is meant: as told, else the only one that the running proxy has.
pub(super) async fn choose(client: &Client, told: Option<String>) -> anyhow::Result<String> {
    match told {
        Some(name) => Ok(name),
        None => only(client.status().await?.tokens.into_iter().map(|token| token.name).collect()),
    }
}

/// The only one of `names`.
pub(super) fn only(mut names: Vec<String>) -> anyhow::Result<String> {
    match (names.pop(), names.as_slice()) {
        (None, _) => bail!("no token is configured"),
        (Some(only), []) => Ok(only),
        (Some(last), others) => {
            bail!("there are several tokens; name one of {}, {last}", others.join(", "))
        }
    }
}
