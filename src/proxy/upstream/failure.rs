//! How a sending failed.

use super::request_body::RequestBody;
use crate::proxy::error::{Malformed, ProxyError, ResponseCut, StreamReset, UpstreamFault};

/// How a sending failed.
#[derive(Debug)]
pub(crate) enum SendFailure {
    /// Nothing of the request was sent: its body comes back whole.
    Unsent(RequestBody),
    /// The upstream says that it did not look at the request (RFC 9113 section 8.7).
    Unprocessed,
    /// The connection ended under the request: it may have been looked at.
    Died,
    /// The response is no HTTP.
    Malformed(Malformed),
    /// The connection ended under the request, since what came by it is no HTTP/2: another response, perhaps.
    NotHttp2,
    /// The upstream reset the request's stream.
    Reset(StreamReset),
    /// The head of the answer is over this many bytes, or has too many fields.
    TooLarge(usize),
    /// The head of the request is larger than the upstream says that it takes; nothing was sent.
    HeadRefused { size: usize, limit: usize },
    /// The response broke off behind its head, before any of it was passed on.
    Cut(ResponseCut),
    /// Anything else: the request's own body failed, above all.
    Broken,
}

impl From<&SendFailure> for ProxyError {
    fn from(failure: &SendFailure) -> Self {
        match failure {
            SendFailure::Malformed(why) => Self::Upstream(UpstreamFault::Malformed(*why)),
            SendFailure::TooLarge(limit) => Self::Upstream(UpstreamFault::HeadTooLarge { limit: *limit }),
            SendFailure::HeadRefused { size, limit } => {
                Self::Upstream(UpstreamFault::HeadLimit { size: *size, limit: *limit })
            }
            SendFailure::Cut(how) => Self::Upstream(UpstreamFault::Cut(*how)),
            SendFailure::Unprocessed => Self::Upstream(UpstreamFault::NotProcessed),
            SendFailure::NotHttp2 => Self::Upstream(UpstreamFault::NotHttp2),
            SendFailure::Reset(reset) => Self::Upstream(UpstreamFault::Reset(*reset)),
            SendFailure::Unsent(_) | SendFailure::Died | SendFailure::Broken => {
                Self::Upstream(UpstreamFault::Broken)
            }
        }
    }
}
