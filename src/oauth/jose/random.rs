//! Words that cannot be guessed: `state`, `nonce` and code verifiers.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::secret::Secret;

use crate::oauth::error::kind::{ErrorKind, RequestFault};

/// 256 bits of the system's random source in 43 characters of the unreserved set (RFC 7636 section 4.1).
pub(in crate::oauth) fn word() -> Result<Secret<String>, ErrorKind> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(&mut *bytes).map_err(|_| ErrorKind::Request(RequestFault::Panicked))?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_another_and_long_enough_for_a_verifier() {
        let (one, other) = (word().unwrap(), word().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 43);
        assert!(one.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }
}
