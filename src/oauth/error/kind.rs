//! What can go wrong with a token request, each with the sentence that an operator reads.
//!
//! Closed sets, all of them: of what a server wrote, a status, a registered error code and the word for a token type get in
//! here. What else it says of a refusal stands beside the kind, in an error's details. `error` says what follows from each.

use std::borrow::Cow;

use http::StatusCode;

use crate::oauth::error::login_end::LoginEnd;
use crate::oauth::error::refusal::{Meaning, Sentence};

mod authorization_fault;
mod code;
mod found;
mod request_fault;
mod response_fault;
#[cfg(test)]
mod tests;
mod transport_fault;

pub(crate) use authorization_fault::{AuthorizationFault, CallbackFault, IdTokenFault};
pub(crate) use code::Code;
pub(crate) use found::FoundIssuer;
pub(crate) use request_fault::{CertificateFault, GoogleFault, Held, RequestFault};
pub(crate) use response_fault::{ResponseFault, ResponseFlaw};
pub(crate) use transport_fault::{TransportFault, TransportPhase};

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ErrorKind {
    /// No request was made.
    #[error(transparent)]
    Request(#[from] RequestFault),
    /// The server was not reached, or its response did not arrive.
    #[error(transparent)]
    Transport(#[from] TransportFault),
    /// The response is neither a token nor a refusal.
    #[error(transparent)]
    Response(#[from] ResponseFault),
    /// A login did not come about.
    #[error(transparent)]
    Authorization(#[from] AuthorizationFault),
    #[error("{}", Sentence { status: *.0, code: None, details: None })]
    Status(StatusCode),
    #[error("{}", Sentence { status: *.0, code: Some(*.1), details: None })]
    Denied(StatusCode, Code),
    #[error(
        "the password was sent twice and brought no token, so it is not sent again: a protection against guessing locks the account"
    )]
    Withheld {
        /// With what the server refused it last; `None`: this process did not see it.
        last: Option<Box<Self>>,
        /// Whether it was sent just now.
        sent: bool,
    },
    #[error("the request is refused, or the login has ended: cupbearer login")]
    LoginDoubtful,
    #[error("the login has ended: {}; {}", .0.reason(), .0.help())]
    LoginEnded(LoginEnd),
}

impl ErrorKind {
    /// Why, as an application may know it: one sentence for each kind, which names the party at fault and neither a place, a
    /// name nor a word of a server's beyond status and registered code. Printable ASCII without a percent sign, as
    /// `grpc-message` needs it.
    pub(in crate::oauth) fn public_reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Request(fault) => return fault.public_reason(),
            Self::Transport(fault) => return fault.public_reason(),
            Self::Response(fault) => fault.public_reason(),
            Self::Authorization(fault) => return fault.public_reason(),
            Self::Status(status) => {
                return format!("the authorization server responds with the status {}", status.as_u16())
                    .into();
            }
            Self::Denied(status, code) => {
                let meaning = Meaning::of(*status, Some(*code), None);
                return format!("{} ({})", meaning.public_reason(), code.as_str()).into();
            }
            Self::Withheld { .. } => {
                "the authorization server gave no token for the password twice, and it is not sent again"
            }
            Self::LoginDoubtful => {
                "the authorization server refuses to refresh it, and it may be that the login has ended"
            }
            Self::LoginEnded(end) => end.public_reason(),
        })
    }
}
