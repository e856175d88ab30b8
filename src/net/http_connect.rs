//! A tunnel through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6): after the proxy's 2xx the connection is the
//! destination's, byte for byte.
//!
//! An upstream in the clear is reached the same way: no proxy has a request in absolute-form to read or to change. Callers:
//! `proxy::connect` for upstreams; `connector` to find out what a proxy refuses.

use http::HeaderValue;
use http::header::PROXY_AUTHORIZATION;
use http::uri::{Authority, Scheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::proxy_fault::ProxyFault;

/// Opens a tunnel to `authority` through the proxy at the other end of `stream`. The caller bounds the time.
///
/// # Errors
/// [`ProxyFault`] where the proxy refuses, or does not speak HTTP.
pub(crate) async fn open(
    stream: &mut TcpStream,
    scheme: &Scheme,
    authority: &Authority,
    authorization: Option<&HeaderValue>,
) -> Result<(), ProxyFault> {
    let request = request(scheme, authority, authorization);
    stream.write_all(&request).await.map_err(|_| ProxyFault::Broken)?;
    let head = head(stream).await?;
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(ProxyFault::Refused(status)),
        None => Err(ProxyFault::Broken),
    }
}

fn request(scheme: &Scheme, authority: &Authority, authorization: Option<&HeaderValue>) -> Vec<u8> {
    let usual = if *scheme == Scheme::HTTPS { HTTPS_PORT } else { HTTP_PORT };
    let (host, port) = (authority.host(), authority.port_u16().unwrap_or(usual));
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(value) = authorization {
        request.extend_from_slice(PROXY_AUTHORIZATION.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// Reads the head of the answer and not a byte more: an upstream may speak first, and what it says is not ours. A 2xx has
/// no body, whatever its fields say.
async fn head(stream: &mut TcpStream) -> Result<Vec<u8>, ProxyFault> {
    let mut head = Vec::with_capacity(MAX_HEAD_BYTES);
    let mut next = [0; 1024];
    loop {
        let seen = stream.peek(&mut next).await.map_err(|_| ProxyFault::Broken)?;
        if seen == 0 || head.len() + seen > MAX_HEAD_BYTES {
            return Err(ProxyFault::Broken);
        }
        let before = head.len();
        head.extend_from_slice(&next[..seen]);
        let from = before.saturating_sub(END.len() - 1);
        let end = head[from..].windows(END.len()).position(|bytes| bytes == END);
        let ours = end.map_or(seen, |at| from + at + END.len() - before);
        stream.read_exact(&mut next[..ours]).await.map_err(|_| ProxyFault::Broken)?;
        if end.is_some() {
            head.truncate(before + ours);
            return Ok(head);
        }
    }
}

/// The status of the answer (RFC 9112 section 4).
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.0 ").or_else(|| head.strip_prefix(b"HTTP/1.1 "))?;
    let (digits, after) = rest.split_at_checked(3)?;
    let ends = after.first().is_some_and(|byte| b" \r".contains(byte));
    let number = digits
        .iter()
        .try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u16::from(digit - b'0')))?;
    (ends && number >= 100).then_some(number)
}

const END: &[u8] = b"\r\n\r\n";
/// Proxies answer in a line or two, and some with a page when they refuse: that is not read.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy that answers with `pieces`, one after the other; what it was asked, and how it went.
    async fn ask(
        target: &str,
        authorization: Option<&HeaderValue>,
        pieces: Vec<Vec<u8>>,
    ) -> (String, Result<Vec<u8>, ProxyFault>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        other.set_nodelay(true).unwrap();
        let proxy = tokio::spawn(async move {
            let mut asked = Vec::new();
            while !asked.ends_with(END) {
                asked.push(other.read_u8().await.unwrap());
            }
            for piece in pieces {
                other.write_all(&piece).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            String::from_utf8(asked).unwrap()
        });
        let opened = open(&mut stream, &Scheme::HTTPS, &target.parse().unwrap(), authorization).await;
        let asked = proxy.await.unwrap();
        let rest = match opened {
            Ok(()) => {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                Ok(rest)
            }
            Err(fault) => Err(fault),
        };
        (asked, rest)
    }

    #[tokio::test]
    async fn what_comes_after_the_answer_is_the_upstreams() {
        let answer =
            b"HTTP/1.1 200 Connection established\r\nVia: p\r\nContent-Length: 9\r\n\r\nhello".to_vec();
        let byte_by_byte = answer.iter().map(|byte| vec![*byte]).collect();
        let (first, second) = answer.split_at(68);
        for pieces in [vec![answer.clone()], byte_by_byte, vec![first.to_vec(), second.to_vec()]] {
            let (asked, rest) = ask("api.example.com", None, pieces).await;
            assert_eq!(asked, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n");
            assert_eq!(rest, Ok(b"hello".to_vec()));
        }
    }

    #[tokio::test]
    async fn credentials_go_along_and_a_port_is_kept() {
        let value = HeaderValue::from_static("Basic eDp5");
        let (asked, rest) = ask("[::1]:8443", Some(&value), vec![b"HTTP/1.0 204 \r\n\r\n".to_vec()]).await;
        assert!(asked.starts_with("CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n"), "{asked}");
        assert!(asked.ends_with("\r\nproxy-authorization: Basic eDp5\r\n\r\n"), "{asked}");
        assert_eq!(rest, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn any_other_answer_opens_nothing() {
        for (answer, fault) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", ProxyFault::Refused(407)),
            ("HTTP/1.1 502 x\r\ncontent-length: 3\r\n\r\nbad", ProxyFault::Refused(502)),
            ("HTTP/1.1 100 Continue\r\n\r\n", ProxyFault::Refused(100)),
            ("HTTP/1.1 2000 x\r\n\r\n", ProxyFault::Broken),
            ("HTTP/2 200\r\n\r\n", ProxyFault::Broken),
            ("SSH-2.0-x\r\n\r\n", ProxyFault::Broken),
            ("HTTP/1.1 200", ProxyFault::Broken),
            ("", ProxyFault::Broken),
        ] {
            assert_eq!(ask("a", None, vec![answer.into()]).await.1, Err(fault), "{answer}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        let proxy = tokio::spawn(async move {
            let _ = other.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
            while other.write_all(&[b'x'; 1000]).await.is_ok() {}
        });
        let opened = open(&mut stream, &Scheme::HTTP, &"a".parse().unwrap(), None).await;
        assert_eq!(opened, Err(ProxyFault::Broken));
        drop(stream);
        proxy.await.unwrap();
    }
}
