//! What may stand in a file of the token store, as a function of bytes. For the fuzz targets in `fuzz/` and for the test
//! that replays their corpus; nothing that ships calls it.

use super::store::decode;

/// A file that anybody may have written, before anything is known of it. What is read is written and read as the same.
pub(crate) fn store_file(data: &[u8]) {
    if let Ok(entry) = decode(data) {
        let again = decode(&entry.encode());
        assert_eq!(again.as_ref().ok(), Some(&entry), "an entry changes as it is written and read");
    }
}
