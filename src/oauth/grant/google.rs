//! A key file as Google makes it for a service account: JSON with the private key and whose it is.
//!
//! `bearer` reads it, and `config` looks at it. Keys of other kinds that have the same form are refused by name: they are not signed with.

use serde::Deserialize;

use crate::secret::Secret;

use crate::oauth::error::kind::GoogleFault;

/// What a service account's key file says.
#[derive(Debug)]
pub(crate) struct GoogleKey {
    /// `client_email`: who signs.
    pub(crate) email: String,
    /// `private_key`, PKCS #8 in PEM.
    pub(crate) private_key: Secret<String>,
    /// `private_key_id`.
    pub(crate) key_id: Option<String>,
    /// `token_uri`: whom an assertion is for.
    pub(crate) token_uri: Option<String>,
}

impl GoogleKey {
    /// The key, where `text` is a file of Google's; `None`: it is something else, such as PEM or a JWK.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, GoogleFault>> {
        #[derive(Deserialize)]
        struct File {
            r#type: String,
            client_email: Option<String>,
            private_key: Option<String>,
            private_key_id: Option<String>,
            token_uri: Option<String>,
        }
        if !text.trim_start().starts_with('{') {
            return None;
        }
        let file: File = serde_json::from_str(text).ok()?;
        // In custody before anything else is looked at.
        let private_key = file.private_key.map(Secret::new).filter(|key| !key.expose().is_empty());
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        if file.r#type != "service_account" {
            return Some(Err(GoogleFault::Type));
        }
        Some(match (said(file.client_email), private_key) {
            (Some(email), Some(private_key)) => Ok(Self {
                email,
                private_key,
                key_id: said(file.private_key_id),
                token_uri: said(file.token_uri),
            }),
            (None, _) => Err(GoogleFault::Missing("client_email")),
            (_, None) => Err(GoogleFault::Missing("private_key")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_accounts_file_is_read_and_never_printed() {
        let text = r#"{"type":"service_account","project_id":"p","private_key_id":"k1",
            "private_key":"-----BEGIN PRIVATE KEY-----\nsentinel\n-----END PRIVATE KEY-----\n",
            "client_email":"a@p.example","token_uri":"https://oauth2.example/token"}"#;
        let key = GoogleKey::parse(text).unwrap().unwrap();
        assert_eq!((key.email.as_str(), key.key_id.as_deref()), ("a@p.example", Some("k1")));
        assert_eq!(key.token_uri.as_deref(), Some("https://oauth2.example/token"));
        assert!(key.private_key.expose().contains("\nsentinel\n"));
        assert!(!format!("{key:?}").contains("sentinel"));
    }

    #[test]
    fn a_file_of_googles_that_is_no_service_accounts_key_is_refused_by_what_it_lacks() {
        for (text, want) in [
            (r#"{"type":"authorized_user","refresh_token":"sentinel"}"#, GoogleFault::Type),
            (r#"{"type":"external_account"}"#, GoogleFault::Type),
            (r#"{"type":"service_account","private_key":"x"}"#, GoogleFault::Missing("client_email")),
            (
                r#"{"type":"service_account","client_email":"a","private_key":""}"#,
                GoogleFault::Missing("private_key"),
            ),
        ] {
            assert_eq!(GoogleKey::parse(text).unwrap().unwrap_err(), want, "{text}");
        }
    }

    #[test]
    fn pem_and_jwks_are_none_of_googles() {
        for text in ["-----BEGIN PRIVATE KEY-----", r#"{"kty":"EC","crv":"P-256"}"#, "{", "[]", ""] {
            assert!(GoogleKey::parse(text).is_none(), "{text}");
        }
    }
}
