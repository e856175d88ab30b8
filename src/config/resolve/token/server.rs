//! The authorization server: where its endpoints are, and how it is reached.

use url::Url;

use super::{client, dialect};
use crate::config::Options;
use crate::config::file::{ClientAuth, Grant, Token};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::resolve::address::{self, Query, is_link_local, secure_url};
use crate::config::resolve::certificates::ca_file;
use crate::config::resolve::{Zero, duration, proxy};
use crate::net::tls::ClientCertificate;
use crate::oauth::{Location, ServerSettings, Transport};

pub(super) fn resolve(
    path: &KeyPath,
    token: &Token,
    certificate: Option<ClientCertificate>,
    token_uri: Option<(KeyPath, String)>,
    options: Options,
    review: &mut Review<'_>,
) -> Option<ServerSettings> {
    let location = location(path, token, token_uri, options, review);
    let dialect = dialect::resolve(path, token, review);
    let ca_file = ca_file(&path.key("ca_file"), token.ca_file.as_deref(), review);
    let proxy = proxy::resolve(&path.key("proxy"), token.proxy.as_deref(), review);
    let connect_timeout =
        duration(&path.key("connect_timeout"), token.connect_timeout, Zero::Refused, review);
    let timeout = duration(&path.key("timeout"), token.timeout, Zero::Refused, review);
    let transport =
        Transport { ca_file: ca_file.ok()?, certificate, proxy: proxy?, connect_timeout, timeout };
    let token_type = token_type(&path.key("token_type"), &token.token_type, review)?;
    // Bearer is what every server may say.
    let token_type = Some(token_type).filter(|word| !word.eq_ignore_ascii_case("bearer"));
    Some(ServerSettings { location: location?, transport, token_type, dialect: dialect? })
}

/// What else the server calls a Bearer token.
fn token_type(path: &KeyPath, word: &str, review: &mut Review<'_>) -> Option<String> {
    let word = word.trim();
    if word.eq_ignore_ascii_case("dpop") {
        let help = "set `dpop = true` instead, which makes the key that such a token is bound to";
        review.error(path, "is \"DPoP\", which no token without a key is", help);
        return None;
    }
    let is_plain = word.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if word.is_empty() || !is_plain {
        review.error(path, "is no word for a type of tokens", "write it as the server does, or leave it out");
        return None;
    }
    Some(word.to_owned())
}

fn location(
    path: &KeyPath,
    token: &Token,
    token_uri: Option<(KeyPath, String)>,
    options: Options,
    review: &mut Review<'_>,
) -> Option<Location> {
    let (issuer_path, endpoint_path) = (path.key("issuer"), path.key("token_endpoint"));
    let issuer = token.issuer.as_ref().map(|text| {
        // The metadata must repeat the issuer to the letter, so it is kept as it was written.
        secure_url(&issuer_path, text, Query::Refused, options, review)?;
        text.parse().ok()
    });
    // A cloud's metadata server speaks plain http, and is sent no secret.
    let no_secret = token.grant == Grant::ClientCredentials
        && client::auth(path, token, review) == ClientAuth::None
        && token
            .token_endpoint
            .as_ref()
            .is_some_and(|text| Url::parse(text).is_ok_and(|url| is_link_local(&url)));
    let endpoint = token.token_endpoint.as_ref().map(|text| {
        if no_secret {
            address::url(&endpoint_path, text, Query::Allowed, review)
        } else {
            secure_url(&endpoint_path, text, Query::Allowed, options, review)
        }
    });
    let mut further = |key: &str, text: &Option<String>| match text {
        Some(text) => secure_url(&path.key(key), text, Query::Allowed, options, review).map(Some),
        None => Some(None),
    };
    let refresh_endpoint = further("refresh_endpoint", &token.refresh_endpoint);
    let revocation_endpoint = further("revocation_endpoint", &token.revocation_endpoint);
    let introspection_endpoint = further("introspection_endpoint", &token.introspection_endpoint);
    let authorization_endpoint = further("authorization_endpoint", &token.authorization_endpoint);
    let device_authorization_endpoint =
        further("device_authorization_endpoint", &token.device_authorization_endpoint);
    let further = |location: Location| {
        Some(Location {
            authorization_endpoint: authorization_endpoint?,
            device_authorization_endpoint: device_authorization_endpoint?,
            refresh_endpoint: refresh_endpoint?,
            revocation_endpoint: revocation_endpoint?,
            introspection_endpoint: introspection_endpoint?,
            ..location
        })
    };
    let give_back = path.key("revoke_on_exit");
    if token.revoke_on_exit && token.issuer.is_none() && token.revocation_endpoint.is_none() {
        review.error(
            &give_back,
            "nothing says where tokens are given back",
            "set `revocation_endpoint`, or `issuer` whose metadata name it",
        );
    }
    // The endpoint wins, unless the issuer alone comes from the environment.
    let issuer_wins = review.is_override(&issuer_path) && !review.is_override(&endpoint_path);
    match (issuer, endpoint) {
        (Some(issuer), Some(endpoint)) => {
            let (issuer, endpoint) = (issuer?, endpoint?);
            let token_endpoint = (!issuer_wins).then_some(endpoint);
            further(Location { issuer: Some(issuer), token_endpoint, ..Location::default() })
        }
        (Some(issuer), None) => further(Location::issuer(issuer?)),
        (None, Some(endpoint)) => further(Location::endpoint(endpoint?)),
        (None, None) => {
            if let Some((path, uri)) = token_uri {
                return further(Location::endpoint(secure_url(
                    &path,
                    &uri,
                    Query::Allowed,
                    options,
                    review,
                )?));
            }
            if !review.is_spoken_for(&endpoint_path) {
                let what = "nothing says where the authorization server is";
                review.missing(
                    &issuer_path,
                    what,
                    format!("{}, or {}", review.set(&issuer_path), review.set(&endpoint_path)),
                );
            }
            None
        }
    }
}
