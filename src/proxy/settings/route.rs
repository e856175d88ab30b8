//! A route as it is configured, and which requests are its own.

use std::time::Duration;

use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A route as it is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Only for this host name, lower case, without a port; `None`: any.
    pub host: Option<String>,
    /// A path prefix on segment borders: `/v1` matches `/v1` and `/v1/x`, never `/v10`.
    pub path: String,
    /// Only these methods; empty: any. A path that matches with another method is a 405.
    pub methods: Vec<Method>,
    /// Whether `path` is taken off before the request is forwarded.
    pub strip_prefix: bool,
    /// The name of the upstream.
    pub upstream: String,
    /// The name of the token; `None`: none is attached.
    pub token: Option<String>,
    /// What the application's own `Authorization` meets.
    pub own_authorization: OwnAuthorization,
    /// What follows when the upstream refuses the token.
    pub on_unauthorized: OnUnauthorized,
    /// The statuses by which the upstream refuses a token, 401 alone by default.
    pub unauthorized_status: Vec<StatusCode>,
    /// Bytes of a request's body that are kept for a replay; a larger one is sent once.
    pub replay_body_limit: usize,
    /// How much of it there may be at a time.
    pub limits: RouteLimits,
    /// For how long a stream or a WebSocket may go on; `None`: as long as it likes.
    pub max_stream_age: Option<Duration>,
    /// What is rewritten in answers that name the upstream.
    pub rewrite: Rewrite,
}

/// What follows when the upstream refuses the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnUnauthorized {
    /// A new token, and the request once more.
    #[default]
    Replay,
    /// A new token for later requests; this one gets the refusal.
    Renew,
    /// Nothing: the refusal is the application's.
    Pass,
}

/// How many requests a route lets through, over all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteLimits {
    /// How often; `None`: as often as it comes.
    pub rate: Option<Rate>,
    /// Requests under way at a time; `None`: any number.
    pub concurrent: Option<usize>,
    /// Requests that may wait for their turn, by either limit; more are refused at once.
    pub queue: usize,
    /// How long one may wait for its turn.
    pub queue_timeout: Duration,
}

/// A request rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// So many requests ...
    pub requests: u32,
    /// ... in this time.
    pub per: Duration,
    /// So many at once after a pause.
    pub burst: u32,
}

impl Default for RouteLimits {
    fn default() -> Self {
        Self { rate: None, concurrent: None, queue: 0, queue_timeout: Duration::from_secs(5) }
    }
}

/// What the application's own `Authorization` meets on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OwnAuthorization {
    /// It is replaced by ours.
    #[default]
    Replace,
    /// The request is refused.
    Refuse,
    /// It is kept, and then no token is added.
    Keep,
}

/// What a route rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rewrite {
    /// Whether addresses of the upstream become those that the application uses, and the other way round.
    pub addresses: bool,
    /// Which attributes of cookies become those for the proxy's place.
    pub cookies: CookieAttributes,
}

/// Attributes of cookies (RFC 6265 section 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CookieAttributes {
    /// A Domain that the proxy's host is not in is left out.
    pub domain: bool,
    /// A Path of the upstream's becomes the one here.
    pub path: bool,
    /// Secure, Partitioned and SameSite=None are left out where the application uses no TLS.
    pub secure: bool,
}

impl Default for Rewrite {
    fn default() -> Self {
        Self { addresses: true, cookies: CookieAttributes::default() }
    }
}

/// How far a request's host and path fit a route's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    No,
    /// They would, for a server to which case means nothing.
    InAnotherCase,
    Exactly,
}

impl Route {
    /// Whether `host` and `path` are this route's, where its path is written as `prefix`.
    pub(crate) fn fit(&self, host: &str, path: &str, prefix: &str) -> Fit {
        if !self.host.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(host)) {
            return Fit::No;
        }
        let Some((head, rest)) = path.as_bytes().split_at_checked(prefix.len()) else { return Fit::No };
        let is_on_border = rest.is_empty() || rest.starts_with(b"/") || prefix.ends_with('/');
        if !is_on_border {
            Fit::No
        } else if head == prefix.as_bytes() {
            Fit::Exactly
        } else if head.eq_ignore_ascii_case(prefix.as_bytes()) {
            Fit::InAnotherCase
        } else {
            Fit::No
        }
    }

    /// Whether what is left of `path` without this route's prefix begins like a host, for who resolves it as a reference.
    pub(crate) fn leaves_a_host(&self, path: &str) -> bool {
        let rest = self.rest_of(path).filter(|_| self.strip_prefix).unwrap_or_default();
        rest.starts_with("//") || rest.starts_with("/\\")
    }

    /// Whether the same requests would choose both.
    pub(crate) fn is_for_the_same(&self, other: &Self) -> bool {
        self.host == other.host && self.path == other.path && self.methods == other.methods
    }

    pub(crate) fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// What of `path` is behind this route's prefix; `None` where that is not its prefix.
    pub(crate) fn rest_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.path.as_str())?;
        let on_border = rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/');
        on_border.then_some(rest)
    }

    /// What of `path` goes upstream, behind the path of its address.
    pub(crate) fn forwarded_part<'p>(&self, path: &'p str) -> &'p str {
        if self.strip_prefix { self.rest_of(path).unwrap_or(path) } else { path }
    }

    /// What metrics and logs call this route: host and path.
    #[must_use]
    pub(crate) fn label(&self) -> String {
        format!("{}{}", self.host.as_deref().unwrap_or_default(), self.path)
    }
}
