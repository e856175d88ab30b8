//! HTTP/1.1 on the wire (RFC 9112): a client, and a judge of the requests that a server reads.
//!
//! | module | what it does | RFC 9112 |
//! |---|---|---|
//! | [`framing`] | follows the bytes of a client's requests and stops before the first ambiguous one | 2.2, 3, 5, 6, 7 |
//! | `protocol` | tells the protocols apart by a connection's first bytes | 9.1 |
//! | `request_end` | where a request ends, by its fields and chunk lines | 6, 7.1 |
//! | `head_fault` | finds what is wrong with a head that a parser refused | 3, 5 |
//! | [`target`] | sorts the bytes of a request target: plain, percent-encoded, refused | 3.2 |
//! | `parse` | a response's head, from bytes | 4, 5, 6.3 |
//! | `decode` | a response's body, from bytes | 6, 7 |
//! | `encode` | a request's head and the framing of its body, as bytes | 3, 6, 7.1 |
//! | [`malformed`](Malformed) | what can be wrong with a message | |
//! | `connection` | one request and its response over a stream | 9 |
//! | `request_writer`, `response_body` | the two bodies of an exchange, which may overlap | 6, 7.1, 9.3 |
//! | `link` | what a connection needs of its owner | |
//!
//! All but the last three rows take bytes and give bytes: they do no I/O and read no clock.
//!
//! [`Connection::send`] writes the request and reads the response in the future of its caller: no task, no channel
//! and no copy of the head stand between them. Buffers are bounded. A failure says whether the peer can have seen
//! any byte of the request. What two recipients could read in two ways is malformed.
//!
//! Retries, tokens, limits and HTTP/2 are not in here: the owner of a connection has them.

mod connection;
mod decode;
mod encode;
pub mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod head_fault;
mod link;
mod malformed;
mod parse;
mod protocol;
mod request_end;
mod request_writer;
mod response_body;
pub mod target;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Response, SendError, SendOptions};
pub use encode::RequestHead;
pub use head_fault::is_token;
pub use link::{ConnectionPool, HeadMemory, Link, RequestBody, TrailerMemory, Transport};
pub use malformed::{
    ChunkFault, FieldFault, LengthFault, LineFault, Malformed, OtherProtocol, RequestFault, StartLineFault,
    TrailerFault,
};
pub use parse::MAX_FIELDS;
pub use response_body::{BodyError, ResponseBody};
