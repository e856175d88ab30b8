//! How far ahead of its reader a stream of HTTP/2 may be (RFC 9113 section 5.2).
//!
//! A window is memory that the other side may fill: one buffer where it is near, more where the path is long, and never
//! more where memory is short. `connect` and `hyper_server` set it when a connection begins; hyper has no way to change it later.

use std::time::Duration;

use crate::proxy::memory;

/// The windows of a connection to an upstream. `path` is how long the connection took, a round trip at least.
pub(crate) fn stream_window(path: Duration) -> u32 {
    if memory::is_short() {
        return STREAM_WINDOW;
    }
    let bytes = u128::from(STREAM_RATE) * path.as_millis() / 1000;
    u32::try_from(bytes).unwrap_or(u32::MAX).clamp(STREAM_WINDOW, MAX_STREAM_WINDOW)
}

/// The window of a connection with so many streams: room for that of all of them. Were it smaller, a few that stand still would
/// hold up the others.
pub(crate) fn connection_window(stream: u32, streams: u32) -> u32 {
    stream.saturating_mul(streams).min(MAX_WINDOW)
}

/// One buffer.
pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;
const MAX_STREAM_WINDOW: u32 = 512 * 1024;
/// Bytes a second that one response can come with, however far the upstream is, up to the largest window.
const STREAM_RATE: u32 = 10 * 1024 * 1024;
/// The largest window that there is (RFC 9113 section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_one_buffer_on_the_same_machine_and_as_large_as_a_far_path_needs() {
        let of = |millis| stream_window(Duration::from_millis(millis)) / 1024;
        assert_eq!([0, 1, 6, 25, 50, 300].map(of), [64, 64, 64, 256, 512, 512]);
    }

    #[test]
    fn a_connections_window_has_room_for_those_of_all_its_streams() {
        assert_eq!(connection_window(STREAM_WINDOW, 256), 16 << 20);
        assert_eq!(connection_window(STREAM_WINDOW, 100_000), MAX_WINDOW);
    }
}
