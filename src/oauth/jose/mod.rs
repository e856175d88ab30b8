//! Signatures and keys (RFC 7515, RFC 7517), claims of JWTs, and random words.
//!
//! Other folders take keys from `key`, signatures from `jws` and claims from `jwt_facts`.

pub(in crate::oauth) mod jws;
pub(in crate::oauth) mod jwt_facts;
pub(in crate::oauth) mod key;
pub(in crate::oauth) mod random;
