//! Which request goes where: the first route that matches by host, path and method.

use http::Method;

/// A route as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
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
}

/// What the application's own `Authorization` meets on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnAuthorization {
    /// It is replaced by ours.
    #[default]
    Replace,
    /// The request is refused.
    Refuse,
    /// It is kept, and then no token is added.
    Keep,
}
