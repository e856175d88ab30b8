//! Bounds of the configuration and of this machine that a request met.

use std::time::Duration;

use http::StatusCode;

use super::connect_fault::Full;
use crate::machine::Lack;

/// The bound that a request met.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitFault {
    #[error("this route's rate_limit is reached; come back later")]
    Rate {
        /// When the next one like it would pass, as far as is known now.
        retry_after: Duration,
    },
    #[error("this route has max_concurrent requests under way, and no room in its queue")]
    Concurrency,
    #[error("{0}, so there is no connection to the upstream; nothing was sent")]
    Lacking(Lack),
    #[error("{0}; nothing was sent")]
    Connections(Full),
    #[error(
        "the upstream's Unix socket took no connection within connect_timeout: as many wait there as it lets wait; nothing was sent"
    )]
    Backlog,
    #[error("the requests under way take all the memory that memory_limit allows; come back later")]
    Memory,
}

impl LimitFault {
    /// See [`super::ProxyError::kind`].
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate_limited",
            Self::Concurrency | Self::Lacking(_) | Self::Connections(_) | Self::Backlog | Self::Memory => {
                "overloaded"
            }
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Rate { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Concurrency | Self::Lacking(_) | Self::Connections(_) | Self::Backlog | Self::Memory => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}
