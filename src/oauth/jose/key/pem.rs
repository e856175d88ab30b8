//! The first private key in a PEM text (RFC 7468).
//!
//! Not `rustls::pki_types::pem`, which reads the certificates and keys of TLS (`net::pem`): it leaves the key's base64
//! in memory, takes no key whose line breaks were lost on the way, and does not tell an encrypted key or one in
//! OpenSSH's format from none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::KeyError;

/// What is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `PRIVATE KEY` (RFC 5958).
    Pkcs8,
    /// `RSA PRIVATE KEY` (RFC 8017 appendix A.1.2).
    Pkcs1,
    /// `EC PRIVATE KEY` (RFC 5915).
    Sec1,
}

/// Finds the first private key. Certificates and parameters before it are passed over.
pub(super) fn private_key(text: &str) -> Result<(Form, Zeroizing<Vec<u8>>), KeyError> {
    let mut rest = text;
    let mut without_key = KeyError::NotAKey;
    while let Some(at) = rest.find(BEGIN) {
        let (label, after) = rest[at + BEGIN.len()..].split_once(DASHES).ok_or(KeyError::Malformed)?;
        let end = after.find(END).ok_or(KeyError::Malformed)?;
        let (body, next) = after.split_at(end);
        let form = match label {
            "PRIVATE KEY" => Form::Pkcs8,
            "RSA PRIVATE KEY" => Form::Pkcs1,
            "EC PRIVATE KEY" => Form::Sec1,
            "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
            "OPENSSH PRIVATE KEY" => return Err(KeyError::OpenSsh),
            other => {
                // Another kind of private key is none that helps to find; a public part may stand before a private one.
                without_key = if other.ends_with("PRIVATE KEY") { KeyError::Kind } else { KeyError::Public };
                rest = next;
                continue;
            }
        };
        if !next[END.len()..].starts_with(label) {
            return Err(KeyError::Malformed);
        }
        // OpenSSL's older way to encrypt writes headers into the body (RFC 1421 section 4.6).
        if body.contains("ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        return Ok((form, decode(body)?));
    }
    Err(without_key)
}

fn decode(body: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    // Both have their full size at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    text.extend(body.bytes().filter(|b| !b.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = STANDARD.decode_slice(&*text, &mut der).map_err(|_| KeyError::Malformed)?;
    der.truncate(length);
    Ok(der)
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
