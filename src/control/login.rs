//! A login as the control surface shows it, as JSON: what a person is to do, or how it ended. It holds no code that
//! counts: who has the authorization URL or the user code can log in, and gets nothing by it.

use serde::{Deserialize, Serialize};

use super::view::unix;
use crate::clock::BootInstant;
use crate::login::{Progress, Stage, Step};

/// A login that is under way, or how the last one ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    /// Tells one login of a token from the next.
    #[serde(default)]
    pub id: u64,
    /// `authorization_code` or `device_code`.
    pub flow: String,
    /// `waiting`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// Where the browser on this machine is to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_url: Option<String>,
    /// Where it comes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
    /// What to type on the other device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_code: Option<String>,
    /// Where to type it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_uri: Option<String>,
    /// The same with the code in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_uri_complete: Option<String>,
    /// How long a person still has, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    /// Who logged in, where the server says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What to know of a login that ended well: that it does not last, and what helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Whether a login that failed is kept all the same: no usable access token came with it, and it is refreshed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// Why it failed: one word of a closed set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Why it failed: a sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The body of `POST /tokens/{name}/login`; an empty one: as the token's grant has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    /// `authorization_code` or `device_code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// What the dashboard calls the browser that it is open in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
}

/// The body of `POST /tokens/{name}/login/callback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginCallback {
    /// The address that the browser ended at.
    pub url: String,
}

impl Login {
    /// How a login stands at `now`.
    #[must_use]
    pub(crate) fn of(progress: &Progress, now: BootInstant) -> Self {
        let shown = Self {
            id: progress.id,
            flow: progress.flow.as_str().to_owned(),
            ended_at: progress.ended.map(unix),
            ..Self::default()
        };
        match &progress.stage {
            Stage::Waiting(step) => {
                let left = progress.left(now).as_secs();
                shown.waiting(step, left)
            }
            Stage::Done { user, advice } => Self {
                state: DONE.to_owned(),
                user: user.as_ref().map(ToString::to_string),
                advice: advice.clone(),
                ..shown
            },
            Stage::Failed { kept, cause, message } => Self {
                state: FAILED.to_owned(),
                kept: *kept,
                cause: Some((*cause).to_owned()),
                message: Some(message.clone()),
                ..shown
            },
            Stage::Cancelled => Self { state: CANCELLED.to_owned(), ..shown },
        }
    }

    fn waiting(self, step: &Step, left: u64) -> Self {
        let shown = Self { state: WAITING.to_owned(), expires_in_seconds: Some(left), ..self };
        match step {
            Step::Browser { url, redirect_uri } => Self {
                authorization_url: Some(url.to_string()),
                redirect_uri: Some(redirect_uri.clone()),
                ..shown
            },
            Step::Device { user_code, verification_uri, verification_uri_complete } => Self {
                user_code: Some(user_code.clone()),
                verification_uri: Some(verification_uri.to_string()),
                verification_uri_complete: verification_uri_complete.as_ref().map(ToString::to_string),
                ..shown
            },
        }
    }

    /// Whether the browser ends at an address that is not this program's, for a person to bring by hand.
    #[must_use]
    pub(crate) fn is_by_hand(&self) -> bool {
        self.redirect_uri.as_deref().is_some_and(|uri| !uri.starts_with("http:"))
    }

    /// Whether the address that a person is to bring begins with the redirect URI: else no browser opens that.
    #[must_use]
    pub(crate) fn ends_at_redirect_uri(&self) -> bool {
        self.redirect_uri.as_deref().is_some_and(|uri| uri.starts_with("http:") || uri.starts_with("https:"))
    }

    /// Whether a person is still to do something.
    #[must_use]
    pub(crate) fn is_waiting(&self) -> bool {
        self.state == WAITING
    }

    /// Whether it ended well.
    #[must_use]
    pub(crate) fn is_done(&self) -> bool {
        self.state == DONE
    }
}

const WAITING: &str = "waiting";
const DONE: &str = "done";
const FAILED: &str = "failed";
const CANCELLED: &str = "cancelled";
