//! Whatever the bytes are, there is an answer: settings or problems, never a panic, and never a silence.

use proptest::prelude::*;

use super::*;

const REFERENCE: &str = include_str!("../../../config.toml");

/// Loads and shows everything that could be shown.
fn survive(text: &str) {
    match load_text(text) {
        Ok(loaded) => drop(format!("{loaded:?} {}", loaded.warnings)),
        Err(problems) => {
            assert!(problems.refuse(), "refused without an error:\n{text}\n{problems}");
            assert!(problems.to_string().chars().all(|c| c == '\n' || !c.is_control()), "{problems:?}");
        }
    }
}

/// Pieces that a TOML text is made of, right or wrong.
fn piece() -> impl Strategy<Value = String> {
    let words: &[&str] = &[
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\"",
        "'",
        "\"\"\"",
        "#",
        " ",
        "\\u00e9",
        "\r\n",
        "\u{1b}",
        "server",
        "listen",
        "upstreams",
        "tokens",
        "api",
        "routes",
        "url",
        "token",
        "upstream",
        "retry",
        "params",
        "true",
        "0x1f",
        "-1",
        "1e999",
        "nan",
        "1979-05-27",
        "99999999999999999999",
        "\"30s\"",
        "\"https://a\"",
        "\"127.0.0.1:1\"",
        "client_secret",
        "\"none\"",
        "path",
    ];
    prop_oneof![proptest::sample::select(words).prop_map(str::to_owned), ".{0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,200}") {
        survive(&text);
    }

    #[test]
    fn any_bytes_of_a_file_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        std::fs::write(&path, bytes).unwrap();
        let _ = load(&Source::File(path), [], Options::default());
    }

    #[test]
    fn anything_made_of_tomls_pieces_has_an_answer(pieces in proptest::collection::vec(piece(), 0..60)) {
        survive(&pieces.concat());
        survive(&format!("{GOOD}{}", pieces.concat()));
    }

    #[test]
    fn the_reference_with_a_mistake_has_an_answer(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0..40_usize, piece()), 1..4),
        uncomment in any::<bool>(),
    ) {
        let mut text = if uncomment { REFERENCE.replace("\n# ", "\n") } else { REFERENCE.to_owned() };
        for (at, length, new) in edits {
            let places: Vec<usize> = text.char_indices().map(|(n, _)| n).collect();
            let start = at.index(places.len());
            let end = places.get(start + length).copied().unwrap_or(text.len());
            text.replace_range(places[start]..end, &new);
        }
        survive(&text);
    }

    #[test]
    fn any_variable_has_an_answer(name in "[A-Z0-9_]{0,30}", section in 0..6_usize, value in "\\PC{0,40}") {
        let section = ["", "SERVER__", "TOKENS__API__", "ROUTES__0__", "ROUTES__1", "UPSTREAMS__"][section];
        let _ = load_in(GOOD, &[(&format!("CUPBEARER__{section}{name}"), &value)]);
    }
}

#[test]
fn a_file_of_nothing_but_mistakes_ends_after_a_page_of_them() {
    let lines = |value: &str| (0..5000).map(|n| format!("k{n} = {value}")).collect::<Vec<_>>().join("\n");
    let problems = load_text(&lines("1")).unwrap_err();
    assert!((50..200).contains(&problems.len()), "{}", problems.len());
    assert!(load_text(&lines("x")).unwrap_err().len() < 200);
    survive(&"[".repeat(100_000));
    survive(&"a.".repeat(100_000));
    survive(&format!("a = {}", "[".repeat(100_000)));
    survive(&format!("{}\nx = 1", "a = [\n".repeat(1000)));
}
