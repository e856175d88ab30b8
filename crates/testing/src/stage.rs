//! An origin behind a proxy that holds a good token: where most requests play.

use super::origin::{Origin, Reply};
use super::proxy::{Config, Proxy, token_at, upstream_at};
use super::wire::Message;

/// What the token of a stage looks like on the wire.
pub const CREDENTIALS: &str = "Bearer token-0";

/// All three live as long as the stage.
#[derive(Debug)]
pub struct Stage {
    pub api: Origin,
    pub proxy: Proxy,
    /// The authorization server.
    pub server: Origin,
}

impl Stage {
    /// One route for everything to an origin that says 200.
    pub async fn plain() -> Self {
        Self::answering(|_, _| Reply::ok()).await
    }

    /// The same, with an origin that answers as the test says.
    pub async fn answering(answer: impl Fn(&Message, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(Origin::start(answer).await, "", "").await
    }

    /// An origin of the test's own, with more lines for the upstream's section, and more at the file's end (where
    /// the route's section is open).
    pub async fn with(api: Origin, upstream: &str, end: &str) -> Self {
        let server = Origin::issuing(300).await;
        let section = upstream_at(&api.url()) + upstream;
        let config = Config::one_route(&section, &token_at(&server.url())).and(end);
        let proxy = Proxy::start(config).await;
        Self { api, proxy, server }
    }

    /// The same, with routes of the test's own instead of the one for everything.
    pub async fn routed(base: &str, routes: &str) -> Self {
        let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
        let config = upstream_at(&(api.url() + base)) + &token_at(&server.url()) + routes;
        let proxy = Proxy::start(Config::new(config)).await;
        Self { api, proxy, server }
    }
}
