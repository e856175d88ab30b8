//! What a request that can be read lacks, or how it ended before it was sent on.

use http::StatusCode;

/// What is wrong with a request beside its syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplicationFault {
    #[error("the request's head did not come to its end within header_timeout")]
    HeadTimeout,
    #[error("the request's body stopped coming")]
    BodyTimeout,
    #[error("the application closed its side of the connection before the request was sent on")]
    Gone,
    #[error("this request has passed this proxy before: its upstream leads back to it")]
    Loop,
    #[error("this expectation is unknown; only 100-continue is defined (RFC 9110 section 10.1.1)")]
    ExpectationFailed,
    #[error("the request's head is larger than max_header_size, or has more fields than max_headers")]
    HeaderTooLarge,
}

impl ApplicationFault {
    /// See [`super::ProxyError::kind`].
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::HeadTimeout | Self::BodyTimeout => "request_timeout",
            Self::Gone => CLIENT_GONE,
            Self::Loop => "loop",
            Self::ExpectationFailed => "expectation_failed",
            Self::HeaderTooLarge => "header_too_large",
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::HeadTimeout | Self::BodyTimeout | Self::Gone => StatusCode::REQUEST_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }

    /// The gRPC status of it (the gRPC core's `status.proto`).
    pub(crate) const fn grpc_status(self) -> &'static str {
        match self {
            Self::HeadTimeout | Self::BodyTimeout => "4",
            Self::Gone => "1",
            Self::Loop | Self::ExpectationFailed => "13",
            Self::HeaderTooLarge => "8",
        }
    }
}

/// The kind of a request that its application gave up: there is no response, or no client that reads it.
pub(crate) const CLIENT_GONE: &str = "client_gone";
