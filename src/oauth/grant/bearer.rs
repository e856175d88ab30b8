//! The assertion that a `jwt_bearer` grant spends (RFC 7523 section 2.1), and the token that `self_signed` is: who says so,
//! of whom, to whom.
//!
//! `token` calls this before each token request; `assertion` writes it.

use std::time::SystemTime;

use crate::secret::Secret;

use crate::oauth::client::assertion::{AssertionTerms, Claims, Signer};
use crate::oauth::client::secret_file::read;
use crate::oauth::client::{Client, KeySettings};
use crate::oauth::discovery::server::Location;
use crate::oauth::dpop::Dpop;
use crate::oauth::endpoint::AuthorizationServer;
use crate::oauth::endpoint::failure::TokenFailure;
use crate::oauth::endpoint::response::TokenResponse;
use crate::oauth::error::Error;
use crate::oauth::error::kind::{Held, RequestFault};
use crate::oauth::grant::google::GoogleKey;
use crate::oauth::grant::{Grant, TokenRequest};
use crate::oauth::jose::key::SigningKey;

/// What is known of an assertion before its key is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bearer<'a> {
    /// What it is signed with: PEM, a JWK, or the key file of a Google service account.
    pub key: &'a KeySettings,
    /// `iss`; `None`: a Google key's `client_email`, else the client identifier.
    pub issuer: Option<&'a str>,
    /// `sub`; `None`: as `iss`; with a Google key no `sub` at all, for there it means delegation.
    pub subject: Option<&'a str>,
    /// `aud`; `None`: a Google key's `token_uri`, else the server's issuer, else its token endpoint, as configured.
    pub audience: Option<&'a str>,
    /// The client that asks.
    pub client_id: &'a str,
    /// Whom it asks.
    pub server: &'a Location,
    /// What for: Google reads it here, as the claim `scope`.
    pub scope: &'a [String],
    /// What else it says, and how long it lives.
    pub terms: &'a AssertionTerms,
    /// Whether it is for an authorization server, or for the API itself: then it has no claims that are not configured.
    pub used_as: AssertionUse,
}

/// What an assertion is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AssertionUse {
    /// A grant: claims that are not configured are made up of what is known.
    Grant,
    /// It is the access token.
    AccessToken,
}

impl Bearer<'_> {
    /// Reads the key and signs. `now` is the server's clock, as far as it is known.
    ///
    /// # Errors
    /// [`Error`] where the key cannot be read or used.
    pub(crate) async fn sign(&self, now: SystemTime) -> Result<Secret<String>, Error> {
        let text = read(&self.key.key).await?;
        let held = || Held::by(&self.key.key);
        let google = match GoogleKey::parse(text.expose()) {
            Some(parsed) => {
                Some(parsed.map_err(|fault| Error::here(RequestFault::GoogleKey(held(), fault)))?)
            }
            None => None,
        };
        let pem = google.as_ref().map_or(text.expose(), |google| google.private_key.expose());
        let key = SigningKey::from_text(pem, self.key.algorithm)
            .map_err(|fault| Error::here(RequestFault::Key(held(), fault)))?;
        let settings = KeySettings {
            key_id: self.key.key_id.clone().or_else(|| google.as_ref()?.key_id.clone()),
            ..self.key.clone()
        };
        let signer = Signer::key(key, &settings).await?;

        let email = google.as_ref().map(|google| google.email.as_str());
        let token_uri = google.as_ref().and_then(|google| google.token_uri.as_deref());
        let scope = self.scope.join(" ");
        let scope = Some(scope.as_str()).filter(|scope| {
            google.is_some() && !scope.is_empty() && !self.terms.claims.contains_key("scope")
        });
        let more = &self.terms.claims;
        let claims = match self.used_as {
            AssertionUse::Grant => {
                let issuer = self.issuer.or(email).unwrap_or(self.client_id);
                let subject =
                    if google.is_some() { self.subject } else { Some(self.subject.unwrap_or(issuer)) };
                let Some(audience) = self.audience.or(token_uri).or_else(|| self.server.name()) else {
                    return Err(Error::here(RequestFault::NoIssuer));
                };
                Claims { issuer: Some(issuer), subject, audience: Some(audience), scope, more }
            }
            // Google wants both to be the account.
            AssertionUse::AccessToken => Claims {
                issuer: self.issuer.or(email),
                subject: self.subject.or(email),
                audience: self.audience,
                scope,
                more,
            },
        };
        signer.write(&claims, self.terms.lifetime, now).map_err(|_| Error::here(RequestFault::Panicked))
    }
}

impl AuthorizationServer {
    /// Asks for a token with an assertion that is signed for this request; once more, by the server's clock, where it
    /// was refused and that clock is not where it was taken to be. A refused assertion is not spent.
    ///
    /// # Errors
    /// [`TokenFailure`]: see [`AuthorizationServer::token`].
    pub(crate) async fn token_for(
        &self,
        bearer: &Bearer<'_>,
        client: &Client,
        request: &TokenRequest,
        dpop: Option<&Dpop>,
    ) -> Result<TokenResponse, TokenFailure> {
        let grant = Grant::JwtBearer(bearer.sign(self.now()).await?);
        let first = match self.token(client, &grant, request, dpop).await {
            Err(failure) if failure.is_invalid_grant() => failure,
            outcome => return outcome,
        };
        let Some(distance) = first.distance() else { return Err(first) };
        let grant = Grant::JwtBearer(bearer.sign(distance.now()).await?);
        let response = self.token(client, &grant, request, dpop).await?;
        self.assume(distance, first.place());
        Ok(response)
    }
}

impl Location {
    /// What the configuration calls the server: its issuer, else its token endpoint.
    fn name(&self) -> Option<&str> {
        let issuer = self.issuer.as_ref().map(crate::oauth::discovery::server::Issuer::as_str);
        issuer.or_else(|| self.token_endpoint.as_ref().map(url::Url::as_str))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock;
    use crate::oauth::error::class::Class;
    use crate::oauth::jose::key::{Algorithm, vectors};
    use crate::oauth::peer::{Peer, Reply, client, inline, plain, settings, verified};
    use crate::secret::SecretSource;

    fn key(key: SecretSource) -> KeySettings {
        KeySettings { key, key_id: None, algorithm: None, certificate: None }
    }

    fn bearer<'a>(key: &'a KeySettings, server: &'a Location) -> Bearer<'a> {
        let terms: &AssertionTerms = Box::leak(Box::default());
        Bearer {
            key,
            issuer: None,
            subject: None,
            audience: None,
            client_id: "orders",
            server,
            scope: &[],
            terms,
            used_as: AssertionUse::Grant,
        }
    }

    fn endpoint() -> Location {
        Location::endpoint("https://as.example/token".parse().unwrap())
    }

    /// What is said, apart from times and name, which are there.
    fn said(jwt: &Secret<String>, jwk: &str) -> (Value, Value) {
        let (header, mut claims) = verified(jwt.expose(), jwk);
        for name in ["iat", "exp", "jti"] {
            claims.as_object_mut().unwrap().remove(name).unwrap();
        }
        (header, claims)
    }

    /// As the console of Google writes it, with the RSA key of RFC 7515.
    fn google() -> KeySettings {
        let pkcs8 = SigningKey::from_text(vectors::RSA, None).unwrap().to_pkcs8().unwrap();
        let pem = STANDARD.encode(pkcs8.expose());
        let file = json!({
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "k1",
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n"),
            "client_email": "robot@p.example",
            "client_id": "1234",
            "token_uri": "https://oauth2.example/token",
        });
        key(inline(&file.to_string()))
    }

    #[tokio::test]
    async fn every_kind_of_key_signs_what_is_configured_or_what_stands_for_it() {
        let issuer = Location { issuer: Some("https://as.example/".parse().unwrap()), ..endpoint() };
        for (jwk, algorithm, alg) in [
            (vectors::RSA, None, "RS256"),
            (vectors::RSA, Some(Algorithm::Ps256), "PS256"),
            (vectors::RSA, Some(Algorithm::Rs384), "RS384"),
            (vectors::RSA, Some(Algorithm::Ps512), "PS512"),
            (vectors::P256, None, "ES256"),
            (vectors::ED25519, None, "EdDSA"),
        ] {
            let key = KeySettings { algorithm, key_id: Some("k".into()), ..key(inline(jwk)) };
            let scope = ["orders:read".to_owned()];
            for (server, audience) in
                [(&endpoint(), "https://as.example/token"), (&issuer, "https://as.example/")]
            {
                let plain = Bearer { scope: &scope, ..bearer(&key, server) };
                let want = json!({"iss": "orders", "sub": "orders", "aud": audience});
                let header = json!({"typ": "JWT", "alg": alg, "kid": "k"});
                let got = said(&plain.sign(clock::wall()).await.unwrap(), jwk);
                assert_eq!(got, (header, want), "the scope is in the form alone");

                let whole = Bearer { issuer: Some("i"), subject: Some("s"), audience: Some("a"), ..plain };
                let got = said(&whole.sign(clock::wall()).await.unwrap(), jwk).1;
                assert_eq!(got, json!({"iss": "i", "sub": "s", "aud": "a"}));
            }
        }
    }

    #[tokio::test]
    async fn googles_key_brings_issuer_audience_and_name_and_takes_the_scope() {
        let (key, server) = (google(), endpoint());
        let scope = ["https://www.googleapis.example/auth/a".to_owned(), "b".to_owned()];
        let own = Bearer { scope: &scope, ..bearer(&key, &server) };
        let (header, claims) = said(&own.sign(clock::wall()).await.unwrap(), vectors::RSA);
        assert_eq!(header, json!({"typ": "JWT", "alg": "RS256", "kid": "k1"}));
        let mut want = json!({
            "iss": "robot@p.example",
            "aud": "https://oauth2.example/token",
            "scope": "https://www.googleapis.example/auth/a b",
        });
        assert_eq!(claims, want, "no subject: that would be delegation");

        let delegated = Bearer { subject: Some("alice@p.example"), ..own };
        want["sub"] = "alice@p.example".into();
        assert_eq!(said(&delegated.sign(clock::wall()).await.unwrap(), vectors::RSA).1, want);
    }

    /// A server whose clock is `ahead` of ours, and that accepts an assertion only within its own time.
    async fn strict(ahead: i64) -> Peer {
        Peer::start(move |seen| {
            let now = UNIX_EPOCH + Duration::from_secs(clock::unix_seconds().saturating_add_signed(ahead));
            let date = format!("Date: {}\r\n", httpdate::fmt_http_date(now)).leak();
            let (_, claims) = verified(&seen.parameter("assertion"), vectors::P256);
            let claim = |name: &str| UNIX_EPOCH + Duration::from_secs(claims[name].as_u64().unwrap());
            if claim("iat") <= now && now < claim("exp") {
                Reply::token()
            } else {
                Reply::Http(400, date, r#"{"error":"invalid_grant"}"#.into())
            }
        })
        .await
    }

    #[tokio::test]
    async fn an_assertion_that_a_server_with_another_clock_refuses_is_dated_by_that_clock() {
        let key = key(inline(vectors::P256));
        for (ahead, first, then) in [(600, 2, 1), (-600, 2, 1), (0, 1, 1), (60, 1, 1)] {
            let peer = strict(ahead).await;
            let location = Location::endpoint(peer.url("/token"));
            let server = AuthorizationServer::new(&settings(location.clone())).unwrap();
            let bearer = bearer(&key, &location);
            server.token_for(&bearer, &client(), &plain(), None).await.unwrap();
            assert_eq!(peer.lines().len(), first, "{ahead}");
            server.token_for(&bearer, &client(), &plain(), None).await.unwrap();
            assert_eq!(peer.lines().len(), first + then, "{ahead}: it is remembered");
        }
        let refusing = Peer::start(|_| Reply::Http(400, "", r#"{"error":"invalid_grant"}"#.into())).await;
        let location = Location::endpoint(refusing.url("/token"));
        let server = AuthorizationServer::new(&settings(location.clone())).unwrap();
        let bearer = bearer(&key, &location);
        let error = server.token_for(&bearer, &client(), &plain(), None).await.unwrap_err();
        assert_eq!((error.cause(), refusing.lines().len()), ("invalid_grant", 1), "no clock explains it");
    }

    #[tokio::test]
    async fn no_two_assertions_are_alike() {
        let (key, server) = (key(inline(vectors::ED25519)), endpoint());
        let bearer = bearer(&key, &server);
        let now = clock::wall();
        // Ed25519 signs the same text the same way: only the name makes the difference.
        assert_ne!(bearer.sign(now).await.unwrap(), bearer.sign(now).await.unwrap());
    }

    #[tokio::test]
    async fn a_key_that_does_not_serve_is_named_by_what_is_wrong() {
        let server = endpoint();
        let broken = r#"{"type":"service_account","client_email":"a","private_key":"sentinel"}"#;
        for (text, words) in [
            ("sentinel", "neither PEM nor a JWK"),
            (broken, "neither PEM nor a JWK"),
            (r#"{"type":"authorized_user","refresh_token":"sentinel"}"#, "not of a service account"),
            (r#"{"type":"service_account","private_key":"sentinel"}"#, "no `client_email`"),
        ] {
            let key = key(inline(text));
            let error = bearer(&key, &server).sign(clock::wall()).await.unwrap_err();
            assert_eq!((error.class(), error.cause()), (Class::Misconfigured, "key"));
            assert!(error.to_string().contains(words), "{error}");
            assert!(!format!("{error} {error:?}").contains("sentinel"));
        }
    }

    #[tokio::test]
    async fn more_claims_are_said_and_the_lifetime_is_from_iat_to_exp() {
        let claims = json!({"box_sub_type": "enterprise", "n": 7, "yes": true, "list": ["a"], "t": {"x": 1}});
        let lifetime = Duration::from_secs(45);
        let terms = AssertionTerms { claims: claims.as_object().unwrap().clone(), lifetime };
        let (key, server) = (key(inline(vectors::P256)), endpoint());
        let jwt = Bearer { terms: &terms, ..bearer(&key, &server) }.sign(clock::wall()).await.unwrap();
        let (_, said) = verified(jwt.expose(), vectors::P256);
        for (name, value) in claims.as_object().unwrap() {
            assert_eq!(&said[name], value, "{said}");
        }
        let (iat, exp) = (said["iat"].as_u64().unwrap(), said["exp"].as_u64().unwrap());
        let now = clock::unix_seconds();
        assert!(exp - iat == 45 && iat <= now && now < exp && exp > now + 30, "{said} at {now}");
        assert!(!format!("{terms:?}").contains("enterprise"));

        // Google's scope stands where the claim is not configured.
        let scope = ["a".to_owned()];
        let google = google();
        let of = |claims: Value| AssertionTerms { claims: claims.as_object().unwrap().clone(), lifetime };
        for (claims, want) in [(json!({}), json!("a")), (json!({"scope": "b"}), json!("b"))] {
            let terms = of(claims);
            let bearer = Bearer { scope: &scope, terms: &terms, ..bearer(&google, &server) };
            let jwt = bearer.sign(clock::wall()).await.unwrap();
            assert_eq!(verified(jwt.expose(), vectors::RSA).1["scope"], want);
        }
    }

    #[tokio::test]
    async fn a_token_that_is_signed_here_says_what_is_configured_and_no_more() {
        let (key, server, google) = (key(inline(vectors::P256)), endpoint(), google());
        let plain = Bearer { used_as: AssertionUse::AccessToken, ..bearer(&key, &server) };
        assert_eq!(said(&plain.sign(clock::wall()).await.unwrap(), vectors::P256).1, json!({}));
        let whole = Bearer { issuer: Some("i"), subject: Some("s"), audience: Some("a"), ..plain };
        let want = json!({"iss": "i", "sub": "s", "aud": "a"});
        assert_eq!(said(&whole.sign(clock::wall()).await.unwrap(), vectors::P256).1, want);
        let robot = Bearer { key: &google, audience: Some("https://api.example/"), ..plain };
        let want = json!({"iss": "robot@p.example", "sub": "robot@p.example", "aud": "https://api.example/"});
        assert_eq!(said(&robot.sign(clock::wall()).await.unwrap(), vectors::RSA).1, want);
    }
}
