//! Client authentication at one request: what the configured method shows (RFC 6749 section 2.3, RFC 7523 section 2.2).
//!
//! Two steps. [`ClientAuth::read`] reads secrets and keys, once for an attempt: a file that changed counts at the next.
//! [`Keys::prove`] makes the proof for one request of it; a second request, be it the same one again, has its own. The
//! token endpoint, introspection and revocation authenticate alike.

use std::time::SystemTime;

use url::Url;

use crate::secret::Secret;

use crate::oauth::client::assertion::{AssertionTerms, Claims, Signer};
use crate::oauth::client::secret_file::{read, read_line};
use crate::oauth::client::{AssertionAudience, Client, ClientAuth};
use crate::oauth::discovery::server::Issuer;
use crate::oauth::error::Error;
use crate::oauth::error::kind::{ErrorKind, RequestFault};
use crate::oauth::jose::jwt_facts::{still_good, unquoted};

/// Secrets and keys of a client, as they were read for one attempt.
pub(in crate::oauth) enum Keys {
    Basic(Secret<String>),
    Post(Secret<String>),
    Signer { signer: Signer, audience: AssertionAudience },
    Assertion(Secret<String>),
    Nothing,
}

/// What a client shows at one request.
pub(in crate::oauth) enum Proof {
    /// HTTP Basic, with this secret.
    Basic(Secret<String>),
    /// `client_secret` in the form.
    Post(Secret<String>),
    /// `client_assertion` in the form (RFC 7521 section 4.2).
    Assertion {
        assertion: Secret<String>,
        /// `client_assertion_type`; `None`: that of a JWT.
        kind: Option<String>,
    },
    /// `client_id` alone; it may be that the connection's certificate says the rest.
    Nothing,
}

/// Whom an assertion may be for: both are configured, or vouched for by metadata of the configured issuer. An audience
/// out of any other answer would let one server ask for assertions that another takes.
#[derive(Clone, Copy, Debug)]
pub(in crate::oauth) struct Audience<'a> {
    pub(in crate::oauth) issuer: Option<&'a Issuer>,
    pub(in crate::oauth) token_endpoint: &'a Url,
    /// What else assertions for this server say, and how long they live.
    pub(in crate::oauth) terms: &'a AssertionTerms,
    /// What the server calls their kind; `None`: as RFC 7523 does.
    pub(in crate::oauth) kind: Option<&'a str>,
}

impl ClientAuth {
    /// Reads what this method needs, now.
    pub(in crate::oauth) async fn read(&self) -> Result<Keys, Error> {
        Ok(match self {
            Self::SecretBasic(source) => Keys::Basic(read_line(source).await?),
            Self::SecretPost(source) => Keys::Post(read_line(source).await?),
            Self::SecretJwt { secret, algorithm, audience } => Keys::Signer {
                signer: Signer::secret(read_line(secret).await?, *algorithm).map_err(Error::here)?,
                audience: *audience,
            },
            Self::PrivateKeyJwt { key, audience } => {
                Keys::Signer { signer: Signer::read(key).await?, audience: *audience }
            }
            Self::AssertionFile(source) => {
                let assertion = read(source).await?;
                still_good("assertion", source, &assertion)?;
                Keys::Assertion(Secret::new(unquoted(assertion.expose().trim_ascii()).to_owned()))
            }
            Self::Tls | Self::None => Keys::Nothing,
        })
    }
}

impl Keys {
    /// The proof for one request. `now` is the server's clock, as far as it is known.
    pub(in crate::oauth) fn prove(
        &self,
        client: &Client,
        audience: Audience<'_>,
        now: SystemTime,
    ) -> Result<Proof, ErrorKind> {
        let shown = |assertion| Proof::Assertion { assertion, kind: audience.kind.map(str::to_owned) };
        Ok(match self {
            Self::Basic(secret) => Proof::Basic(secret.clone()),
            Self::Post(secret) => Proof::Post(secret.clone()),
            Self::Assertion(assertion) => shown(assertion.clone()),
            Self::Nothing => Proof::Nothing,
            Self::Signer { signer, audience: whom } => {
                let terms = audience.terms;
                let audience = match whom {
                    AssertionAudience::Issuer => audience.issuer.ok_or(RequestFault::NoIssuer)?.as_str(),
                    AssertionAudience::Endpoint => audience.token_endpoint.as_str(),
                };
                let id = Some(client.id.as_str());
                let claims = Claims {
                    issuer: id,
                    subject: id,
                    audience: Some(audience),
                    scope: None,
                    more: &terms.claims,
                };
                shown(signer.write(&claims, terms.lifetime, now).map_err(|_| RequestFault::Panicked)?)
            }
        })
    }

    /// Whether the proof says when it was made: then a server whose clock is elsewhere refuses it.
    pub(in crate::oauth) const fn are_dated(&self) -> bool {
        matches!(self, Self::Signer { .. })
    }
}

/// What `client_assertion_type` says (RFC 7523 section 2.2).
pub(in crate::oauth) const CLIENT_ASSERTION_TYPE: &str =
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::PathBuf;
    use std::time::{Duration, UNIX_EPOCH};

    use aws_lc_rs::digest;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::clock;
    use crate::oauth::client::KeySettings;
    use crate::oauth::discovery::server::{Location, ServerSettings};
    use crate::oauth::endpoint::AuthorizationServer;
    use crate::oauth::endpoint::dialect::Dialect;
    use crate::oauth::endpoint::response::TokenResponse;
    use crate::oauth::error::class::Class;
    use crate::oauth::grant::Grant;
    use crate::oauth::jose::jws::HmacAlgorithm;
    use crate::oauth::jose::key::{Algorithm, vectors};
    use crate::oauth::peer::{Peer, Reply, Seen, inline, plain, settings, verified};
    use crate::secret::SecretSource;

    const SECRET: &str = "sentinel-secret-of-32-bytes-or-more";

    fn secret_jwt(audience: AssertionAudience) -> ClientAuth {
        ClientAuth::SecretJwt { secret: inline(SECRET), algorithm: HmacAlgorithm::Hs256, audience }
    }
    const ISSUER: &str = "https://as.example/realms/r";

    fn client(auth: ClientAuth) -> Client {
        Client { id: "orders:7 +ü".into(), auth }
    }

    fn signed(key: SecretSource, algorithm: Option<Algorithm>, audience: AssertionAudience) -> ClientAuth {
        let key = KeySettings { key, key_id: None, algorithm, certificate: None };
        ClientAuth::PrivateKeyJwt { key, audience }
    }

    fn server(peer: &Peer) -> AuthorizationServer {
        let location =
            Location { issuer: Some(ISSUER.parse().unwrap()), ..Location::endpoint(peer.url("/token?v=2")) };
        AuthorizationServer::new(&settings(location)).unwrap()
    }

    async fn ask(server: &AuthorizationServer, client: &Client) -> Result<TokenResponse, Error> {
        Ok(server.token(client, &Grant::ClientCredentials, &plain(), None).await?)
    }

    /// Header and claims of the assertion in a request, which has all that RFC 7523 section 2.2 asks for and no more.
    fn assertion(seen: &Seen, jwk: &str) -> (serde_json::Value, serde_json::Value) {
        assert_eq!(seen.header("authorization"), None, "one method only");
        let mut names: Vec<_> = seen.form().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["client_assertion", "client_assertion_type", "client_id", "grant_type"]);
        assert_eq!(seen.parameter("client_id"), "orders:7 +ü");
        let kind = seen.parameter("client_assertion_type");
        assert_eq!(kind, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        verified(&seen.parameter("client_assertion"), jwk)
    }

    #[tokio::test]
    async fn each_assertion_is_for_the_configured_audience_and_no_two_are_alike() {
        use AssertionAudience::{Endpoint, Issuer};
        let peer = Peer::start(|_| Reply::token()).await;
        let server = server(&peer);
        let endpoint = peer.url("/token?v=2").to_string();
        let mut names = HashSet::new();
        let long = SECRET.repeat(2);
        let hmac = |secret: &str, algorithm, audience| ClientAuth::SecretJwt {
            secret: inline(secret),
            algorithm,
            audience,
        };
        let rsa = |algorithm| signed(inline(vectors::RSA), Some(algorithm), Issuer);
        for (auth, key, alg, audience) in [
            (hmac(SECRET, HmacAlgorithm::Hs256, Issuer), SECRET, "HS256", ISSUER),
            (hmac(SECRET, HmacAlgorithm::Hs256, Endpoint), SECRET, "HS256", &endpoint),
            (hmac(&long, HmacAlgorithm::Hs384, Issuer), &long, "HS384", ISSUER),
            (hmac(&long, HmacAlgorithm::Hs512, Issuer), &long, "HS512", ISSUER),
            (rsa(Algorithm::Rs256), vectors::RSA, "RS256", ISSUER),
            (rsa(Algorithm::Ps256), vectors::RSA, "PS256", ISSUER),
            (signed(inline(vectors::P256), None, Endpoint), vectors::P256, "ES256", &endpoint),
            (signed(inline(vectors::ED25519), None, Issuer), vectors::ED25519, "EdDSA", ISSUER),
        ] {
            let client = client(auth);
            for _ in 0..3 {
                ask(&server, &client).await.unwrap();
                let (header, claims) = assertion(&peer.last(), key);
                assert_eq!(header, json!({"typ": "JWT", "alg": alg}));
                assert_eq!((&claims["iss"], &claims["sub"]), (&json!(client.id), &json!(client.id)));
                assert_eq!(claims["aud"], audience);
                // A minute's difference of the clocks, either way.
                let now = clock::wall().duration_since(UNIX_EPOCH).unwrap().as_secs();
                let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
                assert!(iat <= now && iat + 15 > now && exp > now + 60 && exp < now + 300, "{claims}");
                assert_eq!(claims.get("nbf"), None);
                let jti = claims["jti"].as_str().unwrap().to_owned();
                assert!(URL_SAFE_NO_PAD.decode(&jti).unwrap().len() >= 16);
                assert!(names.insert(jti), "an assertion was used again");
            }
        }
    }

    #[tokio::test]
    async fn the_kind_of_an_assertion_is_the_one_that_is_configured() {
        let peer = Peer::start(|_| Reply::token()).await;
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
        let dialect = Dialect { client_assertion_type: Some(kind.to_owned()), ..Dialect::default() };
        let settings = ServerSettings { dialect, ..settings(Location::endpoint(peer.url("/token"))) };
        let server = AuthorizationServer::new(&settings).unwrap();
        ask(&server, &client(ClientAuth::AssertionFile(inline("svid")))).await.unwrap();
        let seen = peer.last();
        assert_eq!(seen.parameter("client_assertion_type"), kind);
        assert_eq!(seen.parameter("client_assertion"), "svid");
    }

    #[tokio::test]
    async fn a_key_that_is_replaced_counts_at_the_next_request_with_its_own_name() {
        let peer = Peer::start(|_| Reply::token()).await;
        let server = server(&peer);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let client = client(signed(SecretSource::File(path.clone()), None, AssertionAudience::Issuer));
        for (jwk, kid, alg) in [(vectors::P256, "2026-1", "ES256"), (vectors::ED25519, "2026-2", "EdDSA")] {
            std::fs::write(&path, jwk.replacen('{', &format!(r#"{{"kid":"{kid}","#), 1)).unwrap();
            ask(&server, &client).await.unwrap();
            let (header, _) = assertion(&peer.last(), jwk);
            assert_eq!(header, json!({"typ": "JWT", "alg": alg, "kid": kid}));
        }
    }

    #[tokio::test]
    async fn the_header_names_the_key_and_the_certificate_as_configured() {
        let peer = Peer::start(|_| Reply::token()).await;
        let certified = rcgen::generate_simple_self_signed(vec!["orders".to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("certificate.pem");
        std::fs::write(&path, certified.cert.pem()).unwrap();
        let key = KeySettings {
            key: inline(&certified.signing_key.serialize_pem()),
            key_id: Some("mine".to_owned()),
            algorithm: Some(Algorithm::Es256),
            certificate: Some(path),
        };
        let auth = ClientAuth::PrivateKeyJwt { key, audience: AssertionAudience::Issuer };
        ask(&server(&peer), &client(auth)).await.unwrap();
        let point = certified.signing_key.public_key_raw();
        let jwk = json!({
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        });
        let (header, _) = assertion(&peer.last(), &jwk.to_string());
        let thumbprint = digest::digest(&digest::SHA256, certified.cert.der());
        let thumbprint = URL_SAFE_NO_PAD.encode(thumbprint);
        assert_eq!(header, json!({"typ": "JWT", "alg": "ES256", "kid": "mine", "x5t#S256": thumbprint}));
    }

    #[tokio::test]
    async fn an_assertion_of_somebody_elses_is_read_at_each_use() {
        let peer = Peer::start(|_| Reply::token()).await;
        let server = server(&peer);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let client = client(ClientAuth::AssertionFile(SecretSource::File(path.clone())));
        for token in ["eyJ.first.x", "eyJ.second.x"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            ask(&server, &client).await.unwrap();
            assert_eq!(peer.last().parameter("client_assertion"), token);
            assert_eq!(peer.last().parameter("client_id"), client.id);
        }
    }

    #[tokio::test]
    async fn a_key_that_does_not_serve_is_named_with_what_is_wrong_and_nothing_is_sent() {
        let peer = Peer::start(|_| Reply::token()).await;
        let server = server(&peer);
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let certificate = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap().cert.pem();
        let issuer = AssertionAudience::Issuer;
        let by_file = |path: PathBuf, algorithm| signed(SecretSource::File(path), algorithm, issuer);
        let with_certificate = |path: PathBuf| {
            let key = KeySettings {
                key: inline(vectors::P256),
                key_id: None,
                algorithm: None,
                certificate: Some(path),
            };
            ClientAuth::PrivateKeyJwt { key, audience: issuer }
        };
        for (auth, cause, words) in [
            (by_file(dir.path().join("gone"), None), "secret", "gone does not exist"),
            (by_file(file("a", "sentinel"), None), "key", "/a is no key to sign with: it is neither PEM"),
            (by_file(file("b", &certificate), None), "key", "/b is no key to sign with: it holds no private"),
            (by_file(file("c", r#"{"kty":"EC","d":"sentinel"}"#), None), "key", "/c is no key"),
            (by_file(file("d", vectors::P256), Some(Algorithm::Rs256)), "key", "RS256 cannot be used"),
            (signed(inline("sentinel"), None, issuer), "key", "the key in the configuration is no key"),
            (with_certificate(dir.path().join("gone.pem")), "certificate", "gone.pem does not exist"),
            (with_certificate(file("e", "sentinel")), "certificate", "/e holds no certificate"),
            (
                ClientAuth::SecretJwt {
                    secret: inline("sentinel"),
                    algorithm: HmacAlgorithm::Hs256,
                    audience: issuer,
                },
                "secret",
                "32 bytes with HS256",
            ),
            (
                ClientAuth::SecretJwt {
                    secret: inline(SECRET),
                    algorithm: HmacAlgorithm::Hs384,
                    audience: issuer,
                },
                "secret",
                "48 with HS384",
            ),
        ] {
            let error = ask(&server, &client(auth)).await.unwrap_err();
            assert_eq!((error.class(), error.cause()), (Class::Misconfigured, cause), "{error}");
            assert!(error.to_string().contains(words), "{error}");
            assert!(!format!("{error} {error:?}").contains("sentinel"), "{error:?}");
        }
        // No issuer, and no other audience: never one that a stranger says.
        let bare = AuthorizationServer::new(&settings(Location::endpoint(peer.url("/token")))).unwrap();
        let error = ask(&bare, &client(signed(inline(vectors::P256), None, issuer))).await.unwrap_err();
        assert_eq!((error.class(), error.cause()), (Class::Misconfigured, "no_issuer"), "{error}");
        assert!(peer.lines().is_empty());
    }

    /// A server whose clock is `ahead` of ours and that takes no assertion from its future.
    async fn strict(ahead: i64) -> Peer {
        Peer::start(move |seen| {
            let now = UNIX_EPOCH + Duration::from_secs(clock::unix_seconds().saturating_add_signed(ahead));
            let date = format!("Date: {}\r\n", httpdate::fmt_http_date(now)).leak();
            let refusal = Reply::Http(401, date, r#"{"error":"invalid_client"}"#.into());
            if !seen.body.contains("client_assertion=") {
                return refusal;
            }
            let (_, claims) = verified(&seen.parameter("client_assertion"), SECRET);
            let claim = |name: &str| UNIX_EPOCH + Duration::from_secs(claims[name].as_u64().unwrap());
            if claim("iat") <= now && now < claim("exp") { Reply::token() } else { refusal }
        })
        .await
    }

    #[tokio::test]
    async fn a_server_whose_clock_is_apart_gets_one_more_assertion_by_its_own_clock() {
        let auth = || secret_jwt(AssertionAudience::Issuer);
        for (ahead, first, then) in
            [(7200, 2, 1), (-7200, 2, 1), (60, 1, 1), (0, 1, 1), (-5, 1, 1), (-60, 2, 1)]
        {
            let peer = strict(ahead).await;
            let server = server(&peer);
            ask(&server, &client(auth())).await.unwrap();
            assert_eq!(peer.lines().len(), first, "{ahead}");
            ask(&server, &client(auth())).await.unwrap();
            assert_eq!(peer.lines().len(), first + then, "{ahead}: it is remembered");
            let seen = peer.seen.lock().unwrap();
            let assertions: HashSet<_> = seen.iter().map(|seen| seen.parameter("client_assertion")).collect();
            assert_eq!(assertions.len(), seen.len(), "each has its own");
        }
    }

    #[tokio::test]
    async fn a_refusal_that_no_clock_explains_is_not_asked_again() {
        let peer = strict(7200).await;
        let error = ask(&server(&peer), &client(ClientAuth::SecretPost(inline(SECRET)))).await.unwrap_err();
        assert_eq!((error.cause(), peer.lines().len()), ("invalid_client", 1));
        let refusing = Peer::start(|_| Reply::Http(401, "", r#"{"error":"invalid_client"}"#.into())).await;
        let auth = secret_jwt(AssertionAudience::Issuer);
        let error = ask(&server(&refusing), &client(auth)).await.unwrap_err();
        assert_eq!((error.cause(), refusing.lines().len()), ("invalid_client", 1));
    }
}
