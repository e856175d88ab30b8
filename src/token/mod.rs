//! The token path: when to renew, who renews, and what a request sees of it.
//!
//! schedule -> renewer -> source -> `oauth` -> state -> schedule. Nothing here knows a request or the configuration's
//! file.

mod account;
mod activity;
mod binding;
mod callers;
mod facts;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handle;
mod inputs;
mod metrics;
#[cfg(test)]
mod multitude;
mod outcome;
mod queue;
mod rejection;
mod renewer;
mod roster;
pub mod schedule;
mod scopes;
mod settings;
mod shares;
#[cfg(test)]
mod simulation;
mod source;
mod span;
mod state;
pub mod store;
mod unavailable;

pub use crate::oauth::{BINDING_HELP, ChallengeVerdict, Incurable};
pub use account::{Account, LoginError};
pub use binding::{Binding, Verdict};
pub use callers::{CallerError, MOST_CALLERS};
pub use facts::{Advice, Api, Credential, Facts, Failing, History, Worked};
pub use handle::{ForgetError, RENEW_WAIT, RenewError, StateRef, TokenHandle};
pub use rejection::{MIN_REJECT_GAP, Rejection, Renewal};
pub use renewer::{CONCURRENT_REQUESTS, Limits, Renewer, RenewerHandle};
pub use roster::Roster;
pub use settings::{
    Attachment, Backoff, BearerAssertion, CommandSettings, DpopSettings, ExchangeSettings, Flow,
    FolderSettings, GrantSettings, LoginSettings, Origin, Policy, RenewVia, ServerOrigin, StoreSettings,
    Subject, TokenSettings, TradeGrant,
};
pub use source::{Fetched, Persons, ServerSource, Source, Sources, Summons, Whose};
pub use state::{Credentials, Failure, Status, TokenState};
pub use store::{Pending, Store, StoreAlarm, StoreError, StoreFault, open_store};
pub use unavailable::Unavailable;
