//! Where a client's secret comes from: `client_secret_file`, `client_secret_env`, or `client_secret` itself.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::file::Token;
use super::findings::Review;
use super::problem::{KeyPath, Shown};
use crate::secret::{Secret, SecretError, SecretSource};

/// The names of the environment's variables that are set to something.
pub(super) struct Variables(BTreeSet<OsString>);

impl Variables {
    pub(super) fn new(variables: &[(OsString, OsString)]) -> Self {
        Self(variables.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.clone()).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(&OsString::from(name))
    }
}

/// The source of the secret of the token at `path`. Exactly one key may say it, unless one of several comes from
/// the environment, which was meant to win.
pub(super) fn resolve(
    path: &KeyPath,
    token: &Token,
    variables: &Variables,
    review: &mut Review<'_>,
) -> Option<SecretSource> {
    let at = |key: &str| path.key(key);
    let mut given = Vec::new();
    if let Some(file) = &token.client_secret_file {
        given.push((at("client_secret_file"), Written::File(file)));
    }
    if let Some(name) = &token.client_secret_env {
        given.push((at("client_secret_env"), Written::Env(name)));
    }
    if let Some(secret) = &token.client_secret {
        given.push((at("client_secret"), Written::Inline(secret)));
    }
    if given.iter().filter(|(path, _)| review.is_override(path)).count() == 1 {
        given.retain(|(path, _)| review.is_override(path));
    }
    match given.as_slice() {
        [] => {
            // Each of the three that is there and wrong has its problem already.
            let keys = ["client_secret_file", "client_secret_env", "client_secret"];
            if !keys.iter().any(|key| review.is_spoken_for(&at(key))) {
                let mend = review.set(&at(keys[0]));
                review.missing(&at(keys[0]), "the client has no secret", mend);
            }
            None
        }
        [(path, written)] => written.resolve(path, variables, review),
        [_, (second, _), ..] => {
            review.error(
                second,
                "the client has more than one secret",
                "keep client_secret_file, and take out the rest",
            );
            None
        }
    }
}

/// What the user wrote.
enum Written<'t> {
    File(&'t str),
    Env(&'t str),
    Inline(&'t Secret<String>),
}

impl Written<'_> {
    fn resolve(
        &self,
        path: &KeyPath,
        variables: &Variables,
        review: &mut Review<'_>,
    ) -> Option<SecretSource> {
        match self {
            Self::File("") => {
                review.error(path, "is empty", "name the file that holds the secret");
                None
            }
            Self::File(file) => {
                let source = SecretSource::File(review.file(path, file));
                match source.read() {
                    Ok(_) => {}
                    Err(error @ (SecretError::Missing(_) | SecretError::Empty(_))) => review.warning(
                        path,
                        format!("{error}: no token can be had until it does"),
                        "write the secret into it; that counts without a restart",
                    ),
                    Err(error) => {
                        review.error(
                            path,
                            error.to_string(),
                            "name a small text file that this user may read",
                        );
                        return None;
                    }
                }
                Some(source)
            }
            Self::Env(name) => {
                if name.is_empty() || name.contains(['=', '\0']) {
                    review.error(path, "is not the name of an environment variable", "write the name alone");
                    return None;
                }
                if !variables.has(name) {
                    review.warning(
                        path,
                        format!("the variable {} is not set", Shown(name)),
                        "set it before the start",
                    );
                }
                Some(SecretSource::Env((*name).to_owned()))
            }
            Self::Inline(secret) if secret.expose().is_empty() => {
                review.error(
                    path,
                    "is empty",
                    "put the secret into a file and name it by `client_secret_file`",
                );
                None
            }
            Self::Inline(secret) => {
                let mend = "put it into a file and name that by `client_secret_file`";
                review.warning(path, "the secret itself stands in the configuration", mend);
                Some(SecretSource::Inline((*secret).clone()))
            }
        }
    }
}
