//! What a route does when the API refuses the token.

use http::StatusCode;

use super::route::NO_TOKEN;
use crate::config::file::{Bytes, Route};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::proxy::OnUnauthorized;

/// What follows a refusal.
pub(super) struct Recovery {
    pub(super) on_unauthorized: OnUnauthorized,
    /// The statuses that are one.
    pub(super) unauthorized_status: Vec<StatusCode>,
    /// How many bytes of a body are kept for it.
    pub(super) replay_body_limit: usize,
}

pub(super) fn resolve(path: &KeyPath, route: &Route, review: &mut Review<'_>) -> Recovery {
    let (word, size) = (path.key("on_unauthorized"), path.key("replay_body_limit"));
    let Bytes(limit) = route.replay_body_limit;
    if limit > MAX_REPLAY_BYTES {
        let what = format!("must be at most {}, not {}", Bytes(MAX_REPLAY_BYTES), route.replay_body_limit);
        review.error(&size, what, "set it to \"256KiB\": each request under way may keep as much");
    }
    let tokenless = route.token.as_deref() == Some(NO_TOKEN);
    if tokenless && review.is_given(&word) && route.on_unauthorized != OnUnauthorized::Pass {
        let what = "has no meaning with token = \"none\": there is no token to renew";
        review.error(&word, what, "take it out, or name a token");
    }
    let replays = !tokenless && route.on_unauthorized == OnUnauthorized::Replay;
    if !replays && review.is_given(&size) && !review.is_spoken_for(&word) {
        let what = "has no meaning where no request is sent again";
        review.error(&size, what, "take it out, or set a token and `on_unauthorized` to \"replay\"");
    }
    let listed = path.key("unauthorized_status");
    if review.is_given(&listed) && !review.is_spoken_for(&listed) {
        if tokenless {
            let what = "has no meaning with token = \"none\": there is no token to renew";
            review.error(&listed, what, "take it out, or name a token");
        } else if route.on_unauthorized == OnUnauthorized::Pass {
            let what = "has no meaning with `on_unauthorized` = \"pass\", which renews no token";
            review.error(&listed, what, "take one of them out");
        } else if route.unauthorized_status.is_empty() {
            let help = "set `on_unauthorized` to \"pass\" where no status is to renew the token";
            review.error(&listed, "is empty", help);
        }
    }
    let elements = review.elements(&listed).into_iter().zip(&route.unauthorized_status);
    let unauthorized_status = elements.filter_map(|(path, number)| status(&path, *number, review)).collect();
    let on_unauthorized = route.on_unauthorized;
    Recovery { on_unauthorized, unauthorized_status, replay_body_limit: limit }
}

fn status(path: &KeyPath, number: u16, review: &mut Review<'_>) -> Option<StatusCode> {
    let status = StatusCode::from_u16(number).ok().filter(StatusCode::is_client_error);
    if status.is_none() {
        let what = format!("must be a status from 400 to 499, not {number}");
        review.error(path, what, "list the statuses by which this API refuses a token, such as 401 and 498");
    }
    status
}

/// It is kept for each request under way.
const MAX_REPLAY_BYTES: usize = 16 << 20;
