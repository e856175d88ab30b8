//! What a response asks for: the challenges in `WWW-Authenticate` (RFC 9110 section 11.6.1), and what they say of a token.
//!
//! Challenges are read leniently, as APIs write them: with single quotes, without commas, with parameters that belong to no
//! scheme. What cannot be read says nothing.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Whether a response asks for a proof with a nonce in it (RFC 9449 section 9).
#[must_use]
pub(crate) fn demands_nonce(response: &HeaderMap) -> bool {
    let mut demanded = false;
    for_each_challenge(response, |challenge| {
        demanded |= is_dpop(challenge.scheme) && challenge.error == Some("use_dpop_nonce");
    });
    demanded
}

/// What the challenges of a refusal say of the token that its request carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChallengeVerdict {
    /// An error that names the token, such as `invalid_token`.
    TokenError,
    /// Nothing that tells the token from anything else: no challenge, or one without an error.
    Unspecified,
    /// Something that another token does not change.
    Incurable(Incurable),
}

/// What another token does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Incurable {
    /// `insufficient_scope` (RFC 6750 section 3.1), `insufficient_user_authentication` (RFC 9470) and their like.
    #[error("the API demands more scope, or another authentication of the user (insufficient_...)")]
    Insufficient,
    /// `invalid_request` (RFC 6750 section 3.1).
    #[error("the API calls the request malformed (invalid_request)")]
    Request,
    /// `use_dpop_nonce` and `invalid_dpop_proof` (RFC 9449 section 7.1).
    #[error("the API demands another DPoP proof")]
    Proof,
    /// The only challenge is `DPoP`, and the token is bound to no key.
    #[error("the API demands a token that is bound to a key (DPoP)")]
    Unbound,
    /// No challenge is for a token.
    #[error("the API demands other credentials (Basic, Digest, Negotiate or NTLM)")]
    Scheme,
}

/// Judges the challenges of a response that refuses a request whose token was sent with `scheme`.
///
/// A refusal is the token's unless the challenges say otherwise: many APIs send no challenge, one of another scheme, or an
/// error that is not registered. Of several challenges, one whose error names the token decides, then one whose error another
/// token does not change.
#[must_use]
pub(crate) fn challenge_verdict(response: &HeaderMap, scheme: &str) -> ChallengeVerdict {
    let (mut any, mut for_a_token, mut token_error, mut incurable) = (false, false, false, None);
    let mut demands_binding = !is_dpop(scheme);
    for_each_challenge(response, |challenge| {
        any = true;
        let is_foreign = OTHER_CREDENTIALS.iter().any(|other| challenge.scheme.eq_ignore_ascii_case(other));
        if is_foreign && !challenge.scheme.eq_ignore_ascii_case(scheme) {
            return;
        }
        for_a_token = true;
        demands_binding &= is_dpop(challenge.scheme);
        if let Some(error) = challenge.error.map(str::to_ascii_lowercase) {
            match Incurable::of(&error) {
                Some(why) => incurable = incurable.or(Some(why)),
                None => token_error |= error.contains("token"),
            }
        }
    });
    if token_error {
        return ChallengeVerdict::TokenError;
    }
    if for_a_token && demands_binding {
        return ChallengeVerdict::Incurable(Incurable::Unbound);
    }
    let incurable = incurable.or((any && !for_a_token).then_some(Incurable::Scheme));
    incurable.map_or(ChallengeVerdict::Unspecified, ChallengeVerdict::Incurable)
}

/// Whether a response to a token that is bound to no key asks for one that is, and for no other (RFC 9449 section 7.1): all
/// its challenges for a token are `DPoP`.
#[must_use]
pub(crate) fn demands_binding(response: &HeaderMap) -> bool {
    let (mut dpop, mut other) = (false, false);
    for_each_challenge(response, |challenge| {
        let is_foreign = OTHER_CREDENTIALS.iter().any(|other| challenge.scheme.eq_ignore_ascii_case(other));
        dpop |= is_dpop(challenge.scheme);
        other |= !is_foreign && !is_dpop(challenge.scheme);
    });
    dpop && !other
}

fn is_dpop(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("dpop")
}

impl Incurable {
    /// What to do about it, where that is a key of this configuration.
    #[must_use]
    pub(crate) const fn help(self) -> Option<&'static str> {
        match self {
            Self::Unbound => Some(BINDING_HELP),
            Self::Insufficient | Self::Request | Self::Proof | Self::Scheme => None,
        }
    }

    /// What an `error` in lower case says that another token does not change.
    fn of(error: &str) -> Option<Self> {
        match error {
            "invalid_request" => Some(Self::Request),
            "use_dpop_nonce" | "invalid_dpop_proof" => Some(Self::Proof),
            error if error.starts_with("insufficient") => Some(Self::Insufficient),
            _ => None,
        }
    }
}

/// One challenge, as far as it is looked at.
#[derive(Default)]
struct Challenge<'a> {
    /// Empty where parameters came without one.
    scheme: &'a str,
    error: Option<&'a str>,
}

fn for_each_challenge(response: &HeaderMap, mut take: impl FnMut(Challenge<'_>)) {
    for field in response.get_all(WWW_AUTHENTICATE) {
        challenges_of(&String::from_utf8_lossy(field.as_bytes()), &mut take);
    }
}

/// Walks through the challenges of one field. A comma separates both challenges and their parameters; a word that follows one
/// and is no parameter begins a challenge.
fn challenges_of(field: &str, take: &mut impl FnMut(Challenge<'_>)) {
    let mut open: Option<Challenge<'_>> = None;
    let mut rest = field;
    loop {
        let (separators, more) = split_before(rest, |c| !is_separator(c));
        let begins = rest.len() == field.len() || separators.contains(',');
        if more.is_empty() {
            break;
        }
        let (word, more) = split_before(more, |c| is_separator(c) || c == '=');
        if let Some(value) = more.trim_start().strip_prefix('=') {
            let (value, more) = value_of(value.trim_start());
            let challenge = open.get_or_insert_default();
            if word.eq_ignore_ascii_case("error") {
                challenge.error.get_or_insert(value);
            }
            rest = more;
        } else {
            // Behind a scheme and a space it is the credentials that the server sends (`NTLM TlRM...`).
            if begins {
                open.replace(Challenge { scheme: word, error: None }).map(&mut *take);
            }
            rest = more;
        }
    }
    open.map(take);
}

/// A parameter's value that `text` begins with, and what follows.
fn value_of(text: &str) -> (&str, &str) {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut escaped = false;
        let end = quoted.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        return end.map_or((quoted, ""), |end| (&quoted[..end], &quoted[end + 1..]));
    }
    if let Some(quoted) = text.strip_prefix('\'')
        && let Some(end) = quoted.find('\'')
    {
        return (&quoted[..end], &quoted[end + 1..]);
    }
    split_before(text, is_separator)
}

/// Splits `text` before the first character that `ends` it.
fn split_before(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// Some servers separate parameters by spaces or semicolons.
const fn is_separator(c: char) -> bool {
    matches!(c, ',' | ';' | ' ' | '\t')
}

/// What helps where an API takes bound tokens alone.
pub(crate) const BINDING_HELP: &str =
    "set `dpop = true` for this token, or have the API take tokens that are bound to no key";

/// Schemes of credentials that are no tokens (RFC 7617, RFC 7616, RFC 4559, MS-NTHT).
const OTHER_CREDENTIALS: [&str; 4] = ["Basic", "Digest", "Negotiate", "NTLM"];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(field).unwrap());
        }
        headers
    }

    #[test]
    fn a_demand_for_a_nonce_is_found_wherever_it_stands() {
        let all: &[&[&[u8]]] = &[
            &[
                br#"DPoP error="use_dpop_nonce", error_description="Resource server requires nonce in DPoP proof""#,
            ],
            &[br#"dpop realm="a, b", algs="ES256 PS256", error="use_dpop_nonce""#],
            &[br#"DPoP algs="ES256",error=use_dpop_nonce"#],
            &[br#"Bearer, DPoP error = "use_dpop_nonce""#],
            &[br#"Bearer realm="DPoP", error="invalid_token", DPoP  error="use_dpop_nonce""#],
            &[b"Bearer", br#"DPoP error="use_dpop_nonce""#],
            &[br#"DPoP, , error="use_dpop_nonce""#],
            &[br#"DPoP algs="ES256" error="use_dpop_nonce""#],
        ];
        for fields in all {
            assert!(demands_nonce(&headers(fields)), "{fields:?}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        let all: &[&[&[u8]]] = &[
            &[],
            &[b""],
            &[b"DPoP"],
            &[b"error=\"use_dpop_nonce\""],
            &[br#"DPoP error="invalid_token""#],
            &[br#"DPoP error="invalid_dpop_proof", error_description="use_dpop_nonce""#],
            &[br#"Bearer error="use_dpop_nonce""#],
            &[br#"DPoP algs="ES256", Bearer error="use_dpop_nonce""#],
            &[br#"Bearer realm="x, DPoP error=\"use_dpop_nonce\"""#],
            &[br#"DPoP realm="\", error=use_dpop_nonce""#],
        ];
        for fields in all {
            assert!(!demands_nonce(&headers(fields)), "{fields:?}");
        }
    }

    #[test]
    fn a_token_that_is_bound_is_demanded_where_no_other_challenge_is_for_a_token() {
        let all: &[(&[&[u8]], bool)] = &[
            (&[b"DPoP"], true),
            (&[b"dpop error=\"invalid_token\", algs=\"ES256\""], true),
            (&[b"Basic realm=\"x\"", b"DPoP algs=\"ES256\""], true),
            (&[b"Bearer, DPoP algs=\"ES256\""], false),
            (&[b"DPoP algs=\"ES256\"", b"Bearer error=\"invalid_token\""], false),
            (&[b"Basic realm=\"DPoP\""], false),
            (&[], false),
        ];
        for (fields, demanded) in all {
            assert_eq!(demands_binding(&headers(fields)), *demanded, "{fields:?}");
        }
    }

    #[test]
    fn a_refusal_is_the_tokens_unless_its_challenges_say_what_another_token_does_not_change() {
        use ChallengeVerdict::{Incurable as Cannot, TokenError, Unspecified};
        use Incurable::{Insufficient, Proof, Request, Scheme, Unbound};
        let table: &[(&[&[u8]], ChallengeVerdict)] = &[
            // No challenge, or one that says nothing.
            (&[], Unspecified),
            (&[b""], Unspecified),
            (&[b" , ;, "], Unspecified),
            (&[b"Bearer"], Unspecified),
            (&[b"bearer realm=\"a, b\""], Unspecified),
            (&[b"Bearer error=\"\""], Unspecified),
            (&[b"Bearer scope=\"read write\""], Unspecified),
            (&[b"Token"], Unspecified),
            (&[b"ApiKey realm=\"api\""], Unspecified),
            (&[b"OAuth realm=\"https://api.example/\""], Unspecified),
            (&[b"AWS4-HMAC-SHA256"], Unspecified),
            (&[b"Bearer error=\"unauthorized\""], Unspecified),
            // The errors of RFC 6750, and what APIs say in their place.
            (
                &[br#"Bearer realm="api", error="invalid_token", error_description="expired, it is""#],
                TokenError,
            ),
            (&[b"Bearer error=invalid_token"], TokenError),
            (&[b"Bearer error = \"invalid_token\""], TokenError),
            (&[b"BEARER ERROR=\"INVALID_TOKEN\""], TokenError),
            (&[b"OAuth realm=\"TwitchTV\", error='invalid_token'"], TokenError),
            (&[b"OAuth2 realm=\"service\", error=\"invalid_token\""], TokenError),
            (&[b"Bearer error=\"expired_token\""], TokenError),
            (&[b"Bearer error=\"token_expired\""], TokenError),
            (&[b"Bearer error=\"revoked_token\""], TokenError),
            (&[b"Bearer realm=\"api\" error=\"invalid_token\""], TokenError),
            (&[b"Bearer realm=\"api\"; error=\"invalid_token\""], TokenError),
            (&[b"DPoP error=\"invalid_token\", algs=\"ES256\""], TokenError),
            (&[b"error=\"invalid_token\""], TokenError),
            // Several challenges, in one field or in many.
            (&[b"Basic realm=x", b"Bearer"], Unspecified),
            (&[b"Basic realm=\"x\", Bearer realm=\"y\""], Unspecified),
            (&[b"Negotiate, Bearer error=invalid_token"], TokenError),
            (&[b"Digest realm=\"a\", nonce=\"b\", OAuth realm=\"c\""], Unspecified),
            (&[b"Negotiate", b"NTLM", b"Bearer authorization_uri=\"https://login.example/\""], Unspecified),
            (&[b"Bearer error=\"invalid_token\", DPoP error=\"use_dpop_nonce\""], TokenError),
            (&[b"Bearer error=\"insufficient_scope\"", b"Bearer error=\"invalid_token\""], TokenError),
            // What cannot be read.
            (&[b"\"\"\""], Unspecified),
            (&[b"=,=;=="], Unspecified),
            (&[b"Bearer realm=\"never closed, error=insufficient_scope"], Unspecified),
            (&[b"Bearer realm='never closed"], Unspecified),
            (&[b"B\xe4rer \xff=\xfe"], Unspecified),
            (&[b"{\"error\":\"unauthorized\"}"], Unspecified),
            // What another token does not change.
            (&[b"Bearer error=\"insufficient_scope\", scope=\"admin\""], Cannot(Insufficient)),
            (&[b"Bearer error='insufficient_scope', error_description='a, b'"], Cannot(Insufficient)),
            (&[b"Bearer realm=\"api\" error=\"insufficient_scope\""], Cannot(Insufficient)),
            (&[b"OAuth2 error=\"insufficient_permissions\""], Cannot(Insufficient)),
            (&[br#"Bearer error="insufficient_user_authentication", max_age="5""#], Cannot(Insufficient)),
            (&[br#"Bearer realm="", error="insufficient_claims", claims="eyJ9==""#], Cannot(Insufficient)),
            (&[b"Bearer", b"Bearer error=\"insufficient_scope\""], Cannot(Insufficient)),
            (&[b"Basic realm=\"x\", Bearer error=\"insufficient_scope\""], Cannot(Insufficient)),
            (&[b"error=\"insufficient_scope\""], Cannot(Insufficient)),
            (&[b"Bearer error=\"invalid_request\""], Cannot(Request)),
            (&[b"OAuth error=\"Invalid_Request\""], Cannot(Request)),
            (&[b"DPoP algs=\"ES256\""], Cannot(Unbound)),
            (&[b"Basic realm=\"x\", dpop"], Cannot(Unbound)),
            (&[b"DPoP error=\"invalid_request\""], Cannot(Unbound)),
            (&[b"DPoP error=\"use_dpop_nonce\""], Cannot(Unbound)),
            (&[b"Bearer, DPoP error=\"use_dpop_nonce\", algs=\"ES256\""], Cannot(Proof)),
            (&[b"DPoP error=\"invalid_dpop_proof\""], Cannot(Unbound)),
            (&[b"Bearer", b"DPoP algs=\"ES256\""], Unspecified),
            (&[b"Basic realm=\"Bearer\""], Cannot(Scheme)),
            (&[b"basic realm=\"caf\xe9\""], Cannot(Scheme)),
            (&[b"Basic realm='Bearer, OAuth'"], Cannot(Scheme)),
            (&[b"Basic realm=\"x\", error=\"invalid_token\""], Cannot(Scheme)),
            (&[b"Negotiate"], Cannot(Scheme)),
            (&[b"Negotiate YIIabc/+=="], Cannot(Scheme)),
            (&[b"NTLM TlRMTVNT=="], Cannot(Scheme)),
            (&[b"Negotiate, NTLM, Basic realm=\"x\""], Cannot(Scheme)),
            (&[b"Negotiate", b"NTLM"], Cannot(Scheme)),
            (&[br#"Digest realm="a", qop="auth, auth-int", nonce="b=", opaque="c""#], Cannot(Scheme)),
        ];
        for (fields, verdict) in table {
            let shown: Vec<_> = fields.iter().map(|field| String::from_utf8_lossy(field)).collect();
            assert_eq!(challenge_verdict(&headers(fields), "Bearer"), *verdict, "{shown:?}");
        }
        // A bound token is sent as what is demanded.
        for (field, verdict) in [
            ("DPoP algs=\"ES256\"", Unspecified),
            ("DPoP error=\"use_dpop_nonce\"", Cannot(Proof)),
            ("DPoP error=\"invalid_dpop_proof\"", Cannot(Proof)),
            ("DPoP error=\"invalid_token\"", TokenError),
        ] {
            assert_eq!(challenge_verdict(&headers(&[field.as_bytes()]), "DPoP"), verdict, "{field}");
        }
        // A token may be configured to be sent as one of those.
        assert_eq!(challenge_verdict(&headers(&[b"Basic realm=\"x\""]), "Basic"), Unspecified);
        assert_eq!(challenge_verdict(&headers(&[b"Basic realm=\"x\""]), ""), Cannot(Scheme));
    }
}
