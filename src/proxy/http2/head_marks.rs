//! What takes the place of a field for which h2 would reset a stream, or end the connection, without a word: marks, which
//! `request_heads` puts into requests and `response_heads` into responses, and which are looked for once h2 has decoded the head.
//!
//! Where a field goes into the dynamic table, an entry of another length would put the peer's table out of step: a mark is as
//! long as what it stands for. No mark is a field that a peer can send: its name is no token, though the crate `http` takes
//! it, or its value begins with a tab (RFC 9113 section 8.2.1).

use cupbearer_h1::{LengthFault, is_token};
use http::HeaderMap;

use super::flood::HEADER;
use super::head_frames::Block;
use super::hpack::{
    FieldName, Literal, count, has_control, literals, read_string, size_updates, write_string,
};
use crate::proxy::error::Malformed;

/// The frame of trailers with other fields; `None`: it goes on as it is. h2 resets their stream for a pseudo-header field, and
/// for what would have it end the connection, and for more than `max_fields`.
pub(super) fn rewrite_trailers(
    header: &[u8; HEADER],
    payload: &[u8],
    max_fields: Option<usize>,
) -> Option<Vec<u8>> {
    let block = Block::of(header[4], payload)?;
    let is_over = max_fields.is_some_and(|most| block.fields.len() > most && count(block.fields) > most);
    let shortened = max_fields.filter(|_| is_over).and_then(|most| block.shortened(most));
    let block = block.with(shortened.as_deref());
    let other = with_others(block.fields, |literal| {
        let value = &block.fields[literal.value.clone()];
        if matches!(literal.name, FieldName::Spelt(_))
            && let KnownField::Invalid(length) = KnownField::of(block.fields, literal)?
        {
            return Some(marked_name(block.fields, literal, INVALID, length));
        }
        has_control(value)?.then(|| marked_value(block.fields, literal))
    });
    if other.is_none() && !is_over {
        return block.trailers(header);
    }
    let fields = other.as_deref().unwrap_or(block.fields);
    let (updates, fields) = fields.split_at_checked(size_updates(fields)?)?;
    block.framed(header, &[updates, MALFORMED, fields])
}

/// The fields of a block with others in place of some literals; `None`: there are none.
pub(super) fn with_others(
    block: &[u8],
    mut other: impl FnMut(&Literal) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let (mut fields, mut done) = (None, 0);
    for literal in literals(block) {
        let Some(field) = other(&literal) else { continue };
        let fields: &mut Vec<u8> = fields.get_or_insert_default();
        fields.extend_from_slice(&block[done..literal.at.start]);
        fields.extend_from_slice(&field);
        done = literal.at.end;
    }
    let mut fields = fields?;
    fields.extend_from_slice(&block[done..]);
    Some(fields)
}

/// A literal with another value.
pub(super) fn with_value(block: &[u8], literal: &Literal, value: &[u8]) -> Vec<u8> {
    let mut field = block[literal.at.start..literal.value.start].to_vec();
    write_string(value, &mut field);
    field
}

/// A literal whose value has a control character, for which h2 would end the connection.
pub(super) fn marked_value(block: &[u8], literal: &Literal) -> Vec<u8> {
    let length = length_of(&block[literal.value.clone()]).unwrap_or_default();
    with_value(block, literal, &value_mark(length))
}

/// A literal with a name that says what is wrong with it, of this length where that counts.
pub(super) fn marked_name(block: &[u8], literal: &Literal, kind: u8, length: usize) -> Vec<u8> {
    let mut field = vec![if literal.is_indexed { 0x40 } else { block[literal.at.start] & 0xf0 }];
    let length = if literal.is_indexed { length } else { length.max(2) };
    let mut name = vec![MARKED_NAME, kind];
    name.resize(length, b'~');
    write_string(&name, &mut field);
    let value = &block[literal.value.clone()];
    if has_control(value) == Some(true) {
        write_string(&value_mark(length_of(value).unwrap_or_default()), &mut field);
    } else {
        field.extend_from_slice(value);
    }
    field
}

/// Bytes of a string literal once it is decoded; `None`: it is malformed.
pub(super) fn length_of(literal: &[u8]) -> Option<usize> {
    let mut length = 0;
    read_string(literal, |_| length += 1)?;
    Some(length)
}

/// A field that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnownField {
    Path,
    Authority,
    /// `:method` or `:protocol`.
    Word,
    Scheme,
    Status,
    Length,
    /// One that is about the connection (RFC 9113 section 8.2.2), with a name of this length.
    Connection(usize),
    /// One that has no valid name (RFC 9113 sections 8.2.1 and 8.3), of this length.
    Invalid(usize),
    /// Its value alone is.
    Other,
}

impl KnownField {
    /// What a literal of `block` is; `None`: it is malformed.
    pub(super) fn of(block: &[u8], literal: &Literal) -> Option<Self> {
        let index = match &literal.name {
            FieldName::Index(index) => *index,
            FieldName::Spelt(name) => {
                return Self::spelt(&block[name.clone()], &block[literal.value.clone()]);
            }
        };
        Some(match index {
            AUTHORITY => Self::Authority,
            2 | 3 => Self::Word,
            6 | 7 => Self::Scheme,
            4 | 5 => Self::Path,
            8..=14 => Self::Status,
            CONTENT_LENGTH => Self::Length,
            TRANSFER_ENCODING => Self::Connection(b"transfer-encoding".len()),
            _ => Self::Other,
        })
    }

    /// The field of this name, a string literal, and `value`, another; `None`: they are malformed.
    fn spelt(literal: &[u8], value: &[u8]) -> Option<Self> {
        let (mut name, mut length, mut is_valid) = ([0; LONGEST_KNOWN], 0, true);
        read_string(literal, |byte| {
            if let Some(place) = name.get_mut(length) {
                *place = byte;
            }
            is_valid &= is_token(byte) && !byte.is_ascii_uppercase() || length == 0 && byte == b':';
            length += 1;
        })?;
        if !is_valid || length == 0 {
            return Some(Self::Invalid(length));
        }
        let is_pseudo = name[0] == b':';
        Some(match name.get(..length) {
            Some(b":path") => Self::Path,
            Some(b":authority") => Self::Authority,
            Some(b":method" | b":protocol") => Self::Word,
            Some(b":scheme") => Self::Scheme,
            Some(b":status") => Self::Status,
            Some(b"content-length") => Self::Length,
            Some(b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade") => {
                Self::Connection(length)
            }
            Some(b"te") if !is_trailers(value)? => Self::Connection(length),
            _ if is_pseudo => Self::Invalid(length),
            _ => Self::Other,
        })
    }
}

/// Whether a string literal is what `TE` may be (RFC 9113 section 8.2.2).
fn is_trailers(literal: &[u8]) -> Option<bool> {
    let mut rest = &b"trailers"[..];
    let mut is_same = true;
    read_string(literal, |byte| is_same &= rest.split_off_first() == Some(&byte))?;
    Some(is_same && rest.is_empty())
}

/// The length that a string literal says; `Some(None)`: it is none that h2 takes, and all others after it.
#[expect(clippy::option_option, reason = "malformed, no length, or a length")]
pub(crate) fn length(literal: &[u8]) -> Option<Option<u64>> {
    let mut length = Some(0_u64);
    let mut is_empty = true;
    read_string(literal, |byte| {
        is_empty = false;
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
        length = length.zip(digit).and_then(|(sum, digit)| sum.checked_mul(10)?.checked_add(digit));
    })?;
    Some(length.filter(|length| !is_empty && *length <= MAX_CONTENT_LENGTH))
}

/// Finds what stands for a fault among fields.
///
/// # Errors
/// The fault.
pub(crate) fn marked_fields(fields: &HeaderMap) -> Result<(), Malformed> {
    let marked = fields.keys().find_map(|name| name.as_str().as_bytes().strip_prefix(&[MARKED_NAME]));
    match marked.map(|kind| kind.first().copied()) {
        None => {}
        Some(Some(LENGTH)) => return Err(LengthFault::ContentLength.into()),
        Some(Some(OTHER_LENGTH)) => return Err(LengthFault::TwoLengths.into()),
        Some(Some(CONNECTION)) => return Err(Malformed::ConnectionField),
        Some(Some(PATH)) => return Err(Malformed::EmptyPath),
        Some(Some(STATUS)) => return Err(Malformed::Status),
        Some(Some(NO_STATUS)) => return Err(Malformed::NoStatus),
        Some(_) => return Err(Malformed::FieldNameOfHttp2),
    }
    if fields.values().any(|value| is_value_mark(value.as_bytes())) {
        return Err(Malformed::FieldValueOfHttp2);
    }
    Ok(())
}

/// The mark of a value with so many bytes.
fn value_mark(length: usize) -> Vec<u8> {
    let mut mark = vec![MARKED_VALUE; length];
    if let Some(first) = mark.first_mut() {
        *first = b'\t';
    }
    mark
}

fn is_value_mark(value: &[u8]) -> bool {
    matches!(value, [b'\t', rest @ ..] if rest.iter().all(|byte| *byte == MARKED_VALUE))
}

/// What a name begins with that is a mark. The second character says what for; all others are `~`.
pub(super) const MARKED_NAME: u8 = b'"';
pub(crate) const LENGTH: u8 = b'l';
pub(super) const OTHER_LENGTH: u8 = b'o';
pub(crate) const CONNECTION: u8 = b'c';
pub(super) const INVALID: u8 = b'n';
pub(crate) const PATH: u8 = b'p';
pub(crate) const STATUS: u8 = b's';
pub(super) const NO_STATUS: u8 = b'm';
/// All that a value has, behind a tab, that stands for one with a control character.
const MARKED_VALUE: u8 = 0xff;
/// `transfer-encoding: x`, not indexed: h2 resets the stream for it (RFC 9113 section 8.2.2).
pub(super) const MALFORMED: &[u8] = &[0x0f, (TRANSFER_ENCODING - 15) as u8, 1, b'x'];

/// Names in the static table (RFC 7541 appendix A).
const AUTHORITY: usize = 1;
const CONTENT_LENGTH: usize = 28;
const TRANSFER_ENCODING: usize = 57;
const LONGEST_KNOWN: usize = b"transfer-encoding".len();
/// The largest length that a signed number of 64 bits holds.
pub(crate) const MAX_CONTENT_LENGTH: u64 = i64::MAX as u64;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_mark_is_no_field_that_a_peer_can_send() {
        for name in ["~", "~n~", "~l~~", "~c"] {
            let mut fields = HeaderMap::new();
            fields.insert(name, HeaderValue::from_static("1"));
            assert_eq!(marked_fields(&fields), Ok(()), "{name}");
        }
        for length in 0..4 {
            let (mark, same) = (value_mark(length), vec![MARKED_VALUE; length]);
            assert_eq!((mark.len(), is_value_mark(&mark)), (length, length > 0));
            assert!(HeaderValue::from_bytes(&mark).is_ok() && !is_value_mark(&same), "{length}");
        }
        assert!(!is_token(MARKED_NAME));
    }
}
