//! The token path: when to renew, who renews, and what a request sees of it.
//!
//! schedule -> renewer -> source -> `oauth` -> state -> schedule. Nothing here knows a request or the configuration's
//! file.

mod account;
mod activity;
mod attempt;
mod binding;
#[cfg(any(all(test, feature = "demo"), feature = "benching"))]
mod counted_source;
mod error;
mod facts;
mod fair_share;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handle;
mod inputs;
mod metrics;
mod queue;
mod rejection;
mod renewer;
mod request_error;
#[cfg(test)]
mod scale;
pub(crate) mod schedule;
mod scopes;
mod settings;
#[cfg(test)]
mod simulation;
mod source;
mod span;
mod state;
pub(crate) mod store;
mod subject_tokens;
#[cfg(all(test, feature = "demo"))]
mod tests;
mod token_registry;
mod unavailable;

pub(crate) use crate::oauth::{BINDING_HELP, ChallengeVerdict, Incurable};
pub(crate) use account::{Account, LoginError};
pub(crate) use binding::Binding;
pub(crate) use binding::Verdict;
#[cfg(feature = "benching")]
pub(crate) use counted_source::{CountedSource, Load, client_credentials};
pub(crate) use error::{Error, FrameFault, LoginFault};
#[cfg(test)]
pub(crate) use facts::{Advice, Facts, Failing};
pub(crate) use handle::TokenHandle;
#[cfg(test)]
pub(crate) use rejection::MIN_REJECT_GAP;
pub(crate) use rejection::Rejection;
#[cfg(test)]
pub(crate) use renewer::CONCURRENT_REQUESTS;
pub(crate) use renewer::RenewerHandle;
pub(crate) use renewer::{Limits, Renewer};
pub(crate) use request_error::{ForgetError, RENEW_WAIT, RenewError};
pub(crate) use settings::{Attachment, GrantSettings, Origin, Policy, ServerOrigin, TokenSettings};
pub(crate) use settings::{
    Backoff, BearerAssertion, CommandSettings, DpopSettings, ExchangeSettings, Flow, FolderSettings,
    LoginSettings, RenewVia, StoreSettings, Subject, TradeGrant,
};
#[cfg(any(test, feature = "benching"))]
pub(crate) use source::ServerSource;
pub(crate) use source::{Fetched, Source};
pub(crate) use source::{Persons, Sources, Whose};
#[cfg(test)]
pub(crate) use state::TokenState;
pub(crate) use state::{Credentials, Failure, Status};
pub(crate) use store::{Pending, Store, StoreAlarm, StoreError, StoreFault, open_store};
pub(crate) use subject_tokens::CallerError;
pub(crate) use token_registry::TokenRegistry;
pub(crate) use unavailable::Unavailable;
