//! The configuration: from what the user wrote to the domain's own types, or to a list of problems.
//!
//! [`load`] reads a [`Source`], lays the environment's overrides over it, and answers [`Settings`] or every problem
//! at once. Nothing is printed here, nothing runs here, and a reload is one more `load`. `app` calls it for `run`,
//! `cli` for `check`.

mod draft;
mod file;
mod findings;
mod later;
mod options;
mod overrides;
mod permissions;
mod problem;
mod resolve;
mod schema;
mod secret_oddity;
mod secret_ref;
mod shape;
mod source;
mod surfaces;
mod tree;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use options::Options;
#[cfg(test)]
pub(crate) use problem::Origin;
pub(crate) use problem::{Problem, Problems, Severity};
pub(crate) use resolve::Settings;
pub(crate) use schema::schema;
pub(crate) use source::{Flags, Source};
pub(crate) use surfaces::{control_address, health_address};

use draft::{Draft, sorted};
use findings::Review;
use secret_ref::Variables;

/// Reads a duration as the configuration has them: `500ms`, `30s`, `1h30m`. `None` where it is none.
#[must_use]
pub(crate) fn duration(text: &str) -> Option<Duration> {
    file::Period::parse(text).map(|period| period.0)
}

/// A configuration that can be run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loaded {
    /// The configuration.
    pub settings: Settings,
    /// What the user should know about it.
    pub warnings: Problems,
    /// Every file that it was made of or names: the configuration's own, secrets, certificate authorities. For a
    /// watcher.
    pub files: Vec<PathBuf>,
}

/// Reads the configuration. `environment` is all variables of the process; only names that begin with
/// `CUPBEARER__` count, and those that the configuration itself names are looked for. Blocks for reads of small
/// local files.
///
/// # Errors
/// Everything that is wrong, warnings included, in the order of the file.
pub(crate) fn load(
    source: &Source,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    options: Options,
) -> Result<Loaded, Problems> {
    let environment = sorted(environment);
    let Draft { root, file, findings } = Draft::read(source, &environment)?;
    let mut review = Review::new(&root, findings);
    let settings = resolve::resolve(file, &mut review, options, &Variables::new(&environment));
    let problems = review.into_problems();
    match settings {
        Some(settings) if !problems.refuse() => {
            let mut files = settings.files();
            if let Source::File(path) = source {
                files.insert(0, path.clone());
            }
            Ok(Loaded { settings, warnings: problems, files })
        }
        _ => {
            let left_aside = source.left_aside(Path::new(source::DEFAULT_FILE));
            Err(problems.iter().cloned().chain(left_aside).collect())
        }
    }
}

#[cfg(test)]
mod tests;
