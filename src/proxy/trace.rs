//! The trace that a request belongs to (W3C Trace Context, Level 1 and 2). It is passed on unchanged where it is valid,
//! and begun where there is none, so that whoever looks at the API's log can find one request of many. Nothing is
//! recorded here. The handler calls it, once per request: a replay belongs to the same trace.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

/// Leaves a valid `traceparent` and its `tracestate` as they are; else begins a trace and drops the `tracestate`, which
/// means nothing without its parent (section 3.3 of the Recommendation).
pub(super) fn pass_on_or_begin(headers: &mut HeaderMap) {
    let mut parents = headers.get_all(&TRACEPARENT).iter();
    let first = parents.next();
    // Of several it is not for us to choose.
    if first.is_some_and(|parent| is_valid(parent.as_bytes())) && parents.next().is_none() {
        return;
    }
    headers.remove(&TRACESTATE);
    if let Ok(begun) = HeaderValue::from_bytes(&begin(fastrand::u128(1..), fastrand::u64(1..))) {
        headers.insert(TRACEPARENT, begun);
    }
}

/// The trace id of the request that has these fields.
pub(super) fn id(headers: &HeaderMap) -> Option<&str> {
    headers.get(&TRACEPARENT)?.to_str().ok()?.get(3..35)
}

/// A `traceparent` of version 00: not sampled, and with Level 2's word that the whole trace id is random.
fn begin(trace: u128, parent: u64) -> [u8; LENGTH] {
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-02";
    write_hex(&mut value[3..35], &trace.to_be_bytes());
    write_hex(&mut value[36..52], &parent.to_be_bytes());
    value
}

fn write_hex(digits: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Whether `value` is a `traceparent` that may go on: of version 00, or of a later one that begins as 00 does and says
/// more only after another hyphen (section 4.3).
fn is_valid(value: &[u8]) -> bool {
    let Some((known, more)) = value.split_at_checked(LENGTH) else { return false };
    let (version, trace, parent, flags) = (&known[..2], &known[3..35], &known[36..52], &known[53..]);
    let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    known[2] == b'-'
        && known[35] == b'-'
        && known[52] == b'-'
        && [version, trace, parent, flags].into_iter().all(is_hex)
        && version != b"ff"
        && !is_zero(trace)
        && !is_zero(parent)
        && (more.is_empty() || version != b"00" && more[0] == b'-')
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// In bytes, of version 00.
const LENGTH: usize = 55;

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn passed(parents: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append("traceparent", HeaderValue::from_str(parent).unwrap());
        }
        headers.insert("tracestate", HeaderValue::from_static("a=1"));
        pass_on_or_begin(&mut headers);
        headers
    }

    #[test]
    fn a_valid_trace_goes_on_as_it_came() {
        for parent in [
            VALID,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-is-to-come",
        ] {
            let headers = passed(&[parent]);
            assert_eq!(headers["traceparent"], parent);
            assert_eq!(headers["tracestate"], "a=1", "{parent}");
        }
    }

    #[test]
    fn a_trace_is_begun_where_there_is_none_or_a_broken_one() {
        for parents in [
            &[][..],
            &[VALID, VALID],
            &[""],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"],
            &["01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more"],
            &["00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        ] {
            let headers = passed(parents);
            let begun: Vec<_> = headers.get_all("traceparent").iter().collect();
            assert_eq!(begun.len(), 1, "{parents:?}");
            assert!(is_valid(begun[0].as_bytes()) && begun[0] != VALID, "{parents:?}: {begun:?}");
            assert!(begun[0].as_bytes().ends_with(b"-02"), "{begun:?}");
            assert!(!headers.contains_key("tracestate"), "{parents:?}");
        }
    }

    #[test]
    fn no_two_requests_begin_the_same_trace() {
        assert_ne!(passed(&[])["traceparent"], passed(&[])["traceparent"]);
        assert_eq!(&begin(0xab, 0xcd), b"00-000000000000000000000000000000ab-00000000000000cd-02");
    }
}
