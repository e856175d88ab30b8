//! Client authentication at one request: what the configured method shows (RFC 6749 section 2.3, RFC 7523 section 2.2).
//!
//! Two steps. [`ClientAuth::read`] reads secrets and keys, once for an attempt: a file that changed counts at the next.
//! [`Keys::prove`] makes the proof for one request of it; a second request, be it the same one again, has its own. The
//! token endpoint, introspection and revocation authenticate alike.

use std::time::SystemTime;

use url::Url;

use crate::secret::Secret;

use super::assertion::{Claims, Signer};
use super::client::{AssertionAudience, Client, ClientAuth};
use super::endpoint::read;
use super::error::Error;
use super::kind::Kind;
use super::server::Issuer;

/// Secrets and keys of a client, as they were read for one attempt.
pub(super) enum Keys {
    Basic(Secret<String>),
    Post(Secret<String>),
    Signer { signer: Signer, audience: AssertionAudience },
    Assertion(Secret<String>),
    Nothing,
}

/// What a client shows at one request.
pub(super) enum Proof {
    /// HTTP Basic, with this secret.
    Basic(Secret<String>),
    /// `client_secret` in the form.
    Post(Secret<String>),
    /// `client_assertion` in the form (RFC 7521 section 4.2).
    Assertion(Secret<String>),
    /// `client_id` alone; it may be that the connection's certificate says the rest.
    Nothing,
}

/// Whom an assertion may be for: both are configured, or vouched for by metadata of the configured issuer. An audience
/// out of any other answer would let one server ask for assertions that another takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience<'a> {
    pub(super) issuer: Option<&'a Issuer>,
    pub(super) token_endpoint: &'a Url,
}

impl ClientAuth {
    /// Reads what this method needs, now.
    pub(super) async fn read(&self) -> Result<Keys, Error> {
        Ok(match self {
            Self::SecretBasic(source) => Keys::Basic(read(source).await?),
            Self::SecretPost(source) => Keys::Post(read(source).await?),
            Self::SecretJwt { secret, audience } => Keys::Signer {
                signer: Signer::secret(read(secret).await?).map_err(Error::here)?,
                audience: *audience,
            },
            Self::PrivateKeyJwt { key, audience } => {
                Keys::Signer { signer: Signer::read(key).await?, audience: *audience }
            }
            Self::AssertionFile(source) => Keys::Assertion(read(source).await?),
            Self::Tls | Self::None => Keys::Nothing,
        })
    }
}

impl Keys {
    /// The proof for one request. `now` is the server's clock, as far as it is known.
    pub(super) fn prove(
        &self,
        client: &Client,
        audience: Audience<'_>,
        now: SystemTime,
    ) -> Result<Proof, Kind> {
        Ok(match self {
            Self::Basic(secret) => Proof::Basic(secret.clone()),
            Self::Post(secret) => Proof::Post(secret.clone()),
            Self::Assertion(assertion) => Proof::Assertion(assertion.clone()),
            Self::Nothing => Proof::Nothing,
            Self::Signer { signer, audience: whom } => {
                let audience = match whom {
                    AssertionAudience::Issuer => audience.issuer.ok_or(Kind::NoIssuer)?.as_str(),
                    AssertionAudience::Endpoint => audience.token_endpoint.as_str(),
                };
                let claims = Claims { issuer: &client.id, subject: Some(&client.id), audience, scope: None };
                Proof::Assertion(signer.write(&claims, now).map_err(|_| Kind::Panicked)?)
            }
        })
    }

    /// Whether the proof says when it was made: then a server whose clock is elsewhere refuses it.
    pub(super) const fn are_dated(&self) -> bool {
        matches!(self, Self::Signer { .. })
    }
}

/// What `client_assertion_type` says (RFC 7523 section 2.2).
pub(super) const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
