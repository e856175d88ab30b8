//! `POST /reload`: the program reads its configuration again, and the response is the verdict.
//!
//! `app` does it, between two other things, and reports how it went; requests wait for it in their order.

use http::StatusCode;
use tokio::sync::{mpsc, oneshot};

use super::logins::Outcome;
use super::problem::Problem;
use super::server::json;
use super::status::Reloaded;

/// How a reload went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReloadVerdict {
    /// The configuration is in force; what the user should know about it, a sentence each.
    Applied(Vec<String>),
    /// Nothing has changed, for these reasons.
    Refused(Vec<String>),
}

/// A request for a reload: `app` takes it and reports the verdict.
#[derive(Debug)]
pub(crate) struct ReloadRequest(oneshot::Sender<ReloadVerdict>);

impl ReloadRequest {
    /// Reports how it went. A client that has gone misses it.
    pub(crate) fn report(self, verdict: ReloadVerdict) {
        let _ = self.0.send(verdict);
    }
}

/// The way of requests to `app`.
#[must_use]
pub(crate) fn reload_requests() -> (mpsc::Sender<ReloadRequest>, mpsc::Receiver<ReloadRequest>) {
    mpsc::channel(MOST_WAITING)
}

/// Asks `app` for a reload and waits for the verdict; the server bounds the wait.
pub(super) async fn reload(app: &mpsc::Sender<ReloadRequest>) -> Outcome {
    let (report, verdict) = oneshot::channel();
    if let Err(error) = app.try_send(ReloadRequest(report)) {
        let detail = match error {
            mpsc::error::TrySendError::Full(_) => "Too many reloads are under way.",
            mpsc::error::TrySendError::Closed(_) => ENDS,
        };
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Not reloaded", detail));
    }
    match verdict.await {
        Ok(ReloadVerdict::Applied(warnings)) => Ok(json(&Reloaded { warnings })),
        Ok(ReloadVerdict::Refused(problems)) => {
            let detail = format!("the configuration of before stays in force\n{}", problems.join("\n"));
            Err(Problem::new(StatusCode::CONFLICT, "Configuration refused", detail))
        }
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Not reloaded", ENDS)),
    }
}

/// Requests for a reload that wait at a time.
const MOST_WAITING: usize = 8;
const ENDS: &str = "The program ends.";

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    async fn reload_with(verdict: Option<ReloadVerdict>) -> Result<Response<()>, Problem> {
        let (sender, mut requests) = reload_requests();
        let app = async {
            let request = requests.recv().await.unwrap();
            match verdict {
                Some(verdict) => request.report(verdict),
                None => drop(request),
            }
        };
        let (outcome, ()) = tokio::join!(reload(&sender), app);
        outcome.map(|response| response.map(|_| ()))
    }

    #[tokio::test]
    async fn a_reload_is_answered_with_its_verdict() {
        let applied = reload_with(Some(ReloadVerdict::Applied(vec!["a warning".to_owned()]))).await;
        assert_eq!(applied.unwrap().status(), 200);
        let refused = ReloadVerdict::Refused(vec!["one".to_owned(), "two".to_owned()]);
        let refused = reload_with(Some(refused)).await.unwrap_err();
        assert_eq!((refused.status, refused.title.as_str()), (409, "Configuration refused"));
        assert!(refused.detail.ends_with("stays in force\none\ntwo"), "{}", refused.detail);
        assert_eq!(reload_with(None).await.unwrap_err().status, 503);
    }

    #[tokio::test]
    async fn a_program_that_ends_or_is_busy_refuses_a_reload_at_once() {
        let (sender, requests) = reload_requests();
        for _ in 0..MOST_WAITING {
            sender.try_send(ReloadRequest(oneshot::channel().0)).unwrap();
        }
        assert!(reload(&sender).await.unwrap_err().detail.contains("Too many"));
        drop(requests);
        assert_eq!(reload(&sender).await.unwrap_err().detail, ENDS);
    }
}
