//! What the upstream, or the way to it, failed to do.

use cupbearer_h1::MAX_FIELDS;
use http::StatusCode;

use super::connect_fault::{ConnectFault, ConnectStage};
use super::malformed::Malformed;
use super::stream_reset::StreamReset;

/// How the upstream failed a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamFault {
    #[error("the upstream cannot be reached: {0}")]
    Unreachable(ConnectFault),
    #[error("the connection to the upstream broke before it answered")]
    Broken,
    #[error("the upstream's response is not valid HTTP: {0}")]
    Malformed(Malformed),
    #[error(
        "the connection to the upstream ended before it responded to this request: what came by it breaks the rules of HTTP/2"
    )]
    NotHttp2,
    #[error("{0}")]
    Reset(StreamReset),
    #[error("the upstream broke off its response behind the head: {0}")]
    Cut(ResponseCut),
    #[error(
        "the response's head is larger than the upstream's max_response_header_size ({limit} bytes), or has more than {MAX_FIELDS} fields"
    )]
    HeadTooLarge { limit: usize },
    #[error(
        "the upstream's connection ended before the request was processed, and no part of it took effect; send it again"
    )]
    NotProcessed,
    #[error(
        "the connection to the upstream broke before it answered; the request's head has {size} bytes, which may be more than it takes"
    )]
    LargeHeadBroken { size: usize },
    #[error(
        "the request's head has {size} bytes, and the upstream takes no more than {limit} (its SETTINGS_MAX_HEADER_LIST_SIZE); nothing was sent"
    )]
    HeadLimit { size: usize, limit: usize },
    #[error("{0}")]
    WebSocket(WebSocketFault),
    #[error("{0}")]
    ConnectTimeout(ConnectStage),
    #[error("the upstream did not answer within response_header_timeout")]
    ResponseTimeout,
}

/// Why there is no WebSocket, where the upstream's own answer cannot say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebSocketFault {
    #[error(
        "the upstream takes no WebSockets over HTTP/2 (RFC 8441); another http2 than prior_knowledge asks it over HTTP/1.1"
    )]
    Unsupported,
    #[error("the upstream answered the WebSocket handshake as if it were a plain request")]
    NotGranted,
    #[error(
        "the upstream speaks HTTP/2 alone, which has no Upgrade to this protocol; another http2 than prior_knowledge sends the request over HTTP/1.1"
    )]
    NoUpgrade,
}

/// How an upstream broke off a response of which nothing was passed on yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseCut {
    #[error("its body or its trailers are malformed (RFC 9113 section 8.1.1)")]
    Malformed,
    #[error("its stream or its connection ended")]
    Ended,
}

impl UpstreamFault {
    /// See [`super::ProxyError::kind`].
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(ConnectFault::Tls(_)) => "upstream_tls",
            Self::Unreachable(_) => "upstream_unreachable",
            Self::Broken
            | Self::NotHttp2
            | Self::Reset(_)
            | Self::LargeHeadBroken { .. }
            | Self::Cut(ResponseCut::Ended) => "upstream_broken",
            Self::Malformed(_) | Self::Cut(ResponseCut::Malformed) => "upstream_malformed",
            Self::HeadTooLarge { .. } => "response_head_too_large",
            Self::NotProcessed => "not_processed",
            Self::HeadLimit { .. } => "header_too_large",
            Self::WebSocket(WebSocketFault::NoUpgrade) => "upgrade_refused",
            Self::WebSocket(_) => "websocket_refused",
            Self::ConnectTimeout(_) => "connect_timeout",
            Self::ResponseTimeout => "response_timeout",
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::NotProcessed => StatusCode::SERVICE_UNAVAILABLE,
            Self::HeadLimit { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::ConnectTimeout(_) | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Unreachable(_)
            | Self::Broken
            | Self::NotHttp2
            | Self::Reset(_)
            | Self::LargeHeadBroken { .. }
            | Self::Malformed(_)
            | Self::Cut(_)
            | Self::WebSocket(_)
            | Self::HeadTooLarge { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    /// The gRPC status of it (the gRPC core's `status.proto`).
    pub(crate) const fn grpc_status(&self) -> &'static str {
        match self {
            Self::HeadLimit { .. } | Self::HeadTooLarge { .. } => "8",
            Self::ConnectTimeout(_) | Self::ResponseTimeout => "4",
            Self::Unreachable(_)
            | Self::Broken
            | Self::NotHttp2
            | Self::Reset(_)
            | Self::LargeHeadBroken { .. }
            | Self::Malformed(_)
            | Self::Cut(_)
            | Self::WebSocket(_)
            | Self::NotProcessed => "14",
        }
    }
}
