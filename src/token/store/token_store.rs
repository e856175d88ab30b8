//! A place for tokens: the trait that a folder of files and the memory of this process implement.

use std::fmt;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::entry::Entry;
use super::key::Key;
use super::lease::Lease;
use super::spent::{Spending, SpentMark};
use super::store_error::StoreError;

/// A place for tokens. Each call ends within [`STORE_WAIT`](super::STORE_WAIT), a lease's within [`LEASE_WAIT`](super::LEASE_WAIT).
pub(crate) trait TokenStore: Send + Sync + fmt::Debug {
    /// What stands there. With the lease, an entry that is not one of ours to read is set aside and reported, and then
    /// it is as if there were none; without it, nothing is touched.
    ///
    /// # Errors
    /// [`StoreError`]; what stands there is unknown.
    fn load<'a>(
        &'a self,
        key: &'a Key,
        lease: Option<&'a Lease>,
    ) -> BoxFuture<'a, Result<Option<Entry>, StoreError>>;

    /// The right to spend and to write, which one holds at a time, of all processes. It ends when it is dropped.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where another holds it for all of [`LEASE_WAIT`](super::LEASE_WAIT), or why there can be none.
    fn lease<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Lease, StoreError>>;

    /// Writes an entry. Once this returns, it is there after a loss of power too, where the place can promise that.
    ///
    /// # Errors
    /// [`StoreError`]; what stood there stands there still.
    fn replace<'a>(
        &'a self,
        key: &'a Key,
        entry: &'a Entry,
        lease: &'a Lease,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Notes which refresh token is being spent, or that none is any more, and returns what was noted before: what its
    /// holder spent without storing its successor. It outlasts the process, and need not outlast a loss of
    /// power, so that it costs no wait for the disk.
    ///
    /// # Errors
    /// [`StoreError`]; nothing depends on it but what a person reads.
    fn spending<'a>(
        &'a self,
        _key: &'a Key,
        _now: Spending,
        _lease: &'a Lease,
    ) -> BoxFuture<'a, Result<Option<SpentMark>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    /// Forgets an entry; there may be none.
    ///
    /// # Errors
    /// [`StoreError`]; it may stand there still.
    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Whether an entry outlives this process.
    fn is_durable(&self) -> bool;

    /// The file that changes when another process writes the entry, where there is one.
    fn file(&self, _name: &str) -> Option<PathBuf> {
        None
    }

    /// What it is and where, for the log and for `status`.
    fn describe(&self) -> String;
}
