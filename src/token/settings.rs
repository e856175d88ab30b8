//! One token as it is configured: whom to ask for it, when to renew it, how to attach it.

use std::time::Duration;

use http::HeaderName;

use crate::oauth::{Client, ServerSettings, TokenRequest};

/// All there is to know about a token before it is fetched. Two that are equal are the same token: a reload
/// leaves it alone.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenSettings {
    /// Whom to ask.
    pub server: ServerSettings,
    /// Who asks.
    pub client: Client,
    /// For what.
    pub request: TokenRequest,
    /// How it goes on a request.
    pub attachment: Attachment,
    /// When it is renewed.
    pub policy: Policy,
    /// Whether readiness waits for it.
    pub required: bool,
}

/// How a token goes on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The header field; default `Authorization`.
    pub header: HeaderName,
    /// The scheme before the token; default `Bearer` (RFC 6750 section 2.1); empty: the bare token.
    pub scheme: String,
}

/// When a token is renewed and for how long one is waited for.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Share of the lifetime after which it is renewed; above 0, at most 1. Default 0.75.
    pub renew_at: f64,
    /// Jitter takes up to this share of the lifetime off the renewal instant; from 0 to `renew_at`. Default 0.10.
    pub jitter: f64,
    /// A token this close to its expiry is not sent. Default 10 s; never more than a tenth of the lifetime, so that
    /// a short-lived token can be used at all.
    pub expiry_margin: Duration,
    /// The lifetime where neither `expires_in` nor a JWT's `exp` says. Default 5 min.
    pub default_lifetime: Duration,
    /// How failed renewals are spaced.
    pub retry: Backoff,
    /// How long a request waits for a first token, failures that pass by themselves included. Default 10 s.
    pub wait: Duration,
}

/// Full-jitter exponential backoff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first delay. Default 500 ms.
    pub initial: Duration,
    /// The bound of any delay. Default 60 s.
    pub max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            renew_at: 0.75,
            jitter: 0.10,
            expiry_margin: Duration::from_secs(10),
            default_lifetime: Duration::from_mins(5),
            retry: Backoff { initial: Duration::from_millis(500), max: Duration::from_mins(1) },
            wait: Duration::from_secs(10),
        }
    }
}
