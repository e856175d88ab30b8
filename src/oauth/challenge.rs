//! What a 401 asks for: the challenges in `WWW-Authenticate` (RFC 9110 section 11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Whether an answer asks for a proof with a nonce in it (RFC 9449 section 9).
#[must_use]
pub fn demands_nonce(answer: &HeaderMap) -> bool {
    let mut demanded = false;
    for_each_challenge(answer, |challenge| {
        demanded |=
            challenge.scheme.eq_ignore_ascii_case("dpop") && challenge.error == Some("use_dpop_nonce");
    });
    demanded
}

/// Whether the challenges of a 401 refuse a token that was sent with `scheme`: one of that scheme, or of `Bearer`, which
/// names no error or `invalid_token` (RFC 6750 section 3.1). No challenge at all says no more than the status, and so
/// refuses it, too. Any other error is the request's, and any other scheme asks for something that no renewal brings.
#[must_use]
pub fn refuses_token(answer: &HeaderMap, scheme: &str) -> bool {
    let (mut any, mut refused) = (false, false);
    for_each_challenge(answer, |challenge| {
        any = true;
        let ours = [scheme, "Bearer"].iter().any(|own| challenge.scheme.eq_ignore_ascii_case(own));
        refused |= ours && matches!(challenge.error, None | Some("invalid_token"));
    });
    refused || !any
}

/// One challenge, as far as anybody here wants to know it.
struct Challenge<'a> {
    scheme: &'a str,
    error: Option<&'a str>,
}

fn for_each_challenge<'a>(answer: &'a HeaderMap, mut tell: impl FnMut(Challenge<'a>)) {
    for field in answer.get_all(WWW_AUTHENTICATE) {
        match field.to_str() {
            Ok(field) => challenges_of(field, &mut tell),
            // Whatever it asks for, it is not what is known here.
            Err(_) => tell(Challenge { scheme: "", error: None }),
        }
    }
}

/// Walks through the challenges of one field. A comma parts both challenges and their parameters; a new challenge is
/// known by the word before the space that its first parameter stands behind.
fn challenges_of<'a>(field: &'a str, tell: &mut impl FnMut(Challenge<'a>)) {
    let mut open: Option<Challenge<'a>> = None;
    for piece in Pieces(field) {
        let parameter = match piece.split_once([' ', '\t']) {
            // White space may stand around a parameter's `=`, too.
            Some((scheme, rest)) if is_token(scheme) && !rest.trim_start().starts_with('=') => {
                open.replace(Challenge { scheme, error: None }).map(&mut *tell);
                rest
            }
            None if is_token(piece) => {
                open.replace(Challenge { scheme: piece, error: None }).map(&mut *tell);
                continue;
            }
            _ => piece,
        };
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("error")
            && let Some(challenge) = &mut open
        {
            challenge.error = Some(value.trim().trim_matches('"'));
        }
    }
    open.map(tell);
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
    #[test]
    fn a_token_is_refused_by_a_challenge_of_its_scheme_or_by_none_at_all() {
        for (scheme, fields, want) in [
            ("Bearer", &[][..], true),
            ("Bearer", &[""], true),
            ("Bearer", &["Bearer"], true),
            ("Bearer", &[r#"bearer realm="a, b""#], true),
            ("Bearer", &[r#"Bearer realm="api", error="invalid_token", error_description="expired""#], true),
            ("Bearer", &["Basic realm=x", "Bearer"], true),
            ("Bearer", &["Negotiate, Bearer error=invalid_token"], true),
            ("DPoP", &[r#"DPoP error="invalid_token", algs="ES256""#], true),
            ("DPoP", &["Bearer"], true),
            ("Token", &["token"], true),
            ("Bearer", &[r#"Bearer error="insufficient_scope", scope="admin""#], false),
            ("Bearer", &[r#"Bearer error="invalid_request""#], false),
            ("DPoP", &[r#"DPoP error="use_dpop_nonce""#], false),
            ("DPoP", &[r#"DPoP error="invalid_dpop_proof""#], false),
            ("Bearer", &["DPoP algs=ES256"], false),
            ("Bearer", &[r#"Basic realm="Bearer""#], false),
            ("Bearer", &["Negotiate"], false),
            ("Bearer", &["NTLM TlRMTVNT=="], false),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(field));
            }
            assert_eq!(refuses_token(&headers, scheme), want, "{scheme} {fields:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_bytes(b"B\xe4rer").unwrap());
        assert!(!refuses_token(&headers, "Bearer"));
    }
}
