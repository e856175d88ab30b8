//! What is known of a response that failed, beside the kind of the failure.
//!
//! `report` fills it from the body, `endpoint` where no body was read; `error` holds it, and `refusal` decides what it means.

use std::fmt;

use http::StatusCode;

use super::body::Form;
use super::interruption::Interruption;
use super::kind::Code;
use super::mention::Mentions;
use super::place::Place;
use super::remark::Remark;
use super::situation::Situation;
use super::token_type::TypeWord;

/// What an error keeps of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Details {
    pub(super) situation: Situation,
    pub(super) status: StatusCode,
    pub(super) code: Option<Code>,
    /// The code as the server spells it, where it can be shown.
    pub(super) word: Option<String>,
    pub(super) remark: Option<Remark>,
    pub(super) mentions: Mentions,
    pub(super) form: Form,
    /// The response says that no request is left of those that are allowed in a while.
    pub(super) exhausted: bool,
    /// The HTTP proxy on the way may have responded in the server's place.
    pub(super) unattributed: bool,
    /// The type of the token, as the server spells it.
    pub(super) token_type: Option<TypeWord>,
    /// What else was tried, and what came of it.
    pub(super) tried: Vec<(Place, String)>,
    /// What came of the refresh before this one, where its successor was lost.
    pub(super) interrupted: Option<Interruption>,
}

impl Details {
    /// Of a response that was not read, or not whole.
    pub(super) fn bare(status: StatusCode, situation: Situation) -> Self {
        Self {
            situation,
            status,
            code: None,
            word: None,
            remark: None,
            mentions: Mentions::default(),
            form: Form::Empty,
            exhausted: false,
            unattributed: false,
            token_type: None,
            tried: Vec::new(),
            interrupted: None,
        }
    }

    /// How the server responded, before what that means.
    pub(super) fn opening(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.word {
            Some(word) => write!(f, "it responded with {} and the error `{word}`: ", self.status.as_u16()),
            None => write!(f, "it responded with {}: ", self.status.as_u16()),
        }
    }
}
