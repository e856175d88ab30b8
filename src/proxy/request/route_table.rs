//! Which request goes where: the first route that matches by host, path and method.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderValue, Method};

use super::guard::{Guard, Sentry, host_of};
use super::limits::RouteGate;
use super::refused_token_log::RefusalLog;
use crate::proxy::error::{BadRequest, ProxyError};
use crate::proxy::message::headers::Overrides;
use crate::proxy::message::path::{JudgedPath, judge};
use crate::proxy::observe::metrics::{ProxyMetrics, RouteMetrics};
use crate::proxy::settings::{Fit, Route};
use crate::proxy::upstream::api::Upstream;
use crate::token::TokenHandle;

/// All routes with what they lead to, and the guard before them: swapped as a whole by a reload.
#[derive(Debug)]
pub(crate) struct RouteTable {
    guard: Sentry,
    entries: Vec<RouteEntry>,
    overrides: Overrides,
    upstreams: Vec<Arc<Upstream>>,
    unrouted: Arc<RouteMetrics>,
}

/// A route with what it leads to.
#[derive(Debug)]
pub(crate) struct RouteEntry {
    pub(crate) route: Route,
    /// Which of [`RouteTable::upstreams`].
    pub(crate) upstream: usize,
    pub(crate) token: Option<TokenHandle>,
    pub(crate) metrics: Arc<RouteMetrics>,
    /// `None`: it lets everything through.
    pub(crate) limits: Option<Arc<RouteGate>>,
    pub(super) refusals: RefusalLog,
    uses_credentials: bool,
    /// The route's path as [`judge`] reads it most leniently: what other paths are compared with that are read so.
    folded: String,
}

impl RouteEntry {
    /// Whether requests of this route reach what their sender could not reach without the proxy: by a token, or by what the
    /// upstream's connections have.
    pub(super) const fn uses_credentials(&self) -> bool {
        self.uses_credentials
    }
}

/// A route that names what there is not. The configuration is checked before, so this is a mistake of the caller's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// No upstream of that name.
    #[error("the route {path} leads to the upstream {upstream}, which does not exist")]
    Upstream {
        /// The route's path.
        path: String,
        /// The name.
        upstream: String,
    },
    /// No token of that name.
    #[error("the route {path} asks for the token {token}, which does not exist")]
    Token {
        /// The route's path.
        path: String,
        /// The name.
        token: String,
    },
}

impl RouteTable {
    /// Links routes with the upstreams and tokens that they name.
    ///
    /// # Errors
    /// [`LinkError`] where a name leads nowhere.
    pub(crate) fn link(
        guard: Guard,
        routes: &[Route],
        upstreams: Vec<Arc<Upstream>>,
        token: impl Fn(&str) -> Option<TokenHandle>,
        metrics: &ProxyMetrics,
    ) -> Result<Self, LinkError> {
        let entries = routes.iter().map(|route| {
            let upstream = upstreams.iter().position(|u| u.name == route.upstream).ok_or_else(|| {
                LinkError::Upstream { path: route.path.clone(), upstream: route.upstream.clone() }
            })?;
            let token = match &route.token {
                None => None,
                Some(name) => Some(
                    token(name)
                        .ok_or_else(|| LinkError::Token { path: route.path.clone(), token: name.clone() })?,
                ),
            };
            let uses_credentials = token.is_some() || upstreams[upstream].is_beyond_pages();
            let lenient = judge(&route.path).ok().and_then(|path| path.readings.into_iter().next());
            Ok(RouteEntry {
                upstream,
                token,
                metrics: metrics.route(&route.label()),
                limits: RouteGate::new(&route.limits),
                refusals: RefusalLog::new(),
                uses_credentials,
                folded: lenient.unwrap_or_else(|| route.path.clone()),
                route: route.clone(),
            })
        });
        let entries = entries.collect::<Result<Vec<_>, LinkError>>()?;
        // A request without one of these methods may take a route that has no list, and be given the method there.
        let lists = entries.iter().any(|entry| !entry.route.methods.is_empty());
        let overrides = if lists { Overrides::Remove } else { Overrides::Pass };
        Ok(Self { guard: Sentry::new(guard), entries, overrides, upstreams, unrouted: metrics.unrouted() })
    }

    pub(super) const fn guard(&self) -> &Sentry {
        &self.guard
    }

    /// What becomes of fields that override methods.
    pub(crate) const fn overrides(&self) -> Overrides {
        self.overrides
    }

    /// Takes over from `old` what unchanged routes have counted towards their limits.
    fn keep_limits(&mut self, old: &Self) {
        for entry in &mut self.entries {
            let before = old.entries.iter().find(|other| other.route.is_for_the_same(&entry.route));
            let limits = before.and_then(|before| before.limits.as_ref());
            if let Some(limits) = limits.filter(|limits| limits.are_of(&entry.route.limits)) {
                entry.limits = Some(Arc::clone(limits));
            }
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn entries(&self) -> &[RouteEntry] {
        &self.entries
    }

    pub(crate) fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// Logs what has ended of the proxy's own responses. Each worker calls this a few times a second.
    pub(crate) fn look_around(&self) {
        for metrics in self.entries.iter().map(|entry| &entry.metrics).chain([&self.unrouted]) {
            metrics.local_reply_log().look_around();
        }
    }

    /// Logs what has not ended: no request will follow.
    fn finish_logs(&self) {
        for metrics in self.entries.iter().map(|entry| &entry.metrics).chain([&self.unrouted]) {
            metrics.local_reply_log().finish();
        }
    }

    /// What requests that match no route are counted under.
    pub(crate) const fn unrouted(&self) -> &Arc<RouteMetrics> {
        &self.unrouted
    }

    /// The route for a request. A path that a lenient server would read as one of another route is refused: it
    /// would walk around whatever that route stands for.
    pub(crate) fn find(
        &self,
        host: &str,
        path: &JudgedPath<'_>,
        method: &Method,
    ) -> Result<&RouteEntry, ProxyError> {
        let host = host_of(host);
        // A name is the same with the root's dot behind it (RFC 1034 section 3.1).
        let host = host.strip_suffix('.').unwrap_or(host);
        let found = self.position(host, path.raw, method)?;
        if path.readings.iter().any(|reading| self.lenient_position(host, reading, method) != found) {
            return Err(BadRequest::AmbiguousPath.into());
        }
        let Some(position) = found else { return Err(self.why_none(host, path.raw)) };
        let entry = &self.entries[position];
        if !path.readings.is_empty() && entry.route.leaves_a_host(path.raw) {
            return Err(BadRequest::AmbiguousPath.into());
        }
        Ok(entry)
    }

    /// Whether a request for `path` reaches what it would by `entry`: by that route, or by another one to the same upstream
    /// that forwards the same path.
    pub(super) fn leads_as(&self, entry: &RouteEntry, host: &str, path: &str, method: &Method) -> bool {
        let found = judge(path).ok().and_then(|path| self.find(host, &path, method).ok());
        found.is_some_and(|found| {
            found.upstream == entry.upstream
                && found.route.forwarded_part(path) == entry.route.forwarded_part(path)
        })
    }

    /// The label of the route that a request would take; `None` where the proxy would answer itself.
    #[must_use]
    #[cfg(feature = "benching")]
    pub(crate) fn label_for(&self, host: &str, path: &str, method: &Method) -> Option<&str> {
        let entry = self.find(host, &judge(path).ok()?, method).ok()?;
        Some(entry.metrics.label())
    }

    /// The first route that fits; none may come before it that would fit if case meant nothing.
    fn position(&self, host: &str, path: &str, method: &Method) -> Result<Option<usize>, BadRequest> {
        let mut in_another_case = false;
        for (position, entry) in self.entries.iter().enumerate() {
            match entry.route.fit(host, path, &entry.route.path) {
                Fit::Exactly if entry.route.takes(method) => {
                    return if in_another_case { Err(BadRequest::AmbiguousPath) } else { Ok(Some(position)) };
                }
                Fit::InAnotherCase => in_another_case |= entry.route.takes(method),
                Fit::Exactly | Fit::No => {}
            }
        }
        Ok(None)
    }

    /// The first route that would fit if case meant nothing.
    fn lenient_position(&self, host: &str, reading: &str, method: &Method) -> Option<usize> {
        self.entries.iter().position(|entry| {
            entry.route.takes(method) && entry.route.fit(host, reading, &entry.folded) != Fit::No
        })
    }

    fn why_none(&self, host: &str, path: &str) -> ProxyError {
        let mut methods: Vec<&str> = Vec::new();
        let fits = |entry: &&RouteEntry| entry.route.fit(host, path, &entry.route.path) == Fit::Exactly;
        for entry in self.entries.iter().filter(fits) {
            methods.extend(entry.route.methods.iter().map(Method::as_str));
        }
        methods.sort_unstable();
        methods.dedup();
        match HeaderValue::from_str(&methods.join(", ")) {
            Ok(allow) if !methods.is_empty() => ProxyError::MethodNotAllowed { allow },
            _ => ProxyError::NoRoute,
        }
    }
}

/// The table now in force: read by every request, replaced by a reload.
#[derive(Debug)]
pub(crate) struct Routes(ArcSwap<RouteTable>);

impl Routes {
    /// Starts with `table`.
    #[must_use]
    pub(crate) fn new(table: RouteTable) -> Self {
        Self(ArcSwap::from_pointee(table))
    }

    /// Puts `table` in force for every request that begins from now on. Routes whose limits are as they were go on counting.
    pub(crate) fn replace(&self, mut table: RouteTable) {
        table.keep_limits(&self.0.load());
        self.0.store(Arc::new(table));
    }

    /// Logs how many requests the proxy responded to itself, as far as no line has them yet: no request will follow.
    pub(crate) fn finish_logs(&self) {
        self.0.load().finish_logs();
    }

    pub(crate) fn load(&self) -> Arc<RouteTable> {
        self.0.load_full()
    }

    /// Whether `table` is the one in force: what a request asks instead of taking a count of it.
    pub(crate) fn is_in_force(&self, table: &Arc<RouteTable>) -> bool {
        Arc::ptr_eq(&self.0.load(), table)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::metrics::Metrics;

    use crate::proxy::settings::UpstreamSettings;
    use http::StatusCode;

    pub(crate) fn route(path: &str) -> Route {
        Route {
            path: path.into(),
            upstream: "api".into(),
            unauthorized_status: vec![StatusCode::UNAUTHORIZED],
            replay_body_limit: 64 * 1024,
            ..Route::default()
        }
    }

    fn table(routes: &[Route]) -> RouteTable {
        let settings = UpstreamSettings::bare("http://127.0.0.1:1");
        let upstream = Arc::new(Upstream::new("api", settings).unwrap());
        let guard = Guard::default();
        let metrics = ProxyMetrics::new(&Metrics::new());
        RouteTable::link(guard, routes, vec![upstream], |_| None, &metrics).unwrap()
    }

    fn find<'t>(
        table: &'t RouteTable,
        host: &str,
        method: &Method,
        path: &str,
    ) -> Result<&'t str, ProxyError> {
        table.find(host, &judge(path)?, method).map(|entry| entry.route.path.as_str())
    }

    #[test]
    fn a_prefix_matches_on_segment_borders_and_the_first_route_wins() {
        let table = table(&[route("/v1/admin"), route("/v1"), route("/files/")]);
        let get = |path| find(&table, "localhost", &Method::GET, path);
        assert_eq!(get("/v1/admin/x").unwrap(), "/v1/admin");
        assert_eq!(get("/v1/administration").unwrap(), "/v1");
        assert_eq!(get("/v1").unwrap(), "/v1");
        assert_eq!(get("/files/x").unwrap(), "/files/");
        for none in ["/v10", "/", "/files", "/V1", "/V1/x"] {
            assert!(matches!(get(none), Err(ProxyError::NoRoute)), "{none}");
        }
    }

    #[test]
    fn a_host_narrows_a_route() {
        let mut orders = route("/");
        orders.host = Some("orders.local".into());
        let table = table(&[orders]);
        for host in ["Orders.local:8080", "orders.local.", "orders.local.:8080"] {
            assert!(find(&table, host, &Method::GET, "/").is_ok(), "{host}");
        }
        assert!(matches!(find(&table, "localhost", &Method::GET, "/"), Err(ProxyError::NoRoute)));
    }

    #[test]
    fn another_method_is_a_405_that_names_the_right_ones() {
        let mut read = route("/v1");
        read.methods = vec![Method::GET, Method::HEAD];
        let only = table(std::slice::from_ref(&read));
        match find(&only, "localhost", &Method::POST, "/v1/x") {
            Err(ProxyError::MethodNotAllowed { allow }) => assert_eq!(allow, "GET, HEAD"),
            other => panic!("{other:?}"),
        }
        let with_catch_all = table(&[read, route("/")]);
        assert_eq!(find(&with_catch_all, "localhost", &Method::POST, "/v1/x").unwrap(), "/");
    }

    #[test]
    fn a_path_cannot_walk_around_a_route() {
        let table = table(&[route("/admin"), route("/")]);
        for path in
            ["//admin", "/%61dmin", "/admin%2fx", "/admin;x=1", "/%2561dmin/x", "\\admin", "/x%2f..%2fadmin"]
        {
            let found = find(&table, "localhost", &Method::GET, path);
            assert!(matches!(found, Err(ProxyError::BadRequest(_))), "{path}: {found:?}");
        }
        for harmless in ["/groups/a%2Fb", "/a//b", "/a;v=1/b", "/caf%C3%A9"] {
            assert_eq!(find(&table, "localhost", &Method::GET, harmless).unwrap(), "/", "{harmless}");
        }
    }

    #[test]
    fn a_path_in_another_case_cannot_walk_around_a_route() {
        let mut read_only = route("/admin");
        read_only.methods = vec![Method::GET];
        let table = table(&[read_only, route("/Users"), route("/")]);
        let get = |path| find(&table, "localhost", &Method::GET, path);
        for path in ["/Admin", "/ADMIN/x", "/%41dmin", "//ADMIN", "/users"] {
            assert!(matches!(get(path), Err(ProxyError::BadRequest(_))), "{path}");
        }
        assert_eq!(get("/Users/x").unwrap(), "/Users");
        assert_eq!(get("/administration").unwrap(), "/");
        let post = find(&table, "localhost", &Method::POST, "/ADMIN").unwrap();
        assert_eq!(post, "/", "that route takes none of these whatever the case");
    }

    #[test]
    fn a_path_cannot_be_read_as_an_authority_and_another_path() {
        let mut stripped = route("/api");
        stripped.strip_prefix = true;
        let table = table(&[route("/api/admin"), stripped, route("/admin"), route("/")]);
        for path in ["//x/admin", "/\\x/admin", "/api//x/admin", "/api/\\x/admin"] {
            let found = find(&table, "localhost", &Method::GET, path);
            assert!(matches!(found, Err(ProxyError::BadRequest(_))), "{path}: {found:?}");
        }
        assert_eq!(find(&table, "localhost", &Method::GET, "/api/x//y").unwrap(), "/api");
        assert_eq!(find(&table, "localhost", &Method::GET, "//x/y").unwrap(), "/");
    }

    #[test]
    fn a_route_whose_own_path_is_encoded_can_be_found() {
        let table = table(&[route("/caf%C3%A9"), route("/")]);
        let get = |path| find(&table, "localhost", &Method::GET, path);
        assert_eq!(get("/caf%C3%A9/x").unwrap(), "/caf%C3%A9");
        assert!(get("/caf%c3%a9//x").is_err(), "another spelling of it");
    }

    #[test]
    fn a_reload_keeps_what_unchanged_routes_have_counted() {
        let limited = |concurrent| {
            let mut limited = route("/v1");
            limited.limits.concurrent = Some(concurrent);
            limited
        };
        let routes = Routes::new(table(&[limited(2), route("/")]));
        let limits = |routes: &Routes| Arc::as_ptr(routes.load().entries[0].limits.as_ref().unwrap());
        let before = limits(&routes);
        routes.replace(table(&[limited(2)]));
        assert_eq!(limits(&routes), before);
        routes.replace(table(&[limited(3)]));
        assert_ne!(limits(&routes), before);
    }

    #[test]
    fn overrides_stop_where_any_route_has_a_list_of_methods() {
        assert_eq!(table(&[route("/")]).overrides(), Overrides::Pass);
        let mut listed = route("/v1");
        listed.methods = vec![Method::GET];
        assert_eq!(table(&[listed, route("/")]).overrides(), Overrides::Remove);
    }
}
