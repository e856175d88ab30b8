//! The request path's part of the fuzz targets: what is read of what comes from outside, as functions of bytes.

/// An answer of an upstream: what was asked, how it is cut, and its bytes.
pub(crate) fn answer(data: &[u8]) {
    super::wire::fuzzing::answer(data);
}
