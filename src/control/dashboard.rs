//! The dashboard: one page, whole in itself, which nothing outside of it can be part of and which no other page can hold.

use std::fmt::Write as _;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;

use crate::net::single_field::only;
use crate::secret::Secret;

/// What the page shows that it is ours by, on each call that changes something: 256 bits of this program's run.
#[derive(Clone, Debug)]
pub(super) struct PageToken(Secret<String>);

impl PageToken {
    /// A new one. `None`: the system has no randomness to give, and then no page can change anything.
    pub(super) fn generate() -> Option<Self> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).ok()?;
        Some(Self(Secret::new(URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The field as our page sends it.
    #[cfg(test)]
    pub(super) fn field(&self) -> (&'static str, String) {
        (PAGE, self.0.expose().clone())
    }

    /// Whether a request has it, once.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let Some(given) = only(headers, PAGE) else { return false };
        verify_slices_are_equal(given.as_bytes(), self.0.expose().as_bytes()).is_ok()
    }
}

/// The page. `frames`: the origins of the authorization servers that a hidden frame of it turns to; `None`: it has none.
pub(super) fn page(token: &PageToken, frames: Option<&[String]>) -> Response<Full<Bytes>> {
    let mut body = String::with_capacity(HTML.len() + STYLE.len() + SCRIPT.len() + 100);
    for (index, part) in HTML.split("{}").enumerate() {
        body.push_str(part);
        body.push_str([token.0.expose().as_str(), STYLE, SCRIPT].get(index).copied().unwrap_or_default());
    }
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    if let Ok(policy) = HeaderValue::from_str(&policy(frames)) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Nothing but our own style and script, by their hashes.
fn policy(frames: Option<&[String]>) -> String {
    let [style, script] = [STYLE, SCRIPT].map(|text| STANDARD.encode(digest(&SHA256, text.as_bytes())));
    let mut policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; frame-src"
    );
    let Some(frames) = frames else { return policy + " 'none'" };
    // Back to our own address the frame comes in the end. On its way it passes through what the server has it pass: a
    // login page elsewhere, a broker, a federation.
    policy.push_str(" 'self' https: http://127.0.0.1:* http://localhost:*");
    for origin in frames.iter().filter(|origin| !origin.starts_with("https:")) {
        let _ = write!(policy, " {origin}");
    }
    policy
}

/// The field that carries the [`PageToken`].
pub(super) const PAGE: &str = "cupbearer-page";
const HTML: &str = include_str!("dashboard/page.html");
const STYLE: &str = include_str!("dashboard/style.css");
const SCRIPT: &str = include_str!("dashboard/script.js");

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn the_page_is_whole_in_itself_and_lets_nothing_in() {
        let token = PageToken::generate().unwrap();
        let page = page(&token, Some(&["https://as.example".to_owned(), "http://as.test".to_owned()]));
        let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(
            policy.starts_with("default-src 'none'")
                && policy.ends_with(
                    "frame-src 'self' https: http://127.0.0.1:* http://localhost:* http://as.test"
                )
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        let body = String::from_utf8(page.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(
            body.contains(&format!("content=\"{}\"", token.0.expose())) && !body.contains("{}\""),
            "{body}"
        );
        for outside in ["http://", "https://", "src=", "@import", " onclick", "javascript:"] {
            let found = body.find(outside).map(|at| &body[at.saturating_sub(40)..(at + 60).min(body.len())]);
            // The namespace of SVG is a name, and no address.
            assert!(
                found
                    .is_none_or(|found| found.contains("www.w3.org/2000/svg") || found.contains("frame.src")),
                "{found:?}"
            );
        }
        assert!(super::policy(None).ends_with("frame-src 'none'"));
    }

    #[test]
    fn a_page_token_is_had_whole_and_once() {
        let token = PageToken::generate().unwrap();
        assert_ne!(token.0, PageToken::generate().unwrap().0);
        let right = HeaderValue::from_str(token.0.expose()).unwrap();
        let mut headers = HeaderMap::new();
        assert!(!token.is_in(&headers));
        headers.insert(PAGE, HeaderValue::from_static("x"));
        assert!(!token.is_in(&headers));
        headers.insert(PAGE, right.clone());
        assert!(token.is_in(&headers));
        headers.append(PAGE, right);
        assert!(!token.is_in(&headers));
    }
}
