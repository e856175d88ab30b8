//! Where a configuration comes from: a file, a text, or flags alone.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::problem::{KeyPath, Origin, Position, Problem, Problems, Severity};
use super::tree::{Node, Value};
use crate::machine::{self, Unreadable};

/// Where the configuration comes from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file.
    File(PathBuf),
    /// A text that is at hand. Relative paths in it start from the working directory.
    Text {
        /// What problems call it.
        name: String,
        /// TOML.
        text: String,
    },
    /// The command line, without a file.
    Flags(Flags),
}

/// The flags-only form: one route `/`, one upstream and one token, all named `default`. Each is as the user gave it;
/// an empty one counts as not given, as an environment variable set to nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// `--listen`: `server.listen`.
    pub listen: Option<String>,
    /// `--upstream`: the upstream's `url`.
    pub upstream: Option<String>,
    /// `--issuer`.
    pub issuer: Option<String>,
    /// `--token-endpoint`.
    pub token_endpoint: Option<String>,
    /// `--client-id`.
    pub client_id: Option<String>,
    /// `--client-secret-file`.
    pub client_secret_file: Option<String>,
    /// `--scope`.
    pub scope: Option<String>,
    /// `--audience`.
    pub audience: Option<String>,
}

impl Source {
    /// What the command line means: a file where one is named, else the flags where there are any, else
    /// `./config.toml`.
    ///
    /// # Errors
    /// A problem for each flag that stands beside a file: which of the two would win is nothing to guess.
    pub(crate) fn choose(file: Option<PathBuf>, flags: Flags) -> Result<Self, Problems> {
        let given = flags.given();
        match file {
            None if given.is_empty() => Ok(Self::File(PathBuf::from(DEFAULT_FILE))),
            None => Ok(Self::Flags(flags)),
            Some(file) if given.is_empty() => Ok(Self::File(file)),
            Some(_) => Err(given
                .iter()
                .map(|Given { flag, key, .. }| Problem {
                    severity: Severity::Error,
                    origin: Origin::Flag(flag),
                    key: KeyPath::default(),
                    what: "has no meaning beside --config".to_owned(),
                    help: format!("leave it (or its environment variable) out, and set `{key}` in the file"),
                })
                .collect()),
        }
    }

    /// That `usual` exists and is not read because of a flag: which of many variables brought that about is hard to see.
    pub(super) fn left_aside(&self, usual: &Path) -> Option<Problem> {
        let Self::Flags(flags) = self else { return None };
        let given: Vec<_> = flags.given().into_iter().map(|given| given.flag).collect();
        let first = given.first().filter(|_| usual.exists())?;
        let names = given.iter().map(|flag| format!("{flag} (or {})", variable_of(flag)));
        let names = names.collect::<Vec<_>>().join(", ");
        Some(Problem {
            severity: Severity::Warning,
            origin: Origin::Flag(first),
            key: KeyPath::default(),
            what: format!("{} is left aside, because there is {names}", usual.display()),
            help: "to use the file, leave that out; to change one key of it, use CUPBEARER__SECTION__KEY"
                .to_owned(),
        })
    }

    /// The directory that relative paths in the file start from; empty: the working directory.
    pub(super) fn base(&self) -> &Path {
        match self {
            Self::File(path) => path.parent().unwrap_or(Path::new("")),
            Self::Text { .. } | Self::Flags(_) => Path::new(""),
        }
    }
}

/// The text may hold an inline secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text { name, .. } => f.debug_struct("Text").field("name", name).finish_non_exhaustive(),
            Self::Flags(flags) => f.debug_tuple("Flags").field(flags).finish(),
        }
    }
}

/// A flag that was given.
struct Given<'f> {
    flag: &'static str,
    key: KeyPath,
    value: &'f str,
}

impl Flags {
    fn given(&self) -> Vec<Given<'_>> {
        let values = [
            &self.listen,
            &self.upstream,
            &self.issuer,
            &self.token_endpoint,
            &self.client_id,
            &self.client_secret_file,
            &self.scope,
            &self.audience,
        ];
        FLAGS
            .iter()
            .zip(values)
            .filter_map(|((flag, key), value)| {
                let value = value.as_deref().filter(|value| !value.is_empty())?;
                Some(Given { flag, key: KeyPath::from(*key), value })
            })
            .collect()
    }

    /// The flags as the tree that a file would have been.
    pub(super) fn tree(&self) -> Node {
        let line = || Origin::CommandLine;
        let mut root = Node::table(line());
        let fixed = [
            ("upstreams.default", Node::table(line())),
            ("tokens.default", Node::table(line())),
            ("routes", Node::new(line(), Value::Array(vec![Node::table(line())]))),
        ];
        let route = ["path", "upstream", "token"].map(|key| KeyPath::from("routes").index(0).key(key));
        let given = self
            .given()
            .into_iter()
            .map(|given| (given.key, Node::string(Origin::Flag(given.flag), given.value)));
        let nodes = fixed
            .map(|(key, node)| (KeyPath::from(key), node))
            .into_iter()
            .chain(route.into_iter().zip(["/", "default", "default"].map(|v| Node::string(line(), v))))
            .chain(given);
        for (key, node) in nodes {
            // It answers only where an array is too short; the one there is has its element.
            let _ = root.put(&key, node);
        }
        root
    }
}

/// The flag that sets `key` in the flags-only form.
pub(super) fn flag_of(key: &KeyPath) -> Option<&'static str> {
    FLAGS.iter().find(|(_, known)| KeyPath::from(*known) == *key).map(|(flag, _)| *flag)
}

/// The environment variable that stands for `flag`.
fn variable_of(flag: &str) -> String {
    format!("CUPBEARER_{}", flag.trim_start_matches('-').to_ascii_uppercase().replace('-', "_"))
}

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, Problems> {
    let name = path.display().to_string();
    let problem = |at, what: &str, help: &str| -> Problems {
        Problem {
            severity: Severity::Error,
            origin: Origin::File { name: name.as_str().into(), at },
            key: KeyPath::default(),
            what: what.to_owned(),
            help: help.to_owned(),
        }
        .into()
    };
    let unreadable = |why: Unreadable| match why {
        Unreadable::Missing => problem(
            None,
            "there is no such file",
            "name the file with --config FILE, or run without one: cupbearer run --upstream URL --issuer URL \
             --client-id ID --client-secret-file FILE",
        ),
        Unreadable::TooLarge(most) => {
            let what = format!("is larger than {} MiB", most >> 20);
            problem(None, &what, "name a configuration file with --config FILE")
        }
        Unreadable::NotAFile(_) => {
            problem(None, &why.to_string(), "name a configuration file with --config FILE")
        }
        Unreadable::NoWriter | Unreadable::SlowWriter => {
            problem(None, &why.to_string(), "see that the program that writes to it ends, or name a file")
        }
        Unreadable::Lacking(lack) => problem(None, &why.to_string(), lack.help()).lacking(lack),
        Unreadable::System(_) => {
            problem(None, &why.to_string(), "make it readable for the user who runs this")
        }
    };
    let bytes = machine::read(path, MAX_FILE_BYTES).map_err(unreadable)?.bytes;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
            Err(problem(Some(Position { line, column }), "is not UTF-8 text", "save the file as UTF-8"))
        }
    }
}

/// Each flag of the flags-only form and its key, in the order of [`Flags`].
const FLAGS: [(&str, &str); 8] = [
    ("--listen", "server.listen"),
    ("--upstream", "upstreams.default.url"),
    ("--issuer", "tokens.default.issuer"),
    ("--token-endpoint", "tokens.default.token_endpoint"),
    ("--client-id", "tokens.default.client_id"),
    ("--client-secret-file", "tokens.default.client_secret_file"),
    ("--scope", "tokens.default.scope"),
    ("--audience", "tokens.default.audience"),
];
pub(super) const DEFAULT_FILE: &str = "config.toml";
/// No configuration is near this; a mistaken path to a large file stops here.
const MAX_FILE_BYTES: usize = 10 << 20;
