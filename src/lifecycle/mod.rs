//! How the program's parts learn that the end has come, and how it waits for them.
//!
//! `drain` is one signal that everything watches. What is ready is asked of the parts themselves, by `health`.

mod drain;

pub use drain::{Drain, DrainTrigger};
