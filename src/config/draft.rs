//! A configuration as it is written, with the overrides of the environment: before anything that it names is looked at.

use std::ffi::OsString;

use super::file::File;
use super::findings::Findings;
use super::problem::Problems;
use super::source::{self, Source};
use super::tree::{self, Node, Parsed};
use super::{overrides, shape};

/// A configuration as it is written: every key has its type, and nothing that it names was looked at.
pub(super) struct Draft {
    pub(super) root: Node,
    pub(super) file: File,
    pub(super) findings: Findings,
}

impl Draft {
    /// Reads `source` and lays the overrides in `environment` over it.
    pub(super) fn read(source: &Source, environment: &[(OsString, OsString)]) -> Result<Self, Problems> {
        let Parsed { mut root, problems, murky } = match source {
            Source::File(path) => tree::parse(&path.display().to_string(), &source::read(path)?),
            Source::Text { name, text } => tree::parse(name, text),
            Source::Flags(flags) => {
                Parsed { root: flags.tree(), problems: Problems::default(), murky: Vec::new() }
            }
        };
        let mut findings = Findings::new(problems, murky, source.base());
        for problem in overrides::apply(&mut root, environment) {
            findings.push(problem);
        }
        if let Some(file) = shape::read(&mut root, |root, misfit| findings.misfit(root, misfit)) {
            Ok(Self { root, file, findings })
        } else {
            findings.too_many();
            Err(findings.into_problems(&root))
        }
    }
}

pub(super) fn sorted(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<_> = environment.into_iter().collect();
    environment.sort();
    environment
}
