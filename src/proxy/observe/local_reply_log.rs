//! What the log says of the proxy's own responses: a line at the first of a burst, and their number at its end.
//!
//! Load tools show a bare 429 or 503, so the log names the route, the key that bound the request, its value and a way out.
//! What another line reports already is left out here: an upstream that fails (`Upstream::found`, `Upstream::went`), a token
//! that is not usable, a request that the guard refused, an application that has gone.

use crate::proxy::error::{ApplicationFault, KINDS, LimitFault, ProxyError, TokenFault, UpstreamFault};
use crate::proxy::settings::{Rate, Route, ServerSettings};
use crate::telemetry::burst::Bursts;

/// The bursts of one route, over all workers.
#[derive(Debug)]
pub(crate) struct LocalReplyLog {
    route: String,
    bursts: Bursts<{ KINDS.len() }>,
}

/// What made the proxy respond by itself.
#[derive(Debug, Default)]
pub(crate) struct LimitReached {
    /// The key of the configuration that set the bound.
    pub(crate) key: Option<&'static str>,
    /// Its value.
    pub(crate) value: Option<String>,
    /// A way out.
    pub(crate) help: Option<&'static str>,
}

impl LocalReplyLog {
    pub(crate) fn new(route: &str) -> Self {
        Self { route: route.to_owned(), bursts: Bursts::default() }
    }

    /// The proxy responds with `error`; `bound` is called where that gets a line.
    pub(crate) fn responded(&self, error: &ProxyError, bound: impl FnOnce() -> LimitReached) {
        if is_reported_elsewhere(error) {
            return;
        }
        let Some(burst) = KINDS.iter().position(|known| *known == error.kind()) else { return };
        if !self.bursts.begins(burst) {
            return;
        }
        let (route, kind, status) = (&self.route, error.kind(), error.status());
        let LimitReached { key, value, help } = bound();
        if status.is_server_error() || key.is_some() {
            tracing::warn!(
                route, kind, status = status.as_u16(), key, value, reason = %error, help,
                "the proxy responded to a request itself; the number of such requests follows where there are more"
            );
        } else {
            tracing::info!(
                route, kind, status = status.as_u16(), reason = %error, help,
                "the proxy responded to a request itself; the number of such requests follows where there are more"
            );
        }
    }

    /// Logs the bursts that have ended. Each worker calls this a few times a second.
    pub(crate) fn look_around(&self) {
        self.bursts.ended(|burst, count| self.log_end(burst, count));
    }

    /// Logs those that have not ended: the route is gone, by a reload or the program's end.
    pub(crate) fn finish(&self) {
        self.bursts.finish(|burst, count| self.log_end(burst, count));
    }

    fn log_end(&self, burst: usize, count: u64) {
        let kind = KINDS.get(burst);
        tracing::info!(route = self.route, kind, count, "the proxy responded to requests itself");
    }
}

impl Drop for LocalReplyLog {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Whether another line in the log reports what is behind `error`, or there is nothing to report.
const fn is_reported_elsewhere(error: &ProxyError) -> bool {
    match error {
        ProxyError::Token(TokenFault::Unavailable(_))
        | ProxyError::Refused(_)
        | ProxyError::Request(ApplicationFault::Gone) => true,
        ProxyError::Upstream(fault) => !matches!(
            fault,
            UpstreamFault::NotProcessed | UpstreamFault::HeadLimit { .. } | UpstreamFault::WebSocket(_)
        ),
        _ => false,
    }
}

/// Which key of the configuration bound a request, its value, and a way out; `route` is the one that it took.
pub(crate) fn bound_of(error: &ProxyError, server: &ServerSettings, route: Option<&Route>) -> LimitReached {
    use ProxyError as E;
    let limits = route.map(|route| &route.limits);
    let (key, value) = match error {
        E::Limit(LimitFault::Rate { .. }) => {
            (Some("rate_limit"), limits.and_then(|limits| limits.rate.as_ref()).map(rate_text))
        }
        E::Limit(LimitFault::Concurrency) => (
            Some("max_concurrent"),
            limits.and_then(|limits| limits.concurrent).map(|concurrent| concurrent.to_string()),
        ),
        E::Limit(LimitFault::Connections(full)) => (Some(full.key()), Some(full.most().to_string())),
        E::Limit(LimitFault::Memory) => {
            (Some("memory_limit"), Some(server.memory_limit.budget().to_string()))
        }
        E::Request(ApplicationFault::HeaderTooLarge) => (
            Some("max_header_size"),
            Some(format!("{} bytes; max_headers {}", server.max_header_size, server.max_headers)),
        ),
        E::Request(ApplicationFault::HeadTimeout) => {
            (Some("header_timeout"), Some(format!("{:?}", server.header_timeout)))
        }
        E::StreamTooOld => (
            Some("max_stream_age"),
            route.and_then(|route| route.max_stream_age).map(|age| format!("{age:?}")),
        ),
        E::Request(ApplicationFault::BodyTimeout) => (Some("idle_timeout"), None),
        E::AuthorizationRefused => (Some("own_authorization"), Some("refuse".to_owned())),
        _ => (None, None),
    };
    LimitReached { key, value, help: help(error) }
}

fn rate_text(rate: &Rate) -> String {
    let Rate { requests, per, burst } = rate;
    // As the configuration has it.
    let unit = match per.as_secs() {
        60 => "m",
        3600 => "h",
        _ => "s",
    };
    format!("{requests}/{unit}; rate_burst {burst}")
}

const fn help(error: &ProxyError) -> Option<&'static str> {
    use ProxyError as E;
    Some(match error {
        E::Limit(LimitFault::Rate { .. }) => {
            "send fewer requests, or raise rate_limit; max_queue and queue_timeout let some wait instead"
        }
        E::Limit(LimitFault::Concurrency) => {
            "have fewer requests under way, or raise max_concurrent; max_queue and queue_timeout let some wait instead"
        }
        E::Limit(LimitFault::Memory) => "have fewer requests under way, or raise memory_limit",
        E::Limit(LimitFault::Lacking(lack)) => lack.help(),
        E::Limit(LimitFault::Connections(full)) => full.help(),
        E::Request(ApplicationFault::HeaderTooLarge) => {
            "send fewer or shorter header fields, or raise max_header_size or max_headers"
        }
        E::Request(ApplicationFault::HeadTimeout) => {
            "send the head of each request at once, or raise header_timeout"
        }
        E::Request(ApplicationFault::BodyTimeout) => {
            "send the body without pauses, or raise idle_timeout of the upstream"
        }
        E::StreamTooOld => "raise max_stream_age of the route",
        E::AuthorizationRefused => {
            "send no Authorization, or set own_authorization of the route to replace or keep"
        }
        E::Request(ApplicationFault::Loop) => "have the upstream's url point to the API, not to this proxy",
        E::NoRoute => "add a route for this host and path",
        E::MethodNotAllowed { .. } => "add the method to the route's methods",
        E::Token(TokenFault::SubjectRequired) => {
            "have the application send its own token, as this route acts for its caller"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio::time::advance;
    use tracing::subscriber::with_default;

    use super::*;
    use crate::telemetry::burst::QUIET;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// What `work` logs.
        fn of(work: impl FnOnce()) -> Vec<String> {
            let lines = Self::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_writer(move || writer.clone())
                .with_ansi(false)
                .without_time()
                .finish();
            with_default(subscriber, work);
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    const LIMITED: ProxyError = ProxyError::Limit(LimitFault::Rate { retry_after: Duration::from_secs(1) });

    fn bound() -> LimitReached {
        LimitReached { key: Some("rate_limit"), value: Some("10/s".into()), help: Some("raise it") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_gets_two_lines_whatever_its_length() {
        let log = LocalReplyLog::new("/orders");
        let first = Lines::of(|| {
            for _ in 0..100_000 {
                log.responded(&LIMITED, bound);
                log.look_around();
            }
        });
        assert_eq!(first.len(), 1, "{first:?}");
        for part in [
            "WARN",
            "route=\"/orders\"",
            "key=\"rate_limit\"",
            "value=\"10/s\"",
            "status=429",
            "help=\"raise it\"",
        ] {
            assert!(first[0].contains(part), "{part}: {first:?}");
        }
        advance(QUIET).await;
        let end = Lines::of(|| {
            log.look_around();
            log.look_around();
        });
        assert_eq!(end.len(), 1, "{end:?}");
        assert!(end[0].contains("count=100000") && end[0].contains("kind=\"rate_limited\""), "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn short_bursts_in_a_row_get_at_most_two_lines_a_minute_and_none_is_lost() {
        let log = LocalReplyLog::new("/");
        let mut all = Vec::new();
        for _ in 0..20 {
            all.extend(Lines::of(|| log.responded(&LIMITED, bound)));
            advance(QUIET + Duration::from_secs(1)).await;
            all.extend(Lines::of(|| log.look_around()));
        }
        all.extend(Lines::of(|| drop(log)));
        assert!(all.len() <= 6, "two minutes: {all:?}");
        let count = |line: &String| line.split("count=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
        let warned = all.iter().filter(|line| line.contains("WARN")).count() as u64;
        let counted: u64 = all.iter().filter_map(count).sum();
        assert!(counted + warned >= 20, "{all:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_response_alone_gets_one_line_and_what_others_report_none() {
        let log = LocalReplyLog::new("/");
        let lines = Lines::of(|| {
            log.responded(&ProxyError::NoRoute, LimitReached::default);
            log.responded(&ProxyError::Upstream(UpstreamFault::ResponseTimeout), LimitReached::default);
            log.responded(&ProxyError::Request(ApplicationFault::Gone), LimitReached::default);
        });
        assert!(lines.len() == 1 && lines[0].contains("INFO") && lines[0].contains("no_route"), "{lines:?}");
        assert!(Lines::of(|| drop(log)).is_empty());
    }
}
