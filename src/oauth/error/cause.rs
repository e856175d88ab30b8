//! The word for a failure in logs and metrics.

use super::Error;
use crate::net::proxy_fault::ProxyStage;
use crate::oauth::error::kind::{Kind, Phase};
use crate::secret::SecretError;

impl Error {
    /// One word out of a closed set, for logs and metrics.
    #[must_use]
    pub(crate) const fn cause(&self) -> &'static str {
        match &self.kind {
            Kind::Secret(SecretError::Lacking(..)) | Kind::Machine(_) | Kind::Lacking(_) => "machine",
            Kind::Secret(_) | Kind::ShortSecret => "secret",
            Kind::Key(..) | Kind::GoogleKey(..) => "key",
            Kind::Certificate(..) => "certificate",
            Kind::NoIssuer => "no_issuer",
            Kind::Dns | Kind::Lookup(_) | Kind::Timeout(Phase::Lookup | Phase::Proxy(ProxyStage::Lookup)) => {
                "dns"
            }
            Kind::Connect(_) => "connect",
            Kind::Proxy(_) => "proxy",
            Kind::Tls(_) => "tls",
            Kind::Timeout(_) => "timeout",
            Kind::Reset => "reset",
            Kind::Redirect(_) | Kind::RedirectTo(..) => "redirect",
            Kind::NoPkce => "no_pkce",
            Kind::Outdated { .. } => "outdated",
            Kind::Status(_) => "status",
            Kind::Denied(_, code) | Kind::Authorization(code) => code.as_str(),
            Kind::CodeRefused => "code_refused",
            Kind::Callback(_) => "callback",
            Kind::IdToken(_) => "id_token",
            Kind::OtherUser(_) => "other_user",
            Kind::BrowserAbsent => "browser_absent",
            Kind::Frame(fault) => fault.cause(),
            Kind::TooLarge => "too_large",
            Kind::Malformed(_) => "malformed",
            Kind::TokenType => "token_type",
            Kind::Unbound => "unbound",
            Kind::OtherIssuer(_) => "issuer_mismatch",
            Kind::NoEndpoint(_) => "no_endpoint",
            Kind::InsecureEndpoint => "insecure_endpoint",
            Kind::Stale | Kind::NoTime(_) | Kind::Slow { .. } => "stale",
            Kind::Withheld { .. } => "withheld",
            Kind::Inactive => "inactive",
            Kind::Stalled => "stalled",
            Kind::Panicked => "internal",
            Kind::Unusable => "unusable",
            Kind::LoggedOut => "logged_out",
            Kind::StoreBusy => "store_busy",
            Kind::Store | Kind::StillStored(_) | Kind::Unread(_) => "store",
            Kind::LoginRequired | Kind::LoginEnded(_) | Kind::LoginInterrupted(_) => "login_required",
            Kind::LoginDoubtful => "login_doubtful",
            Kind::Command(_) => "command",
            Kind::TokenFile(_) => "token_file",
            Kind::Text(..) => "token_text",
            Kind::Spent(_) => "expired",
            Kind::StillRefused(_) => "still_refused",
            Kind::Subject(_) => "subject",
            Kind::SubjectExpired => "subject_expired",
            Kind::NoCaller => "no_caller",
        }
    }
}
