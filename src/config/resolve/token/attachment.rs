//! How a token goes on a request: header field and scheme.

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::exchange;
use crate::config::file::Token;
use crate::config::findings::Review;
use crate::config::problem::{KeyPath, Shown};
use crate::token::Attachment;

pub(super) fn resolve(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<Attachment> {
    let header_path = path.key("header");
    let header = HeaderName::from_bytes(token.header.as_bytes()).ok();
    let header = match header {
        None => {
            review.error(
                &header_path,
                "is not the name of a header field",
                "write it as in \"Authorization\"",
            );
            None
        }
        Some(name) if is_of_the_message(name.as_str()) || NOT_FOR_TOKENS.contains(&name.as_str()) => {
            let what = format!(
                "{} belongs to the connection or to the message, not to a token",
                Shown(name.as_str())
            );
            review.error(&header_path, what, "use \"Authorization\", or a field that the API reads");
            None
        }
        name => name,
    };
    let scheme = &token.scheme;
    if !scheme.bytes().all(is_token_char) {
        review.error(
            &path.key("scheme"),
            "must be one word, or empty for the bare token",
            "write it as in \"Bearer\"",
        );
        return None;
    }
    let header = header?;
    if token.dpop {
        let needs = "DPoP-bound tokens go in Authorization with the scheme DPoP (RFC 9449 section 7.1)";
        if header != AUTHORIZATION {
            review.error(&header_path, format!("has no place beside `dpop = true`: {needs}"), "take it out");
        }
        if !["bearer", "dpop"].contains(&scheme.to_ascii_lowercase().as_str()) {
            review.error(
                &path.key("scheme"),
                format!("has no place beside `dpop = true`: {needs}"),
                "take it out",
            );
        }
    }
    if exchange::is_per_caller(token) && header != AUTHORIZATION {
        let what =
            "must be \"Authorization\": the caller's own, which is traded in, would go to the API beside it";
        review.error(&header_path, what, "take it out");
    }
    Some(Attachment { header, scheme: scheme.clone() })
}

/// `tchar` (RFC 9110 section 5.6.2).
const fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether a field is about the connection (RFC 9110 section 7.6.1), or frames and names a message: no key sets it.
pub(super) fn is_of_the_message(name: &str) -> bool {
    OF_THE_MESSAGE.contains(&name)
}

const OF_THE_MESSAGE: [&str; 13] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-encoding",
    "expect",
];

/// What else describes a request on its way, or is the proxy's own.
const NOT_FOR_TOKENS: [&str; 9] = [
    "content-type",
    "content-range",
    "max-forwards",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "cupbearer-error",
];
