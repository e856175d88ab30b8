//! Who asks for a token: the client authentication of RFC 6749 section 2.3.1, judged strictly.
//!
//! Strict, because this is what proves the other side right: halves that are not form-encoded are refused, and so
//! is a client that authenticates twice.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::secret::Secret;

/// How a client authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthMethod {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
}

/// Which clients there are.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clients {
    /// Any client with an identifier and a secret, whatever they are. The default.
    #[default]
    Any,
    /// These, each with its secret.
    Listed(BTreeMap<String, Secret<String>>),
}

/// What a request says about who sends it.
#[derive(Clone, Debug)]
pub(super) struct Presented {
    pub(super) id: String,
    pub(super) secret: Secret<String>,
    pub(super) method: AuthMethod,
}

/// Why nothing could be read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Nothing there: `invalid_client`.
    Absent,
    /// Two methods at once: `invalid_request` (section 2.3).
    Twice,
    /// The Basic field is not base64 of two form-encoded halves: `invalid_request`.
    Malformed,
}

impl Clients {
    /// These clients alone.
    pub(crate) fn listed<I, S>(clients: I) -> Self
    where
        I: IntoIterator<Item = (S, S)>,
        S: Into<String>,
    {
        Self::Listed(
            clients.into_iter().map(|(id, secret)| (id.into(), Secret::new(secret.into()))).collect(),
        )
    }

    pub(super) fn know(&self, presented: &Presented) -> bool {
        match self {
            Self::Any => !presented.secret.expose().is_empty(),
            Self::Listed(clients) => clients.get(&presented.id) == Some(&presented.secret),
        }
    }
}

/// Reads the client out of a token request.
pub(super) fn presented(headers: &HeaderMap, form: &[(String, String)]) -> Result<Presented, Unreadable> {
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match (headers.get(AUTHORIZATION), field("client_secret")) {
        (Some(_), Some(_)) => Err(Unreadable::Twice),
        (Some(value), None) => basic(value.as_bytes()).ok_or(Unreadable::Malformed),
        (None, Some(secret)) => {
            let id = field("client_id").ok_or(Unreadable::Absent)?;
            Ok(Presented { id, secret: Secret::new(secret), method: AuthMethod::Post })
        }
        (None, None) => Err(Unreadable::Absent),
    }
}

fn basic(field: &[u8]) -> Option<Presented> {
    let (scheme, rest) = field.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some(Presented {
        id: form_decoded(id)?,
        secret: Secret::new(form_decoded(secret)?),
        method: AuthMethod::Basic,
    })
}

/// `None` where the text holds what form-encoding would have escaped (RFC 6749 appendix B).
fn form_decoded(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._~+%".contains(&byte);
    if !text.bytes().all(plain) {
        return None;
    }
    // Neither `=` nor `&` is left in it, so that all of it is one name without a value.
    let (name, _) = url::form_urlencoded::parse(text.as_bytes()).next().unwrap_or_default();
    Some(name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic_of(pair: &str) -> Option<Presented> {
        basic(format!("Basic {}", STANDARD.encode(pair)).as_bytes())
    }

    #[test]
    fn both_halves_of_basic_are_form_decoded() {
        let presented = basic_of("cc%3Aodd+id%2B%2F%25:p%C3%A4ss%3D%26").unwrap();
        assert_eq!((presented.id.as_str(), presented.secret.expose().as_str()), ("cc:odd id+/%", "päss=&"));
    }

    #[test]
    fn halves_that_were_not_encoded_are_refused() {
        for pair in ["id:a=b", "id:a&b", "id:a b", "id:ü", "a:b:c", "none"] {
            assert!(basic_of(pair).is_none(), "{pair}");
        }
    }

    #[test]
    fn two_methods_at_once_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Basic aTpz".parse().unwrap());
        let form = [("client_secret".to_owned(), "s".to_owned())];
        assert_eq!(presented(&headers, &form).unwrap_err(), Unreadable::Twice);
        assert_eq!(presented(&HeaderMap::new(), &[]).unwrap_err(), Unreadable::Absent);
    }
}
