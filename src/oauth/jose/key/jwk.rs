//! JSON Web Keys (RFC 7517, RFC 7518 section 6, RFC 8037 section 2): a private one read, the public half written.

use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Curve, KeyError, Pair, der};

/// A private JWK.
pub(super) struct Jwk {
    pub(super) pair: Pair,
    pub(super) algorithm: Option<String>,
    pub(super) key_id: Option<String>,
}

/// The members that count. The numbers are borrowed: no copy of them is left behind.
#[derive(Deserialize)]
struct Members<'a> {
    kty: Option<String>,
    crv: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    x: Option<&'a str>,
    y: Option<&'a str>,
    d: Option<&'a str>,
    n: Option<&'a str>,
    e: Option<&'a str>,
    p: Option<&'a str>,
    q: Option<&'a str>,
    dp: Option<&'a str>,
    dq: Option<&'a str>,
    qi: Option<&'a str>,
}

/// Reads a private JWK.
pub(super) fn parse(text: &str) -> Result<Jwk, KeyError> {
    let members: Members<'_> = serde_json::from_str(text).map_err(|_| KeyError::NotAJwk)?;
    if members.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Err(KeyError::Member("use"));
    }
    let pair = match (members.kty.as_deref(), members.crv.as_deref()) {
        (None, _) => return Err(KeyError::NotAJwk),
        (Some("RSA"), _) => rsa(&members)?,
        (Some("EC"), Some(name)) => {
            let curve = Curve::ALL.into_iter().find(|curve| curve.name() == name);
            elliptic(curve.ok_or(KeyError::Kind)?, &members)?
        }
        (Some("OKP"), Some("Ed25519")) => ed25519(&members)?,
        (Some("EC" | "OKP"), None) => return Err(KeyError::Member("crv")),
        _ => return Err(KeyError::Kind),
    };
    Ok(Jwk { pair, algorithm: members.alg, key_id: members.kid })
}

fn rsa(members: &Members<'_>) -> Result<Pair, KeyError> {
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n: number("n", members.n)?, e: number("e", members.e)? },
        d: number("d", members.d)?,
        p: number("p", members.p)?,
        q: number("q", members.q)?,
        dP: number("dp", members.dp)?,
        dQ: number("dq", members.dq)?,
        qInv: number("qi", members.qi)?,
    };
    // The library looks at the parts first, and has no good word for a short key.
    if components.public_key.n.len() * 8 < MIN_RSA_BITS {
        return Err(KeyError::TooShort);
    }
    Ok(Pair::Rsa(RsaKeyPair::from_components(&components)?))
}

fn elliptic(curve: Curve, members: &Members<'_>) -> Result<Pair, KeyError> {
    let part = |name, member| exactly(curve.bytes(), name, member);
    let (x, y, d) = (part("x", members.x)?, part("y", members.y)?, part("d", members.d)?);
    // SEC 1 section 2.3.3: a point that is not compressed.
    let point = [&[0x04], x.as_slice(), y.as_slice()].concat();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &d, &point)?;
    Ok(Pair::Elliptic(curve, pair))
}

fn ed25519(members: &Members<'_>) -> Result<Pair, KeyError> {
    let (x, d) = (exactly(ED25519_BYTES, "x", members.x)?, exactly(ED25519_BYTES, "d", members.d)?);
    Ok(Pair::Ed25519(Ed25519KeyPair::from_seed_and_public_key(&d, &x)?))
}

/// A member in base64url: without padding and leading zeros (RFC 7518 section 2), though some write both.
fn number(name: &'static str, member: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let bytes = octets(name, member)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    match &bytes[zeros..] {
        [] => Err(KeyError::Member(name)),
        number if zeros > 0 => Ok(Zeroizing::new(number.to_vec())),
        _ => Ok(bytes),
    }
}

/// A member of exactly `length` bytes: as the curve has it (RFC 7518 section 6.2.1.2, RFC 8032 section 5.1.5).
fn exactly(length: usize, name: &'static str, member: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    octets(name, member)
        .and_then(|bytes| if bytes.len() == length { Ok(bytes) } else { Err(KeyError::Member(name)) })
}

fn octets(name: &'static str, member: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = member.ok_or(KeyError::Member(name))?.trim_end_matches('=');
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| KeyError::Member(name))?;
    bytes.truncate(length);
    Ok(bytes)
}

/// The public half, in the form that RFC 7638 section 3 hashes.
pub(super) fn public(pair: &Pair) -> Result<String, KeyError> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Ok(match pair {
        Pair::Rsa(pair) => {
            let (modulus, exponent) = der::rsa_public(pair.public_key().as_ref()).ok_or(KeyError::Library)?;
            format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(exponent), text(modulus))
        }
        Pair::Elliptic(curve, pair) => {
            // One byte says that the point is not compressed.
            let point = pair.public_key().as_ref();
            let (x, y) = point
                .get(1..)
                .and_then(|both| both.split_at_checked(curve.bytes()))
                .ok_or(KeyError::Library)?;
            format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, curve.name(), text(x), text(y))
        }
        Pair::Ed25519(pair) => {
            format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(pair.public_key().as_ref()))
        }
    })
}

/// RFC 8032 section 5.1.5.
const ED25519_BYTES: usize = 32;
/// RFC 7518 section 3.3.
const MIN_RSA_BITS: usize = 2048;
