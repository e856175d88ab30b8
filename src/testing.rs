//! What the tests of the whole program name of this crate: its clock, and the limit of its descriptors.

pub use crate::clock::{BootInstant, now, unix_seconds, wall};
pub use crate::net::descriptors::raise_limit;
