//! The credentials that the application sends itself, and what they are to its route.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::net::single_field::only;
use crate::proxy::error::{BadRequest, ProxyError, TokenFault};
use crate::proxy::settings::OwnAuthorization;
use crate::secret::Secret;
use crate::token::TokenHandle;

/// The credentials that the application brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    None,
    One,
    Several,
}

impl Own {
    /// Looks for them in Authorization and in the field that the token has. An empty one is none.
    pub(crate) fn of(headers: &HeaderMap, token: Option<&TokenHandle>) -> Self {
        let field =
            token.map(|token| &token.settings().attachment.header).filter(|field| *field != AUTHORIZATION);
        let values = std::iter::once(&AUTHORIZATION).chain(field).flat_map(|name| headers.get_all(name));
        Self::count(values)
    }

    fn count<'h>(values: impl Iterator<Item = &'h HeaderValue>) -> Self {
        match values.filter(|value| !value.as_bytes().trim_ascii().is_empty()).count() {
            0 => Self::None,
            1 => Self::One,
            _ => Self::Several,
        }
    }
}

/// Whether the application's own credentials go upstream instead of `token`: those in the field that `token` has. Of several
/// it is not for us to choose.
pub(super) fn keeps_own(
    own: OwnAuthorization,
    headers: &HeaderMap,
    token: &TokenHandle,
) -> Result<bool, BadRequest> {
    // A caller's own token is there to be traded in, and never goes upstream.
    if own != OwnAuthorization::Keep || token.is_per_caller() {
        return Ok(false);
    }
    match (brought(headers, &AUTHORIZATION), brought(headers, &token.settings().attachment.header)) {
        (Own::Several, _) | (_, Own::Several) => Err(BadRequest::Credentials),
        (_, own) => Ok(own == Own::One),
    }
}

/// Whether the application's Authorization goes upstream beside `token`, which has a field of its own.
pub(super) fn goes_beside(own: OwnAuthorization, token: &TokenHandle) -> bool {
    own == OwnAuthorization::Keep
        && !token.is_per_caller()
        && token.settings().attachment.header != AUTHORIZATION
}

/// What the application brings in one field. An empty one is none.
fn brought(headers: &HeaderMap, name: &HeaderName) -> Own {
    Own::count(headers.get_all(name).iter())
}

/// The one field that the caller's own credentials stand in; of several it is not for us to choose.
pub(super) fn only_authorization(headers: &HeaderMap) -> Result<HeaderValue, ProxyError> {
    let mut value = only(headers, &AUTHORIZATION).ok_or(TokenFault::SubjectRequired)?.clone();
    value.set_sensitive(true);
    Ok(value)
}

/// The caller's own Bearer token (RFC 6750 section 2.1).
pub(crate) fn subject(credentials: &HeaderValue) -> Result<Secret<String>, ProxyError> {
    let token = credentials.to_str().ok().and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        Some(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("Bearer"))
    });
    match token {
        Some(token) if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Secret::new(token.to_owned()))
        }
        _ => Err(ProxyError::Token(TokenFault::SubjectRequired)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_brings_exactly_one_bearer_token() {
        let subject_of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            let token = subject(&only_authorization(&headers).ok()?).ok()?;
            Some(token.expose().clone())
        };
        for value in ["Bearer t0ken", "bearer t0ken", "BEARER   t0ken "] {
            assert_eq!(subject_of(&[value]).as_deref(), Some("t0ken"), "{value}");
        }
        for values in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a b"],
            &["Basic dTpw"],
            &["DPoP t0ken"],
            &["t0ken"],
            &["Bearer a", "Bearer b"],
            &["Bearer a", ""],
        ] {
            assert_eq!(subject_of(values), None, "{values:?}");
        }
    }
}
