//! One small HTTP/1.1 question to a server of this machine: how the command line talks to a running proxy.
//!
//! Not for the authorization server (`oauth` has its own client) and not for the request path. A connection per
//! question, bounded in time and in size.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Why there is no answer. Never holds a body or a header.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there, or nobody who answers in time.
    #[error("nothing listens on {address}: {kind}")]
    Unreachable {
        /// Whom we asked.
        address: SocketAddr,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// The address took the connection and then did not speak HTTP, or broke off.
    #[error("{address} did not answer in HTTP")]
    NotHttp {
        /// Whom we asked.
        address: SocketAddr,
    },
    /// The answer did not come in time.
    #[error("{address} did not answer within {} s", .within.as_secs_f32())]
    TimedOut {
        /// Whom we asked.
        address: SocketAddr,
        /// The bound.
        within: Duration,
    },
    /// The answer is larger than any of ours.
    #[error("{address} sent more than {MAX_ANSWER_BYTES} bytes")]
    TooLarge {
        /// Whom we asked.
        address: SocketAddr,
    },
}

/// Sends `request` (origin form; the Host field is added) to `address` and reads the whole answer, `within` a bound
/// that counts from here.
///
/// # Errors
/// [`AskError`]; a status of any kind is an answer.
pub async fn ask(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    within: Duration,
) -> Result<Response<Bytes>, AskError> {
    tokio::time::timeout(within, exchange(address, request))
        .await
        .unwrap_or(Err(AskError::TimedOut { address, within }))
}

async fn exchange(
    address: SocketAddr,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, AskError> {
    let unreachable = |kind| AskError::Unreachable { address, kind };
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| unreachable(std::io::ErrorKind::TimedOut))?
        .map_err(|error| unreachable(error.kind()))?;
    let host = HeaderValue::from_str(&address.to_string()).map_err(|_| AskError::NotHttp { address })?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| AskError::NotHttp { address })?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(|_| AskError::NotHttp { address })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                AskError::TooLarge { address }
            } else {
                AskError::NotHttp { address }
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    // Both halves in one task: nothing is left behind when this future is dropped.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

/// For the connection alone; the peer is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A status page of some thousand tokens is far below this.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn peer_that_sends(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(answer).await.unwrap();
        });
        address
    }

    fn question() -> Request<Full<Bytes>> {
        Request::new(Full::default())
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end() {
        let address = peer_that_sends(b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello").await;
        let answer = ask(address, question(), Duration::from_secs(5)).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (404, &b"hello"[..]));
    }

    #[tokio::test]
    async fn nobody_nonsense_and_silence_are_told_apart() {
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let error = ask(gone, question(), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, AskError::Unreachable { kind: std::io::ErrorKind::ConnectionRefused, .. }));
        let nonsense = peer_that_sends(b"SSH-2.0-hello\r\n").await;
        let error = ask(nonsense, question(), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, AskError::NotHttp { .. }));
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error =
            ask(silent.local_addr().unwrap(), question(), Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, AskError::TimedOut { .. }));
    }
}
