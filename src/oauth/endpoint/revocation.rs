//! Giving a token back (RFC 7009): after that it cannot be used.
//!
//! `endpoint` calls this, with the client authentication of the token endpoint. A logout counts here whatever
//! comes of it: the caller forgets the token even where the server could not be told.

use url::Url;

use crate::secret::Secret;

use crate::oauth::client::Client;
use crate::oauth::client::authentication::Proof;
use crate::oauth::endpoint::response::accepted;
use crate::oauth::endpoint::transport::Http;
use crate::oauth::endpoint::write::form;
use crate::oauth::error::Error;
use crate::oauth::error::kind::RequestFault;
use crate::oauth::error::place::Place;
use crate::oauth::error::situation::{Asked, Situation};

/// What kind of token is given back (RFC 7009 section 2.1). It is a hint: the server looks among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenHint {
    /// An access token: it alone ends.
    AccessToken,
    /// A refresh token: the grant ends, and with it, at most servers, the access tokens out of it.
    RefreshToken,
}

impl TokenHint {
    const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
        }
    }
}

/// One request. A token that the server does not know is as good as given back: it says 200 to that, too.
pub(in crate::oauth) async fn revoke(
    http: &Http,
    url: &Url,
    client: &Client,
    proof: &Proof,
    token: &Secret<String>,
    hint: TokenHint,
) -> Result<(), Error> {
    let place = Place::of(url);
    let pairs = [("token", token.expose().as_str()), ("token_type_hint", hint.as_str())];
    let request = form(url, client, proof, &pairs).ok_or(Error::here(RequestFault::Panicked))?;
    let answer = http.send(request, &place).await?;
    // RFC 7009 section 2.2: the body of a success says nothing. Keycloak's has the error `invalid_token` where the token
    // has ended before, as an access token does with its refresh token.
    if answer.status.is_success() {
        return Ok(());
    }
    // Section 2.2.1: errors are those of the token endpoint, and `unsupported_token_type`.
    let situation = Situation::of(Asked::Revocation, client);
    accepted(answer.status, &answer.body).map_err(|kind| answer.failure(place, kind, situation))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::oauth::client::ClientAuth;
    use crate::oauth::discovery::server::Location;
    use crate::oauth::endpoint::AuthorizationServer;
    use crate::oauth::error::class::Class;
    use crate::oauth::peer::{Peer, Reply, client, inline, settings};

    fn server(peer: &Peer) -> AuthorizationServer {
        let location = Location {
            revocation_endpoint: Some(peer.url("/revoke")),
            ..Location::endpoint(peer.url("/token"))
        };
        AuthorizationServer::new(&settings(location)).unwrap()
    }

    fn token() -> Secret<String> {
        Secret::new("sentinel+token".to_owned())
    }

    #[tokio::test]
    async fn the_client_authenticates_as_at_the_token_endpoint() {
        let peer = Peer::start(|_| Reply::Http(200, "", String::new())).await;
        let server = server(&peer);
        server.revoke(&client(), &token(), TokenHint::RefreshToken).await.unwrap();
        let seen = peer.last();
        assert_eq!(seen.line(), "POST /revoke");
        assert!(seen.header("authorization").is_some_and(|value| value.starts_with("Basic ")));
        let form = seen.form();
        assert!(form.contains(&("token".into(), "sentinel+token".into())));
        assert!(form.contains(&("token_type_hint".into(), "refresh_token".into())));
        assert!(!form.iter().any(|(name, _)| name == "grant_type" || name == "client_secret"), "{form:?}");

        let post = Client { auth: ClientAuth::SecretPost(inline("sentinel-secret")), ..client() };
        server.revoke(&post, &token(), TokenHint::AccessToken).await.unwrap();
        let form = peer.last().form();
        assert!(form.contains(&("client_secret".into(), "sentinel-secret".into())));
        assert!(form.contains(&("token_type_hint".into(), "access_token".into())));
    }

    #[tokio::test]
    async fn what_the_server_says_is_reported_and_its_body_is_not() {
        let says = |code: &str| format!(r#"{{"error":"{code}","error_description":"sentinel"}}"#);
        for (reply, want) in [
            (Reply::ok("sentinel, whatever it is"), None),
            (Reply::Http(200, "", says("invalid_token")), None),
            (Reply::Http(204, "", String::new()), None),
            (
                Reply::Http(400, "", says("unsupported_token_type")),
                Some((Class::Misconfigured, "unsupported_token_type", None)),
            ),
            (
                Reply::Http(401, "", says("invalid_client")),
                Some((Class::Misconfigured, "invalid_client", None)),
            ),
            (
                Reply::Http(503, "Retry-After: 9\r\n", "<html>sentinel".into()),
                Some((Class::Transient, "status", Some(Duration::from_secs(9)))),
            ),
            (
                Reply::Http(302, "Location: http://127.0.0.1:9/\r\n", String::new()),
                Some((Class::Misconfigured, "redirect", None)),
            ),
            (Reply::Close, Some((Class::Transient, "reset", None))),
        ] {
            let shown = format!("{reply:?}");
            let peer = Peer::start(move |_| reply.clone()).await;
            let outcome = server(&peer).revoke(&client(), &token(), TokenHint::AccessToken).await;
            if let Err(error) = &outcome {
                let said = format!("{error} {error:?}");
                assert!(!said.contains("sentinel"), "{said}");
            }
            let got = outcome.err().map(|error| (error.class(), error.cause(), error.retry_after()));
            assert_eq!(got, want, "{shown}");
        }
    }

    #[tokio::test]
    async fn a_server_without_the_endpoint_is_told_nothing_and_the_error_says_so() {
        let peer = Peer::start(|_| Reply::token()).await;
        let server = AuthorizationServer::new(&settings(Location::endpoint(peer.url("/token")))).unwrap();
        let error = server.revoke(&client(), &token(), TokenHint::AccessToken).await.unwrap_err();
        assert_eq!(error.cause(), "no_endpoint");
        assert!(peer.lines().is_empty());
    }
}
