//! What little of DER (X.690) is read here: which kind of key a PKCS #8 holds, and the two numbers of a public RSA key.

use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};

use super::pem::Form;
use super::{Curve, KeyError, Pair};

/// Reads a key.
pub(super) fn pair(form: Form, der: &[u8]) -> Result<Pair, KeyError> {
    // The library calls all that it cannot read by one name; what is no DER at all is told apart here.
    let (SEQUENCE, _, &[]) = element(der).ok_or(KeyError::Malformed)? else {
        return Err(KeyError::Malformed);
    };
    match form {
        Form::Pkcs1 => Ok(Pair::Rsa(RsaKeyPair::from_der(der)?)),
        Form::Sec1 => elliptic(der),
        Form::Pkcs8 => match algorithm(der).ok_or(KeyError::Malformed)? {
            RSA => Ok(Pair::Rsa(RsaKeyPair::from_pkcs8(der)?)),
            ELLIPTIC_CURVE => elliptic(der),
            ED25519 => Ok(Pair::Ed25519(Ed25519KeyPair::from_pkcs8(der)?)),
            _ => Err(KeyError::Kind),
        },
    }
}

fn elliptic(der: &[u8]) -> Result<Pair, KeyError> {
    // The curve's name is in the key, wherever its form puts it; the library takes no other, and says not why.
    let is_named = |name: &[u8]| der.windows(name.len()).any(|window| window == name);
    let curve = Curve::ALL.into_iter().find(|curve| is_named(curve.identifier())).ok_or(KeyError::Kind)?;
    Ok(Pair::Elliptic(curve, EcdsaKeyPair::from_private_key_der(curve.signing(), der)?))
}

/// The object identifier of the algorithm in a `PrivateKeyInfo` (RFC 5958 section 2).
fn algorithm(pkcs8: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, info, _) = element(pkcs8)? else { return None };
    let (INTEGER, _version, rest) = element(info)? else { return None };
    let (SEQUENCE, identifier, _) = element(rest)? else { return None };
    let (OBJECT_IDENTIFIER, oid, _) = element(identifier)? else { return None };
    Some(oid)
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017 appendix A.1.1), without leading zeros.
pub(super) fn rsa_public(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (SEQUENCE, numbers, _) = element(der)? else { return None };
    let (INTEGER, modulus, rest) = element(numbers)? else { return None };
    let (INTEGER, exponent, _) = element(rest)? else { return None };
    Some((without_sign(modulus), without_sign(exponent)))
}

/// DER writes a zero before a number whose first bit is set.
fn without_sign(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}

/// Tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// 1.2.840.113549.1.1.1 (RFC 8017 appendix C).
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1 (RFC 5480 section 2.1.1).
const ELLIPTIC_CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.3.101.112 (RFC 8410 section 3).
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
