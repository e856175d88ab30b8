//! A token as programs print it and files hold it: the bare token, or one of the JSON forms in use.
//!
//! A token response (RFC 6749 section 5.1), Kubernetes' `ExecCredential` (client.authentication.k8s.io), and what
//! `az account get-access-token` prints. The other sources call this.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::oauth::{
    Error, ErrorKind, Holder, Lifetime, TextFlaw, TokenResponse, TokenType, parse_bare, parse_json, unquoted,
};
use crate::secret::Secret;

/// Reads the token in `text`. Nothing of `text` gets into the error.
pub(super) fn read(text: &str, holder: Holder) -> Result<TokenResponse, Error> {
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
    Err(Error::here(ErrorKind::Text(holder, flaw)))
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
        ErrorKind::TokenType => TextFlaw::TokenType,
        ErrorKind::Malformed(flaw) if flaw.is_expiry() => TextFlaw::Expiry,
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

/// A timestamp of RFC 3339 section 5.6. Fractions of a second are dropped: earlier is safe.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| text.as_bytes().get(*at) != Some(mark)) {
        return None;
    }
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest,
    };
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let part = |range: std::ops::Range<usize>| zone.get(range)?.parse::<u8>().ok();
            let seconds = i64::from(part(1..3)?) * 3600 + i64::from(part(4..6)?) * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    // Days since 1970 in the Gregorian calendar, years taken from March on so that the leap day comes last.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
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
            let got = read(text, Holder::File).unwrap();
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
            let error = read(text, Holder::File).unwrap_err();
            assert_eq!(error, Error::here(ErrorKind::Text(Holder::File, flaw)), "{text}");
            assert!(!format!("{error} {error:?}").contains("sentinel"));
        }
    }

    #[test]
    fn a_timestamp_is_read_with_its_offset_and_its_leap_days() {
        let seconds = |text: &str| Some(rfc3339(text)?.duration_since(UNIX_EPOCH).unwrap().as_secs());
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T23:59:59.999Z", Some(951_868_799)),
            ("2024-03-01t00:00:00+02:00", Some(1_709_244_000)),
            ("2033-05-17T19:33:20-08:00", Some(2_000_000_000)),
            ("1969-12-31T23:59:59Z", None),
            ("2033-13-18T03:33:20Z", None),
            ("2033-05-18T03:33:20", None),
            ("2033-05-18", None),
            ("+033-05-18T03:33:20Z", None),
        ] {
            assert_eq!(seconds(text), want, "{text}");
        }
    }
}
