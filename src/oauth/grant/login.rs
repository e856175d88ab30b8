//! A person's login at an authorization server, step by step: where to send the browser, what to redeem, what to show
//! for another device, where a session ends. When each step comes is for the caller.

use http::StatusCode;
use url::Url;

use crate::clock;
use crate::oauth::client::Client;
use crate::oauth::dpop::Dpop;
use crate::oauth::endpoint::AuthorizationServer;
use crate::oauth::endpoint::body::Form;
use crate::oauth::endpoint::failure::{Issued, TokenFailure};
use crate::oauth::endpoint::remark::Carried;
use crate::oauth::endpoint::response::TokenResponse;
use crate::oauth::endpoint::write::{form, form_in};
use crate::oauth::error::Error;
use crate::oauth::error::kind::{
    AuthorizationFault, Code, ErrorKind, IdTokenFault, RequestFault, ResponseFault,
};
use crate::oauth::error::place::Place;
use crate::oauth::error::situation::{Asked, Key, Situation};
use crate::oauth::grant::authorization_code::{
    Authorization, AuthorizationRequest, Draft, Pending, Pkce, request_uri,
};
use crate::oauth::grant::callback::Callback;
use crate::oauth::grant::device_code::DeviceAuthorization;
use crate::oauth::grant::id_token::{self, Expected, Identity};
use crate::oauth::grant::{Grant, TokenRequest};
use crate::secret::Secret;

/// What a person's login takes of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginWay {
    /// A browser on this machine; whether its request is pushed ahead although that is not demanded.
    Browser {
        /// See [`AuthorizationRequest::pushed`].
        pushed: bool,
        /// See [`AuthorizationRequest::pkce`].
        pkce: Pkce,
    },
    /// Another device.
    Device,
}

/// Why a login did not come to its end, and what is to be kept of it all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoginFailure {
    /// Why.
    pub error: Error,
    /// What the response holds beside its flaw, and who logged in; `None`: nothing that may be kept.
    pub kept: Option<Box<(Issued, Option<Identity>)>>,
}

impl From<Error> for LoginFailure {
    fn from(error: Error) -> Self {
        Self { error, kept: None }
    }
}

impl AuthorizationServer {
    /// Whether the server offers what a login takes, as far as the configuration and the metadata say. Nothing is sent but
    /// the request for the metadata.
    ///
    /// # Errors
    /// [`Error`]: what is missing, or why the metadata could not be read.
    pub(crate) async fn preview_login(&self, way: LoginWay) -> Result<(), Error> {
        self.directory.token_endpoint(&self.http).await?;
        let LoginWay::Browser { pushed, pkce } = way else {
            return self.directory.device_authorization_endpoint(&self.http).await.map(drop);
        };
        self.directory.authorization_endpoint(&self.http).await?;
        let offer = self.directory.offer(&self.http).await?;
        if offer.lacks_s256 && pkce == Pkce::S256 {
            return Err(Error::here(ResponseFault::NoPkce));
        }
        if (offer.requires_pushed || pushed)
            && self.directory.pushed_authorization_endpoint(&self.http).await?.is_none()
        {
            return Err(Error::here(RequestFault::NoEndpoint(
                crate::oauth::discovery::role::Role::PushedAuthorization,
            )));
        }
        Ok(())
    }

    /// Where to send a browser for a login. Asks for the metadata where that is due, and pushes the request ahead where
    /// the server demands it (RFC 9126), or offers it and that is wanted.
    ///
    /// # Errors
    /// [`Error`]: the server has no authorization endpoint, could not be reached, or refused what was pushed.
    pub(crate) async fn authorize(&self, ask: AuthorizationRequest<'_>) -> Result<Authorization, Error> {
        let endpoint = self.directory.authorization_endpoint(&self.http).await?;
        let offer = self.directory.offer(&self.http).await?;
        let issuer = self.directory.issuer().map(crate::oauth::discovery::server::Issuer::as_str);
        let draft = Draft::new(&ask, issuer, offer).map_err(Error::here)?;
        if !offer.requires_pushed && !ask.pushed {
            return Ok(draft.address(endpoint, &self.dialect));
        }
        let Some(url) = self.directory.pushed_authorization_endpoint(&self.http).await? else {
            return Err(Error::here(RequestFault::NoEndpoint(
                crate::oauth::discovery::role::Role::PushedAuthorization,
            )));
        };
        let pairs: Vec<_> = draft.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let place = Place::of(&url);
        let keys = ask.client.auth.read().await?;
        let token_endpoint = self.directory.token_endpoint(&self.http).await?;
        let proof =
            keys.prove(ask.client, self.audience(&token_endpoint), self.now()).map_err(Error::here)?;
        let request = form(&url, ask.client, &proof, &pairs).ok_or(Error::here(RequestFault::Panicked))?;
        let answer = self.http.send(request, &place).await?;
        let situation = Situation::of(Asked::Push, ask.client)
            .asking(ask.request)
            .with(Key::AuthorizationParams, !ask.params.is_empty())
            .with(Key::PushedAuthorization, ask.pushed)
            .with(Key::Dpop, ask.dpop.is_some());
        let name = request_uri(&answer).map_err(|kind| answer.failure(place, kind, situation))?;
        Ok(draft.pushed_address(endpoint, ask.client, &name))
    }

    /// Redeems what a browser brought back; it counts once. Who logged in comes with it, where an ID token says so.
    ///
    /// # Errors
    /// [`LoginFailure`]: the server refused the login or the code, the answer is not to this request, or it is of no use.
    pub(crate) async fn redeem(
        &self,
        client: &Client,
        callback: Callback,
        pending: &Pending,
        request: &TokenRequest,
        dpop: Option<&Dpop>,
    ) -> Result<(TokenResponse, Option<Identity>), LoginFailure> {
        let situation = Situation::of(Asked::Authorization, client)
            .asking(request)
            .with(Key::PushedAuthorization, pending.pushed)
            .with(Key::Dpop, dpop.is_some());
        let report = callback.report();
        let grant = callback.grant(pending).map_err(|error| match error.kind() {
            ErrorKind::Authorization(AuthorizationFault::Denied(_)) => {
                let nothing = Carried::default();
                error.with(report.details(StatusCode::BAD_REQUEST, Form::Other, &nothing, situation))
            }
            _ => error,
        })?;
        // The code stands for what was asked for (RFC 6749 section 4.1.3): the scope is not asked for again.
        let request = TokenRequest { scope: Vec::new(), audience: None, ..request.clone() };
        let response = match self.token(client, &grant, &request, dpop).await {
            Err(failure) if failure.issued().is_none() && failure.code() == Some(Code::InvalidGrant) => {
                return Err(Error::from(failure).of_the_code().into());
            }
            Err(failure) => return Err(self.login_failure(client, failure, Some(pending))),
            Ok(response) => response,
        };
        let identity = self.identity(client, response.id_token.as_ref(), Some(pending))?;
        Ok((response, identity))
    }

    /// Begins a login on another device (RFC 8628 section 3.1).
    ///
    /// # Errors
    /// [`Error`]: the server has no such endpoint, could not be reached, or refused.
    pub(crate) async fn authorize_device(
        &self,
        client: &Client,
        request: &TokenRequest,
        params: &[(String, String)],
    ) -> Result<DeviceAuthorization, Error> {
        let url = self.directory.device_authorization_endpoint(&self.http).await?;
        let place = Place::of(&url);
        let keys = client.auth.read().await?;
        let token_endpoint = self.directory.token_endpoint(&self.http).await?;
        let proof = keys.prove(client, self.audience(&token_endpoint), self.now()).map_err(Error::here)?;
        let situation = Situation::of(Asked::DeviceAuthorization, client)
            .asking(request)
            .with(Key::AuthorizationParams, !params.is_empty());
        let scope = request.scope.join(" ");
        // A public client names itself (RFC 8628 section 3.1); with a secret in the header, to do so again is allowed.
        let mut pairs = vec![("scope", scope.as_str())];
        pairs.extend(request.audience.as_deref().map(|audience| ("audience", audience)));
        pairs.extend(request.resource.iter().map(|resource| ("resource", resource.as_str())));
        pairs.extend(params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let request = form_in(&self.dialect, &url, client, &proof, &pairs)
            .ok_or(Error::here(RequestFault::Panicked))?;
        let answer = self.http.send(request, &place).await?;
        DeviceAuthorization::read(&answer).map_err(|kind| answer.failure(place, kind, situation))
    }

    /// Asks once whether the person has finished on the other device (RFC 8628 section 3.4).
    ///
    /// # Errors
    /// [`LoginFailure`]; its code says whether the person is not done yet.
    pub(crate) async fn redeem_device(
        &self,
        client: &Client,
        device: &DeviceAuthorization,
        request: &TokenRequest,
        dpop: Option<&Dpop>,
    ) -> Result<(TokenResponse, Option<Identity>), LoginFailure> {
        let grant = Grant::DeviceCode(device.device_code.clone());
        let request = TokenRequest { scope: Vec::new(), audience: None, ..request.clone() };
        let outcome = self.token(client, &grant, &request, dpop).await;
        let response = outcome.map_err(|failure| self.login_failure(client, failure, None))?;
        let identity = self.identity(client, response.id_token.as_ref(), None)?;
        Ok((response, identity))
    }

    /// Whether a login on another device may begin, as far as that is known without a request.
    #[must_use]
    pub(crate) fn may_offer_devices(&self) -> bool {
        self.directory.may_offer_devices()
    }

    /// The origin of the pages that a login goes through.
    ///
    /// # Errors
    /// [`Error`] where the metadata could not be had, or name no such page.
    pub(crate) async fn authorization_origin(&self) -> Result<String, Error> {
        let url = self.directory.authorization_endpoint(&self.http).await?;
        Ok(url.origin().ascii_serialization())
    }

    /// Where a browser ends its session at the server (OpenID Connect RP-Initiated Logout 1.0 section 2); `None`: the
    /// server does not offer it. `id_token` is that of the login, expired or not (`id_token_hint`); `back` is where the browser
    /// goes then (`post_logout_redirect_uri`).
    ///
    /// # Errors
    /// [`Error`] where the metadata could not be had.
    pub(crate) async fn end_session(
        &self,
        client: &Client,
        id_token: Option<&Secret<String>>,
        back: Option<&str>,
    ) -> Result<Option<Url>, Error> {
        let Some(mut url) = self.directory.end_session_endpoint(&self.http).await? else { return Ok(None) };
        let hint = id_token.map(|token| ("id_token_hint", token.expose().as_str()));
        let back = back.map(|uri| ("post_logout_redirect_uri", uri));
        let pairs = [Some(("client_id", client.id.as_str())), hint, back];
        url.query_pairs_mut().extend_pairs(pairs.into_iter().flatten());
        Ok(Some(url))
    }

    /// What is kept of a login whose response is of no use: nothing where its ID token is not to this login, for the
    /// refresh token may be another user's then.
    fn login_failure(
        &self,
        client: &Client,
        failure: TokenFailure,
        pending: Option<&Pending>,
    ) -> LoginFailure {
        let Some(issued) = failure.issued() else { return Error::from(failure).into() };
        match self.identity(client, issued.id_token.as_ref(), pending) {
            Ok(identity) => {
                let kept = Box::new((issued.clone(), identity));
                LoginFailure { error: failure.into(), kept: Some(kept) }
            }
            Err(error) => error.into(),
        }
    }

    fn identity(
        &self,
        client: &Client,
        id_token: Option<&Secret<String>>,
        pending: Option<&Pending>,
    ) -> Result<Option<Identity>, Error> {
        let fault = |fault| Error::here(AuthorizationFault::IdToken(fault));
        let nonce = pending.and_then(|pending| pending.nonce.as_ref());
        let Some(token) = id_token else {
            return if nonce.is_some() { Err(fault(IdTokenFault::Missing)) } else { Ok(None) };
        };
        let expected = Expected {
            issuer: self.directory.issuer().map(crate::oauth::discovery::server::Issuer::as_str),
            client_id: &client.id,
            nonce,
            now: clock::wall(),
        };
        id_token::read(token, expected).map(Some).map_err(fault)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::oauth::discovery::server::Location;
    use crate::oauth::error::kind::FoundIssuer;
    use crate::oauth::grant::authorization_code::Manner;
    use crate::oauth::peer::{Peer, Reply, client, plain, settings};

    fn request(scope: &[&str]) -> TokenRequest {
        TokenRequest { scope: scope.iter().map(ToString::to_string).collect(), ..plain() }
    }

    /// An authorization server whose metadata have these members, too.
    async fn server(members: &'static str, token: &'static str) -> (Peer, AuthorizationServer) {
        let peer = Peer::start(move |seen| {
            let origin = format!("http://{}", seen.header("host").unwrap());
            match seen.line() {
                "POST /par" => Reply::Http(201, "", r#"{"request_uri":"urn:x:1","expires_in":60}"#.to_owned()),
                "POST /token" => Reply::ok(token.to_owned()),
                _ => Reply::ok(format!(
                    r#"{{"issuer":"{origin}","token_endpoint":"{origin}/token","authorization_endpoint":"{origin}/auth?tenant=1",
                    "pushed_authorization_request_endpoint":"{origin}/par"{members}}}"#
                )),
            }
        })
        .await;
        let location = Location::issuer(peer.origin.parse().unwrap());
        let server = AuthorizationServer::new(&settings(location)).unwrap();
        (peer, server)
    }

    fn ask<'a>(client: &'a Client, request: &'a TokenRequest, manner: Manner) -> AuthorizationRequest<'a> {
        let redirect_uri = "http://127.0.0.1:4711/callback";
        AuthorizationRequest {
            client,
            request,
            params: &[],
            redirect_uri,
            manner,
            pushed: false,
            dpop: None,
            pkce: Pkce::S256,
        }
    }

    fn parameter(url: &Url, name: &str) -> Option<String> {
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    #[tokio::test]
    async fn a_browser_is_sent_with_a_challenge_of_its_own_each_time() {
        // A server that lists nothing but `plain` gets S256 all the same (RFC 9700 section 2.1.1).
        let (_peer, server) = server(r#","code_challenge_methods_supported":["plain"]"#, "").await;
        let request = request(&["openid", "offline_access", "orders:read"]);
        let (client, request) =
            (client(), TokenRequest { audience: Some("https://api.example".into()), ..request });
        let one = server.authorize(ask(&client, &request, Manner::Interactive)).await.unwrap();
        let other = server.authorize(ask(&client, &request, Manner::Interactive)).await.unwrap();
        for name in ["state", "nonce", "code_challenge"] {
            let (one, other) = (parameter(&one.url, name).unwrap(), parameter(&other.url, name).unwrap());
            assert!(one != other && one.len() == 43, "{name}: {one}");
        }
        for (name, want) in [
            ("tenant", "1"),
            ("response_type", "code"),
            ("code_challenge_method", "S256"),
            ("redirect_uri", "http://127.0.0.1:4711/callback"),
            ("scope", "openid offline_access orders:read"),
            ("prompt", "consent"),
            ("audience", "https://api.example"),
        ] {
            assert_eq!(parameter(&one.url, name).as_deref(), Some(want));
        }
        let silent = server.authorize(ask(&client, &request, Manner::Silent)).await.unwrap();
        assert_eq!((parameter(&silent.url, "prompt").as_deref(), silent.web_message), (Some("none"), false));
    }

    #[tokio::test]
    async fn a_request_is_pushed_by_an_authenticated_client_where_the_server_demands_it() {
        let (peer, server) = server(r#","require_pushed_authorization_requests":true"#, "").await;
        let (client, request) = (client(), request(&["orders:read"]));
        let pushed = server.authorize(ask(&client, &request, Manner::Interactive)).await.unwrap();
        let names: Vec<_> = pushed.url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["tenant", "client_id", "request_uri"]);
        let seen = peer.last();
        assert!(seen.header("authorization").is_some_and(|value| value.starts_with("Basic ")));
        let form = seen.form();
        let count = |name: &str| form.iter().filter(|(given, _)| given == name).count();
        for name in ["client_id", "redirect_uri", "state", "code_challenge", "response_type"] {
            assert_eq!(count(name), 1, "{name}: {form:?}");
        }
        assert_eq!(count("request_uri") + count("grant_type"), 0, "{form:?}");
    }

    #[tokio::test]
    async fn a_code_is_redeemed_once_with_what_the_request_had_and_no_scope() {
        let (peer, server) =
            server("", r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#).await;
        let (client, request) = (client(), request(&["orders:read"]));
        let Authorization { pending, .. } =
            server.authorize(ask(&client, &request, Manner::Interactive)).await.unwrap();
        let callback = Callback::parse(&format!("state={}&code=c", pending.state.expose()));
        let (response, identity) = server.redeem(&client, callback, &pending, &request, None).await.unwrap();
        assert_eq!((response.access_token.expose().as_str(), identity), ("t", None));
        let form = peer.last().form();
        for (name, value) in [
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("redirect_uri", "http://127.0.0.1:4711/callback"),
            ("code_verifier", pending.verifier.as_ref().unwrap().expose()),
        ] {
            assert!(form.contains(&(name.into(), value.to_owned())), "{name}: {form:?}");
        }
        assert!(!form.iter().any(|(name, _)| name == "scope"), "{form:?}");
    }

    #[tokio::test]
    async fn a_refused_code_is_reported_with_what_the_server_says_of_it() {
        let peer = Peer::start(|seen| {
            let origin = format!("http://{}", seen.header("host").unwrap());
            match seen.line() {
                "POST /token" => Reply::Http(
                    400,
                    "",
                    r#"{"error":"invalid_grant","error_description":"PKCE verification failed"}"#.to_owned(),
                ),
                _ => Reply::ok(format!(
                    r#"{{"issuer":"{origin}","token_endpoint":"{origin}/token","authorization_endpoint":"{origin}/auth"}}"#
                )),
            }
        })
        .await;
        let server =
            AuthorizationServer::new(&settings(Location::issuer(peer.origin.parse().unwrap()))).unwrap();
        let (client, request) = (client(), request(&["orders:read"]));
        let Authorization { pending, .. } =
            server.authorize(ask(&client, &request, Manner::Interactive)).await.unwrap();
        let callback = Callback::parse(&format!("state={}&code=c", pending.state.expose()));
        let error = server.redeem(&client, callback, &pending, &request, None).await.unwrap_err().error;
        assert_eq!(error.cause(), "code_refused");
        let said = error.in_full();
        for words in [
            "/token: it responded with 400",
            "`invalid_grant`: the code was refused",
            "PKCE verification failed",
        ] {
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(error.help(), None);
    }

    #[tokio::test]
    async fn without_pkce_neither_the_request_nor_the_code_has_a_proof() {
        // A server that lists no method is no obstacle then.
        let members = r#","code_challenge_methods_supported":[]"#;
        let (peer, server) =
            server(members, r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#).await;
        let way = |pkce| LoginWay::Browser { pushed: false, pkce };
        server.preview_login(way(Pkce::None)).await.unwrap();
        let (client, request) = (client(), request(&["orders:read"]));
        let ask = AuthorizationRequest { pkce: Pkce::None, ..ask(&client, &request, Manner::Interactive) };
        let Authorization { url, pending, .. } = server.authorize(ask).await.unwrap();
        assert!(!url.as_str().contains("code_challenge"), "{url}");
        assert!(parameter(&url, "state").is_some());
        let callback = Callback::parse(&format!("state={}&code=c", pending.state.expose()));
        server.redeem(&client, callback, &pending, &request, None).await.unwrap();
        assert!(!peer.last().body.contains("code_verifier"), "{}", peer.last().body);
    }

    #[tokio::test]
    async fn an_endpoints_own_names_stand_in_the_browsers_address() {
        let (peer, mut server) = server("", "").await;
        server.dialect.parameter_names = [("client_id".to_owned(), "client_key".to_owned())].into();
        let (client, request) = (client(), request(&["user.info.basic"]));
        let url = server.authorize(ask(&client, &request, Manner::Interactive)).await.unwrap().url;
        assert_eq!(parameter(&url, "client_key").as_deref(), Some("orders"));
        assert_eq!(parameter(&url, "client_id"), None);
        assert_eq!(peer.lines().len(), 1, "the metadata alone");
    }

    #[tokio::test]
    async fn a_logout_says_which_session_and_where_to_go_then() {
        let (_peer, server) =
            server(r#","end_session_endpoint":"https://as.example/end?tenant=1""#, "").await;
        let client = client();
        let bare = server.end_session(&client, None, None).await.unwrap().unwrap();
        assert_eq!(bare.as_str(), "https://as.example/end?tenant=1&client_id=orders");
        let token = Secret::new("e30.e30.s".to_owned());
        let whole =
            server.end_session(&client, Some(&token), Some("http://127.0.0.1:9902/")).await.unwrap().unwrap();
        assert_eq!(parameter(&whole, "id_token_hint").as_deref(), Some("e30.e30.s"));
        assert_eq!(parameter(&whole, "post_logout_redirect_uri").as_deref(), Some("http://127.0.0.1:9902/"));
    }

    #[tokio::test]
    async fn a_login_without_its_id_token_or_with_another_logins_is_not_taken() {
        let claims =
            URL_SAFE_NO_PAD.encode(r#"{"iss":"x","aud":"orders","sub":"u","exp":4000000000,"nonce":"n"}"#);
        let answer = format!(
            r#"{{"access_token":"t","token_type":"Bearer","expires_in":60,"id_token":"e30.{claims}.s"}}"#
        );
        for (answer, want) in [
            (
                r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#.to_owned(),
                IdTokenFault::Missing,
            ),
            (answer, IdTokenFault::Issuer(FoundIssuer::of(Some("x")))),
        ] {
            let (_peer, server) = server("", answer.leak()).await;
            let (client, request) = (client(), request(&["openid"]));
            let Authorization { pending, .. } =
                server.authorize(ask(&client, &request, Manner::Interactive)).await.unwrap();
            let callback = Callback::parse(&format!("state={}&code=c", pending.state.expose()));
            let error = server.redeem(&client, callback, &pending, &request, None).await.unwrap_err();
            assert_eq!(error, Error::here(AuthorizationFault::IdToken(want)).into());
        }
    }
}
