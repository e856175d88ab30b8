//! net

pub mod ask;
pub mod serve;
