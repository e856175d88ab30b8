//! How the program's parts learn that the end has come, how it waits for them, and what the process is to the system.
//!
//! `drain` is one signal that everything watches. What is ready is asked of the parts themselves, by `health`.

mod drain;
pub(crate) mod process;
mod service_manager;

pub(crate) use drain::Drain;
pub(crate) use drain::DrainTrigger;
pub(crate) use service_manager::ServiceManager;
