//! The answer to a device authorization request (RFC 8628 section 3.2): what a person types on another device, and what
//! this program asks with in the meantime.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::secret::Secret;

use crate::oauth::endpoint::json_body::members;
use crate::oauth::endpoint::number::seconds;
use crate::oauth::endpoint::report::Report;
use crate::oauth::endpoint::response::accepted;
use crate::oauth::endpoint::transport::Answer;
use crate::oauth::error::kind::{Code, ErrorKind, ResponseFault, ResponseFlaw};
use crate::oauth::error::mention::Mention;

/// A login that has begun and goes on on another device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceAuthorization {
    /// What the token is asked for with.
    pub device_code: Secret<String>,
    /// What the person types: visible ASCII.
    pub user_code: String,
    /// Where: `http` or `https`.
    pub verification_uri: Url,
    /// The same with the code in it, where the server gives one.
    pub verification_uri_complete: Option<Url>,
    /// How long the code is good.
    pub expires_in: Duration,
    /// How long to wait between two questions at least. Default 5 s.
    pub interval: Duration,
}

impl DeviceAuthorization {
    pub(in crate::oauth) fn read(answer: &Answer) -> Result<Self, ErrorKind> {
        #[derive(Deserialize)]
        struct Members {
            device_code: Option<String>,
            user_code: Option<String>,
            verification_uri: Option<String>,
            /// What servers older than the RFC call it.
            verification_url: Option<String>,
            verification_uri_complete: Option<String>,
            expires_in: Option<Value>,
            interval: Option<Value>,
        }
        accepted(answer.status, &answer.body)?;
        let members: Members = members(&answer.body)?;
        let lacks = |member| ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Device(member)));
        let visible =
            |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        let short = |text: &String| visible(text) && text.len() <= MAX_USER_CODE;
        let uri = members.verification_uri.or(members.verification_url);
        Ok(Self {
            device_code: Secret::new(members.device_code.filter(visible).ok_or(lacks("device_code"))?),
            user_code: members.user_code.filter(short).ok_or(lacks("user_code"))?,
            verification_uri: uri.as_deref().and_then(page).ok_or(lacks("verification_uri"))?,
            verification_uri_complete: members.verification_uri_complete.as_deref().and_then(page),
            expires_in: members.expires_in.as_ref().and_then(seconds).ok_or(lacks("expires_in"))?,
            interval: members
                .interval
                .as_ref()
                .and_then(seconds)
                .map_or(INTERVAL, |given| given.clamp(Duration::from_secs(1), MAX_INTERVAL)),
        })
    }
}

/// What a failed question for the token is (RFC 8628 section 3.5), where the words say what the code does not.
pub(in crate::oauth) fn judge(report: &Report, kind: ErrorKind) -> ErrorKind {
    let status = match kind {
        ErrorKind::Status(status) | ErrorKind::Denied(status, Code::Other | Code::InvalidRequest)
            if status.is_client_error() || status.is_success() =>
        {
            status
        }
        kind => return kind,
    };
    let mentions = report.mentions();
    let meanings = [
        (Mention::Pending, Code::AuthorizationPending),
        (Mention::Rate, Code::SlowDown),
        (Mention::DeviceCode, Code::ExpiredToken),
    ];
    let found = meanings.into_iter().find(|(mention, _)| mentions.has(*mention));
    found.map_or(kind, |(_, code)| ErrorKind::Denied(status, code))
}

/// A page for people: nothing but http leads to one.
fn page(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// Where the server names none (RFC 8628 section 3.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// A server that asks for more would never be asked.
const MAX_INTERVAL: Duration = Duration::from_mins(5);
/// People type it.
const MAX_USER_CODE: usize = 64;

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use zeroize::Zeroizing;

    use super::*;
    use crate::oauth::endpoint::remark::Carried;
    use crate::oauth::endpoint::response::parse;

    fn read(body: &str) -> Result<DeviceAuthorization, ErrorKind> {
        DeviceAuthorization::read(&Answer {
            status: StatusCode::OK,
            retry_after: None,
            exhausted: false,
            unattributed: false,
            max_age: None,
            date: None,
            headers: HeaderMap::new(),
            body: Zeroizing::new(body.as_bytes().to_vec()),
            carried: Carried::default(),
        })
    }

    #[test]
    fn the_interval_is_five_seconds_where_none_is_named() {
        let given = read(
            r#"{"device_code":"d","user_code":"WDJB-MJHT","verification_uri":"https://as.example/device","expires_in":600}"#,
        )
        .unwrap();
        assert_eq!((given.interval, given.expires_in), (Duration::from_secs(5), Duration::from_mins(10)));
        assert_eq!(given.verification_uri_complete, None);
        assert!(!format!("{given:?}").contains("\"d\""));
    }

    #[test]
    fn a_login_that_is_pending_is_known_in_whatever_members_and_words_it_is_said() {
        let code = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let kind = parse(status, body.as_bytes()).unwrap_err();
            match judge(&Report::read(body.as_bytes()), kind) {
                ErrorKind::Denied(_, code) => Some(code),
                _ => None,
            }
        };
        for (status, body, want) in [
            (400, r#"{"error":"authorization_pending"}"#, Some(Code::AuthorizationPending)),
            // Twitch, GitHub, Google, AWS.
            (400, r#"{"status":400,"message":"authorization_pending"}"#, Some(Code::AuthorizationPending)),
            (200, r#"{"error":"authorization_pending"}"#, Some(Code::AuthorizationPending)),
            (
                428,
                r#"{"error":"authorization_pending","error_description":"Precondition Required"}"#,
                Some(Code::AuthorizationPending),
            ),
            (400, r#"{"__type":"AuthorizationPendingException"}"#, Some(Code::AuthorizationPending)),
            (400, r#"{"errorCode":"authorization_pending"}"#, Some(Code::AuthorizationPending)),
            (400, r#"{"errors":["authorization_pending"]}"#, Some(Code::AuthorizationPending)),
            (400, r#"{"error":{"code":"slow_down"}}"#, Some(Code::SlowDown)),
            (
                400,
                r#"{"error":"invalid_request","error_description":"Authorization is pending"}"#,
                Some(Code::AuthorizationPending),
            ),
            (400, "error=authorization_pending", Some(Code::AuthorizationPending)),
            (400, "authorization_pending", Some(Code::AuthorizationPending)),
            (400, r#"{"message":"Polling too fast: slow down"}"#, Some(Code::SlowDown)),
            (400, r#"{"status":400,"message":"invalid device code"}"#, Some(Code::ExpiredToken)),
            (400, r#"{"error":"authorization_declined"}"#, Some(Code::AccessDenied)),
            (400, r#"{"reason":"expired_token"}"#, Some(Code::ExpiredToken)),
            (400, r#"{"error":"unheard_of"}"#, Some(Code::Other)),
            (400, "{}", None),
        ] {
            assert_eq!(code(status, body), want, "{status} {body}");
        }
    }

    #[test]
    fn a_refusal_in_a_success_is_a_refusal() {
        let refused = read(r#"{"error":"device_flow_disabled","error_description":"no"}"#);
        assert_eq!(refused, Err(ErrorKind::Denied(StatusCode::OK, Code::UnauthorizedClient)));
    }

    #[test]
    fn what_would_reach_a_terminal_or_a_browser_as_more_than_text_is_refused() {
        let with = |code: &str, uri: &str| {
            read(&format!(
                r#"{{"device_code":"d","user_code":"{code}","verification_uri":"{uri}","expires_in":"600","interval":1}}"#
            ))
        };
        assert!(with("AB CD", "http://127.0.0.1/device").is_ok());
        assert_eq!(
            with("\\u001b[2J", "https://a"),
            Err(ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Device("user_code"))))
        );
        for uri in ["javascript:alert(1)", "file:///etc/passwd", "device"] {
            assert_eq!(
                with("A", uri),
                Err(ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Device("verification_uri")))),
                "{uri}"
            );
        }
    }
}
