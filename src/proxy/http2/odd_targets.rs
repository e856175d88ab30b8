//! Targets of HTTP/2 that are percent-encoded behind h2's back, since their field goes into the dynamic table: an entry of
//! another length would put the peer's table out of step. h2 gets a number of the same length in their place, and the handler
//! puts the target back.
//!
//! A connection keeps as many as the table may still refer to, and as are on their way to the handler.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;
use http::Uri;
use http::request::Parts;
use http::uri::PathAndQuery;

/// Those of one connection.
#[derive(Debug, Default)]
pub(super) struct OddTargets(RefCell<KeptTarget>);

#[derive(Debug, Default)]
struct KeptTarget {
    next: u16,
    targets: VecDeque<(u16, Bytes)>,
    bytes: usize,
}

impl OddTargets {
    /// Keeps `target`; what h2 gets in its place, of this length. `None`: there is no such thing.
    pub(crate) fn keep(&self, target: Vec<u8>, length: usize) -> Option<Vec<u8>> {
        if !(SHORTEST..=LONGEST).contains(&length) || PathAndQuery::try_from(&target[..]).is_err() {
            return None;
        }
        let kept = &mut *self.0.borrow_mut();
        let number = kept.next;
        kept.next = (number + 1) % NUMBERS;
        kept.bytes += target.len();
        kept.targets.push_back((number, target.into()));
        while kept.targets.len() > MOST || kept.bytes > MOST_BYTES {
            kept.bytes -= kept.targets.pop_front().map_or(0, |(_, target)| target.len());
        }
        let mut place = BEGINNING.to_vec();
        place.extend([(number / 64) as usize, (number % 64) as usize].map(|digit| DIGITS[digit]));
        place.resize(length, b'.');
        Some(place)
    }

    /// Puts a target back that h2 had a number of.
    pub(crate) fn restore(&self, parts: &mut Parts) {
        let place = parts.uri.path_and_query().map_or(&b""[..], |place| place.as_str().as_bytes());
        let Some([high, low, ..]) = place.strip_prefix(BEGINNING) else { return };
        let digit = |byte: &u8| DIGITS.iter().position(|digit| digit == byte);
        let Some(number) = digit(high).zip(digit(low)).map(|(high, low)| high * 64 + low) else { return };
        let kept = self.0.borrow();
        let target = kept.targets.iter().find(|(kept, _)| usize::from(*kept) == number);
        let Some(target) =
            target.and_then(|(_, target)| PathAndQuery::from_maybe_shared(target.clone()).ok())
        else {
            return;
        };
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.path_and_query = Some(target);
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
    }
}

/// How a number begins: as no target does that came from an application, for those begin with a slash.
const BEGINNING: &[u8] = b"?|";
const DIGITS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
const NUMBERS: u16 = 64 * 64;
/// Bytes of a target that has room for a number.
const SHORTEST: usize = 4;
/// Larger ones are not in the table, or all alone (RFC 7541 section 4.4).
const LONGEST: usize = 2 * 1024;
/// The table has at most 4,096 bytes and so 100 of them; a connection has some hundred requests under way.
const MOST: usize = 512;
const MOST_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn restored(targets: &OddTargets, place: &[u8]) -> String {
        let uri = format!("http://localhost{}", std::str::from_utf8(place).unwrap());
        let mut parts = Request::get(uri).body(()).unwrap().into_parts().0;
        targets.restore(&mut parts);
        assert_eq!(parts.uri.host(), Some("localhost"));
        parts.uri.path_and_query().unwrap().as_str().to_owned()
    }

    #[test]
    fn a_target_comes_back_by_its_number() {
        let targets = OddTargets::default();
        let places: Vec<_> =
            (0..600_u32).map(|at| targets.keep(format!("/%22{at}").into_bytes(), 6).unwrap()).collect();
        assert!(places.iter().all(|place| place.len() == 6));
        for (at, place) in places.iter().enumerate() {
            let restored = restored(&targets, place);
            // One that is too old is refused, and never another one.
            let wanted =
                if at < 600 - MOST { String::from_utf8(place.clone()).unwrap() } else { format!("/%22{at}") };
            assert_eq!(restored, wanted);
        }
        assert_eq!(restored(&targets, b"/?|00"), "/?|00");
        assert_eq!(targets.keep(b"/%22".to_vec(), 2), None);
        assert_eq!(targets.keep(b"/%22".to_vec(), 5000), None);
    }
}
