//! A connection on which a test writes and reads HTTP/1.1 byte by byte, as a client or as an origin.
//!
//! It parses just enough to know where a message ends, and judges nothing: what is malformed arrives as it is.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a single read may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A request or a response, as it came.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The head's bytes, the empty line included.
    pub head: Vec<u8>,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
    /// What came after the last chunk.
    pub trailers: Vec<(String, String)>,
}

/// How the end of a body is known (RFC 9112 section 6.3).
enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Writes `bytes`. A peer that has closed already is no failure: the answer tells.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Writes `bytes`, or says that they could not be written within `within`.
    pub async fn try_send(&mut self, bytes: &[u8], within: Duration) -> io::Result<()> {
        timeout(within, self.stream.write_all(bytes)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Ends the writing side; reading goes on.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Ends the connection with a reset, as a crashed peer's kernel does.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// One more piece; `None` where the peer has closed.
    async fn more(&mut self) -> Option<()> {
        let mut piece = vec![0; 64 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut piece)).await.unwrap_or_else(|_| {
            panic!("nothing more came after {:?}", String::from_utf8_lossy(&self.unread))
        });
        match read {
            Ok(0) | Err(_) => None,
            Ok(count) => {
                self.unread.extend_from_slice(&piece[..count]);
                Some(())
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.unread.drain(..count).collect()
    }

    async fn through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.unread, end) {
                return Some(self.take(at + end.len()));
            }
            self.more().await?;
        }
    }

    /// The next `count` bytes as text; less where the peer closes first.
    pub async fn text(&mut self, count: usize) -> String {
        let bytes = self.exactly(count).await.unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            self.more().await?;
        }
        Some(self.take(count))
    }

    /// A head alone, without its body; `None` where the connection ended before one was whole.
    pub async fn head(&mut self) -> Option<Message> {
        let head = self.through(b"\r\n\r\n").await?;
        Some(Message { head, ..Message::default() })
    }

    /// A whole request; `None` where the connection ended before it was whole.
    pub async fn request(&mut self) -> Option<Message> {
        let message = self.head().await?;
        let framing = message.framing(Framing::None);
        self.body(message, framing).await
    }

    /// A whole response to a request with `method`; 1xx ones are passed over.
    pub async fn response(&mut self, method: &str) -> Option<Message> {
        loop {
            let message = self.head().await?;
            let status = message.status();
            if (100..200).contains(&status) {
                continue;
            }
            let framing = if method == "HEAD" || status == 204 || status == 304 {
                Framing::None
            } else {
                message.framing(Framing::UntilClose)
            };
            return self.body(message, framing).await;
        }
    }

    /// The status of the response to a request with `method`; 0: the connection ended instead, 1: nothing happened
    /// for five seconds.
    pub async fn status(&mut self, method: &str) -> u16 {
        match timeout(Duration::from_secs(5), self.response(method)).await {
            Ok(Some(answer)) => answer.status(),
            Ok(None) => 0,
            Err(_) => 1,
        }
    }

    async fn body(&mut self, mut message: Message, framing: Framing) -> Option<Message> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => message.body = self.exactly(length).await?,
            Framing::UntilClose => {
                while self.more().await.is_some() {}
                message.body = std::mem::take(&mut self.unread);
            }
            Framing::Chunked => loop {
                let line = self.through(b"\r\n").await?;
                let size = String::from_utf8_lossy(&line);
                let size =
                    usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).ok()?;
                if size == 0 {
                    break;
                }
                let data = self.exactly(size + 2).await?;
                message.body.extend_from_slice(&data[..size]);
            },
        }
        if matches!(framing, Framing::Chunked) {
            loop {
                let line = self.through(b"\r\n").await?;
                let line = String::from_utf8_lossy(&line);
                let Some((name, value)) = line.split_once(':') else { break };
                message.trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        Some(message)
    }

    /// All that comes until the peer closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await.is_some() {}
        std::mem::take(&mut self.unread)
    }

    /// Reads and forgets `count` bytes; says how many came before the end.
    pub async fn swallow(&mut self, count: usize) -> usize {
        let mut seen = 0;
        loop {
            let here = self.unread.len().min(count - seen);
            self.unread.drain(..here);
            seen += here;
            if seen == count || self.more().await.is_none() {
                return seen;
            }
        }
    }

    /// Whether the peer closes within `within`; what it still sends is forgotten.
    pub async fn closes(&mut self, within: Duration) -> bool {
        let closing = async {
            let mut piece = [0; 4096];
            while matches!(self.stream.read(&mut piece).await, Ok(count) if count > 0) {}
        };
        timeout(within, closing).await.is_ok()
    }
}

impl Message {
    /// The first line.
    pub fn start(&self) -> String {
        String::from_utf8_lossy(&self.head).lines().next().unwrap_or_default().to_owned()
    }

    /// A response's status; 0 where there is none.
    pub fn status(&self) -> u16 {
        self.start().split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// A request's method.
    pub fn method(&self) -> String {
        self.start().split(' ').next().unwrap_or_default().to_owned()
    }

    /// A request's target, as it stood there.
    pub fn target(&self) -> String {
        self.start().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// Every value of a field, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        String::from_utf8_lossy(&self.head)
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }

    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body's fields, where it is a form.
    pub fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    fn framing(&self, otherwise: Framing) -> Framing {
        if self.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked;
        }
        self.field("content-length").and_then(|length| length.parse().ok()).map_or(otherwise, Framing::Length)
    }
}
