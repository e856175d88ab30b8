//! What keeps a token request from being made: this machine, the configuration and the files that it names.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::machine::Unreadable;
use crate::net::threads::NotDone;
use crate::oauth::discovery::role::Role;
use crate::oauth::error::class::Class;
use crate::oauth::jose::key::KeyError;
use crate::secret::{SecretError, SecretSource};

/// Why no token request was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestFault {
    #[error("{0}; no token request was made")]
    Secret(SecretError),
    #[error("{0} is no key to sign with: {1}; no token request was made")]
    Key(Held, KeyError),
    #[error("{0} is a JSON file of Google's, but {1}; no token request was made")]
    GoogleKey(Held, GoogleFault),
    #[error("the certificate file {path} {fault}; no token request was made", path = .0.display(), fault = .1)]
    Certificate(PathBuf, CertificateFault),
    #[error(
        "the client secret is shorter than client_secret_jwt needs, which is 32 bytes with HS256, 48 with HS384 and 64 with HS512; have a longer one made, or take client_secret_basic"
    )]
    ShortSecret,
    #[error(
        "the client's assertion is for the issuer and none is configured; set `issuer`, or `client_assertion_audience = \"endpoint\"`"
    )]
    NoIssuer,
    #[error("nothing says where the {0} is; set `{0}`, or an `issuer` whose metadata name it")]
    NoEndpoint(Role),
    #[error("the token endpoint is plain http on another machine; a secret goes there by https alone")]
    InsecureEndpoint,
    #[error("{0}; {help}; no token request was made", help = help_of_machine(*.0))]
    Machine(NotDone),
    /// What a file holds says itself that it has expired; `told` is the file and the date.
    #[error(
        "the {what} in the file {told}; see why nothing writes another one, and compare the clock; no token request was made"
    )]
    Outdated { what: &'static str, told: Box<str> },
    #[error("the token request ended in a defect of this program; please report it")]
    Panicked,
}

impl RequestFault {
    pub(in crate::oauth) const fn class(&self) -> Class {
        match self {
            Self::Secret(SecretError::Lacking(..))
            | Self::Machine(_)
            | Self::Outdated { .. }
            | Self::Panicked => Class::Transient,
            Self::Secret(_)
            | Self::Key(..)
            | Self::GoogleKey(..)
            | Self::Certificate(..)
            | Self::ShortSecret
            | Self::NoIssuer
            | Self::NoEndpoint(_)
            | Self::InsecureEndpoint => Class::Misconfigured,
        }
    }

    pub(in crate::oauth) const fn cause(&self) -> &'static str {
        match self {
            Self::Secret(SecretError::Lacking(..)) | Self::Machine(_) => "machine",
            Self::Secret(_) | Self::ShortSecret => "secret",
            Self::Key(..) | Self::GoogleKey(..) => "key",
            Self::Certificate(..) => "certificate",
            Self::NoIssuer => "no_issuer",
            Self::NoEndpoint(_) => "no_endpoint",
            Self::InsecureEndpoint => "insecure_endpoint",
            Self::Outdated { .. } => "outdated",
            Self::Panicked => "internal",
        }
    }

    pub(super) fn public_reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Secret(SecretError::Lacking(..)) | Self::Machine(_) => LACKING,
            Self::Secret(_) => {
                "a secret or an assertion that the configuration names cannot be read, so no token request was sent"
            }
            Self::Key(..) | Self::GoogleKey(..) => {
                "the client's key cannot be used for signing, so no token request was sent"
            }
            Self::Certificate(..) => {
                "the client's certificate file cannot be used, so no token request was sent"
            }
            Self::ShortSecret => {
                "the client's secret is too short for client_secret_jwt, so no token request was sent"
            }
            Self::NoIssuer => {
                "the configuration names no issuer for the client's assertion, so no token request was sent"
            }
            Self::NoEndpoint(role) => {
                return Cow::Owned(format!(
                    "neither the configuration nor the authorization server's metadata name the {role}, so no token request was sent"
                ));
            }
            Self::InsecureEndpoint => {
                "the token endpoint is plain http on another machine, so no token request was sent"
            }
            Self::Outdated { what, .. } => {
                return format!("the configured {what} has expired, so no token request was sent").into();
            }
            Self::Panicked => "an internal error of this proxy",
        })
    }
}

/// What an application may know of a machine that lacks something.
pub(super) const LACKING: &str = "this machine lacks what a token request takes, so none was sent";

/// What to do about what this machine lacks.
const fn help_of_machine(not_done: NotDone) -> &'static str {
    match not_done {
        NotDone::NoThread => "raise the limit of processes (pids.max of the cgroup, ulimit -u)",
        NotDone::Full | NotDone::Panicked => "see which file hangs",
    }
}

/// Where a key is held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Held {
    #[error("the key in the configuration")]
    Configuration,
    #[error("the environment variable {0}")]
    Variable(String),
    #[error("the key file {}", .0.display())]
    File(PathBuf),
}

impl Held {
    pub(crate) fn by(source: &SecretSource) -> Self {
        match source {
            SecretSource::Inline(_) => Self::Configuration,
            SecretSource::Env(name) => Self::Variable(name.clone()),
            SecretSource::File(path) => Self::File(path.clone()),
        }
    }
}

/// What is wrong with a key file of Google's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GoogleFault {
    #[error("not of a service account; make a key for one, or take another grant")]
    Type,
    #[error("it has no `{0}`; download it again")]
    Missing(&'static str),
}

/// What is wrong with the certificate whose thumbprint an assertion names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateFault {
    #[error("{0}")]
    Unreadable(Unreadable),
    #[error("holds no certificate in PEM")]
    NoCertificate,
}
