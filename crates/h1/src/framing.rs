//! The framing of requests, judged on the bytes themselves (RFC 9112 sections 2.2, 3, 5, 6 and 7).
//!
//! hyper's parser is lenient where two servers may disagree about where a message ends: it takes a bare LF for a line
//! end, `5 ` for a chunk size, and `Transfer-Encoding` beside `Content-Length`. By the time hyper calls its service,
//! those bytes are gone. So the bytes of a connection pass through [`RequestFraming`] first. It knows the borders of
//! messages by itself, and cuts the bytes off before anything ambiguous. hyper reads [`RequestFraming::poison`] in their
//! place: it responds with 400 and closes, and never reads what was cut off.
//!
//! The judge looks at framing, at the characters of the request target, which hyper does not check, and at a connection's
//! first bytes, which may be another protocol's. Everything else is judged on the parsed request.

use crate::head_fault::{self, At};
use crate::malformed::{
    ChunkFault, LineFault, Malformed, OtherProtocol, RequestFault, StartLineFault, TrailerFault,
};
use crate::protocol::{HTTP2_PREFACE, other_protocol};
use crate::request_end::{EndFields, MAX_SIZE_DIGITS, RequestEnd, chunk_end_fault, chunk_size};
use crate::target::{TargetByte, encoded, is_odd};

pub use crate::protocol::{Protocol, is_proxy_protocol};

/// Follows one connection's requests byte by byte.
#[derive(Debug)]
pub struct RequestFraming {
    state: FramingState,
    /// Whether HTTP/2's preface may still come.
    may_be_http2: bool,
    /// The part of the current line that earlier reads brought; empty where a line came whole.
    line: Vec<u8>,
    head: EndFields,
    /// Bytes of chunk extensions or trailers in this message so far.
    extra: usize,
    max_line: usize,
    poison: &'static [u8],
    /// Whether nothing has come yet.
    is_new: bool,
    /// Whether the current request line has come to its target, or beyond.
    in_target: bool,
    /// What is wrong with what was refused, where that is known.
    fault: Option<RequestFault>,
    /// The number of the last read of a head.
    last_read: u64,
}

/// The part of a message that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FramingState {
    /// Before a request line; blank lines are skipped (RFC 9112 section 2.2).
    Start,
    /// The fields of a head.
    Fields,
    /// This many bytes of a body are left.
    Body(u64),
    /// A chunk's size line.
    ChunkSize,
    /// This many bytes of a chunk are left, its line end included.
    Chunk(u64),
    /// The trailer section.
    Trailers,
    /// HTTP/2: its frames are framed by themselves.
    Http2,
    /// A tunnel: its bytes have no framing.
    Tunnel,
    /// Something ambiguous came: nothing more goes on.
    Refused,
}

/// How far a read goes on as it came, where a part of it was encoded.
#[derive(Clone, Copy, Debug)]
struct Rewritten {
    /// Bytes that go on as they came.
    same: usize,
    /// Bytes that are admitted: as they came, or encoded.
    done: usize,
}

/// A message has more chunk extensions and trailers than are read.
struct TooMuch;

/// Where a connection is within its messages, for its time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No request has begun.
    Idle,
    /// A head has begun and not ended.
    Head,
    /// A body, or something that has no time limit here.
    Body,
}

impl RequestFraming {
    /// A connection on which nothing was read yet. `max_line` bounds one line of a head, in bytes.
    #[must_use]
    pub const fn new(max_line: usize, protocol: Protocol) -> Self {
        Self {
            state: if matches!(protocol, Protocol::Http2) {
                FramingState::Http2
            } else {
                FramingState::Start
            },
            may_be_http2: matches!(protocol, Protocol::Either),
            line: Vec::new(),
            head: EndFields::new(false),
            extra: 0,
            max_line,
            poison: POISON,
            is_new: true,
            in_target: false,
            fault: None,
            last_read: 0,
        }
    }

    /// What is wrong with what is refused, or with what hyper refuses, where that is known.
    #[must_use]
    pub fn fault(&self) -> Option<RequestFault> {
        self.fault.or_else(|| head_fault::of(self.last_read))
    }

    /// Where the connection is now.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self.state {
            FramingState::Start if self.line.is_empty() => Phase::Idle,
            FramingState::Start | FramingState::Fields => Phase::Head,
            _ => Phase::Body,
        }
    }

    /// Whether the connection speaks HTTP/2.
    #[must_use]
    pub const fn is_http2(&self) -> bool {
        matches!(self.state, FramingState::Http2)
    }

    /// The protocol that is spoken, as far as is known from `read`: all that was admitted so far.
    #[must_use]
    pub fn protocol(&self, read: &[u8]) -> Protocol {
        match self.state {
            FramingState::Http2 => Protocol::Http2,
            FramingState::Start if self.may_be_http2 && HTTP2_PREFACE.starts_with(read) => Protocol::Either,
            _ => Protocol::Http1,
        }
    }

    /// Admits everything from here on: the connection has become a tunnel.
    pub fn open(&mut self) {
        self.state = FramingState::Tunnel;
        self.line = Vec::new();
    }

    /// Whether something ambiguous came.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self.state, FramingState::Refused)
    }

    /// Judges the bytes that were just read, and returns how many of them go on as they are. What goes on behind those is
    /// put into `out`: targets with characters that are percent-encoded, and all that follows them. Nothing of what comes
    /// behind something ambiguous goes on.
    pub fn admit(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let mut rewritten = None;
        let end = self.judge(bytes, out, &mut rewritten);
        match rewritten {
            None => end,
            Some(Rewritten { same, done }) => {
                out.extend_from_slice(bytes.get(done..end).unwrap_or_default());
                same
            }
        }
    }

    /// Returns how many of the bytes are admitted, as they are or `rewritten`.
    fn judge(&mut self, bytes: &[u8], out: &mut Vec<u8>, rewritten: &mut Option<Rewritten>) -> usize {
        if std::mem::take(&mut self.is_new)
            && self.state == FramingState::Start
            && let Some(other) = bytes.first().and_then(|first| other_protocol(*first))
        {
            self.fault = Some(other.into());
            return self.refuse(0, None);
        }
        match self.state {
            FramingState::Start => self.last_read = head_fault::keep(At::RequestLine, &self.line, bytes),
            FramingState::Fields => self.last_read = head_fault::keep(At::Fields, &self.line, bytes),
            _ => {}
        }
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                FramingState::Http2 | FramingState::Tunnel => return bytes.len(),
                FramingState::Refused => return 0,
                FramingState::Body(left) => {
                    let taken = (rest.len() as u64).min(left);
                    self.state =
                        if left == taken { FramingState::Start } else { FramingState::Body(left - taken) };
                    at += taken as usize;
                }
                FramingState::Chunk(left) => {
                    let taken = (rest.len() as u64).min(left);
                    if let Some((ahead, fault)) = chunk_end_fault(&rest[..taken as usize], left) {
                        self.fault = Some(fault.into());
                        return self.refuse(at + ahead, None);
                    }
                    self.state = if left == taken {
                        FramingState::ChunkSize
                    } else {
                        FramingState::Chunk(left - taken)
                    };
                    at += taken as usize;
                }
                FramingState::Start
                | FramingState::Fields
                | FramingState::ChunkSize
                | FramingState::Trailers => {
                    let newline = memchr::memchr(b'\n', rest);
                    if newline.is_none() && self.line.len() + rest.len() > self.max_line {
                        // hyper responds with 431 by its own limit; this one bounds memory.
                        self.fault = match self.state {
                            FramingState::ChunkSize => Some(ChunkFault::Extensions.into()),
                            FramingState::Trailers => Some(TrailerFault::TooLarge.into()),
                            _ => self.fault,
                        };
                        return self.refuse(at, self.line.last().copied());
                    }
                    if self.state == FramingState::Start
                        && let line = &rest[..newline.unwrap_or(rest.len())]
                        && let Some(odd) = self.first_odd(line)
                    {
                        let from = rewritten.map_or(at + odd, |before| before.done);
                        out.extend_from_slice(&bytes[from..at + odd]);
                        let same = rewritten.map_or(from, |before| before.same);
                        let encoded = self.encode(&line[odd..], out);
                        let done = at + odd + encoded.unwrap_or_else(|taken| taken);
                        *rewritten = Some(Rewritten { same, done });
                        if encoded.is_err() {
                            return self.refuse(done, None);
                        }
                    }
                    let Some(newline) = newline else {
                        self.line.extend_from_slice(rest);
                        // The preface of HTTP/2 begins like a request line and has no line end in its last part.
                        return bytes.len();
                    };
                    let end = at + newline;
                    let earlier = self.line.last().copied();
                    let judged = if self.line.is_empty() {
                        self.line_ended(&bytes[at..end])
                    } else {
                        let mut line = std::mem::take(&mut self.line);
                        line.extend_from_slice(&bytes[at..end]);
                        let judged = self.line_ended(&line);
                        line.clear();
                        self.line = line;
                        judged
                    };
                    let next = match judged {
                        Ok(next) => next,
                        Err(fault) => {
                            self.fault = self.fault.or(Some(fault.into()));
                            let cut = at.max(end.saturating_sub(1));
                            let passed = if cut > at { Some(bytes[cut - 1]) } else { earlier };
                            return self.refuse(cut, passed);
                        }
                    };
                    self.state = next;
                    at = end + 1;
                }
            }
        }
        bytes.len()
    }

    /// Where the first byte of a request target is that does not go on as it is. Only what is behind the first space of
    /// the line is one; the CR at its end is none.
    fn first_odd(&mut self, piece: &[u8]) -> Option<usize> {
        let start = if self.in_target { 0 } else { memchr::memchr(b' ', piece)? + 1 };
        self.in_target = true;
        piece[start..].iter().position(|byte| is_odd_in_line(*byte)).map(|at| start + at)
    }

    /// Writes a part of a request line with its odd characters percent-encoded; returns its length.
    ///
    /// # Errors
    /// The length of what is before a character that is refused.
    fn encode(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<usize, usize> {
        out.reserve(piece.len());
        for (at, byte) in piece.iter().copied().enumerate() {
            if !is_odd_in_line(byte) {
                out.push(byte);
            } else if TargetByte::of(byte) == TargetByte::Encoded {
                out.extend_from_slice(&encoded(byte));
            } else {
                self.fault = Some(RequestFault::TargetByte(byte));
                return Err(at);
            }
        }
        Ok(piece.len())
    }

    /// What hyper reads in place of what was refused.
    #[must_use]
    pub const fn poison(&self) -> &'static [u8] {
        self.poison
    }

    /// Refuses everything from `at` on; `passed` is the byte of this line that was passed on last.
    fn refuse(&mut self, at: usize, passed: Option<u8>) -> usize {
        // Behind a CR, an LF would end the line after all.
        let within_size_line = self.state == FramingState::ChunkSize && passed != Some(b'\r');
        self.poison = if within_size_line { CHUNK_POISON } else { POISON };
        self.state = FramingState::Refused;
        self.line = Vec::new();
        at
    }

    /// A line without its LF; what comes next.
    fn line_ended(&mut self, line: &[u8]) -> Result<FramingState, Malformed> {
        let line = line.strip_suffix(b"\r").ok_or(Malformed::Line(LineFault::BareLineFeed))?;
        if line == b"\0" && self.state == FramingState::Start {
            // The fifth byte of the PROXY protocol's version 2, behind two blank lines.
            self.fault = Some(OtherProtocol::ProxyProtocol.into());
        }
        if let Some(at) = memchr::memchr2(b'\r', 0, line) {
            return Err(if line[at] == 0 {
                Malformed::Line(LineFault::Nul)
            } else {
                Malformed::Line(LineFault::BareCarriageReturn)
            });
        }
        match self.state {
            FramingState::Start => {
                self.in_target = false;
                let first = std::mem::take(&mut self.may_be_http2);
                if line.is_empty() {
                    return Ok(FramingState::Start);
                }
                if HTTP2_PREFACE.strip_suffix(b"\r\n").is_some_and(|preface| preface == line) {
                    if first {
                        return Ok(FramingState::Http2);
                    }
                    // Behind anything else it is a request, and an invalid one.
                    self.fault = Some(OtherProtocol::Http2.into());
                    return Err(Malformed::StartLine(StartLineFault::Version));
                }
                if is_proxy_protocol(line) {
                    self.fault = Some(OtherProtocol::ProxyProtocol.into());
                    return Err(Malformed::StartLine(StartLineFault::RequestLine));
                }
                self.head = EndFields::new(line.ends_with(b"HTTP/1.0"));
                self.extra = 0;
                Ok(FramingState::Fields)
            }
            FramingState::Fields if line.is_empty() => Ok(match self.head.end()? {
                RequestEnd::Head => FramingState::Start,
                RequestEnd::Length(length) => FramingState::Body(length),
                RequestEnd::Chunks => FramingState::ChunkSize,
            }),
            FramingState::Fields => {
                self.head.field(line)?;
                Ok(FramingState::Fields)
            }
            FramingState::ChunkSize => {
                self.count_extra(line.len()).map_err(|TooMuch| Malformed::Chunk(ChunkFault::Extensions))?;
                match chunk_size(line)? {
                    0 => Ok(FramingState::Trailers),
                    size => Ok(FramingState::Chunk(size + 2)),
                }
            }
            FramingState::Trailers if line.is_empty() => Ok(FramingState::Start),
            FramingState::Trailers => {
                self.count_extra(line.len()).map_err(|TooMuch| Malformed::Trailer(TrailerFault::TooLarge))?;
                head_fault::of_trailer(line).map_or(Ok(FramingState::Trailers), Err)
            }
            FramingState::Body(_)
            | FramingState::Chunk(_)
            | FramingState::Http2
            | FramingState::Tunnel
            | FramingState::Refused => Err(Malformed::Line(LineFault::End)),
        }
    }

    /// Size lines count one byte for each chunk that they announce, so that only the surplus adds up.
    fn count_extra(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.extra += bytes.saturating_sub(MAX_SIZE_DIGITS);
        if self.extra > MAX_EXTRA { Err(TooMuch) } else { Ok(()) }
    }
}

/// Whether a byte behind a request's method does not go on as it is. The spaces of the line, and the CR at its end, do.
fn is_odd_in_line(byte: u8) -> bool {
    is_odd(byte) && !matches!(byte, b' ' | b'\r')
}

/// A NUL, which is allowed nowhere in a head, and a head's end, so that hyper does not wait for more before it says so.
const POISON: &[u8] = b"\0\r\n\r\n";

/// The same for a chunk's size line, whose extensions hyper does not read but for a bare LF.
const CHUNK_POISON: &[u8] = b"\n\0\r\n\r\n";

/// Bytes of chunk extensions and trailers in one message.
const MAX_EXTRA: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::malformed::{FieldFault, LengthFault};
    use proptest::prelude::*;

    /// Feeds `input` in pieces of `step` bytes; what goes on, and whether it was refused.
    fn passed(input: &[u8], step: usize) -> (Vec<u8>, RequestFraming) {
        let mut framing = RequestFraming::new(64 * 1024, Protocol::Either);
        let mut passed = Vec::new();
        for piece in input.chunks(step) {
            let mut out = Vec::new();
            let same = framing.admit(piece, &mut out);
            passed.extend_from_slice(&piece[..same]);
            passed.append(&mut out);
        }
        (passed, framing)
    }

    /// How much goes on.
    fn run(input: &[u8], step: usize) -> (usize, RequestFraming) {
        let (passed, framing) = passed(input, step);
        (passed.len(), framing)
    }

    /// What goes on of bytes of which none are written anew.
    fn admit(framing: &mut RequestFraming, bytes: &[u8]) -> usize {
        let mut out = Vec::new();
        let same = framing.admit(bytes, &mut out);
        assert!(out.is_empty());
        same
    }

    fn head(fields: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
    }

    #[test]
    fn well_formed_messages_pass_whole_in_any_pieces() {
        let chunked =
            head("Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\na;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\n";
        let pipelined = format!("\r\nGET / HTTP/1.1\r\n\r\n{}hello{chunked}", head("content-LENGTH:5 \r\n"));
        for step in 1..pipelined.len() {
            let (passed, framing) = run(pipelined.as_bytes(), step);
            assert_eq!(passed, pipelined.len(), "in pieces of {step}: {framing:?}");
            assert_eq!(framing.phase(), Phase::Idle);
        }
    }

    #[test]
    fn what_two_servers_could_read_in_two_ways_is_refused() {
        let chunked = "Transfer-Encoding: chunked\r\n";
        let bodies = [
            "5 \r\n",
            "5;\r\n",
            "5\n",
            "0x5\r\n",
            "+5\r\n",
            "\r\n",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "11111111111111111\r\n",
            "5\t;a\r\n",
            "0\r\n folded\r\n",
        ];
        let heads = [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: -1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length : 5\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \x0bchunked\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "X: a\n",
            "X: a\rb\r\n",
            "X: a\r\n b\r\n",
            " X: a\r\n",
            "X: \0\r\n",
        ];
        let mut all: Vec<String> = bodies.iter().map(|b| head(chunked) + b).collect();
        all.extend(heads.iter().map(|h| head(h)));
        all.push("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into());
        all.push("GET / HTTP/1.1\n\n".into());
        for input in &all {
            for step in [1, 2, 7, input.len()] {
                let (_, framing) = run(input.as_bytes(), step);
                assert!(framing.is_refused(), "{input:?} in pieces of {step}");
            }
        }
    }

    #[test]
    fn odd_characters_of_a_target_are_to_be_encoded_however_they_are_cut() {
        let input =
            b"GET /a?q={\"b\"}<\xc3\xa9`|^ HTTP/1.1\r\nHost: \"x\"#\r\n\r\nPO\"ST /\" HTTP/1.1\r\n\r\n";
        for step in 1..=input.len() {
            let (passed, framing) = passed(input, step);
            assert_eq!(
                String::from_utf8(passed).unwrap(),
                "GET /a?q={%22b%22}%3C%C3%A9%60|^ HTTP/1.1\r\nHost: \"x\"#\r\n\r\nPO\"ST /%22 HTTP/1.1\r\n\r\n",
                "in pieces of {step}"
            );
            assert!(!framing.is_refused());
        }
    }

    #[test]
    fn what_is_before_a_refused_character_goes_on_and_nothing_behind_it() {
        for step in [1, 5, 100] {
            let (passed, framing) = passed(b"GET / HTTP/1.1\r\n\r\nGET /\"a\"b#c\"d HTTP/1.1\r\n\r\n", step);
            assert_eq!(passed, b"GET / HTTP/1.1\r\n\r\nGET /%22a%22b", "in pieces of {step}");
            assert!(framing.is_refused());
        }
    }

    /// With one scan of the rest of the line for each odd byte this takes minutes.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the crate has no clock of its own")]
    fn a_target_of_odd_characters_costs_what_its_length_does() {
        let odd = 4 << 20;
        let line =
            ["M".repeat(1000), " /".to_owned(), "\"".repeat(odd), " HTTP/1.1\r\n\r\n".to_owned()].concat();
        let begun = tokio::time::Instant::now();
        let (passed, framing) = passed(line.as_bytes(), line.len());
        assert!(!framing.is_refused() && passed.len() == line.len() + 2 * odd);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_is_refused_is_named_where_it_is_known() {
        for (input, fault) in [
            ("GET /a#b HTTP/1.1\r\n", RequestFault::TargetByte(b'#')),
            ("GET /a\x7fb HTTP/1.1\r\n", RequestFault::TargetByte(0x7f)),
            ("GET /a\tb HTTP/1.1\r\n", RequestFault::TargetByte(b'\t')),
            ("\x16\x03\x01\x02\x00", OtherProtocol::Tls.into()),
            ("\x05\x01\x00", OtherProtocol::Socks.into()),
            ("PROXY TCP4 10.0.0.1 10.0.0.2 1 80\r\nGET / HTTP/1.1\r\n", OtherProtocol::ProxyProtocol.into()),
            ("PROXY UNKNOWN\r\n", OtherProtocol::ProxyProtocol.into()),
            ("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", OtherProtocol::ProxyProtocol.into()),
            ("GET / HTTP/1.1\r\n\r\nPRI * HTTP/2.0\r\n", OtherProtocol::Http2.into()),
            ("GET / HTTP/1.1\n", LineFault::BareLineFeed.into()),
            ("GET / HTTP/1.1\r\nX: a\rb\r\n", LineFault::BareCarriageReturn.into()),
            ("GET / HTTP/1.1\r\nX: a\0b\r\n", LineFault::Nul.into()),
            ("GET / HTTP/1.1\r\nX: 1\r\n 2\r\n", LineFault::Folded.into()),
            ("GET / HTTP/1.1\r\nContent-Length: +5\r\n", LengthFault::ContentLength.into()),
            ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n", LengthFault::TooLarge.into()),
            ("GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n", LengthFault::TwoLengths.into()),
            ("GET / HTTP/1.1\r\nContent-Length : 5\r\n", FieldFault::SpaceBeforeColon.into()),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n", LengthFault::TransferEncoding.into()),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
                LengthFault::LengthAndEncoding.into(),
            ),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", LengthFault::EncodingInHttp10.into()),
        ] {
            for step in [1, 3, input.len()] {
                let (_, framing) = run(input.as_bytes(), step);
                assert!(framing.is_refused(), "{input:?} in pieces of {step}");
                assert_eq!(framing.fault(), Some(fault), "{input:?} in pieces of {step}");
            }
        }
        for (body, fault) in [
            ("5 \r\n", Malformed::Chunk(ChunkFault::AfterSize)),
            ("5;\r\n", Malformed::Chunk(ChunkFault::ExtensionName)),
            ("5;=\r\n", Malformed::Chunk(ChunkFault::ExtensionName)),
            ("5\n", Malformed::Line(LineFault::BareLineFeed)),
            ("0x5\r\n", Malformed::Chunk(ChunkFault::AfterSize)),
            ("+5\r\n", Malformed::Chunk(ChunkFault::Size)),
            ("\r\n", Malformed::Chunk(ChunkFault::Size)),
            ("5\r\nhelloX", Malformed::Chunk(ChunkFault::End)),
            ("5\r\nhello\rX", Malformed::Chunk(ChunkFault::End)),
            ("5\r\nhello\n", Malformed::Line(LineFault::BareLineFeed)),
            ("11111111111111111\r\n", Malformed::Chunk(ChunkFault::TooLarge)),
            ("0\r\n folded\r\n", Malformed::Trailer(TrailerFault::Folded)),
            ("0\r\nno colon\r\n", Malformed::Trailer(TrailerFault::NoColon)),
            ("0\r\nX : 1\r\n", Malformed::Trailer(TrailerFault::Name)),
            ("0\r\nX: \x01\r\n", Malformed::Trailer(TrailerFault::Value)),
            ("0\r\nX: 1\n", Malformed::Line(LineFault::BareLineFeed)),
        ] {
            let input = head("Transfer-Encoding: chunked\r\n") + body;
            for step in [1, 3, input.len()] {
                let (_, framing) = run(input.as_bytes(), step);
                assert!(framing.is_refused(), "{input:?} in pieces of {step}");
                assert_eq!(framing.fault(), Some(fault.into()), "{input:?} in pieces of {step}");
            }
        }
        let (_, framing) = run(b"GET /a b HTTP/1.1\r\n", 64);
        assert_eq!(framing.fault(), Some(RequestFault::TargetByte(b' ')), "which hyper refuses");
        let (_, framing) = run(b"GET /a b HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n", 64);
        assert_eq!(framing.fault(), Some(RequestFault::TargetByte(b' ')));
        let (_, framing) = run(b"GET /a HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n", 64);
        assert_eq!(framing.fault(), None);
        assert!(run(b"PROXY / HTTP/1.1\r\n\r\n", 64).1.fault().is_none(), "a method may be called so");
    }

    #[test]
    fn nothing_behind_an_ambiguity_gets_through() {
        let input = b"GET / HTTP/1.1\nHost: x\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n";
        let mut framing = RequestFraming::new(1024, Protocol::Either);
        let passed = admit(&mut framing, input);
        assert_eq!(&input[..passed], b"GET / HTTP/1.");
        assert_eq!(admit(&mut framing, b"GET / HTTP/1.1\r\n\r\n"), 0);
    }

    #[test]
    fn http_2_passes_untouched() {
        let mut framing = RequestFraming::new(1024, Protocol::Either);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\n\r\x04";
        assert_eq!(admit(&mut framing, preface), preface.len());
        assert!(framing.is_http2());
    }

    #[test]
    fn a_preface_behind_anything_else_or_where_http_1_was_agreed_is_refused() {
        for before in ["\r\n", "GET / HTTP/1.1\r\n\r\n"] {
            let (_, framing) = run(format!("{before}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").as_bytes(), 64);
            assert!(framing.is_refused() && !framing.is_http2(), "{before:?}");
        }
        let mut framing = RequestFraming::new(1024, Protocol::Http1);
        admit(&mut framing, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert!(framing.is_refused());
    }

    #[test]
    fn what_is_spoken_is_known_as_early_as_can_be() {
        for (read, protocol) in [
            ("", Protocol::Either),
            ("P", Protocol::Either),
            ("PRI * HTTP/2.0\r", Protocol::Either),
            ("PRI * HTTP/2.0\r\n", Protocol::Http2),
            ("PO", Protocol::Http1),
            ("PRI * HTTP/2.0\rx", Protocol::Http1),
            ("PRI * HTTP/1.1\r\n", Protocol::Http1),
            ("\r\n", Protocol::Http1),
            ("\r\nPRI * HTTP/2.0\r\n", Protocol::Http1),
            ("\n", Protocol::Http1),
        ] {
            let mut framing = RequestFraming::new(1024, Protocol::Either);
            admit(&mut framing, read.as_bytes());
            assert_eq!(framing.protocol(read.as_bytes()), protocol, "{read:?}");
        }
    }

    #[test]
    fn a_tunnel_passes_untouched() {
        let mut framing = RequestFraming::new(8, Protocol::Http1);
        admit(&mut framing, b"\x81\x05hel");
        framing.open();
        assert_eq!(admit(&mut framing, b"\0\n\n\r\nlonger than a line\n"), 24);
    }

    #[test]
    fn a_megabyte_of_chunk_extensions_is_refused() {
        let one = format!("1;x={}\r\nz\r\n", "a".repeat(1000));
        let (_, framing) = run((head("Transfer-Encoding: chunked\r\n") + &one.repeat(1000)).as_bytes(), 4096);
        assert_eq!(framing.fault(), Some(ChunkFault::Extensions.into()));
        let trailers = format!("0\r\n{}", "X: 12345678901234567890\r\n".repeat(3000));
        let (_, framing) = run((head("Transfer-Encoding: chunked\r\n") + &trailers).as_bytes(), 4096);
        assert_eq!(framing.fault(), Some(TrailerFault::TooLarge.into()));
        let (_, framing) =
            run((head("Transfer-Encoding: chunked\r\n") + &"1\r\nz\r\n".repeat(100_000)).as_bytes(), 4096);
        assert!(!framing.is_refused(), "many small chunks are no extensions");
    }

    proptest! {
        #[test]
        fn pieces_do_not_change_the_verdict(input in "(GET / HTTP/1.1\r\n|Content-Length: [0-3]\r\n|X: y\r\n|Transfer-Encoding: chunked\r\n|[0-2]\r\n|a\r\n|\r\n|\n|\r| ){0,12}", step in 1_usize..9) {
            let (whole, framing) = run(input.as_bytes(), input.len().max(1));
            let (pieces, stepped) = run(input.as_bytes(), step);
            prop_assert_eq!(framing.is_refused(), stepped.is_refused());
            if !framing.is_refused() {
                prop_assert_eq!(whole, pieces);
            }
        }
    }
}
