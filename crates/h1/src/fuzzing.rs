//! What a fuzzer does with an upstream's bytes: an answer reads the same, whole and in pieces, and within its bounds.

use std::fmt::Write as _;

use bytes::BytesMut;

use super::super::malformed::Malformed;
use super::head::{Asked, BodyWanted, HeadFinder, Then, UpgradeWanted};

/// What was made of an answer: its head in words, its data, and what was left over.
type Read = (String, Vec<u8>, bool, usize);

/// An answer of an upstream. The first byte says what was asked, the second how the rest is cut.
pub(crate) fn answer(data: &[u8]) {
    let [asked, cut, wire @ ..] = data else { return };
    let asked = Asked {
        body: if asked & 1 == 0 { BodyWanted::Yes } else { BodyWanted::No },
        upgrade: if asked & 2 == 0 { UpgradeWanted::No } else { UpgradeWanted::Yes },
    };
    let whole = read(wire, asked, wire.len().max(1));
    let cut = read(wire, asked, usize::from(*cut).max(1));
    assert_eq!(whole.is_ok(), cut.is_ok(), "it is malformed either way or not at all");
    if let (Ok(whole), Ok(cut)) = (whole, cut) {
        assert_eq!(whole, cut);
        assert!(whole.1.len() <= wire.len());
    }
}

fn read(wire: &[u8], asked: Asked, cut: usize) -> Result<Read, Malformed> {
    let mut input = BytesMut::new();
    let mut finder = HeadFinder::default();
    let (mut text, mut body, mut data) = (String::new(), None, Vec::new());
    for piece in wire.chunks(cut) {
        input.extend_from_slice(piece);
        while body.is_none() {
            let Some(head) = finder.take(&mut input, asked, MAX_HEAD)? else { break };
            let _ = writeln!(text, "{} {:?}", head.status, head.headers);
            match head.then {
                Then::Another => {}
                Then::Tunnel => return Ok((text, Vec::new(), true, 0)),
                Then::Body(decoder, reuse) => {
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
    let ended = body.is_some_and(|decoder| decoder.may_end_here());
    Ok((text, data, ended, input.len()))
}

const MAX_HEAD: usize = 64 * 1024;
