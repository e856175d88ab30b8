//! What makes a message malformed: a closed set, each with the words that log and response have for it.
//!
//! `wire` and `headers` judge an upstream's responses of HTTP/1.1, `framing`, `head_fault` and `heads` an application's
//! requests, and hyper judges HTTP/2; `error` puts it into a sentence. Never holds a byte of what was sent.

/// A message that is not valid HTTP, or that two readers could read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
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
    RequestLineSpaces,
    #[error("its method has an invalid character (RFC 9110 section 9.1)")]
    Method,
    #[error("its target is not a valid URI (RFC 3986)")]
    Target,
    #[error("its version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
    #[error("its :path is empty (RFC 9113 section 8.3.1)")]
    EmptyPath,
    #[error("its target does not begin with a slash (RFC 9113 section 8.3.1)")]
    PathWithoutSlash,
    #[error("its :authority is not a valid host and port (RFC 9113 section 8.3.1)")]
    Authority,
    #[error("its :scheme is not a valid scheme (RFC 9113 section 8.3.1)")]
    Scheme,
    #[error("a line begins with a space; lines are not folded (RFC 9112 section 5.2)")]
    FoldedLine,
    #[error("a header field has no colon")]
    NoColon,
    #[error("a header field has a space before its colon (RFC 9112 section 5.1)")]
    SpaceBeforeColon,
    #[error("a line ends in LF without CR (RFC 9112 section 2.2)")]
    BareLineFeed,
    #[error("a line has a CR that is not its end (RFC 9112 section 2.2)")]
    BareCarriageReturn,
    #[error("a line has a NUL")]
    Nul,
    #[error("the name of a header field is not a token in lower case (RFC 9113 section 8.2.1)")]
    FieldNameOfHttp2,
    #[error("the value of a header field has a control character (RFC 9113 section 8.2.1)")]
    FieldValueOfHttp2,
    #[error("a header field is about the connection, as none of HTTP/2 is (RFC 9113 section 8.2.2)")]
    ConnectionField,
    #[error("its :status is not a number of three digits (RFC 9113 section 8.3.2)")]
    Status,
    #[error("it has no :status (RFC 9113 section 8.3.2)")]
    NoStatus,
    #[error("its head is too large")]
    HeadTooLarge,
    #[error("it has too many header fields")]
    TooManyFields,
    #[error("a header field has an invalid name")]
    FieldName,
    #[error("a header field has an invalid value")]
    FieldValue,
    #[error("a line of its head ends in the wrong way")]
    LineEnd,
    #[error("its Content-Length is not a number")]
    ContentLength,
    #[error("its Content-Length is larger than any body")]
    LengthTooLarge,
    #[error("it has two Content-Length values")]
    TwoLengths,
    #[error("its Transfer-Encoding is not chunked, once")]
    TransferEncoding,
    #[error("it has both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    #[error("it is HTTP/1.0 and has Transfer-Encoding")]
    EncodingInHttp10,
    #[error("it switches protocols without having been asked to")]
    UnaskedSwitch,
    #[error("its handshake of a WebSocket, or of another upgrade, does not match the request")]
    Handshake,
    #[error("too many interim responses came before it")]
    TooManyInterim,
    #[error("the size of a chunk is not a hexadecimal number (RFC 9112 section 7.1)")]
    ChunkSize,
    #[error("the size of a chunk is larger than any body")]
    ChunkTooLarge,
    #[error("the size of a chunk is followed by something that is no extension (RFC 9112 section 7.1)")]
    BehindChunkSize,
    #[error("a chunk extension has no name (RFC 9112 section 7.1.1)")]
    ChunkExtension,
    #[error("the extensions of its chunks are too large")]
    ChunkExtensions,
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    #[error("a line of its trailers begins with a space; lines are not folded (RFC 9112 section 5.2)")]
    FoldedTrailer,
    #[error("a trailer field has no colon")]
    TrailerWithoutColon,
    #[error("a trailer field has an invalid name, or a space before its colon")]
    TrailerName,
    #[error("a trailer field has an invalid value")]
    TrailerValue,
    #[error("its trailers are too large, or too many")]
    TrailersTooLarge,
    #[error("it breaks the rules of HTTP/2")]
    Http2,
}
