//! Waiting for readiness from outside: what `cupbearer wait` does.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use tokio::time::{Instant, sleep, timeout_at};

use super::readiness::Readiness;
use crate::clock;
use crate::net::ask::{AskError, ask};

/// The proxy was not ready in time.
#[derive(Debug, thiserror::Error)]
#[error("not ready: {last}")]
pub struct NotReady {
    /// What was seen last.
    pub last: LastSeen,
}

/// What the health listener's address last answered.
#[derive(Debug, thiserror::Error)]
pub enum LastSeen {
    /// Nothing that is HTTP.
    #[error(transparent)]
    Silent(#[from] AskError),
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
pub async fn wait_ready(address: SocketAddr, deadline: Instant) -> Result<(), NotReady> {
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
    let response = ask(address, request, ANSWER_TIMEOUT).await?;
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
