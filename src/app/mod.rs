//! The composition root: from settings to running components, through reloads, to the end.
//!
//! `cli` calls [`run()`]. Nothing else knows how the rooms fit together, and nothing here prints.

mod bounds;
mod certificates;
mod components;
mod online_check;
mod postponed;
mod run;

pub(crate) use bounds::DescriptorBound;
pub(crate) use online_check::{OnlineCheckError, account, check_online, fetch_token, log_out};
#[cfg(feature = "demo")]
pub(crate) use run::Started;
pub(crate) use run::{Supervisor, run};
