//! Who is asked and where: the configured location, the metadata of the issuer (RFC 8414), the endpoints in them.
//!
//! Other folders take endpoints from `directory` and settings from `server`.

pub(in crate::oauth) mod directory;
pub(in crate::oauth) mod document;
pub(in crate::oauth) mod metadata;
pub(in crate::oauth) mod role;
pub(in crate::oauth) mod server;
