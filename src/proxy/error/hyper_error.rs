//! What is behind an error of hyper's HTTP/2: how a stream or a connection ended, and by which side.

use super::StreamReset;

/// Whether a connection ended under the request, as against an answer that made no sense.
pub(crate) fn has_died(error: &hyper::Error) -> bool {
    error.is_canceled()
        || error.is_closed()
        || error.is_incomplete_message()
        || causes(error)
            .any(|cause| cause.is::<std::io::Error>() || cause.downcast_ref().is_some_and(h2::Error::is_io))
}

/// A GOAWAY is told to the streams above its last alone. Where the upstream broke the protocol, the error is a GOAWAY of our
/// own, told to every stream: what became of those is unknown.
pub(crate) fn is_unprocessed(error: &hyper::Error) -> bool {
    let of_http2 = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>());
    of_http2.filter(|error| error.is_remote()).is_some_and(|error| {
        error.is_go_away() || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

/// How the upstream reset the request's stream; `None`: it did not.
pub(crate) fn reset_of(error: &hyper::Error) -> Option<StreamReset> {
    let of_http2 = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>())?;
    let reason = of_http2.reason().filter(|_| of_http2.is_remote() && of_http2.is_reset());
    reason.map(StreamReset)
}

/// Whether HTTP/2 itself refused what the upstream sent, and reset its stream (RFC 9113 section 8.1.1).
pub(crate) fn is_judged_malformed(error: &hyper::Error) -> bool {
    let of_http2 = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>());
    of_http2.is_some_and(|error| error.is_library() && error.is_reset())
}

/// Whether it ended the whole connection for that, as where the compression of heads cannot go on (RFC 9113 section 4.3). Every
/// stream is given the same error, whichever was at fault.
pub(crate) fn is_ended_as_malformed(error: &hyper::Error) -> bool {
    let of_http2 = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>());
    of_http2.is_some_and(|error| error.is_library() && error.is_go_away())
}

/// Whether HTTP/2 ended the connection for a head that is far above all limits.
pub(crate) fn is_over_all_limits(error: &hyper::Error) -> bool {
    let of_http2 = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>());
    of_http2.is_some_and(|error| {
        error.is_library() && error.is_go_away() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
    })
}

fn causes(error: &hyper::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}
