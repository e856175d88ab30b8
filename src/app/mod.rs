//! The composition root: from settings to running parts, through reloads, to the end.
//!
//! `cli` calls [`run`]. Nothing else knows how the rooms fit together, and nothing here prints.

mod files;
mod parts;
mod run;

pub use parts::StartError;
pub use run::{Started, run};
