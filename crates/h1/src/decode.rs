//! A response's body, from bytes: by length, in chunks, or until the peer closes (RFC 9112 sections 6 and 7).
//!
//! Data is split off the buffer that it was read into, and never copied. Chunk extensions are bounded and dropped.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::{EMPTY_HEADER, Status};

use crate::head_fault::of_trailer;
use crate::malformed::{ChunkFault, LineFault, Malformed, TrailerFault};
use crate::parse::MAX_FIELDS;

/// How far a body has been read, and what ends it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoder {
    state: DecoderState,
    /// Bytes of chunk extensions so far.
    extensions: usize,
    trailers: Option<Box<HeaderMap>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    /// This many bytes are left.
    Length(u64),
    /// All that comes until the end of the stream.
    UntilClose,
    /// A chunk's size line.
    Size,
    /// This many bytes of a chunk are left.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// The trailer section.
    Trailers,
    /// Nothing.
    Finished,
}

impl Decoder {
    const fn new(state: DecoderState) -> Self {
        Self { state, extensions: 0, trailers: None }
    }

    /// No body at all.
    pub(crate) const fn none() -> Self {
        Self::new(DecoderState::Finished)
    }

    /// This many bytes.
    pub(crate) const fn length(length: u64) -> Self {
        Self::new(if length == 0 { DecoderState::Finished } else { DecoderState::Length(length) })
    }

    /// Chunks, and trailers behind them.
    pub(crate) const fn chunked() -> Self {
        Self::new(DecoderState::Size)
    }

    /// All bytes before the peer closes.
    pub(crate) const fn until_close() -> Self {
        Self::new(DecoderState::UntilClose)
    }

    /// Whether the last byte of the message was read.
    pub(crate) const fn is_finished(&self) -> bool {
        matches!(self.state, DecoderState::Finished)
    }

    /// Whether the body may end with the stream.
    pub(crate) const fn may_end_here(&self) -> bool {
        matches!(self.state, DecoderState::Finished | DecoderState::UntilClose)
    }

    /// Whether it reads the trailers, which are held until they are whole.
    pub(crate) const fn is_in_trailers(&self) -> bool {
        matches!(self.state, DecoderState::Trailers)
    }

    /// How many bytes of data are left, where that is known.
    pub(crate) const fn left(&self) -> Option<u64> {
        match self.state {
            DecoderState::Length(left) => Some(left),
            DecoderState::Finished => Some(0),
            _ => None,
        }
    }

    /// Whether trailers came that were not taken.
    pub(crate) const fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// The trailers, once the body is finished.
    pub(crate) const fn take_trailers(&mut self) -> Option<Box<HeaderMap>> {
        self.trailers.take()
    }

    /// Takes the next data off `input`; `None` where more must be read first, or the body is finished.
    ///
    /// # Errors
    /// What is not the chunked coding.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        self.step_over(input)?;
        let data = match &mut self.state {
            _ if input.is_empty() => None,
            DecoderState::Length(left) | DecoderState::Chunk(left) => {
                let taken = (input.len() as u64).min(*left);
                *left -= taken;
                Some(input.split_to(taken as usize))
            }
            DecoderState::UntilClose => Some(input.split()),
            _ => None,
        };
        // So that the end is seen with the last data, and not at the next call.
        self.step_over(input)?;
        Ok(data.map(BytesMut::freeze))
    }

    /// Takes off all that is not data.
    fn step_over(&mut self, input: &mut BytesMut) -> Result<(), Malformed> {
        loop {
            let next = match self.state {
                DecoderState::Length(0) => DecoderState::Finished,
                DecoderState::Chunk(0) => DecoderState::ChunkEnd,
                DecoderState::Size => {
                    let Some(size) = self.size(input)? else { return Ok(()) };
                    if size == 0 { DecoderState::Trailers } else { DecoderState::Chunk(size) }
                }
                DecoderState::ChunkEnd => {
                    if !b"\r\n".starts_with(&input[..input.len().min(2)]) {
                        let is_bare = input[0] == b'\n';
                        return Err(if is_bare {
                            Malformed::Line(LineFault::BareLineFeed)
                        } else {
                            Malformed::Chunk(ChunkFault::End)
                        });
                    }
                    if input.len() < 2 {
                        return Ok(());
                    }
                    input.advance(2);
                    DecoderState::Size
                }
                DecoderState::Trailers => {
                    if !self.read_trailers(input)? {
                        return Ok(());
                    }
                    DecoderState::Finished
                }
                DecoderState::Length(_)
                | DecoderState::Chunk(_)
                | DecoderState::UntilClose
                | DecoderState::Finished => return Ok(()),
            };
            self.state = next;
        }
    }

    /// Takes a size line off, if it is there: hexadecimal digits, and what may follow them.
    fn size(&mut self, input: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            return if input.len() > MAX_SIZE_LINE {
                Err(Malformed::Chunk(ChunkFault::Extensions))
            } else {
                Ok(None)
            };
        };
        let line = input[..end].strip_suffix(b"\r").ok_or(Malformed::Line(LineFault::BareLineFeed))?;
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let (digits, more) = line.split_at(digits);
        // Some servers fill the line up with spaces.
        let extension = more.trim_ascii_start();
        let is_plain = extension.is_empty() || extension[0] == b';';
        if digits.is_empty() {
            return Err(Malformed::Chunk(ChunkFault::Size));
        } else if digits.len() > MAX_SIZE_DIGITS {
            return Err(Malformed::Chunk(ChunkFault::TooLarge));
        } else if more.contains(&b'\r') {
            return Err(Malformed::Line(LineFault::BareCarriageReturn));
        } else if !is_plain {
            return Err(Malformed::Chunk(ChunkFault::AfterSize));
        }
        self.extensions += more.len();
        if self.extensions > MAX_EXTENSIONS {
            return Err(Malformed::Chunk(ChunkFault::Extensions));
        }
        let size = digits.iter().fold(0, |size, digit| size << 4 | u64::from(hex(*digit)));
        input.advance(end + 1);
        Ok(Some(size))
    }

    /// Takes the trailer section off, if it is there whole.
    fn read_trailers(&mut self, input: &mut BytesMut) -> Result<bool, Malformed> {
        if input.starts_with(b"\r\n") {
            input.advance(2);
            return Ok(true);
        }
        let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else {
            if input.len() > MAX_TRAILERS {
                return Err(Malformed::Trailer(TrailerFault::TooLarge));
            }
            let is_broken = input.len() >= 2 && input[0] == b'\r';
            return if is_broken { Err(Malformed::Line(LineFault::BareCarriageReturn)) } else { Ok(false) };
        };
        if end + 4 > MAX_TRAILERS {
            return Err(Malformed::Trailer(TrailerFault::TooLarge));
        }
        let section = input.split_to(end + 4).freeze();
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        match httparse::parse_headers(&section, &mut fields) {
            Ok(Status::Complete((length, fields))) if length == section.len() => {
                let mut trailers = HeaderMap::with_capacity(fields.len());
                for field in fields {
                    let name = HeaderName::from_bytes(field.name.as_bytes())
                        .map_err(|_| Malformed::Trailer(TrailerFault::Name))?;
                    let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value));
                    let value = value.map_err(|_| Malformed::Trailer(TrailerFault::Value))?;
                    trailers
                        .try_append(name, value)
                        .map_err(|_| Malformed::Trailer(TrailerFault::TooLarge))?;
                }
                self.trailers = Some(Box::new(trailers));
                Ok(true)
            }
            _ => Err(fault_of(&section)),
        }
    }
}

/// What is wrong with a trailer section that cannot be parsed.
fn fault_of(section: &[u8]) -> Malformed {
    let lines = section.strip_suffix(b"\r\n\r\n").unwrap_or(section).split(|byte| *byte == b'\n');
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let line = match line.strip_suffix(b"\r") {
            Some(line) => line,
            None if is_last => line,
            None => return Malformed::Line(LineFault::BareLineFeed),
        };
        if line.contains(&b'\r') {
            return Malformed::Line(LineFault::BareCarriageReturn);
        }
        if let Some(fault) = of_trailer(line) {
            return fault;
        }
    }
    Malformed::Trailer(TrailerFault::TooLarge)
}

/// The value of a hexadecimal digit.
const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// 60 bits: no chunk is larger, and no sum of two overflows.
const MAX_SIZE_DIGITS: usize = 15;
/// Bytes that all chunk extensions of a message may have.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Bytes of a size line: digits, extensions, line end.
const MAX_SIZE_LINE: usize = MAX_EXTENSIONS + 32;
/// Bytes of a trailer section.
const MAX_TRAILERS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a decoder makes of bytes that come in pieces of `cut`: the data, whether it is finished, and what is left.
    fn decode(
        mut decoder: Decoder,
        wire: &[u8],
        cut: usize,
    ) -> Result<(Vec<u8>, Decoder, Vec<u8>), Malformed> {
        let mut input = BytesMut::new();
        let mut data = Vec::new();
        for piece in wire.chunks(cut) {
            input.extend_from_slice(piece);
            while let Some(bytes) = decoder.decode(&mut input)? {
                data.extend_from_slice(&bytes);
            }
        }
        Ok((data, decoder, input.to_vec()))
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let chunked = b"5\r\nhello\r\n1;a=b\r\n,\r\n006  \r\n world\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\nrest";
        for cut in 1..=chunked.len() {
            let (data, mut decoder, rest) = decode(Decoder::chunked(), chunked, cut).unwrap();
            assert_eq!(data, b"hello, world");
            assert!(decoder.is_finished());
            let trailers = decoder.take_trailers().unwrap();
            assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
            assert_eq!(rest, b"rest");

            let (data, decoder, rest) = decode(Decoder::length(12), b"hello, worldrest", cut).unwrap();
            assert_eq!(
                (&data[..], decoder.is_finished(), &rest[..]),
                (&b"hello, world"[..], true, &b"rest"[..])
            );

            let (data, decoder, _) = decode(Decoder::until_close(), b"hello, world", cut).unwrap();
            assert_eq!((&data[..], decoder.is_finished()), (&b"hello, world"[..], false));
            assert!(decoder.may_end_here());
        }
    }

    #[test]
    fn a_body_that_is_cut_off_is_not_finished() {
        let chunked = b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n";
        for end in 0..chunked.len() {
            let (_, decoder, _) = decode(Decoder::chunked(), &chunked[..end], 3).unwrap();
            assert!(!decoder.may_end_here(), "{end}");
        }
        for end in 0..5 {
            let (_, decoder, _) = decode(Decoder::length(5), &b"hello"[..end], 3).unwrap();
            assert!(!decoder.may_end_here(), "{end}");
        }
    }

    #[test]
    fn chunks_that_two_readers_would_read_in_two_ways_are_malformed() {
        for (wire, fault) in [
            ("\r\n", Malformed::Chunk(ChunkFault::Size)),
            ("x\r\n", Malformed::Chunk(ChunkFault::Size)),
            ("0x5\r\nhello\r\n", Malformed::Chunk(ChunkFault::AfterSize)),
            ("+5\r\nhello\r\n", Malformed::Chunk(ChunkFault::Size)),
            ("-5\r\nhello\r\n", Malformed::Chunk(ChunkFault::Size)),
            (" 5\r\nhello\r\n", Malformed::Chunk(ChunkFault::Size)),
            ("5\nhello\n0\n\n", Malformed::Line(LineFault::BareLineFeed)),
            ("5\r\nhello\n0\r\n\r\n", Malformed::Line(LineFault::BareLineFeed)),
            ("5\r\nhelloworld\r\n0\r\n\r\n", Malformed::Chunk(ChunkFault::End)),
            ("5\r\nhelloXX", Malformed::Chunk(ChunkFault::End)),
            ("5 5\r\nhello\r\n", Malformed::Chunk(ChunkFault::AfterSize)),
            ("5;a\rb\r\nhello\r\n", Malformed::Line(LineFault::BareCarriageReturn)),
            ("10000000000000000\r\n", Malformed::Chunk(ChunkFault::TooLarge)),
            ("0\r\nno colon\r\n\r\n", Malformed::Trailer(TrailerFault::NoColon)),
            ("0\r\nX : 1\r\n\r\n", Malformed::Trailer(TrailerFault::Name)),
            ("0\r\nX: \x01\r\n\r\n", Malformed::Trailer(TrailerFault::Value)),
            ("0\r\nX: 1\r\n folded\r\n\r\n", Malformed::Trailer(TrailerFault::Folded)),
            ("0\r\nX: 1\nno colon\r\n\r\n", Malformed::Line(LineFault::BareLineFeed)),
            ("0\r\nX: 1\rY: 2\r\n\r\n", Malformed::Line(LineFault::BareCarriageReturn)),
            ("0\r\n\rX\r\n\r\n", Malformed::Line(LineFault::BareCarriageReturn)),
        ] {
            for cut in [1, wire.len()] {
                let decoded = decode(Decoder::chunked(), wire.as_bytes(), cut).map(drop);
                assert_eq!(decoded, Err(fault), "{wire:?} in pieces of {cut}");
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let fault = |wire: &str| decode(Decoder::chunked(), wire.as_bytes(), 4096).map(drop);
        let many = "1;aaaaaaaaaaaaaaaa\r\nx\r\n".repeat(MAX_EXTENSIONS / 17 + 1);
        assert_eq!(fault(&many), Err(Malformed::Chunk(ChunkFault::Extensions)));
        let one = format!("1;{}", "a".repeat(MAX_EXTENSIONS + 8192));
        assert_eq!(fault(&one), Err(Malformed::Chunk(ChunkFault::Extensions)));
        let long = format!("0\r\nX: {}", "a".repeat(MAX_TRAILERS + 8192));
        assert_eq!(fault(&long), Err(Malformed::Trailer(TrailerFault::TooLarge)));
        let fields = format!("0\r\n{}\r\n", "x: 1\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(fault(&fields), Err(Malformed::Trailer(TrailerFault::TooLarge)));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_in_chunks_comes_out_as_it_was(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20),
            cut in 1_usize..700,
        ) {
            let mut wire = Vec::new();
            for part in &parts {
                wire.extend_from_slice(format!("{:X}\r\n", part.len()).as_bytes());
                wire.extend_from_slice(part);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let (data, decoder, rest) = decode(Decoder::chunked(), &wire, cut).unwrap();
            prop_assert_eq!(data, parts.concat());
            prop_assert!(decoder.is_finished() && rest.is_empty());
        }
    }
}
