//! Why there is no connection for a request.

use super::connect_fault::{ConnectFault, ConnectStage, Full};
use super::limit_fault::LimitFault;
use super::proxy_error::ProxyError;
use super::upstream_fault::UpstreamFault;
use crate::machine::Lack;

/// Why there is no new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DialFault {
    #[error("the upstream cannot be reached: {0}")]
    Unreachable(ConnectFault),
    #[error("{0}")]
    Timeout(ConnectStage),
    #[error("{0}")]
    Lacking(Lack),
    #[error("{0}")]
    Full(Full),
    #[error(
        "the upstream's Unix socket took no connection within connect_timeout: as many wait there as it lets wait"
    )]
    Backlog,
}

impl DialFault {
    /// What to do about it.
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::Unreachable(fault) => fault.help(),
            Self::Timeout(stage) => stage.help(),
            Self::Lacking(lack) => lack.help(),
            Self::Full(full) => full.help(),
            Self::Backlog => "see why the API accepts no connections, and how many it lets wait (listen(2))",
        }
    }
}

impl From<DialFault> for ProxyError {
    fn from(fault: DialFault) -> Self {
        match fault {
            // Nothing was sent, and the upstream may be well.
            DialFault::Lacking(lack) => Self::Limit(LimitFault::Lacking(lack)),
            DialFault::Full(full) => Self::Limit(LimitFault::Connections(full)),
            DialFault::Backlog => Self::Limit(LimitFault::Backlog),
            DialFault::Unreachable(why) => Self::Upstream(UpstreamFault::Unreachable(why)),
            DialFault::Timeout(stage) => Self::Upstream(UpstreamFault::ConnectTimeout(stage)),
        }
    }
}
