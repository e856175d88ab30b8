//! A token request of a source that brought no usable token, and what came with it all the same.

use std::ops::Deref;

use crate::oauth::{self, Issued, TokenFailure};
use crate::token::error::Error;

/// Why it failed, and what the response holds that must not be lost: see [`TokenFailure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::token) struct ExchangeFailure {
    error: Error,
    issued: Option<Box<Issued>>,
}

impl ExchangeFailure {
    pub(super) fn issued(&self) -> Option<&Issued> {
        self.issued.as_deref()
    }
}

impl From<TokenFailure> for ExchangeFailure {
    fn from(failure: TokenFailure) -> Self {
        let issued = failure.issued().cloned().map(Box::new);
        Self { error: oauth::Error::from(failure).into(), issued }
    }
}

impl From<Error> for ExchangeFailure {
    fn from(error: Error) -> Self {
        Self { error, issued: None }
    }
}

impl From<oauth::Error> for ExchangeFailure {
    fn from(error: oauth::Error) -> Self {
        Error::from(error).into()
    }
}

/// For a request that spends nothing which counts once.
impl From<ExchangeFailure> for Error {
    fn from(failure: ExchangeFailure) -> Self {
        failure.error
    }
}

impl Deref for ExchangeFailure {
    type Target = Error;

    fn deref(&self) -> &Error {
        &self.error
    }
}
