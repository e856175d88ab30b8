//! Header fields as their grammar has them (RFC 9110 sections 5.5, 5.6.2 and 8.6): what came otherwise goes on in that form,
//! or not at all.
//!
//! hyper's parser of HTTP/1.1 keeps to it. HTTP/2 carries names and values as they are, and its library takes a quotation
//! mark in a name and spaces around a value.

use cupbearer_h1::{FieldFault, LengthFault};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Version};

use crate::net::browser::is_of_browser;
use crate::proxy::error::Malformed;
use crate::proxy::http2::head_marks::MAX_CONTENT_LENGTH;

/// Brings the fields of a message from HTTP/2 into form. Spaces around a value are taken off: it means the same without them
/// in HTTP/1.1, where they are no part of it, and recipients may do so rather than refuse the message (RFC 9113 section
/// 8.2.1).
///
/// # Errors
/// A name that is no token (RFC 9113 section 8.2.1: malformed).
pub(crate) fn from_http2(headers: &mut HeaderMap) -> Result<(), Malformed> {
    if headers.keys().any(|name| !is_token(name.as_str())) {
        return Err(FieldFault::Name.into());
    }
    trim(headers);
    Ok(())
}

/// Brings the fields of a request into the form that they have in HTTP/1.1.
///
/// # Errors
/// As [`from_http2`] and [`one_length`].
pub(crate) fn normalise(
    version: Version,
    headers: &mut HeaderMap,
    present: Present,
) -> Result<(), Malformed> {
    if version == Version::HTTP_2 {
        from_http2(headers)?;
    }
    if present.content_length { one_length(headers) } else { Ok(()) }
}

/// Which fields a request has of those that most requests lack and some step asks for, seen in one pass over the names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    pub(super) content_length: bool,
    pub(crate) expect: bool,
    /// A field by which a browser says what caused the request.
    pub(crate) browser: bool,
    /// A field that may hold the proxy's own address.
    pub(crate) addresses: bool,
}

impl Present {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "content-length" => present.content_length = true,
                "expect" => present.expect = true,
                "destination" | "if" => present.addresses = true,
                name => {
                    present.browser |= is_of_browser(name);
                    present.addresses |= name == "origin";
                }
            }
        }
        present
    }
}

/// Takes spaces and tabs off the values' ends.
pub(crate) fn trim(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        let bytes = value.as_bytes();
        if is_space(bytes.first()) || is_space(bytes.last()) {
            // Without some of its bytes it is as valid as before.
            let Ok(mut trimmed) = HeaderValue::from_bytes(bytes.trim_ascii()) else { continue };
            trimmed.set_sensitive(value.is_sensitive());
            *value = trimmed;
        }
    }
}

/// Whether a field name is a token. The `http` crate takes a quotation mark for a part of one in HTTP/2, and nothing else.
pub(crate) fn is_token(name: &str) -> bool {
    memchr::memchr(b'"', name.as_bytes()).is_none()
}

/// Leaves one `Content-Length`, in its shortest form.
///
/// # Errors
/// Where it is no number, another one each time, or larger than any body: many parsers have 63 bits for it.
pub(super) fn one_length(headers: &mut HeaderMap) -> Result<(), Malformed> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(()) };
    let mut values = values.peekable();
    if is_in_form(first.as_bytes()) && values.peek().is_none() {
        return Ok(());
    }
    let length = length(first)?;
    for again in values {
        if self::length(again)? != length {
            return Err(LengthFault::TwoLengths.into());
        }
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(())
}

/// Whether a length has its shortest form and is surely no larger than [`MAX_CONTENT_LENGTH`], as nearly all are.
fn is_in_form(digits: &[u8]) -> bool {
    let fits = (1..SURE_DIGITS).contains(&digits.len());
    fits && (digits.len() == 1 || digits[0] != b'0') && digits.iter().all(u8::is_ascii_digit)
}

fn length(value: &HeaderValue) -> Result<u64, Malformed> {
    let digits = value.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(LengthFault::ContentLength.into());
    }
    let text = value.to_str().map_err(|_| LengthFault::ContentLength)?;
    text.parse().ok().filter(|length| *length <= MAX_CONTENT_LENGTH).ok_or(LengthFault::TooLarge.into())
}

/// A number with fewer digits is less than [`MAX_CONTENT_LENGTH`].
const SURE_DIGITS: usize = 19;

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_lowercase(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_name_with_a_quotation_mark_is_malformed() {
        assert_eq!(from_http2(&mut headers(&[("x-\"a\"", "1")])), Err(FieldFault::Name.into()));
        assert_eq!(from_http2(&mut headers(&[("x-!#$%&'*+.^_`|~", "1")])), Ok(()));
    }

    #[test]
    fn spaces_around_a_value_are_no_part_of_it() {
        let mut secret = HeaderValue::from_static(" s ");
        secret.set_sensitive(true);
        let mut fields = headers(&[("a", " 1"), ("a", "\t2 \t"), ("b", "x  y"), ("c", " \t "), ("d", "")]);
        fields.insert("e", secret);
        from_http2(&mut fields).unwrap();
        assert_eq!(fields.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(["b", "c", "d", "e"].map(|name| &fields[name]), ["x  y", "", "", "s"]);
        assert!(fields["e"].is_sensitive());
    }

    #[test]
    fn a_length_is_one_number_in_its_shortest_form() {
        for (values, left) in [
            (&["0"][..], "0"),
            (&["17"], "17"),
            (&["0002"], "2"),
            (&["000"], "0"),
            (&["5", "05"], "5"),
            (&["9223372036854775807"], "9223372036854775807"),
        ] {
            let mut fields =
                headers(&values.iter().map(|value| ("content-length", *value)).collect::<Vec<_>>());
            assert_eq!(one_length(&mut fields), Ok(()), "{values:?}");
            assert_eq!(fields.get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), [left], "{values:?}");
        }
        for (values, why) in [
            (&["18446744073709551615"][..], LengthFault::TooLarge.into()),
            (&["9223372036854775808"], LengthFault::TooLarge.into()),
            (&["99999999999999999999999"], LengthFault::TooLarge.into()),
            (&["+5"], LengthFault::ContentLength.into()),
            (&["5, 5"], LengthFault::ContentLength.into()),
            (&["-1"], LengthFault::ContentLength.into()),
            (&[""], LengthFault::ContentLength.into()),
            (&["5", "6"], LengthFault::TwoLengths.into()),
        ] {
            let mut fields =
                headers(&values.iter().map(|value| ("content-length", *value)).collect::<Vec<_>>());
            assert_eq!(one_length(&mut fields), Err(why), "{values:?}");
        }
        assert_eq!(one_length(&mut HeaderMap::new()), Ok(()));
    }
}
