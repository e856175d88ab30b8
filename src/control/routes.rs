//! The paths of the control surface: taken apart by the server, put together by the client.

use http::Method;
use url::form_urlencoded::byte_serialize;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// The dashboard.
    Page,
    /// Its live feed.
    Events,
    /// The whole program at a glance.
    Status,
    /// Read the configuration again.
    Reload,
    /// Renew this token now.
    Renew(Segment<'a>),
    /// Give this token back and forget it.
    Logout(Segment<'a>),
    /// Hand this token out.
    AccessToken(Segment<'a>),
    /// Begin a login.
    Login(Segment<'a>),
    /// How the last login stands.
    LoginProgress(Segment<'a>),
    /// Call a login off.
    LoginCancel(Segment<'a>),
    /// Take the address that a browser elsewhere ended at.
    LoginCallback(Segment<'a>),
    /// Begin a renewal in a hidden frame.
    Silent(Segment<'a>),
    /// What such a frame brings back to the page.
    SilentMessage,
    /// What such a frame itself comes back with.
    SilentFrame,
    /// A path of ours, by a method that it does not take; these it does.
    OtherMethod(&'static str),
    /// Nothing of ours.
    Unknown,
}

/// A token's name as it stands in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a>(&'a str);

impl Segment<'_> {
    /// Whether it stands for `name`. Names are encoded rather than segments decoded, so that there is one reading.
    pub(super) fn is(self, name: &str) -> bool {
        self.0 == name || self.0 == encoded(name)
    }
}

/// Reads method and path.
pub(super) fn read<'a>(method: &Method, path: &'a str) -> Asked<'a> {
    let (asked, allowed) = if path == STATUS {
        (Asked::Status, READ)
    } else if path == PAGE {
        (Asked::Page, READ)
    } else if path == EVENTS {
        (Asked::Events, READ)
    } else if path == RELOAD {
        (Asked::Reload, WRITE)
    } else if path == SILENT {
        let asked = if method == Method::POST { Asked::SilentMessage } else { Asked::SilentFrame };
        (asked, if method == Method::POST { WRITE } else { READ_OR_WRITE })
    } else {
        let token = path.strip_prefix("/tokens/").and_then(|rest| rest.split_once('/'));
        match token {
            Some((name, "renew")) => (Asked::Renew(Segment(name)), WRITE),
            Some((name, "logout")) => (Asked::Logout(Segment(name)), WRITE),
            Some((name, "access_token")) => (Asked::AccessToken(Segment(name)), WRITE),
            Some((name, "login")) if method == Method::POST => (Asked::Login(Segment(name)), WRITE),
            Some((name, "login")) => (Asked::LoginProgress(Segment(name)), READ_OR_WRITE),
            Some((name, "login/cancel")) => (Asked::LoginCancel(Segment(name)), WRITE),
            Some((name, "login/callback")) => (Asked::LoginCallback(Segment(name)), WRITE),
            Some((name, "silent")) => (Asked::Silent(Segment(name)), WRITE),
            _ => return Asked::Unknown,
        }
    };
    let fits = match allowed {
        WRITE => method == Method::POST,
        READ_OR_WRITE => method == Method::GET,
        _ => method == Method::GET || method == Method::HEAD,
    };
    if fits { asked } else { Asked::OtherMethod(allowed) }
}

/// Where to renew `token`.
pub(super) fn renew(token: &str) -> String {
    format!("/tokens/{}/renew", encoded(token))
}

/// Where to log `token` out.
pub(super) fn logout(token: &str) -> String {
    format!("/tokens/{}/logout", encoded(token))
}

/// Where `token`'s login begins and is looked at.
pub(super) fn login(token: &str) -> String {
    format!("/tokens/{}/login", encoded(token))
}

/// Where to call `token`'s login off.
pub(super) fn login_cancel(token: &str) -> String {
    login(token) + "/cancel"
}

/// Where to bring the address that a browser ended at.
pub(super) fn login_callback(token: &str) -> String {
    login(token) + "/callback"
}

/// Where to ask for `token` itself.
pub(super) fn access_token(token: &str) -> String {
    format!("/tokens/{}/access_token", encoded(token))
}

fn encoded(name: &str) -> String {
    byte_serialize(name.as_bytes()).collect()
}

/// Where the dashboard is.
pub(super) const PAGE: &str = "/";
/// Where its live feed is.
pub(super) const EVENTS: &str = "/events";
/// How the path of a token itself ends.
pub(super) const ACCESS_TOKEN: &str = "/access_token";
/// Where the status is.
pub(super) const STATUS: &str = "/status";
/// Where to have the configuration read again.
pub(super) const RELOAD: &str = "/reload";
/// Where a hidden frame comes back to.
pub(super) const SILENT: &str = "/silent";
const READ: &str = "GET, HEAD";
const READ_OR_WRITE: &str = "GET, POST";
const WRITE: &str = "POST";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_writes_the_server_reads() {
        for name in ["api", "my token", "a/b", "ü%"] {
            let path = renew(name);
            let Asked::Renew(segment) = read(&Method::POST, &path) else { panic!("{path}") };
            assert!(segment.is(name) && !segment.is("other"), "{path}");
            assert!(matches!(read(&Method::POST, &access_token(name)), Asked::AccessToken(_)));
            assert!(matches!(read(&Method::POST, &logout(name)), Asked::Logout(_)));
        }
    }

    #[test]
    fn other_methods_and_paths_are_told_apart() {
        assert_eq!(read(&Method::GET, "/tokens/api/renew"), Asked::OtherMethod("POST"));
        assert_eq!(read(&Method::POST, "/status"), Asked::OtherMethod("GET, HEAD"));
        for path in ["//", "/status/", "/tokens", "/tokens/api", "/tokens/api/renew/x", "/tokens/api/delete"]
        {
            assert_eq!(read(&Method::POST, path), Asked::Unknown, "{path}");
        }
    }
}
