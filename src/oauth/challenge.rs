//! What a 401 asks for: the challenges in `WWW-Authenticate` (RFC 9110 section 11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Whether an answer asks for a proof with a nonce in it (RFC 9449 section 9).
#[must_use]
pub fn demands_nonce(answer: &HeaderMap) -> bool {
    answer.get_all(WWW_AUTHENTICATE).iter().filter_map(|field| field.to_str().ok()).any(is_demand)
}

/// Walks through the challenges of one field. A comma parts both challenges and their parameters; a new challenge is
/// known by the word before the space that its first parameter stands behind.
fn is_demand(field: &str) -> bool {
    let mut of_dpop = false;
    for piece in Pieces(field) {
        let parameter = match piece.split_once([' ', '\t']) {
            // White space may stand around a parameter's `=`, too.
            Some((word, rest)) if is_token(word) && !rest.trim_start().starts_with('=') => {
                of_dpop = word.eq_ignore_ascii_case("dpop");
                rest
            }
            None if is_token(piece) => {
                of_dpop = piece.eq_ignore_ascii_case("dpop");
                continue;
            }
            _ => piece,
        };
        if let Some((name, value)) = parameter.split_once('=')
            && of_dpop
            && name.trim().eq_ignore_ascii_case("error")
            && value.trim().trim_matches('"') == "use_dpop_nonce"
        {
            return true;
        }
    }
    false
}

fn is_token(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What stands between commas outside of quotes, trimmed.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.0.bytes().position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => return true,
                _ => {}
            }
            false
        });
        let (piece, rest) = end.map_or((self.0, ""), |at| (&self.0[..at], &self.0[at + 1..]));
        self.0 = rest;
        Some(piece.trim())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn demands(fields: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(field));
        }
        demands_nonce(&headers)
    }

    #[test]
    fn a_demand_for_a_nonce_is_found_wherever_it_stands() {
        for fields in [
            &[
                r#"DPoP error="use_dpop_nonce", error_description="Resource server requires nonce in DPoP proof""#,
            ][..],
            &[r#"dpop realm="a, b", algs="ES256 PS256", error="use_dpop_nonce""#],
            &[r#"DPoP algs="ES256",error=use_dpop_nonce"#],
            &[r#"Bearer, DPoP error = "use_dpop_nonce""#],
            &[r#"Bearer realm="DPoP", error="invalid_token", DPoP  error="use_dpop_nonce""#],
            &["Bearer", r#"DPoP error="use_dpop_nonce""#],
            &[r#"DPoP, , error="use_dpop_nonce""#],
        ] {
            assert!(demands(fields), "{fields:?}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for fields in [
            &[][..],
            &[""],
            &["DPoP"],
            &["error=\"use_dpop_nonce\""],
            &[r#"DPoP error="invalid_token""#],
            &[r#"DPoP error="invalid_dpop_proof", error_description="use_dpop_nonce""#],
            &[r#"Bearer error="use_dpop_nonce""#],
            &[r#"DPoP algs="ES256", Bearer error="use_dpop_nonce""#],
            &[r#"Bearer realm="x, DPoP error=\"use_dpop_nonce\"""#],
            &[r#"DPoP realm="\", error=use_dpop_nonce""#],
        ] {
            assert!(!demands(fields), "{fields:?}");
        }
    }
}
