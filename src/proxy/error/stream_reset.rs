//! The reset of a request's stream by an HTTP/2 upstream, before any response (RFC 9113 section 7).

use std::fmt;

use h2::Reason;

/// A `RST_STREAM` with its reason. `REFUSED_STREAM` is another matter: nothing of the request was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamReset(pub(crate) Reason);

impl StreamReset {
    /// The name of its reason, of a closed set.
    pub(crate) const fn name(self) -> &'static str {
        match self.0 {
            Reason::NO_ERROR => "NO_ERROR",
            Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Reason::INTERNAL_ERROR => "INTERNAL_ERROR",
            Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
            Reason::STREAM_CLOSED => "STREAM_CLOSED",
            Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
            Reason::REFUSED_STREAM => "REFUSED_STREAM",
            Reason::CANCEL => "CANCEL",
            Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
            Reason::CONNECT_ERROR => "CONNECT_ERROR",
            Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
            Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
            Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
            _ => "unknown reason",
        }
    }
}

impl fmt::Display for StreamReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upstream reset the request ({})", self.name())?;
        if self.0 == Reason::HTTP_1_1_REQUIRED {
            f.write_str("; set http2 = \"never\" for it")?;
        }
        Ok(())
    }
}
