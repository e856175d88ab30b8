//! The endpoints of an authorization server, by the members of its metadata.

use std::fmt;

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// RFC 6749 section 3.2.
    Token,
    /// RFC 7662.
    Introspection,
    /// RFC 7009.
    Revocation,
    /// RFC 6749 section 3.1.
    Authorization,
    /// RFC 8628 section 3.1.
    DeviceAuthorization,
    /// RFC 9126 section 2.
    PushedAuthorization,
    /// OpenID Connect Core 1.0 section 5.3.
    Userinfo,
    /// OpenID Connect RP-Initiated Logout 1.0 section 2.
    EndSession,
}

impl Role {
    /// The member that names it, in a document and in its aliases; the configuration's key has the same name.
    pub(in crate::oauth) const fn member(self) -> &'static str {
        match self {
            Self::Token => "token_endpoint",
            Self::Introspection => "introspection_endpoint",
            Self::Revocation => "revocation_endpoint",
            Self::Authorization => "authorization_endpoint",
            Self::DeviceAuthorization => "device_authorization_endpoint",
            Self::PushedAuthorization => "pushed_authorization_request_endpoint",
            Self::Userinfo => "userinfo_endpoint",
            Self::EndSession => "end_session_endpoint",
        }
    }

    /// Whether it is this program that connects there, and not a person's browser, which has no certificate of ours.
    pub(in crate::oauth) const fn is_called_by_the_client(self) -> bool {
        !matches!(self, Self::Authorization | Self::EndSession)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.member())
    }
}

/// In the order of the enum: it is the index.
pub(in crate::oauth) const ROLES: [Role; 8] = [
    Role::Token,
    Role::Introspection,
    Role::Revocation,
    Role::Authorization,
    Role::DeviceAuthorization,
    Role::PushedAuthorization,
    Role::Userinfo,
    Role::EndSession,
];
