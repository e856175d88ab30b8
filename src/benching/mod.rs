//! What `benches/` measure, behind the feature `benching`, which no release has.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod paths;
mod renewals;

pub use paths::{Step, steps};
pub use renewals::run as renewals;
