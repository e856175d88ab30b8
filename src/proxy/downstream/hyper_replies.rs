//! hyper's own answers to heads that it cannot read, said in the proxy's words.
//!
//! hyper refuses what is no HTTP, or too large, before it calls us, and its response is a bare status. An application
//! could not tell it from the API's, so the proxy's own takes its place. The connection's turn says that hyper writes a
//! refusal; here its bytes say only which one.

use http::StatusCode;

use crate::proxy::error::{ApplicationFault, BadRequest, ProxyError};
use crate::proxy::message::problem::Call;
use crate::proxy::message::reason_phrase::status_line;

/// The failure that hyper's refusal, as it is written, stands for.
pub(crate) fn reason(written: &[u8]) -> ProxyError {
    let status = written.split(|byte| *byte == b' ').nth(1);
    match status {
        Some(b"414" | b"431") => ProxyError::Request(ApplicationFault::HeaderTooLarge),
        _ => BadRequest::Unreadable.into(),
    }
}

/// The response to `error` as it goes over the wire, its status, and the bytes of its body.
pub(crate) fn wire(error: ProxyError) -> (StatusCode, usize, Vec<u8>) {
    let response = error.into_response(Call::Http);
    let status = response.status();
    let mut wire = status_line(&response);
    for (name, value) in response.headers() {
        wire.extend_from_slice(name.as_str().as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    wire.extend_from_slice(response.body());
    (status, response.body().len(), wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_hypers_refusal_says_what_was_wrong() {
        let refusal = |status| {
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n")
        };
        for (written, kind) in [
            (refusal("400 Bad Request"), "bad_request"),
            (refusal("414 URI Too Long"), "header_too_large"),
            (refusal("431 Request Header Fields Too Large"), "header_too_large"),
            (refusal("400 Bad Request").replace("HTTP/1.1", "HTTP/1.0"), "bad_request"),
        ] {
            assert_eq!(reason(written.as_bytes()).kind(), kind, "{written}");
        }
    }

    #[test]
    fn in_its_place_goes_a_whole_answer_of_our_own() {
        let (status, _, wire) = wire(BadRequest::Unreadable.into());
        let text = String::from_utf8(wire).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(status, 400);
        assert!(head.starts_with("HTTP/1.1 400 Bad Request (cupbearer: bad_request)\r\n"), "{head}");
        assert!(
            head.contains("cupbearer-error: bad_request") && head.contains("connection: close"),
            "{head}"
        );
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }
}
