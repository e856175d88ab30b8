//! The application's connection, as requests and what watches over it know it.

pub(crate) mod activity;
pub(crate) mod context;
pub(crate) mod exchange;
pub(crate) mod head_timeout;
pub(crate) mod hyper_replies;
pub(crate) mod informational;
pub(crate) mod linger;
pub(crate) mod socket;
pub(crate) mod stream;
