//! What is known of a response that failed, beside the kind of the failure.
//!
//! `report` fills it from the body, `endpoint` where no body was read; `error` holds it, and `refusal` decides what it means.

use std::fmt;

use http::StatusCode;

use crate::oauth::endpoint::body::Form;
use crate::oauth::endpoint::remark::Remark;
use crate::oauth::endpoint::token_type::TypeWord;
use crate::oauth::error::interruption::Interruption;
use crate::oauth::error::kind::Code;
use crate::oauth::error::mention::Mentions;
use crate::oauth::error::place::Place;
use crate::oauth::error::situation::Situation;

/// What an error keeps of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::oauth) struct Details {
    pub(in crate::oauth) situation: Situation,
    pub(in crate::oauth) status: StatusCode,
    pub(in crate::oauth) code: Option<Code>,
    /// The code as the server spells it, where it can be shown.
    pub(in crate::oauth) word: Option<String>,
    pub(in crate::oauth) remark: Option<Remark>,
    pub(in crate::oauth) mentions: Mentions,
    pub(in crate::oauth) form: Form,
    /// The response says that no request is left of those that are allowed in a while.
    pub(in crate::oauth) exhausted: bool,
    /// The HTTP proxy on the way may have responded in the server's place.
    pub(in crate::oauth) unattributed: bool,
    /// The type of the token, as the server spells it.
    pub(in crate::oauth) token_type: Option<TypeWord>,
    /// What else was tried, and what came of it.
    pub(in crate::oauth) tried: Vec<(Place, String)>,
    /// What came of the refresh before this one, where its successor was lost.
    pub(in crate::oauth) interrupted: Option<Interruption>,
}

impl Details {
    /// Of a response that was not read, or not whole.
    pub(in crate::oauth) fn bare(status: StatusCode, situation: Situation) -> Self {
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
    pub(in crate::oauth) fn opening(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.word {
            Some(word) => write!(f, "it responded with {} and the error `{word}`: ", self.status.as_u16()),
            None => write!(f, "it responded with {}: ", self.status.as_u16()),
        }
    }
}
