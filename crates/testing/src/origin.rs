//! A server of the test's own that keeps each byte it got: a protected API, or an authorization server that lies.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::wire::{Message, Wire};

/// A listening origin; it ends where it is dropped.
#[derive(Debug)]
pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
    connections: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

/// What an origin answers, byte for byte, and what it does then.
#[derive(Clone, Debug)]
pub struct Reply {
    after: Duration,
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    KeepAlive,
    Close,
    Hold,
}

impl Reply {
    /// A whole response with a `Content-Length`.
    pub fn new(status: u16, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in fields {
            head += &[name, ": ", value, "\r\n"].concat();
        }
        Self::raw([head.as_bytes(), b"\r\n", body].concat())
    }

    /// These bytes and no other.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { after: Duration::ZERO, bytes: bytes.into(), then: Then::KeepAlive }
    }

    /// A 200 with a word in it.
    pub fn ok() -> Self {
        Self::new(200, &[("content-type", "text/plain")], "ok")
    }

    /// A token response (RFC 6749 section 5.1).
    pub fn token(token: &str, expires_in: u64) -> Self {
        Self::json(
            200,
            &format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{expires_in}}}"#),
        )
    }

    /// An answer in JSON.
    pub fn json(status: u16, body: &str) -> Self {
        Self::new(status, &[("content-type", "application/json"), ("cache-control", "no-store")], body)
    }

    /// What goes over the wire.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The same, after a while.
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// The same, and then the connection is closed.
    pub fn closing(self) -> Self {
        Self { then: Then::Close, ..self }
    }

    /// The same, and then nothing, with the connection open.
    pub fn holding(self) -> Self {
        Self { then: Then::Hold, ..self }
    }
}

impl Origin {
    /// Answers each request by `answer`, which is also told how many came before it.
    pub async fn start(answer: impl Fn(&Message, usize) -> Reply + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Message>>> = Arc::default();
        let (record, answer) = (Arc::clone(&seen), Arc::new(answer));
        let mut origin = Self::scripted(move |mut wire| {
            let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
            async move {
                while let Some(request) = wire.request().await {
                    let before = {
                        let mut record = record.lock().unwrap();
                        record.push(request.clone());
                        record.len() - 1
                    };
                    let reply = answer(&request, before);
                    tokio::time::sleep(reply.after).await;
                    wire.send(&reply.bytes).await;
                    match reply.then {
                        Then::KeepAlive => {}
                        Then::Close => return,
                        Then::Hold => std::future::pending().await,
                    }
                }
            }
        })
        .await;
        origin.seen = seen;
        origin
    }

    /// A 200 to everything.
    pub async fn ok() -> Self {
        Self::start(|_, _| Reply::ok()).await
    }

    /// An authorization server whose every answer is a good token, the n-th one `token-n`.
    pub async fn issuing(expires_in: u64) -> Self {
        Self::start(move |_, before| Reply::token(&format!("token-{before}"), expires_in)).await
    }

    /// Leaves each connection to `script`.
    pub async fn scripted<F, T>(script: F) -> Self
    where
        F: Fn(Wire) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self::on(listener, script)
    }

    /// The same, on a listener that is there already.
    pub fn on<F, T>(listener: TcpListener, script: F) -> Self
    where
        F: Fn(Wire) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let connections: Arc<Mutex<usize>> = Arc::default();
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                open.spawn(script(Wire::new(stream)));
                while open.try_join_next().is_some() {}
            }
        });
        Self { address, seen: Arc::default(), connections, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, whole ones only.
    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request so far.
    pub fn only(&self) -> Message {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "one request should have come, these did: {seen:?}");
        seen.remove(0)
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// How often each value of `Authorization` came.
    pub fn authorizations(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in self.seen() {
            *counts.entry(request.all("authorization").join(" | ")).or_default() += 1;
        }
        counts
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}
