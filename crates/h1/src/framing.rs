//! The framing of HTTP/1.1 requests, judged on the bytes themselves (RFC 9112).
//!
//! hyper's parser is lenient where two servers may disagree about where a message ends: it takes a bare LF for a line
//! end, `5 ` for a chunk size, and `Transfer-Encoding` beside `Content-Length`. By the time it calls us those bytes
//! are gone. So each connection's bytes pass through this scanner first. It knows the message's borders by
//! itself, and cuts the bytes off before anything ambiguous. In its place hyper reads what it refuses there: it answers 400 and closes, and nothing of what was cut off is ever read as a request.
//!
//! It looks at framing, at the characters of the request target, which hyper's parser takes for granted, and at a
//! connection's first bytes, which may be another protocol's. Everything else is judged on the parsed request.

use super::error::{BadRequest, Foreign};
use super::head_fault::{self, At, is_token};
use super::malformed::Malformed;
use super::octets::{Octet, encoded, is_odd};

/// What a connection may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1.1, or HTTP/2 with prior knowledge (RFC 9113 section 3.3): its first bytes say which.
    Either,
    /// HTTP/1.1 alone; HTTP/2's preface is no request.
    Http1,
    /// HTTP/2, as TLS has agreed (RFC 9113 section 3.2).
    Http2,
}

/// Follows one connection's requests byte by byte.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// Whether HTTP/2's preface may still come.
    may_be_http2: bool,
    /// The part of the current line that earlier reads brought; empty where a line came whole.
    line: Vec<u8>,
    head: Head,
    /// Bytes of chunk extensions or trailers in this message so far.
    extra: usize,
    max_line: usize,
    poison: &'static [u8],
    /// Whether nothing has come yet.
    is_new: bool,
    /// Whether the current request line has come to its target, or beyond.
    in_target: bool,
    /// What is wrong with what was refused, where that is known.
    fault: Option<BadRequest>,
    /// The number of the last read of a head.
    last_read: u64,
}

/// What is read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
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
    /// HTTP/2: its frames need no help.
    Http2,
    /// A tunnel: its bytes are nobody's business.
    Tunnel,
    /// Something ambiguous came: nothing more is let through.
    Refused,
}

/// Where bytes that were read stopped going on as they are.
#[derive(Clone, Copy, Debug)]
struct Rewritten {
    /// So many went on before that.
    same: usize,
    /// So many are admitted: as they are, or written anew.
    done: usize,
}

/// A message has more chunk extensions and trailers than are read.
struct TooMuch;

/// What a head says of the body behind it.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    http_1_0: bool,
    content_length: Option<u64>,
    chunked: bool,
}

/// Where a connection is between messages: what its time limits go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request has begun.
    Idle,
    /// A head has begun and not ended.
    Head,
    /// A body, or nothing that is ours to time.
    Body,
}

impl Framing {
    /// A connection on which nothing was read yet. `max_line` bounds one line of a head, in bytes.
    pub(super) const fn new(max_line: usize, spoken: Spoken) -> Self {
        Self {
            state: if matches!(spoken, Spoken::Http2) { State::Http2 } else { State::Start },
            may_be_http2: matches!(spoken, Spoken::Either),
            line: Vec::new(),
            head: Head { http_1_0: false, content_length: None, chunked: false },
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
    pub(super) fn fault(&self) -> Option<BadRequest> {
        self.fault.or_else(|| head_fault::of(self.last_read))
    }

    /// Where the connection is now.
    pub(super) const fn phase(&self) -> Phase {
        match self.state {
            State::Start if self.line.is_empty() => Phase::Idle,
            State::Start | State::Fields => Phase::Head,
            _ => Phase::Body,
        }
    }

    /// Whether the connection speaks HTTP/2.
    pub(super) const fn is_http2(&self) -> bool {
        matches!(self.state, State::Http2)
    }

    /// What is spoken, as far as can be told from `read`: all that was admitted so far.
    pub(super) fn spoken(&self, read: &[u8]) -> Spoken {
        match self.state {
            State::Http2 => Spoken::Http2,
            State::Start if self.may_be_http2 && HTTP2_PREFACE.starts_with(read) => Spoken::Either,
            _ => Spoken::Http1,
        }
    }

    /// From here on everything is passed through: the connection has become a tunnel.
    pub(super) fn open(&mut self) {
        self.state = State::Tunnel;
        self.line = Vec::new();
    }

    /// Whether something ambiguous came.
    pub(super) const fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// Judges the bytes that were just read, and returns how many of them go on as they are. What goes on behind those is
    /// put into `out`: targets with characters that are percent-encoded, and all that follows them. Nothing of what comes
    /// behind something ambiguous goes on.
    pub(super) fn admit(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
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
            && self.state == State::Start
            && let Some(foreign) = bytes.first().and_then(|first| foreign(*first))
        {
            self.fault = Some(foreign.into());
            return self.refuse(0, None);
        }
        match self.state {
            State::Start => self.last_read = head_fault::keep(At::RequestLine, &self.line, bytes),
            State::Fields => self.last_read = head_fault::keep(At::Fields, &self.line, bytes),
            _ => {}
        }
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                State::Http2 | State::Tunnel => return bytes.len(),
                State::Refused => return 0,
                State::Body(left) => {
                    let taken = (rest.len() as u64).min(left);
                    self.state = if left == taken { State::Start } else { State::Body(left - taken) };
                    at += taken as usize;
                }
                State::Chunk(left) => {
                    let taken = (rest.len() as u64).min(left);
                    // The last two are the line end behind the chunk.
                    for ahead in 0..taken {
                        let want = match left - ahead {
                            2 => b'\r',
                            1 => b'\n',
                            _ => continue,
                        };
                        let found = rest[ahead as usize];
                        if found != want {
                            let is_bare = found == b'\n';
                            let fault = if is_bare { Malformed::BareLineFeed } else { Malformed::ChunkEnd };
                            self.fault = Some(fault.into());
                            return self.refuse(at + ahead as usize, None);
                        }
                    }
                    self.state = if left == taken { State::ChunkSize } else { State::Chunk(left - taken) };
                    at += taken as usize;
                }
                State::Start | State::Fields | State::ChunkSize | State::Trailers => {
                    let newline = memchr::memchr(b'\n', rest);
                    if newline.is_none() && self.line.len() + rest.len() > self.max_line {
                        // hyper answers 431 by its own limit; here only memory is at stake.
                        self.fault = match self.state {
                            State::ChunkSize => Some(Malformed::ChunkExtensions.into()),
                            State::Trailers => Some(Malformed::TrailersTooLarge.into()),
                            _ => self.fault,
                        };
                        return self.refuse(at, self.line.last().copied());
                    }
                    if self.state == State::Start
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
            } else if Octet::of(byte) == Octet::Encoded {
                out.extend_from_slice(&encoded(byte));
            } else {
                self.fault = Some(BadRequest::TargetByte(Some(byte)));
                return Err(at);
            }
        }
        Ok(piece.len())
    }

    /// What hyper is to read in place of what was refused.
    pub(super) const fn poison(&self) -> &'static [u8] {
        self.poison
    }

    /// Refuses everything from `at` on; `passed` is the byte of this line that was passed on last.
    fn refuse(&mut self, at: usize, passed: Option<u8>) -> usize {
        // Behind a CR, an LF would end the line after all.
        let within_size_line = self.state == State::ChunkSize && passed != Some(b'\r');
        self.poison = if within_size_line { CHUNK_POISON } else { POISON };
        self.state = State::Refused;
        self.line = Vec::new();
        at
    }

    /// A line without its LF; what comes next.
    fn line_ended(&mut self, line: &[u8]) -> Result<State, Malformed> {
        let line = line.strip_suffix(b"\r").ok_or(Malformed::BareLineFeed)?;
        if line == b"\0" && self.state == State::Start {
            // The fifth byte of the PROXY protocol's version 2, behind two blank lines.
            self.fault = Some(Foreign::ProxyProtocol.into());
        }
        if let Some(at) = memchr::memchr2(b'\r', 0, line) {
            return Err(if line[at] == 0 { Malformed::Nul } else { Malformed::BareCarriageReturn });
        }
        match self.state {
            State::Start => {
                self.in_target = false;
                let first = std::mem::take(&mut self.may_be_http2);
                if line.is_empty() {
                    return Ok(State::Start);
                }
                if HTTP2_PREFACE.strip_suffix(b"\r\n").is_some_and(|preface| preface == line) {
                    if first {
                        return Ok(State::Http2);
                    }
                    // Behind anything else it is a request like any other, and no good one.
                    self.fault = Some(Foreign::Http2.into());
                    return Err(Malformed::Version);
                }
                if is_proxy_protocol(line) {
                    self.fault = Some(Foreign::ProxyProtocol.into());
                    return Err(Malformed::RequestLine);
                }
                self.head = Head { http_1_0: line.ends_with(b"HTTP/1.0"), ..Head::default() };
                self.extra = 0;
                Ok(State::Fields)
            }
            State::Fields if line.is_empty() => self.head.body(),
            State::Fields => {
                self.head.field(line)?;
                Ok(State::Fields)
            }
            State::ChunkSize => {
                self.count_extra(line.len()).map_err(|TooMuch| Malformed::ChunkExtensions)?;
                match chunk_size(line)? {
                    0 => Ok(State::Trailers),
                    size => Ok(State::Chunk(size + 2)),
                }
            }
            State::Trailers if line.is_empty() => Ok(State::Start),
            State::Trailers => {
                self.count_extra(line.len()).map_err(|TooMuch| Malformed::TrailersTooLarge)?;
                head_fault::of_trailer(line).map_or(Ok(State::Trailers), Err)
            }
            State::Body(_) | State::Chunk(_) | State::Http2 | State::Tunnel | State::Refused => {
                Err(Malformed::LineEnd)
            }
        }
    }

    /// Size lines count one byte for each chunk that they announce, so that only the surplus adds up.
    fn count_extra(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.extra += bytes.saturating_sub(MAX_SIZE_DIGITS);
        if self.extra > MAX_EXTRA { Err(TooMuch) } else { Ok(()) }
    }
}

impl Head {
    /// Takes note of a field line.
    fn field(&mut self, line: &[u8]) -> Result<(), Malformed> {
        // obs-fold (RFC 9112 section 5.2), or space before the first field (section 2.2).
        if line[0] == b' ' || line[0] == b'\t' {
            return Err(Malformed::FoldedLine);
        }
        // Only two fields frame a message; the others need not be looked at twice.
        if !matches!(line[0] | 0x20, b'c' | b't') {
            return Ok(());
        }
        let Some(colon) = memchr::memchr(b':', line) else { return Ok(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // A space before the colon hides the field from one parser and not from the next (section 5.1).
        let bare = name.trim_ascii();
        if bare.eq_ignore_ascii_case(b"content-length") {
            if bare != name {
                return Err(Malformed::SpaceBeforeColon);
            }
            if self.content_length.is_some() {
                return Err(Malformed::TwoLengths);
            }
            self.content_length = Some(decimal(value)?);
        } else if bare.eq_ignore_ascii_case(b"transfer-encoding") {
            if bare != name {
                return Err(Malformed::SpaceBeforeColon);
            }
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::TransferEncoding);
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// The head has ended: what follows it (RFC 9112 section 6.3).
    const fn body(self) -> Result<State, Malformed> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(Malformed::LengthAndEncoding),
            (true, None) if self.http_1_0 => Err(Malformed::EncodingInHttp10),
            (true, None) => Ok(State::ChunkSize),
            (false, Some(0) | None) => Ok(State::Start),
            (false, Some(length)) => Ok(State::Body(length)),
        }
    }
}

/// Whether a byte behind a request's method does not go on as it is. The spaces of the line, and the CR at its end, do.
fn is_odd_in_line(byte: u8) -> bool {
    is_odd(byte) && !matches!(byte, b' ' | b'\r')
}

/// The protocol that begins with a byte that begins no request.
const fn foreign(first: u8) -> Option<Foreign> {
    match first {
        // The handshake's content type (RFC 8446 section 5.1).
        0x16 => Some(Foreign::Tls),
        // Its version (RFC 1928 section 3).
        4 | 5 => Some(Foreign::Socks),
        _ => None,
    }
}

/// Whether a connection's first bytes are those of the PROXY protocol, version 1 or 2 (HAProxy's `proxy-protocol.txt`).
pub(super) fn is_proxy_protocol(first: &[u8]) -> bool {
    let is_v1 =
        [&b"PROXY TCP4 "[..], b"PROXY TCP6 ", b"PROXY UNKNOWN"].iter().any(|v1| first.starts_with(v1));
    is_v1 || first.starts_with(b"\r\n\r\n\0\r\nQUIT\n")
}

/// Digits alone, as the grammar has it (RFC 9110 section 8.6): no sign, no list.
fn decimal(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::ContentLength);
    }
    if value.len() > MAX_SIZE_DIGITS {
        return Err(Malformed::LengthTooLarge);
    }
    Ok(value.iter().fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0')))
}

/// `chunk-size [ chunk-ext ]` (RFC 9112 section 7.1), where an extension must have a name.
fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits == 0 {
        return Err(Malformed::ChunkSize);
    }
    if digits > MAX_SIZE_DIGITS {
        return Err(Malformed::ChunkTooLarge);
    }
    let size = line[..digits]
        .iter()
        .fold(0_u64, |sum, byte| sum * 16 + u64::from(char::from(*byte).to_digit(16).unwrap_or_default()));
    match &line[digits..] {
        [] => Ok(size),
        [b';', name, ..] if is_token(*name) => Ok(size),
        [b';', ..] => Err(Malformed::ChunkExtension),
        _ => Err(Malformed::BehindChunkSize),
    }
}

/// A NUL, which is allowed nowhere in a head, and a head's end, so that hyper does not wait for more before it says so.
const POISON: &[u8] = b"\0\r\n\r\n";

/// The same for a chunk's size line, whose extensions hyper does not read but for a bare LF.
const CHUNK_POISON: &[u8] = b"\n\0\r\n\r\n";

/// The first line of HTTP/2's connection preface (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Digits of a body's or a chunk's size: more than any body has, and no overflow.
const MAX_SIZE_DIGITS: usize = 15;

/// Bytes of chunk extensions and trailers in one message.
const MAX_EXTRA: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    /// Feeds `input` in pieces of `step` bytes; what goes on, and whether it was refused.
    fn passed(input: &[u8], step: usize) -> (Vec<u8>, Framing) {
        let mut framing = Framing::new(64 * 1024, Spoken::Either);
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
    fn run(input: &[u8], step: usize) -> (usize, Framing) {
        let (passed, framing) = passed(input, step);
        (passed.len(), framing)
    }

    /// What goes on of bytes of which none are written anew.
    fn admit(framing: &mut Framing, bytes: &[u8]) -> usize {
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

    /// With one look at the rest of the line for each odd byte this takes minutes.
    #[test]
    fn a_target_of_odd_characters_costs_what_its_length_does() {
        let odd = 4 << 20;
        let line =
            ["M".repeat(1000), " /".to_owned(), "\"".repeat(odd), " HTTP/1.1\r\n\r\n".to_owned()].concat();
        let begun = crate::clock::now();
        let (passed, framing) = passed(line.as_bytes(), line.len());
        assert!(!framing.is_refused() && passed.len() == line.len() + 2 * odd);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_is_refused_is_named_where_it_is_known() {
        for (input, fault) in [
            ("GET /a#b HTTP/1.1\r\n", BadRequest::TargetByte(Some(b'#'))),
            ("GET /a\x7fb HTTP/1.1\r\n", BadRequest::TargetByte(Some(0x7f))),
            ("GET /a\tb HTTP/1.1\r\n", BadRequest::TargetByte(Some(b'\t'))),
            ("\x16\x03\x01\x02\x00", Foreign::Tls.into()),
            ("\x05\x01\x00", Foreign::Socks.into()),
            ("PROXY TCP4 10.0.0.1 10.0.0.2 1 80\r\nGET / HTTP/1.1\r\n", Foreign::ProxyProtocol.into()),
            ("PROXY UNKNOWN\r\n", Foreign::ProxyProtocol.into()),
            ("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", Foreign::ProxyProtocol.into()),
            ("GET / HTTP/1.1\r\n\r\nPRI * HTTP/2.0\r\n", Foreign::Http2.into()),
            ("GET / HTTP/1.1\n", Malformed::BareLineFeed.into()),
            ("GET / HTTP/1.1\r\nX: a\rb\r\n", Malformed::BareCarriageReturn.into()),
            ("GET / HTTP/1.1\r\nX: a\0b\r\n", Malformed::Nul.into()),
            ("GET / HTTP/1.1\r\nX: 1\r\n 2\r\n", Malformed::FoldedLine.into()),
            ("GET / HTTP/1.1\r\nContent-Length: +5\r\n", Malformed::ContentLength.into()),
            ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n", Malformed::LengthTooLarge.into()),
            ("GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n", Malformed::TwoLengths.into()),
            ("GET / HTTP/1.1\r\nContent-Length : 5\r\n", Malformed::SpaceBeforeColon.into()),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n", Malformed::TransferEncoding.into()),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
                Malformed::LengthAndEncoding.into(),
            ),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::EncodingInHttp10.into()),
        ] {
            for step in [1, 3, input.len()] {
                let (_, framing) = run(input.as_bytes(), step);
                assert!(framing.is_refused(), "{input:?} in pieces of {step}");
                assert_eq!(framing.fault(), Some(fault), "{input:?} in pieces of {step}");
            }
        }
        for (body, fault) in [
            ("5 \r\n", Malformed::BehindChunkSize),
            ("5;\r\n", Malformed::ChunkExtension),
            ("5;=\r\n", Malformed::ChunkExtension),
            ("5\n", Malformed::BareLineFeed),
            ("0x5\r\n", Malformed::BehindChunkSize),
            ("+5\r\n", Malformed::ChunkSize),
            ("\r\n", Malformed::ChunkSize),
            ("5\r\nhelloX", Malformed::ChunkEnd),
            ("5\r\nhello\rX", Malformed::ChunkEnd),
            ("5\r\nhello\n", Malformed::BareLineFeed),
            ("11111111111111111\r\n", Malformed::ChunkTooLarge),
            ("0\r\n folded\r\n", Malformed::FoldedTrailer),
            ("0\r\nno colon\r\n", Malformed::TrailerWithoutColon),
            ("0\r\nX : 1\r\n", Malformed::TrailerName),
            ("0\r\nX: \x01\r\n", Malformed::TrailerValue),
            ("0\r\nX: 1\n", Malformed::BareLineFeed),
        ] {
            let input = head("Transfer-Encoding: chunked\r\n") + body;
            for step in [1, 3, input.len()] {
                let (_, framing) = run(input.as_bytes(), step);
                assert!(framing.is_refused(), "{input:?} in pieces of {step}");
                assert_eq!(framing.fault(), Some(fault.into()), "{input:?} in pieces of {step}");
            }
        }
        let (_, framing) = run(b"GET /a b HTTP/1.1\r\n", 64);
        assert_eq!(framing.fault(), Some(BadRequest::TargetByte(Some(b' '))), "which hyper refuses");
        let (_, framing) = run(b"GET /a b HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n", 64);
        assert_eq!(framing.fault(), Some(BadRequest::TargetByte(Some(b' '))));
        let (_, framing) = run(b"GET /a HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n", 64);
        assert_eq!(framing.fault(), None);
        assert!(run(b"PROXY / HTTP/1.1\r\n\r\n", 64).1.fault().is_none(), "a method may be called so");
    }

    #[test]
    fn nothing_behind_an_ambiguity_gets_through() {
        let input = b"GET / HTTP/1.1\nHost: x\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n";
        let mut framing = Framing::new(1024, Spoken::Either);
        let passed = admit(&mut framing, input);
        assert_eq!(&input[..passed], b"GET / HTTP/1.");
        assert_eq!(admit(&mut framing, b"GET / HTTP/1.1\r\n\r\n"), 0);
    }

    #[test]
    fn http_2_passes_untouched() {
        let mut framing = Framing::new(1024, Spoken::Either);
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
        let mut framing = Framing::new(1024, Spoken::Http1);
        admit(&mut framing, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert!(framing.is_refused());
    }

    #[test]
    fn what_is_spoken_is_known_as_early_as_can_be() {
        for (read, spoken) in [
            ("", Spoken::Either),
            ("P", Spoken::Either),
            ("PRI * HTTP/2.0\r", Spoken::Either),
            ("PRI * HTTP/2.0\r\n", Spoken::Http2),
            ("PO", Spoken::Http1),
            ("PRI * HTTP/2.0\rx", Spoken::Http1),
            ("PRI * HTTP/1.1\r\n", Spoken::Http1),
            ("\r\n", Spoken::Http1),
            ("\r\nPRI * HTTP/2.0\r\n", Spoken::Http1),
            ("\n", Spoken::Http1),
        ] {
            let mut framing = Framing::new(1024, Spoken::Either);
            admit(&mut framing, read.as_bytes());
            assert_eq!(framing.spoken(read.as_bytes()), spoken, "{read:?}");
        }
    }

    #[test]
    fn a_tunnel_passes_untouched() {
        let mut framing = Framing::new(8, Spoken::Http1);
        admit(&mut framing, b"\x81\x05hel");
        framing.open();
        assert_eq!(admit(&mut framing, b"\0\n\n\r\nlonger than a line\n"), 24);
    }

    #[test]
    fn a_megabyte_of_chunk_extensions_is_refused() {
        let one = format!("1;x={}\r\nz\r\n", "a".repeat(1000));
        let (_, framing) = run((head("Transfer-Encoding: chunked\r\n") + &one.repeat(1000)).as_bytes(), 4096);
        assert_eq!(framing.fault(), Some(Malformed::ChunkExtensions.into()));
        let trailers = format!("0\r\n{}", "X: 12345678901234567890\r\n".repeat(3000));
        let (_, framing) = run((head("Transfer-Encoding: chunked\r\n") + &trailers).as_bytes(), 4096);
        assert_eq!(framing.fault(), Some(Malformed::TrailersTooLarge.into()));
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
