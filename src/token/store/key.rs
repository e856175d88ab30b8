//! Whose a stored token is, and what it was asked for: what must be the same for it to be used again.

use crate::oauth::Location;
use crate::token::settings::{GrantSettings, ServerOrigin, Subject};

use super::Key;
use super::entry::Fingerprint;

impl Key {
    /// The key of a token that comes from an authorization server. The client is told by where its server is and by its
    /// identifier: to rotate its secret, or to change what is asked for, makes no other client of it.
    #[must_use]
    pub fn of(name: &str, origin: &ServerOrigin) -> Self {
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
    parts.push("grant");
    parts.extend(grant(&origin.grant));
    // A token may be bound to the certificate (RFC 8705 section 3): with another it is worth nothing.
    let thumbprint = certificate.map(|certificate| certificate.thumbprint.as_slice());
    Fingerprint::of(parts.into_iter().map(str::as_bytes).chain(thumbprint))
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
            let mut parts = vec!["token_exchange", exchange.subject_token_type.as_str()];
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
}
