//! The composition root: from settings to running parts, through reloads, to the end.
//!
//! `cli` calls [`run()`]. Nothing else knows how the rooms fit together, and nothing here prints.

mod bounds;
mod certificates;
mod parts;
mod postponed;
mod run;
mod trial;

pub(crate) use bounds::DescriptorBound;
#[cfg(feature = "demo")]
pub(crate) use run::Started;
pub(crate) use run::{Supervisor, run};
pub(crate) use trial::{TrialError, account, fetch_token, log_out, try_out};
