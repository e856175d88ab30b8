//! Whose a stored token is, and what it was asked for: what must be the same for it to be used again.

use crate::oauth::{Location, MemberPath};
use crate::token::settings::{GrantSettings, ServerOrigin, Subject, TradeGrant};

use super::entry::Fingerprint;

/// Whose entry it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The token's name in the configuration.
    pub name: String,
    /// Of which client at which authorization server: an entry of another is not ours.
    pub client: Fingerprint,
}

impl Key {
    /// The key of a token that comes from an authorization server. The client is told by where its server is and by its
    /// identifier: to rotate its secret, or to change what is asked for, makes no other client of it.
    #[must_use]
    pub(crate) fn of(name: &str, origin: &ServerOrigin) -> Self {
        let Location { issuer, token_endpoint, .. } = &origin.server.location;
        // The issuer says it all where it is known: an endpoint may move.
        let place = match (issuer, token_endpoint) {
            (Some(issuer), _) => ["issuer", issuer.as_str()],
            (None, Some(url)) => ["endpoint", url.as_str()],
            (None, None) => ["", ""],
        };
        let parts = [place[0], place[1], origin.client.id.as_str()];
        Self { name: name.to_owned(), client: Fingerprint::of(parts.map(str::as_bytes)) }
    }
}

/// All that an access token depends on, beside the client: another request is not answered by it.
pub(in crate::token) fn request(origin: &ServerOrigin) -> Fingerprint {
    let claims = claims(origin);
    let mut parts: Vec<&str> = Vec::new();
    let request = &origin.request;
    parts.push("scope");
    parts.extend(request.scope.iter().map(String::as_str));
    parts.push("audience");
    parts.extend(request.audience.as_deref());
    parts.push("resource");
    parts.extend(request.resource.iter().map(String::as_str));
    parts.push("params");
    parts.extend(request.params.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
    parts.push("bound");
    if origin.dpop.is_some() {
        parts.push("dpop");
    }
    let certificate = origin.server.transport.certificate.as_ref();
    if certificate.is_some() {
        parts.push("certificate");
    }
    // Another part of the response, or another key's token.
    let dialect = &origin.server.dialect;
    let paths = dialect.response.access_token.iter().flat_map(MemberPath::names);
    for (what, words) in [
        ("response", paths.map(String::as_str).collect::<Vec<_>>()),
        ("grant_type", dialect.grant_type.iter().map(String::as_str).collect()),
        ("claims", claims.iter().map(String::as_str).collect()),
    ] {
        if !words.is_empty() {
            parts.push(what);
            parts.extend(words);
        }
    }
    parts.push("grant");
    parts.extend(grant(&origin.grant));
    // A token may be bound to the certificate (RFC 8705 section 3): with another it is worth nothing.
    let thumbprint = certificate.map(|certificate| certificate.thumbprint.as_slice());
    Fingerprint::of(parts.into_iter().map(str::as_bytes).chain(thumbprint))
}

/// The further claims of what is signed, by name.
fn claims(origin: &ServerOrigin) -> Vec<String> {
    let bearer = match &origin.grant {
        GrantSettings::JwtBearer(assertion) => Some(&assertion.terms.claims),
        _ => None,
    };
    let claims = bearer.into_iter().chain([&origin.server.dialect.client_assertion.claims]).flatten();
    let mut claims: Vec<_> = claims.collect();
    claims.sort_by_key(|(name, _)| *name);
    claims.into_iter().flat_map(|(name, value)| [name.clone(), value.to_string()]).collect()
}

/// The grant, and whose rights it gives, as far as the configuration says; nothing secret.
fn grant(grant: &GrantSettings) -> Vec<&str> {
    match grant {
        GrantSettings::ClientCredentials => vec!["client_credentials"],
        GrantSettings::RefreshToken { .. } => vec!["refresh_token"],
        // However a person logs in: what comes of it is the same.
        GrantSettings::Login(_) => vec!["login"],
        GrantSettings::Password { username, .. } => vec!["password", username],
        GrantSettings::JwtBearer(assertion) => {
            let [issuer, subject, audience] = [&assertion.issuer, &assertion.subject, &assertion.audience]
                .map(|part| part.as_deref().unwrap_or_default());
            vec!["jwt_bearer", issuer, subject, audience]
        }
        GrantSettings::TokenExchange(exchange) => {
            let mut parts = match exchange.grant {
                TradeGrant::TokenExchange => vec!["token_exchange", exchange.subject_token_type.as_str()],
                TradeGrant::JwtBearer => vec!["jwt_bearer_of_another"],
            };
            parts.extend(exchange.requested_token_type.as_deref());
            parts.push("subject");
            match &exchange.subject {
                Subject::File(source) => {
                    parts.extend(source.file().and_then(std::path::Path::to_str));
                }
                Subject::Token(name) => parts.push(name),
                Subject::Incoming => {}
            }
            if let Some((_, actor)) = &exchange.actor {
                parts.extend(["actor", actor.as_str()]);
            }
            parts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::ClientCertificate;
    use crate::token::source::tests::origin;

    #[test]
    fn a_token_that_was_asked_for_with_another_certificate_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let bound = || {
            let made = rcgen::generate_simple_self_signed(["orders".to_owned()]).unwrap();
            std::fs::write(&cert, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            let mut origin = origin(GrantSettings::ClientCredentials);
            origin.server.transport.certificate = Some(ClientCertificate::load(&cert, &key).unwrap());
            origin
        };
        let (first, second) = (bound(), bound());
        assert_eq!(request(&first), request(&first.clone()));
        assert_ne!(request(&first), request(&second));
        assert_ne!(request(&first), request(&origin(GrantSettings::ClientCredentials)));
        assert_eq!(Key::of("api", &first), Key::of("api", &second), "its login is the same one's");
    }

    #[test]
    fn a_token_that_is_read_elsewhere_or_asked_for_with_other_claims_is_another_one() {
        let plain = origin(GrantSettings::ClientCredentials);
        let mut read = plain.clone();
        read.server.dialect.response.access_token = MemberPath::parse("authed_user.access_token");
        let mut typed = plain.clone();
        typed.server.dialect.grant_type = Some("account_credentials".to_owned());
        let mut claimed = plain.clone();
        let claims = &mut claimed.server.dialect.client_assertion.claims;
        claims.insert("target_audience".to_owned(), "https://a.example".into());
        let all = [&plain, &read, &typed, &claimed].map(request);
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one), "{at}");
        }
    }
}
