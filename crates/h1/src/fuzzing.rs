//! What must hold of any bytes that a peer sends: for the fuzz targets in `fuzz/`, and for the test that replays
//! their corpus. Nothing that ships calls it.

use std::fmt::Write as _;

use bytes::BytesMut;
use httparse::{EMPTY_HEADER, Status};

use crate::framing::{Protocol, RequestFraming};
use crate::malformed::Malformed;
use crate::parse::{BodyExpected, MAX_FIELDS, Next, RequestFacts, ResponseParser, UpgradeOffered};
use crate::target::is_odd;

/// A response as it was read: its head in words, its data, whether it may end there, and the bytes left over.
type Read = (String, Vec<u8>, bool, usize);

/// A response reads the same whole and in pieces, and within its bounds. The first byte chooses the request's facts,
/// the second the size of the pieces.
pub fn response(data: &[u8]) {
    let [facts, step, wire @ ..] = data else { return };
    let facts = RequestFacts {
        body: if facts & 1 == 0 { BodyExpected::Yes } else { BodyExpected::No },
        upgrade: if facts & 2 == 0 { UpgradeOffered::No } else { UpgradeOffered::Yes },
    };
    let whole = read(wire, facts, wire.len().max(1));
    let pieces = read(wire, facts, usize::from(*step).max(1));
    assert_eq!(whole.is_ok(), pieces.is_ok(), "it is malformed either way or not at all");
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        assert_eq!(whole, pieces);
        assert!(whole.1.len() <= wire.len());
    }
}

fn read(wire: &[u8], facts: RequestFacts, step: usize) -> Result<Read, Malformed> {
    let mut input = BytesMut::new();
    let mut parser = ResponseParser::default();
    let (mut text, mut body, mut data) = (String::new(), None, Vec::new());
    for piece in wire.chunks(step) {
        input.extend_from_slice(piece);
        while body.is_none() {
            let Some(head) = parser.parse(&mut input, facts, MAX_HEAD)? else { break };
            let _ = writeln!(text, "{} {:?} {:?}", head.status, head.reason, head.headers);
            match head.next {
                Next::Head => {}
                Next::Tunnel => return Ok((text, Vec::new(), true, 0)),
                Next::Body(decoder, reuse) => {
                    let _ = write!(text, "{decoder:?} {reuse:?}");
                    body = Some(decoder);
                }
            }
        }
        if let Some(decoder) = &mut body {
            while let Some(bytes) = decoder.decode(&mut input)? {
                assert!(!bytes.is_empty());
                data.extend_from_slice(&bytes);
            }
        }
    }
    let may_end = body.is_some_and(|decoder| decoder.may_end_here());
    Ok((text, data, may_end, input.len()))
}

/// Requests get the same verdict whole and in pieces, and what goes on is the same. The first byte chooses the size of
/// the pieces.
pub fn request(data: &[u8]) {
    let [step, wire @ ..] = data else { return };
    let (whole, verdict) = admit(wire, wire.len().max(1));
    let (pieces, in_pieces) = admit(wire, usize::from(*step).max(1));
    assert_eq!(verdict.is_refused(), in_pieces.is_refused(), "it is refused either way or not at all");
    if !verdict.is_refused() {
        assert_eq!(whole, pieces);
        // A byte of a target becomes three at most.
        assert!(whole.len() <= wire.len() * 3);
    }
    // Naming the fault must not fail either.
    let _ = (verdict.fault(), in_pieces.fault());
}

fn admit(wire: &[u8], step: usize) -> (Vec<u8>, RequestFraming) {
    let mut framing = RequestFraming::new(MAX_HEAD, Protocol::Either);
    let mut admitted = Vec::new();
    for piece in wire.chunks(step) {
        let mut encoded = Vec::new();
        let same = framing.admit(piece, &mut encoded);
        admitted.extend_from_slice(&piece[..same]);
        admitted.append(&mut encoded);
    }
    (admitted, framing)
}

/// Requests and responses as this crate and httparse (hyper's parser) read them: where both accept a head, it has the
/// same border and the same fields; where this crate refuses one, nothing of it goes on as a head that httparse takes.
pub fn differential(data: &[u8]) {
    let [kind, wire @ ..] = data else { return };
    if kind & 1 == 0 { compare_response(wire) } else { compare_requests(wire) }
}

fn compare_response(wire: &[u8]) {
    let facts = RequestFacts { body: BodyExpected::Yes, upgrade: UpgradeOffered::Yes };
    let mut input = BytesMut::from(wire);
    let Ok(Some(ours)) = ResponseParser::default().parse(&mut input, facts, MAX_HEAD) else { return };
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut theirs = httparse::Response::new(&mut fields);
    let parsed = theirs.parse(wire);
    let Ok(Status::Complete(length)) = parsed else { panic!("httparse refuses a head: {parsed:?}") };
    assert_eq!(length, wire.len() - input.len(), "the head ends somewhere else");
    assert_eq!(theirs.code, Some(ours.status.as_u16()));
    for field in theirs.headers.iter() {
        let mut values = ours.headers.get_all(field.name).iter();
        assert!(values.any(|value| value.as_bytes() == field.value), "{} differs", field.name);
    }
    assert!(ours.headers.len() <= theirs.headers.len());
}

/// What goes on of `wire` is read by httparse as by the judge: each head ends where the judge's does, and so does the
/// body that its fields announce.
fn compare_requests(wire: &[u8]) {
    let (admitted, framing) = admit(wire, wire.len().max(1));
    if framing.is_refused() || framing.is_http2() {
        return;
    }
    let mut rest = &admitted[..];
    loop {
        while let [b'\r', b'\n', more @ ..] = rest {
            rest = more;
        }
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let Ok(Status::Complete(length)) = request.parse(rest) else { return };
        let head = &rest[..length];
        assert!(head.ends_with(b"\r\n\r\n"), "a bare LF went on");
        assert!(!request.path.is_some_and(|path| path.bytes().any(is_odd)), "an odd target went on");
        let values = |name: &str| {
            let named = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            named.map(|field| field.value).collect::<Vec<_>>()
        };
        let (lengths, encodings) = (values("content-length"), values("transfer-encoding"));
        assert!(lengths.len() + encodings.len() <= 1, "a message with two ends went on");
        // The judge alone, fed with this head and then with a byte that begins no request, must agree on what follows.
        let mut alone = RequestFraming::new(MAX_HEAD, Protocol::Http1);
        assert_eq!(alone.admit(head, &mut Vec::new()), head.len(), "the head alone is refused");
        rest = &rest[length..];
        if let [encoding] = encodings[..] {
            assert!(encoding.eq_ignore_ascii_case(b"chunked") && request.version == Some(1));
            let Some(end) = end_of_chunks(rest) else { return };
            rest = &rest[end..];
        } else if let [length] = lengths[..] {
            let length: usize =
                std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX);
            let Some(more) = rest.get(length..) else { return };
            rest = more;
        }
    }
}

/// Where a chunked body ends as httparse reads it; `None`: it has not come whole.
fn end_of_chunks(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let parsed = httparse::parse_chunk_size(&body[at..]);
        let (line, size) = match parsed {
            Ok(Status::Complete(parsed)) => parsed,
            Ok(Status::Partial) => return None,
            // The judge lets the beginning of a line go on.
            Err(_) if !body[at..].contains(&b'\n') => return None,
            Err(error) => panic!("httparse refuses a chunk: {error:?}"),
        };
        at += line;
        if size == 0 {
            let mut fields = [EMPTY_HEADER; MAX_FIELDS];
            if body[at..].starts_with(b"\r\n") {
                return Some(at + 2);
            }
            return match httparse::parse_headers(&body[at..], &mut fields) {
                Ok(Status::Complete((length, _))) => Some(at + length),
                Ok(Status::Partial) | Err(_) => None,
            };
        }
        at += usize::try_from(size).ok()?.checked_add(2)?;
        body.get(at..)?;
    }
}

const MAX_HEAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;

    type Target = fn(&[u8]);

    /// All targets: each has a file in `fuzz/fuzz_targets` and a folder in `fuzz/corpus`.
    const TARGETS: [(&str, Target); 3] =
        [("differential", differential), ("request", request), ("response", response)];

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into()).collect()
    }

    #[test]
    fn each_fuzz_target_holds_over_its_committed_corpus() {
        for (name, target) in TARGETS {
            let corpus = folder("corpus").join(name);
            let inputs: Vec<PathBuf> =
                fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(inputs.len() >= 3, "{} has {} inputs", corpus.display(), inputs.len());
            for input in inputs {
                let data = fs::read(input).unwrap();
                target(&data);
                // What a fuzzer would try first.
                for end in 0..data.len() {
                    target(&data[..end]);
                    let mut changed = data.clone();
                    changed[end] ^= 0x20;
                    target(&changed);
                    changed[end] = b'\n';
                    target(&changed);
                }
            }
        }
    }

    #[test]
    fn each_fuzz_target_has_a_file_and_a_corpus() {
        let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names(&folder("fuzz_targets")), known);
        assert_eq!(names(&folder("corpus")), known);
    }

    /// Pieces of messages, in any order: most runs of them are almost valid.
    fn almost_valid() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop::sample::select(vec![
            &b"GET / HTTP/1.1\r\n"[..],
            b"POST /a?b=\"c\" HTTP/1.1\r\n",
            b"POST / HTTP/1.0\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 103 Early Hints\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n",
            b"HTTP/1.0 204 \r\n",
            b"Host: x\r\n",
            b"Content-Length: 5\r\n",
            b"Content-Length: 0\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"X: y\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b"5\r\nhello\r\n",
            b"1;a=b\r\nx\r\n",
            b"0\r\n",
            b"hello",
            b"\0",
            b":",
            b"\xff",
        ]);
        prop::collection::vec(pieces, 0..14).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn each_fuzz_target_holds_over_generated_messages(first in 0_u8..8, second in 1_u8..9, wire in almost_valid()) {
            request(&[&[second], &wire[..]].concat());
            response(&[&[first, second], &wire[..]].concat());
            differential(&[&[first], &wire[..]].concat());
        }

        #[test]
        fn each_fuzz_target_holds_over_any_bytes(data in prop::collection::vec(any::<u8>(), 0..200)) {
            for (_, target) in TARGETS {
                target(&data);
            }
        }
    }
}
