//! Where a secret comes from: a file (`..._file`), an environment variable (`..._env`), or the configuration itself.
//!
//! It is read once here, so that what can be known about it is known at the start. Nothing of it gets into a problem.

use std::ffi::{OsStr, OsString};

use super::findings::Review;
use super::permissions::{self, Exposed};
use super::problem::{KeyPath, Shown};
use super::secret_oddity::Oddity;
use crate::secret::{Secret, SecretError, SecretSource};

/// The environment's variables, which are looked at and never shown.
pub(super) struct Variables<'e>(&'e [(OsString, OsString)]);

impl<'e> Variables<'e> {
    pub(super) const fn new(variables: &'e [(OsString, OsString)]) -> Self {
        Self(variables)
    }

    /// What a variable is set to; `None` where it is not there, or is empty.
    pub(super) fn value(&self, name: &str) -> Option<&'e OsStr> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(value)
    }
}

/// A secret that is asked for: what it is called, and the keys that may say where it is.
pub(super) struct Wanted<'t> {
    /// What it is, in a sentence: `secret`, `private key`.
    pub(super) noun: &'static str,
    /// Whose it is, in a sentence: `the client`.
    pub(super) owner: &'static str,
    /// The keys, the best of them first.
    pub(super) keys: Vec<(&'static str, Written<'t>)>,
}

/// What the user wrote at a key; `None`: nothing.
#[derive(Clone, Copy)]
pub(super) enum Written<'t> {
    File(Option<&'t str>),
    Env(Option<&'t str>),
    Inline(Option<&'t Secret<String>>),
}

/// A secret that was found.
pub(super) struct Found {
    /// The key that says where it is.
    pub(super) key: KeyPath,
    /// Where it is read at each use.
    pub(super) source: SecretSource,
    /// What it is now; `None` where it is not there yet.
    pub(super) now: Option<Secret<String>>,
}

/// Whether a secret must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Without it nothing works. The fix, where it is more than to set the first key.
    Required(Option<String>),
    Optional,
}

/// What a secret meets that is configured and not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    /// A warning: it may come later.
    Awaited,
    Refused,
}

impl Wanted<'_> {
    /// Finds the secret of the table at `path`. Exactly one key may say it, unless one of several comes from the
    /// environment, which was meant to win. `Err`: there is none, and that is reported. `Ok(None)`: it may be so.
    pub(super) fn resolve(
        &self,
        path: &KeyPath,
        need: Need,
        variables: &Variables<'_>,
        review: &mut Review<'_>,
    ) -> Result<Option<Found>, ()> {
        self.find(path, need, Absent::Awaited, variables, review)
    }

    fn find(
        &self,
        path: &KeyPath,
        need: Need,
        absent: Absent,
        variables: &Variables<'_>,
        review: &mut Review<'_>,
    ) -> Result<Option<Found>, ()> {
        let mut given: Vec<_> = self
            .keys
            .iter()
            .filter(|(_, written)| written.is_there())
            .map(|(key, written)| (path.key(key), written))
            .collect();
        if given.iter().filter(|(path, _)| review.is_override(path)).count() == 1 {
            given.retain(|(path, _)| review.is_override(path));
        }
        let first = self.keys.first().map_or("", |(key, _)| key);
        match given.as_slice() {
            [] => {
                // A key that is there and wrong has its problem already.
                let wrong = self.keys.iter().any(|(key, _)| review.is_spoken_for(&path.key(key)));
                match need {
                    Need::Optional if !wrong => return Ok(None),
                    Need::Required(help) if !wrong => {
                        let first = path.key(first);
                        let help = help.unwrap_or_else(|| review.set(&first));
                        review.missing(&first, &format!("{} has no {}", self.owner, self.noun), help);
                    }
                    _ => {}
                }
                Err(())
            }
            [(path, written)] => {
                let found = written.resolve(path, self.noun, first, absent, variables, review).ok_or(())?;
                for oddity in found.now.iter().flat_map(|now| Oddity::of(self.noun, now.expose())) {
                    review.warning(path, oddity.finding(self.noun), oddity.help(self.noun));
                }
                Ok(Some(found))
            }
            [_, (second, _), ..] => {
                review.error(
                    second,
                    format!("{} has more than one {}", self.owner, self.noun),
                    format!("keep {first}, and take out the rest"),
                );
                Err(())
            }
        }
    }

    /// As [`Wanted::resolve`], of a secret that need not be configured, and must be there where it is: where it is, and
    /// what it is now.
    pub(super) fn resolve_now(
        &self,
        path: &KeyPath,
        variables: &Variables<'_>,
        review: &mut Review<'_>,
    ) -> Result<Option<(KeyPath, SecretSource, Secret<String>)>, ()> {
        let Some(found) = self.find(path, Need::Optional, Absent::Refused, variables, review)? else {
            return Ok(None);
        };
        Ok(Some((found.key, found.source, found.now.ok_or(())?)))
    }

    /// As [`Wanted::resolve`], of a secret that nothing works without.
    pub(super) fn require(
        &self,
        path: &KeyPath,
        variables: &Variables<'_>,
        review: &mut Review<'_>,
    ) -> Option<Found> {
        self.resolve(path, Need::Required(None), variables, review).ok().flatten()
    }
}

impl Written<'_> {
    const fn is_there(&self) -> bool {
        match self {
            Self::File(text) | Self::Env(text) => text.is_some(),
            Self::Inline(secret) => secret.is_some(),
        }
    }

    fn resolve(
        self,
        path: &KeyPath,
        noun: &str,
        first: &str,
        absent: Absent,
        variables: &Variables<'_>,
        review: &mut Review<'_>,
    ) -> Option<Found> {
        let found = |source, now| Some(Found { key: path.clone(), source, now });
        match self {
            Self::File(Some("")) => {
                review.error(path, "is empty", format!("name the file that holds the {noun}"));
                None
            }
            Self::File(Some(file)) => {
                let source = SecretSource::File(review.file(path, file));
                let now = match read_as(&source, noun) {
                    Ok(secret) => Some(secret),
                    Err(error @ (SecretError::Missing(_) | SecretError::Empty(_)))
                        if absent == Absent::Awaited =>
                    {
                        review.warning(
                            path,
                            format!("{error}: no token can be had until that is mended"),
                            format!("write the {noun} into it; that counts without a restart"),
                        );
                        None
                    }
                    Err(error) => {
                        review.unusable(path, &error, "name a small text file that this user may read");
                        return None;
                    }
                };
                if let Some(file) = source.file()
                    && let Some(exposed) = permissions::exposed(file)
                {
                    warn_of_others(path, file, exposed, review);
                }
                found(source, now)
            }
            Self::Env(Some(name)) => {
                if name.is_empty() || name.contains(['=', '\0']) {
                    review.error(path, "is not the name of an environment variable", "write the name alone");
                    return None;
                }
                let value = variables.value(name);
                if value.is_none() && absent == Absent::Refused {
                    let what = format!("the variable {} is not set", Shown(name));
                    review.error(path, what, "set it before the start");
                    return None;
                }
                if value.is_none() {
                    review.warning(
                        path,
                        format!("the variable {} is not set", Shown(name)),
                        "set it before the start",
                    );
                }
                let source = SecretSource::Env(name.to_owned());
                let now =
                    match value.map(|value| cleaned(&source, value.as_encoded_bytes(), noun)).transpose() {
                        Ok(now) => now,
                        Err(error) => {
                            review.error(path, error.to_string(), format!("set it to the {noun} alone"));
                            return None;
                        }
                    };
                found(source, now)
            }
            Self::Inline(Some(secret)) => {
                let into_a_file = format!("into a file and name that by `{first}`");
                if secret.expose().is_empty() {
                    review.error(path, "is empty", format!("put the {noun} {into_a_file}"));
                    return None;
                }
                let source = SecretSource::Inline(secret.clone());
                let now = match read_as(&source, noun) {
                    Ok(now) => now,
                    Err(error) => {
                        review.error(path, error.to_string(), format!("put the {noun} {into_a_file}"));
                        return None;
                    }
                };
                let what = format!("the {noun} itself stands in the configuration");
                review.warning(path, what, format!("put it {into_a_file}"));
                found(source, Some(now))
            }
            Self::File(None) | Self::Env(None) | Self::Inline(None) => None,
        }
    }
}

/// Reads a secret that is called `noun`.
fn read_as(source: &SecretSource, noun: &str) -> Result<Secret<String>, SecretError> {
    let secret = source.read()?;
    if ONE_LINE.contains(&noun) {
        source.one_line(&secret)?;
    }
    Ok(secret)
}

/// The same, of bytes that were read already.
fn cleaned(source: &SecretSource, bytes: &[u8], noun: &str) -> Result<Secret<String>, SecretError> {
    let secret = source.clean(bytes)?;
    if ONE_LINE.contains(&noun) {
        source.one_line(&secret)?;
    }
    Ok(secret)
}

/// What is one line by its nature; keys and tokens may be more.
const ONE_LINE: [&str; 2] = ["secret", "password"];

/// A secret that everybody on the machine may read is none.
fn warn_of_others(path: &KeyPath, file: &std::path::Path, exposed: Exposed, review: &mut Review<'_>) {
    let what = match exposed {
        Exposed::Readable => "every user of this machine may read the file",
        Exposed::Writable => "every user of this machine may write the file",
    };
    review.warning(path, format!("{what} {}", file.display()), format!("chmod 600 {}", file.display()));
}
