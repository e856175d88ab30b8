//! What makes a message malformed: a closed set, each with the words that log and response have for it.
//!
//! `cupbearer_h1` judges HTTP/1.1, and names its faults; `request_heads`, `fields` and hyper judge HTTP/2. `ProxyError` puts them into a
//! sentence. Never holds a byte of what was sent.

use cupbearer_h1::{ChunkFault, FieldFault, LengthFault, LineFault, StartLineFault, TrailerFault};

/// A message that is not valid HTTP, or that two recipients could read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// HTTP/1.1, or a rule that both versions have.
    #[error(transparent)]
    Http1(#[from] cupbearer_h1::Malformed),
    #[error("its :path is empty (RFC 9113 section 8.3.1)")]
    EmptyPath,
    #[error("its target does not begin with a slash (RFC 9113 section 8.3.1)")]
    PathWithoutSlash,
    #[error("its :authority is not a valid host and port (RFC 9113 section 8.3.1)")]
    Authority,
    #[error("its :scheme is not a valid scheme (RFC 9113 section 8.3.1)")]
    Scheme,
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
    #[error("its handshake of a WebSocket, or of another upgrade, does not match the request")]
    Handshake,
    #[error("it breaks the rules of HTTP/2")]
    Http2,
}

impl Malformed {
    /// How many faults there are.
    pub(crate) const COUNT: u32 = 11 + cupbearer_h1::Malformed::COUNT;

    /// A number that no other fault has, below [`COUNT`](Self::COUNT).
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::EmptyPath => 0,
            Self::PathWithoutSlash => 1,
            Self::Authority => 2,
            Self::Scheme => 3,
            Self::FieldNameOfHttp2 => 4,
            Self::FieldValueOfHttp2 => 5,
            Self::ConnectionField => 6,
            Self::Status => 7,
            Self::NoStatus => 8,
            Self::Handshake => 9,
            Self::Http2 => 10,
            Self::Http1(fault) => 11 + fault.number(),
        }
    }
}

macro_rules! from_faults {
    ($($fault:ty),+) => {
        $(impl From<$fault> for Malformed {
            fn from(fault: $fault) -> Self {
                Self::Http1(fault.into())
            }
        })+
    };
}

from_faults!(StartLineFault, LineFault, FieldFault, LengthFault, ChunkFault, TrailerFault);
