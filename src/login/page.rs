//! The page that a browser ends at. It says how the login went, and takes the code out of the browser's history.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

/// A page of one heading and one sentence; both are shown as text, whatever is in them.
pub(crate) fn page(status: StatusCode, heading: &str, sentence: &str) -> Response<Full<Bytes>> {
    let [heading, sentence] = [heading, sentence].map(escape);
    let body = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{heading} - Cupbearer</title><style>{STYLE}</style>\
         <main><h1>{heading}</h1><p>{sentence}</p></main><script>{SCRIPT}</script></html>\n"
    );
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Ok(policy) = HeaderValue::from_str(&policy()) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Nothing but our own style and script, by their hashes; in no frame.
fn policy() -> String {
    let [style, script] = [STYLE, SCRIPT].map(|text| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        format!("'sha256-{}'", STANDARD.encode(hash))
    });
    format!(
        "default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The code counts no more, but an address with it need not lie in a history.
const SCRIPT: &str = "history.replaceState(null,'',location.pathname)";
const STYLE: &str = ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;margin:0;display:grid;\
    min-height:100vh;place-items:center}main{max-width:36rem;padding:2rem}h1{font-size:1.5rem;margin:0 0 .5rem}\
    p{margin:0;overflow-wrap:anywhere}";

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn whatever_a_server_says_is_text_on_the_page() {
        let page = page(StatusCode::OK, "Not logged in", "<script>alert('x')</script> & \"more\"");
        let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.headers()[REFERRER_POLICY], "no-referrer");
        let body = String::from_utf8(page.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(body.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{body}");
        assert_eq!(body.matches("<script>").count(), 1);
    }
}
