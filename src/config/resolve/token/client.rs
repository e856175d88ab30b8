//! The client: who asks, and how it proves that it is the one.

use std::path::PathBuf;

use super::meaning::auth_word;
use super::{jwt, key};
use crate::config::file::{self, Grant, Token};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::resolve::certificates::{self, Pair};
use crate::config::secret_ref::{Found, Need, Variables, Wanted, Written};
use crate::net::tls::ClientCertificate;
use crate::oauth::{AssertionAudience, Client, ClientAuth, HmacAlgorithm};

/// The certificates of a client.
pub(super) struct Certificates {
    /// What its connections present.
    pub(super) transport: Option<ClientCertificate>,
    /// What its assertions name (`x5t#S256`).
    assertion: Option<PathBuf>,
}

/// Reads `client_cert_file` and `client_cert_key_file`. `None` only where one of them has a problem.
pub(super) fn certificates(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<Certificates> {
    let auth = auth(path, token, review);
    let pair = Pair {
        whose: "the client's",
        cert: (path.key("client_cert_file"), token.client_cert_file.as_deref()),
        key: (path.key("client_cert_key_file"), token.client_cert_key_file.as_deref()),
    };
    let needs = auth == file::ClientAuth::TlsClientAuth && !review.is_spoken_for(&path.key("client_auth"));
    if needs && pair.is_empty() {
        for (key, what) in [
            (&pair.cert.0, "client_auth = \"tls_client_auth\" needs a certificate"),
            (&pair.key.0, "client_auth = \"tls_client_auth\" needs the certificate's private key"),
        ] {
            review.missing(key, what, review.set(key));
        }
        return None;
    }
    if let ((cert_path, Some(cert)), (_, None)) = (&pair.cert, &pair.key)
        && auth == file::ClientAuth::PrivateKeyJwt
    {
        let file = certificates::client_certificate_file(cert_path, cert, review)?;
        return Some(Certificates { transport: None, assertion: Some(file) });
    }
    let transport = pair.load(review).ok()?;
    Some(Certificates { transport, assertion: None })
}

/// Who asks. `None` only where something was reported, `certificates` being `None` included.
pub(super) fn resolve(
    path: &KeyPath,
    token: &Token,
    certificates: Option<&Certificates>,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<Client> {
    let auth_path = path.key("client_auth");
    let auth = auth(path, token, review);
    let id = id(path, token, auth, review);
    if review.is_spoken_for(&auth_path) {
        // What is missing is unknown; a secret that is there is checked all the same.
        if SECRETS.iter().any(|key| review.is_given(&path.key(key))) {
            secret(path, token, variables, review);
        }
        return None;
    }
    let auth = match auth {
        file::ClientAuth::ClientSecretBasic => {
            ClientAuth::SecretBasic(secret(path, token, variables, review)?.source)
        }
        file::ClientAuth::ClientSecretPost => {
            ClientAuth::SecretPost(secret(path, token, variables, review)?.source)
        }
        file::ClientAuth::ClientSecretJwt => {
            let audience = audience(path, token, review);
            let algorithm = hmac_algorithm(path, token, review);
            let secret = secret(path, token, variables, review)?;
            let algorithm = algorithm?;
            let least = algorithm.least_bytes();
            if secret.now.as_ref().is_some_and(|now| now.expose().len() < least) {
                let what = format!(
                    "is shorter than the {least} bytes that client_auth = \"client_secret_jwt\" signs with by {} \
                     (RFC 7518 section 3.2)",
                    algorithm.as_str()
                );
                let help = "use a longer secret, or another client_auth";
                review.error(&secret.key, what, help);
                return None;
            }
            ClientAuth::SecretJwt { secret: secret.source, algorithm, audience: audience? }
        }
        file::ClientAuth::PrivateKeyJwt => {
            let audience = audience(path, token, review);
            let wanted = Wanted {
                noun: "private key",
                owner: "the client",
                keys: vec![
                    ("client_key_file", Written::File(token.client_key_file.as_deref())),
                    ("client_key_env", Written::Env(token.client_key_env.as_deref())),
                ],
            };
            let settings = key::Spec {
                id: (path.key("client_key_id"), token.client_key_id.as_deref()),
                algorithm: (path.key("client_key_algorithm"), token.client_key_algorithm),
                certificate: certificates.and_then(|these| these.assertion.clone()),
                kind: key::Kind::Plain,
            };
            let key = wanted.require(path, variables, review);
            let key = settings.check(key?, review)?.settings;
            matches_certificate(path, &key, review)?;
            ClientAuth::PrivateKeyJwt { key, audience: audience? }
        }
        file::ClientAuth::TlsClientAuth => {
            certificates?.transport.as_ref()?;
            ClientAuth::Tls
        }
        file::ClientAuth::AssertionFile => {
            let keys = vec![("assertion_file", Written::File(token.assertion_file.as_deref()))];
            let wanted = Wanted { noun: "assertion", owner: "the client", keys };
            let found = wanted.require(path, variables, review)?;
            jwt::review("assertion", &found, review);
            jwt::review_client_assertion(&found, token, review);
            ClientAuth::AssertionFile(found.source)
        }
        file::ClientAuth::None => {
            if token.grant == Grant::ClientCredentials && token.grant_type.is_none() {
                let what = "a client without credentials has no credentials to get a token for: most servers refuse \
                            it (RFC 6749 section 4.4)";
                review.warning(
                    &auth_path,
                    what,
                    "set `client_auth` to how the client proves that it is the one",
                );
            }
            ClientAuth::None
        }
    };
    Some(Client { id: id?, auth })
}

/// The authentication that is meant: a signed assertion needs no client beside it, nor do some grants of a server's own,
/// and where nothing is said of one there is none.
pub(super) fn auth(path: &KeyPath, token: &Token, review: &Review<'_>) -> file::ClientAuth {
    let said = ["client_auth", "client_id"].iter().chain(&SECRETS);
    let signed = token.grant == Grant::JwtBearer || token.grant_type.is_some();
    let is_public = signed && !said.into_iter().any(|key| review.is_given(&path.key(key)));
    if is_public { file::ClientAuth::None } else { token.client_auth }
}

fn id(path: &KeyPath, token: &Token, auth: file::ClientAuth, review: &mut Review<'_>) -> Option<String> {
    let id_path = path.key("client_id");
    match &token.client_id {
        // What is signed or traded in speaks for itself.
        None if auth == file::ClientAuth::None
            && matches!(token.grant, Grant::JwtBearer | Grant::TokenExchange)
            && !review.is_spoken_for(&id_path) =>
        {
            Some(String::new())
        }
        // A grant of the server's own may know no clients, or has them in `params`.
        None if token.grant_type.is_some()
            && !matches!(
                auth,
                file::ClientAuth::ClientSecretBasic
                    | file::ClientAuth::ClientSecretJwt
                    | file::ClientAuth::PrivateKeyJwt
            )
            && !review.is_spoken_for(&id_path) =>
        {
            Some(String::new())
        }
        None => {
            review.missing(&id_path, "is missing", review.set(&id_path));
            None
        }
        Some(id) if id.is_empty() => {
            let what = "is empty: it is the identifier that the authorization server gave the client";
            review.error(&id_path, what, review.set(&id_path));
            None
        }
        Some(id) => match (1..).zip(id.chars()).find(|(_, c)| c.is_control()) {
            Some((place, c)) => {
                let code = u32::from(c);
                let what = format!(
                    "has the control character U+{code:04X} as its character {place}, which no identifier may have"
                );
                review.error(&id_path, what, "take it out");
                None
            }
            None => Some(id.clone()),
        },
    }
}

fn secret(
    path: &KeyPath,
    token: &Token,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<Found> {
    let wanted = Wanted {
        noun: "secret",
        owner: "the client",
        keys: vec![
            ("client_secret_file", Written::File(token.client_secret_file.as_deref())),
            ("client_secret_env", Written::Env(token.client_secret_env.as_deref())),
            ("client_secret", Written::Inline(token.client_secret.as_ref())),
        ],
    };
    // Where `client_auth` is not given, the client may be of another kind.
    let set = review.set(&path.key("client_secret_file"));
    let help = (!review.is_given(&path.key("client_auth")) && !review.is_flags_only()).then(|| {
        let others: Vec<_> = OTHERS.map(|auth| format!("\"{}\"", auth_word(auth))).into();
        format!("{set}, or `client_auth` to one that has no secret: {}", others.join(", "))
    });
    wanted.resolve(path, Need::Required(help), variables, review).ok().flatten()
}

/// How a secret signs assertions. `None`: it is reported.
fn hmac_algorithm(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<HmacAlgorithm> {
    let Some(algorithm) = token.client_key_algorithm else { return Some(HmacAlgorithm::default()) };
    let found = key::of_secret(algorithm);
    if found.is_none() {
        let what = "is for a private key, and client_auth = \"client_secret_jwt\" signs with the secret";
        let help = "use \"HS256\", \"HS384\" or \"HS512\", or set `client_auth = \"private_key_jwt\"`";
        review.error(&path.key("client_key_algorithm"), what, help);
    }
    found
}

/// Whom assertions are for. Where nothing is said and no issuer is known it is the endpoint, which always is.
fn audience(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<AssertionAudience> {
    let key = path.key("client_assertion_audience");
    if token.client_assertion_audience == AssertionAudience::Endpoint {
        return Some(AssertionAudience::Endpoint);
    }
    if token.issuer.is_some() {
        return Some(AssertionAudience::Issuer);
    }
    if !review.is_given(&key) {
        return Some(AssertionAudience::Endpoint);
    }
    if !review.is_spoken_for(&path.key("issuer")) {
        let help = "set `issuer`, which may stand beside `token_endpoint`, or write \"endpoint\"";
        review.error(&key, "is \"issuer\", and no issuer is configured", help);
    }
    None
}

/// That the certificate which assertions name is the one of the key that signs them, where both are PEM files.
fn matches_certificate(
    path: &KeyPath,
    key: &crate::oauth::KeySettings,
    review: &mut Review<'_>,
) -> Option<()> {
    let (Some(certificate), Some(file)) = (&key.certificate, key.key.file()) else { return Some(()) };
    match ClientCertificate::load(certificate, file) {
        Err(error @ crate::net::tls::TlsError::KeyMismatch { .. }) => {
            let help = "name the certificate that was made for this key";
            review.error(&path.key("client_cert_file"), error.to_string(), help);
            None
        }
        // Other faults are those of a file that is not there yet, or of a JWK.
        _ => Some(()),
    }
}

const SECRETS: [&str; 3] = ["client_secret_file", "client_secret_env", "client_secret"];
/// Those that a client without a secret has.
const OTHERS: [file::ClientAuth; 4] = [
    file::ClientAuth::PrivateKeyJwt,
    file::ClientAuth::TlsClientAuth,
    file::ClientAuth::AssertionFile,
    file::ClientAuth::None,
];
