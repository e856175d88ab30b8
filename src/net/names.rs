//! Whom a certificate names (RFC 5280 section 4.2.1.6), and whom a configuration lets in.
//!
//! Like is compared with like (RFC 9525 section 6): a DNS name with DNS names, a URI with URIs. An authority that may
//! issue certificates for some names alone is bound to them in alternative names of each kind, and in no common name.
//! `proxy` reads them off a client certificate, which TLS has found to be good before; `config` parses what is allowed.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

/// A name of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `dNSName`: lower case, without the root's dot.
    Dns(String),
    /// `uniformResourceIdentifier`, such as a SPIFFE ID: to the letter.
    Uri(String),
    /// `rfc822Name`: the mailbox to the letter, its host in lower case.
    Email(String),
    /// `iPAddress`.
    Ip(IpAddr),
    /// The subject's common name, to the letter.
    CommonName(String),
}

/// What is none of the forms that [`Subject::parse`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubjectFault {
    /// Nothing but spaces.
    #[error("is empty")]
    Empty,
    /// A `*`: who may use the proxy is named.
    #[error("has a wildcard, which matches no certificate")]
    Wildcard,
    /// What tools print before a name, and no certificate has in it.
    #[error("begins with `{0}`, which stands in no certificate")]
    Label(&'static str),
    /// Anything else.
    #[error("is neither a DNS name, a URI, an e-mail address, an IP address nor cn:NAME")]
    Form,
}

impl Subject {
    /// Reads a name as a configuration has it: `cn:NAME`, a URI where it has `://` (or is a URN), an e-mail address
    /// where it has `@`, an IP address, else a DNS name.
    ///
    /// # Errors
    /// [`SubjectFault`]
    pub(crate) fn parse(text: &str) -> Result<Self, SubjectFault> {
        if text.trim().is_empty() {
            return Err(SubjectFault::Empty);
        }
        if let Some(name) = text.strip_prefix("cn:") {
            return if name.trim().is_empty() {
                Err(SubjectFault::Empty)
            } else {
                Ok(Self::CommonName(name.to_owned()))
            };
        }
        let begins =
            |label: &&&str| text.get(..label.len()).is_some_and(|start| start.eq_ignore_ascii_case(label));
        if let Some(label) = LABELS.iter().find(begins) {
            return Err(SubjectFault::Label(label));
        }
        if text.contains('*') {
            return Err(SubjectFault::Wildcard);
        }
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let parsed = if text.contains("://") || text.starts_with("urn:") {
            is_uri(text).then(|| Self::Uri(text.to_owned()))
        } else if let Ok(address) = text.parse() {
            Some(Self::Ip(address))
        } else if text.contains('@') {
            Self::email(text).filter(|_| is_mailbox(text))
        } else {
            Self::dns(text).filter(|_| !ends_in_digits(text))
        };
        parsed.filter(|_| is_plain).ok_or(SubjectFault::Form)
    }

    fn email(text: &str) -> Option<Self> {
        let (mailbox, host) = text.rsplit_once('@')?;
        let whole = !mailbox.is_empty() && !host.is_empty();
        whole.then(|| Self::Email(format!("{mailbox}@{}", host.to_ascii_lowercase())))
    }

    fn dns(text: &str) -> Option<Self> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*'))
        };
        name.split('.').all(is_label).then(|| Self::Dns(name.to_ascii_lowercase()))
    }

    /// A name in a certificate; of other kinds, and of what is malformed, none.
    fn shown(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(name) => Self::dns(name),
            GeneralName::URI(uri) => Some(Self::Uri((*uri).to_owned())),
            GeneralName::RFC822Name(address) => Self::email(address),
            GeneralName::IPAddress(bytes) => address(bytes).map(Self::Ip),
            _ => None,
        }
    }
}

/// A scheme (RFC 3986 section 3.1), and something after it.
fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && !rest.trim_matches('/').is_empty()
    })
}

/// One mailbox at a host, without a name or brackets around it.
fn is_mailbox(text: &str) -> bool {
    let Some((mailbox, host)) = text.rsplit_once('@') else { return false };
    Subject::dns(host).is_some() && !mailbox.contains(['<', '>', ':', ',', ';', '@'])
}

/// The last label of a DNS name is no number: such a name reads as an IPv4 address that is none.
fn ends_in_digits(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// As OpenSSL prints names and as links have them, in any case. `cn:` in lower case is this program's own.
const LABELS: [&str; 8] = ["URI:", "DNS:", "DNSName:", "IP:", "IP Address:", "email:", "rfc822:", "mailto:"];

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Whom a certificate names, and whether it still counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its alternative names, and its common name where it has exactly one.
    pub names: Vec<Subject>,
    /// Whether it was valid at the moment that was asked about. A session that is resumed brings a certificate whose
    /// time was checked when the session began.
    pub is_valid: bool,
}

/// Reads the names off `der`; `unix_seconds` is now. `None`: it is no certificate.
#[must_use]
pub(crate) fn named(der: &[u8], unix_seconds: u64) -> Option<Named> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let now = ASN1Time::from_timestamp(i64::try_from(unix_seconds).ok()?).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let general = alternatives.iter().flat_map(|names| &names.value.general_names);
    let mut names: Vec<Subject> = general.filter_map(Subject::shown).collect();
    let mut common = certificate.subject().iter_common_name();
    if let (Some(name), None) = (common.next(), common.next()) {
        names.extend(name.as_str().ok().map(|name| Subject::CommonName(name.to_owned())));
    }
    Some(Named { names, is_valid: certificate.validity().is_valid_at(now) })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn read(alternatives: Vec<SanType>) -> Named {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "orders");
        params.subject_alt_names = alternatives;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        named(certificate.der(), IN_2025).unwrap()
    }

    const IN_2025: u64 = 1_750_000_000;

    #[test]
    fn a_certificate_is_known_by_names_that_each_keep_their_kind() {
        let read = read(vec![
            SanType::DnsName("Orders.Internal".try_into().unwrap()),
            SanType::URI("spiffe://example.org/orders".try_into().unwrap()),
            SanType::Rfc822Name("orders@Example.org".try_into().unwrap()),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
            SanType::IpAddress("fd00::1".parse().unwrap()),
        ]);
        let written = [
            "orders.internal.",
            "spiffe://example.org/orders",
            "orders@example.ORG",
            "10.0.0.1",
            "fd00:0::1",
            "cn:orders",
        ];
        assert_eq!(read.names, written.map(|text| Subject::parse(text).unwrap()));
        assert!(read.is_valid);
    }

    #[test]
    fn a_name_of_another_kind_is_another_name() {
        let orders = Subject::parse("orders.default.svc").unwrap();
        let uri = SanType::URI("orders.default.svc".try_into().unwrap());
        let email = SanType::Rfc822Name("orders.default.svc".try_into().unwrap());
        let wildcard = SanType::DnsName("*.default.svc".try_into().unwrap());
        for names in [vec![], vec![uri], vec![email], vec![wildcard]] {
            assert!(!read(names).names.contains(&orders));
        }
        assert!(!read(vec![]).names.contains(&Subject::parse("orders").unwrap()), "the common name");
        let dns = SanType::DnsName("orders.default.svc".try_into().unwrap());
        assert!(read(vec![dns]).names.contains(&orders));
    }

    #[test]
    fn of_several_common_names_none_counts() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "payments");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "orders");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(named(certificate.der(), IN_2025).unwrap().names, []);
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        for (text, fault) in [
            ("", SubjectFault::Empty),
            (" ", SubjectFault::Empty),
            ("cn:", SubjectFault::Empty),
            ("*.default.svc", SubjectFault::Wildcard),
            ("orders default", SubjectFault::Form),
            ("CN=orders", SubjectFault::Form),
            ("a..b", SubjectFault::Form),
            ("orders:443", SubjectFault::Form),
            ("@example.org", SubjectFault::Form),
            ("größe.example", SubjectFault::Form),
        ] {
            assert_eq!(Subject::parse(text), Err(fault), "{text}");
        }
        assert_eq!(
            Subject::parse("cn:Orders of Acme, Inc."),
            Ok(Subject::CommonName("Orders of Acme, Inc.".into()))
        );
        assert_eq!(Subject::parse("https://a@b/c"), Ok(Subject::Uri("https://a@b/c".into())));
    }

    #[test]
    fn a_certificate_out_of_its_time_and_what_is_none_are_told() {
        let mut params = CertificateParams::new(["a".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2024, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(!named(certificate.der(), IN_2025).unwrap().is_valid);
        assert_eq!(named(b"nothing of the kind", IN_2025), None);
    }
}
