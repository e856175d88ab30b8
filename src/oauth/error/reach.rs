//! How far a token request came before it failed: whether it was sent, and whether the server may have spent what was in it.

use super::Error;
use crate::net::proxy_fault::ProxyFault;
use crate::oauth::error::interruption::Interruption;
use crate::oauth::error::kind::{Kind, Phase};

impl Error {
    /// Whether it is a network that was missing: the server was not reached, and did not refuse the connection either.
    pub(crate) const fn lacks_network(&self) -> bool {
        match &self.kind {
            Kind::Dns | Kind::Lookup(_) | Kind::Proxy(_) | Kind::Timeout(_) | Kind::Reset => true,
            Kind::Connect(kind) => !matches!(kind, std::io::ErrorKind::ConnectionRefused),
            _ => false,
        }
    }

    /// Whether what was to be spent never left this machine.
    pub(crate) const fn was_not_sent(&self) -> bool {
        match &self.kind {
            // It may have been passed on.
            Kind::Proxy(ProxyFault::Responded(500..)) => false,
            Kind::Dns
            | Kind::Lookup(_)
            | Kind::Machine(_)
            | Kind::Lacking(_)
            | Kind::Connect(_)
            | Kind::Proxy(_)
            | Kind::Tls(_) => true,
            Kind::Timeout(phase) => !matches!(phase, Phase::Answer),
            _ => self.place.is_none() && self.may_have_spent().is_none(),
        }
    }

    /// How its response was lost, where the server may have spent what was sent.
    pub(crate) const fn may_have_spent(&self) -> Option<Interruption> {
        match &self.kind {
            Kind::Timeout(Phase::Answer)
            | Kind::Proxy(ProxyFault::Responded(500..))
            | Kind::Reset
            | Kind::Stalled
            | Kind::Panicked => Some(Interruption::Lost),
            Kind::TooLarge | Kind::Malformed(_) => Some(Interruption::Unread),
            // A gateway may have lost the server's response, and it may have failed behind its own commit. With 503
            // it took nothing on.
            Kind::Status(status) | Kind::Denied(status, _) if matches!(status.as_u16(), 500 | 502 | 504) => {
                Some(Interruption::Failed)
            }
            _ => None,
        }
    }

    /// Whether it counts as a request for a token. What ended before one was tried, on this machine, does not; one that did
    /// not reach the server does, although [`Self::was_not_sent`].
    pub(crate) const fn is_counted(&self) -> bool {
        match &self.kind {
            // Found out here where it has no place, and by the server where it has one.
            Kind::LoginRequired | Kind::LoginEnded(_) | Kind::LoginInterrupted(_) | Kind::LoginDoubtful => {
                self.place.is_some()
            }
            Kind::Withheld { sent, .. } => *sent,
            Kind::Secret(_)
            | Kind::Key(..)
            | Kind::GoogleKey(..)
            | Kind::Certificate(..)
            | Kind::ShortSecret
            | Kind::NoIssuer
            | Kind::NoEndpoint(_)
            | Kind::InsecureEndpoint
            | Kind::Machine(_)
            | Kind::Lacking(_)
            | Kind::LoggedOut
            | Kind::StoreBusy
            | Kind::Store
            | Kind::StillStored(_)
            | Kind::Unread(_)
            | Kind::BrowserAbsent
            | Kind::Subject(_)
            | Kind::SubjectExpired
            | Kind::Outdated { .. }
            | Kind::StillRefused(_)
            | Kind::NoCaller => false,
            _ => true,
        }
    }
}
