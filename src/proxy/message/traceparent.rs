//! The field `traceparent` (W3C Trace Context, Level 1 and 2): how it is read and written. What goes into it is `trace`'s business.

use data_encoding::HEXLOWER;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::net::single_field::only;
use crate::traces::{Context, RANDOM, SAMPLED};

/// The parent that a request names. Of several it is not for us to choose.
pub(crate) fn parent(headers: &HeaderMap) -> Option<Context> {
    parse(only(headers, &TRACEPARENT)?.as_bytes())
}

/// Makes `context` the parent, in place of any that was there.
pub(crate) fn put(headers: &mut HeaderMap, context: Context) {
    if let Ok(value) = HeaderValue::from_bytes(&written(context)) {
        headers.insert(TRACEPARENT, value);
    }
}

/// The trace id of the request that has these fields.
pub(crate) fn id(headers: &HeaderMap) -> Option<&str> {
    headers.get(&TRACEPARENT)?.to_str().ok()?.get(3..35)
}

/// A `traceparent` of version 00.
fn written(context: Context) -> [u8; LENGTH] {
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
    HEXLOWER.encode_mut(&context.trace.to_be_bytes(), &mut value[3..35]);
    HEXLOWER.encode_mut(&context.span.to_be_bytes(), &mut value[36..52]);
    HEXLOWER.encode_mut(&[context.flags], &mut value[53..]);
    value
}

/// A `traceparent` of version 00, or of a later one that begins as 00 does and says more only after another hyphen
/// (section 4.3). Of the flags only those that are known.
fn parse(value: &[u8]) -> Option<Context> {
    let (known, more) = value.split_at_checked(LENGTH)?;
    let (version, trace, span, flags) = (&known[..2], &known[3..35], &known[36..52], &known[53..]);
    let hyphens = [known[2], known[35], known[52]] == *b"---";
    let ends = more.is_empty() || version != b"00" && more[0] == b'-';
    if !hyphens || !ends || read_hex(version)? == [0xff] {
        return None;
    }
    let (trace, span) = (u128::from_be_bytes(read_hex(trace)?), u64::from_be_bytes(read_hex(span)?));
    let [flags] = read_hex(flags)?;
    (trace != 0 && span != 0).then_some(Context { trace, span, flags: flags & (SAMPLED | RANDOM) })
}

/// Lower-case digits, two for each byte.
fn read_hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    HEXLOWER.decode_mut(digits, &mut bytes).ok().map(|_| bytes)
}

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors say of a trace; it means nothing without its parent.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// In bytes, of version 00.
const LENGTH: usize = 55;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for flags in [0, SAMPLED, RANDOM, SAMPLED | RANDOM] {
            let context = Context { trace: 0xab, span: 0xcd, flags };
            assert_eq!(parse(&written(context)), Some(context));
        }
        let context = Context { trace: 0xab, span: 0xcd, flags: RANDOM };
        assert_eq!(&written(context), b"00-000000000000000000000000000000ab-00000000000000cd-02");
    }

    proptest::proptest! {
        #[test]
        fn no_value_is_too_strange_to_be_read(value in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-x)?|[0-9a-f-]{50,60}|\\PC*") {
            if let Some(context) = parse(value.as_bytes()) {
                proptest::prop_assert_eq!(&value.as_bytes()[2..53], &written(context)[2..53]);
            }
        }
    }
}
