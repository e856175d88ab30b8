//! How the end of a login looks: what a refused refresh token means, in whatever words a server says it.
//!
//! RFC 6749 section 5.2 has `invalid_grant` for it. Many servers say it otherwise, and some of what they say is also said
//! of a wrong client. A refusal in JSON that is not clearly the client's is doubtful: `token` asks a few times more.

use http::StatusCode;

use crate::oauth::endpoint::body::Form;
use crate::oauth::endpoint::report::Report;
use crate::oauth::error::kind::{Code, ErrorKind, ResponseFault, ResponseFlaw};
use crate::oauth::error::login_end::LoginEnd;
use crate::oauth::error::mention::{Mention, Mentions};

/// What a failed refresh is: the end of the login where the response says so, a doubtful one where it may be, else what it
/// would be of any other grant.
pub(in crate::oauth) fn judge(status: StatusCode, body: &[u8], kind: ErrorKind) -> ErrorKind {
    // Load and rate pass by themselves, whatever the body says.
    if matches!(status.as_u16(), 408 | 425 | 429 | 500..) || status.is_redirection() {
        return kind;
    }
    let refused = matches!(kind, ErrorKind::Status(_) | ErrorKind::Denied(..));
    let report = Report::read(body);
    let form = Form::of(body);
    let failed = refused
        || report.fails
            && matches!(kind, ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NoAccessToken)));
    if !failed {
        return kind;
    }
    match form {
        Form::Json | Form::List | Form::Pairs => {}
        // Some servers refuse a refresh token so; but so do proxies that did not like a request.
        Form::Empty if status == StatusCode::BAD_REQUEST => return ErrorKind::LoginDoubtful,
        // A registered code is one in a plain text, too.
        Form::Other if report.code().is_some_and(|code| code != Code::Other) => {}
        Form::Empty | Form::Page | Form::Other => return kind,
    }
    let mentions = report.mentions();
    let code = report.code();
    match code {
        Some(
            Code::InvalidGrant
            | Code::LoginRequired
            | Code::InteractionRequired
            | Code::ConsentRequired
            | Code::AccountSelectionRequired
            | Code::ExpiredToken,
        ) => ErrorKind::LoginEnded(LoginEnd::of(code, mentions)),
        Some(
            Code::InvalidClient
            | Code::UnsupportedGrantType
            | Code::InvalidScope
            | Code::InvalidTarget
            | Code::InvalidDpopProof
            | Code::UseDpopNonce
            | Code::SlowDown
            | Code::TemporarilyUnavailable
            | Code::AuthorizationPending,
        ) => kind,
        _ if mentions.has(Mention::Rate) => kind,
        _ if mentions.has(Mention::Ended) && !names_the_request(mentions) => {
            if names_the_clients(mentions) {
                ErrorKind::LoginDoubtful
            } else {
                ErrorKind::LoginEnded(LoginEnd::of(code, mentions))
            }
        }
        // A refresh sends no other token; with 401 it may be the client's assertion.
        _ if mentions.has(Mention::Token)
            && status != StatusCode::UNAUTHORIZED
            && !names_the_clients(mentions) =>
        {
            ErrorKind::LoginEnded(LoginEnd::of(code, mentions))
        }
        None | Some(Code::Other)
            if mentions.has(Mention::Passing)
                && (status.is_success() || status == StatusCode::BAD_REQUEST) =>
        {
            kind
        }
        Some(Code::UnauthorizedClient) => kind,
        _ if is_clearly_the_clients(status, code, mentions) => kind,
        // An address that is not the token endpoint's, or a realm that is away.
        _ if matches!(status.as_u16(), 404 | 405 | 410) => kind,
        _ => ErrorKind::LoginDoubtful,
    }
}

/// Whether the refusal names something that the configuration sets, or is the one of client authentication.
fn is_clearly_the_clients(status: StatusCode, code: Option<Code>, mentions: Mentions) -> bool {
    let unnamed = matches!(code, None | Some(Code::InvalidRequest | Code::AccessDenied));
    let unnamed = unnamed && !mentions.has(Mention::Token);
    names_the_clients(mentions) || status == StatusCode::UNAUTHORIZED && unnamed
}

fn names_the_clients(mentions: Mentions) -> bool {
    let named = [Mention::Client, Mention::Audience, Mention::Resource, Mention::KeyId];
    names_the_request(mentions) || named.into_iter().any(|mention| mentions.has(mention))
}

/// The same of what has nothing to do with the refresh token: another request with it may be accepted.
fn names_the_request(mentions: Mentions) -> bool {
    [Mention::Scope, Mention::Dpop, Mention::Https].into_iter().any(|mention| mentions.has(mention))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::endpoint::response::parse;

    #[derive(Debug, PartialEq)]
    enum Verdict {
        Ended(LoginEnd),
        Doubtful,
        Other,
    }

    fn verdict(status: u16, body: &str) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        let kind = parse(status, body.as_bytes()).unwrap_err();
        match judge(status, body.as_bytes(), kind) {
            ErrorKind::LoginEnded(end) => Verdict::Ended(end),
            ErrorKind::LoginDoubtful => Verdict::Doubtful,
            _ => Verdict::Other,
        }
    }

    #[test]
    fn the_end_of_a_login_is_known_in_whatever_words_it_is_said() {
        use LoginEnd::{Consent, Expired, Interaction, Reused, Unknown, User};
        for (status, body, want) in [
            (400, r#"{"error":"invalid_grant"}"#, Unknown),
            (400, r#"{"error":"INVALID_GRANT"}"#, Unknown),
            // Keycloak 26.
            (400, r#"{"error":"invalid_grant","error_description":"Session not active"}"#, Unknown),
            (400, r#"{"error":"invalid_grant","error_description":"Token is not active"}"#, Expired),
            (400, r#"{"error":"invalid_grant","error_description":"Stale token"}"#, Reused),
            (400, r#"{"error":"invalid_grant","error_description":"User disabled"}"#, User),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"Client no longer has requested consent from user"}"#,
                Consent,
            ),
            // Hydra.
            (
                400,
                r#"{"error":"invalid_grant","error_description":"The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client. The refresh token was already used."}"#,
                Reused,
            ),
            (
                401,
                r#"{"error":"token_inactive","error_description":"Token is inactive because it is malformed, expired or otherwise invalid. Token validation failed."}"#,
                Expired,
            ),
            // GitHub, Slack, Atlassian, Fitbit, UAA, Twitch, Salesforce, Auth0.
            (200, r#"{"error":"bad_refresh_token"}"#, Unknown),
            (200, r#"{"ok":false,"error":"invalid_refresh_token"}"#, Unknown),
            (200, r#"{"error":"invalid_code"}"#, Unknown),
            (200, r#"{"ok":false,"error":"token_expired"}"#, Expired),
            (
                403,
                r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#,
                Unknown,
            ),
            (
                400,
                r#"{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid"}],"success":false}"#,
                Unknown,
            ),
            (
                401,
                r#"{"error":"invalid_token","error_description":"The token expired, was revoked"}"#,
                Expired,
            ),
            (400, r#"{"status":400,"message":"Invalid refresh token"}"#, Unknown),
            (400, r#"{"error":"invalid_grant","error_description":"expired access/refresh token"}"#, Expired),
            (
                403,
                r#"{"error":"mfa_required","error_description":"Multifactor authentication required"}"#,
                Interaction,
            ),
            (400, r#"{"status":"BAD_REFRESH_TOKEN"}"#, Unknown),
            (200, r#"{"status":"BAD_REFRESH_TOKEN"}"#, Unknown),
            (400, r#"{"error":"some_code","error_description":"The session has expired"}"#, Expired),
            // X, HubSpot, AWS Cognito, DocuSign, Strava, TikTok, GitHub as a form, a plain word.
            (
                400,
                r#"{"error":"invalid_request","error_description":"Value passed for the token was invalid."}"#,
                Unknown,
            ),
            (400, r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token"}"#, Unknown),
            (
                400,
                r#"{"__type":"NotAuthorizedException","message":"Refresh Token has been revoked"}"#,
                Unknown,
            ),
            (400, r#"{"error":"refresh_token_expired"}"#, Expired),
            (
                400,
                r#"{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}"#,
                Unknown,
            ),
            (
                200,
                r#"{"data":{"description":"Refresh token expired","error_code":10010},"message":"error"}"#,
                Expired,
            ),
            (200, "error=bad_refresh_token&error_description=The+refresh+token+is+expired.", Expired),
            (400, "invalid_grant", Unknown),
            (403, r#"{"error":"unauthorized_client","error_description":"The token was revoked"}"#, Unknown),
            (400, r#"{"error":"invalid_request","error_description":"grant is no longer active"}"#, Unknown),
            (400, r#"[{"errorCode":"INVALID_SESSION_ID","message":"Session expired or invalid"}]"#, Expired),
            (
                400,
                r#"{"error":{"code":"token_inactive","message":"The refresh token is inactive"}}"#,
                Unknown,
            ),
            (400, r#"{"errcode":40030,"errmsg":"invalid refresh_token"}"#, Unknown),
            (404, r#"{"error":"not_found","error_description":"Refresh token not found"}"#, Unknown),
            (400, r#"{"code":"x7","message":"Refresh token has already been used"}"#, Reused),
        ] {
            assert_eq!(verdict(status, body), Verdict::Ended(want), "{status} {body}");
        }
    }

    #[test]
    fn what_may_be_the_end_of_a_login_is_doubtful() {
        for (status, body) in [
            (400, ""),
            (400, r#"{"error":"invalid_request"}"#),
            (400, "{}"),
            (400, r#"{"message":"Bad Request"}"#),
            (400, r#"{"error":400}"#),
            (401, r#"{"error":"server_error"}"#),
            (403, r#"{"error":"access_denied"}"#),
            (400, r#"{"error":"inactive_user"}"#),
            (200, r#"{"code":20037}"#),
            (401, r#"{"error":"invalid_request","error_description":"Invalid Token!"}"#),
            (200, r#"{"error":"unheard_of"}"#),
            (200, r#"{"status":"error","message":"no"}"#),
            (403, r#"{"message":"Forbidden"}"#),
            (400, r#"{"message":"Refresh token is invalid for this client_id"}"#),
            (400, "error=unheard_of"),
            (403, r#"{"error":"access_denied","error_description":"Realm not enabled"}"#),
        ] {
            assert_eq!(verdict(status, body), Verdict::Doubtful, "{status} {body}");
        }
    }

    #[test]
    fn what_is_the_clients_or_passes_by_itself_is_no_end() {
        for (status, body) in [
            (401, r#"{"error":"invalid_client"}"#),
            (
                401,
                r#"{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}"#,
            ),
            (401, r#"{"error":"access_denied","error_description":"Unauthorized"}"#),
            (401, r#"{"message":"Unauthorized"}"#),
            (401, ""),
            // Google, DingTalk.
            (401, r#"{"error":"deleted_client","error_description":"The OAuth client was deleted."}"#),
            (400, r#"{"code":"invalidClientIdOrSecret","message":"no such application"}"#),
            // Strava.
            (
                401,
                r#"{"message":"Authorization Error","errors":[{"resource":"Application","field":"client_secret","code":"invalid"}]}"#,
            ),
            (400, r#"{"error":"invalid_request","error_description":"scope parameter not supported"}"#),
            (400, r#"{"error":"invalid_request","error_description":"client_id is missing"}"#),
            (
                400,
                r#"{"error":"invalid_dpop_proof","error_description":"The DPoP proof JWT header is missing."}"#,
            ),
            (400, r#"{"error":"invalid_scope"}"#),
            (400, r#"{"error":"unsupported_grant_type"}"#),
            (400, "<html>Bad Request</html>"),
            (403, "<html>"),
            (400, "Bad Request"),
            (404, r#"{"message":"no route matched"}"#),
            (
                400,
                r#"{"error":"invalid_request","error_description":"Invalid scope for this refresh token"}"#,
            ),
            // Keycloak, while a realm is away.
            (404, r#"{"error":"Realm does not exist"}"#),
            (
                400,
                r#"{"error":"Access Denied","error_description":"You have made too many requests continuously."}"#,
            ),
            (
                400,
                r#"{"error":"unauthorized_client","error_description":"Client not allowed to use the refresh token grant"}"#,
            ),
            (
                400,
                r#"{"error":"invalid_request","error_description":"refresh_token is required, client_id is invalid"}"#,
            ),
            (400, "Refresh token expired"),
            (429, r#"{"error":"invalid_grant"}"#),
            (500, r#"{"error":"invalid_grant"}"#),
            (503, r#"{"message":"refresh token invalid"}"#),
            (200, "{}"),
            (200, r#"{"code":0,"msg":"ok"}"#),
            (302, r#"{"error":"invalid_grant"}"#),
        ] {
            assert_eq!(verdict(status, body), Verdict::Other, "{status} {body}");
        }
    }
}
