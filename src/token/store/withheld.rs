//! A password that is no longer sent, told apart without keeping it.
//!
//! A person's password has few letters, so its mark is salted and slow to search for (PBKDF2, RFC 8018). `source::stored`
//! keeps one beside a token whose password was refused too often: neither a restart nor a replica sends it again.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::secret::Secret;

/// The mark of a password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct WithheldMark {
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

impl WithheldMark {
    /// Of `password`, each time another one; `None`: this machine has no random numbers. Takes a good part of a second.
    #[must_use]
    pub(crate) fn of(password: &Secret<String>) -> Option<Self> {
        let (mut salt, mut hash) = ([0; SALT_BYTES], [0; HASH_BYTES]);
        aws_lc_rs::rand::fill(&mut salt).ok()?;
        pbkdf2::derive(PBKDF2_HMAC_SHA256, ROUNDS, &salt, password.expose().as_bytes(), &mut hash);
        Some(Self { salt, hash })
    }

    /// Whether it is that of `password`. Takes as long.
    #[must_use]
    pub(crate) fn is_of(&self, password: &Secret<String>) -> bool {
        let password = password.expose().as_bytes();
        pbkdf2::verify(PBKDF2_HMAC_SHA256, ROUNDS, &self.salt, password, &self.hash).is_ok()
    }

    pub(super) fn encode(self) -> String {
        URL_SAFE_NO_PAD.encode([&self.salt[..], &self.hash].concat())
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (salt, hash) = bytes.split_at_checked(SALT_BYTES)?;
        Some(Self { salt: salt.try_into().ok()?, hash: hash.try_into().ok()? })
    }
}

/// A hash can be searched for: it is not shown.
impl fmt::Debug for WithheldMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithheldMark").finish_non_exhaustive()
    }
}

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// What OWASP's Password Storage Cheat Sheet has for PBKDF2-HMAC-SHA256.
const ROUNDS: NonZeroU32 = match NonZeroU32::new(600_000) {
    Some(rounds) => rounds,
    None => NonZeroU32::MIN,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_knows_its_password_and_shows_nothing_of_it() {
        let password = Secret::new("wonder".to_owned());
        let mark = WithheldMark::of(&password).unwrap();
        assert_ne!(Some(mark), WithheldMark::of(&password), "another salt each time");
        assert_eq!(WithheldMark::decode(&mark.encode()), Some(mark));
        assert!(mark.is_of(&password) && !mark.is_of(&Secret::new("wonder ".to_owned())));
        assert_eq!(format!("{mark:?}"), "WithheldMark { .. }");
        for text in ["", "AAAA", "!", &"A".repeat(65)] {
            assert_eq!(WithheldMark::decode(text), None, "{text}");
        }
    }
}
