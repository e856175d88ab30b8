//! hyper's own answers to heads that it cannot read, said in the proxy's words.
//!
//! hyper refuses what is no HTTP, or too large, before it calls us, and its answer is a bare status. An application
//! could not tell it from the API's. So each connection looks at what it is about to write: hyper's refusal has a
//! form that no other answer has, and the proxy's own takes its place.

use http::StatusCode;

use super::error::{BadRequest, Call, ProxyError};

/// The failure that hyper's refusal stands for; `None`: these bytes are something else.
pub(super) fn recognise(written: &[u8]) -> Option<ProxyError> {
    if written.len() > LONGEST || !written.starts_with(b"HTTP/1.1 4") {
        return None;
    }
    let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?;
    let mut count = 0;
    for line in lines {
        if !(line == "connection: close" || line == "content-length: 0" || line.starts_with("date: ")) {
            return None;
        }
        count += 1;
    }
    match (status, count) {
        ("400", 3) => Some(BadRequest::Malformed.into()),
        ("414" | "431", 3) => Some(ProxyError::HeaderTooLarge),
        _ => None,
    }
}

/// The proxy's answer to `error`, as it goes over the wire, and its status.
pub(super) fn wire(error: ProxyError) -> (StatusCode, Vec<u8>) {
    let sentence = error.problem_json();
    let response = error.into_response(Call::Http);
    let status = response.status();
    let mut wire = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in response.headers() {
        wire.extend_from_slice(name.as_str().as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    wire.extend_from_slice(sentence.as_bytes());
    (status, wire)
}

/// Longer than any refusal of hyper's.
const LONGEST: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\
                           date: Mon, 23 Nov 2026 15:10:49 GMT\r\n\r\n";

    #[test]
    fn hypers_refusal_is_told_from_every_other_answer() {
        assert!(matches!(recognise(REFUSAL.as_bytes()), Some(ProxyError::BadRequest(BadRequest::Malformed))));
        let too_large = REFUSAL.replace("400 Bad Request", "431 Request Header Fields Too Large");
        assert!(matches!(recognise(too_large.as_bytes()), Some(ProxyError::HeaderTooLarge)));
        for other in [
            REFUSAL.replace("400", "404"),
            REFUSAL.replace("connection: close", "cupbearer-error: bad_request"),
            REFUSAL.replace("connection: close\r\n", ""),
            REFUSAL.replace("length: 0", "length: 5") + "hello",
            REFUSAL.trim_end().to_owned(),
        ] {
            assert!(recognise(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn in_its_place_goes_a_whole_answer_of_our_own() {
        let (status, wire) = wire(BadRequest::Malformed.into());
        let text = String::from_utf8(wire).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(status, 400);
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(
            head.contains("cupbearer-error: bad_request") && head.contains("connection: close"),
            "{head}"
        );
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }
}
