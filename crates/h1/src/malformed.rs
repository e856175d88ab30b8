//! What makes a message of HTTP/1.1 malformed: closed sets, each with its sentence. None holds a byte of the message.

/// A message that is not valid HTTP/1.1, or that two recipients could read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "its sentence is the documentation")]
pub enum Malformed {
    #[error(transparent)]
    StartLine(#[from] StartLineFault),
    #[error(transparent)]
    Line(#[from] LineFault),
    #[error(transparent)]
    Field(#[from] FieldFault),
    #[error(transparent)]
    Length(#[from] LengthFault),
    #[error(transparent)]
    Chunk(#[from] ChunkFault),
    #[error(transparent)]
    Trailer(#[from] TrailerFault),
    #[error("its head is too large")]
    HeadTooLarge,
    #[error("it has too many header fields")]
    TooManyFields,
    #[error("too many interim responses came before it")]
    TooManyInterim,
    #[error("it switches protocols, which the request did not offer")]
    UnexpectedSwitch,
}

impl Malformed {
    /// How many faults there are.
    pub const COUNT: u32 = TRAILER + TrailerFault::TooLarge as u32 + 1;

    /// A number that no other fault has, below [`COUNT`](Self::COUNT).
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::HeadTooLarge => 0,
            Self::TooManyFields => 1,
            Self::TooManyInterim => 2,
            Self::UnexpectedSwitch => 3,
            Self::StartLine(fault) => START_LINE + fault as u32,
            Self::Line(fault) => LINE + fault as u32,
            Self::Field(fault) => FIELD + fault as u32,
            Self::Length(fault) => LENGTH + fault as u32,
            Self::Chunk(fault) => CHUNK + fault as u32,
            Self::Trailer(fault) => TRAILER + fault as u32,
        }
    }
}

/// Where the numbers of each group begin: behind the last of the group before.
const START_LINE: u32 = 4;
const LINE: u32 = START_LINE + StartLineFault::Version as u32 + 1;
const FIELD: u32 = LINE + LineFault::End as u32 + 1;
const LENGTH: u32 = FIELD + FieldFault::Value as u32 + 1;
const CHUNK: u32 = LENGTH + LengthFault::EncodingInHttp10 as u32 + 1;
const TRAILER: u32 = CHUNK + ChunkFault::End as u32 + 1;

/// A fault of the first line (RFC 9112 sections 3 and 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "its sentence is the documentation")]
pub enum StartLineFault {
    #[error("its first line is not a status line of HTTP/1.1")]
    StatusLine,
    #[error("it is TLS; use https in the upstream's url, or the port where it speaks plain HTTP")]
    Tls,
    #[error("it is SSH; use the port where the upstream speaks HTTP")]
    Ssh,
    #[error("its first line is that of SHOUTcast (ICY), and no status line of HTTP/1.1")]
    Icy,
    #[error(
        "its first line is not a method, a target and HTTP/1.1, with one space between each (RFC 9112 section 3)"
    )]
    RequestLine,
    #[error("its first line begins or ends with a space, or has two in a row (RFC 9112 section 3)")]
    Spaces,
    #[error("its method has an invalid character (RFC 9110 section 9.1)")]
    Method,
    #[error("its target is not a valid URI (RFC 3986)")]
    Target,
    #[error("its version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
}

/// A fault of a line, whatever stands in it (RFC 9112 sections 2.2 and 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "its sentence is the documentation")]
pub enum LineFault {
    #[error("a line begins with a space; lines are not folded (RFC 9112 section 5.2)")]
    Folded,
    #[error("a line ends in LF without CR (RFC 9112 section 2.2)")]
    BareLineFeed,
    #[error("a line has a CR that is not its end (RFC 9112 section 2.2)")]
    BareCarriageReturn,
    #[error("a line has a NUL")]
    Nul,
    #[error("a line of its head ends in the wrong way")]
    End,
}

/// A fault of a header field (RFC 9112 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "its sentence is the documentation")]
pub enum FieldFault {
    #[error("a header field has no colon")]
    NoColon,
    #[error("a header field has a space before its colon (RFC 9112 section 5.1)")]
    SpaceBeforeColon,
    #[error("a header field has an invalid name")]
    Name,
    #[error("a header field has an invalid value")]
    Value,
}

/// A fault of the fields that say where the message ends (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "its sentence is the documentation")]
pub enum LengthFault {
    #[error("its Content-Length is not a number")]
    ContentLength,
    #[error("its Content-Length is larger than any body")]
    TooLarge,
    #[error("it has two Content-Length values")]
    TwoLengths,
    #[error("its Transfer-Encoding is not chunked, once")]
    TransferEncoding,
    #[error("it has both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    #[error("it is HTTP/1.0 and has Transfer-Encoding")]
    EncodingInHttp10,
}

/// A fault of the chunked coding (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "its sentence is the documentation")]
pub enum ChunkFault {
    #[error("the size of a chunk is not a hexadecimal number (RFC 9112 section 7.1)")]
    Size,
    #[error("the size of a chunk is larger than any body")]
    TooLarge,
    #[error("the size of a chunk is followed by something that is no extension (RFC 9112 section 7.1)")]
    AfterSize,
    #[error("a chunk extension has no name (RFC 9112 section 7.1.1)")]
    ExtensionName,
    #[error("the extensions of its chunks are too large")]
    Extensions,
    #[error("a chunk does not end where its size says")]
    End,
}

/// A fault of the trailer section (RFC 9112 section 7.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "its sentence is the documentation")]
pub enum TrailerFault {
    #[error("a line of its trailers begins with a space; lines are not folded (RFC 9112 section 5.2)")]
    Folded,
    #[error("a trailer field has no colon")]
    NoColon,
    #[error("a trailer field has an invalid name, or a space before its colon")]
    Name,
    #[error("a trailer field has an invalid value")]
    Value,
    #[error("its trailers are too large, or too many")]
    TooLarge,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "its sentence is the documentation")]
pub enum RequestFault {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Its target has this byte, which no target has (RFC 3986 section 2).
    #[error("its target has the byte 0x{0:02X}")]
    TargetByte(u8),
    /// The connection begins with another protocol.
    #[error("the connection speaks {0}")]
    OtherProtocol(#[from] OtherProtocol),
}

/// A protocol that a client speaks where a request of HTTP/1.1 should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "its sentence is the documentation")]
pub enum OtherProtocol {
    #[error("the PROXY protocol")]
    ProxyProtocol,
    #[error("TLS")]
    Tls,
    #[error("SOCKS")]
    Socks,
    #[error("HTTP/2")]
    Http2,
}

macro_rules! into_request_fault {
    ($($fault:ty),+) => {
        $(impl From<$fault> for RequestFault {
            fn from(fault: $fault) -> Self {
                Self::Malformed(fault.into())
            }
        })+
    };
}

into_request_fault!(StartLineFault, LineFault, FieldFault, LengthFault, ChunkFault, TrailerFault);
