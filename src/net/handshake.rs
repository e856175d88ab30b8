//! A TLS handshake with a server, and in words why it failed. The caller bounds the time.
//!
//! Callers: `proxy::connect` for upstreams, `http_client` for authorization servers.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls_fault::{Progress, TlsFault};

tokio::task_local! {
    /// Whether the server's certificate has come in the handshake that this task is in. rustls shows nothing of a handshake
    /// that failed but its error.
    static CERTIFICATE_CAME: Cell<bool>;
}

/// Makes TLS of `io`.
///
/// # Errors
/// [`TlsFault`]
pub async fn connect<S>(
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    io: S,
) -> Result<TlsStream<S>, TlsFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connector = TlsConnector::from(Arc::clone(config));
    let shaken = async { connector.connect(name, io).await.map_err(|error| fault(&error)) };
    CERTIFICATE_CAME.scope(Cell::new(false), shaken).await
}

/// What `trust` calls when it sees the server's certificate.
pub(super) fn certificate_came() {
    // A handshake that is not ours has nothing to note.
    let _ = CERTIFICATE_CAME.try_with(|came| came.set(true));
}

fn fault(error: &io::Error) -> TlsFault {
    tracing::debug!(%error, "a TLS handshake failed");
    let progress = if CERTIFICATE_CAME.with(Cell::get) { Progress::Certificate } else { Progress::Hello };
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(error) => TlsFault::of(error, progress),
        None => TlsFault::Closed,
    }
}
