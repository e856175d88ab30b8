//! What a route does after a 401.

use super::route::NO_TOKEN;
use crate::config::file::{self, Bytes, Route};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::proxy::OnUnauthorized;

/// What follows a 401, and how many bytes of a body are kept for it.
pub(super) fn resolve(path: &KeyPath, route: &Route, review: &mut Review<'_>) -> (OnUnauthorized, usize) {
    let (word, size) = (path.key("on_unauthorized"), path.key("replay_body_limit"));
    let Bytes(limit) = route.replay_body_limit;
    if limit > MAX_REPLAY_BYTES {
        let what = format!("must be at most {}, not {}", Bytes(MAX_REPLAY_BYTES), route.replay_body_limit);
        review.error(&size, what, "set it to \"256KiB\": each request under way may keep as much");
    }
    let tokenless = route.token.as_deref() == Some(NO_TOKEN);
    if tokenless && review.is_given(&word) && route.on_unauthorized != file::OnUnauthorized::Pass {
        let what = "has no meaning with token = \"none\": there is no token to renew";
        review.error(&word, what, "take it out, or name a token");
    }
    let replays = !tokenless && route.on_unauthorized == file::OnUnauthorized::Replay;
    if !replays && review.is_given(&size) && !review.is_spoken_for(&word) {
        let what = "has no meaning where no request is sent again";
        review.error(&size, what, "take it out, or set a token and `on_unauthorized` to \"replay\"");
    }
    let follows = match route.on_unauthorized {
        file::OnUnauthorized::Replay => OnUnauthorized::Replay,
        file::OnUnauthorized::Renew => OnUnauthorized::Renew,
        file::OnUnauthorized::Pass => OnUnauthorized::Pass,
    };
    (follows, limit)
}

/// It is kept for each request under way.
const MAX_REPLAY_BYTES: usize = 16 << 20;
