//! Whether a request may pass, before any token is near: its host and target, its route, the guard.

use http::Method;
use http::request::Parts;

use super::guard::Caller;
use super::max_forwards::max_forwards;
use super::route_table::RouteEntry;
use super::worker_routes::LocalTable;
use crate::proxy::downstream::context::Downstream;
use crate::proxy::error::{ApplicationFault, BadRequest, PathFault, ProxyError, RejectedRequest};
use crate::proxy::message::fields::Present;
use crate::proxy::message::path::judge;
use crate::proxy::message::target;

/// What is to be done with a request that may pass.
pub(super) enum Admitted<'t> {
    /// Forward it.
    Route { entry: &'t RouteEntry, caller: Caller },
    /// A browser asks whether an allowed origin may send the request that it has in mind.
    Preflight,
    /// `Max-Forwards` says that it ends here (RFC 9110 section 7.6.2).
    LastHop,
}

/// Judges a request before any token is near; its dot segments are resolved, where it has some.
pub(super) fn admit<'t>(
    downstream: &Downstream,
    table: &'t LocalTable,
    parts: &mut Parts,
    present: Present,
) -> Result<Admitted<'t>, ProxyError> {
    match admit_target(downstream, table, parts, present, DotSegments::AsTheyCame) {
        Err(ProxyError::BadRequest(BadRequest::Path(PathFault::DotSegment))) => {
            target::resolve_dot_segments(parts)?;
            admit_target(downstream, table, parts, present, DotSegments::Resolved)
        }
        admitted => admitted,
    }
}

/// Whether the dot segments of a target that can be resolved are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DotSegments {
    AsTheyCame,
    Resolved,
}

fn admit_target<'t>(
    downstream: &Downstream,
    table: &'t LocalTable,
    parts: &Parts,
    present: Present,
    dots: DotSegments,
) -> Result<Admitted<'t>, ProxyError> {
    let authority = target::authority(parts)?;
    // hyper keeps this limit in HTTP/1.1 alone.
    if parts.headers.len() > downstream.worker.settings().max_headers {
        return Err(ProxyError::Request(ApplicationFault::HeaderTooLarge));
    }
    let guard = table.routes.guard();
    let found = find(table, authority, parts);
    if let Err(ProxyError::BadRequest(BadRequest::Path(PathFault::DotSegment))) = found
        && dots == DotSegments::AsTheyCame
    {
        return Err(PathFault::DotSegment.into());
    }
    let use_credentials = found.as_ref().map_or(true, |entry| entry.uses_credentials());
    let Parts { method, headers, .. } = parts;
    let judged = guard.judge(authority, &downstream.peer, method, headers, present.browser, use_credentials);
    let caller = match judged {
        Err(reason) => {
            downstream.worker.proxy().metrics.rejected(reason);
            let rejected = RejectedRequest::of(reason, headers);
            guard.report(&rejected);
            return Err(ProxyError::Refused(rejected));
        }
        Ok(caller) => caller,
    };
    target::refuse_method(&parts.method)?;
    if caller == Caller::Preflight {
        return Ok(Admitted::Preflight);
    }
    if parts.method == Method::OPTIONS && max_forwards(&parts.headers) == Some(0) {
        return Ok(Admitted::LastHop);
    }
    Ok(Admitted::Route { entry: found?, caller })
}

/// The route that a request takes.
fn find<'t>(table: &'t LocalTable, authority: &str, parts: &Parts) -> Result<&'t RouteEntry, ProxyError> {
    let path = judge(target::path(parts)?)?;
    table.routes.find(authority, &path, &parts.method)
}
