//! Who asks: an OAuth client (RFC 6749 section 2) and how it authenticates at the token endpoint.

use crate::secret::SecretSource;

/// A registered client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client identifier (RFC 6749 section 2.2).
    pub id: String,
    /// How the client proves that it is the one.
    pub auth: ClientAuth,
}

/// Client authentication (RFC 6749 section 2.3). Exactly the configured method is used, never probed: a wrong
/// guess would spend a grant that counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `client_secret_basic`: HTTP Basic, both halves form-encoded first (RFC 6749 section 2.3.1).
    SecretBasic(SecretSource),
    /// `client_secret_post`: in the form body.
    SecretPost(SecretSource),
}

impl ClientAuth {
    /// Where the secret comes from.
    #[must_use]
    pub const fn secret(&self) -> &SecretSource {
        match self {
            Self::SecretBasic(source) | Self::SecretPost(source) => source,
        }
    }
}
