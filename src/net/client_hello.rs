//! A server name (SNI, RFC 6066 section 3) that is none, hidden from rustls: `hey` sends one with a port, others send empty
//! ones, or several.
//!
//! rustls refuses a handshake for that (0.23 has no option; 0.24 will have `InvalidSniPolicy`), other servers ignore the name.
//! There is one certificate here, so that it has no effect. [`ClientHello`] gives its extension another type on the way to
//! rustls, which ignores what it does not know. `transcript` undoes that where the handshake is hashed, so that both sides
//! authenticate the bytes that the client sent. Callers: `acceptor`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::pki_types::DnsName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose `ClientHello` messages have no server name that is none.
#[derive(Debug)]
pub(crate) struct ClientHello<S> {
    io: S,
    /// `None`: no more can come.
    hello: Option<Box<Hello>>,
}

/// The beginning of what the client sends. No byte behind it is read here.
#[derive(Debug, Default)]
struct Hello {
    bytes: Vec<u8>,
    /// How many of them have been passed on.
    passed: usize,
    /// How many of them may be.
    ready: usize,
    /// Messages that have come whole: there is a second one after a `HelloRetryRequest`.
    count: usize,
    /// What follows is no `ClientHello`.
    is_over: bool,
}

/// What is known of the bytes that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// More are needed: so many, beginning with those that were not passed on.
    Part(usize),
    /// A `ClientHello`, in whole records.
    Hello(usize),
    /// A record that may stand between two of them.
    Between(usize),
    /// Something else.
    Other,
}

impl<S> ClientHello<S> {
    pub(super) fn new(io: S) -> Self {
        Self { io, hello: Some(Box::default()) }
    }

    /// The connection itself.
    pub(crate) const fn get_ref(&self) -> &S {
        &self.io
    }

    /// The connection itself.
    pub(crate) const fn get_mut(&mut self) -> &mut S {
        &mut self.io
    }
}

impl Hello {
    fn look(&mut self) -> Option<usize> {
        let rest = &self.bytes[self.passed..];
        match find(rest) {
            Found::Part(wanted) => return Some(wanted - rest.len()),
            Found::Hello(length) if self.count < MOST_HELLOS => {
                self.count += 1;
                edit(&mut self.bytes[self.passed..][..length], hide_server_name);
                self.ready = self.passed + length;
            }
            Found::Between(length) => self.ready = self.passed + length,
            Found::Hello(_) | Found::Other => self.end(),
        }
        None
    }

    fn end(&mut self) {
        self.ready = self.bytes.len();
        self.is_over = true;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientHello<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while let Some(hello) = &mut this.hello {
            if hello.passed < hello.ready {
                let length = buf.remaining().min(hello.ready - hello.passed);
                buf.put_slice(&hello.bytes[hello.passed..][..length]);
                hello.passed += length;
                return Poll::Ready(Ok(()));
            }
            if hello.is_over {
                this.hello = None;
            } else if let Some(lacking) = hello.look() {
                let mut space = [0; READ];
                let mut read = ReadBuf::new(&mut space[..lacking.min(READ)]);
                ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
                if read.filled().is_empty() {
                    hello.end();
                }
                hello.bytes.extend_from_slice(read.filled());
            }
        }
        Pin::new(&mut this.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientHello<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// What `bytes` begin with (RFC 8446 sections 5.1 and 4).
fn find(bytes: &[u8]) -> Found {
    let [kind, _, _, high, low, first, ..] = bytes else { return Found::Part(RECORD_HEADER + 1) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    match (*kind, *first) {
        // Its only byte is there.
        (CHANGE_CIPHER_SPEC, _) if length == 1 => Found::Between(RECORD_HEADER + 1),
        (HANDSHAKE, CLIENT_HELLO) => whole_hello(bytes),
        _ => Found::Other,
    }
}

/// The records that a `ClientHello` is in.
fn whole_hello(bytes: &[u8]) -> Found {
    let (mut end, mut message) = (0, 0);
    let mut head = Vec::with_capacity(MESSAGE_HEADER);
    loop {
        let [kind, _, _, high, low, ..] = bytes[end..] else { return Found::Part(end + RECORD_HEADER) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        // A longer record is an error (RFC 8446 section 5.1), which rustls reports at its header.
        if kind != HANDSHAKE || length == 0 || length > LONGEST_RECORD {
            return Found::Other;
        }
        let start = end + RECORD_HEADER;
        end = start + length;
        let Some(fragment) = bytes.get(start..end) else { return Found::Part(end) };
        head.extend(fragment.iter().take(MESSAGE_HEADER - head.len()));
        message += length;
        if let [_, high, middle, low] = head[..] {
            let whole = MESSAGE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
            match whole {
                LARGEST.. => return Found::Other,
                _ if message >= whole => return Found::Hello(end),
                _ => {}
            }
        }
    }
}

/// Has `change` edit the message in `records`, which has as many bytes after it.
fn edit(records: &mut [u8], change: impl FnOnce(&mut [u8])) {
    fn fragments(records: &mut [u8], mut each: impl FnMut(&mut [u8])) {
        let mut rest = records;
        while let Some((header, after)) = rest.split_at_mut_checked(RECORD_HEADER) {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]])).min(after.len());
            let (fragment, after) = after.split_at_mut(length);
            each(fragment);
            rest = after;
        }
    }
    let mut message = Vec::with_capacity(records.len());
    fragments(records, |fragment| message.extend_from_slice(fragment));
    change(&mut message);
    let mut from = message.as_slice();
    fragments(records, |fragment| {
        let (edited, after) = from.split_at(fragment.len());
        fragment.copy_from_slice(edited);
        from = after;
    });
}

/// Gives a server name that is none an extension type that rustls does not know. One that came with that type gets another,
/// so that it is never taken for one that was hidden: no client has either.
fn hide_server_name(message: &mut [u8]) {
    let mut changes = Vec::new();
    for (at, kind, body) in extensions(message) {
        match kind {
            SERVER_NAME if !is_server_name(body) => changes.push((at, HIDDEN)),
            HIDDEN => changes.push((at, FOREIGN)),
            _ => {}
        }
    }
    for (at, kind) in changes {
        tracing::debug!("a client sent a server name (SNI) that is none; it is ignored");
        message[at..at + 2].copy_from_slice(&kind.to_be_bytes());
    }
}

/// Where the type of a server name stands that was hidden; of messages in sequence, in the first. `None`: it is no `ClientHello`,
/// or has none.
pub(super) fn hidden_server_name(messages: &[u8]) -> Option<usize> {
    extensions(messages).find(|(_, kind, _)| *kind == HIDDEN).map(|(at, ..)| at)
}

/// The type that belongs there.
pub(super) const SHOWN: [u8; 2] = SERVER_NAME.to_be_bytes();

/// The extensions of a `ClientHello`: where each is, its type and what it holds. It may be cut, as it is where a client proves
/// that it knows a session's key (RFC 8446 section 4.2.11.2).
fn extensions(message: &[u8]) -> impl Iterator<Item = (usize, u16, &[u8])> {
    let mut at = before_extensions(message).unwrap_or(message.len());
    let end = whole_message(message);
    std::iter::from_fn(move || {
        let kind = u16::from_be_bytes(*message.get(at..)?.first_chunk()?);
        let length = usize::from(u16::from_be_bytes(*message.get(at + 2..)?.first_chunk()?));
        let body = message.get(at + 4..at + 4 + length)?;
        let this = (at, kind, body);
        at += 4 + length;
        (at <= end).then_some(this)
    })
}

/// Where the first extension begins (RFC 8446 section 4.1.2).
fn before_extensions(message: &[u8]) -> Option<usize> {
    if *message.first()? != CLIENT_HELLO {
        return None;
    }
    let mut at = MESSAGE_HEADER + VERSION + RANDOM;
    at += 1 + usize::from(*message.get(at)?);
    at += 2 + usize::from(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
    at += 1 + usize::from(*message.get(at)?);
    Some(at + 2)
}

/// The bytes of the first message.
fn whole_message(message: &[u8]) -> usize {
    match message {
        [_, high, middle, low, ..] => MESSAGE_HEADER + u32::from_be_bytes([0, *high, *middle, *low]) as usize,
        _ => 0,
    }
}

/// Whether rustls takes the extension: a list of exactly one name of a host. It ignores an IP address by itself.
fn is_server_name(body: &[u8]) -> bool {
    let [high, low, HOST_NAME, name_high, name_low, name @ ..] = body else { return false };
    let list = usize::from(u16::from_be_bytes([*high, *low]));
    let length = usize::from(u16::from_be_bytes([*name_high, *name_low]));
    list + 2 == body.len() && length == name.len() && DnsName::try_from(name).is_ok()
}

/// Types of records and messages (RFC 8446 appendix B).
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const LONGEST_RECORD: usize = 1 << 14;
const MESSAGE_HEADER: usize = 4;
const VERSION: usize = 2;
const RANDOM: usize = 32;
/// The extension, and the only type of a name in it (RFC 6066 section 3).
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// In its place. Types from 0xff00 on are for private use.
const HIDDEN: u16 = 0xff53;
const FOREIGN: u16 = 0xff54;
/// A first one, and one after a `HelloRetryRequest`.
const MOST_HELLOS: usize = 2;
/// Bytes of a `ClientHello` that is looked into, as rustls takes no larger one.
const LARGEST: usize = 0x1_0000;
/// Bytes that are read at a time.
const READ: usize = 2048;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A `ClientHello` with these extensions behind an unknown one.
    fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut all = vec![0x0a, 0x0a, 0, 0];
        for (kind, body) in extensions {
            all.extend(kind.to_be_bytes());
            all.extend((body.len() as u16).to_be_bytes());
            all.extend_from_slice(body);
        }
        let mut message = vec![3, 3];
        message.extend([7; RANDOM]);
        message.extend([2, 8, 8, 0, 2, 0x13, 1, 1, 0]);
        message.extend((all.len() as u16).to_be_bytes());
        message.extend(all);
        let length = (message.len() as u32).to_be_bytes();
        [&[CLIENT_HELLO], &length[1..], &message].concat()
    }

    fn name(text: &str) -> Vec<u8> {
        let length = (text.len() as u16).to_be_bytes();
        list(&[&[HOST_NAME], &length[..], text.as_bytes()].concat())
    }

    fn list(names: &[u8]) -> Vec<u8> {
        [&(names.len() as u16).to_be_bytes(), names].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record =
            |part: &[u8]| [&[HANDSHAKE, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat();
        message.chunks(size).flat_map(record).collect()
    }

    async fn passed(sent: &[u8]) -> Vec<u8> {
        let mut passed = Vec::new();
        ClientHello::new(sent).read_to_end(&mut passed).await.unwrap();
        passed
    }

    fn kinds(message: &[u8]) -> Vec<u16> {
        extensions(message).map(|(_, kind, _)| kind).collect()
    }

    #[test]
    fn names_that_rustls_refuses_are_hidden_and_come_back_in_the_hash() {
        let two = list(&[&name("a.example")[2..], &name("b.example")[2..]].concat());
        for body in [
            name("127.0.0.1:8443"),
            name("localhost:8443"),
            name("[::1]"),
            name("größe.example"),
            name("a b"),
            name(""),
            name(&"a.".repeat(200)),
            two,
            list(&[]),
            list(&[9, 0, 1, b'x']),
            Vec::new(),
            vec![0, 9, 0],
        ] {
            let sent = hello(&[(SERVER_NAME, &body), (43, &[2, 3, 4])]);
            let mut message = sent.clone();
            hide_server_name(&mut message);
            assert_eq!(kinds(&message), [0x0a0a, HIDDEN, 43], "{body:?}");
            let at = hidden_server_name(&message).unwrap();
            message[at..at + 2].copy_from_slice(&SHOWN);
            assert_eq!(message, sent);
        }
    }

    #[test]
    fn names_that_rustls_takes_or_ignores_stay() {
        for text in
            ["localhost", "api.example", "api.example.", "under_score.example", "xn--gre-6ka8i.example"]
        {
            let mut message = hello(&[(SERVER_NAME, &name(text))]);
            hide_server_name(&mut message);
            assert_eq!(kinds(&message), [0x0a0a, SERVER_NAME], "{text}");
            assert_eq!(hidden_server_name(&message), None);
        }
    }

    #[test]
    fn an_extension_that_came_hidden_never_passes_for_one_that_was_hidden_here() {
        let mut message = hello(&[(HIDDEN, &name("localhost:1"))]);
        hide_server_name(&mut message);
        assert_eq!(hidden_server_name(&message), None);
    }

    #[tokio::test]
    async fn a_hello_is_found_however_it_is_cut_and_what_follows_is_untouched() {
        let sent = hello(&[(SERVER_NAME, &name("localhost:8443"))]);
        let mut edited = sent.clone();
        hide_server_name(&mut edited);
        let between = [CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1];
        let after = [23, 3, 3, 0, 3, 1, 2, 3];
        for size in 1..=sent.len() {
            let come = [&records(&sent, size)[..], &between, &records(&sent, size), &after].concat();
            let go = [&records(&edited, size)[..], &between, &records(&edited, size), &after].concat();
            assert_eq!(passed(&come).await, go, "in records of {size}");
        }
    }

    #[tokio::test]
    async fn what_is_no_hello_passes_as_it_is() {
        let sent = records(&hello(&[(SERVER_NAME, &name("localhost:8443"))]), 1000);
        for come in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], b"", &[22, 3], &sent[..sent.len() - 1], &[22, 3, 1, 0, 0, 1, 2]]
        {
            assert_eq!(passed(come).await, come);
        }
        let third = [&sent[..], &sent, &sent].concat();
        assert_eq!(&passed(&third).await[2 * sent.len()..], sent, "there are two at most");
    }
}
