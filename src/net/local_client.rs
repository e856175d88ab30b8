//! One small HTTP/1.1 question to a server of this machine: how the command line talks to a running proxy.
//!
//! Not for the authorization server (`oauth` has its own client) and not for the request path. A connection per
//! question, bounded in time and in size.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::local_address::LocalAddress;
use super::unix_peer::Peer;

/// Why there is no answer. Never holds a body or a header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalClientError {
    /// Nothing listens there, or nothing that accepts in time.
    #[error("nothing listens on {address}: {kind}")]
    Unreachable {
        /// Whom we asked.
        address: LocalAddress,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// The address took the connection and then did not speak HTTP, or broke off.
    #[error("{address} did not answer in HTTP")]
    NotHttp {
        /// Whom we asked.
        address: LocalAddress,
    },
    /// The answer did not come in time.
    #[error("{address} did not answer within {} s", .within.as_secs_f32())]
    TimedOut {
        /// Whom we asked.
        address: LocalAddress,
        /// The bound.
        within: Duration,
    },
    /// Another user's process, or another container's, listens under that name.
    #[error("no request was sent to {address}: {}", stranger(*.peer))]
    Foreign {
        /// Whom we asked.
        address: LocalAddress,
        /// Who listens there.
        peer: Peer,
    },
    /// The answer is larger than any of ours.
    #[error("{address} sent more than {MAX_ANSWER_BYTES} bytes")]
    TooLarge {
        /// Whom we asked.
        address: LocalAddress,
    },
}

/// Sends `request` (origin form; the Host field is added) to `address` and reads the whole answer, `within` a bound
/// that counts from here.
///
/// # Errors
/// [`LocalClientError`]; a status of any kind is an answer.
pub(crate) async fn send(
    address: impl Into<LocalAddress>,
    request: Request<Full<Bytes>>,
    within: Duration,
) -> Result<Response<Bytes>, LocalClientError> {
    let address = address.into();
    tokio::time::timeout(within, exchange(&address, request))
        .await
        .unwrap_or(Err(LocalClientError::TimedOut { address, within }))
}

async fn exchange(
    address: &LocalAddress,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, LocalClientError> {
    match address {
        LocalAddress::Tcp(tcp) => {
            let stream = connected(address, TcpStream::connect(tcp)).await?;
            over(stream, address, &tcp.to_string(), request).await
        }
        LocalAddress::Path(_) | LocalAddress::Abstract(_) => {
            let socket = address.socket().unwrap_or_default();
            let stream = connected(address, UnixStream::connect(socket)).await?;
            // Any process can take a name without a file first; it must not get what is meant for our own.
            if matches!(address, LocalAddress::Abstract(_)) {
                match Peer::of(&stream) {
                    Ok(peer) if peer.is_own() => {}
                    Ok(peer) => return Err(LocalClientError::Foreign { address: address.clone(), peer }),
                    Err(_) => return Err(LocalClientError::NotHttp { address: address.clone() }),
                }
            }
            over(stream, address, "localhost", request).await
        }
    }
}

async fn connected<S>(
    address: &LocalAddress,
    connect: impl Future<Output = std::io::Result<S>>,
) -> Result<S, LocalClientError> {
    let unreachable = |kind| LocalClientError::Unreachable { address: address.clone(), kind };
    tokio::time::timeout(CONNECT_TIMEOUT, connect)
        .await
        .map_err(|_| unreachable(std::io::ErrorKind::TimedOut))?
        .map_err(|error| unreachable(error.kind()))
}

async fn over<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    address: &LocalAddress,
    host: &str,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, LocalClientError> {
    let not_http = || LocalClientError::NotHttp { address: address.clone() };
    let host = HeaderValue::from_str(host).map_err(|_| not_http())?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| not_http())?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(|_| not_http())?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                LocalClientError::TooLarge { address: address.clone() }
            } else {
                not_http()
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

/// Why a process is not our own.
fn stranger(peer: Peer) -> String {
    if peer.same_pid_namespace {
        format!("a process of user {} listens there; run this command as that user", peer.uid)
    } else {
        "a process of another container, or of another PID namespace, listens there".to_owned()
    }
}

/// For the connection alone; the peer is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A status page of some thousand tokens is far below this.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

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
        let answer = send(address, question(), Duration::from_secs(5)).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (404, &b"hello"[..]));
    }

    #[tokio::test]
    async fn nobody_nonsense_and_silence_are_told_apart() {
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let error = send(gone, question(), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(
            error,
            LocalClientError::Unreachable { kind: std::io::ErrorKind::ConnectionRefused, .. }
        ));
        let nonsense = peer_that_sends(b"SSH-2.0-hello\r\n").await;
        let error = send(nonsense, question(), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, LocalClientError::NotHttp { .. }));
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error =
            send(silent.local_addr().unwrap(), question(), Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, LocalClientError::TimedOut { .. }));
    }

    #[tokio::test]
    async fn a_unix_socket_is_reached_by_its_path_and_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("cupbearer-test-ask-{}", std::process::id());
        let mut addresses = vec![LocalAddress::Path(dir.path().join("s"))];
        if cfg!(target_os = "linux") {
            addresses.push(LocalAddress::Abstract(name));
        }
        for address in addresses {
            let listener = UnixListener::bind(address.socket().unwrap()).unwrap();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.unwrap();
                let host = String::from_utf8_lossy(&head[..read]).contains("host: localhost\r\n");
                stream.write_all(if host { b"HTTP/1.1 200 OK\r\n\r\n" } else { b"no" }).await.unwrap();
            });
            let answer = send(&address, question(), Duration::from_secs(5)).await.unwrap();
            assert_eq!(answer.status().as_u16(), 200, "{address}");
        }
    }
}
