//! What a browser brings back from the authorization endpoint (RFC 6749 section 4.1.2), judged before any of it is used.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use url::form_urlencoded;

use crate::secret::Secret;

use crate::oauth::endpoint::report::Report;
use crate::oauth::error::Error;
use crate::oauth::error::kind::{AuthorizationFault, CallbackFault, Code, FoundIssuer};
use crate::oauth::grant::Grant;
use crate::oauth::grant::authorization_code::Pending;

/// The parameters of an authorization response, each as it came; one that came twice counts as none
/// (RFC 6749 section 3.1).
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Callback {
    state: Option<String>,
    code: Option<Secret<String>>,
    issuer: Option<String>,
    error: Option<String>,
    description: Option<String>,
}

impl Callback {
    /// Reads a query, or a form.
    #[must_use]
    pub(crate) fn parse(query: &str) -> Self {
        Self::of(
            form_urlencoded::parse(query.as_bytes())
                .map(|(name, value)| (name.into_owned(), value.into_owned())),
        )
    }

    /// Takes parameters that were read already: of a message from a window.
    pub(crate) fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut callback = Self::default();
        let mut seen = Vec::new();
        for (name, value) in pairs {
            let twice = seen.contains(&name);
            let value = Some(value).filter(|value| !twice && !value.is_empty());
            match name.as_str() {
                "state" => callback.state = value,
                "code" => callback.code = value.map(Secret::new),
                "iss" => callback.issuer = value,
                "error" => callback.error = value,
                "error_description" => callback.description = value,
                _ => continue,
            }
            seen.push(name);
        }
        callback
    }

    /// A code that a page showed, taken for the response to this request: PKCE alone says whether it is.
    #[must_use]
    pub(crate) fn of_code(code: Secret<String>, pending: &Pending) -> Self {
        Self { state: Some(pending.state.expose().clone()), code: Some(code), ..Self::default() }
    }

    /// Whether it answers this request; what does not is a stranger's, or an earlier one's.
    #[must_use]
    pub(crate) fn answers(&self, pending: &Pending) -> bool {
        let state = self.state.as_deref().unwrap_or_default();
        verify_slices_are_equal(state.as_bytes(), pending.state.expose().as_bytes()).is_ok()
    }

    /// Whether it is a response at all: it has a code or an error. An authorization request, or a page that was loaded
    /// again, has the state alone.
    #[must_use]
    pub(crate) const fn is_response(&self) -> bool {
        self.code.is_some() || self.error.is_some()
    }

    /// Whether it has neither state nor code nor error.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.state.is_none() && !self.is_response()
    }

    /// What the server says of its refusal, as an error keeps it.
    pub(in crate::oauth) fn report(&self) -> Report {
        Report::said(self.error.as_deref(), self.description.as_deref())
    }

    /// What the code is redeemed with.
    ///
    /// # Errors
    /// [`Error`] where the server refused, or where the answer is not from the server that was asked
    /// (RFC 9207 section 2.4): then the code goes nowhere.
    pub(crate) fn grant(self, pending: &Pending) -> Result<Grant, Error> {
        match (&self.issuer, &pending.issuer) {
            (None, _) if pending.says_issuer => {
                return Err(Error::here(AuthorizationFault::Callback(CallbackFault::NoIssuer)));
            }
            (Some(stated), Some(known)) if stated != known => {
                let fault = CallbackFault::OtherIssuer {
                    found: FoundIssuer::of(Some(stated)),
                    configured: known.clone(),
                };
                return Err(Error::here(AuthorizationFault::Callback(fault)));
            }
            _ => {}
        }
        if let Some(error) = &self.error {
            return Err(Error::here(AuthorizationFault::Denied(Code::parse(error))));
        }
        let code = self.code.ok_or(Error::here(AuthorizationFault::Callback(CallbackFault::NoCode)))?;
        Ok(Grant::AuthorizationCode {
            code,
            redirect_uri: pending.redirect_uri.clone(),
            verifier: pending.verifier.clone(),
        })
    }
}

/// A code counts as good as a token until it is redeemed.
impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("error", &self.error).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::oauth::client::{Client, ClientAuth};
    use crate::oauth::endpoint::body::Form;
    use crate::oauth::endpoint::remark::{Carried, Remark};
    use crate::oauth::error::situation::{Asked, Situation};

    fn pending(says_issuer: bool) -> Pending {
        Pending {
            state: Secret::new("right".to_owned()),
            nonce: None,
            verifier: Some(Secret::new("sentinel-verifier".to_owned())),
            redirect_uri: "http://127.0.0.1:1/callback".to_owned(),
            issuer: Some("https://as.example".to_owned()),
            says_issuer,
            pushed: false,
        }
    }

    #[test]
    fn only_the_state_that_was_sent_is_an_answer() {
        for query in ["", "code=a", "state=", "state=wrong&code=a", "state=right2", "state=right&state=right"]
        {
            assert!(!Callback::parse(query).answers(&pending(false)), "{query}");
        }
        assert!(Callback::parse("code=a&state=right").answers(&pending(false)));
    }

    #[test]
    fn a_code_is_redeemed_with_what_the_request_had() {
        let grant =
            Callback::parse("state=right&code=a%2Bb&iss=https%3A%2F%2Fas.example").grant(&pending(true));
        let Ok(Grant::AuthorizationCode { code, redirect_uri, verifier }) = grant else {
            panic!("{grant:?}")
        };
        assert_eq!((code.expose().as_str(), redirect_uri.as_str()), ("a+b", "http://127.0.0.1:1/callback"));
        assert_eq!(verifier.unwrap().expose(), "sentinel-verifier");
    }

    #[test]
    fn the_answer_of_another_server_is_not_redeemed() {
        let other = |found| CallbackFault::OtherIssuer {
            found: FoundIssuer::of(Some(found)),
            configured: "https://as.example".to_owned(),
        };
        for (query, says, want) in [
            ("state=right&code=a", true, CallbackFault::NoIssuer),
            ("state=right&code=a&iss=https://evil.example", true, other("https://evil.example")),
            ("state=right&code=a&iss=https://as.example/", false, other("https://as.example/")),
            ("state=right&error=access_denied", true, CallbackFault::NoIssuer),
            ("state=right", false, CallbackFault::NoCode),
            ("state=right&code=a&code=b", false, CallbackFault::NoCode),
        ] {
            let error = Callback::parse(query).grant(&pending(says)).unwrap_err();
            assert_eq!(error, Error::here(AuthorizationFault::Callback(want)), "{query}");
        }
    }

    #[test]
    fn a_refusal_is_a_registered_word_and_its_description_is_plain_text() {
        let query = "state=right&error=access_denied&error_description=%1b%5B2J%3Cscript%3E%0a%E2%80%AEno";
        let callback = Callback::parse(query);
        let client = Client { id: "orders".to_owned(), auth: ClientAuth::None };
        let situation = Situation::of(Asked::Authorization, &client);
        let details =
            callback.report().details(StatusCode::BAD_REQUEST, Form::Other, &Carried::default(), situation);
        assert_eq!(details.remark.as_ref().map(Remark::as_str), Some("[2J<script> no"));
        let error = callback.grant(&pending(false)).unwrap_err();
        assert_eq!((error.cause(), error.code()), ("access_denied", Some(Code::AccessDenied)));
        let error = Callback::parse("state=right&error=s3cret").grant(&pending(false)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }

    #[test]
    fn a_callback_never_prints_its_code() {
        assert!(!format!("{:?}", Callback::parse("state=a&code=sentinel")).contains("sentinel"));
    }
}
