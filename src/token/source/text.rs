//! A token as programs print it and files hold it: the bare token, or one of the JSON forms in use.
//!
//! A token response (RFC 6749 section 5.1), Kubernetes' `ExecCredential` (client.authentication.k8s.io), and what
//! `az account get-access-token` prints. The other sources call this.

use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;

use crate::oauth::{
    ErrorKind, Lifetime, ResponseFault, TokenResponse, TokenType, parse_bare, parse_json, rfc3339, unquoted,
};
use crate::secret::Secret;
use crate::token::error::{Error, SourceFault, TextFlaw, TokenHolder};

/// Reads the token in `text`. Nothing of `text` gets into the error.
pub(super) fn read(text: &str, holder: TokenHolder) -> Result<TokenResponse, Error> {
    let text = text.trim_ascii();
    let flaw = match text.as_bytes().first() {
        None => TextFlaw::Empty,
        Some(b'{') => match json(text) {
            Ok(response) => return Ok(response),
            Err(flaw) => flaw,
        },
        Some(_) => match parse_bare(unquoted(text)) {
            Ok(response) if !is_quoted(response.access_token.expose()) => {
                return Ok(TokenResponse { token_type: TokenType::Bearer, ..response });
            }
            Ok(_) => TextFlaw::Quoted,
            Err(_) => TextFlaw::NotAWord,
        },
    };
    Err(Error::from(SourceFault::Text(holder, flaw)))
}

/// Whether a quotation mark is left at either end: no token has one (RFC 6750 section 2.1).
fn is_quoted(token: &str) -> bool {
    token.starts_with(['"', '\'']) || token.ends_with(['"', '\''])
}

fn json(text: &str) -> Result<TokenResponse, TextFlaw> {
    let foreign = match serde_json::from_str::<Foreign>(text) {
        Ok(foreign) => foreign,
        // JSON of another shape; a token response may have a `status` of its own.
        Err(error) if error.is_data() => Foreign::default(),
        Err(_) => return Err(TextFlaw::NotJson),
    };
    let (token, expiry) = match foreign {
        Foreign { status: Some(Exec { token, expiration_timestamp }), .. } => {
            let expiry = match expiration_timestamp {
                Some(stamp) => Some(rfc3339(&stamp).ok_or(TextFlaw::Expiry)?),
                None => None,
            };
            (token, expiry)
        }
        Foreign { azure: Some(token), expires_on, .. } => {
            let seconds = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            (token, expires_on.and_then(seconds))
        }
        _ => return parse_json(text.as_bytes()).map_err(|kind| flaw_of(&kind)),
    };
    let mut response = parse_bare(token.expose()).map_err(|_| TextFlaw::NoAccessToken)?;
    response.token_type = TokenType::Bearer;
    if let Some(at) = expiry {
        response.lifetime = Lifetime::ExpiresAt(at);
    }
    Ok(response)
}

const fn flaw_of(kind: &ErrorKind) -> TextFlaw {
    match kind {
        ErrorKind::Denied(..) => TextFlaw::Denied,
        ErrorKind::Response(ResponseFault::TokenType) => TextFlaw::TokenType,
        ErrorKind::Response(ResponseFault::Malformed(flaw)) if flaw.is_expiry() => TextFlaw::Expiry,
        _ => TextFlaw::NoAccessToken,
    }
}

/// The forms that are no token response.
#[derive(Default, Deserialize)]
struct Foreign {
    status: Option<Exec>,
    #[serde(rename = "accessToken", default, deserialize_with = "secret")]
    azure: Option<Secret<String>>,
    /// Seconds since 1970; `expiresOn` beside it is in local time and worth nothing.
    expires_on: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exec {
    #[serde(deserialize_with = "secret")]
    token: Secret<String>,
    expiration_timestamp: Option<String>,
}

fn secret<'de, D: serde::Deserializer<'de>, S: From<Secret<String>>>(from: D) -> Result<S, D::Error> {
    String::deserialize(from).map(|text| Secret::new(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Lifetime {
        Lifetime::ExpiresAt(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn a_token_is_read_bare_or_in_any_json_that_is_in_use() {
        let minute = Lifetime::ExpiresIn(Duration::from_mins(1));
        for (text, lifetime) in [
            ("t0ken", Lifetime::Unknown),
            ("\"t0ken\"\n", Lifetime::Unknown),
            ("'t0ken'", Lifetime::Unknown),
            (" \r\nt0ken\r\n\n", Lifetime::Unknown),
            (r#"{"access_token":"t0ken","expires_in":60}"#, minute),
            (r#" {"access_token":"t0ken","status":"ok"} "#, Lifetime::Unknown),
            (r#"{"kind":"ExecCredential","status":{"token":"t0ken"}}"#, Lifetime::Unknown),
            (
                r#"{"status":{"token":"t0ken","expirationTimestamp":"2033-05-18T03:33:20Z"}}"#,
                at(2_000_000_000),
            ),
            (
                r#"{"accessToken":"t0ken","expiresOn":"2033-05-18 05:33:20.0","expires_on":2000000000}"#,
                at(2_000_000_000),
            ),
        ] {
            let got = read(text, TokenHolder::File).unwrap();
            assert_eq!((got.access_token.expose().as_str(), got.lifetime), ("t0ken", lifetime), "{text}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_flaw_and_without_its_content() {
        for (text, flaw) in [
            ("", TextFlaw::Empty),
            (" \n", TextFlaw::Empty),
            ("sentinel one", TextFlaw::NotAWord),
            ("\"sentinel", TextFlaw::Quoted),
            ("\"\"sentinel\"\"", TextFlaw::Quoted),
            ("\"\"", TextFlaw::NotAWord),
            ("sentin\u{e9}l", TextFlaw::NotAWord),
            ("sentinel\nsecond", TextFlaw::NotAWord),
            (r#"{"access_token":"sentinel"#, TextFlaw::NotJson),
            (r#"{"token":"sentinel"}"#, TextFlaw::NoAccessToken),
            (r#"{"access_token":"sen tinel"}"#, TextFlaw::NoAccessToken),
            (r#"{"status":{"token":7}}"#, TextFlaw::NoAccessToken),
            (r#"{"error":"invalid_client"}"#, TextFlaw::Denied),
            (r#"{"access_token":"sentinel","token_type":"mac"}"#, TextFlaw::TokenType),
            (r#"{"access_token":"sentinel","expires_in":"soon"}"#, TextFlaw::Expiry),
            (r#"{"status":{"token":"sentinel","expirationTimestamp":"tomorrow"}}"#, TextFlaw::Expiry),
        ] {
            let error = read(text, TokenHolder::File).unwrap_err();
            assert_eq!(error, Error::from(SourceFault::Text(TokenHolder::File, flaw)), "{text}");
            assert!(!format!("{error} {error:?}").contains("sentinel"));
        }
    }
}
