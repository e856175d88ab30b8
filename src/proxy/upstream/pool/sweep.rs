//! The worker's regular look at a pool: which connections are closed that no request uses.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::Pool;
use crate::net::resolver;
use crate::proxy::memory;
use crate::proxy::observe::upstream_metrics::Closed;

impl Pool {
    /// Closes what has been idle for too long, is too old, or leads to an address that the upstream no longer has; requests
    /// under way go on. Has the name looked up again now and then. The worker calls this regularly.
    pub(crate) fn sweep(&self, now: Instant) {
        self.now.set(now);
        self.count_reused();
        if self.active.take() || !self.idle.borrow().is_empty() || !self.shared.borrow().is_empty() {
            self.refresh_addresses();
        }
        self.line.borrow_mut().retain(|waiting| !waiting.is_closed());
        self.make_room();
        let short = memory::is_short();
        let most = self.upstream.settings.idle_connection_timeout;
        // Why one is closed that has been idle for so long.
        let overdue = |idle: Duration| match () {
            () if short && idle >= SHORT_IDLE_TIME => Some(Closed::Room),
            () if idle >= most => Some(Closed::Idle),
            () => None,
        };
        self.idle.borrow_mut().retain_mut(|kept| {
            let idle = now.saturating_duration_since(kept.since);
            if idle >= SHORT_IDLE_TIME {
                kept.wire.shrink();
            }
            let why = if kept.wire.is_free() {
                overdue(idle).or_else(|| self.end_of(kept.wire.link().info()))
            } else {
                Some(Closed::Upstream)
            };
            why.is_none_or(|why| {
                kept.wire.link().ends(why);
                false
            })
        });
        self.shared.borrow_mut().retain_mut(|kept| {
            if Rc::strong_count(&kept.streams) > 1 {
                kept.used = now;
            }
            let idle = now.saturating_duration_since(kept.used);
            let why = if kept.sender.is_closed() {
                Some(Closed::Upstream)
            } else {
                overdue(idle).or_else(|| self.end_of(&kept.info))
            };
            why.is_none_or(|why| {
                kept.end.is(why);
                false
            })
        });
    }

    fn refresh_addresses(&self) {
        let host = self.upstream.looked_up();
        *self.addresses.borrow_mut() = host.and_then(|host| resolver::REQUESTS.refresh(host));
    }
}

/// How long an idle connection keeps its buffers; and how long one is kept at all where memory is short.
const SHORT_IDLE_TIME: Duration = Duration::from_secs(1);
