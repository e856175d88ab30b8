//! One judgement of a request's path: what routes see is what is forwarded.
//!
//! Servers differ in what they fold: percent-encoding, `//`, `\`, `;x`, dot segments. An allow-list by path is worth
//! nothing where the proxy reads a path one way and the API another. So the dot segments that RFC 3986 knows are
//! resolved first ([`without_dot_segments`]), those in any other disguise are refused, and for a path with anything
//! else that a server may read in its own way there are those readings: the route table demands that all of them
//! choose the same route. The path that was judged is the one that is forwarded. Case is the route table's affair.

use std::borrow::Cow;

use crate::proxy::error::PathFault;

/// A path that may be routed: as it came, and as lenient servers might read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JudgedPath<'a> {
    /// As it came.
    pub(crate) raw: &'a str,
    /// The first with everything folded that some server folds, then what is left of it for who stops earlier or
    /// begins later. Empty: nothing in the path can be read in two ways.
    pub(crate) readings: Vec<String>,
}

/// Judges `path`, a request target's path component that begins with `/`.
pub(crate) fn judge(path: &str) -> Result<JudgedPath<'_>, PathFault> {
    let mut readings = Vec::new();
    if !is_plain(path.as_bytes()) {
        readings = read_leniently(path)?;
        if readings.iter().all(|reading| reading == path) {
            readings.clear();
        }
    }
    Ok(JudgedPath { raw: path, readings })
}

/// `path` with its dot segments resolved (RFC 3986 sections 5.2.4 and 6.2.2.3), whether their dots are percent-encoded or
/// not; `None` where it has none.
///
/// # Errors
/// [`PathFault::AboveRoot`] where a `..` has no segment to take back: RFC 3986 would drop it, other servers go there.
pub(crate) fn without_dot_segments(path: &str) -> Result<Option<String>, PathFault> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    if rest.split('/').all(|segment| dots(segment).is_none()) {
        return Ok(None);
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in rest.split('/') {
        let dots = dots(segment);
        match dots {
            None => kept.push(segment),
            Some(Dots::One) => {}
            Some(Dots::Two) => {
                kept.pop().ok_or(PathFault::AboveRoot)?;
            }
        }
        ends_open = dots.is_some();
    }
    // A dot segment at the end leaves the slash before it.
    let end = if ends_open && !kept.is_empty() { "/" } else { "" };
    Ok(Some(format!("/{}{end}", kept.join("/"))))
}

/// A dot segment: this one, or the one above.
#[derive(Clone, Copy)]
enum Dots {
    One,
    Two,
}

fn dots(segment: &str) -> Option<Dots> {
    let mut rest = segment;
    let mut count = 0;
    while !rest.is_empty() {
        rest = rest
            .strip_prefix('.')
            .or_else(|| rest.strip_prefix("%2e"))
            .or_else(|| rest.strip_prefix("%2E"))?;
        count += 1;
    }
    match count {
        1 => Some(Dots::One),
        2 => Some(Dots::Two),
        _ => None,
    }
}

/// Whether nothing in `path` can be read in two ways: the case of nearly every request.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        match byte {
            b'%' | b'\\' | b';' | 0..=0x20 | 0x7f.. => return false,
            b'/' | b'.' if previous == b'/' => return false,
            b'/' if previous == b'.' => return false,
            _ => {}
        }
        previous = byte;
    }
    previous != b'.'
}

fn read_leniently(path: &str) -> Result<Vec<String>, PathFault> {
    if !is_encoded_well(path.as_bytes()) {
        return Err(PathFault::Malformed);
    }
    let mut readings = Vec::new();
    read_to_each_end(&decode(path)?, &mut readings)?;
    // What is a reference, or a segment with parameters, is so to one server as it came, and to another once decoded.
    let mut decoded = path.to_owned();
    loop {
        let bare = decoded.contains(';').then(|| without_parameters(&decoded));
        let as_references =
            [Some(&decoded), bare.as_ref()].into_iter().flatten().filter_map(|p| behind_host(p));
        for rest in as_references.chain(bare.as_deref()) {
            read_to_each_end(&decode(rest)?, &mut readings)?;
        }
        match decode_once(decoded.as_bytes())? {
            Some(next) => decoded = plain_text(&next),
            None => return Ok(readings),
        }
    }
}

/// `path` for who separates segments by a slash alone, and takes what is behind a semicolon off each.
fn without_parameters(path: &str) -> String {
    let names = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    names.collect::<Vec<_>>().join("/")
}

/// Reads a decoded path to its end, and to where else it may end. An encoded question mark or hash ends it for a server
/// that decodes first, a semicolon for one that takes all behind it for parameters.
fn read_to_each_end(text: &str, readings: &mut Vec<String>) -> Result<(), PathFault> {
    let whole = fold(text)?;
    readings.push(whole.clone());
    for (text, ends) in [(text, &['?', '#', ';'][..]), (&whole, &['?', '#'])] {
        for end in ends.iter().filter_map(|end| text.find(*end)) {
            readings.push(fold(&text[..end])?);
        }
    }
    Ok(())
}

/// The path in `//host/path`, which is the whole of a URL but its scheme (RFC 3986 section 4.2) for who resolves it as a
/// reference.
fn behind_host(text: &str) -> Option<&str> {
    let slashes = text.len() - text.trim_start_matches(SLASHES).len();
    let host = (slashes > 1).then(|| &text[slashes..])?;
    Some(host.find(SLASHES).map_or("/", |end| &host[end..]))
}

/// Decodes as often as anything is encoded.
fn decode(path: &str) -> Result<String, PathFault> {
    let mut decoded: Cow<'_, [u8]> = Cow::Borrowed(path.as_bytes());
    let mut decodings = 0;
    while let Some(next) = decode_once(&decoded)? {
        decoded = Cow::Owned(next);
        decodings += 1;
        if decodings > MAX_DECODINGS {
            return Err(PathFault::Malformed);
        }
    }
    Ok(plain_text(&decoded))
}

fn plain_text(decoded: &[u8]) -> String {
    String::from_utf8_lossy(decoded).chars().map(plain_form).collect()
}

/// A decoded path as one that has no empty segments, parameters, or dots and spaces at a name's end.
fn fold(text: &str) -> Result<String, PathFault> {
    let mut folded = String::with_capacity(text.len());
    for segment in text.split(SLASHES) {
        let name = segment.split(';').next().unwrap_or_default();
        // Windows and what runs on it drop dots and spaces at a name's end, and all that is nothing but those is a dot
        // segment somewhere.
        let kept = name.trim_end_matches(['.', ' ']);
        if kept.trim().is_empty() && name.contains('.') {
            return Err(PathFault::DotSegment);
        }
        if !kept.is_empty() {
            folded.push('/');
            folded.push_str(kept);
        }
    }
    if folded.is_empty() || text.ends_with(SLASHES) {
        folded.push('/');
    }
    Ok(folded)
}

/// What a character becomes where Unicode is brought to a plain form first (NFKC, Windows' best fit).
fn plain_form(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => u8::try_from(character as u32 - 0xfee0).map_or(character, char::from),
        '\u{2024}'..='\u{2026}' => '.',
        '\u{2044}' | '\u{2215}' => '/',
        '\u{2216}' => '\\',
        _ => character,
    }
}

/// Whether each percent sign begins a `%XX`.
fn is_encoded_well(path: &[u8]) -> bool {
    memchr::memchr_iter(b'%', path)
        .all(|at| path.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

/// Decodes each `%XX` once; `None` where there is none.
fn decode_once(bytes: &[u8]) -> Result<Option<Vec<u8>>, PathFault> {
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let mut changed = false;
    while let Some(&byte) = bytes.get(at) {
        let decoded = match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                changed = true;
                at += 2;
                (high * 16 + low) as u8
            }
            // Left over from an earlier decoding (`%25` and then no digits) it is a plain percent sign.
            _ => byte,
        };
        // 0xC0 and 0xC1 begin nothing in UTF-8 but a dot or a slash in disguise (RFC 3629 section 10).
        if decoded < 0x20 || matches!(decoded, 0x7f | 0xc0 | 0xc1) {
            return Err(PathFault::Malformed);
        }
        out.push(decoded);
        at += 1;
    }
    // The same disguise in three bytes, and in more: a Latin letter with a control character behind it is in no real path.
    let overlong = |pair: &[u8]| {
        matches!(pair, [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f] | [0xf8, 0x80..=0x87] | [0xfc, 0x80..=0x83])
    };
    if out.windows(2).any(overlong) {
        return Err(PathFault::Malformed);
    }
    Ok(changed.then_some(out))
}

/// Servers behind servers decode more than once; none decodes more often than this.
const MAX_DECODINGS: usize = 4;
/// What separates segments somewhere.
const SLASHES: [char; 2] = ['/', '\\'];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    #[test]
    fn a_plain_path_is_read_as_it_came() {
        for path in ["/", "/v1/orders", "/a.b/c-d_e~f", "/v1/", "/a/x..y", "/a:b@c"] {
            assert_eq!(judge(path), Ok(JudgedPath { raw: path, readings: Vec::new() }), "{path}");
        }
    }

    #[test]
    fn a_dot_segment_is_refused_in_every_disguise() {
        for path in [
            "/a/../b",
            "/a/./b",
            "/..",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a/%252e%252e/b",
            "/a/..;x/b",
            "/a%2f..%2fb",
            "/a\\..\\b",
            "/a%5c..%5cb",
            "/a/..%2fb",
            "/a/.%2e;y=1/b",
            "/a/..%20/b",
            "/a/.../b",
            "/x%3f/%2e%2e/b",
            "/x%23/..%5cb",
            "/x;/%2e%2e/b",
            "/a/..%3fx",
            "/a/%ef%bc%8e%ef%bc%8e/b",
            "/a/%e2%80%a5/b",
        ] {
            assert_eq!(judge(path), Err(PathFault::DotSegment), "{path}");
        }
    }

    #[test]
    fn dot_segments_are_resolved_as_rfc_3986_has_it() {
        for (path, resolved) in [
            ("/cargo/./config.json", "/cargo/config.json"),
            ("/a/../b/s", "/b/s"),
            ("/a/b/c/./../../g", "/a/g"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/%2e/x", "/x"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a//../b", "/a/b"),
            ("/a/..//b", "//b"),
            ("/a/./%2f", "/a/%2f"),
            ("/a/./b...", "/a/b..."),
        ] {
            assert_eq!(without_dot_segments(path), Ok(Some(resolved.to_owned())), "{path}");
        }
        for path in ["/", "/a", "/a/...", "/.well-known/x", "/a/..;x/b", "/a%2f..", "/a/..%2fb", "/%252e/x"] {
            assert_eq!(without_dot_segments(path), Ok(None), "{path}");
        }
        for path in ["/..", "/../a", "/a/../../b", "/%2e%2e/a", "/./.."] {
            assert_eq!(without_dot_segments(path), Err(PathFault::AboveRoot), "{path}");
        }
    }

    #[test]
    fn what_a_server_may_fold_is_folded_for_the_second_look() {
        for (path, folded) in [
            ("//x/admin", "/admin"),
            ("/\\x/admin", "/admin"),
            ("//admin", "/"),
            ("/admin;/x", "/admin"),
            ("/%ef%bd%81dmin", "/admin"),
            ("/x%ef%bc%8fadmin", "/x/admin"),
            ("/a//b", "/a/b"),
            ("/%61dmin", "/admin"),
            ("/a%2fb", "/a/b"),
            ("/a\\b", "/a/b"),
            ("/%2561dmin", "/admin"),
            ("/admin%3fx", "/admin"),
            ("/%2fx/admin", "/admin"),
            ("//x%2fy/admin", "/y/admin"),
            ("/admin%23x", "/admin"),
            ("/admin.", "/admin"),
            ("/admin%20/x", "/admin/x"),
        ] {
            let readings = judge(path).unwrap().readings;
            assert!(readings.iter().any(|reading| reading == folded), "{path}: {readings:?}");
        }
    }

    #[test]
    fn a_path_that_servers_end_at_different_places_has_a_reading_for_each() {
        for (path, expected) in [
            ("/admin;x=1/y", &["/admin/y", "/admin"][..]),
            ("/a/;/", &["/a/"]),
            ("/a%3f/b;c/d", &["/a?/b/d", "/a", "/a?/b"]),
            ("//a/b", &["/a/b", "/b"]),
            ("/;x%2fy/b", &["/y/b", "/", "/b"]),
        ] {
            let readings: BTreeSet<_> = judge(path).unwrap().readings.into_iter().collect();
            assert_eq!(readings, expected.iter().map(|&reading| reading.to_owned()).collect(), "{path}");
        }
    }

    #[test]
    fn control_characters_are_refused_in_every_disguise() {
        for path in [
            "/a%00b",
            "/a%0d%0ab",
            "/a%2500b",
            "/a%7f",
            "/%zz",
            "/a%2",
            "/%c0%ae%c0%ae/x",
            "/%2525252561",
            "/%e0%80%ae/x",
            "/%f0%80%80%af",
            "/%25c0%25ae",
        ] {
            assert_eq!(judge(path), Err(PathFault::Malformed), "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_folded_path_folds_no_further(path in "/[a-c%25\\./;]{0,12}") {
            for reading in judge(&path).map(|judged| judged.readings).unwrap_or_default() {
                prop_assert!(!reading.contains("/../") && !reading.contains("//"), "{}", reading);
            }
        }

        #[test]
        fn a_resolved_path_has_no_dot_segment_left(path in "/([.a/]|%2[eE]){0,14}") {
            if let Ok(Some(resolved)) = without_dot_segments(&path) {
                prop_assert!(resolved.starts_with('/'));
                prop_assert_eq!(without_dot_segments(&resolved), Ok(None), "{}", resolved);
            }
        }

        #[test]
        fn no_path_panics(path in "/\\PC{0,40}") {
            let _ = (judge(&path), without_dot_segments(&path));
        }
    }
}
