//! How far a token request came before it failed: whether it was sent, and whether the server may have spent what was in it.

use super::Error;
use crate::oauth::error::interruption::Interruption;
use crate::oauth::error::kind::{ErrorKind, RequestFault, ResponseFault, TransportFault};

impl Error {
    /// Whether it is a network that was missing: the server was not reached, and did not refuse the connection either.
    pub(crate) const fn lacks_network(&self) -> bool {
        let ErrorKind::Transport(fault) = &self.kind else { return false };
        match fault {
            TransportFault::Connect(kind) => !matches!(kind, std::io::ErrorKind::ConnectionRefused),
            TransportFault::Lacking(_) | TransportFault::Tls(_) => false,
            _ => true,
        }
    }

    /// Whether what was to be spent never left this machine.
    pub(crate) const fn was_not_sent(&self) -> bool {
        match &self.kind {
            ErrorKind::Transport(fault) => !fault.may_have_sent(),
            ErrorKind::Request(RequestFault::Machine(_)) => true,
            _ => self.place.is_none() && self.may_have_spent().is_none(),
        }
    }

    /// How its response was lost, where the server may have spent what was sent.
    pub(crate) const fn may_have_spent(&self) -> Option<Interruption> {
        match &self.kind {
            ErrorKind::Transport(fault) if fault.may_have_sent() => Some(Interruption::Lost),
            ErrorKind::Request(RequestFault::Panicked) => Some(Interruption::Lost),
            ErrorKind::Response(ResponseFault::TooLarge | ResponseFault::Malformed(_)) => {
                Some(Interruption::Unread)
            }
            // A gateway may have lost the server's response, and it may have failed behind its own commit. With 503
            // it took nothing on.
            ErrorKind::Status(status) | ErrorKind::Denied(status, _)
                if matches!(status.as_u16(), 500 | 502 | 504) =>
            {
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
            ErrorKind::LoginEnded(_) | ErrorKind::LoginDoubtful => self.place.is_some(),
            ErrorKind::Withheld { sent, .. } => *sent,
            ErrorKind::Request(fault) => matches!(fault, RequestFault::Panicked),
            ErrorKind::Transport(fault) => !matches!(fault, TransportFault::Lacking(_)),
            _ => true,
        }
    }
}
