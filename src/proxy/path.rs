//! One judgement of a request's path: what routes see is what is forwarded.
//!
//! Servers differ in what they fold: percent-encoding, `//`, `\`, `;x`, dot segments. An allow-list by path is worth
//! nothing where the proxy reads a path one way and the API another. So dot segments are refused in every disguise
//! (RFC 3986 section 6.2.2.3: a client removes them), and for a path with anything else that a server may fold there
//! is a folded form: the route table demands that both forms choose the same route. The bytes forwarded are always
//! those that came. Case counts, as RFC 3986 section 6.2.2.1 has it.

use std::borrow::Cow;

/// A path that may be routed: as it came, and as a lenient server might read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JudgedPath<'a> {
    /// As it came.
    pub(super) raw: &'a str,
    /// With everything folded that some server folds; `None`: the same as it came.
    pub(super) folded: Option<String>,
}

/// Why a path is refused whatever the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathFault {
    #[error("the path has a dot segment; remove it before sending (RFC 3986 section 5.2.4)")]
    DotSegment,
    #[error("the path has a control character or an incomplete percent-encoding")]
    Malformed,
}

/// Judges `path`, a request target's path component that begins with `/`.
pub(super) fn judge(path: &str) -> Result<JudgedPath<'_>, PathFault> {
    if is_plain(path.as_bytes()) {
        return Ok(JudgedPath { raw: path, folded: None });
    }
    let folded = fold(path)?;
    Ok(JudgedPath { raw: path, folded: (folded != path).then_some(folded) })
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

fn fold(path: &str) -> Result<String, PathFault> {
    let mut decoded: Cow<'_, [u8]> = Cow::Borrowed(path.as_bytes());
    if !is_encoded_well(path.as_bytes()) {
        return Err(PathFault::Malformed);
    }
    let mut decodings = 0;
    while let Some(next) = decode_once(&decoded)? {
        decoded = Cow::Owned(next);
        decodings += 1;
        if decodings > MAX_DECODINGS {
            return Err(PathFault::Malformed);
        }
    }
    // An encoded question mark or hash ends the path for a server that decodes first.
    if let Some(end) = decoded.iter().position(|byte| matches!(byte, b'?' | b'#')) {
        decoded = Cow::Owned(decoded[..end].to_vec());
    }
    let mut folded = String::with_capacity(path.len());
    let text = String::from_utf8_lossy(&decoded);
    for segment in text.split(['/', '\\']) {
        let name = segment.split(';').next().unwrap_or_default();
        if matches!(name.trim(), "." | "..") {
            return Err(PathFault::DotSegment);
        }
        // Windows and what runs on it drop dots and spaces at a name's end.
        let name = name.trim_end_matches(['.', ' ']);
        if !name.is_empty() {
            folded.push('/');
            folded.push_str(name);
        }
    }
    if folded.is_empty() || text.ends_with(['/', '\\']) {
        folded.push('/');
    }
    Ok(folded)
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
    Ok(changed.then_some(out))
}

/// Servers behind servers decode more than once; nobody decodes more often than this.
const MAX_DECODINGS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_path_is_read_as_it_came() {
        for path in ["/", "/v1/orders", "/a.b/c-d_e~f", "/v1/", "/a/x..y", "/a:b@c"] {
            assert_eq!(judge(path), Ok(JudgedPath { raw: path, folded: None }), "{path}");
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
        ] {
            assert_eq!(judge(path), Err(PathFault::DotSegment), "{path}");
        }
    }

    #[test]
    fn what_a_server_may_fold_is_folded_for_the_second_look() {
        for (path, folded) in [
            ("//admin", "/admin"),
            ("/a//b", "/a/b"),
            ("/%61dmin", "/admin"),
            ("/a%2fb", "/a/b"),
            ("/admin;x=1/y", "/admin/y"),
            ("/a\\b", "/a/b"),
            ("/%2561dmin", "/admin"),
            ("/a/;/", "/a/"),
            ("/admin%3fx", "/admin"),
            ("/admin%23x", "/admin"),
            ("/admin.", "/admin"),
            ("/admin%20/x", "/admin/x"),
        ] {
            assert_eq!(judge(path).unwrap().folded.as_deref(), Some(folded), "{path}");
        }
    }

    #[test]
    fn control_characters_are_refused_in_every_disguise() {
        for path in
            ["/a%00b", "/a%0d%0ab", "/a%2500b", "/a%7f", "/%zz", "/a%2", "/%c0%ae%c0%ae/x", "/%2525252561"]
        {
            assert_eq!(judge(path), Err(PathFault::Malformed), "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_folded_path_folds_no_further(path in "/[a-c%25\\./;]{0,12}") {
            if let Ok(JudgedPath { folded: Some(folded), .. }) = judge(&path) {
                prop_assert!(!folded.contains("/../") && !folded.contains("//"), "{}", folded);
            }
        }

        #[test]
        fn no_path_panics(path in "/\\PC{0,40}") {
            let _ = judge(&path);
        }
    }
}
