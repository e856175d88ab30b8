//! What a token that is bound to a key is sent with (RFC 9449 section 7): the proof of each request.
//!
//! The proxy asks for one for each time that a request goes out. It sees nothing of the key.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};

use crate::clock;
use crate::oauth::{Dpop, KeyError, Nonce, Target, demands_nonce, token_hash};

/// A token's binding to a key.
pub(crate) struct Binding {
    key: Arc<Dpop>,
    token_hash: String,
}

/// What an answer says of the proof that was sent with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing that a second request would fix.
    Final,
    /// The server wants a proof with the nonce that it gives (RFC 9449 section 9), and has done nothing else.
    Again,
}

impl Binding {
    /// Binds `access_token` to the key that it was asked for with.
    #[must_use]
    pub(crate) fn new(key: Arc<Dpop>, access_token: &str) -> Self {
        Self { key, token_hash: token_hash(access_token) }
    }

    /// The value of `DPoP` for one request, made anew at each call. `origin` is the upstream's: scheme, host and port;
    /// `path` is the path as it goes upstream.
    ///
    /// # Errors
    /// [`KeyError::Library`], where the system has no random bytes.
    pub(crate) fn proof(&self, method: &Method, origin: &str, path: &str) -> Result<HeaderValue, KeyError> {
        self.key.proof(Target { method, origin, path }, Some(&self.token_hash), clock::wall())
    }

    /// Takes note of the nonce that `origin` gives with an answer, and says whether the request is to be sent again.
    #[must_use]
    pub(crate) fn judge(&self, origin: &str, status: http::StatusCode, answer: &HeaderMap) -> Verdict {
        let nonce = self.key.take_note(origin, answer);
        let again =
            nonce == Nonce::Given && status == http::StatusCode::UNAUTHORIZED && demands_nonce(answer);
        if again { Verdict::Again } else { Verdict::Final }
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").field("thumbprint", &self.key.thumbprint()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::WWW_AUTHENTICATE;

    use super::*;
    use crate::oauth::DPOP_NONCE;

    #[test]
    fn only_a_401_that_demands_a_nonce_and_gives_one_is_worth_a_second_request() {
        let binding = Binding::new(Arc::new(Dpop::generate().unwrap()), "sentinel");
        let demand = r#"DPoP error="use_dpop_nonce""#;
        for (status, challenge, nonce, want) in [
            (401, Some(demand), Some("n"), Verdict::Again),
            (401, Some(demand), None, Verdict::Final),
            (401, Some(r#"DPoP error="invalid_token""#), Some("n"), Verdict::Final),
            (401, None, Some("n"), Verdict::Final),
            (403, Some(demand), Some("n"), Verdict::Final),
            (200, None, Some("n"), Verdict::Final),
        ] {
            let mut answer = HeaderMap::new();
            if let Some(challenge) = challenge {
                answer.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            if let Some(nonce) = nonce {
                answer.insert(DPOP_NONCE, HeaderValue::from_static(nonce));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(binding.judge("https://api.example", status, &answer), want, "{status} {challenge:?}");
        }
        assert!(!format!("{binding:?}").contains("sentinel"));
    }
}
