//! How this server's token endpoint deviates from the protocol: names, places and fields, each a general key.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::request::PROTOCOL_NAMES;
use super::{attachment, client, terms};
use crate::config::file::{self, ClientAuth, Grant, Token};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::shape::nearest;
use crate::oauth::{Dialect, MemberPath, RequestFormat, ResponsePaths, TokenMethod};

/// The dialect. `None` only where something was reported.
pub(super) fn resolve(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<Dialect> {
    let grant_type = grant_type(&path.key("grant_type"), token.grant_type.as_deref(), review);
    let format = format(path, token, review);
    let parameter_names = parameter_names(path, token, review);
    let headers = headers(&path.key("token_headers"), &token.token_headers, review);
    let response = response(&path.key("response"), &token.response, review);
    let client_assertion = terms::of_client(path, token, review);
    let client_assertion_type =
        assertion_type(&path.key("client_assertion_type"), token.client_assertion_type.as_deref(), review);
    let (format, method) = format?;
    Some(Dialect {
        grant_type: grant_type.ok()?,
        format,
        method,
        parameter_names: parameter_names?,
        headers: headers?,
        response: response?,
        client_assertion: client_assertion?,
        client_assertion_type: client_assertion_type.ok()?,
    })
}

/// What kind of assertion the client shows. `Err`: it is reported.
fn assertion_type(path: &KeyPath, text: Option<&str>, review: &mut Review<'_>) -> Result<Option<String>, ()> {
    let Some(text) = text else { return Ok(None) };
    if Url::parse(text).is_ok() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(text.to_owned()));
    }
    let help = "write it as in \"urn:ietf:params:oauth:client-assertion-type:jwt-bearer\"";
    review.error(path, "must be an absolute URI (RFC 7521 section 4.2)", help);
    Err(())
}

/// What `grant_type` says. `Err`: it is reported.
fn grant_type(path: &KeyPath, text: Option<&str>, review: &mut Review<'_>) -> Result<Option<String>, ()> {
    let Some(text) = text else { return Ok(None) };
    let own = OWN_GRANTS.iter().find(|(on_the_wire, _)| *on_the_wire == text);
    if let Some((_, word)) = own {
        let help = format!("take it out, and set `grant = \"{word}\"`, which sends what belongs to it");
        review.error(path, "is a grant that has a name of its own here", help);
        return Err(());
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let help = "write it as the server does, such as \"account_credentials\"";
        review.error(path, "has a character that no grant type has", help);
        return Err(());
    }
    Ok(Some(text.to_owned()))
}

fn format(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Option<(RequestFormat, TokenMethod)> {
    let (format_path, method_path) = (path.key("request_format"), path.key("token_method"));
    let (format, method) = (token.request_format, token.token_method);
    if method == TokenMethod::Get && format != RequestFormat::Query && review.is_given(&format_path) {
        let help = "take it out, or set `token_method = \"POST\"`";
        review.error(&format_path, "has no place beside `token_method = \"GET\"`, which has no body", help);
        return None;
    }
    let auth = client::auth(path, token, review);
    let secret =
        !matches!(auth, ClientAuth::ClientSecretBasic | ClientAuth::TlsClientAuth | ClientAuth::None);
    let query = if method == TokenMethod::Get { &method_path } else { &format_path };
    if (method == TokenMethod::Get || format == RequestFormat::Query)
        && (secret || token.grant != Grant::ClientCredentials)
    {
        let what = "puts secrets into the address, which servers and proxies write into their logs";
        let help = "use \"POST\" and \"form\" or \"json\" where the server takes one of them";
        review.warning(query, what, help);
    }
    Some((format, method))
}

/// What parameters are called. No two are called the same.
fn parameter_names(
    path: &KeyPath,
    token: &Token,
    review: &mut Review<'_>,
) -> Option<BTreeMap<String, String>> {
    let names_path = path.key("parameter_names");
    let mut sound = true;
    for (name, there) in &token.parameter_names {
        let path = names_path.key(name);
        let mut error = |what: &str, help: String| {
            review.error(&path, what, help);
            sound = false;
        };
        let twice = token.parameter_names.iter().any(|(other, given)| other != name && given == there);
        let is_used = PROTOCOL_NAMES.contains(&there.as_str()) && there != name
            || token.params.contains_key(there)
            || token.authorization_params.contains_key(there);
        if !PROTOCOL_NAMES.contains(&name.as_str()) {
            let help = nearest(name, PROTOCOL_NAMES).map_or_else(
                || "name a parameter of the protocol, such as `client_id`; others are in `params`".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            );
            error("is not a parameter of the protocol", help);
        } else if there.is_empty() || there.contains(|letter: char| letter.is_control()) {
            error("is not a name", "write what the server calls it, such as \"client_key\"".to_owned());
        } else if twice || is_used {
            error("is the name of another parameter, too", "give each parameter its own name".to_owned());
        } else if name == "client_secret" && token.client_auth != ClientAuth::ClientSecretPost {
            error(
                "has no effect: the secret is not sent as a parameter",
                "set `client_auth = \"client_secret_post\"`, or take it out".to_owned(),
            );
        }
    }
    sound.then(|| token.parameter_names.clone())
}

/// Further fields. A value may be a secret, so that no problem shows one.
fn headers(path: &KeyPath, fields: &BTreeMap<String, String>, review: &mut Review<'_>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut sound = true;
    for (name, value) in fields {
        let path = path.key(name);
        let mut error = |what: &str, help: &str| {
            review.error(&path, what, help);
            sound = false;
        };
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            error("is not the name of a header field", "write it as in `Notion-Version`");
            continue;
        };
        match name.as_str() {
            "authorization" => {
                error("is how the client authenticates", "take it out; `client_auth` sets it");
                continue;
            }
            "dpop" => {
                error("is a proof, which is another for each request", "take it out, and set `dpop = true`");
                continue;
            }
            "content-type" => {
                error("says what the body is", "take it out; `request_format` sets it");
                continue;
            }
            own if own == "accept-encoding" || attachment::is_of_the_message(own) => {
                error("belongs to the connection or to the message", "take it out");
                continue;
            }
            _ => {}
        }
        let Some(mut value) = HeaderValue::from_str(value).ok().filter(|value| !value.is_empty()) else {
            error("has a value that no header field can carry", "write plain text without line ends");
            continue;
        };
        value.set_sensitive(true);
        if headers.insert(name, value).is_some() {
            error("is there twice", "keep one: the case of a name makes no difference");
        }
    }
    sound.then_some(headers)
}

fn response(path: &KeyPath, written: &file::Response, review: &mut Review<'_>) -> Option<ResponsePaths> {
    let file::Response { access_token, expires_in, refresh_token, token_type, scope, id_token } = written;
    let mut read = |key: &str, text: &Option<String>| {
        let Some(text) = text else { return Some(None) };
        let found = MemberPath::parse(text);
        if found.is_none() {
            let what = "must be names with dots between them, at most eight";
            review.error(
                &path.key(key),
                what,
                "write it as in \"authed_user.access_token\" or \"data.0.token\"",
            );
        }
        found.map(Some)
    };
    let (access_token, expires_in) = (read("access_token", access_token), read("expires_in", expires_in));
    let (refresh_token, token_type) = (read("refresh_token", refresh_token), read("token_type", token_type));
    let (scope, id_token) = (read("scope", scope), read("id_token", id_token));
    Some(ResponsePaths {
        access_token: access_token?,
        expires_in: expires_in?,
        refresh_token: refresh_token?,
        token_type: token_type?,
        scope: scope?,
        id_token: id_token?,
    })
}

/// Grants that send more than their name.
const OWN_GRANTS: [(&str, &str); 6] = [
    ("refresh_token", "refresh_token"),
    ("authorization_code", "authorization_code"),
    ("password", "password"),
    ("urn:ietf:params:oauth:grant-type:device_code", "device_code"),
    ("urn:ietf:params:oauth:grant-type:jwt-bearer", "jwt_bearer"),
    ("urn:ietf:params:oauth:grant-type:token-exchange", "token_exchange"),
];
