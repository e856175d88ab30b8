//! Where a token comes from: a file for each kind of source, and the trait that they implement in `token_source`.

mod bearer;
mod build;
mod command;
mod dated_secret;
mod dpop_key;
mod exchange;
mod exchange_failure;
mod file;
mod fixed;
mod person;
pub(in crate::token) mod renewal_request;
mod server;
mod signed;
mod silent;
mod spending;
mod stored;
#[cfg(test)]
pub(in crate::token) mod tests;
mod text;
mod token_source;

pub(crate) use build::Sources;
pub(in crate::token) use dpop_key::DpopKey;
pub(crate) use person::Persons;
pub(crate) use renewal_request::Whose;
#[cfg(any(test, feature = "benching"))]
pub(crate) use server::ServerSource;
pub(crate) use token_source::{Fetched, ServerId, Source};
