//! What holds for each sentence that an application reads of a failure, for the tests of the enums that have them.

use std::collections::BTreeSet;

/// Who can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// This machine, its configuration, its files.
    Here,
    Server,
    Between,
    Person,
}

/// The names of all variants of an enum, and which one a value is. A variant that is not in the list does not compile,
/// and one without an example is found by a test.
macro_rules! variants {
    ($name:ident of $of:ty { $($variant:ident)* }) => {
        struct $name;
        impl $name {
            const ALL: &[&str] = &[$(stringify!($variant)),*];

            fn of(value: &$of) -> &'static str {
                type Of = $of;
                match value {
                    $(Of::$variant { .. } => stringify!($variant),)*
                }
            }
        }
    };
}

pub(crate) use variants;

/// Fails where `said` does not name the party at fault, or more than that.
pub(crate) fn judge(said: &str, party: Party) {
    let blames_the_server = said.starts_with("the authorization server")
        || said.starts_with("the TLS handshake with the authorization server");
    let names_the_way = said.contains("cannot be reached")
        || said.contains("on the way to")
        || said.starts_with("the connection to")
        || said.contains("did not respond within");
    let right = match party {
        Party::Server => blames_the_server,
        Party::Between => names_the_way,
        Party::Here | Party::Person => !blames_the_server && !names_the_way,
    };
    assert!(right, "{party:?}: {said}");
    assert!(said.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'%'), "{said}");
    assert!(!said.to_lowercase().contains("sentinel"), "{said}");
}

/// The documentation of errors.
pub(crate) fn documentation() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md")).unwrap_or_default()
}

/// Fails where the documentation lacks a row of these causes, classes and sentences.
pub(crate) fn all_documented<S: AsRef<str>>(rows: impl IntoIterator<Item = (&'static str, &'static str, S)>) {
    let text = documentation();
    let row = |(cause, class, reason): (_, _, S)| format!("| `{cause}` | {class} | {} |", reason.as_ref());
    let rows: BTreeSet<String> = rows.into_iter().map(row).collect();
    let missing: Vec<_> =
        rows.into_iter().filter(|row| !text.lines().any(|line| line.starts_with(row.as_str()))).collect();
    assert!(missing.is_empty(), "docs/errors.md lacks:\n{}", missing.join("\n"));
}
