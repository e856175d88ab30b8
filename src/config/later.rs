//! Keys and words that the design has and this version does not: whoever writes one is told so, rather than that
//! nobody knows it.

use super::problem::{KeyPath, Step};

/// Whether the unknown key at `path` belongs to a later version.
pub(super) fn is_key(path: &KeyPath) -> bool {
    let names: Vec<&str> = path
        .steps()
        .iter()
        .map(|step| match step {
            Step::Key(key) => key.as_str(),
            Step::Index(_) => "",
        })
        .collect();
    match names.as_slice() {
        ["store", key] => *key == "url",
        ["tokens", _, key] => TOKEN.contains(key),
        ["routes", _, key] => ROUTE.contains(key),
        _ => false,
    }
}

/// Whether `word` is one that the key `key` will take in a later version.
pub(super) fn is_word(key: &str, word: &str) -> bool {
    match key {
        "kind" => STORES.contains(&word),
        _ => false,
    }
}

const TOKEN: [&str; 3] = ["identities_file", "warm_rate", "warm_concurrency"];
const ROUTE: [&str; 1] = ["identity"];
const STORES: [&str; 1] = ["redis"];
