//! The authorization code grant (RFC 6749 section 4.1), as far as a browser carries it: with PKCE (RFC 7636, S256 or, at
//! servers that refuse its parameters, not at all), pushed ahead where the server asks for it (RFC 9126), and with a nonce where an ID token comes of it.
//!
//! `endpoint` sends what is pushed and redeems the code; `callback` reads what the browser brings back.

use oauth2::{PkceCodeChallenge, PkceCodeVerifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::secret::Secret;

use crate::oauth::client::Client;
use crate::oauth::discovery::document::Offer;
use crate::oauth::dpop::Dpop;
use crate::oauth::endpoint::dialect::Dialect;
use crate::oauth::endpoint::json_body::members;
use crate::oauth::endpoint::response;
use crate::oauth::endpoint::transport::Answer;
use crate::oauth::error::kind::{ErrorKind, ResponseFault, ResponseFlaw};
use crate::oauth::grant::TokenRequest;
use crate::oauth::jose::random;

/// What a person's browser is to ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthorizationRequest<'a> {
    /// Who asks.
    pub client: &'a Client,
    /// What for. `params` are the token request's alone.
    pub request: &'a TokenRequest,
    /// More parameters of the authorization request: `login_hint`, `prompt` and their like.
    pub params: &'a [(String, String)],
    /// Where the browser is to come back to.
    pub redirect_uri: &'a str,
    /// Whether a person is there.
    pub manner: Manner,
    /// Whether the request is pushed where the server only offers that, too.
    pub pushed: bool,
    /// The key that the token is to be bound to: the code is bound to it, too (RFC 9449 section 10).
    pub dpop: Option<&'a Dpop>,
    /// Whether the code is bound to this program.
    pub pkce: Pkce,
}

/// Proof Key for Code Exchange (RFC 7636): whether any program that finds a code can redeem it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(crate) enum Pkce {
    /// This program alone can.
    #[default]
    S256,
    /// Without: for servers that refuse its parameters, and for clients that authenticate.
    #[serde(rename = "none")]
    None,
}

/// How the server may answer the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It may show pages.
    Interactive,
    /// It shows none (`prompt=none`, OpenID Connect Core 1.0 section 3.1.2.1): in a hidden frame.
    Silent,
}

/// A request that is on its way through a browser: what its answer is compared with and redeemed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(in crate::oauth) state: Secret<String>,
    /// `None`: no ID token was asked for.
    pub(in crate::oauth) nonce: Option<Secret<String>>,
    /// `None`: the request had no challenge.
    pub(in crate::oauth) verifier: Option<Secret<String>>,
    pub(in crate::oauth) redirect_uri: String,
    /// What the server calls itself, where that is known.
    pub(in crate::oauth) issuer: Option<String>,
    /// Whether the answer must say so (RFC 9207 section 2.4).
    pub(in crate::oauth) says_issuer: bool,
    /// Whether the configuration has such requests pushed ahead.
    pub(in crate::oauth) pushed: bool,
}

/// Where to send a browser, and what to expect of it.
#[derive(Debug)]
pub(crate) struct Authorization {
    /// For the browser. It holds no secret: the challenge is a hash.
    pub url: Url,
    /// For the answer.
    pub pending: Pending,
    /// Whether the answer comes as a message to the window that holds the frame, and not as a redirect.
    pub web_message: bool,
}

/// An authorization request, written but not sent.
pub(in crate::oauth) struct Draft {
    pub(in crate::oauth) pairs: Vec<(String, String)>,
    pub(in crate::oauth) pending: Pending,
    pub(in crate::oauth) web_message: bool,
}

impl Draft {
    pub(in crate::oauth) fn new(
        ask: &AuthorizationRequest<'_>,
        issuer: Option<&str>,
        server: Offer,
    ) -> Result<Self, ErrorKind> {
        let AuthorizationRequest { client, request, params, redirect_uri, manner, pushed, dpop, pkce } = *ask;
        let verifier = match pkce {
            Pkce::S256 => Some(random::word()?),
            Pkce::None => None,
        };
        let challenge = verifier.as_ref().map(|verifier| {
            PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier.expose().clone()))
        });
        let state = random::word()?;
        let openid = request.scope.iter().any(|scope| scope == "openid");
        let nonce = if openid { Some(random::word()?) } else { None };
        let web_message = manner == Manner::Silent && server.web_message;
        let scope = request.scope.join(" ");
        let given = |name: &str| params.iter().any(|(given, _)| given == name);
        let mut pairs: Vec<(&str, &str)> = vec![
            ("response_type", "code"),
            ("client_id", &client.id),
            ("redirect_uri", redirect_uri),
            ("scope", &scope),
            ("state", state.expose()),
        ];
        if let Some(challenge) = &challenge {
            pairs.push(("code_challenge", challenge.as_str()));
            pairs.push(("code_challenge_method", challenge.method().as_str()));
        }
        pairs.extend(nonce.as_ref().map(|nonce| ("nonce", nonce.expose().as_str())));
        pairs.extend(request.audience.as_deref().map(|audience| ("audience", audience)));
        pairs.extend(request.resource.iter().map(|resource| ("resource", resource.as_str())));
        let thumbprint = dpop.map(Dpop::thumbprint);
        pairs.extend(thumbprint.as_deref().map(|thumbprint| ("dpop_jkt", thumbprint)));
        match manner {
            Manner::Silent => pairs.push(("prompt", "none")),
            // OpenID Connect Core 1.0 section 11: without consent a server ignores this scope.
            Manner::Interactive
                if openid
                    && request.scope.iter().any(|scope| scope == "offline_access")
                    && !given("prompt") =>
            {
                pairs.push(("prompt", "consent"));
            }
            Manner::Interactive => {}
        }
        if web_message {
            pairs.push(("response_mode", "web_message"));
        }
        let own: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
        let more = params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let more: Vec<_> = more.filter(|(name, _)| !own.contains(name)).collect();
        pairs.extend(more);
        let pairs = pairs
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let pending = Pending {
            state: state.clone(),
            nonce: nonce.clone(),
            verifier,
            redirect_uri: redirect_uri.to_owned(),
            issuer: issuer.map(str::to_owned),
            says_issuer: server.says_issuer,
            pushed,
        };
        Ok(Self { pairs, pending, web_message })
    }

    /// The address for the browser, with the request in it, in the names of `dialect`.
    pub(in crate::oauth) fn address(self, endpoint: Url, dialect: &Dialect) -> Authorization {
        let Self { pairs, pending, web_message } = self;
        let mut url = endpoint;
        url.query_pairs_mut().extend_pairs(pairs.iter().map(|(name, value)| (dialect.name(name), value)));
        Authorization { url, pending, web_message }
    }

    /// The address for the browser, with nothing in it but a name for the request (RFC 9126 section 4).
    pub(in crate::oauth) fn pushed_address(
        self,
        endpoint: Url,
        client: &Client,
        request_uri: &str,
    ) -> Authorization {
        let Self { pending, web_message, .. } = self;
        let mut url = endpoint;
        url.query_pairs_mut().append_pair("client_id", &client.id).append_pair("request_uri", request_uri);
        Authorization { url, pending, web_message }
    }
}

/// The name that the server gave to a pushed request (RFC 9126 section 2.2).
pub(in crate::oauth) fn request_uri(answer: &Answer) -> Result<String, ErrorKind> {
    #[derive(Deserialize)]
    struct Members {
        request_uri: Option<String>,
    }
    response::accepted(answer.status, &answer.body)?;
    let members: Members = members(&answer.body)?;
    let name =
        members.request_uri.filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()));
    name.ok_or(ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NoRequestUri)))
}
