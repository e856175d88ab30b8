//! A body that is to be a JSON object.

use serde::de::DeserializeOwned;

use crate::oauth::endpoint::body::{Form, without_mark};
use crate::oauth::error::kind::{ErrorKind, ResponseFault, ResponseFlaw};

/// The members of a JSON object, each as it comes.
pub(in crate::oauth) fn members<T: DeserializeOwned>(body: &[u8]) -> Result<T, ErrorKind> {
    let body = without_mark(body);
    // serde would take an array for the members in their order.
    let flaw = match Form::of(body) {
        Form::Empty => ResponseFlaw::Empty,
        Form::Page => ResponseFlaw::Page,
        Form::Json => match serde_json::from_slice(body) {
            Ok(members) => return Ok(members),
            // It is an object, so that what does not fit is a member that is there twice.
            Err(_) => ResponseFlaw::Twice,
        },
        Form::Other if body.trim_ascii_start().starts_with(b"{") => ResponseFlaw::BrokenJson,
        Form::List | Form::Pairs | Form::Other => ResponseFlaw::NotJson,
    };
    Err(ResponseFault::Malformed(flaw).into())
}
