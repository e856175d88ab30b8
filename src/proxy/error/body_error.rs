//! Why a message's body ended before its end.

use super::ResponseCut;
use super::hyper_error::is_judged_malformed;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body's sender failed")]
    Sender(#[source] hyper::Error),
    #[error("the upstream's answer broke off")]
    Answer(#[source] cupbearer_h1::BodyError),
    /// The source says to hyper what to reset the HTTP/2 stream at the other side with.
    #[error("the body's HTTP/2 stream was reset before its end")]
    Cut(#[source] h2::Error),
    #[error("the trailers are larger than max_response_header_size")]
    TrailersTooLarge(#[source] h2::Error),
    #[error("the body's sender was silent for longer than idle_timeout")]
    Silent,
    /// hyper looks here for what to reset an HTTP/2 stream with.
    #[error("the body went on for longer than max_stream_age")]
    TooOld(#[source] h2::Error),
    /// The request was sent again, and this sending of it is over.
    #[error("the request was sent again")]
    Repeated,
}

impl BodyError {
    /// What this makes of a response of which nothing was passed on yet.
    pub(crate) fn cut(&self) -> ResponseCut {
        match self {
            Self::Sender(error) if is_judged_malformed(error) => ResponseCut::Malformed,
            _ => ResponseCut::Ended,
        }
    }
}
