//! What makes an upstream's response malformed: a closed set, each with the words that log and response have for it.
//!
//! `wire` and `headers` judge HTTP/1.1, hyper judges HTTP/2; `error` puts it into a sentence. Never holds a byte of what the
//! upstream sent.

/// A response that is not valid HTTP, or that two readers could read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("its first line is not a status line of HTTP/1.1")]
    StatusLine,
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
    #[error("the size of a chunk is invalid")]
    ChunkSize,
    #[error("the extensions of its chunks are too large")]
    ChunkExtensions,
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    #[error("its trailers are malformed")]
    Trailers,
    #[error("its trailers are too large")]
    TrailersTooLarge,
    #[error("it breaks the rules of HTTP/2")]
    Http2,
}
