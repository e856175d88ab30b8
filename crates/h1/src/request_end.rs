//! Where a request ends, by its fields and by the lines of its chunks (RFC 9112 sections 6 and 7.1).

use crate::head_fault::is_token;
use crate::malformed::{ChunkFault, FieldFault, LengthFault, LineFault, Malformed};

/// Where a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestEnd {
    /// With its head.
    Head,
    /// After this many bytes.
    Length(u64),
    /// With its last chunk and the trailers.
    Chunks,
}

/// What a head says of the body behind it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EndFields {
    http_1_0: bool,
    content_length: Option<u64>,
    chunked: bool,
}

impl EndFields {
    /// The fields of a head that has none yet.
    pub(crate) const fn new(http_1_0: bool) -> Self {
        Self { http_1_0, content_length: None, chunked: false }
    }

    /// Notes a field line.
    pub(crate) fn field(&mut self, line: &[u8]) -> Result<(), Malformed> {
        // obs-fold (RFC 9112 section 5.2), or space before the first field (section 2.2).
        if line[0] == b' ' || line[0] == b'\t' {
            return Err(Malformed::Line(LineFault::Folded));
        }
        // Only two fields frame a message; the others are passed over.
        if !matches!(line[0] | 0x20, b'c' | b't') {
            return Ok(());
        }
        let Some(colon) = memchr::memchr(b':', line) else { return Ok(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // A space before the colon hides the field from one parser and not from the next (section 5.1).
        let bare = name.trim_ascii();
        if bare.eq_ignore_ascii_case(b"content-length") {
            if bare != name {
                return Err(Malformed::Field(FieldFault::SpaceBeforeColon));
            }
            if self.content_length.is_some() {
                return Err(Malformed::Length(LengthFault::TwoLengths));
            }
            self.content_length = Some(decimal(value)?);
        } else if bare.eq_ignore_ascii_case(b"transfer-encoding") {
            if bare != name {
                return Err(Malformed::Field(FieldFault::SpaceBeforeColon));
            }
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Length(LengthFault::TransferEncoding));
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// The head has ended: where the request does (RFC 9112 section 6.3).
    pub(crate) const fn end(self) -> Result<RequestEnd, Malformed> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(Malformed::Length(LengthFault::LengthAndEncoding)),
            (true, None) if self.http_1_0 => Err(Malformed::Length(LengthFault::EncodingInHttp10)),
            (true, None) => Ok(RequestEnd::Chunks),
            (false, Some(0) | None) => Ok(RequestEnd::Head),
            (false, Some(length)) => Ok(RequestEnd::Length(length)),
        }
    }
}

/// Where `bytes`, of which `left` with the rest belong to a chunk, have another line end than CRLF behind its data.
pub(crate) fn chunk_end_fault(bytes: &[u8], left: u64) -> Option<(usize, Malformed)> {
    let data = usize::try_from(left.saturating_sub(2)).unwrap_or(usize::MAX);
    let end = bytes.get(data.min(bytes.len())..).unwrap_or_default();
    let expected = if left == 1 { &b"\n"[..] } else { b"\r\n" };
    let (ahead, found) =
        end.iter().zip(expected).position(|(found, expected)| found != expected).map(|at| (at, end[at]))?;
    let fault = if found == b'\n' { LineFault::BareLineFeed.into() } else { ChunkFault::End.into() };
    Some((data + ahead, fault))
}

/// Digits alone, as the grammar has it (RFC 9110 section 8.6): no sign, no list.
fn decimal(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Length(LengthFault::ContentLength));
    }
    if value.len() > MAX_SIZE_DIGITS {
        return Err(Malformed::Length(LengthFault::TooLarge));
    }
    Ok(value.iter().fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0')))
}

/// `chunk-size [ chunk-ext ]` (RFC 9112 section 7.1), where an extension must have a name.
pub(crate) fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits == 0 {
        return Err(Malformed::Chunk(ChunkFault::Size));
    }
    if digits > MAX_SIZE_DIGITS {
        return Err(Malformed::Chunk(ChunkFault::TooLarge));
    }
    let size = line[..digits]
        .iter()
        .fold(0_u64, |sum, byte| sum * 16 + u64::from(char::from(*byte).to_digit(16).unwrap_or_default()));
    match &line[digits..] {
        [] => Ok(size),
        [b';', name, ..] if is_token(*name) => Ok(size),
        [b';', ..] => Err(Malformed::Chunk(ChunkFault::ExtensionName)),
        _ => Err(Malformed::Chunk(ChunkFault::AfterSize)),
    }
}

/// Digits of a body's or a chunk's size: more than any body has, and no overflow.
pub(crate) const MAX_SIZE_DIGITS: usize = 15;
