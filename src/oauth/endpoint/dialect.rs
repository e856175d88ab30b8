//! How a token endpoint deviates from RFC 6749, as far as a handful of general settings say: no provider has code of
//! its own.
//!
//! `write` and `endpoint` follow it in requests, `members` in responses. Metadata, revocation and introspection know no
//! dialect.

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::oauth::client::assertion::AssertionTerms;

/// What one token endpoint wants otherwise. The default is RFC 6749's own form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// What `grant_type` says in place of `client_credentials`. Empty: the parameter is left out.
    pub grant_type: Option<String>,
    /// Where the parameters of a token request stand.
    pub format: RequestFormat,
    /// The method of a token request.
    pub method: TokenMethod,
    /// What the protocol's parameters are called there, by their own names.
    pub parameter_names: BTreeMap<String, String>,
    /// More header fields of each token request. A value may be a secret: all are marked sensitive.
    pub headers: HeaderMap,
    /// Where the members of a token response stand.
    pub response: ResponsePaths,
    /// What is configured of the assertions that the client authenticates by.
    pub client_assertion: AssertionTerms,
    /// What `client_assertion_type` says; `None`: that the assertion is a JWT (RFC 7523 section 2.2).
    pub client_assertion_type: Option<String>,
}

/// Where the parameters of a token request stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestFormat {
    /// In the body, `application/x-www-form-urlencoded` (RFC 6749 section 4).
    #[default]
    Form,
    /// In the body, a JSON object of strings.
    Json,
    /// In the query component of the address.
    Query,
}

/// The method of a token request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum TokenMethod {
    /// `POST` (RFC 6749 section 3.2).
    #[default]
    Post,
    /// `GET`, whose parameters stand in the query.
    Get,
}

impl TokenMethod {
    /// As the request line has it.
    pub(in crate::oauth) const fn method(self) -> Method {
        match self {
            Self::Post => Method::POST,
            Self::Get => Method::GET,
        }
    }
}

/// Where the members of a token response stand; `None`: under their own name, beside the access token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponsePaths {
    /// Of `access_token`.
    pub access_token: Option<MemberPath>,
    /// Of `expires_in`, a duration or a point in time.
    pub expires_in: Option<MemberPath>,
    /// Of `refresh_token`.
    pub refresh_token: Option<MemberPath>,
    /// Of `token_type`.
    pub token_type: Option<MemberPath>,
    /// Of `scope`.
    pub scope: Option<MemberPath>,
    /// Of `id_token`.
    pub id_token: Option<MemberPath>,
}

/// A dotted name, such as `authed_user.access_token` or `tokens.0.value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberPath(Vec<String>);

impl MemberPath {
    /// Reads names that dots separate; a number chooses from an array. `None`: a name is empty or has a space in it, or
    /// there are too many.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        let is_name = |name: &String| {
            !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace() || letter.is_control())
        };
        (names.len() <= MOST_NAMES && names.iter().all(is_name)).then_some(Self(names))
    }

    /// The names, from the outermost.
    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }
}

impl Dialect {
    /// What the endpoint calls the parameter `name`.
    pub(in crate::oauth) fn name<'a>(&'a self, name: &'a str) -> &'a str {
        self.parameter_names.get(name).map_or(name, String::as_str)
    }
}

/// Far deeper than any response.
const MOST_NAMES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_with_dots_between_them() {
        for text in ["access_token", "authed_user.access_token", "data.0.token", "a.b.c.d.e.f.g.h"] {
            assert_eq!(MemberPath::parse(text).unwrap().names().join("."), text);
        }
        for text in ["", ".", "a.", ".a", "a..b", "a b", "$.a. b", "a.b.c.d.e.f.g.h.i"] {
            assert_eq!(MemberPath::parse(text), None, "{text}");
        }
    }
}
