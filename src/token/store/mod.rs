//! Where tokens live: what outlives a restart, and what two processes share.
//!
//! A [`TokenStore`](token_store::TokenStore) is a place: this process' memory, a folder of files, the platform's keyring. A [`Store`] is what
//! the token path uses: a place, and the entries that the place would not take yet. Those win over what stands there
//! until they can be written, and an alarm is up for as long.
//!
//! A process that changes an entry holds its lease from the moment it reads it until it has written it. Nothing here asks for
//! a token: `source::stored` does, between the two.

mod degraded;
mod encryption;
mod entry;
mod file;
mod folder;
mod key;
mod keyring;
mod lease;
mod memory;
mod spent;
mod store_error;
mod token_store;
mod withheld;
mod write_behind;

pub(crate) use degraded::{Pending, StoreAlarm, StoreFault};
pub(crate) use encryption::is_encryption_key;
#[cfg(test)]
pub(crate) use entry::Flaw;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use entry::decode;
#[cfg(test)]
pub(in crate::token) use entry::tests;
pub(crate) use entry::{Earned, Entry, Fingerprint, StoredAccess};
#[cfg(test)]
pub(crate) use file::FileStore;
pub(crate) use key::Key;
pub(in crate::token) use key::request;
pub(crate) use lease::{LEASE_WAIT, Lease};
#[cfg(test)]
pub(crate) use memory::MemoryStore;
pub(crate) use spent::{Spending, SpentMark};
pub(crate) use store_error::{STORE_WAIT, StoreError};
#[cfg(test)]
pub(crate) use token_store::TokenStore;
pub(crate) use withheld::WithheldMark;
pub(crate) use write_behind::{Store, open_store};
