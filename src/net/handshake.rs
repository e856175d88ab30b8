//! A TLS handshake with a server, and in words why it failed. The caller bounds the time.
//!
//! Callers: `proxy::connect` for upstreams; `connector` watches those of reqwest.

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
    /// How far the handshake came that this task is in. rustls shows nothing of a handshake that failed but its error.
    static PROGRESS: Cell<Option<Progress>>;
}

/// Makes TLS of `io`.
///
/// # Errors
/// [`TlsFault`]
pub(crate) async fn connect<S>(
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    io: S,
) -> Result<TlsStream<S>, TlsFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connector = TlsConnector::from(Arc::clone(config));
    let shaken = async { connector.connect(name, io).await.map_err(|error| fault(&error)) };
    watch(shaken).await
}

/// Keeps the [`progress()`] of a handshake within `work`.
pub(super) async fn watch<F: Future>(work: F) -> F::Output {
    PROGRESS.scope(Cell::new(None), work).await
}

/// How far the handshake came; `None`: it has not begun.
pub(super) fn progress() -> Option<Progress> {
    PROGRESS.try_with(Cell::get).ok().flatten()
}

/// What `trust` calls when it is asked about certificates.
pub(super) fn came_to(progress: Progress) {
    // A handshake that is not ours has nothing to note.
    let _ = PROGRESS.try_with(|came| came.set(Some(progress)));
}

fn fault(error: &io::Error) -> TlsFault {
    tracing::debug!(%error, "a TLS handshake failed");
    let progress = progress().unwrap_or(Progress::Hello);
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(error) => TlsFault::of(error, progress),
        None => TlsFault::Closed,
    }
}
