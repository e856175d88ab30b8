//! The coding of a response's content (RFC 9110 section 8.4): none is asked for, and gzip that comes all the same is decoded
//! within bounds. `transport` calls this.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use http::Request;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::oauth::endpoint::body::MAX_BODY_BYTES;
use crate::oauth::error::kind::{ErrorKind, ResponseFault, ResponseFlaw};

/// The request, with the wish for an answer without a coding.
pub(in crate::oauth) fn plain<B>(mut request: Request<B>) -> Request<B> {
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    request
}

/// What is wrong with a coding, and as much of the content as could be decoded.
pub(in crate::oauth) type Undecoded = (ErrorKind, Zeroizing<Vec<u8>>);

/// The content without its coding, of no more than [`MAX_BODY_BYTES`].
pub(in crate::oauth) fn decoded(
    headers: &HeaderMap,
    body: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, Undecoded> {
    let codings = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = codings
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
    let gzip = |coding: &str| coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip");
    let is_gzip = match (codings.next(), codings.next()) {
        // What is in between may have taken the field away. No JSON begins so.
        (None, _) => body.starts_with(GZIP_MAGIC),
        // What is in between may have decoded it and left the field.
        (Some(coding), None) if gzip(coding) => !body.is_empty() && !looks_plain(&body),
        _ if body.is_empty() || looks_plain(&body) => false,
        _ => return Err((ResponseFault::Malformed(ResponseFlaw::Encoding).into(), body)),
    };
    if !is_gzip {
        return Ok(body);
    }
    // Whole at once: a buffer that grows leaves copies of what is in it.
    let mut plain = Zeroizing::new(Vec::with_capacity(MAX_BODY_BYTES + 1));
    let limit = MAX_BODY_BYTES as u64 + 1;
    let read = MultiGzDecoder::new(body.as_slice()).take(limit).read_to_end(&mut plain);
    if plain.len() > MAX_BODY_BYTES {
        plain.truncate(MAX_BODY_BYTES);
        return Err((ResponseFault::TooLarge.into(), plain));
    }
    match read {
        Ok(_) => Ok(plain),
        Err(_) => Err((ResponseFault::Malformed(ResponseFlaw::Encoding).into(), plain)),
    }
}

fn looks_plain(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'<'))
}

/// RFC 1952 section 2.3.1.
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn zipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(coding: Option<&'static str>, body: &[u8]) -> Result<Vec<u8>, ErrorKind> {
        decode_some(coding, body).map_err(|(kind, _)| kind)
    }

    fn decode_some(coding: Option<&'static str>, body: &[u8]) -> Result<Vec<u8>, (ErrorKind, Vec<u8>)> {
        let mut headers = HeaderMap::new();
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        let decoded = decoded(&headers, Zeroizing::new(body.to_vec()));
        decoded.map(|body| body.to_vec()).map_err(|(kind, part)| (kind, part.to_vec()))
    }

    #[test]
    fn gzip_that_was_not_asked_for_is_read_and_what_is_plain_is_left_alone() {
        let text = br#"{"access_token":"t"}"#;
        let gzip = zipped(text);
        for (coding, body) in [
            (None, &text[..]),
            (Some("identity"), text),
            (Some("gzip"), &gzip),
            (Some("X-GZIP"), &gzip),
            (None, &gzip),
            (Some("gzip"), text),
            (Some("br"), text),
        ] {
            assert_eq!(decode(coding, body).as_deref(), Ok(&text[..]), "{coding:?}");
        }
        assert_eq!(decode(Some("gzip"), b""), Ok(Vec::new()));
    }

    #[test]
    fn a_bomb_and_a_broken_or_unknown_coding_are_errors_that_say_so() {
        let bomb = zipped(&vec![b' '; 64 * MAX_BODY_BYTES]);
        assert!(bomb.len() < MAX_BODY_BYTES);
        assert_eq!(decode(Some("gzip"), &bomb), Err(ErrorKind::Response(ResponseFault::TooLarge)));
        let whole = zipped(br#"{"access_token":"t"}"#);
        for (coding, body) in [
            ("gzip", &whole[..whole.len() - 6]),
            ("gzip", b"\x1f\x8bnonsense"),
            ("br", b"\x0b\x02\x80{}\x03"),
            ("gzip, br", &whole),
        ] {
            assert_eq!(
                decode(Some(coding), body),
                Err(ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Encoding))),
                "{coding}"
            );
        }
    }

    #[test]
    fn what_could_be_decoded_comes_with_the_error() {
        let long = format!("begin {}", "filler ".repeat(MAX_BODY_BYTES));
        let gzip = zipped(long.as_bytes());
        let (kind, part) = decode_some(Some("gzip"), &gzip).unwrap_err();
        assert_eq!((kind, part.len()), (ErrorKind::Response(ResponseFault::TooLarge), MAX_BODY_BYTES));
        assert!(part.starts_with(b"begin"));
        let short = zipped(br#"{"refresh_token":"next"}"#);
        let (_, part) = decode_some(Some("gzip"), &short[..short.len() - 4]).unwrap_err();
        assert_eq!(part, br#"{"refresh_token":"next"}"#);
    }
}
