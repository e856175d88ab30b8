//! What a `jwt_bearer` grant spends: an assertion, signed anew for each attempt.

use std::time::SystemTime;

use crate::oauth::{Bearer, Error, Grant};
use crate::token::settings::{BearerAssertion, ServerOrigin};

/// The grant, with its key read now. `now` is the server's clock, as far as it is known.
pub(super) async fn grant(
    assertion: &BearerAssertion,
    origin: &ServerOrigin,
    now: SystemTime,
) -> Result<Grant, Error> {
    let bearer = Bearer {
        key: &assertion.key,
        issuer: assertion.issuer.as_deref(),
        subject: assertion.subject.as_deref(),
        audience: assertion.audience.as_deref(),
        client_id: &origin.client.id,
        server: &origin.server.location,
        scope: &origin.request.scope,
    };
    Ok(Grant::JwtBearer(bearer.sign(now).await?))
}
