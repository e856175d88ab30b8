//! What is wrong with a response that is neither a token nor a refusal.

use http::StatusCode;

use crate::oauth::error::class::Class;
use crate::oauth::error::place::Place;

use super::found::FoundIssuer;

/// Why a response is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseFault {
    #[error("it responded with {}, a redirect; a secret follows none, so configure the final address", .0.as_u16())]
    Redirect(StatusCode),
    #[error(
        "it responded with {status}, a redirect to {1}, which no secret follows: configure the final address; where that is a page to log in at, the server does not serve this endpoint",
        status = .0.as_u16()
    )]
    RedirectTo(StatusCode, Place),
    #[error("the answer is larger than {} KiB", crate::oauth::endpoint::body::MAX_BODY_BYTES / 1024)]
    TooLarge,
    #[error("{0}")]
    Malformed(ResponseFlaw),
    #[error("the token is not of the type Bearer")]
    TokenType,
    #[error(
        "a token bound to our key (DPoP) was asked for and the server gave one that is not; have it demand DPoP of this client, or take `dpop` away"
    )]
    Unbound,
    #[error(
        "the metadata there are for another issuer, {0}; `issuer` must equal the document's to the letter, a final slash included"
    )]
    OtherIssuer(FoundIssuer),
    #[error(
        "the server says `expires_in` {0}, so that the token is over when it comes; have the server give it a lifetime, or leave `expires_in` out"
    )]
    NoTime(i64),
    #[error(
        "the token just issued is not active, says introspection; let this client introspect its own tokens, or take `introspection_endpoint` away"
    )]
    Inactive,
    #[error(
        "the metadata name no method S256 for PKCE (`code_challenge_methods_supported`), and a login here uses no other; switch it on at the authorization server, or set `pkce = \"none\"` for a client that authenticates"
    )]
    NoPkce,
}

impl ResponseFault {
    pub(in crate::oauth) const fn class(&self) -> Class {
        match self {
            Self::Redirect(_)
            | Self::RedirectTo(..)
            | Self::TokenType
            | Self::Unbound
            | Self::OtherIssuer(_)
            | Self::NoPkce => Class::Misconfigured,
            Self::TooLarge | Self::Malformed(_) | Self::NoTime(_) | Self::Inactive => Class::Transient,
        }
    }

    pub(in crate::oauth) const fn cause(&self) -> &'static str {
        match self {
            Self::Redirect(_) | Self::RedirectTo(..) => "redirect",
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::TokenType => "token_type",
            Self::Unbound => "unbound",
            Self::OtherIssuer(_) => "issuer_mismatch",
            Self::NoTime(_) => "stale",
            Self::Inactive => "inactive",
            Self::NoPkce => "no_pkce",
        }
    }

    pub(super) const fn public_reason(&self) -> &'static str {
        match self {
            Self::Redirect(_) | Self::RedirectTo(..) => {
                "the authorization server responds with a redirect, which is never followed"
            }
            Self::TooLarge => "the authorization server's response is too large",
            Self::Malformed(flaw) => flaw.public_reason(),
            Self::TokenType => "the authorization server's token is not of the type Bearer",
            Self::Unbound => "the authorization server's token is not bound to the client's key (DPoP)",
            Self::OtherIssuer(_) => {
                "the authorization server's metadata are for another issuer than the configured one"
            }
            Self::NoTime(_) => "the authorization server says that its token lives for no time",
            Self::Inactive => "the authorization server says that the token just issued is not active",
            Self::NoPkce => "the authorization server does not offer PKCE with S256",
        }
    }
}

/// What is wrong with an answer that says it is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseFlaw {
    #[error("the answer is not HTTP; check the port")]
    NotHttp,
    #[error("the answer has an empty body")]
    Empty,
    #[error("the response is not a JSON object; check the address")]
    NotJson,
    #[error(
        "the response is an HTML page; check the address, and what stands in front of the server (a login page)"
    )]
    Page,
    #[error("the response begins as a JSON object and is none: it is cut off or malformed")]
    BrokenJson,
    #[error("the response has a member twice, so that it is not clear which one counts (RFC 8259 section 4)")]
    Twice,
    #[error("the response is compressed in a way that was not asked for and cannot be read")]
    Encoding,
    #[error(
        "the answer has no `access_token`; where the token stands elsewhere in it, set `response = {{ access_token = \"...\" }}`"
    )]
    NoAccessToken,
    #[error("the answer's `access_token` is not a string of visible ASCII")]
    AccessToken,
    #[error("the answer's `expires_in` is not a number")]
    ExpiresIn,
    #[error("the answer to a pushed authorization request has no `request_uri`")]
    NoRequestUri,
    #[error("the answer to a device authorization request has no {0} that can be used")]
    Device(&'static str),
    #[error("the answer does not say whether the token is `active`; check `introspection_endpoint`")]
    NoActive,
}

impl ResponseFlaw {
    /// Whether it is the lifetime that cannot be read.
    pub(crate) const fn is_expiry(self) -> bool {
        matches!(self, Self::ExpiresIn)
    }

    const fn public_reason(self) -> &'static str {
        match self {
            Self::NotHttp => "the authorization server does not speak HTTP at its address",
            Self::Page => "the authorization server's address responds with a page for people",
            Self::Empty
            | Self::NotJson
            | Self::BrokenJson
            | Self::Twice
            | Self::Encoding
            | Self::NoAccessToken
            | Self::AccessToken
            | Self::ExpiresIn => "the authorization server's response holds no usable token",
            Self::NoRequestUri | Self::Device(_) | Self::NoActive => {
                "the authorization server's response cannot be used"
            }
        }
    }
}
