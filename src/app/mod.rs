//! The composition root: from settings to running parts, through reloads, to the end.
//!
//! `cli` calls [`run()`]. Nothing else knows how the rooms fit together, and nothing here prints.

mod bounds;
mod certificates;
mod parts;
mod postponed;
mod run;
mod trial;

pub use bounds::DescriptorBound;
pub use parts::StartError;
pub use run::{Started, Supervisor, run};
pub use trial::{Trial, TrialError, account, fetch_token, log_out, try_out};
