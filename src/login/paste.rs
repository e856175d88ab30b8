//! The address that a browser on another machine ended at, as a person brings it by hand: it may be quoted, broken into
//! lines, or another address altogether.

use url::{Position, Url};

use crate::oauth::Callback;
use crate::secret::Secret;

/// Why an address that was given by hand was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasteError {
    /// No login with a browser waits for one.
    #[error("no login with a browser is under way")]
    NoLogin,
    /// It is no address.
    #[error(
        "this is not an address; copy the whole address that the browser ended at, from http: to its last character"
    )]
    NoAddress,
    /// It is where the login begins.
    #[error(
        "this is the address to open, where the login begins; open it in a browser, log in there, and paste the address that the browser ends at"
    )]
    Authorization,
    /// It has neither state nor code nor error.
    #[error(
        "this address has no code in it, so it is not the one that the browser ends at after the login; that one has `code=` and `state=` in it"
    )]
    NoCode,
    /// It is another login's, or not whole.
    #[error(
        "this address does not answer the login that is under way; copy the whole address that the browser ended at"
    )]
    StateMismatch,
}

/// What a person pasted.
pub(super) struct Pasted {
    pub(super) callback: Callback,
    /// What may be a code alone.
    pub(super) code: Option<Secret<String>>,
    /// The address, where it is a whole one.
    url: Option<Url>,
}

impl Pasted {
    /// Reads `text`: an address, or the part of it from the question mark on.
    pub(super) fn read(text: &str) -> Result<Self, PasteError> {
        // A terminal or a mail breaks a long line; no address has a space in it.
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let text = text.trim_matches(['"', '\'', '`', '<', '>']);
        if let Ok(url) = Url::parse(text) {
            let parameters =
                url.query().filter(|query| !Callback::parse(query).is_empty()).or(url.fragment());
            let callback = Callback::parse(parameters.unwrap_or_default());
            return Ok(Self { callback, code: None, url: Some(url) });
        }
        let query = text.split_once('?').map_or(text, |(_, query)| query);
        let callback = Callback::parse(query);
        let is_code = callback.is_empty()
            && text.len() >= SHORTEST_CODE
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if callback.is_empty() && !is_code {
            return Err(PasteError::NoAddress);
        }
        let code = is_code.then(|| Secret::new(text.to_owned()));
        Ok(Self { callback, code, url: None })
    }

    /// Why it does not end the login that began at `authorization`, where its response does not answer that.
    pub(super) fn fault(&self, authorization: Option<&Url>) -> PasteError {
        if self.code.is_some() {
            return PasteError::NoAddress;
        }
        if self.callback.is_response() {
            return PasteError::StateMismatch;
        }
        let begins = |url: &Url| {
            authorization.is_some_and(|begin| url[..Position::AfterPath] == begin[..Position::AfterPath])
                || url.query_pairs().any(|(name, _)| REQUEST_PARAMETERS.contains(&&*name))
        };
        if self.url.as_ref().is_some_and(begins) { PasteError::Authorization } else { PasteError::NoCode }
    }
}

/// No server gives a shorter code.
const SHORTEST_CODE: usize = 6;

/// What an authorization request has, and no response.
const REQUEST_PARAMETERS: [&str; 4] = ["response_type", "code_challenge", "request_uri", "redirect_uri"];

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<PasteError> {
        let begin = Url::parse("https://as.example/auth?tenant=1").unwrap();
        match Pasted::read(text) {
            Ok(pasted) if pasted.callback.is_response() => None,
            Ok(pasted) => Some(pasted.fault(Some(&begin))),
            Err(error) => Some(error),
        }
    }

    #[test]
    fn the_last_address_is_read_as_people_bring_it() {
        for text in [
            "http://127.0.0.1:1/cb?code=a&state=b",
            "\"http://127.0.0.1:1/cb?code=a&state=b\"",
            "<http://127.0.0.1:1/cb?code=a&\n  state=b>",
            "http://127.0.0.1:1/cb#code=a&state=b",
            "/cb?code=a&state=b",
            "?code=a&state=b",
            "code=a&state=b",
            "http://127.0.0.1:1/cb?error=access_denied&state=b",
        ] {
            assert_eq!(fault(text), None, "{text}");
        }
    }

    #[test]
    fn a_code_alone_is_read_and_no_address_is_one() {
        let code = |text: &str| Some(Pasted::read(text).ok()?.code?.expose().clone());
        for text in ["4/0AX4XfWh-abc", " 4/0AX4XfWh\n-abc \n", "\"4/0AX4XfWh-abc\""] {
            assert_eq!(code(text).as_deref(), Some("4/0AX4XfWh-abc"), "{text}");
        }
        for text in ["yes", "", "code=a&state=b", "http://127.0.0.1:1/cb?code=a&state=b", "größer"] {
            assert_eq!(code(text), None, "{text}");
        }
        assert_eq!(fault("4/0AX4XfWh-abc"), Some(PasteError::NoAddress), "where an address is wanted");
    }

    #[test]
    fn another_address_is_told_for_what_it_is() {
        for (text, want) in [
            ("https://as.example/auth?tenant=1&state=b&response_type=code", PasteError::Authorization),
            ("https://as.example/auth?request_uri=urn:x", PasteError::Authorization),
            ("https://as.example/other?client_id=a&redirect_uri=b&state=c", PasteError::Authorization),
            ("https://as.example/login?session=1", PasteError::NoCode),
            ("http://127.0.0.1:1/cb?state=b", PasteError::NoCode),
            ("http://127.0.0.1:1/cb", PasteError::NoCode),
            ("yes", PasteError::NoAddress),
            ("", PasteError::NoAddress),
        ] {
            assert_eq!(fault(text), Some(want), "{text}");
        }
    }
}
