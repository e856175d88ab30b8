//! A person's password at the token endpoint: which responses may refuse it, and when it is no longer sent.
//!
//! Directories count refusals and lock the account, so that a password is sent a few times at most. A response counts
//! whatever its shape, where the endpoint itself gave it to a request with a password: an OAuth error, a success without a
//! usable token, a redirect to a login page, a page. What does not show that a password was read does not count: no
//! response, a failure of the server's own, too many requests, an address with nothing there, a page of something in front
//! of the server. `token` counts, and decides when to send it again.

use http::StatusCode;

use super::Error;
use crate::oauth::client::Client;
use crate::oauth::discovery::server::Location;
use crate::oauth::error::details::Details;
use crate::oauth::error::kind::{
    Code, ErrorKind, ResponseFault, ResponseFlaw, TransportFault, TransportPhase,
};
use crate::oauth::error::place::Place;
use crate::oauth::error::refusal::Meaning;
use crate::oauth::error::situation::{Asked, Situation};
use crate::oauth::grant::{Grant, TokenRequest};

impl Error {
    /// Whether it may be a person's password that is refused, and neither the client nor what was asked for.
    pub(crate) fn refuses_person(&self) -> bool {
        let Some(details) = self.details.as_deref() else { return false };
        if details.situation.asked != Asked::Password {
            return false;
        }
        if details.unattributed && !details.exhausted && self.may_be_a_proxys() {
            return false;
        }
        let code = match self.kind {
            ErrorKind::Denied(_, code) => Some(code),
            _ => None,
        };
        if matches!(self.kind, ErrorKind::Denied(..) | ErrorKind::Status(_))
            && Meaning::names_person(code, Some(details))
        {
            return true;
        }
        let of_a_person = matches!(self.kind, ErrorKind::Denied(_, code) if code.is_of_a_person());
        match details.status.as_u16() {
            408 | 425 | 429 => return false,
            // Nothing is there, or the server fails, unless it says that it is the person.
            404 | 405 | 410 | 500.. => return of_a_person,
            _ => {}
        }
        match self.kind {
            ErrorKind::Denied(_, code) => (of_a_person || code == Code::Other) && self.may_mean_person(),
            ErrorKind::Status(_) => self.may_mean_person(),
            ErrorKind::Response(
                ResponseFault::Redirect(_)
                | ResponseFault::RedirectTo(..)
                | ResponseFault::TooLarge
                | ResponseFault::Malformed(_)
                | ResponseFault::TokenType
                | ResponseFault::NoTime(_)
                | ResponseFault::Unbound,
            ) => true,
            // The status has come, and says it all.
            ErrorKind::Transport(TransportFault::Reset | TransportFault::Timeout(TransportPhase::Answer)) => {
                matches!(details.status.as_u16(), 400 | 401 | 422)
            }
            _ => false,
        }
    }

    /// Whether a proxy may have made the response: it is neither an OAuth error nor a token.
    const fn may_be_a_proxys(&self) -> bool {
        match self.kind {
            ErrorKind::Denied(..)
            | ErrorKind::Response(
                ResponseFault::TokenType | ResponseFault::Unbound | ResponseFault::NoTime(_),
            ) => false,
            ErrorKind::Response(ResponseFault::Malformed(flaw)) => {
                matches!(
                    flaw,
                    ResponseFlaw::Page | ResponseFlaw::NotJson | ResponseFlaw::Empty | ResponseFlaw::NotHttp
                )
            }
            _ => true,
        }
    }

    /// Whether nothing in the response names something else.
    fn may_mean_person(&self) -> bool {
        !matches!(
            self.meaning(),
            Some(
                Meaning::Grant
                    | Meaning::NoGrant
                    | Meaning::Scope
                    | Meaning::Target
                    | Meaning::Proof
                    | Meaning::ProofDemanded
                    | Meaning::Nonce
                    | Meaning::Push
                    | Meaning::RedirectUri
                    | Meaning::Https
                    | Meaning::Address
                    | Meaning::Gate
                    | Meaning::Busy
                    | Meaning::Failure
            )
        )
    }

    /// The same refusal as the last one of a password, which is not sent again.
    pub(crate) fn withheld(self) -> Self {
        Self { kind: ErrorKind::Withheld { last: Some(Box::new(self.kind)), sent: true }, ..self }
    }

    /// The same where the password was not sent this time.
    pub(crate) fn withheld_before(self) -> Self {
        Self {
            kind: ErrorKind::Withheld { last: Some(Box::new(self.kind)), sent: false },
            retry_after: None,
            ..self
        }
    }

    /// The error of a token request that is not made, since its password was refused before: by which response, this
    /// process does not know.
    pub(crate) fn unsent(
        location: &Location,
        client: &Client,
        grant: &Grant,
        request: &TokenRequest,
    ) -> Self {
        let error = Self::here(ErrorKind::Withheld { last: None, sent: false });
        let details = Details::bare(StatusCode::BAD_REQUEST, Situation::token(client, grant, request));
        let url = location.token_endpoint.as_ref();
        let place =
            url.map(Place::of).or_else(|| location.issuer.as_ref().map(|issuer| Place::of(issuer.url())));
        Self { place, ..error.with(details) }
    }

    /// Whether a person's password is no longer sent.
    pub(crate) const fn is_withheld(&self) -> bool {
        matches!(self.kind, ErrorKind::Withheld { .. })
    }

    /// The refusal after which the password is no longer sent.
    pub(super) fn before_withheld(&self) -> Option<Self> {
        match &self.kind {
            ErrorKind::Withheld { last: Some(kind), .. } => {
                Some(Self { kind: (**kind).clone(), ..self.clone() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
impl Error {
    /// The failure that a response to a person's password is.
    pub(crate) fn to_password(status: u16, body: &str) -> Self {
        use crate::oauth::endpoint::body::Form;
        use crate::oauth::endpoint::remark::Carried;
        use crate::oauth::endpoint::report::Report;
        use crate::oauth::endpoint::response::parse;
        use crate::oauth::peer;
        let (status, body) = (StatusCode::from_u16(status).unwrap(), body.as_bytes());
        let kind = parse(status, body).unwrap_err();
        let situation = Situation::of(Asked::Password, &peer::client());
        let details = Report::read(body).details(status, Form::of(body), &Carried::default(), situation);
        Self::at(Place::of(&"https://as.example/token".parse().unwrap()), kind).with(details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::error::class::Class;
    use crate::secret::Secret;

    /// Auth0's.
    const BLOCKED: &str = r#"{"error":"too_many_attempts","error_description":"Your account has been blocked after multiple consecutive login attempts. We've sent you a notification."}"#;
    const KEYS: &str = "`username` and `password_file`";

    fn to_password(status: u16, body: &str) -> Error {
        Error::to_password(status, body)
    }

    /// Of a response that was not read, or not whole.
    fn unread(status: u16, kind: ErrorKind) -> Error {
        let known = Error::to_password(400, "");
        let situation = known.details.unwrap().situation;
        Error::here(kind).with(Details::bare(StatusCode::from_u16(status).unwrap(), situation))
    }

    #[test]
    fn whatever_its_shape_a_response_without_a_token_may_refuse_the_person() {
        for (status, body) in [
            (400, r#"{"error":"invalid_grant"}"#),
            (401, r#"{"error":"invalid_grant"}"#),
            (401, r#"{"error":"access_denied"}"#),
            (403, r#"{"error":"access_denied","error_description":"User disabled"}"#),
            (400, r#"{"error":"invalid_request"}"#),
            (400, "Bad credentials"),
            (401, ""),
            (401, "<html>Login failed</html>"),
            (401, r#"{"message":"Unauthorized"}"#),
            (403, r#"{"message":"Forbidden"}"#),
            (403, r#"{"error":"mfa_required"}"#),
            (409, r#"{"message":"locked"}"#),
            (422, r#"{"message":"The user credentials were incorrect."}"#),
            (422, r#"{"errors":{"password":["is not the right one"]}}"#),
            (200, r#"{"ok":false,"error":"invalid_credentials"}"#),
            (200, r#"{"error":"invalid_grant"}"#),
            (200, r#"{"status":"error","message":"invalid username or password"}"#),
            (200, "error=invalid_credentials"),
            (200, "<html>Login failed</html>"),
            (200, "{}"),
            (200, ""),
            (200, r#"{"access_token":"a","token_type":"mac","expires_in":30}"#),
            (200, r#"{"access_token":{},"token_type":"Bearer"}"#),
            (302, ""),
            (302, r#"{"error":"invalid_grant"}"#),
            (404, r#"{"error":"invalid_grant"}"#),
            (500, r#"{"error":"invalid_grant","error_description":"Bad credentials"}"#),
            (503, r#"{"error":"access_denied"}"#),
            // Whatever the status, where it speaks of the person.
            (429, BLOCKED),
            (403, BLOCKED),
            (400, BLOCKED),
            (429, r#"{"error":"invalid_grant","error_description":"Account locked, too many attempts"}"#),
            (500, r#"{"error":"Internal Server Error","message":"Bad credentials"}"#),
            (503, r#"{"error":"server_error","error_description":"The password is incorrect"}"#),
            (404, r#"{"status":404,"message":"Invalid username or password"}"#),
            (400, r#"{"error":"too_many_requests","message":"wrong password, too many attempts"}"#),
        ] {
            let error = to_password(status, body);
            assert!(error.refuses_person(), "{status} {body}: {error}");
        }
        let place = Place::of(&"https://as.example/login".parse().unwrap());
        for (status, kind) in [
            (302, ErrorKind::Response(ResponseFault::RedirectTo(StatusCode::FOUND, place))),
            (200, ErrorKind::Response(ResponseFault::TooLarge)),
            (401, ErrorKind::Transport(TransportFault::Reset)),
            (422, ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Answer))),
        ] {
            let error = unread(status, kind);
            assert!(error.refuses_person(), "{status} {error}");
        }
    }

    #[test]
    fn what_does_not_show_that_a_password_was_read_refuses_nobody() {
        for (status, body) in [
            (401, r#"{"error":"invalid_client"}"#),
            (400, r#"{"error":"unauthorized_client"}"#),
            (400, r#"{"error":"unsupported_grant_type"}"#),
            (400, r#"{"error":"invalid_scope"}"#),
            (400, r#"{"error":"invalid_request","error_description":"scope unknown"}"#),
            (400, r#"{"error":"use_dpop_nonce"}"#),
            (200, r#"{"error":"temporarily_unavailable"}"#),
            (400, r#"{"error":"slow_down"}"#),
            (400, r#"{"error":"Access Denied","message":"too many requests"}"#),
            (403, "<html>Forbidden</html>"),
            (404, ""),
            (404, "<html>"),
            (404, r#"{"status":404,"error":"Not Found"}"#),
            (405, ""),
            (429, r#"{"error":"invalid_grant"}"#),
            (429, r#"{"error":"too_many_requests","error_description":"Too many requests of this user"}"#),
            (500, r#"{"error":"Internal Server Error","message":"Invalid client credentials"}"#),
            (500, r#"{"error":"server_error","error_description":"user: the database is locked"}"#),
            (400, r#"{"error":"unauthorized_client","error_description":"Bad credentials"}"#),
            (408, ""),
            (500, ""),
            (500, r#"{"error":"Internal Server Error"}"#),
            (500, r#"{"error":"server_error"}"#),
            (502, "<html>"),
            (503, r#"{"error":"invalid_client"}"#),
        ] {
            let error = to_password(status, body);
            assert!(!error.refuses_person(), "{status} {body}: {error}");
        }
        for (status, kind) in [
            (200, ErrorKind::Transport(TransportFault::Reset)),
            (503, ErrorKind::Response(ResponseFault::TooLarge)),
            (403, ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Answer))),
        ] {
            let error = unread(status, kind);
            assert!(!error.refuses_person(), "{status} {error}");
        }
        // Of another request, or without a response.
        for error in [
            Error::here(ErrorKind::Denied(StatusCode::BAD_REQUEST, Code::InvalidGrant)),
            Error::here(ErrorKind::Status(StatusCode::UNAUTHORIZED)),
            Error::here(ResponseFault::TooLarge),
            Error::here(TransportFault::Reset),
        ] {
            assert!(!error.refuses_person(), "{error}");
        }
    }

    #[test]
    fn what_a_proxy_may_have_made_refuses_nobody_and_names_the_proxy() {
        let through_a_proxy = |status: u16, body: &str| {
            let error = to_password(status, body);
            let details = *error.details.clone().unwrap();
            Error { details: Some(Box::new(Details { unattributed: true, ..details })), ..error }
        };
        for (status, body) in [
            (200, "<html>Portal</html>"),
            (200, ""),
            (200, "Welcome"),
            (302, ""),
            (401, ""),
            (403, "<html>"),
            (401, r#"{"message":"Bad credentials"}"#),
        ] {
            let error = through_a_proxy(status, body);
            assert!(!error.refuses_person(), "{status} {body}: {error}");
            assert!(
                status == 302 || error.to_string().contains("the HTTP proxy on the way may have"),
                "{error}"
            );
        }
        for (status, body) in [
            (200, r#"{"access_token":"a","token_type":"mac"}"#),
            (200, r#"{"error":"invalid_credentials"}"#),
            (200, "{}"),
            (429, BLOCKED),
            (401, r#"{"error":"invalid_grant"}"#),
        ] {
            let error = through_a_proxy(status, body);
            assert!(error.refuses_person(), "{status} {body}: {error}");
            assert!(!error.to_string().contains("<html>"), "{error}");
        }
    }

    #[test]
    fn a_refusal_that_may_be_the_persons_names_the_keys_of_the_person_first() {
        for (status, body) in [
            (400, r#"{"error":"invalid_grant"}"#),
            (401, r#"{"error":"access_denied"}"#),
            (401, r#"{"error":"invalid_credentials","message":"The user credentials were incorrect."}"#),
            (401, ""),
            (401, "<html>Login failed</html>"),
            (403, r#"{"message":"Forbidden"}"#),
            (422, r#"{"message":"The user credentials were incorrect."}"#),
            (200, r#"{"ok":false,"error":"invalid_credentials"}"#),
            (200, r#"{"status":"error","message":"invalid username or password"}"#),
            (500, r#"{"error":"invalid_grant"}"#),
            (429, BLOCKED),
            (403, BLOCKED),
            (500, r#"{"error":"Internal Server Error","message":"Bad credentials"}"#),
        ] {
            let error = to_password(status, body);
            let help = error.help().unwrap_or_default();
            assert!(help.starts_with(&format!("check {KEYS}")), "{status} {body}: {error}");
            assert!(error.to_string().contains("the user name or the password"), "{error}");
        }
        let help = to_password(400, r#"{"error":"invalid_request"}"#).help().unwrap();
        assert!(help.contains("`username` and `password_file`"), "{help}");
        // What names the client, or the request, does not.
        for (status, body) in [
            (401, r#"{"error":"invalid_client"}"#),
            (401, r#"{"error":"access_denied","error_description":"bad client secret"}"#),
            (400, r#"{"error":"wrong_client"}"#),
            (403, "<html>Forbidden</html>"),
        ] {
            let error = to_password(status, body);
            assert!(!error.to_string().contains("password_file"), "{status} {body}: {error}");
        }
    }

    #[test]
    fn a_password_that_is_withheld_is_shown_with_its_last_refusal() {
        for (error, has) in [
            (
                to_password(401, r#"{"error":"invalid_grant"}"#),
                "401 and the error `invalid_grant`: it does not accept",
            ),
            (to_password(302, ""), "it responded with 302, a redirect"),
            (
                to_password(200, r#"{"access_token":"a","token_type":"mac"}"#),
                "the token is of the type `mac`, not Bearer",
            ),
            (to_password(200, "<html>"), "the response is an HTML page"),
        ] {
            let shown = error.clone().withheld().to_string();
            assert!(shown.contains(has), "{shown}");
            assert!(shown.contains("; the password was sent twice"), "{shown}");
            assert_eq!(
                shown.matches("it responded with").count(),
                error.to_string().matches("it responded with").count()
            );
            assert_eq!(error.withheld().class(), Class::Misconfigured);
        }
    }

    #[test]
    fn a_withheld_password_names_the_keys_and_the_endpoint_whether_it_was_sent_now_or_before() {
        let client = crate::oauth::peer::client();
        let url: url::Url = "https://as.example/token?tenant=sentinel".parse().unwrap();
        let location = Location { token_endpoint: Some(url), ..Location::default() };
        let request = TokenRequest { scope: vec![], audience: None, resource: vec![], params: vec![] };
        for key in ["password", "password_env", "password_file"] {
            let secret = Secret::new("sentinel".to_owned());
            let grant = Grant::Password { username: "sentinel".to_owned(), password: secret, key };
            let error = Error::unsent(&location, &client, &grant, &request);
            assert!(error.is_withheld() && !error.is_counted());
            let want = format!(
                "https://as.example/token: the password was sent twice and brought no token, so it is not sent again: a \
                 protection against guessing locks the account; correct `username` or `{key}`, or run `cupbearer renew` to \
                 send the password once more"
            );
            assert_eq!(error.to_string(), want);
        }
        let last = to_password(401, r#"{"error":"invalid_grant"}"#);
        for (error, sent) in [(last.clone().withheld(), true), (last.withheld_before(), false)] {
            assert_eq!(error.is_counted(), sent);
            let shown = error.to_string();
            assert!(shown.starts_with("https://as.example/token: it responded with 401"), "{shown}");
            assert!(shown.ends_with("; correct `username` or `password_file`, or run `cupbearer renew` to send the password once more"), "{shown}");
        }
    }
}
