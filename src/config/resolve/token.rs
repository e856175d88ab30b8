//! `[tokens.NAME]`.

use http::HeaderName;
use url::Url;

use super::address::{self, Query, secure_url};
use super::certificates::ca_file;
use super::{Zero, duration};
use crate::config::Options;
use crate::config::file::{self, Period, Token};
use crate::config::findings::Review;
use crate::config::problem::{KeyPath, Shown};
use crate::config::secret_ref::{self, Variables};
use crate::oauth::{Client, ClientAuth, Location, ServerSettings, TokenRequest, Transport};
use crate::token::{Attachment, Backoff, GrantSettings, Origin, Policy, ServerOrigin, TokenSettings};

pub(super) fn resolve(
    path: &KeyPath,
    token: &Token,
    options: Options,
    variables: &Variables,
    review: &mut Review<'_>,
) -> Option<TokenSettings> {
    // Each part is looked at, whatever the one before it had.
    let server = server(path, token, options, review);
    let client = client(path, token, variables, review);
    let request = request(path, token, review);
    let attachment = attachment(path, token, review);
    let policy = policy(path, token, review);
    let grant = match token.grant {
        file::Grant::ClientCredentials => GrantSettings::ClientCredentials,
    };
    let origin = ServerOrigin { server: server?, client: client?, grant, request: request?, dpop: None };
    Some(TokenSettings {
        origin: Origin::Server(Box::new(origin)),
        attachment: attachment?,
        policy,
        required: token.required,
        revoke_on_exit: false,
    })
}

fn server(
    path: &KeyPath,
    token: &Token,
    options: Options,
    review: &mut Review<'_>,
) -> Option<ServerSettings> {
    let location = location(path, token, options, review);
    let ca_file = ca_file(&path.key("ca_file"), token.ca_file.as_deref(), review);
    let proxy_path = path.key("proxy");
    let proxy = match &token.proxy {
        Some(text) => address::url(&proxy_path, text, Query::Refused, review).and_then(|url| {
            if url.path() == "/" {
                return Some(Some(url));
            }
            review.error(&proxy_path, "must be the address of a proxy, without a path", "take out the path");
            None
        }),
        None => Some(None),
    };
    let connect_timeout =
        duration(&path.key("connect_timeout"), token.connect_timeout, Zero::Refused, review);
    let timeout = duration(&path.key("timeout"), token.timeout, Zero::Refused, review);
    let transport =
        Transport { ca_file: ca_file.ok()?, certificate: None, proxy: proxy?, connect_timeout, timeout };
    Some(ServerSettings { location: location?, transport })
}

fn location(path: &KeyPath, token: &Token, options: Options, review: &mut Review<'_>) -> Option<Location> {
    let (issuer_path, endpoint_path) = (path.key("issuer"), path.key("token_endpoint"));
    let issuer = token.issuer.as_ref().map(|text| {
        // The metadata must repeat the issuer to the letter, so it is kept as it was written.
        secure_url(&issuer_path, text, Query::Refused, options, review)?;
        text.parse().ok()
    });
    let endpoint = token
        .token_endpoint
        .as_ref()
        .map(|text| secure_url(&endpoint_path, text, Query::Allowed, options, review));
    // The endpoint wins, unless the issuer alone comes from the environment.
    let issuer_wins = review.is_override(&issuer_path) && !review.is_override(&endpoint_path);
    match (issuer, endpoint) {
        (Some(issuer), Some(endpoint)) => {
            let (issuer, endpoint) = (issuer?, endpoint?);
            let token_endpoint = (!issuer_wins).then_some(endpoint);
            Some(Location { issuer: Some(issuer), token_endpoint, ..Location::default() })
        }
        (Some(issuer), None) => issuer.map(Location::issuer),
        (None, Some(endpoint)) => endpoint.map(Location::endpoint),
        (None, None) => {
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

fn client(path: &KeyPath, token: &Token, variables: &Variables, review: &mut Review<'_>) -> Option<Client> {
    let id_path = path.key("client_id");
    let id = match &token.client_id {
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
    };
    let secret = secret_ref::resolve(path, token, variables, review);
    let auth = match token.client_auth {
        file::ClientAuth::ClientSecretBasic => ClientAuth::SecretBasic,
        file::ClientAuth::ClientSecretPost => ClientAuth::SecretPost,
    };
    Some(Client { id: id?, auth: auth(secret?) })
}

fn request(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<TokenRequest> {
    let scope_path = path.key("scope");
    let mut sound = true;
    let mut scope = Vec::new();
    for (path, text) in review.elements(&scope_path).iter().zip(&token.scope.0) {
        for word in text.split_ascii_whitespace() {
            if !word.bytes().all(is_scope_char) {
                review.error(
                    path,
                    "has a character that a scope cannot have",
                    "write printable ASCII without \" and \\",
                );
                sound = false;
            }
            scope.push(word.to_owned());
        }
    }
    let mut resource = Vec::new();
    for (path, text) in review.elements(&path.key("resource")).iter().zip(&token.resource.0) {
        match Url::parse(text) {
            Ok(url) if url.fragment().is_none() => resource.push(url),
            _ => {
                review.error(
                    path,
                    "must be an absolute URI without a fragment",
                    "write it as in \"https://api.example.com\"",
                );
                sound = false;
            }
        }
    }
    let params_path = path.key("params");
    for name in token.params.keys() {
        let path = params_path.key(name);
        if name.is_empty() {
            review.error(&path, "a parameter has a name", "give it one, or take it out");
            sound = false;
        } else if PROTOCOL_NAMES.contains(&name.to_ascii_lowercase().as_str()) {
            review.error(
                &path,
                "is a name of the protocol's own",
                format!("take it out; {}", key_instead(name)),
            );
            sound = false;
        }
    }
    let audience = token.audience.clone().filter(|audience| !audience.is_empty());
    let params = token.params.clone().into_iter().collect();
    sound.then_some(TokenRequest { scope, audience, resource, params })
}

fn attachment(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<Attachment> {
    let header_path = path.key("header");
    let header = HeaderName::from_bytes(token.header.as_bytes()).ok();
    let header = match header {
        None => {
            review.error(
                &header_path,
                "is not the name of a header field",
                "write it as in \"Authorization\"",
            );
            None
        }
        Some(name) if NOT_FOR_TOKENS.contains(&name.as_str()) => {
            let what = format!(
                "{} belongs to the connection or to the message, not to a token",
                Shown(name.as_str())
            );
            review.error(&header_path, what, "use \"Authorization\", or a field that the API reads");
            None
        }
        name => name,
    };
    let scheme = &token.scheme;
    if !scheme.bytes().all(is_token_char) {
        review.error(
            &path.key("scheme"),
            "must be one word, or empty for the bare token",
            "write it as in \"Bearer\"",
        );
        return None;
    }
    Some(Attachment { header: header?, scheme: scheme.clone() })
}

fn policy(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Policy {
    let (renew_at, jitter) = (token.renew_at, token.jitter);
    let (renew_path, jitter_path) = (path.key("renew_at"), path.key("jitter"));
    if !(renew_at > 0.0 && renew_at <= 1.0) {
        review.error(&renew_path, format!("must be above 0 and at most 1, not {renew_at}"), "set it to 0.75");
    }
    if !(0.0..=1.0).contains(&jitter) {
        review.error(
            &jitter_path,
            format!("must be from 0 to below renew_at, not {jitter}"),
            jitter_mend(renew_at),
        );
    } else if jitter >= renew_at && !review.is_spoken_for(&renew_path) && !review.is_spoken_for(&jitter_path)
    {
        let what = format!(
            "must be below renew_at, which is {renew_at}: a token could be renewed as soon as it came"
        );
        review.error(&jitter_path, what, jitter_mend(renew_at));
    }
    let retry_path = path.key("retry");
    let (initial_path, max_path) = (retry_path.key("initial"), retry_path.key("max"));
    let initial = duration(&initial_path, token.retry.initial, Zero::Refused, review);
    let max = duration(&max_path, token.retry.max, Zero::Refused, review);
    if initial > max && !review.is_spoken_for(&initial_path) && !review.is_spoken_for(&max_path) {
        let what = format!("must be at most retry.max, which is {}", Period(max));
        review.error(&initial_path, what, "set `initial` lower, or `max` higher");
    }
    Policy {
        renew_at,
        jitter,
        expiry_margin: duration(&path.key("expiry_margin"), token.expiry_margin, Zero::Allowed, review),
        default_lifetime: duration(
            &path.key("default_lifetime"),
            token.default_lifetime,
            Zero::Refused,
            review,
        ),
        retry: Backoff { initial, max },
        wait: duration(&path.key("wait"), token.wait, Zero::Allowed, review),
    }
}

/// A jitter that is below `renew_at`, whatever that is.
fn jitter_mend(renew_at: f64) -> String {
    if renew_at > 0.0 && renew_at <= 0.10 {
        format!("set it to a value below renew_at, such as {}", renew_at / 2.0)
    } else {
        "set it to a tenth of the lifetime, 0.10".to_owned()
    }
}

/// `scope-token` (RFC 6749 section 3.3).
const fn is_scope_char(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)
}

/// `tchar` (RFC 9110 section 5.6.2).
const fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The key that says what a parameter of this name would.
fn key_instead(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "grant_type" => "`grant` says it",
        "client_id" => "`client_id` of the token says it",
        "client_secret" => "`client_secret_file` says where it is",
        "scope" => "`scope` of the token says it",
        "audience" => "`audience` of the token says it",
        "resource" => "`resource` of the token says it",
        _ => "the grant and the client authentication set it where they need it",
    }
}

/// What requests to a token endpoint are made of (the IANA registry of OAuth parameters): set by keys of their own,
/// or by the grant.
const PROTOCOL_NAMES: [&str; 27] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "audience",
    "resource",
    "code",
    "code_verifier",
    "code_challenge",
    "code_challenge_method",
    "device_code",
    "redirect_uri",
    "response_type",
    "state",
    "refresh_token",
    "access_token",
    "username",
    "password",
    "assertion",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "request",
];

/// Fields that the connection, the framing or the proxy itself owns (RFC 9110 section 7.6.1 and others).
const NOT_FOR_TOKENS: [&str; 22] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-type",
    "content-encoding",
    "content-range",
    "expect",
    "max-forwards",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "cupbearer-error",
];
