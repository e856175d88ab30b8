//! `[[routes]]`: which request goes where.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::quantity::{Bytes, Period, Rate, Words};
use crate::proxy::OnUnauthorized;
use crate::proxy::OwnAuthorization;

/// Which request goes where, and with which token.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Route {
    /// A path prefix on segment borders: /v1 matches /v1 and /v1/x, never /v10.
    pub(in crate::config) path: String,
    /// Only for requests to this host name; left out: any.
    pub(in crate::config) host: Option<String>,
    /// Only these methods; empty: any.
    pub(in crate::config) methods: Words,
    /// Whether `path` is taken off before the request is forwarded.
    pub(in crate::config) strip_prefix: bool,
    /// The name of the upstream.
    pub(in crate::config) upstream: Option<String>,
    /// The name of the token, or "none".
    pub(in crate::config) token: Option<String>,
    /// What the application's own Authorization header meets: replace, refuse, or keep (then no token is added).
    pub(in crate::config) own_authorization: OwnAuthorization,
    /// What follows a 401 of the upstream: replay (a new token, and the request once more), renew (a new token for later
    /// requests), or pass (nothing).
    pub(in crate::config) on_unauthorized: OnUnauthorized,
    /// The statuses by which this API refuses a token that it no longer takes, from 400 to 499.
    #[schemars(inner(range(min = 400, max = 499)))]
    pub(in crate::config) unauthorized_status: Vec<u16>,
    /// Bytes of a request's body that are kept for a replay; a larger one is sent once.
    pub(in crate::config) replay_body_limit: Bytes,
    /// How often requests may come, over all workers: 100/s, 600/m, 5000/h; left out: as often as they do.
    pub(in crate::config) rate_limit: Option<Rate>,
    /// So many at once after a pause; left out: one second's worth, at least 1.
    pub(in crate::config) rate_burst: Option<u32>,
    /// Requests under way at a time, over all workers; left out: any number.
    pub(in crate::config) max_concurrent: Option<usize>,
    /// Requests that may wait for their turn; more are refused at once.
    pub(in crate::config) max_queue: usize,
    /// How long one may wait for its turn.
    pub(in crate::config) queue_timeout: Period,
    /// For how long a stream or a WebSocket may go on; left out: as long as it likes.
    pub(in crate::config) max_stream_age: Option<Period>,
    /// Whether addresses of the upstream in response fields (Location, Content-Location, Link, Refresh and any other
    /// field that is an address) become the ones that the application used; Destination and Origin the other way round.
    pub(in crate::config) rewrite_addresses: bool,
    /// Which attributes of the upstream's cookies become those for the proxy's place: true for all, or a list of domain,
    /// path and secure.
    pub(in crate::config) rewrite_cookies: CookieAttributes,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            host: None,
            methods: Words::default(),
            strip_prefix: false,
            upstream: None,
            token: None,
            own_authorization: OwnAuthorization::default(),
            on_unauthorized: OnUnauthorized::default(),
            unauthorized_status: vec![401],
            replay_body_limit: Bytes(256 * 1024),
            rate_limit: None,
            rate_burst: None,
            max_concurrent: None,
            max_queue: 0,
            queue_timeout: Period::seconds(5),
            max_stream_age: None,
            rewrite_addresses: true,
            rewrite_cookies: CookieAttributes::default(),
        }
    }
}

/// Attributes of cookies: true for all of them, or a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct CookieAttributes {
    pub(in crate::config) domain: bool,
    pub(in crate::config) path: bool,
    pub(in crate::config) secure: bool,
}

impl CookieAttributes {
    const NONE: Self = Self { domain: false, path: false, secure: false };
    const ALL: Self = Self { domain: true, path: true, secure: true };
}

/// One of them.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum CookieAttribute {
    Domain,
    Path,
    Secure,
}

struct CookieAttributesVisitor;

impl<'de> Visitor<'de> for CookieAttributesVisitor {
    type Value = CookieAttributes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a list of \"domain\", \"path\" and \"secure\"")
    }

    fn visit_bool<E: de::Error>(self, all: bool) -> Result<CookieAttributes, E> {
        Ok(if all { CookieAttributes::ALL } else { CookieAttributes::NONE })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<CookieAttributes, A::Error> {
        let mut attributes = CookieAttributes::NONE;
        while let Some(attribute) = items.next_element()? {
            match attribute {
                CookieAttribute::Domain => attributes.domain = true,
                CookieAttribute::Path => attributes.path = true,
                CookieAttribute::Secure => attributes.secure = true,
            }
        }
        Ok(attributes)
    }
}

impl<'de> Deserialize<'de> for CookieAttributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CookieAttributesVisitor)
    }
}

impl Serialize for CookieAttributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { domain, path, secure } = *self;
        if domain == path && path == secure {
            return serializer.serialize_bool(domain);
        }
        let listed = [
            domain.then_some(CookieAttribute::Domain),
            path.then_some(CookieAttribute::Path),
            secure.then_some(CookieAttribute::Secure),
        ];
        serializer.collect_seq(listed.into_iter().flatten())
    }
}

impl JsonSchema for CookieAttributes {
    fn schema_name() -> Cow<'static, str> {
        "CookieAttributes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let attribute = generator.subschema_for::<CookieAttribute>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "array", "items": attribute }] })
    }
}
