//! How a downstream connection begins: who is there, and, where it is TLS, the handshake.
//!
//! All of it is the connection's own task's work: a slow application holds nothing up. What a task is to do when
//! its connection is late or the drain has come is here, too, since that counts from the first byte on.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use cupbearer_h1::OtherProtocol;
use cupbearer_h1::framing::{Phase, Protocol, is_proxy_protocol};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::listener::Accepted;
use super::worker::Worker;
use crate::clock;
use crate::net::acceptor::{ALPN_HTTP2, Acceptor};
use crate::net::client_hello::ClientHello;
use crate::net::handshake_fault::HandshakeFault;
use crate::net::names::{Named, Subject, named};
use crate::proxy::downstream::activity::Watch;
use crate::proxy::downstream::context::{DrainStage, WorkerContext};
use crate::proxy::downstream::linger::until_closed;
use crate::proxy::downstream::stream::Transport;
use crate::proxy::error::BadRequest;
use crate::proxy::message::peer::Peer;

/// What a connection's task is to do before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskOrder {
    Serve,
    /// Nothing new is taken up.
    Finish,
    /// It is late.
    Cut,
}

/// A connection that requests can come by.
pub(super) struct Opened {
    pub(crate) transport: Transport,
    pub(crate) peer: Peer,
    pub(crate) spoken: Protocol,
}

/// Asked each time that a connection's task runs.
pub(crate) fn order(worker: &WorkerContext, watch: &Watch, cx: &Context<'_>) -> TaskOrder {
    watch.remember(cx.waker());
    let finish = watch.is_retired()
        || match worker.stage() {
            DrainStage::Serving => false,
            // GOAWAY costs no request (RFC 9113 section 6.8); HTTP/1.1 has no such word, so its connections get a
            // while in which each answer says `Connection: close`.
            DrainStage::Draining => watch.is_http2(),
            DrainStage::Closing | DrainStage::Ending => true,
        };
    match finish {
        _ if watch.is_late() => TaskOrder::Cut,
        true => TaskOrder::Finish,
        false => TaskOrder::Serve,
    }
}

/// Opens what was accepted. `None`: it came to nothing.
pub(super) async fn open(worker: &Worker, watch: &Watch, accepted: Accepted) -> Option<Opened> {
    let tcp = match accepted {
        Accepted::Unix(stream) => {
            let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
            let peer = Peer { uid, ..Peer::default() };
            return Some(Opened { transport: Transport::Unix(stream), peer, spoken: Protocol::Either });
        }
        Accepted::Tcp(stream) => stream,
    };
    let peer = Peer { local: tcp.local_addr().ok(), remote: Some(tcp.peer_addr().ok()?), ..Peer::default() };
    // Small answers must not wait for more to come.
    let _ = tcp.set_nodelay(true);
    let Some(acceptor) = worker.acceptor() else {
        return Some(Opened { transport: Transport::Tcp(tcp), peer, spoken: Protocol::Either });
    };
    // A handshake has as long as a head.
    watch.reached(Phase::Head, false);
    watch.awaits_handshake();
    let has_begun = Cell::new(false);
    let begins = || {
        watch.began_handshake();
        has_begun.set(true);
    };
    let mut shaking: Pin<Box<dyn Future<Output = _>>> =
        Box::pin(shake_hands(worker.context(), acceptor, tcp, begins));
    let shaken = poll_fn(|cx| match order(worker.context(), watch, cx) {
        TaskOrder::Serve => shaking.as_mut().poll(cx),
        TaskOrder::Cut if has_begun.get() => Poll::Ready(Err(Some(HandshakeFault::Timeout))),
        TaskOrder::Finish | TaskOrder::Cut => Poll::Ready(Err(None)),
    });
    let opened = shaken.await.and_then(|stream| {
        let names = client_names(&stream)?;
        // Without a word about it, it is HTTP/1.1 (RFC 9113 section 3.2).
        let http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
        let spoken = if http2 { Protocol::Http2 } else { Protocol::Http1 };
        let peer = Peer { tls: true, names, ..peer.clone() };
        Ok(Opened { transport: Transport::Tls(Box::new(stream)), peer, spoken })
    });
    if let Err(Some(fault)) = opened {
        acceptor.failed(fault, peer.remote);
    }
    opened.ok()
}

/// `Err(None)`: the client left before its first byte, as a probe of the port does. `begins` is called with that byte.
async fn shake_hands(
    worker: &WorkerContext,
    acceptor: &Acceptor,
    mut tcp: TcpStream,
    begins: impl FnOnce(),
) -> Result<TlsStream<ClientHello<TcpStream>>, Option<HandshakeFault>> {
    let mut first = [0; FIRST_BYTES];
    let read = tcp.peek(&mut first).await.unwrap_or_default();
    if read == 0 {
        return Err(None);
    }
    begins();
    let refusal = match &first[..read] {
        first if is_proxy_protocol(first) => {
            Some((OtherProtocol::ProxyProtocol.into(), HandshakeFault::ProxyProtocol))
        }
        first if HandshakeFault::is_plain_http(first) => Some((BadRequest::Plain, HandshakeFault::PlainHttp)),
        _ => None,
    };
    if let Some((refusal, fault)) = refusal {
        // In words that its sender can read, who may have left.
        let response = worker.refuse(tcp.peer_addr().ok(), refusal.into());
        if tcp.write_all(&response).await.is_ok() && tcp.shutdown().await.is_ok() {
            until_closed(&mut tcp).await;
        }
        return Err(Some(fault));
    }
    acceptor.accept(tcp).await.map_err(Some)
}

/// Whom the client certificate names, where one was asked for.
fn client_names(stream: &TlsStream<ClientHello<TcpStream>>) -> Result<Vec<Subject>, HandshakeFault> {
    let Some([certificate, ..]) = stream.get_ref().1.peer_certificates() else { return Ok(Vec::new()) };
    match named(certificate, clock::unix_seconds()) {
        Some(Named { names, is_valid: true }) => Ok(names),
        Some(Named { is_valid: false, .. }) => Err(HandshakeFault::ExpiredCertificate),
        None => Err(HandshakeFault::InvalidCertificate),
    }
}

/// Bytes that tell the PROXY protocol from all else.
const FIRST_BYTES: usize = 13;
