//! Why a TLS handshake with a client of ours failed: a sentence that names the party at fault, what an operator does about it,
//! and the word that the metric has for it (RFC 8446 section 6). `tls_fault` is its counterpart for servers.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeFault {
    /// No version in common.
    #[error("the client speaks neither TLS 1.2 nor TLS 1.3")]
    Version,
    /// No cipher suite, key exchange or signature in common.
    #[error(
        "the client has no cipher suite, key exchange or signature algorithm in common with this program"
    )]
    Cipher,
    /// No application protocol in common (RFC 7301).
    #[error("the client offers no application protocol that is spoken here (ALPN)")]
    Protocol,
    /// A client certificate is demanded, and none came.
    #[error("the client showed no certificate, and one is demanded")]
    NoCertificate,
    /// No authority of ours vouches for the client certificate.
    #[error("the client's certificate comes from no authority in `client_ca_file`")]
    UntrustedCertificate,
    /// The client certificate has expired, or is not valid yet.
    #[error("the client's certificate has expired, or is not valid yet")]
    ExpiredCertificate,
    /// Something else is wrong with the client certificate.
    #[error("the client's certificate breaks a rule of X.509, is revoked or is not issued for clients")]
    InvalidCertificate,
    /// The client knows no authority of our certificate.
    #[error("the client does not trust the authority of the certificate here")]
    UnknownAuthority,
    /// The client refuses our certificate for another reason.
    #[error("the client refuses the certificate here")]
    RefusedCertificate,
    /// The client sent HTTP without TLS.
    #[error("the client sent plain HTTP to a port that speaks TLS")]
    PlainHttp,
    /// The client sent a PROXY protocol header.
    #[error("the client sent a PROXY protocol header, which is not spoken here")]
    ProxyProtocol,
    /// What came is no TLS.
    #[error("what the client sent is not TLS")]
    NotTls,
    /// The client closed the connection after it had begun.
    #[error("the client closed the connection during the handshake")]
    Closed,
    /// The client took too long.
    #[error("the client did not finish the handshake in time")]
    Timeout,
    /// Something else.
    #[error("the handshake did not succeed")]
    Other,
}

impl HandshakeFault {
    /// All of them: the closed set of the metric's label.
    pub(super) const ALL: [Self; 15] = [
        Self::Version,
        Self::Cipher,
        Self::Protocol,
        Self::NoCertificate,
        Self::UntrustedCertificate,
        Self::ExpiredCertificate,
        Self::InvalidCertificate,
        Self::UnknownAuthority,
        Self::RefusedCertificate,
        Self::PlainHttp,
        Self::ProxyProtocol,
        Self::NotTls,
        Self::Closed,
        Self::Timeout,
        Self::Other,
    ];

    /// The word for it in the metric and the log.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Cipher => "cipher",
            Self::Protocol => "alpn",
            Self::NoCertificate => "no_client_certificate",
            Self::UntrustedCertificate => "client_certificate_untrusted",
            Self::ExpiredCertificate => "client_certificate_expired",
            Self::InvalidCertificate => "client_certificate_invalid",
            Self::UnknownAuthority => "unknown_authority",
            Self::RefusedCertificate => "certificate_refused",
            Self::PlainHttp => "plain_http",
            Self::ProxyProtocol => "proxy_protocol",
            Self::NotTls => "not_tls",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }

    /// What to do about it.
    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::Version => "enable TLS 1.2 or TLS 1.3 in the client",
            Self::Cipher => {
                "enable a cipher suite with forward secrecy and AEAD in the client (ECDHE with AES-GCM or ChaCha20)"
            }
            Self::Protocol => "have the client offer h2 or http/1.1, or nothing",
            Self::NoCertificate => {
                "give the client a certificate and its key (curl: --cert and --key), or take out `client_ca_file`"
            }
            Self::UntrustedCertificate => {
                "have one of these authorities issue it, or add its authority to `client_ca_file`"
            }
            Self::ExpiredCertificate => "renew the client's certificate; compare the clocks too",
            Self::InvalidCertificate => {
                "issue it with extendedKeyUsage=clientAuth; check it with `openssl verify`"
            }
            Self::UnknownAuthority => {
                "give the client that authority (curl: --cacert), and let `cert_file` hold the whole chain"
            }
            Self::RefusedCertificate => {
                "check the certificate's names, its end and its chain against the client's log"
            }
            Self::PlainHttp => {
                "use https in the client's URL; the proxy takes http where [server.tls] is left out"
            }
            Self::ProxyProtocol => "switch the PROXY protocol off in front of this port",
            Self::NotTls => "check what connects to this port",
            Self::Closed => "see the client's own log; as a rule it does not trust the certificate",
            Self::Timeout => "see what holds the client or the network up",
            Self::Other => "see the client's own log",
        }
    }

    /// Whether a connection that is to speak TLS begins with a request of HTTP in the clear: with a method and a target, as far as
    /// these bytes go (RFC 9112 section 3). SSH and SMTP begin with capital letters, too.
    #[must_use]
    pub(crate) fn is_plain_http(first: &[u8]) -> bool {
        let method = first.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
        match first.split_at(method) {
            ([], _) => false,
            (_, []) | (b"CONNECT", [b' ', ..]) => true,
            (_, [b' ', target @ ..]) => matches!(target, [] | [b'/' | b'*' | b'h' | b'H', ..]),
            _ => false,
        }
    }

    /// What an error of a handshake means.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
            Some(error) => Self::of_tls(error),
            None => Self::Closed,
        }
    }

    fn of_tls(error: &Error) -> Self {
        match error {
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired
                // TLS 1.1 and older have no such extension, and rustls looks for it first.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
            ) => Self::Version,
            Error::PeerIncompatible(_) => Self::Cipher,
            Error::NoApplicationProtocol => Self::Protocol,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Other,
        }
    }

    const fn of_certificate(error: &CertificateError) -> Self {
        use CertificateError as C;
        match error {
            // A signature is bad where an authority was made anew under its old name.
            C::UnknownIssuer | C::BadSignature => Self::UntrustedCertificate,
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
                Self::ExpiredCertificate
            }
            _ => Self::InvalidCertificate,
        }
    }

    const fn of_alert(alert: AlertDescription) -> Self {
        use AlertDescription as A;
        match alert {
            A::UnknownCA => Self::UnknownAuthority,
            A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::AccessDenied
            // A signature that it cannot verify, as where an authority was made anew under its old name.
            | A::DecryptError => Self::RefusedCertificate,
            A::ProtocolVersion => Self::Version,
            A::HandshakeFailure | A::InsufficientSecurity => Self::Cipher,
            A::NoApplicationProtocol => Self::Protocol,
            A::CloseNotify | A::UserCanceled => Self::Closed,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_in_the_clear_is_told_from_other_protocols() {
        for http in
            ["GET / HTTP/1.1", "G", "POST ", "CONNECT api:44", "OPTIONS *", "GET http://a", "PRI * HTTP/2.0"]
        {
            assert!(HandshakeFault::is_plain_http(http.as_bytes()), "{http}");
        }
        for other in
            ["", "SSH-2.0-OpenSSH", "EHLO mail", "USER me", "\x16\x03\x01", " GET /", "get / HTTP/1."]
        {
            assert!(!HandshakeFault::is_plain_http(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_reasons_stand_in_their_order() {
        // `handshake_log` finds them by their number.
        assert!(HandshakeFault::ALL.iter().enumerate().all(|(at, fault)| *fault as usize == at));
    }

    #[test]
    fn the_docs_list_every_reason() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        let docs = std::fs::read_to_string(path).unwrap();
        for fault in HandshakeFault::ALL {
            let row = format!("| `{}` | {fault} | {} |", fault.as_str(), fault.help());
            assert!(docs.contains(&row), "docs/errors.md lacks: {row}");
        }
    }
}
