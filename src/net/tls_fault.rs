//! Why TLS with a server failed: one sentence for upstreams and authorization servers alike, and what an operator does about
//! it (RFC 8446 section 6, RFC 5280 section 6.1).

use rustls::{AlertDescription, CertificateError, OtherError, PeerIncompatible};

/// Why TLS failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsFault {
    /// No trusted authority has issued the certificate.
    #[error("the certificate comes from an unknown issuer")]
    UnknownIssuer,
    /// The certificate is its own issuer, and not one that is trusted.
    #[error("the certificate is self-signed and not in `ca_file`")]
    SelfSigned,
    /// The certificate names other hosts.
    #[error("the certificate is for another name than the one configured")]
    WrongName,
    /// The certificate has no subject alternative name (RFC 9525 section 6.3).
    #[error("the certificate has no subject alternative name, and its common name does not count")]
    NoName,
    /// The certificate has expired.
    #[error("the certificate has expired")]
    Expired,
    /// The certificate begins later.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// The certificate is revoked.
    #[error("the certificate is revoked")]
    Revoked,
    /// The certificate is signed in a way that does not count any more.
    #[error("the certificate, or one in its chain, is signed with an algorithm that is not accepted")]
    Algorithm,
    /// The certificate is for something else than servers.
    #[error("the certificate is not issued for servers (extended key usage)")]
    Purpose,
    /// The certificate breaks another rule.
    #[error("the certificate, or one in its chain, breaks a rule of X.509")]
    Certificate,
    /// The server demands a client certificate.
    #[error("the other side wants a client certificate")]
    CertificateWanted,
    /// The server does not accept the client certificate.
    #[error("the other side refused this client's certificate")]
    CertificateRefused,
    /// The same, and the certificate has expired.
    #[error("this client's own certificate has expired, and the other side does not accept it")]
    OwnExpired,
    /// No version of TLS in common.
    #[error("the other side speaks neither TLS 1.2 nor TLS 1.3")]
    NoVersion,
    /// No cipher suite, key exchange or signature in common.
    #[error(
        "the other side has no cipher suite, key exchange or signature algorithm in common with this program"
    )]
    NoCipher,
    /// No application protocol in common (RFC 7301).
    #[error("the other side has no application protocol in common with this program (ALPN)")]
    NoProtocol,
    /// The server knows no host of that name (RFC 6066 section 3).
    #[error("the other side serves no host of the configured name (SNI)")]
    UnknownName,
    /// The server sent another alert.
    #[error("the other side refused the handshake")]
    Alert,
    /// What came is not TLS.
    #[error("the other side does not speak TLS")]
    NotTls,
    /// The connection ended before the handshake did.
    #[error("the other side closed the connection during the handshake")]
    Closed,
    /// Something else.
    #[error("the handshake did not succeed")]
    Handshake,
}

/// How far a handshake came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It began; no certificate of the server came. What fails now is the agreement on versions and ciphers.
    Hello,
    /// The server's certificate came.
    Certificate,
}

impl TlsFault {
    /// What an error of rustls means.
    #[must_use]
    pub(crate) fn of(error: &rustls::Error, progress: Progress) -> Self {
        match error {
            rustls::Error::InvalidCertificate(certificate) => Self::of_certificate(certificate),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert, progress),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::PeerIncompatible(why) => match why {
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled => Self::NoVersion,
                PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon
                | PeerIncompatible::NoEcPointFormatsInCommon => Self::NoCipher,
                _ => Self::Handshake,
            },
            rustls::Error::NoApplicationProtocol => Self::NoProtocol,
            _ => Self::Handshake,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        use CertificateError as C;
        match error {
            // A signature is bad where an authority was made anew under its old name.
            C::UnknownIssuer | C::BadSignature => Self::UnknownIssuer,
            C::NotValidForNameContext { presented, .. } if presented.is_empty() => Self::NoName,
            C::NotValidForName | C::NotValidForNameContext { .. } => Self::WrongName,
            C::Expired | C::ExpiredContext { .. } => Self::Expired,
            C::NotValidYet | C::NotValidYetContext { .. } => Self::NotYetValid,
            C::Revoked => Self::Revoked,
            C::UnsupportedSignatureAlgorithmContext { .. }
            | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::Algorithm,
            C::InvalidPurpose | C::InvalidPurposeContext { .. } => Self::Purpose,
            // What `trust` found.
            C::Other(OtherError(found)) => found.downcast_ref().copied().unwrap_or(Self::Certificate),
            _ => Self::Certificate,
        }
    }

    const fn of_alert(alert: AlertDescription, progress: Progress) -> Self {
        use AlertDescription as A;
        match (alert, progress) {
            // TLS 1.2 has one alert for both; which of them it is shows in how far the handshake came.
            (A::CertificateRequired, _) | (A::HandshakeFailure, Progress::Certificate) => {
                Self::CertificateWanted
            }
            (A::HandshakeFailure | A::InsufficientSecurity, _) => Self::NoCipher,
            (A::ProtocolVersion, _) => Self::NoVersion,
            (A::NoApplicationProtocol, _) => Self::NoProtocol,
            (A::UnrecognisedName, _) => Self::UnknownName,
            (
                A::BadCertificate
                | A::UnsupportedCertificate
                | A::CertificateRevoked
                | A::CertificateExpired
                | A::CertificateUnknown
                | A::UnknownCA
                | A::AccessDenied,
                _,
            ) => Self::CertificateRefused,
            _ => Self::Alert,
        }
    }

    /// What to do about it.
    #[must_use]
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::UnknownIssuer => "name its authority in `ca_file`",
            Self::SelfSigned => {
                "add that certificate to `ca_file`, byte for byte, or have an authority issue one"
            }
            Self::WrongName => "configure a host that the certificate names, or issue one for this host",
            Self::NoName => {
                "issue it with a subject alternative name (openssl: -addext subjectAltName=DNS:HOST)"
            }
            Self::Expired | Self::NotYetValid => "renew the certificate; compare the clock too",
            Self::Revoked => "have another one issued",
            Self::Algorithm => {
                "have it issued with SHA-256 and an RSA (2048 bits or more), P-256 or P-384 key"
            }
            Self::Purpose => "issue it with extendedKeyUsage=serverAuth",
            Self::Certificate => {
                "check the chain with `openssl verify -x509_strict`, or have another one issued"
            }
            Self::CertificateWanted => "name one in `client_cert_file`",
            Self::OwnExpired => "have another one issued, or see why nothing writes it",
            Self::CertificateRefused => "check its authority, its end and what is registered",
            Self::NoVersion => "enable TLS 1.2 or 1.3 there",
            Self::NoCipher => {
                "enable a cipher suite with forward secrecy and AEAD there (ECDHE with AES-GCM or ChaCha20)"
            }
            Self::NoProtocol => "enable h2 or http/1.1 there",
            Self::UnknownName => "check the host",
            Self::NotTls => "check the port",
            Self::Alert | Self::Closed | Self::Handshake => {
                "check that the port speaks TLS, and the other side's log"
            }
        }
    }
}
