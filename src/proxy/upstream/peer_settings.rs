//! What an HTTP/2 upstream says of itself as a connection begins: its SETTINGS, the first frame that it sends (RFC 9113
//! section 3.4).
//!
//! hyper does not report when they came, and hides some of them. So `metered` shows the first bytes of a connection to this
//! on their way to hyper, and nothing behind them. A connection carries no request before: how many streams it takes and how large a
//! head may be is known by then, and so is whether the other side speaks HTTP/2 at all.

use std::cell::Cell;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use crate::proxy::error::ConnectFault;
use crate::proxy::http2::flood::{HEADER, SETTINGS};

/// The settings that hyper hides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerSettings {
    /// Bytes of a request's head, as HTTP/2 counts them (RFC 9113 section 6.5.2); `None`: it names no limit.
    pub(crate) max_header_list_size: Option<u32>,
}

/// The beginning of one connection, for what waits for it.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    known: Cell<Option<Result<PeerSettings, ConnectFault>>>,
    told: Notify,
}

impl Beginning {
    /// Waits until the other side has begun HTTP/2.
    ///
    /// # Errors
    /// It speaks something else, or the connection ended before.
    pub(crate) async fn known(&self) -> Result<PeerSettings, ConnectFault> {
        loop {
            let told = self.told.notified();
            if let Some(known) = self.known.get() {
                return known;
            }
            told.await;
        }
    }

    fn tell(&self, known: Result<PeerSettings, ConnectFault>) {
        self.known.set(Some(known));
        self.told.notify_waiters();
    }
}

/// A connection whose first frame has not come whole.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    reader: SettingsReader,
    beginning: Rc<Beginning>,
}

impl Greeting {
    /// The beginning that it ends with.
    pub(super) fn beginning(&self) -> Rc<Beginning> {
        Rc::clone(&self.beginning)
    }

    /// Takes bytes that came; whether they end it.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> bool {
        let known = self.reader.take(bytes);
        let ends = known.is_some();
        if let Some(known) = known {
            self.beginning.tell(known);
        }
        ends
    }
}

/// Where the connection ends before it has begun, nothing waits for it any longer.
impl Drop for Greeting {
    fn drop(&mut self) {
        if self.beginning.known.get().is_none() {
            self.beginning.tell(Err(self.reader.end()));
        }
    }
}

/// Begins HTTP/2 on a connection that is opened for a trial alone.
///
/// # Errors
/// The other side does not begin it.
pub(crate) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> Result<(), ConnectFault> {
    let mut reader = SettingsReader::default();
    let mut piece = [0; 1024];
    stream.write_all(GREETING).await.map_err(|_| ConnectFault::ClosedEarly)?;
    loop {
        let count = stream.read(&mut piece).await.unwrap_or_default();
        if count == 0 {
            return Err(reader.end());
        }
        if let Some(known) = reader.take(&piece[..count]) {
            return known.map(drop);
        }
    }
}

/// Reads a connection's first frame.
#[derive(Debug, Default)]
struct SettingsReader(Vec<u8>);

impl SettingsReader {
    /// Takes bytes that came; what they say, once it is known.
    fn take(&mut self, bytes: &[u8]) -> Option<Result<PeerSettings, ConnectFault>> {
        self.0.extend_from_slice(bytes);
        let header = self.0.first_chunk::<HEADER>()?;
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let is_settings = header[3..] == [SETTINGS, 0, 0, 0, 0, 0];
        if !is_settings || length > LARGEST {
            return Some(Err(ConnectFault::Protocol));
        }
        let payload = self.0.get(HEADER..HEADER + length)?;
        let mut settings = PeerSettings::default();
        for parameter in payload.chunks_exact(PARAMETER) {
            let (name, value) = parameter.split_at(2);
            if name == MAX_HEADER_LIST_SIZE
                && let Ok(value) = <[u8; 4]>::try_from(value)
            {
                settings.max_header_list_size = Some(u32::from_be_bytes(value));
            }
        }
        Some(Ok(settings))
    }

    /// What a connection is that ends here.
    const fn end(&self) -> ConnectFault {
        if self.0.is_empty() { ConnectFault::ClosedEarly } else { ConnectFault::Protocol }
    }
}

/// The preface and empty SETTINGS (RFC 9113 section 3.4).
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The largest frame that a client takes unless it says otherwise (RFC 9113 section 4.2).
const LARGEST: usize = 16 * 1024;
/// Bytes of a setting, of which two are its name (RFC 9113 section 6.5.1).
const PARAMETER: usize = 6;
const MAX_HEADER_LIST_SIZE: [u8; 2] = [0, 6];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], step: usize) -> Result<PeerSettings, ConnectFault> {
        let mut reader = SettingsReader::default();
        bytes.chunks(step).find_map(|piece| reader.take(piece)).unwrap_or_else(|| Err(reader.end()))
    }

    #[test]
    fn the_first_frame_is_read_however_it_is_cut() {
        let settings = [
            &b"\0\0\x12\x04\0\0\0\0\0"[..],
            &[0, 3, 0, 0, 0, 1],
            &[0, 6, 0, 1, 0, 0],
            &[0, 4, 0, 0, 255, 255],
            b"\0\0\0\x04\x01\0\0\0\0",
        ]
        .concat();
        let empty = b"\0\0\0\x04\0\0\0\0\0";
        for step in 1..=settings.len() {
            let said = PeerSettings { max_header_list_size: Some(65536) };
            assert_eq!(read(&settings, step), Ok(said), "in pieces of {step}");
            assert_eq!(read(empty, step), Ok(PeerSettings::default()), "in pieces of {step}");
        }
    }

    #[test]
    fn what_is_no_http_2_is_known_as_such() {
        for foreign in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"<html>",
            b"\0\0\x08\x06\0\0\0\0\0",
            b"\0\0\0\x04\x01\0\0\0\0",
            b"\0\0\0\x04",
        ] {
            for step in [1, 4, foreign.len()] {
                assert_eq!(read(foreign, step), Err(ConnectFault::Protocol), "{foreign:?}");
            }
        }
        assert_eq!(read(b"", 1), Err(ConnectFault::ClosedEarly));
    }
}
