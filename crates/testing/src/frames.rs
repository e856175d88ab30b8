//! HTTP/2 frame by frame, with nothing checked: what a client library would refuse to send goes out as it is written.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Frame types (RFC 9113 section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A field's name and value.
pub type Field = (Vec<u8>, Vec<u8>);

/// A client's end of an HTTP/2 connection.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What came of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer with this status.
    Status(u16),
    /// Reset, for this reason.
    Reset(u32),
    /// The connection was ended, with this reason where one was given.
    Ended(Option<u32>),
    /// Nothing, for five seconds.
    Silence,
}

/// One frame, as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frames {
    /// Connected, with the preface and `settings` sent.
    pub async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut frames = Self { stream, unread: Vec::new() };
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        let mut start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        start.extend(frame(SETTINGS, 0, 0, &payload));
        frames.send(&start).await;
        frames
    }

    /// A server's end of a connection, with its preface read and `settings` sent; `None`: it was none of HTTP/2.
    pub async fn accept(stream: TcpStream, settings: &[(u16, u32)]) -> Option<Self> {
        stream.set_nodelay(true).unwrap();
        let mut frames = Self { stream, unread: Vec::new() };
        let mut preface = [0; 24];
        frames.stream.read_exact(&mut preface).await.ok()?;
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frames.send(&frame(SETTINGS, 0, 0, &payload)).await;
        preface.starts_with(b"PRI * HTTP/2.0").then_some(frames)
    }

    /// Writes bytes; whether the other side still takes them.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(PATIENCE, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Ends the connection in order: what was sent last arrives, whatever still comes.
    pub async fn close(mut self) {
        let _ = self.stream.shutdown().await;
        let mut piece = vec![0; 16 * 1024];
        while let Ok(Ok(1..)) = timeout(PATIENCE, self.stream.read(&mut piece)).await {}
    }

    /// The next frame; `None` where the connection ended, or nothing came for five seconds.
    pub async fn next(&mut self) -> Result<Frame, Outcome> {
        loop {
            if let [a, b, c, kind, flags, s1, s2, s3, s4, rest @ ..] = &self.unread[..] {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if rest.len() >= length {
                    let stream = u32::from_be_bytes([*s1, *s2, *s3, *s4]) & 0x7fff_ffff;
                    let frame =
                        Frame { kind: *kind, flags: *flags, stream, payload: rest[..length].to_vec() };
                    self.unread.drain(..9 + length);
                    return Ok(frame);
                }
            }
            let mut piece = vec![0; 16 * 1024];
            match timeout(PATIENCE, self.stream.read(&mut piece)).await {
                Err(_) => return Err(Outcome::Silence),
                Ok(Ok(0) | Err(_)) => return Err(Outcome::Ended(None)),
                Ok(Ok(count)) => self.unread.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// Reads until it is known what came of each of these streams.
    pub async fn outcomes(&mut self, streams: &[u32]) -> Vec<Outcome> {
        let mut statuses = BTreeMap::new();
        let mut known: BTreeMap<u32, Outcome> = BTreeMap::new();
        let mut last = None;
        while !streams.iter().all(|stream| known.contains_key(stream)) {
            let frame = match self.next().await {
                Ok(frame) => frame,
                Err(end) => {
                    let end = last.map_or(end, |reason| Outcome::Ended(Some(reason)));
                    return streams.iter().map(|stream| *known.get(stream).unwrap_or(&end)).collect();
                }
            };
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => {
                    self.send(&self::frame(SETTINGS, ACK, 0, &[])).await;
                }
                PING if frame.flags & ACK == 0 => {
                    self.send(&self::frame(PING, ACK, 0, &frame.payload)).await;
                }
                HEADERS => {
                    statuses.entry(frame.stream).or_insert_with(|| status(&frame.payload));
                }
                RST_STREAM => {
                    // An answer that is whole needs no more of the request (RFC 9113 section 8.1).
                    known.entry(frame.stream).or_insert(Outcome::Reset(number(&frame.payload)));
                }
                GOAWAY => last = Some(number(&frame.payload[4..])),
                _ => {}
            }
            if matches!(frame.kind, HEADERS | DATA)
                && frame.flags & END_STREAM != 0
                && let Some(status) = statuses.get(&frame.stream)
            {
                known.insert(frame.stream, Outcome::Status(*status));
            }
        }
        streams.iter().map(|stream| known[stream]).collect()
    }
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// HEADERS, and CONTINUATION where one frame is too small; `flags` may have `END_STREAM`.
pub fn headers(stream: u32, flags: u8, fields: &[Field]) -> Vec<u8> {
    let block = block(fields);
    let mut pieces = block.chunks(LARGEST).peekable();
    let mut bytes = Vec::new();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let flags = end | if kind == HEADERS { flags } else { 0 };
        bytes.extend(frame(kind, flags, stream, piece));
        kind = CONTINUATION;
    }
    bytes
}

/// A field block of literals without indexing and without Huffman (RFC 7541 section 6.2.2).
pub fn block(fields: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// The head of an ordinary request.
pub fn get(host: &str, path: &str) -> Vec<Field> {
    [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", path)]
        .map(|(name, value)| (name.into(), value.into()))
        .into()
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, mut number: usize) {
    if number < 127 {
        block.push(number as u8);
        return;
    }
    block.push(127);
    number -= 127;
    while number >= 128 {
        block.push(128 | (number % 128) as u8);
        number /= 128;
    }
    block.push(number as u8);
}

fn number(bytes: &[u8]) -> u32 {
    bytes.get(..4).map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// `:status`, which comes first; 0: it is written in a way that is not known here.
pub fn status(block: &[u8]) -> u16 {
    let mut at = 0;
    while block.get(at).is_some_and(|byte| byte >> 5 == 0b001) {
        at += 1;
    }
    match block.get(at) {
        Some(indexed @ 0x88..=0x8e) => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        Some(0x08 | 0x18 | 0x48) => match block.get(at + 1) {
            Some(3) => std::str::from_utf8(&block[at + 2..at + 5]).unwrap().parse().unwrap(),
            Some(huffman) if huffman & 0x80 != 0 => {
                digits(&block[at + 2..at + 2 + usize::from(huffman & 0x7f)])
            }
            _ => 0,
        },
        _ => 0,
    }
}

/// Three digits in Huffman's code (RFC 7541 appendix B).
fn digits(bytes: &[u8]) -> u16 {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let mut code = 0;
        for _ in 0..5 {
            code = code << 1 | bits.next().unwrap_or(1);
        }
        let digit = if code < 3 { code } else { (code << 1 | bits.next().unwrap_or(1)) - 0x19 + 3 };
        number = number * 10 + digit;
    }
    number
}

const PATIENCE: Duration = Duration::from_secs(5);
/// The largest frame that everybody takes (RFC 9113 section 4.2).
const LARGEST: usize = 16_384;
