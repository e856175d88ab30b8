//! Encryption of what is stored: AES-256-GCM under a key that the operator keeps somewhere else.
//!
//! The token's name and the version are bound in, so that one entry cannot be put in the place of another. The key is
//! read at each use, as all secrets are.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use data_encoding::HEXLOWER_PERMISSIVE;
use zeroize::Zeroizing;

use crate::secret::{Secret, SecretSource};

use super::entry::Flaw;
use super::store_error::StoreError;

/// A key for entries.
#[derive(Debug)]
pub(super) struct SealingKey(Secret<[u8; 32]>);

/// Why a sealed entry could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnsealError {
    /// It was sealed with another key.
    OtherKey,
    /// It is not what was sealed.
    Flaw(Flaw),
}

impl SealingKey {
    /// Reads the key now: 32 bytes in base64 or hexadecimal.
    pub(super) fn read(source: &SecretSource) -> Result<Self, StoreError> {
        let text = source.read()?;
        Self::parse(text.expose()).ok_or(StoreError::KeyMalformed)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes = match text.len() {
            64 => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
            _ => [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
                .iter()
                .find_map(|engine| engine.decode(text).ok()),
        };
        Some(Self(Secret::new(Zeroizing::new(bytes?).as_slice().try_into().ok()?)))
    }

    /// Tells keys apart in a file; it says nothing of the key that a guess at 32 random bytes could use.
    fn id(&self) -> [u8; ID_LEN] {
        let mut context = Context::new(&SHA256);
        context.update(b"cupbearer store key id");
        context.update(self.0.expose());
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&context.finish().as_ref()[..ID_LEN]);
        id
    }

    fn cipher(&self) -> RandomizedNonceKey {
        RandomizedNonceKey::new(&AES_256_GCM, self.0.expose()).expect("the key has the algorithm's length")
    }

    /// Seals an entry of the token `name`.
    pub(super) fn seal(&self, name: &str, plain: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut sealed = Zeroizing::new(Vec::with_capacity(plain.len() + AES_256_GCM.tag_len()));
        sealed.extend_from_slice(plain);
        let nonce = self
            .cipher()
            .seal_in_place_append_tag(aad(name), &mut *sealed)
            .expect("an entry is shorter than what one nonce can seal");
        let mut out = Zeroizing::new(Vec::with_capacity(HEAD_LEN + sealed.len()));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.id());
        out.extend_from_slice(nonce.as_ref());
        out.extend_from_slice(&sealed);
        out
    }

    /// Opens what [`is_sealed`].
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let corrupt = UnsealError::Flaw(Flaw::Corrupt);
        let rest = sealed.strip_prefix(MAGIC).ok_or(corrupt)?;
        let (id, rest) = rest.split_at_checked(ID_LEN).ok_or(corrupt)?;
        if id != self.id() {
            return Err(UnsealError::OtherKey);
        }
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN).ok_or(corrupt)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| corrupt)?;
        let mut bytes = Zeroizing::new(rest.to_vec());
        let opened = self.cipher().open_in_place(nonce, aad(name), &mut bytes);
        let length = opened.map_err(|_| UnsealError::Flaw(Flaw::Tampered))?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Whether `text` is a key that entries can be encrypted with: 32 bytes in base64 or hexadecimal.
#[must_use]
pub(crate) fn is_encryption_key(text: &str) -> bool {
    SealingKey::parse(text).is_some()
}

/// Whether these bytes are a sealed entry, of this version or another.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC[..MAGIC.len() - 1])
}

/// Whether a later release sealed it.
pub(super) fn is_newer(bytes: &[u8]) -> bool {
    is_sealed(bytes) && !bytes.starts_with(MAGIC) && bytes.len() >= MAGIC.len()
}

fn aad(name: &str) -> Aad<Vec<u8>> {
    Aad::from([MAGIC, name.as_bytes()].concat())
}

/// What a sealed entry begins with; the last byte is its version.
const MAGIC: &[u8] = b"cupbearer sealed\n\x01";
const ID_LEN: usize = 8;
const HEAD_LEN: usize = MAGIC.len() + ID_LEN + NONCE_LEN;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey(Secret::new([byte; 32]))
    }

    #[test]
    fn a_key_is_taken_in_base64_and_in_hexadecimal() {
        let want = SealingKey::parse(&"07".repeat(32)).unwrap();
        for text in [STANDARD.encode([7; 32]), URL_SAFE_NO_PAD.encode([7; 32])] {
            assert_eq!(SealingKey::parse(&text).unwrap().id(), want.id(), "{text}");
        }
        for wrong in
            [String::new(), "07".repeat(31), STANDARD.encode([7; 31]), "+x".repeat(32), "é".repeat(32)]
        {
            assert!(SealingKey::parse(&wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{want:?}").contains('7'));
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_name_alone() {
        let sealed = key(1).seal("api", b"sentinel");
        assert!(is_sealed(&sealed) && !is_newer(&sealed));
        assert!(!sealed.windows(8).any(|window| window == b"sentinel"));
        assert_eq!(**key(1).open("api", &sealed).unwrap(), *b"sentinel");
        assert_eq!(key(2).open("api", &sealed), Err(UnsealError::OtherKey));
        assert_eq!(key(1).open("other", &sealed), Err(UnsealError::Flaw(Flaw::Tampered)));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key(1).open("api", &changed).is_err(), "{at}");
            assert!(key(1).open("api", &sealed[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn two_seals_of_one_entry_differ() {
        assert_ne!(key(1).seal("api", b"x"), key(1).seal("api", b"x"));
    }

    #[test]
    fn a_later_release_is_known_by_its_version() {
        let mut sealed = key(1).seal("api", b"x");
        sealed[MAGIC.len() - 1] = 2;
        assert!(is_sealed(&sealed) && is_newer(&sealed));
    }
}
