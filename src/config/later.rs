//! Keys and words of other versions: a problem that names one says so, rather than that the key is unknown.

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

/// What the unknown key at `path`, of an earlier version, is called now.
pub(super) fn successor(path: &KeyPath) -> Option<&'static str> {
    match path.steps() {
        [Step::Key(routes), Step::Index(_), Step::Key(key)]
            if routes == "routes" && key == "rewrite_location" =>
        {
            Some("rewrite_addresses")
        }
        _ => None,
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
