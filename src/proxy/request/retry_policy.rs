//! What a route does about responses that refuse its token: `on_unauthorized`, `unauthorized_status` and
//! `replay_body_limit` are read here alone.

use http::{Response, StatusCode};
use hyper::body::Body;

use super::grpc;
use crate::proxy::settings::{OnUnauthorized, Route};

/// The policy of one route.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryPolicy<'r>(&'r Route);

/// What follows a response that refuses the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It goes to the application, and the token stays.
    Pass,
    /// It goes to the application, and later requests get a new token.
    Renew,
    /// The request is sent again with a new token.
    Retry,
}

impl<'r> RetryPolicy<'r> {
    pub(super) const fn of(route: &'r Route) -> Self {
        Self(route)
    }

    /// Whether `response` refuses the token: by a status that the route lists, or as gRPC does.
    pub(super) fn is_refusal(self, response: &Response<impl Body>) -> bool {
        self.lists(response.status()) || grpc::is_refusal(response)
    }

    /// Whether the route lists `status`.
    pub(super) fn lists(self, status: StatusCode) -> bool {
        status.is_client_error() && self.0.unauthorized_status.contains(&status)
    }

    /// What follows a refusal.
    pub(super) const fn decide(self) -> Decision {
        match self.0.on_unauthorized {
            OnUnauthorized::Replay => Decision::Retry,
            OnUnauthorized::Renew => Decision::Renew,
            OnUnauthorized::Pass => Decision::Pass,
        }
    }

    /// Bytes of a request's body that are kept for another sending. A request that carries a proof may have to go out again
    /// with the upstream's nonce, whatever the route does about refusals (RFC 9449 section 9).
    pub(super) fn buffer_limit(self, has_proof: bool) -> usize {
        if has_proof || self.decide() == Decision::Retry { self.0.replay_body_limit } else { 0 }
    }

    /// Whether a request with a body of at most `length` bytes can be sent again with a new token; `None`: of unknown length.
    pub(super) fn can_retry(self, length: Option<u64>) -> bool {
        let is_kept = length.is_some_and(|length| length <= self.0.replay_body_limit as u64);
        is_kept && self.decide() == Decision::Retry
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Empty;

    use super::*;

    #[test]
    fn a_route_decides_by_its_own_statuses_and_keeps_what_it_may_send_again() {
        let route = |on_unauthorized| Route {
            on_unauthorized,
            unauthorized_status: vec![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN],
            replay_body_limit: 10,
            ..Route::default()
        };
        let response = |status: u16| {
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        for (on_unauthorized, decision, kept) in [
            (OnUnauthorized::Replay, Decision::Retry, 10),
            (OnUnauthorized::Renew, Decision::Renew, 0),
            (OnUnauthorized::Pass, Decision::Pass, 0),
        ] {
            let route = route(on_unauthorized);
            let policy = RetryPolicy::of(&route);
            assert_eq!((policy.decide(), policy.buffer_limit(false)), (decision, kept));
            assert_eq!(policy.buffer_limit(true), 10, "a nonce may be asked for");
            assert!(policy.is_refusal(&response(401)) && policy.is_refusal(&response(403)));
            assert!(!policy.is_refusal(&response(404)) && !policy.is_refusal(&response(200)));
            assert_eq!(policy.can_retry(Some(10)), decision == Decision::Retry);
            assert!(!policy.can_retry(Some(11)) && !policy.can_retry(None));
        }
    }
}
