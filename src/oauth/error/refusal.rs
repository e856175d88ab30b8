//! What a refusal of an authorization server means: status, code and circumstances together.
//!
//! One code means many things: a wrong secret is `invalid_client` at one server and `unauthorized_client` at the next.
//! [`Meaning::of`] decides, and each meaning has a sentence for operators, an advice that names the keys of this
//! configuration, and a sentence for applications. `error` shows them.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use crate::oauth::endpoint::body::Form;
use crate::oauth::error::details::Details;
use crate::oauth::error::kind::Code;
use crate::oauth::error::mention::{Mention, Mentions};
use crate::oauth::error::situation::{Asked, Key, Method, Situation};

/// A refusal as operators read it: status, code, what they mean here, and what to do.
#[derive(Clone, Copy, Debug)]
pub(in crate::oauth) struct Sentence<'a> {
    pub(in crate::oauth) status: StatusCode,
    pub(in crate::oauth) code: Option<Code>,
    pub(in crate::oauth) details: Option<&'a Details>,
}

impl Sentence<'_> {
    fn meaning(&self) -> Meaning {
        Meaning::of(self.status, self.code, self.details)
    }

    /// What happened, at every address that was tried.
    pub(in crate::oauth) fn fact(&self) -> String {
        let status = self.status.as_u16();
        let word = self.details.and_then(|details| details.word.as_deref());
        let mut text = match (self.code, word) {
            (Some(Code::Other), None) => {
                format!("it responded with {status} and an error that it does not name")
            }
            (Some(code), word) => {
                format!("it responded with {status} and the error `{}`", word.unwrap_or(code.as_str()))
            }
            (None, _) => format!("it responded with {status}"),
        };
        let meaning = self.meaning().fact(self.details.map(|details| &details.situation));
        if !meaning.is_empty() {
            text = format!("{text}: {meaning}");
        } else if self.code.is_none() && self.details.is_none_or(|details| details.remark.is_none()) {
            text += " without a reason";
        }
        let tried = self.details.iter().flat_map(|details| &details.tried);
        tried.fold(text, |text, (place, fact)| format!("{text}; at {place}, which was tried too, {fact}"))
    }
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fact())?;
        let help = self.meaning().help(self.details.map(|details| &details.situation));
        if help.is_empty() { Ok(()) } else { write!(f, "; {help}") }
    }
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oauth) enum Meaning {
    /// The client is not who it says it is.
    Client,
    /// The client may not use this grant.
    Grant,
    /// The server has no such grant.
    NoGrant,
    /// What the request spends is not accepted.
    Spent,
    /// It may be a person's user name or password that is not accepted.
    Person,
    /// What an exchange trades in, or asks for, is not accepted.
    Exchange,
    Scope,
    Target,
    /// The proof of possession is not accepted.
    Proof,
    /// A proof of possession is demanded, and `dpop` is not set.
    ProofDemanded,
    Nonce,
    /// Requests must be pushed ahead.
    Push,
    RedirectUri,
    /// A person declined.
    Declined,
    /// The client or its user may not have it.
    Forbidden,
    /// Only a person at the server's page helps.
    Login,
    Consent,
    Interaction,
    /// The time for a login is over.
    Late,
    /// https is demanded.
    Https,
    /// The request is refused as it is.
    Request,
    /// The endpoint is somewhere else.
    Address,
    /// What stands in front of the server refused it.
    Gate,
    /// Neither JSON nor a form, in the place of what a server says of a refresh token.
    Foreign,
    /// No OAuth error, in the clear through an HTTP proxy: either of the two refused it.
    Unattributed,
    Busy,
    Failure,
    /// A login that goes on.
    Pending,
    /// Nothing says why.
    Unexplained,
}

impl Meaning {
    /// What it means that a server responded with `status` and `code`; `None`: it gave no code.
    pub(in crate::oauth) fn of(status: StatusCode, code: Option<Code>, details: Option<&Details>) -> Self {
        let situation = details.map(|details| &details.situation);
        let mentions = details.map_or_else(Mentions::default, |details| details.mentions);
        let asked = situation.map(|situation| situation.asked);
        let is_page = details.is_some_and(|details| details.form == Form::Page);
        let unclear = matches!(code, None | Some(Code::InvalidRequest | Code::Other | Code::AccessDenied));
        let named = [Mention::Client, Mention::Ended, Mention::Token, Mention::Scope];
        let passes =
            mentions.has(Mention::Passing) && !named.into_iter().any(|subject| mentions.has(subject));
        // RFC 9110 section 15.5.2: credentials were refused, and the request holds those of two.
        let is_login = asked == Some(Asked::Password) && status == StatusCode::UNAUTHORIZED;
        match (status.as_u16(), code) {
            // Whatever the status: it has read the password.
            _ if Self::names_person(code, details) => {
                return if code == Some(Code::InvalidGrant) { Self::Spent } else { Self::Person };
            }
            (429, _) => return Self::Busy,
            (_, None) if details.is_some_and(|known| known.unattributed && !known.exhausted) => {
                return Self::Unattributed;
            }
            // Some servers report a wrong password so.
            (500.., Some(code)) if asked == Some(Asked::Password) && code.is_of_a_person() => {
                return Self::of_code(code, asked, mentions);
            }
            (500.., _) => return Self::Failure,
            _ if unclear && mentions.has(Mention::Rate) => return Self::Busy,
            _ if unclear && !is_login && details.is_some_and(|known| known.exhausted) => return Self::Busy,
            (404 | 405 | 410, None) => return Self::Address,
            (..400, Some(Code::Other)) | (400, None | Some(Code::Other)) if passes => {
                return Self::Failure;
            }
            (400.., None) if is_page && !is_login => return Self::Gate,
            _ => {}
        }
        if mentions.has(Mention::Https) && matches!(code, None | Some(Code::InvalidRequest | Code::Other)) {
            return Self::Https;
        }
        let of_proof = matches!(code, Some(Code::InvalidDpopProof | Code::UseDpopNonce));
        if situation.is_some_and(|situation| !situation.has(Key::Dpop))
            && (of_proof || unclear && mentions.has(Mention::Dpop))
        {
            return Self::ProofDemanded;
        }
        if mentions.has(Mention::Dpop) && (unclear || code == Some(Code::InvalidDpopProof)) {
            return Self::Proof;
        }
        if mentions.has(Mention::Pushed) && unclear {
            return Self::Push;
        }
        // RFC 6749 section 5.2: the status of failed client authentication, whatever the code beside it.
        if status == StatusCode::UNAUTHORIZED
            && (unclear || matches!(code, Some(Code::InvalidClient | Code::UnauthorizedClient)))
            && !mentions.has(Mention::Ended)
            && !mentions.has(Mention::Token)
            && asked != Some(Asked::Metadata)
        {
            let names_the_client = !unclear || mentions.has(Mention::Client);
            return if is_login && !names_the_client { Self::Person } else { Self::Client };
        }
        let is_structured = details.is_none_or(|known| known.form.is_structured());
        match code {
            None if mentions.has(Mention::Scope) => Self::Scope,
            None if mentions.has(Mention::Client) && asked != Some(Asked::Metadata) => Self::Client,
            None if asked == Some(Asked::Refresh) && !is_structured && status.is_client_error() => {
                Self::Foreign
            }
            None if asked == Some(Asked::Password) => Self::Person,
            None => Self::Unexplained,
            Some(code) => Self::of_code(code, asked, mentions),
        }
    }

    /// Whether a response to a person's password speaks of that person, and its code of nothing else.
    pub(in crate::oauth) fn names_person(code: Option<Code>, details: Option<&Details>) -> bool {
        let is_open = match code {
            None => true,
            Some(code) => {
                code.is_of_a_person()
                    || matches!(
                        code,
                        Code::Other | Code::SlowDown | Code::ServerError | Code::TemporarilyUnavailable
                    )
            }
        };
        is_open
            && details.is_some_and(|known| {
                known.situation.asked == Asked::Password
                    && known.mentions.has(Mention::Person)
                    && !(code.is_none() && known.unattributed)
            })
    }

    fn of_code(code: Code, asked: Option<Asked>, mentions: Mentions) -> Self {
        let exchange = asked == Some(Asked::Exchange);
        match code {
            // Keycloak has it for an audience that is none of its clients.
            Code::InvalidClient if exchange && mentions.has(Mention::Audience) => Self::Exchange,
            Code::InvalidClient => Self::Client,
            Code::UnauthorizedClient => Self::Grant,
            Code::UnsupportedGrantType | Code::UnsupportedResponseType => Self::NoGrant,
            Code::InvalidGrant | Code::AccessDenied | Code::InvalidRequest if exchange => Self::Exchange,
            Code::InvalidGrant => Self::Spent,
            Code::InvalidScope => Self::Scope,
            Code::InvalidTarget => Self::Target,
            Code::InvalidDpopProof => Self::Proof,
            Code::UseDpopNonce => Self::Nonce,
            Code::InvalidRedirectUri => Self::RedirectUri,
            Code::AccessDenied => match asked {
                Some(Asked::Authorization | Asked::DeviceCode | Asked::Code) => Self::Declined,
                _ => Self::Forbidden,
            },
            Code::InvalidRequest if mentions.has(Mention::RedirectUri) => Self::RedirectUri,
            Code::InvalidRequest if mentions.has(Mention::Audience) || mentions.has(Mention::Resource) => {
                Self::Target
            }
            Code::InvalidRequest if mentions.has(Mention::Scope) => Self::Scope,
            Code::InvalidRequest if mentions.has(Mention::Client) => Self::Client,
            Code::LoginRequired => Self::Login,
            Code::ConsentRequired => Self::Consent,
            Code::InteractionRequired | Code::AccountSelectionRequired => Self::Interaction,
            Code::ExpiredToken => Self::Late,
            Code::SlowDown => Self::Busy,
            Code::AuthorizationPending => Self::Pending,
            Code::ServerError | Code::TemporarilyUnavailable => Self::Failure,
            Code::InvalidRequest | Code::InvalidRequestUri | Code::UnsupportedTokenType => Self::Request,
            // `invalid_token`, `invalid_subject_token` and their like.
            Code::Other if exchange && (mentions.has(Mention::Token) || mentions.has(Mention::Ended)) => {
                Self::Exchange
            }
            Code::Other if mentions.has(Mention::Scope) => Self::Scope,
            Code::Other if mentions.has(Mention::Client) => Self::Client,
            Code::Other if asked == Some(Asked::Password) => Self::Person,
            Code::Other if mentions.has(Mention::User) => Self::Forbidden,
            Code::Other => Self::Unexplained,
        }
    }

    /// What is so; empty where status and code say it all.
    pub(in crate::oauth) fn fact(self, situation: Option<&Situation>) -> Cow<'static, str> {
        let asked = situation.map(|situation| situation.asked);
        Cow::Borrowed(match self {
            Self::Client => "client authentication failed",
            Self::Grant => {
                return Cow::Owned(format!(
                    "the client may not {}",
                    asked.map_or("use this grant", Asked::deed)
                ));
            }
            Self::NoGrant => {
                return Cow::Owned(format!(
                    "the server does not let clients {}",
                    asked.map_or("use this grant", Asked::deed)
                ));
            }
            Self::Spent => match asked {
                Some(Asked::Password) => "it does not accept the user name or the password",
                Some(Asked::Assertion) => "it does not accept the assertion",
                Some(Asked::IssuedAssertion) => "it does not accept the token that is the assertion",
                Some(Asked::Refresh) => "it does not accept the refresh token",
                Some(Asked::Code) => {
                    "it does not accept the authorization code, which counts once and for a minute or so"
                }
                Some(Asked::DeviceCode) => {
                    "it does not accept the device code, which counts once and for some minutes"
                }
                _ => "it does not accept what the request spends",
            },
            Self::Person => "it may not accept the user name or the password",
            Self::Exchange => "it does not exchange this token",
            Self::Scope => "it does not accept the scope",
            Self::Target => "it does not accept the audience or resource",
            Self::Proof => "it does not accept the proof of possession (DPoP)",
            Self::ProofDemanded => "it demands a proof of possession (DPoP) of this client",
            Self::Nonce => "it takes none of the nonces that it gives",
            Self::Push => {
                "it takes authorization requests of this client only when they are pushed ahead (PAR)"
            }
            Self::RedirectUri => "it does not accept the redirect URI",
            Self::Declined => "the person declined, or may not use this client",
            Self::Forbidden => "it denies access",
            Self::Login => {
                "no user is logged in there in this browser, the session has ended, or the browser blocks third-party cookies in a frame"
            }
            Self::Consent => "consent has to be given",
            Self::Interaction => "it wants to ask the person something (a second factor, an account)",
            Self::Late => "the time to log in is over",
            Self::Https => "it demands https",
            Self::Gate => {
                "an HTML page: something in front of the server refused the request, or this is another server"
            }
            Self::Foreign => {
                "no JSON: something in front of the server refused the request, or this is another server"
            }
            Self::Unattributed => {
                "no OAuth error: the HTTP proxy on the way may have refused the request itself"
            }
            Self::Busy => "too many requests",
            Self::Failure => "a failure of its own",
            Self::Pending => "the login is not finished",
            Self::Address => "there is no such endpoint",
            Self::Request => "it refuses the request as it is",
            Self::Unexplained => "",
        })
    }

    /// What to do about it; empty where only waiting helps.
    pub(in crate::oauth) fn help(self, situation: Option<&Situation>) -> String {
        let Some(situation) = situation else { return String::new() };
        let asked = situation.asked;
        match self {
            Self::Client => situation.method.help(situation.has(Key::ClientKeyId)),
            Self::Grant | Self::NoGrant if asked == Asked::ClientCredentials && situation.method == Method::Public => {
                "a public client cannot use client_credentials: set `client_auth` and its secret or key, or take another `grant`"
                    .to_owned()
            }
            Self::Grant => format!("allow it to {} at the authorization server", asked.deed()),
            Self::NoGrant => format!("see that the server can do it and that it is switched on, and check {}", asked.place()),
            Self::Spent => situation.spent_help(),
            Self::Person => {
                format!("{}; else check {}", situation.person_help(), situation.method.keys())
            }
            Self::Exchange => format!(
                "check the subject token (its expiry, and that its `aud` names this client), `subject_token_type`, {}",
                key_list(situation, &[Key::Audience, Key::Resource, Key::Scope, Key::RequestedTokenType, Key::ActorToken], Key::Audience)
            ),
            Self::Scope => match (situation.has(Key::Scope), asked) {
                (true, Asked::Refresh) => {
                    "check `scope`: this server may take none on a refresh (`refresh_scope = false`)".to_owned()
                }
                (true, _) => "check `scope`".to_owned(),
                (false, _) => "set `scope`: this server wants one".to_owned(),
            },
            Self::Target => key_list(situation, &[Key::Audience, Key::Resource], Key::Audience),
            Self::Proof => {
                "compare this machine's clock with the server's, for a proof counts for a minute or so; see that `token_endpoint` is the server's own name for it, and that it takes the kind of the key"
                    .to_owned()
            }
            Self::ProofDemanded => "set `dpop = true`, or turn it off for this client at the server".to_owned(),
            Self::Push if situation.has(Key::PushedAuthorization) => {
                "see that the pushed request was used within its time, and once".to_owned()
            }
            Self::Push => "set `pushed_authorization = true`".to_owned(),
            Self::RedirectUri => {
                "register the redirect URI for this client, or set `redirect_uri` to the one that is".to_owned()
            }
            Self::Declined => "log in again, and see that this user may use the client".to_owned(),
            Self::Forbidden => {
                let asked_for = situation.set_of(&[Key::Audience, Key::Resource, Key::Scope]);
                let user = if matches!(asked, Asked::Password | Asked::Refresh) { ", the user" } else { "" };
                let what = if asked_for.is_empty() {
                    String::new()
                } else {
                    format!(", and that the client may ask for what {} names", quoted(&asked_for))
                };
                format!("see that the client{user} and the realm or tenant are enabled at the authorization server{what}")
            }
            Self::Login | Self::Consent | Self::Interaction => "log in again".to_owned(),
            Self::Late => "begin again".to_owned(),
            Self::Https => format!("set {} to the https address", asked.place()),
            Self::Request => request_help(situation),
            Self::Address => format!("check {}", asked.place()),
            Self::Gate | Self::Foreign => format!("check {}, and what stands in front (a firewall, a login page)", asked.place()),
            Self::Unattributed => format!("see what the HTTP proxy allows and logs, and check {}", asked.place()),
            Self::Unexplained => match asked {
                Asked::Metadata => "check `issuer`".to_owned(),
                _ => format!("see what the authorization server logs; check {}", situation.method.keys()),
            },
            Self::Busy | Self::Failure | Self::Pending | Self::Nonce => String::new(),
        }
    }

    /// The same for an application: a closed set, without a key or a place.
    pub(in crate::oauth) const fn public_reason(self) -> &'static str {
        match self {
            Self::Failure => "the authorization server reports a failure of its own",
            Self::Busy => "the authorization server wants fewer token requests",
            Self::Client => {
                "the authorization server does not accept the client or its secret, key or certificate"
            }
            Self::Spent => "the authorization server does not accept what the token request spends",
            Self::Person => "the authorization server may not accept the person's user name or password",
            Self::Exchange => {
                "the authorization server does not exchange the token that was brought, or not for what is asked for"
            }
            Self::Grant | Self::NoGrant => {
                "the authorization server does not allow this grant for the client"
            }
            Self::Scope => "the authorization server does not accept the configured scope",
            Self::Target => "the authorization server does not accept the configured resource or audience",
            Self::Proof | Self::Nonce => {
                "the authorization server does not accept the proof of possession (DPoP)"
            }
            Self::ProofDemanded => {
                "the authorization server demands a proof of possession (DPoP), and none is configured"
            }
            Self::Declined | Self::Forbidden => "the authorization server denies access",
            Self::Https => "the authorization server demands https",
            Self::Gate => {
                "the authorization server, or what stands in front of it, refuses the token request with a page for people"
            }
            Self::Foreign => {
                "the authorization server, or what stands in front of it, refuses the token request without JSON"
            }
            Self::Unattributed => {
                "the authorization server, or the HTTP proxy on the way, refuses the token request without an OAuth error"
            }
            Self::Address
            | Self::Push
            | Self::RedirectUri
            | Self::Login
            | Self::Consent
            | Self::Interaction
            | Self::Late
            | Self::Request
            | Self::Pending
            | Self::Unexplained => "the authorization server refuses the token request",
        }
    }
}

/// What a request that is refused as it is may be refused for: what this configuration sets in it.
fn request_help(situation: &Situation) -> String {
    let keys =
        [Key::Scope, Key::Audience, Key::Resource, Key::Params, Key::RequestedTokenType, Key::ActorToken];
    let mut set = situation.set_of(&keys);
    let logs_in = matches!(situation.asked, Asked::Authorization | Asked::Push);
    if situation.asked == Asked::Password {
        set.extend(situation.person_keys());
    }
    if logs_in {
        set.push("redirect_uri");
    }
    if logs_in || situation.asked == Asked::DeviceAuthorization {
        set.extend(situation.set_of(&[Key::AuthorizationParams]));
    }
    let more = match situation.asked {
        Asked::Authorization if !situation.has(Key::PushedAuthorization) => {
            "; a server that demands pushed requests wants `pushed_authorization = true`"
        }
        Asked::Authorization | Asked::Push | Asked::DeviceAuthorization
            if !situation.has(Key::AuthorizationParams) =>
        {
            "; a parameter that this server demands goes into `authorization_params`"
        }
        _ if !situation.has(Key::Params) => "; a parameter that this server demands goes into `params`",
        _ => "",
    };
    let set =
        if set.is_empty() { "`client_auth`".to_owned() } else { format!("`client_auth`, {}", quoted(&set)) };
    format!("check {set}{more}")
}

/// "check `a` and `b`": those of `keys` that are set; or "set" the one that is wanted, where none is.
fn key_list(situation: &Situation, keys: &[Key], wanted: Key) -> String {
    let set = situation.set_of(keys);
    let wanted = match wanted {
        Key::Audience => "`audience` or `resource`",
        other => other.name(),
    };
    match (set.is_empty(), situation.asked) {
        (true, Asked::Exchange) => {
            format!("and set {wanted} where the server wants to know what the token is for")
        }
        (true, _) => format!("set {wanted}: this server wants to know what the token is for"),
        (false, Asked::Exchange) => format!("and {}", quoted(&set)),
        (false, _) => format!("check {}", quoted(&set)),
    }
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::client::{AssertionAudience, Client, ClientAuth, KeySettings};
    use crate::oauth::endpoint::remark::Carried;
    use crate::oauth::endpoint::report::Report;
    use crate::oauth::endpoint::response::parse;
    use crate::oauth::error::Error;
    use crate::oauth::error::class::Class;
    use crate::oauth::error::kind::ErrorKind;
    use crate::oauth::peer::inline;
    use crate::secret::SecretSource;

    fn client(auth: ClientAuth) -> Client {
        Client { id: "orders".to_owned(), auth }
    }

    fn situation(asked: Asked) -> Situation {
        let file = SecretSource::File("/run/secrets/client".into());
        Situation::of(asked, &client(ClientAuth::SecretBasic(file)))
    }

    fn error(status: u16, body: &str, situation: Situation) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        let kind = parse(status, body.as_bytes()).unwrap_err();
        let form = Form::of(body.as_bytes());
        let details = Report::read(body.as_bytes()).details(status, form, &Carried::default(), situation);
        Error::here(kind).with(details)
    }

    #[expect(clippy::too_many_lines, reason = "one table of what servers really send")]
    /// Each row: status, body, what was asked, and words that the sentence must and must not have.
    #[test]
    fn the_sentence_follows_from_status_code_grant_and_the_keys_that_are_set() {
        use Asked::{
            Assertion, ClientCredentials, DeviceAuthorization, Exchange, IssuedAssertion, Metadata, Password,
            Push,
        };
        let of = situation;
        let key = KeySettings { key: inline("x"), key_id: None, algorithm: None, certificate: None };
        let by_key = |key_id: Option<&str>| {
            let key = KeySettings { key_id: key_id.map(str::to_owned), ..key.clone() };
            let auth = ClientAuth::PrivateKeyJwt { key, audience: AssertionAudience::Issuer };
            Situation::of(ClientCredentials, &client(auth))
        };
        let public = Situation::of(ClientCredentials, &client(ClientAuth::None));
        let dpop = of(ClientCredentials).with(Key::Dpop, true);
        let keycloak_secret = r#"{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}"#;
        let hydra_key = r#"{"error":"invalid_client","error_description":"Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method). The JSON Web Token uses signing key with kid 'x', which could not be found."}"#;
        let not_in_audience =
            r#"{"error":"access_denied","error_description":"Client is not within the token audience"}"#;
        let no_audience = r#"{"error":"invalid_client","error_description":"Audience not found"}"#;
        let no_proof =
            r#"{"error":"invalid_dpop_proof","error_description":"The DPoP proof JWT header is missing."}"#;
        let old_proof = r#"{"error":"invalid_request","error_description":"DPoP proof is not active"}"#;
        let https = r#"{"error":"invalid_request","error_description":"HTTPS required"}"#;
        let denied = r#"{"error":"access_denied","error_description":"x"}"#;
        let invalid = r#"{"error":"invalid_request"}"#;
        for (status, body, situation, has, lacks) in [
            // Keycloak 26: a wrong secret, in Basic and in a form.
            (401, keycloak_secret, of(ClientCredentials), "`client_secret_file`", "allow"),
            (
                401,
                keycloak_secret,
                of(ClientCredentials),
                "client_auth = \"client_secret_post\"",
                "grant client",
            ),
            // Spring Authorization Server.
            (
                401,
                r#"{"error":"invalid_client"}"#,
                of(ClientCredentials),
                "client authentication failed",
                "clock",
            ),
            (401, "", of(ClientCredentials), "client authentication failed", "without a reason"),
            // Auth0: a wrong secret.
            (
                401,
                r#"{"error":"access_denied","error_description":"Unauthorized"}"#,
                of(ClientCredentials),
                "authentication",
                "person",
            ),
            (401, hydra_key, by_key(None), "set `client_key_id`", "client_secret"),
            (401, hydra_key, by_key(Some("k")), "`client_key_id`, which must be", "set `client_key_id`"),
            (401, hydra_key, by_key(None), "`client_assertion_audience` (now \"issuer\"", "client_secret"),
            (
                400,
                r#"{"error":"unauthorized_client"}"#,
                of(Password),
                "direct access grants",
                "authentication",
            ),
            (400, r#"{"error":"unauthorized_client"}"#, public, "public client", "allow it"),
            (400, r#"{"error":"unsupported_grant_type"}"#, of(Exchange), "exchange tokens", "client_secret"),
            // Token exchange.
            (403, not_in_audience, of(Exchange), "`subject_token_type`", "person"),
            (403, not_in_audience, of(Exchange), "its `aud` names this client", "logged in"),
            (400, no_audience, of(Exchange).with(Key::Audience, true), "and `audience`", "client_secret"),
            (400, invalid, of(Exchange), "set `audience` or `resource`", "params"),
            (
                400,
                r#"{"error":"invalid_request","error_description":"Invalid token"}"#,
                of(Exchange),
                "the subject token",
                "params",
            ),
            // DPoP.
            (400, no_proof, of(ClientCredentials), "set `dpop = true`", "clock"),
            (400, no_proof, dpop, "clock", "set `dpop"),
            (400, old_proof, dpop, "clock", "params"),
            (400, old_proof, of(ClientCredentials), "set `dpop = true`", "clock"),
            // Not a browser's login.
            (403, denied, of(ClientCredentials), "realm or tenant are enabled", "person"),
            (403, denied, of(ClientCredentials).with(Key::Audience, true), "`audience`", "person"),
            (403, denied, of(Asked::Authorization), "the person declined", "realm"),
            (
                400,
                r#"{"error":"authorization_declined"}"#,
                of(Asked::DeviceCode),
                "the person declined",
                "realm",
            ),
            (403, https, of(Metadata), "set `issuer` to the https address", "secret"),
            (404, "", of(Metadata), "check `issuer`", "secret"),
            (404, "<html>", of(ClientCredentials), "`token_endpoint`", "secret"),
            (
                403,
                "<html>Forbidden</html>",
                of(ClientCredentials),
                "something in front of the server",
                "client_secret",
            ),
            (
                400,
                r#"{"error":"invalid_scope"}"#,
                of(ClientCredentials).with(Key::Scope, true),
                "check `scope`",
                "set",
            ),
            (400, r#"{"error":"invalid_scope"}"#, of(ClientCredentials), "set `scope`", "check `scope`"),
            (
                400,
                r#"{"error":"invalid_target"}"#,
                of(ClientCredentials).with(Key::Resource, true),
                "check `resource`",
                "audience`",
            ),
            (
                400,
                r#"{"error":"invalid_request","error_description":"scope parameter not supported"}"#,
                of(Asked::Refresh).with(Key::Scope, true),
                "`scope`",
                "params",
            ),
            (
                400,
                r#"{"error":"invalid_request","error_description":"Requested audience not available: x"}"#,
                of(ClientCredentials),
                "`audience`",
                "params",
            ),
            (400, invalid, of(ClientCredentials).with(Key::Params, true), "`params`", "`scope`"),
            (400, invalid, of(Asked::Authorization), "pushed_authorization = true", "`scope`"),
            (
                400,
                invalid,
                of(Push).with(Key::AuthorizationParams, true),
                "`authorization_params`",
                "pushed_authorization =",
            ),
            (
                400,
                r#"{"error":"invalid_request","error_description":"Pushed Authorization Request is only allowed."}"#,
                of(Asked::Authorization),
                "set `pushed_authorization = true`",
                "check",
            ),
            (
                400,
                r#"{"error":"invalid_grant"}"#,
                of(Password),
                "`username` and `password_file`",
                "client_secret",
            ),
            (400, r#"{"error":"invalid_grant"}"#, of(Assertion), "`audience_claim`", "client_secret"),
            (400, r#"{"error":"invalid_grant"}"#, of(IssuedAssertion), "`subject_token`", "`key_id`"),
            (200, r#"{"error":"device_flow_disabled"}"#, of(DeviceAuthorization), "(device_code)", "secret"),
            (
                400,
                r#"{"error":"client_locked_7"}"#,
                of(ClientCredentials),
                "the error `client_locked_7`",
                "other",
            ),
            (429, "", of(ClientCredentials), "too many requests", "check"),
            (
                400,
                r#"{"error":"Access Denied","error_description":"You have made too many requests continuously."}"#,
                of(ClientCredentials),
                "too many requests",
                "check",
            ),
            (400, r#"{"error":"use_dpop_nonce"}"#, of(ClientCredentials), "set `dpop = true`", "nonces"),
            (
                400,
                r#"{"error":"invalid_dpop_proof"}"#,
                of(Asked::Refresh),
                "turn it off for this client",
                "clock",
            ),
            (
                400,
                r#"{"message":"The scope is not known"}"#,
                of(ClientCredentials).with(Key::Scope, true),
                "check `scope`",
                "client_secret",
            ),
            (400, "Bad Request", of(Asked::Refresh), "no JSON: something in front", "client_secret"),
            (400, r#"{"error":"too_many_requests"}"#, of(ClientCredentials), "too many requests", "check"),
            (502, "<html>", of(ClientCredentials), "a failure of its own", "check"),
        ] {
            let error = error(status, body, situation);
            let shown = error.to_string();
            assert!(shown.contains(has) && !shown.contains(lacks), "{status} {body} {situation:?}:\n{shown}");
            let asked = error.public_reason();
            assert!(asked.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'%' && b != b'`'), "{asked}");
        }
    }

    #[test]
    fn what_the_server_says_is_beside_the_sentence_and_never_in_what_an_application_sees() {
        let body = r#"{"error":"sentinel_code","error_description":"sentinel text"}"#;
        let error = error(400, body, situation(Asked::ClientCredentials));
        assert_eq!(error.description(), Some("sentinel text"));
        assert!(
            error.to_string().contains("`sentinel_code`") && !error.to_string().contains("sentinel text")
        );
        assert!(error.in_full().ends_with("(the server says: \"sentinel text\")"), "{}", error.in_full());
        assert!(
            !error.public_reason().contains("sentinel") && !format!("{error:?}").contains("sentinel text")
        );
        assert_eq!(error.cause(), "other");
    }

    #[test]
    fn a_failure_that_speaks_otherwise_is_the_same_failure() {
        let error = |text: &str| {
            let body = format!(r#"{{"error":"invalid_client","error_description":"{text}"}}"#);
            error(401, &body, situation(Asked::ClientCredentials))
        };
        assert_eq!(error("Trace 1"), error("Trace 2"));
        assert_ne!(
            error("Trace 1"),
            Error::here(ErrorKind::Denied(StatusCode::UNAUTHORIZED, Code::InvalidClient))
        );
    }

    #[test]
    fn an_error_within_a_success_is_judged_as_one_within_a_refusal_unless_it_says_that_it_passes() {
        for (body, class, has) in [
            (
                r#"{"errcode":40125,"errmsg":"invalid appsecret"}"#,
                Class::Misconfigured,
                "client authentication",
            ),
            (r#"{"errcode":40164,"errmsg":"invalid ip, not in whitelist"}"#, Class::Misconfigured, "`40164`"),
            (r#"{"result":"fail","reason":"app not approved"}"#, Class::Misconfigured, "does not name"),
            (r#"{"errcode":-1,"errmsg":"system error"}"#, Class::Transient, "a failure of its own"),
            (r#"{"errcode":45011,"errmsg":"api freq out of limit"}"#, Class::Transient, "too many requests"),
            (r#"{"success":false}"#, Class::Transient, "does not name"),
        ] {
            let error = error(200, body, situation(Asked::ClientCredentials));
            assert_eq!(error.class(), class, "{body}");
            assert!(error.to_string().contains(has), "{error}");
        }
        let passes = r#"{"error":"unknown_error","error_description":"retry your request"}"#;
        assert_eq!(error(400, passes, situation(Asked::Assertion)).class(), Class::Transient);
        let wrong = r#"{"error":"x","error_description":"wrong client secret, try again later"}"#;
        assert_eq!(error(400, wrong, situation(Asked::Assertion)).class(), Class::Misconfigured);
        for asked in [Asked::Refresh, Asked::Assertion] {
            let user = error(400, r#"{"error":"user_blocked"}"#, situation(asked));
            assert!(user.to_string().contains("are enabled at the authorization server"), "{user}");
        }
    }

    #[test]
    fn the_class_follows_from_the_meaning() {
        let dpop = situation(Asked::ClientCredentials).with(Key::Dpop, true);
        let no_proof = r#"{"error":"invalid_dpop_proof"}"#;
        let missing =
            r#"{"error":"invalid_dpop_proof","error_description":"The DPoP proof JWT header is missing."}"#;
        for (status, body, situation, want) in [
            (400, missing, situation(Asked::ClientCredentials), Class::Misconfigured),
            (400, no_proof, dpop, Class::Transient),
            (403, "<html>", dpop, Class::Transient),
            (404, "<html>", dpop, Class::Misconfigured),
            (401, r#"{"error":"access_denied"}"#, dpop, Class::Misconfigured),
            (400, r#"{"error":"too_many_requests"}"#, dpop, Class::Transient),
            (400, no_proof, situation(Asked::ClientCredentials), Class::Misconfigured),
            (403, r#"{"error":"Access Denied","message":"Rate limit exceeded"}"#, dpop, Class::Transient),
            (400, "Bad Request", situation(Asked::Refresh), Class::Transient),
            (400, "Bad Request", situation(Asked::ClientCredentials), Class::Misconfigured),
        ] {
            assert_eq!(error(status, body, situation).class(), want, "{status} {body}");
        }
    }

    #[test]
    fn a_server_with_no_request_left_passes_by_itself_unless_it_names_what_is_wrong() {
        let of = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let kind = parse(status, body.as_bytes()).unwrap_err();
            let report = Report::read(body.as_bytes());
            let form = Form::of(body.as_bytes());
            let situation = situation(Asked::ClientCredentials);
            let details = report.details(status, form, &Carried::default(), situation);
            Error::here(kind).with(Details { exhausted: true, ..details })
        };
        for (status, body) in
            [(403, ""), (403, r#"{"message":"Forbidden"}"#), (400, r#"{"error":"x"}"#), (403, "<html>")]
        {
            let error = of(status, body);
            assert_eq!(error.class(), Class::Transient, "{status} {body}");
            assert!(error.to_string().contains("too many requests"), "{error}");
            assert!(error.public_reason().contains("wants fewer token requests"), "{error}");
        }
        assert_eq!(of(401, r#"{"error":"invalid_client"}"#).class(), Class::Misconfigured);
    }

    #[test]
    fn what_a_proxy_may_have_refused_is_transient_unless_the_response_has_an_oauth_error() {
        let of = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let kind = parse(status, body.as_bytes()).unwrap_err();
            let report = Report::read(body.as_bytes());
            let form = Form::of(body.as_bytes());
            let details = report.details(status, form, &Carried::default(), situation(Asked::Password));
            Error::here(kind).with(Details { unattributed: true, ..details })
        };
        for status in [400, 401, 403, 404, 405, 410, 451, 500, 502, 511] {
            for body in ["", "<html>", "Access denied", r#"{"message":"The token has expired"}"#] {
                let error = of(status, body);
                assert_eq!(error.class(), Class::Transient, "{status} {body}");
                assert!(!error.refuses_person(), "{status} {body}");
                assert!(error.to_string().contains("the HTTP proxy on the way may have"), "{error}");
                assert!(error.public_reason().contains("or the HTTP proxy on the way"), "{error}");
            }
        }
        assert!(of(429, "").to_string().contains("too many requests"));
        let refused = of(401, r#"{"error":"invalid_grant"}"#);
        assert!(refused.class() == Class::Misconfigured && refused.refuses_person(), "{refused}");
    }

    #[test]
    fn a_callers_own_token_is_refused_where_the_exchange_is_and_not_where_the_client_is() {
        let exchange = situation(Asked::Exchange);
        for (status, body, want) in [
            (400, r#"{"error":"invalid_request","error_description":"Invalid token"}"#, true),
            (
                403,
                r#"{"error":"access_denied","error_description":"Client is not within the token audience"}"#,
                true,
            ),
            (401, r#"{"error":"invalid_token"}"#, true),
            (400, r#"{"error":"invalid_grant"}"#, true),
            (
                401,
                r#"{"error":"unauthorized_client","error_description":"Invalid client credentials"}"#,
                false,
            ),
            (401, r#"{"error":"access_denied"}"#, false),
            (400, r#"{"error":"invalid_client","error_description":"Audience not found"}"#, false),
            (500, r#"{"error":"invalid_request"}"#, false),
            (400, r#"{"error":"unsupported_grant_type"}"#, false),
        ] {
            assert_eq!(error(status, body, exchange).refuses_subject(), want, "{status} {body}");
        }
    }
}
