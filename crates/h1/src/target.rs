//! The bytes of a request target: those that go on as they are, those that go on percent-encoded, and those that no target
//! has (RFC 3986 section 2, RFC 9112 section 3.2).
//!
//! Programs send characters that no URI has, and servers take them: `curl -g '...?query=up{job="x"}'`. hyper and h2 take
//! some of them and refuse others. Those are encoded before hyper and h2 see them, in HTTP/1.1 by
//! [`RequestFraming`](crate::framing::RequestFraming): what is judged is what goes on.

/// What happens to a byte of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetByte {
    /// It goes on as it is: what a URI may have, and what the parsers take beyond that.
    Plain,
    /// It goes on percent-encoded.
    Encoded,
    /// It is refused: a control character, a space, or the `#` that begins a fragment.
    Refused,
}

impl TargetByte {
    /// What happens to `byte`.
    #[must_use]
    pub const fn of(byte: u8) -> Self {
        match byte {
            0..=b' ' | 0x7f | b'#' => Self::Refused,
            b'"' | b'<' | b'>' | b'`' | 0x80.. => Self::Encoded,
            _ => Self::Plain,
        }
    }
}

/// Whether a byte does not go on as it is.
#[must_use]
pub fn is_odd(byte: u8) -> bool {
    ODD[usize::from(byte)]
}

/// `%XX` (RFC 3986 section 2.1).
#[must_use]
pub const fn encoded(byte: u8) -> [u8; 3] {
    [b'%', DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

const ODD: [bool; 256] = {
    let mut odd = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        odd[byte] = !matches!(TargetByte::of(byte as u8), TargetByte::Plain);
        byte += 1;
    }
    odd
};

#[cfg(test)]
mod tests {
    use http::uri::PathAndQuery;

    use super::*;

    #[test]
    fn what_goes_on_is_taken_by_the_parsers_in_paths_and_queries() {
        for byte in 0..=255 {
            let mut target = b"/a?b".to_vec();
            let goes_on = match TargetByte::of(byte) {
                TargetByte::Plain => vec![byte],
                TargetByte::Encoded => encoded(byte).to_vec(),
                TargetByte::Refused => continue,
            };
            target.splice(2..2, goes_on.clone());
            target.extend(goes_on);
            let parsed = PathAndQuery::try_from(&target[..]);
            assert!(parsed.is_ok_and(|parsed| parsed.as_str().as_bytes() == target), "{byte:#x}");
        }
    }

    #[test]
    fn what_urls_have_goes_on_as_it_is() {
        assert!(!b"/-._~!$&'()*+,;=:@%20/AZaz09?q={a}|[b]^\\".iter().any(|byte| is_odd(*byte)));
        assert!(b"\"<>`# \t\x7f\x80\xff".iter().all(|byte| is_odd(*byte)));
        assert_eq!(encoded(b'"'), *b"%22");
        assert_eq!(encoded(0xe9), *b"%E9");
    }
}
