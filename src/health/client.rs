//! Waiting for readiness from outside: what `cupbearer wait` does.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use tokio::time::{Instant, sleep, timeout_at};

use super::readiness::Readiness;
use crate::clock;
use crate::net::bind;
use crate::net::local_client::{LocalClientError, send};

/// The proxy was not ready in time.
#[derive(Debug, thiserror::Error)]
#[error("not ready: {last}")]
pub(crate) struct NotReady {
    /// What was seen last.
    pub last: LastSeen,
}

/// What the health listener's address last answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LastSeen {
    /// Nothing that is HTTP.
    #[error(transparent)]
    Silent(#[from] LocalClientError),
    /// Something, but not a cupbearer's readiness.
    #[error("what answers on {0} is not cupbearer's health listener")]
    NotCupbearer(SocketAddr),
    /// A cupbearer that is on its way out.
    #[error("it is draining")]
    Draining,
    /// A cupbearer that lacks these tokens.
    #[error("these tokens are missing: {}", .0.missing.join(", "))]
    Missing(Readiness),
    /// No answer at all before the time was over.
    #[error("nothing answered in time on {0}")]
    Nothing(SocketAddr),
}

/// Asks `/readyz` on `address` until it says yes, or until `deadline`.
///
/// # Errors
/// [`NotReady`] with what was seen last.
pub(crate) async fn wait_ready(address: SocketAddr, deadline: Instant) -> Result<(), NotReady> {
    let address = bind::from_here(address);
    let mut last = LastSeen::Nothing(address);
    while clock::now() < deadline {
        match timeout_at(deadline, look(address)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(seen)) => last = seen,
            // What was seen before says more than that the time is over.
            Err(_) => break,
        }
        sleep(PAUSE.min(deadline.saturating_duration_since(clock::now()))).await;
    }
    Err(NotReady { last })
}

async fn look(address: SocketAddr) -> Result<(), LastSeen> {
    let request = Request::get("/readyz").body(Full::default());
    let request = request.map_err(|_| LastSeen::NotCupbearer(address))?;
    let response = send(address, request, ANSWER_TIMEOUT).await?;
    let readiness: Readiness =
        serde_json::from_slice(response.body()).map_err(|_| LastSeen::NotCupbearer(address))?;
    match readiness {
        Readiness { ready: true, .. } => Ok(()),
        Readiness { draining: true, .. } => Err(LastSeen::Draining),
        missing => Err(LastSeen::Missing(missing)),
    }
}

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// For one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http::Response;
    use hyper::body::Incoming;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::super::readiness::TokenReadiness;
    use super::*;
    use crate::net::eviction::Evictions;
    use crate::net::serve::{Limits, short_requests};

    const LIMITS: Limits = Limits {
        connections: 4,
        requests: 4,
        header_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
    };

    /// A listener that gives these answers, the last one again and again.
    async fn answering(answers: &'static [&'static str]) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let mut task = JoinSet::new();
        task.spawn(short_requests(
            listener,
            LIMITS,
            Evictions::logged("test"),
            move |_: Request<Incoming>| {
                let answer = answers[asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
                async move { Response::new(Full::new(Bytes::from_static(answer.as_bytes()))) }
            },
        ));
        (address, task)
    }

    fn soon() -> Instant {
        clock::now() + Duration::from_millis(250)
    }

    const MISSING: &str = r#"{"ready":false,"draining":false,"tokens":[{"name":"api","status":"pending","required":true}],"missing":["api"]}"#;
    const DRAINING: &str = r#"{"ready":false,"draining":true,"tokens":[],"missing":[]}"#;
    const READY: &str = r#"{"ready":true,"draining":false,"tokens":[],"missing":[]}"#;

    #[tokio::test]
    async fn waiting_ends_as_soon_as_the_proxy_is_ready() {
        let (address, _task) = answering(&[MISSING, MISSING, READY]).await;
        let start = clock::now();
        wait_ready(address, start + Duration::from_secs(30)).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn waiting_in_vain_says_what_was_seen_last() {
        let (address, _task) = answering(&[MISSING]).await;
        let missing = wait_ready(address, soon()).await.unwrap_err();
        assert_eq!(missing.to_string(), "not ready: these tokens are missing: api");
        let LastSeen::Missing(seen) = missing.last else { panic!("{missing}") };
        assert_eq!(
            seen.tokens,
            [TokenReadiness { name: "api".into(), status: "pending".into(), required: true }]
        );
        let (address, _task) = answering(&[DRAINING]).await;
        assert!(matches!(wait_ready(address, soon()).await.unwrap_err().last, LastSeen::Draining));
        let (address, _task) = answering(&["hello"]).await;
        assert!(matches!(wait_ready(address, soon()).await.unwrap_err().last, LastSeen::NotCupbearer(_)));
    }

    #[tokio::test]
    async fn waiting_for_nobody_ends_in_time() {
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        assert!(matches!(wait_ready(gone, soon()).await.unwrap_err().last, LastSeen::Silent(_)));
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let start = clock::now();
        let nothing = wait_ready(mute.local_addr().unwrap(), soon()).await.unwrap_err();
        assert!(matches!(nothing.last, LastSeen::Nothing(_)) && start.elapsed() < Duration::from_secs(2));
    }
}
