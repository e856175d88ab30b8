//! How hyper serves a connection, in HTTP/1.1 and in HTTP/2: every bound of its is set here.

use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;

use super::stream_executor::StreamExecutor;
use crate::proxy::http2::window::{STREAM_WINDOW, connection_window};
use crate::proxy::settings::ServerSettings;

pub(crate) fn http1(settings: &ServerSettings) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.max_headers(settings.max_headers)
        // A head must fit in hyper's buffer, and hyper wants at least 8 KiB.
        .max_buf_size(settings.max_header_size.max(8 * 1024))
        // An application that half-closes still waits for its answer (RFC 9112 section 9.6); and to look for the end
        // during each request costs a buffer each time.
        .half_close(true);
    http
}

/// For one connection, whose streams `streams` spawns.
pub(super) fn http2(settings: &ServerSettings, streams: StreamExecutor) -> http2::Builder<StreamExecutor> {
    let mut http = http2::Builder::new(streams);
    http.timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(connection_window(STREAM_WINDOW, settings.max_streams))
        .max_concurrent_streams(settings.max_streams)
        .max_header_list_size(u32::try_from(settings.max_header_size).unwrap_or(u32::MAX))
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(HTTP2_OWN_RESETS)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PONG)
        // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 section 3).
        .enable_connect_protocol();
    http
}

/// Bytes that are held of an answer on one HTTP/2 stream while the application does not read it.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;
/// Streams that may be taken back before they were looked at, at a time (RFC 9113 section 10.5).
const HTTP2_PENDING_RESETS: usize = 20;
/// Streams that may be reset for the peer's errors in the whole life of a connection: a well-behaved client has none.
const HTTP2_OWN_RESETS: usize = 256;
/// An HTTP/2 connection whose peer vanished is found by these (RFC 9113 section 6.7).
const HTTP2_PING: Duration = Duration::from_secs(20);
const HTTP2_PONG: Duration = Duration::from_secs(20);
